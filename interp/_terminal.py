"""What is said on the terminal: errors as one sentence with an exit status, tables, paragraphs."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console

from interp.errors import InterpError, Interrupted

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["err", "say", "sentences", "show", "stop"]

GOES_ON = "Stopped. Nothing that was finished is lost: the same command goes on where it stopped."


def err() -> Console:
    """The console of what is no result."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(paragraph: str) -> None:
    """Print a paragraph of a result."""
    Console(soft_wrap=True, highlight=False).print(paragraph, markup=False)


@contextmanager
def sentences(status: int = 1) -> Iterator[None]:
    """Tell what goes wrong in one sentence, and leave with an exit status: 130 where it was interrupted."""
    try:
        yield
    except Interrupted as error:
        _interrupted(str(error))
    except KeyboardInterrupt:
        _interrupted(GOES_ON)
    except InterpError as error:
        stop(str(error), status)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            stop("the disk is full: make room, then give the same command again; it goes on where it stopped.")
        elif isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError | PermissionError):
            stop(f"cannot use {error.filename or 'a file'}: {error.strerror or error}.")
        else:
            raise


def stop(sentence: str, status: int = 1) -> NoReturn:
    """Say why, and leave."""
    err().print(sentence[:1].upper() + sentence[1:], style="red", markup=False)
    raise SystemExit(status) from None


def _interrupted(sentence: str) -> NoReturn:
    err().print(f"\n{sentence}", style="yellow", markup=False)
    raise SystemExit(130) from None


def show(table: pd.DataFrame, title: str = "", columns: Iterable[str] | None = None) -> None:
    """Print a table to the terminal, numbers rounded and right-aligned."""
    from rich.table import Table
    from rich.text import Text

    from interp.tables import number

    chosen = table[list(columns)] if columns is not None else table
    grid = Table(title=title or None, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for name, dtype in chosen.dtypes.items():
        grid.add_column(str(name), justify="right" if dtype.kind in "iuf" else "left", overflow="fold")
    for row in chosen.itertuples(index=False):
        grid.add_row(*(Text(number(value)) for value in row))
    Console(soft_wrap=not sys.stdout.isatty(), highlight=False, width=None if sys.stdout.isatty() else 160).print(grid)
