"""Attention: the weights are those of the model, and the summaries say what is planted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from interp.backends import parts
from interp.backends.build import random_musicgen
from interp.errors import DataError, SiteError
from interp.mechanisms import attention_summary, attention_weights, hear, lag_profile, repetition, word_mass
from interp.model import MusicGen
from interp.sites import Kind, Site

FRAMES = 24


def music(model: MusicGen, rows: int = 3, frames: int = FRAMES) -> Tensor:
    return torch.randint(0, model.cardinality, (rows, 4, frames), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "settings",
    [
        {}, {"bias_attn": True}, {"qk_layer_norm": True, "qk_layer_norm_cross": True}, {"positional_embedding": "rope"},
        {"memory_efficient": False, "custom": True, "past_context": 5}, {"kv_repeat": 2}, {"layer_scale": 0.3},
    ],
    ids=str,
)  # fmt: skip
def test_weights_times_values_are_what_the_heads_put_out(settings: dict[str, object]) -> None:
    model = MusicGen(random_musicgen(2, 4, 32, seed=5, **settings))
    for parameter in model.lm.transformer.parameters():  # norms and biases away from their start
        parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    codes, texts = music(model), ["a", "b", "c"]
    conditions = model.conditions(texts)
    text = parts.text_of(model.lm, conditions)
    kinds: tuple[Kind, ...] = ("heads", "cross_heads")
    heads = [Site(kind, layer, head) for layer in range(2) for kind in kinds for head in range(4)]
    streams = [Site("embed"), Site("resid", 0), Site("attn", 0), Site("attn", 1)]
    values = model.predict(codes, conditions=conditions, read=[*heads, *streams]).values
    for layer in range(2):
        before = values[streams[layer]]
        for kind in kinds:
            x = before if kind == "heads" else before + values[Site("attn", layer)]
            weights, v = parts.attention_of(model.lm, (kind, layer), x, text)
            expected = torch.stack([values[Site(kind, layer, head)] for head in range(4)], 1)
            torch.testing.assert_close(weights @ v, expected, atol=1e-5, rtol=0)
            torch.testing.assert_close(weights, attention_weights(model, hear(model, codes, texts), layer, kind))
            torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]), atol=1e-5, rtol=0)
            if kind == "heads":
                assert not bool(weights.triu(1).any())


def test_the_shipped_models_weights_are_its_own(tiny: MusicGen) -> None:
    codes, text = music(tiny, 2, 40), "jazz, piano, drums"
    heads = [Site(kind, 3, head) for kind in ("heads", "cross_heads") for head in range(8)]
    conditions = tiny.conditions([text] * 2)
    read = tiny.predict(codes, conditions=conditions, read=[*heads, "L2.resid", "L3.attn"]).values
    x = read[Site("resid", 2)]
    for kind, stream in (("heads", x), ("cross_heads", x + read[Site("attn", 3)])):
        weights, v = parts.attention_of(tiny.lm, (kind, 3), stream, parts.text_of(tiny.lm, conditions))
        torch.testing.assert_close(
            weights @ v, torch.stack([read[Site(kind, 3, head)] for head in range(8)], 1), atol=1e-5, rtol=0
        )


def planted(pattern: Tensor) -> MusicGen:
    """A model of one layer and one head whose scores are those of a matrix over positions, ``[positions, positions]``.

    Its positions are one-hot in the embedding, so that queries and keys can be any table.
    """
    n = len(pattern)
    model = MusicGen(random_musicgen(1, 1, n, seed=0, positional_scale=0.0))
    attention = model.lm.transformer.layers[0].self_attn
    attention.in_proj_weight[:n] = pattern.T * n**0.5  # keys are the one-hot positions themselves
    attention.in_proj_weight[n : 2 * n] = torch.eye(n)
    return model


def test_summaries_say_what_a_pattern_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that looks exactly one period back, or one step after that, is what `repetition` finds."""
    back, n = 8, FRAMES + 4  # one more than there are positions: audiocraft's widths are even
    for offset, name in ((0, "repeat"), (1, "induction")):
        scores = torch.full((n, n), 0.0)
        for s in range(n):
            scores[s, max(s - back + offset, 0)] = 30.0
        model = planted(scores)
        eye = torch.eye(n)[None, :-1]
        # one-hot positions in place of the normalised stream: the projections alone make the scores
        monkeypatch.setattr(
            model.lm.transformer.layers[0].norm1, "forward", lambda x, eye=eye: eye.expand(len(x), -1, -1)
        )
        heard = hear(model, music(model))
        weights = attention_weights(model, heard, 0)
        assert bool((weights[0, 0].argmax(-1) == scores.argmax(-1)[:-1]).all())
        found = repetition(model, heard, back / 50).iloc[0]
        assert found[name] > 0.99 and found["induction" if name == "repeat" else "repeat"] < 0.01
        assert found[f"{name}_null"] > 0.99  # the planted head looks at places, not at what repeats
        profile = lag_profile(model, heard).set_index("lag")["mass"]
        assert profile.idxmax() == back - offset and profile.max() > 0.99
        beats = lag_profile(model, heard, tempo=[50 / (back - offset) * 60] * 3).set_index("lag")["mass"]
        assert beats.idxmax() == 1.0 and np.isclose(beats.max(), 1, atol=0.05)
        row = attention_summary(model, heard).iloc[0]
        assert row["entropy"] < 0.01 and row["own"] < 0.01 and abs(row["lag"] - (back - offset)) < 0.5


def test_prompt_and_generated_mass_add_up(tiny_lm_model: MusicGen) -> None:
    heard = hear(tiny_lm_model, music(tiny_lm_model), "a")
    table = attention_summary(tiny_lm_model, heard, prompt_seconds=0.2, batch_size=2)
    assert len(table) == 24 and table.loc[table["kind"] == "cross_heads", "start"].isna().all()
    row = table[table["site"] == "L1.H2"].iloc[0]
    weights = attention_weights(tiny_lm_model, heard, 1)[:, 2]
    late = weights[:, 11:]
    assert np.isclose(row["prompt"], float(late[..., 1:11].sum(-1).mean()), atol=1e-6)
    assert np.isclose(row["generated"], float(late[..., 11:].sum(-1).mean()), atol=1e-6)
    assert np.isclose(row["prompt"] + row["generated"] + float(late[..., 0].mean()), 1, atol=1e-5)


def test_words_get_all_of_it(tiny: MusicGen) -> None:
    heard = hear(tiny, music(tiny, 3, 10), ["jazz, piano, drums", "rock, organ, drums", "jazz, flute, no drums"])
    table = word_mass(tiny, heard, ["genre", "instrument", "drums"], batch_size=2)
    assert len(table) == 48 * 3
    np.testing.assert_allclose(table.groupby("site")["mass"].sum(), 1, atol=1e-5)
    mass = attention_weights(tiny, heard, 2, "cross_heads")[:, 5].mean((0, 1))
    np.testing.assert_allclose(table[table["site"] == "L2.X.H5"]["mass"], mass, atol=1e-6)


def test_bad_input_is_refused_with_a_sentence(tiny: MusicGen, tiny_lm_model: MusicGen) -> None:
    model, heard = tiny_lm_model, hear(tiny_lm_model, music(tiny_lm_model), "a")
    uneven = hear(tiny, music(tiny, 2, 5), ["jazz", "jazz, piano"])
    silent = MusicGen(random_musicgen(n_texts=0))
    cases = [
        ("not of 'mlp'", DataError, lambda: attention_weights(model, heard, 0, "mlp")),
        ("layers 0 to 2", SiteError, lambda: attention_weights(model, heard, 3)),
        ("texts differ in length", DataError, lambda: attention_weights(tiny, uneven, 0)),
        ("texts differ in length", DataError, lambda: word_mass(tiny, uneven)),
        ("no cross-attention", SiteError, lambda: word_mass(silent, hear(silent, music(silent)))),
        ("have 1 tokens, but there are 2", DataError, lambda: word_mass(model, heard, ["a", "b"])),
        ("does not repeat", DataError, lambda: repetition(model, heard, 0.3)),
        ("does not end within", DataError, lambda: attention_summary(model, heard, prompt_seconds=2)),
        ("need 3 tempi", DataError, lambda: lag_profile(model, heard, tempo=[100.0])),
        ("does not lie within", DataError, lambda: lag_profile(model, heard, max_seconds=3)),
    ]
    for words, kind, call in cases:
        with pytest.raises(kind, match=words):
            call()
    assert set(attention_summary(silent, hear(silent, music(silent)))["kind"]) == {"heads"}
