"""The ``interp`` command: every step of the work, each a thin layer over a Python call of a few lines.

Nothing heavy is imported until a command needs it, so that ``interp --help`` answers at once. What goes wrong is told
in one sentence: exit status 2 for a command that cannot be read, 1 for anything else that can be put right, 130 when
interrupted.
"""

from __future__ import annotations

import importlib

from interp.cli.shared import app

__all__ = ["app", "main"]

for _commands in ("reading", "pushing", "checking", "testbed"):  # the order in which ``--help`` lists them
    importlib.import_module(f"interp.cli.{_commands}")


def main() -> None:
    """Run the command line; the console script ``interp``."""
    app(prog_name="interp")
