"""Commands that read a model: extract, probe, rank, geometry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interp._terminal import show
from interp.cli.shared import Device, Model, Out, Seed, app, note
from interp.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


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
    note(f"{ds.sizes['clip']} clips are in {out}.")


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
    note(f"{len(notes)} clips are {what.replace('_', ' ')}, see {path}.")


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
        note(f"The table is {out / 'probes.csv'}; parents that could not be probed are in {out / 'skipped.csv'}.")
        return
    result = probes.probe(ds, trait, methods=chosen, group_by=group_by, **options)
    tables.write(result.table, out / "probes")
    result.directions.save(out / "directions.safetensors")
    ranking = result.ranking()
    for kind, rows in ranking.groupby("kind", sort=False):
        few = rows.head(top if kind == ranking["kind"].mode()[0] else 3)
        show(few[RANKING], f"{trait}, {result.methods[0]}: best of {len(rows)} {kind}")
    if not result.table["converged"].all():
        note(f"{int((~result.table['converged']).sum())} probes did not converge: see the column converged.")
    if selectivity:
        control = probes.selectivity(ds, trait, sites=sites, pool=pool, method=result.methods[0], seed=seed)
        tables.write(control, out / "selectivity")
        best = control.nlargest(top, "task")[["site", "task", "control", "control_sd", "selectivity"]]
        show(best, f"{trait}: score on other clips of the same groups, less that on random labels of groups")
    if baselines is not None:
        _probe_baselines(ds, trait, baselines, model, out, {**options, "method": result.methods[0]})
    note(f"The table is {out / 'probes.csv'}, the directions are {out / 'directions.safetensors'}.")


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
    note(f"What training adds at every site is in {out / 'added.csv'}.")


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
    note(f"Figures and their tables are in {files['png'].parent}.")


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
    note(f"Figure and tables are in {out}.")
