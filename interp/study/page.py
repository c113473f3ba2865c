"""The page of a study: what was found, its figures, sounds and tables, always in the same order."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from interp._files import atomic
from interp.errors import DataError
from interp.report import Report

__all__ = ["Drawing", "write_page"]

Drawing = str | tuple[str, Any, str]
"""What ``figures`` yields: a paragraph, a ``# heading``, or a figure as (name, axes, caption)."""

_ROWS = 12
"""Rows of a table that the page shows; the CSV beside it has them all."""


def write_page(study: Any, made: Mapping[str, pd.DataFrame], paragraphs: Sequence[str]) -> Path:
    """Draw the figures of a study and write ``answer.md`` and ``index.html``.

    Returns
    -------
    Path
        The page.
    """
    out = study.config.out
    title, lead = _heads(study)
    with atomic(out / "answer.md") as partial:
        partial.write_text("\n\n".join([f"# {title}", *paragraphs]) + "\n", encoding="utf-8")
    report = Report(title, lead)
    if paragraphs:
        report.heading("What was found")
    for paragraph in paragraphs:
        report.text(paragraph)
    _figures(study, made, report)
    for number, (caption, table) in enumerate(study.recordings(made)):
        if not number:
            report.heading("Listen")
        players = [name for name in table.columns if table[name].map(lambda cell: isinstance(cell, Path)).any()]
        report.sounds(table, caption, columns=players)
    _judge(study, report)
    report.heading("Tables")
    for name, table in made.items():
        report.table(table, f"`{name}`: {_caption(study, name)}", csv=out / f"{name}.csv", rows=_ROWS)
    return report.write(out / "index.html", made_by=study.made_by)


def _figures(study: Any, made: Mapping[str, pd.DataFrame], report: Report) -> None:
    from interp import plots

    beside: list[tuple[Path, str]] = []
    for item in study.figures(made):
        if isinstance(item, str):
            if beside:
                report.figures(*beside)
                beside = []
            if item.startswith("#"):
                report.heading(item.lstrip("# "))
            else:
                report.text(item)
            continue
        name, axes, caption = item
        plots.save(axes, study.config.out / name, formats=("png", "pdf"), made_by=study.made_by)
        beside.append((study.config.out / f"{name}.png", caption))
    if beside:
        report.figures(*beside)


def _judge(study: Any, report: Report) -> None:
    """What the judge is worth, wherever one was asked."""
    if "judges" not in study.__dict__:
        return
    report.heading("The judge" if len(study.judges) == 1 else "The judges")
    for judge in study.judges:
        worth = judge.accuracy_frame()
        if not judge.independent:
            report.text(f"The judge {judge.name} looks inside the model that it judges: not independent evidence.")
        if len(worth):
            report.table(worth, f"How often the judge ({judge.name}) is right.", rows=40)
        else:
            report.text(f"The accuracy of the judge ({judge.name}) was not measured.")


def _heads(study: Any) -> tuple[str, str]:
    doc = inspect.cleandoc(type(study).__doc__ or "")
    if not doc:
        raise DataError(f"the study {type(study).__name__} has no docstring: its first line is the title of the page.")
    title, _, rest = doc.partition("\n")
    lead = " ".join(rest.strip().partition("\n\n")[0].split())
    return f"{title.rstrip('.')} · {study.model.name}", lead


def _caption(study: Any, name: str) -> str:
    """The first line of what a step or a method of the same name says of itself."""
    source = getattr(type(study), name, None) or getattr(type(study), f"table_{name}", None)
    first: str = inspect.cleandoc(getattr(source, "__doc__", None) or "").partition("\n")[0]
    return first
