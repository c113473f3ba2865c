"""Commands of the small MusicGen that ships: train, card, render."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from interp.cli.shared import Seed, note, testbed
from interp.errors import DataError

if TYPE_CHECKING:
    pass


@testbed.command("train")
def testbed_train(
    folder: Annotated[Path, typer.Argument(help="Where the training goes; killed, it goes on from there.")],
    seed: Seed = 0,
    codec: Annotated[
        Path | None, typer.Option(help="A learned codec, as `python -m interp.recipes.codec` leaves it.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps in all; those of the recipe.")] = None,
) -> None:
    """Train the model that ships again, from a seed: codec, then LM."""
    from tqdm import tqdm

    from interp.recipes.lm import Recipe, train

    recipe = Recipe(seed=seed, steps=steps or Recipe.steps)
    with tqdm(total=recipe.steps, desc="training", unit="step") as bar:
        train(folder, recipe, on_step=lambda step: bar.update(step - bar.n), codec=codec)
    note(f"Codebooks, checkpoints and the log are in {folder}.")


@testbed.command("card")
def testbed_card() -> None:
    """Say what the model that ships is, what it was trained on and what it can do."""
    import interp.testbed

    Console(soft_wrap=True, highlight=False).print(interp.testbed.card(), markup=False)


@testbed.command("render")
def testbed_render(
    folder: Annotated[Path, typer.Argument(help="Where the clips and their metadata.csv go.")],
    n: Annotated[int, typer.Option(min=1, help="How many clips.")] = 200,
    seconds: Annotated[float, typer.Option(min=0.5, max=600)] = 4.0,
    seed: Seed = 0,
    fix: Annotated[
        list[str] | None, typer.Option(help="A factor held fixed: genre=jazz, drums=no; may repeat.")
    ] = None,
) -> None:
    """Render labelled General MIDI music, the kind that the model was trained on."""
    from interp.clips import refuse_taken
    from interp.data import render_clips

    refuse_taken(folder)
    clips = render_clips(n, seed=seed, seconds=seconds, factors=dict(map(_factor, fix or [])) or None, progress=True)
    clips.to_folder(folder)
    note(f"{n} clips and metadata.csv are in {folder}.")


def _factor(text: str) -> tuple[str, Any]:
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not value:
        raise DataError(
            f"cannot read --fix {text!r}: write a factor and its value, for example genre=jazz or drums=no."
        )
    words = {"yes": True, "true": True, "no": False, "false": False}
    if value.lower() in words:
        return name, words[value.lower()]
    try:
        return name, int(value) if value.removeprefix("-").isdecimal() else float(value)
    except ValueError:
        return name, value
