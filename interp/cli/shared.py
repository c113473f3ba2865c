"""What all commands share: the two groups of them, and options that mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from interp._terminal import err, sentences
from interp.errors import DataError

__all__ = ["Device", "Judge", "Method", "Model", "Out", "Seed", "Trait", "app", "note", "numbers", "testbed"]


class _Sentences(TyperGroup):
    """A group of commands whose errors are sentences."""

    def invoke(self, ctx: Any) -> Any:
        with sentences():
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Sentences,
    help="Trace, probe, compare directions, steer and judge a MusicGen.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
testbed = typer.Typer(cls=_Sentences, help="The small MusicGen that ships with the package.", no_args_is_help=True)
app.add_typer(testbed, name="testbed")

Model = Annotated[str, typer.Option(help="tiny, a checkpoint's folder or hub name; hf:NAME for transformers' files.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; the first GPU, or else the CPU, when not given.")]
Out = Annotated[Path, typer.Option(help="Folder for tables, figures and sounds.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same result.")]
Trait = Annotated[str, typer.Option(help="A label column, or one class of it: drums, instrument=piano.")]
Method = Annotated[str, typer.Option(help="logistic, ridge, mean_diff, ...")]
Judge = Annotated[
    str, typer.Option(help="rendered, tagger, clap, clap:FOLDER, trained, probe, FILE.py:NAME; several with commas.")
]


def numbers(text: str) -> list[float]:
    """Numbers with commas between them."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise DataError(f"cannot read {text!r} as numbers: write them with commas, for example 0.5,1,2.") from None


def note(text: str) -> None:
    """Say something by the way."""
    err().print(text, style="dim", markup=False)
