"""Commands that push and listen: steer, judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp._terminal import show
from interp.cli.shared import Device, Judge, Method, Model, Out, Seed, Trait, app, note, numbers
from interp.errors import DataError

if TYPE_CHECKING:
    pass


def _listener(name: str, model: str, trait: str, seconds: float) -> Any:
    """The judge that is asked for; without a name the one that knows the model and the trait, if there is one."""
    from interp import judges
    from interp.judges.network import MIN_SECONDS

    short = f"{max(seconds, 0):.1f} s would be generated, and a judge needs {MIN_SECONDS} s"
    if name:
        if seconds < MIN_SECONDS:
            raise DataError(f"{short}: ask for more seconds, or leave --judge out.")
        return judges.load(name, model=model, traits=[trait])
    if seconds < MIN_SECONDS:
        note(f"Nobody judges what comes out: {short}.")
        return None
    try:
        return judges.load("", model=model, traits=[trait])
    except DataError as error:
        note(f"Nobody judges what comes out: {error}")
        return None


@app.command()
def steer(
    directions: Annotated[Path, typer.Argument(help="directions.safetensors of interp probe.")],
    trait: Trait,
    out: Out = Path("steer"),
    model: Model = "tiny",
    method: Method = "mean_diff",
    sites: Annotated[
        str, typer.Option(help="L3.resid, L2.H1,L4.H0, top:8 for the 8 best heads, best for the best layer.")
    ] = "best",
    judge: Judge = "",
    doses: Annotated[
        str, typer.Option(help="How far, in standard deviations along the direction; several with commas.")
    ] = "1,2,3",
    prompt: Annotated[str | None, typer.Option(help="Text to generate from.")] = None,
    audio: Annotated[Path | None, typer.Option(help="Sound to continue.")] = None,
    audio_start: Annotated[float, typer.Option(min=0, help="Second of that sound to start from.")] = 0.0,
    audio_seconds: Annotated[float | None, typer.Option(min=0.02, help="How much of it; all when not given.")] = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Length of the result, the sound to continue included.")
    ] = 4.0,
    guidance: Annotated[float, typer.Option(help="How strongly the text guides; 1 for not at all.")] = 3.0,
    rows: Annotated[int, typer.Option(min=1, help="How many, each with the next seed.")] = 4,
    seed: Seed = 0,
    device: Device = "",
) -> None:
    """Generate with and without a push along a direction; same seeds, side by side, on a page to listen to.

    The mean difference at one layer of the residual stream moves music at two or three standard deviations; weights of
    classifiers need five to ten. A judge of sound alone says what came out, where one knows the trait and the model.

    Where the file holds directions towards several classes of a label, name one: --trait genre=jazz.
    """
    import pandas as pd

    import interp
    from interp.directions import Directions
    from interp.judges.accuracy import worth
    from interp.report import dose_page
    from interp.steering import Add
    from interp.validation import Setting, push

    if audio is None and (audio_start or audio_seconds):
        raise DataError("--audio-start and --audio-seconds choose a part of a sound to continue: name it with --audio.")
    amounts = numbers(doses)
    chosen = Directions.load(directions).choose(trait, method, sites)
    musicgen = interp.load(model, device=device or None)
    codes = None if audio is None else musicgen.encode_file(audio, audio_start, audio_seconds)
    given = 0.0 if codes is None else codes.shape[-1] / musicgen.frame_rate
    listener = _listener(judge, model, trait, seconds - given)
    page = dose_page(
        musicgen, push(trait, chosen, control=False), out, doses=amounts, seeds=range(seed, seed + rows), codes=codes,
        setting=Setting(seconds=seconds, prompt_seconds=0.0, text=prompt, guidance=guidance),
        judge=listener, trait=trait if listener else "", title=f"{trait}, before and after",
    )  # fmt: skip
    if listener:
        heard = pd.read_csv(out / "verdicts.csv")
        counts = heard.groupby(["arm", "dose"], sort=False)["hit"].agg(heard="sum", of="size").reset_index()
        show(counts, f"In how many sounds {listener.name} hears {trait}")
        told = worth(listener, trait)
        note(f"{told[:1].upper()}{told[1:]}.")
    note(f"{Add(chosen, dose=max(amounts)).describe()}\nListen: {page}")


@app.command()
def judge(
    sounds: Annotated[Path, typer.Argument(help="A sound, or a folder of sounds.")],
    out: Out = Path("judge"),
    judge: Judge = "rendered,quality",
    trait: Annotated[str, typer.Option(help="Traits with commas, for judges that must know what is asked.")] = "",
    data: Annotated[Path | None, typer.Option(help="Labelled clips that a judge learns or is measured on.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Lines to print.")] = 10,
) -> None:
    """Judge sounds by what can be heard in them; never looks at an activation.

    The judge 'rendered' knows music like that of the model that ships; for other music name another.
    """
    from interp import tables
    from interp.judges import accuracy_table
    from interp.judges.files import judge_files
    from interp.judges.registry import panel
    from interp.judges.words import in_words

    chosen = panel(judge, data=data, traits=[one.strip() for one in trait.split(",") if one.strip()])
    table = judge_files(chosen, sounds)
    worth = accuracy_table(chosen)
    tables.write(table, out / "judged")
    tables.write(worth, out / "judges")
    files = [str(Path(file).relative_to(sounds)) if sounds.is_dir() else Path(file).name for file in table["file"]]
    for each in chosen:
        scores = table.filter(regex=f"^{each.name}[.]").rename(columns=lambda name: name.partition(".")[2])
        said = in_words(each, scores)
        said.insert(0, "file", [name if len(name) <= 20 else f"...{name[-17:]}" for name in files])
        show(said.head(rows), f"{each.name}: {len(table)} sounds")
    told = worth.assign(
        measure=[name if len(name) <= 26 else f"{name[:23]}..." for name in worth["measure"]],
        range=[_range(lo, hi) for lo, hi in zip(worth["lo"], worth["hi"], strict=True)],
    )
    told = told[told["audio"].isna() | (told["audio"] == told.groupby(["judge", "trait"])["audio"].transform("first"))]
    show(told[["judge", "trait", "measure", "value", "range", "chance"]], "What these judges are worth")
    note(f"Every probability and measure is in {out / 'judged.csv'} and {out / 'judges.csv'}.")


def _range(lo: float, hi: float) -> str:
    return f"{lo:.2f}-{hi:.2f}" if lo == lo else ""
