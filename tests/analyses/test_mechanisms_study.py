"""The study of paths, small: its numbers are those of the tables, and what cannot be paired is refused at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from analyses.mechanisms import Config, Mechanisms, agreement
from interp.clips import Clips
from interp.errors import ClipError, DataError

SMALL = Config(traits=("drums",), n_pairs=3, n_clips=48, seconds=1.0, prompt_seconds=0.2, n_permutations=100)


@pytest.mark.slow
def test_from_start_to_end_on_the_shipped_model(tmp_path: Path) -> None:
    study = Mechanisms(replace(SMALL, out=tmp_path, judge="rendered"), progress=False)
    right, wrong = study.sides(study.traits[0])
    assert all("no drums" not in a and a != b for a, b in zip(right.texts, wrong.texts, strict=True))
    assert [b.replace("no drums", "drums") for b in wrong.texts] == list(right.texts)
    tables = study.run()
    text, audio = tables["text"], tables["audio"]
    assert len(text) == 48 + 6 and len(audio) == 48 and set(text["trait"]) == {"drums"}
    assert text.loc[text["kind"] == "cross_heads", "word"].between(0, 1).all()
    blocks = text[text["kind"] == "cross"].set_index("layer")["change"]
    assert np.isfinite(blocks).all() and tables["layers"]["kl"].max() > 0
    for row in tables["agreement"].itertuples():
        assert -1 <= row.spearman <= 1 and 0 <= row.shared <= row.top
    merged = audio.merge(tables["probes"], on="site")
    rho = tables["agreement"].query("source == 'audio'")["spearman"].iloc[0]
    assert rho == pytest.approx(spearmanr(merged["change"], merged["cv_score"])[0])
    judged = tables["judged"].set_index("side")
    assert (
        list(judged.index) == ["with", "without"] and (judged["n"] == 3).all() and judged["heard"].between(0, 1).all()
    )
    answer = (tmp_path / "answer.md").read_text()
    assert "drums, from text: the gap is" in answer and "drums, from audio: the gap is" in answer
    assert "hears it in" in answer
    for name in ("text_drums", "audio_drums", "probe_drums", "lens", "attention"):
        assert (tmp_path / f"{name}.png").stat().st_size > 1000, name


def test_agreement_is_that_of_the_heads_both_know() -> None:
    sites = [f"L0.H{i}" for i in range(8)]
    audio = pd.DataFrame({"trait": "drums", "site": sites, "layer": 0, "change": np.arange(8.0)})
    probes = pd.DataFrame({"trait": "drums", "site": sites[::-1], "cv_score": np.arange(8.0)})
    row = agreement({"audio": audio, "probes": probes}, top=2).iloc[0]
    assert row["spearman"] == pytest.approx(-1) and row["shared"] == 0 and row["chance"] == 0.5


def test_a_folder_gives_pairs_of_its_clips(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    audio = [rng.normal(0, 0.1, (1, 16_000)).astype(np.float32) for _ in range(8)]
    labels = pd.DataFrame({"singing": ["yes", "no"] * 4})
    folder = Clips.from_arrays(audio, 16_000, labels).to_folder(tmp_path / "clips")
    config = replace(SMALL, traits=("singing",), data=folder, out=tmp_path / "out")
    study = Mechanisms(config, progress=False)
    right, wrong = study.sides(study.traits[0])
    assert len(right) == len(wrong) == 3 and right.texts == (None,) * 3 and not study.has_text
    codes = [study.model.encode(torch.from_numpy(clip.audio), 16_000)[0] for clip in study.clips]
    for side, answer in ((right, 0), (wrong, 1)):  # clips of that side, whole and each once
        found = [[torch.equal(row, code) for code in codes].index(True) for row in side.codes]
        assert len(set(found)) == 3 and all(i % 2 == answer for i in found)
    with_text = Mechanisms(replace(config, prompts=("jazz, piano:rock, piano",)), progress=False)
    assert with_text.has_text and with_text.sides(study.traits[0])[1].texts == ("rock, piano",) * 3
    with pytest.raises(DataError, match="4 clips are on one side"):
        Mechanisms(replace(config, n_pairs=5), progress=False).sides(study.traits[0])
    with pytest.raises(ClipError, match="a clip is shorter than"):
        Mechanisms(replace(config, seconds=1.5), progress=False).sides(study.traits[0])


def test_bad_input_is_refused_at_once() -> None:
    for config, words in (
        (replace(SMALL, n_pairs=1), "needs two or more"),
        (replace(SMALL, prompt_seconds=0.0), "give it some length"),
        (replace(SMALL, prompts=("drums",)), "two texts for each of 1 traits"),
        (replace(SMALL, traits=("tempo",)), "no pairs of rendered music differ in 'tempo'"),
        (replace(SMALL, traits=("genre=polka",)), "differ in 'genre=polka'"),
        (replace(SMALL, guidance=3.0), "no use for guidance"),
    ):
        with pytest.raises(DataError, match=words):
            Mechanisms(config)
