"""Commands that check: validate, check, plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interp._terminal import show
from interp.cli.shared import Device, Judge, Method, Model, Out, Seed, app, note, numbers
from interp.errors import DataError

if TYPE_CHECKING:
    pass


@app.command()
def validate(
    store: Annotated[Path, typer.Argument(help="What interp extract wrote: heads and residual stream.")],
    trait: Annotated[str, typer.Argument(help="drums, instrument=piano, genre=jazz|rock, ...")],
    out: Out = Path("validate"),
    model: Model = "tiny",
    judge: Judge = "",
    clips: Annotated[
        Path | None, typer.Option(help="Labelled sounds to continue and to compare with; rendered when not given.")
    ] = None,
    arms: Annotated[str, typer.Option(help="full: every control, quality, necessity; basic: five arms.")] = "full",
    site: Annotated[str | None, typer.Option(help="Where to push; chosen on pilot seeds when not given.")] = None,
    method: Method = "mean_diff",
    doses: Annotated[str, typer.Option(help="In standard deviations, with commas.")] = "0.5,1,2,3,4",
    iti_doses: Annotated[str, typer.Option(help="Of the 16 best heads (ITI); the same when not given.")] = "",
    others: Annotated[str, typer.Option(help="Other traits, whose directions must not bring this one.")] = "",
    text: Annotated[str | None, typer.Option(help="The prompt that asks for the trait: one more arm.")] = None,
    heads: Annotated[int, typer.Option(min=1, help="Heads in the arms of heads.")] = 8,
    seeds: Annotated[int, typer.Option(min=8, help="Paired seeds.")] = 32,
    seed: Seed = 0,
    device: Device = "",
) -> None:
    """Does pushing along the direction cause the trait? Success, cost and specificity against every control."""
    import pandas as pd

    import interp
    from interp import judges, plots, tables, validation
    from interp.validation.summary import public

    if arms not in ("full", "basic"):
        raise DataError(f"there is no set of arms {arms!r}: use full or basic.")
    if not judge:
        judges.load("", model=model, traits=[trait])
    design = validation.Design(
        k=heads, text=text, others=tuple(one.strip() for one in others.split(",") if one.strip()),
        iti_doses=tuple(numbers(iti_doses)) if iti_doses else (),
    )  # fmt: skip
    study = validation.validate(
        interp.load(model, device=device or None), interp.open_store(store), trait, judge=judge or None,
        clips=None if clips is None else interp.Clips.from_folder(clips), arms="full" if arms == "full" else "basic",
        method=method, site=site, doses=numbers(doses), n_seeds=seeds, design=design, seed=seed,
    )  # fmt: skip
    tables.write(study.table, out / "causal")
    tables.write(public(study.clips), out / "clips", formats=("csv",))
    tables.write(study.judges, out / "judges")
    show(study.summary(), f"{trait}: share of clips judged to have it, of {seeds} paired seeds")
    first = study.table[study.table["judge"] == study.judge]
    verdicts = pd.concat([said.frame() for said in study.verdicts.values()], ignore_index=True)
    tables.write(verdicts, out / "verdict")
    plots.save(plots.dose_response(study.curves(), title=trait), out / "dose_response", formats=("png", "pdf"))
    if arms == "full":
        tables.write(study.necessity, out / "necessity")
        plots.save(
            plots.arms(first[first["dose"].isin([0.0, study.dose])], title=trait), out / "arms", formats=("png", "pdf")
        )
        plots.save(plots.tradeoff(study.curves(), title=trait), out / "tradeoff", formats=("png", "pdf"))
        decisive = study.table[study.table["dose"].isin([0.0, study.dose])]
        kept = ["judge", "arm", "rate", "not_music", "kept", "chroma_kept", "onsets_kept"]
        show(
            decisive,
            f"Success at {study.dose:g} sigma, and what stays of the unsteered twin",
            columns=[name for name in kept if name in decisive],
        )
        show(study.necessity, "Taken out of music that has it", columns=["judge", "way", "rate", "random", "loss"])
    if len(study.agreement):
        tables.write(study.agreement, out / "agreement")
        show(study.agreement, "How far the judges agree", columns=["a", "b", "agree", "kappa", "lo", "hi"])
    show(study.findings(), f"Verdict on {trait} at {study.site}: answer, and the number that decided")
    for sentence in study.sentences():
        note(sentence)
    note(f"Figures, tables and every clip's verdict are in {out}.")


@app.command()
def check(
    model: Annotated[str, typer.Argument(help="tiny, a checkpoint folder, or a hub name.")],
    out: Annotated[Path | None, typer.Option(help="Folder for check.json and check.md.")] = None,
    seconds: Annotated[float, typer.Option(min=0.05, help="Length of the music that is compared.")] = 1.0,
    prompts: Annotated[
        str, typer.Option(help="Two texts that should not sound alike, with a bar between them.")
    ] = "jazz, piano, drums|rock, guitar, no drums",
    device: Device = "",
    dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16; the device's own when not given.")] = "",
) -> None:
    """Does a checkpoint, here and in this precision, do what every result rests on? Exit status 1 if not."""
    import interp
    from interp import check as room
    from interp._files import atomic

    one, bar, other = (part.strip() for part in prompts.partition("|"))
    if not one or not bar or not other:
        raise DataError(f"cannot read --prompts {prompts!r}: write two texts with a bar between, as in 'jazz|rock'.")
    musicgen = interp.load(model, device=device or None, dtype=dtype or None)
    done = room.check(musicgen, seconds=seconds, prompts=(one, other))
    show(done.table, f"{done.model}: " + ", ".join(f"{name} {value}" for name, value in done.facts.items()))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in (("check.json", json.dumps(done.to_dict(), indent=2)), ("check.md", done.to_markdown())):
            with atomic(out / name) as partial:
                partial.write_text(text + "\n")
    if not done.passed:
        raise DataError(f"{done.model} is not to be trusted here: {'; '.join(done.failures)}.")
    note("Everything that can be checked holds.")


@app.command()
def plan(
    model: Annotated[str, typer.Argument(help="tiny, a checkpoint folder, or the name of a released model.")],
    clips: Annotated[str, typer.Option(help="How many to extract from, or their folder.")] = "0",
    seconds: Annotated[float, typer.Option(min=0.02, help="How long a clip is; read from a folder's files.")] = 10.0,
    sites: Annotated[str, typer.Option(help="As extract takes them.")] = "heads,resid",
    pool: Annotated[str, typer.Option(help="As extract takes it.")] = "mean",
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    rows: Annotated[int, typer.Option(min=0, help="Pieces of music to generate.")] = 0,
    row_seconds: Annotated[float, typer.Option(min=0.04, help="How long they are.")] = 10.0,
    device: Device = "",
    dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16.")] = "float32",
) -> None:
    """How long will it take, and will it fit? Time, memory and disk before a run; a released model needs no weights."""
    import interp
    from interp import plan as room

    number = int(clips) if clips.isdecimal() else 0
    if not clips.isdecimal():
        folder = interp.Clips.from_folder(clips)
        number, seconds = len(folder), sum(folder.seconds(i) for i in range(len(folder))) / len(folder)
    name = model.removeprefix("hf:")  # of the same sizes in either format
    chosen = name if name in room.RELEASED else interp.load(model, device=device or None, dtype=dtype or None)
    made = room.plan(
        chosen, number, seconds, sites=sites, pool=pool, batch_size=batch_size, rows=rows, row_seconds=row_seconds,
        device=device or None, dtype=dtype,
    )  # fmt: skip
    show(made.table, f"{made.sizes.name}, on this machine as it is now")
    note(f"About {made.seconds:.0f} s, {made.memory_gib:.1f} GiB of memory and {made.disk_gib:.2f} GiB of disk.")
