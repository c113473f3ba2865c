"""From activations to a verdict."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch
import xarray as xr

import interp.validation.experiment as validating
import interp.validation.play as playing
from interp.clips import Clips
from interp.errors import DataError, SiteError
from interp.model import MusicGen
from interp.probes import ProbeResult
from interp.validation import Design, Setting, validate
from interp.validation.experiment import DOSES

SHORT = Setting(seconds=0.6, prompt_seconds=0.2, measure=False, progress=False)


def test_validate_chooses_its_site_on_pilot_seeds_and_tells_everything(
    tiny_lm_model: MusicGen,
    ds: xr.Dataset,
    clips: Clips,
    studies: tuple[ProbeResult, ProbeResult],
    loud: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []
    real = playing.generate

    def spy(model: MusicGen, rows: list[Any], **settings: Any) -> Any:
        seen.append(len({row.seed for row in rows}))
        return real(model, rows, **settings)

    monkeypatch.setattr(playing, "generate", spy)
    study = validate(
        tiny_lm_model, ds, "drums", arms="basic", doses=(1.0, 4.0), n_seeds=3, method="logistic", studies=studies,
        clips=clips, judge=loud, design=Design(k=2, pilot_seeds=2), setting=SHORT,
    )  # fmt: skip
    assert seen == [2, 3]
    pilot = study.pilot[~study.pilot["control"]]
    assert study.site in set(pilot["site"]) and len(pilot) == 3 and study.dose == 2.0
    assert len(study.table) == 1 + 5 * 2
    assert study.table.loc[study.table["arm"] != "unsteered", ["diff", "p_holm"]].notna().all().all()
    assert (study.table["p_holm"].dropna() >= study.table["p"].dropna()).all()
    assert study.verdict.necessary.answer == "not shown" and study.necessity.empty
    assert "no other site was pushed" in study.verdict.site.because or study.verdict.sufficient.answer != "yes"
    lines = repr(study).splitlines()
    assert lines[0].startswith("Validation of drums: 6 arms on 3 paired seeds, heard by loud; pushed")
    assert len(lines) == 8 and max(map(len, lines)) <= 80 and lines[3].startswith("  sufficient ")
    (said,) = study.sentences()
    assert said.startswith(f"drums at {study.site}: {study.verdict.outcome} at ") and "never measured on drums" in said
    assert said.replace("<", "&lt;") in study._repr_html_()


def test_validate_in_full(
    tiny_lm_model: MusicGen, ds: xr.Dataset, clips: Clips, studies: tuple[ProbeResult, ProbeResult], loud: Any
) -> None:
    class Deaf(type(loud)):  # type: ignore[misc]
        name = "deaf"
        embed = None  # a judge need not embed

        def score(self, audio: torch.Tensor, sample_rate: int) -> pd.DataFrame:
            return super().score(audio, sample_rate).assign(drums=0.1)

    study = validate(
        tiny_lm_model, ds, "drums", doses=(1.0, 4.0), n_seeds=4, studies=studies, clips=clips, judge=[loud, Deaf()],
        design=Design(k=2, pilot_seeds=2, n_reference=8, others=("instrument=piano",), iti_doses=(2.0,)),
        setting=replace(SHORT, measure=True),
    )  # fmt: skip
    table = study.table[study.table["judge"] == "loud"]
    assert study.method == "mean_diff" and study.dose in (1.0, 4.0)
    assert list(study.verdicts) == ["loud", "deaf"] and study.verdict is study.verdicts["loud"]
    assert study.verdicts["deaf"].outcome == "not sufficient" and study.verdicts["deaf"].sufficient.answer == "no"
    assert len(study.necessity) == 2 * 3 and study.verdict.dose == study.dose
    assert study.verdict.trait.answer == "yes" and set(study.verdict.moves["judged"]) == {"piano", "organ"}
    rival = table[table["arm"] == "best other site"]
    assert len(rival) == 1 and rival["where"].item() != study.site and rival["dose"].item() == study.dose
    assert list(study.findings().columns) == ["asked", "loud", "deaf"] and len(study.findings()) == 5
    assert {
        "chroma_kept",
        "onsets_kept_lo",
        "fad",
        "fad_lo",
        "fad_diff",
        "kad",
        "fad_any",
        "kept",
        "h",
        "odds",
        "p_max",
        "degenerate",
    } <= set(table)
    known = study.table.groupby("judge")["fad"].apply(lambda column: column.notna().all())
    assert known["loud"] and not known["deaf"]
    assert (table["p_max"].dropna() >= table["p"].dropna() - 1e-9).all()
    assert table["arm"].tolist().count("unsteered") == 1 and "other trait: instrument=piano" in set(table["arm"])
    assert list(study.summary().columns) == ["judge", "arm", "0 σ", "1 σ", "2 σ", "4 σ"]
    assert set(study.curves()["arm"]) == {"unsteered", "probe", "random", "shuffled labels"} - (
        {"random", "shuffled labels"} if study.dose == 4.0 else set()
    )
    assert list(study.agreement["a"]) == ["loud"] and len(study.sentences()) == 3
    assert "Agreement of the judges on single clips (kappa): loud and deaf" in study.sentences()[-1]


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"site": "L9.resid"}, SiteError, "L9.resid"),
        ({"site": "L1.H2"}, SiteError, "residual stream, not at L1.H2"),
        ({"trait": "orchestral"}, DataError, "cannot hear 'orchestral'"),
        ({"judge": None, "trait": "bass"}, DataError, "'tagger' cannot hear 'bass'"),
        ({"clips": None}, DataError, "to continue music of its own kind"),
        ({"n_seeds": 40}, DataError, "20 sounds lack drums, but 42 are needed"),
        ({"arms": "some"}, DataError, "use full or basic"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(
    tiny_lm_model: MusicGen,
    ds: xr.Dataset,
    clips: Clips,
    loud: Any,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    error: type[Exception],
    sentence: str,
) -> None:
    def never(*args: object, **settings: object) -> None:
        raise AssertionError("work before the refusal")

    monkeypatch.setattr(validating, "probe", never)
    monkeypatch.setattr(playing, "generate", never)
    asked: dict[str, Any] = {"trait": "drums", "judge": loud, "clips": clips, "n_seeds": 3, **changes}
    with pytest.raises(error, match=sentence):
        validate(tiny_lm_model, ds, **asked, design=Design(pilot_seeds=2), setting=SHORT)


def test_a_site_that_was_not_read_is_said(tiny_lm_model: MusicGen, ds: xr.Dataset, clips: Clips, loud: Any) -> None:
    without = ds.sel(resid_site=["L0.resid", "L1.resid"])
    with pytest.raises(SiteError, match=r"L2\.resid"):
        validate(tiny_lm_model, without, "drums", site="L2.resid", judge=loud, clips=clips, setting=SHORT)


def test_the_defaults_are_those_of_the_command_line() -> None:
    import inspect

    from interp.cli import checking

    python, command = (inspect.signature(one).parameters for one in (validate, checking.validate))
    for name, other in {"method": "method", "arms": "arms", "n_seeds": "seeds", "seed": "seed", "site": "site"}.items():
        assert python[name].default == command[other].default
    assert tuple(float(dose) for dose in command["doses"].default.split(",")) == python["doses"].default == DOSES
    assert command["heads"].default == Design().k and Setting().progress
