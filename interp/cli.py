"""The ``interp`` command: every step of the work, each a thin layer over a Python call of a few lines.

Nothing heavy is imported until a command needs it, so that ``interp --help`` answers at once. What goes wrong is told
in one sentence: exit status 2 for a command that cannot be read, 1 for anything else that can be put right, 130 when
interrupted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from interp._terminal import err, sentences, show
from interp.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RANKING", "app", "main"]


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


@app.command()
def extract(
    clips: Annotated[Path, typer.Argument(help="Folder of labelled audio: with a table, or a folder for each class.")],
    out: Annotated[Path, typer.Option(help="Where the activations go (a Zarr store); what is there is added to.")],
    model: Model = "tiny",
    sites: Annotated[str, typer.Option(help="heads, resid, all, L3.H2, L0-5.resid, L3.H*, ...")] = "heads,resid",
    pool: Annotated[str, typer.Option(help="mean, last, every:25, window:1-2.5; several with commas.")] = "mean",
    text: Annotated[str | None, typer.Option(help="Text the model hears the clips under; none by default.")] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    device: Device = "",
    dtype: Annotated[str, typer.Option(help="Of what is kept: float32, float16 or bfloat16.")] = "float32",
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps the codes of clips for other calls.")] = None,
    labels: Annotated[str, typer.Option(help="Label columns to keep, with commas; all when not given.")] = "",
    table: Annotated[str, typer.Option(help="The table; metadata.csv, .tsv or .jsonl when not given.")] = "",
    file: Annotated[str, typer.Option(help="Its column of file names.")] = "file_name",
    group: Annotated[str, typer.Option(help="Its column that says which clips belong together.")] = "",
    tags: Annotated[
        list[str] | None, typer.Option(help="A column of several tags and what separates them: instrument=; (repeat).")
    ] = None,
    outside: Annotated[bool, typer.Option("--outside", help="Allow file names that lead out of the folder.")] = False,
    window: Annotated[
        float, typer.Option(min=0, help="Cut clips into windows of so many seconds, which share their clip's group.")
    ] = 0.0,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out clips that cannot be used, and list them in a table.")
    ] = False,
) -> None:
    """Read activations while the model hears labelled clips."""
    import interp
    from interp.clips import refuse

    labelled = interp.Clips.from_folder(
        clips, labels or None, table=table or None, file=file, group=group or None, tags=dict(map(_tag, tags or [])),
        outside=outside, missing=skip_bad,
    )  # fmt: skip
    left_out: dict[str, str] = {}
    if window:
        left_out = labelled.problems()
        refuse(left_out, len(labelled), skip_bad)
        labelled = labelled.subset([clip for clip in labelled.ids if clip not in left_out]).windows(window)
    ds = interp.extract(
        interp.load(model, device=device or None), labelled, sites=sites, text=text, out=out, batch_size=batch_size,
        pool=pool, dtype=dtype, cache=cache, skip_bad=skip_bad,
    )  # fmt: skip
    made_by = json.loads(ds.attrs["made_by"])
    _list_clips(out, "left_out", left_out | made_by.get("left_out", {}))
    _list_clips(out, "doubtful", made_by.get("doubtful", {}))
    _note(f"{ds.sizes['clip']} clips are in {out}.")


def _tag(text: str) -> tuple[str, str]:
    column, equals, separator = text.partition("=")
    if not column.strip() or not equals or not separator:
        raise DataError(f"cannot read --tags {text!r}: write a column and what separates its tags, as in instrument=;")
    return column.strip(), separator


def _list_clips(store: Path, what: str, notes: dict[str, str]) -> None:
    """Write a table of clips beside a store; a table of an earlier call goes when there is nothing to list."""
    import pandas as pd

    from interp import tables

    stem = store.with_name(f"{store.stem}_{what}")
    if not notes:
        stem.with_name(f"{stem.name}.csv").unlink(missing_ok=True)
        return
    table = pd.DataFrame({"clip": list(notes), "why": list(notes.values())})
    path = tables.write(table, stem, formats="csv")["csv"]
    _note(f"{len(notes)} clips are {what.replace('_', ' ')}, see {path}.")


@app.command()
def probe(
    store: Annotated[Path, typer.Argument(help="What interp extract wrote.")],
    trait: Annotated[str, typer.Argument(help="A label column, or one class of it: drums, instrument=piano.")],
    out: Out = Path("probe"),
    sites: Annotated[str, typer.Option(help="heads, resid, L3.H2,L4.resid, ...; all that the store has.")] = "all",
    methods: Annotated[str, typer.Option(help="Of logistic, ridge, mean_diff, lda; with commas.")] = "",
    pool: Annotated[str | None, typer.Option(help="Which pooling, where the store has several.")] = None,
    group_by: Annotated[str | None, typer.Option(help="Label whose values stay on one side of a split.")] = None,
    folds: Annotated[int, typer.Option(min=2, help="Folds of the cross-validation over groups.")] = 5,
    permutations: Annotated[int, typer.Option(min=0, help="Label shuffles behind the p-values.")] = 200,
    baselines: Annotated[
        Path | None, typer.Option(help="The folder of the clips: probe their sound and an untrained copy as well.")
    ] = None,
    selectivity: Annotated[
        bool, typer.Option("--selectivity", help="Control tasks: is it the trait, or knowing the group?")
    ] = False,
    model: Annotated[str, typer.Option(help="What made the store, for the untrained copy.")] = "",
    seed: Seed = 0,
    top: Annotated[int, typer.Option(min=1, help="Lines to print.")] = 8,
) -> None:
    """Probe a trait at every site; write the table and the directions.

    A trait with slashes (family/instrument) is a tree of labels: children are probed among the clips of their parent.
    """
    import interp
    from interp import probes, tables

    ds = interp.open_store(store)
    options: dict[str, Any] = {
        "sites": sites, "pool": pool, "folds": folds, "n_permutations": permutations, "seed": seed, "progress": True,
    }  # fmt: skip
    chosen = methods or None
    if "/" in trait:
        tree = probes.tree(ds, trait, methods=chosen, **options)
        tables.write(tree.table, out / "probes")
        tables.write(tree.skipped, out / "skipped")
        tree.directions.save(out / "directions.safetensors")
        columns = ["node", "classes", "n_clips", "site", "test_score", "lo", "hi"]
        show(tree.summary()[columns], f"{trait}: best of {len(tree.results[''].sites)} sites inside each parent")
        _note(f"The table is {out / 'probes.csv'}; parents that could not be probed are in {out / 'skipped.csv'}.")
        return
    result = probes.probe(ds, trait, methods=chosen, group_by=group_by, **options)
    tables.write(result.table, out / "probes")
    result.directions.save(out / "directions.safetensors")
    ranking = result.ranking()
    for kind, rows in ranking.groupby("kind", sort=False):
        few = rows.head(top if kind == ranking["kind"].mode()[0] else 3)
        show(few[RANKING], f"{trait}, {result.methods[0]}: best of {len(rows)} {kind}")
    if not result.table["converged"].all():
        _note(f"{int((~result.table['converged']).sum())} probes did not converge: see the column converged.")
    if selectivity:
        control = probes.selectivity(ds, trait, sites=sites, pool=pool, method=result.methods[0], seed=seed)
        tables.write(control, out / "selectivity")
        best = control.nlargest(top, "task")[["site", "task", "control", "control_sd", "selectivity"]]
        show(best, f"{trait}: score on other clips of the same groups, less that on random labels of groups")
    if baselines is not None:
        _probe_baselines(ds, trait, baselines, model, out, {**options, "method": result.methods[0]})
    _note(f"The table is {out / 'probes.csv'}, the directions are {out / 'directions.safetensors'}.")


def _probe_baselines(ds: Any, trait: str, folder: Path, model: str, out: Path, options: dict[str, Any]) -> None:
    import interp
    from interp import plots, probes, tables

    clips = interp.Clips.from_folder(folder)
    name = model or str(json.loads(ds.attrs.get("made_by", "{}")).get("model", {}).get("name", "tiny"))
    untrained = probes.extract_untrained(interp.load(name), clips, ds, out=out / "untrained.zarr")
    result = probes.compare_baselines(ds, trait, clips=clips, untrained=untrained, **options)
    plots.save(plots.baselines(result.table), out / "baselines", formats=("png", "pdf"))
    tables.write(result.sites, out / "added")
    columns = ["name", "site", "test_score", "difference", "difference_lo", "difference_hi"]
    show(result.table[columns], f"{trait}: the best site less each baseline, 95 % interval over groups")
    _note(f"What training adds at every site is in {out / 'added.csv'}.")


RANKING = ["site", "cv_score", "test_score", "lo", "hi", "chance", "null_max_95", "p_max"]


@app.command()
def rank(
    table: Annotated[Path, typer.Argument(help="probes.csv of interp probe.")],
    trait: Annotated[str | None, typer.Option(help="Which trait, where the table has several.")] = None,
    method: Annotated[str, typer.Option(help="Which method; the first of the table when not given.")] = "",
    top: Annotated[int, typer.Option(min=1)] = 16,
    out: Out = Path("rank"),
) -> None:
    """Rank the sites of a probe table; draw ranking and heat map."""
    from interp import plots

    rows = _probe_rows(table)
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file: name a folder for the figures with --out.")
    names = list(dict.fromkeys(rows["method"])) if "method" in rows else []
    if not method:
        method = "logistic" if "logistic" in names or not names else names[0]
    rows = plots.style.only(rows, "this table", trait=trait, method=method)
    heads = rows[rows["kind"] == "heads"] if "kind" in rows and (rows["kind"] == "heads").any() else rows
    files = plots.save(plots.ranking(heads, top=top), out / "ranking", formats=("png", "pdf"))
    best = heads.sort_values("cv_score" if "cv_score" in rows else "test_score", ascending=False, kind="stable")
    if heads is not rows:
        plots.save(plots.heatmap(rows), out / "heatmap", formats=("png", "pdf"))
    show(best[[c for c in RANKING if c in best]].head(top), f"{method}: best of {len(best)} sites")
    _note(f"Figures and their tables are in {files['png'].parent}.")


def _probe_rows(path: Path) -> pd.DataFrame:
    """A table of probes, refused where a column is missing or a number is not one."""
    import pandas as pd

    from interp.tables import read

    rows = read(path)
    for column in ("site", "test_score"):
        if column not in rows:
            raise DataError(f"{path} has no column {column!r}: give the probes.csv of interp probe.")
    for column in ("cv_score", "test_score", "lo", "hi", "chance", "null_max_95", "p_max"):
        if column in rows:
            numbers = pd.to_numeric(rows[column], errors="coerce")
            odd = rows.loc[numbers.isna() & rows[column].notna(), column]
            if len(odd):
                raise DataError(f"{path}: the column {column!r} holds {str(odd.iloc[0])!r}, which is not a number.")
            rows[column] = numbers
    if rows["test_score"].isna().any():
        raise DataError(f"{path}: row {int(rows['test_score'].isna().idxmax()) + 2} has no score: was the file cut?")
    return rows


@app.command()
def geometry(
    what: Annotated[Path, typer.Argument(help="A store of interp extract, or directions.safetensors of interp probe.")],
    trait: Annotated[str, typer.Argument(help="A label column, or one class of it; needed for a store.")] = "",
    out: Out = Path("geometry"),
    sites: Annotated[str, typer.Option(help="Where, for a store: heads, resid, L3.H2, ...")] = "heads",
    permutations: Annotated[int, typer.Option(min=0, help="Refits on shuffled labels, for a store.")] = 20,
    seed: Seed = 0,
) -> None:
    """Compare the directions of different methods by cosine, against what unrelated ones reach.

    From a store, the table also says how well each direction agrees with itself on the other half of the clips.
    """
    import interp
    from interp import plots, tables
    from interp.directions import Directions
    from interp.geometry import compare_methods, cosine_table

    if what.suffix == ".safetensors":
        table = cosine_table(Directions.load(what))
    elif trait:
        table = compare_methods(interp.open_store(what), trait, sites=sites, n_permutations=permutations, seed=seed)
    else:
        raise DataError("name the trait whose directions are to be compared, for example: interp geometry STORE drums")
    plots.save(plots.cosines(table), out / "cosines", formats=("png", "pdf"))
    tables.write(table, out / "cosines")
    summary = table.groupby(["a", "b"], sort=False)["cosine"].describe(percentiles=[0.1, 0.5, 0.9]).reset_index()
    show(summary.drop(columns=["std"]), "Cosine between methods over sites")
    _note(f"Figure and tables are in {out}.")


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
        _note(f"Nobody judges what comes out: {short}.")
        return None
    try:
        return judges.load("", model=model, traits=[trait])
    except DataError as error:
        _note(f"Nobody judges what comes out: {error}")
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
    amounts = _numbers(doses)
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
        _note(f"{told[:1].upper()}{told[1:]}.")
    _note(f"{Add(chosen, dose=max(amounts)).describe()}\nListen: {page}")


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
    _note(f"Every probability and measure is in {out / 'judged.csv'} and {out / 'judges.csv'}.")


def _range(lo: float, hi: float) -> str:
    return f"{lo:.2f}-{hi:.2f}" if lo == lo else ""


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
        iti_doses=tuple(_numbers(iti_doses)) if iti_doses else (),
    )  # fmt: skip
    study = validation.validate(
        interp.load(model, device=device or None), interp.open_store(store), trait, judge=judge or None,
        clips=None if clips is None else interp.Clips.from_folder(clips), arms="full" if arms == "full" else "basic",
        method=method, site=site, doses=_numbers(doses), n_seeds=seeds, design=design, seed=seed,
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
        _note(sentence)
    _note(f"Figures, tables and every clip's verdict are in {out}.")


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
    _note("Everything that can be checked holds.")


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
    _note(f"About {made.seconds:.0f} s, {made.memory_gib:.1f} GiB of memory and {made.disk_gib:.2f} GiB of disk.")


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
    _note(f"Codebooks, checkpoints and the log are in {folder}.")


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
    _note(f"{n} clips and metadata.csv are in {folder}.")


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


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise DataError(f"cannot read {text!r} as numbers: write them with commas, for example 0.5,1,2.") from None


def _note(text: str) -> None:
    err().print(text, style="dim", markup=False)


def main() -> None:
    """Run the command line; the console script ``interp``."""
    app(prog_name="interp")


if __name__ == "__main__":
    main()
