"""Right in every precision and at every length: positions, codes and means in float32 whatever is on around them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import interp
from interp._batch import first_not_finite, pool_forward
from interp.backends import audiocraft as seam
from interp.backends import devices
from interp.backends.build import random_musicgen
from interp.backends.devices import codec_device, device_named, dtype_named, full_precision
from interp.errors import DataError, ModelError
from interp.model import MusicGen
from interp.pooling import Pooling
from interp.sites import Site
from interp.steering import Row, generate


def half_a_minute(**options: Any) -> MusicGen:
    """musicgen-small's layout (24 layers, 4 codebooks of 2,048 entries, 1,500 frames), in a reduced width."""
    return MusicGen(random_musicgen(24, 16, 128, seed=3, cardinality=2048, **options))


@pytest.fixture(scope="module")
def codes() -> Tensor:
    return torch.randint(2048, (1, 4, 1450), generator=torch.Generator().manual_seed(0))


def test_bfloat16_hears_the_end_of_the_window(codes: Tensor) -> None:
    """At 29 s, against the same rounded weights with positions (and everything else) in float32."""
    rounded = half_a_minute(dtype=torch.bfloat16)
    exact = half_a_minute()
    exact.lm.load_state_dict({name: w.float() for name, w in rounded.lm.state_dict().items()})
    sites = ["L0.resid", "L23.resid"]
    ours, theirs = (m.predict(codes, "calm piano", read=sites) for m in (rounded, exact))
    assert ours.logits is not None and theirs.logits is not None
    p, q = (torch.log_softmax(made.logits, -1) for made in (theirs, ours))
    kl = (p.exp() * (p - q)).sum(-1).mean((0, 1))
    assert kl.mean() < 1e-3 and kl[-50:].mean() < 1e-3
    for site in map(Site.parse, sites):
        a, b = ours.values[site].float(), theirs.values[site]
        assert torch.cosine_similarity(a, b, -1).min() > 0.998


def test_every_position_is_its_own_in_half_precision() -> None:
    for dtype in (torch.bfloat16, torch.float16):
        model = MusicGen(random_musicgen(1, 2, 64, dtype=dtype))
        model.lm.emb.apply(lambda module: getattr(module, "weight", torch.zeros(1)).zero_())
        tokens = torch.zeros(1, 4, 1504, dtype=torch.long)
        tokens[..., 0] = model.cardinality
        added = model.forward(tokens, read=["embed"], logits=False).values[Site("embed")][0]
        expected = seam.create_sin_embedding(torch.arange(1504).view(1, -1, 1), 64)[0]
        assert torch.equal(added, expected.to(dtype))
        assert len(added.unique(dim=0)) > 1400  # audiocraft's own have a few hundred


def test_float32_positions_are_audiocrafts_step_by_step() -> None:
    plain = random_musicgen(2, 2, 16, seed=5).lm
    model = MusicGen(random_musicgen(2, 2, 16, seed=5))
    tokens = torch.randint(32, (3, 4, 9), generator=torch.Generator().manual_seed(0))
    conditions = model.conditions([None] * 3)
    with torch.no_grad(), plain.streaming(), model.lm.streaming():
        for part in tokens.split([4, 1, 1, 1, 1, 1], -1):
            assert torch.equal(plain(part, [], conditions), model.lm(part, [], conditions))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_fast_engine_adds_the_same_positions(dtype: torch.dtype) -> None:
    """Greedy music of half precision, started late in the window: one rounding differs, and few tokens with it."""
    from interp.steering.engine.fast import FastEngine

    model = MusicGen(random_musicgen(2, 2, 32, dtype=dtype))
    table = FastEngine(model).positions(1504)
    assert table.dtype == dtype
    assert torch.equal(table, seam.create_sin_embedding(torch.arange(1504).view(1, -1, 1), 32)[0].to(dtype))
    prompt = torch.randint(32, (4, 1400), generator=torch.Generator().manual_seed(1))
    made = [
        generate(model, [Row("a", 0, prompt)], 28.4, greedy=True, engine=engine, progress=False).codes[..., 1400:]
        for engine in ("hooks", "fast")  # type: ignore[arg-type]
    ]
    assert (made[0][..., :4] == made[1][..., :4]).float().mean() > 0.85


def test_codes_do_not_depend_on_the_precision_around_them(tiny_lm_model: MusicGen) -> None:
    audio = 0.3 * torch.randn(2, 1, 16000, generator=torch.Generator().manual_seed(0))
    codes = tiny_lm_model.encode(audio, 16000)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tiny_lm_model.encode(audio, 16000), codes)
        sound = tiny_lm_model.decode(codes)
        raw, _ = tiny_lm_model.codec.encode(audio)
    assert torch.equal(tiny_lm_model.decode(codes), sound)
    assert not torch.equal(raw, codes)  # the context would have changed them


def test_means_are_float32_under_autocast() -> None:
    generator = torch.Generator().manual_seed(0)
    x = 60000 * torch.rand(2, 1500, 8, generator=generator)
    pooling = Pooling.parse("mean, window:0-3, last", 50, 1499)
    pooler = pooling.pooler([1499] * 2, lambda n: torch.arange(n) + 1, 1500, "ab")
    expected = pooler(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(pooler(x), expected)
        assert torch.equal(pooler(x.half()), pooler(x.half().float()))
    assert torch.allclose(expected[:, 0], x[:, 1:].double().mean(1).float(), rtol=1e-5)


def test_tf32_is_off_inside_and_as_it_was_after() -> None:
    cudnn: Any = torch.backends.cudnn

    def now() -> list[str]:
        return [torch.backends.cuda.matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision]

    before = now()
    with pytest.raises(RuntimeError, match="out"), full_precision(torch.device("cuda")):
        assert now() == ["ieee"] * 3
        raise RuntimeError("out")
    assert now() == before


def test_what_is_not_finite_is_named_where_it_began() -> None:
    model = MusicGen(random_musicgen(3, 4, 32, seed=1, dtype=torch.float16))
    codes = torch.randint(32, (2, 4, 12), generator=torch.Generator().manual_seed(0))
    step = int(model.frame_steps(12)[5])
    token = int(codes[1, 0, 5])
    codes[:, 0][(codes[:, 0] == token) & (torch.arange(12) < 5)] = (token + 1) % 32
    codes[0, 0][codes[0, 0] == token] = (token + 1) % 32
    model.lm.emb[0].weight[token] = 60000.0  # finite, and too large for what comes after
    model.lm.emb[1].weight[:] = 10000.0
    assert first_not_finite(model, codes[0], None) is None
    assert first_not_finite(model, codes[1], None) == (Site("embed"), step, torch.float16)
    pooling = Pooling.parse("mean", 50, 12)
    began = rf"L2\.resid for the clip 'b' is NaN or infinite \(first at embed, step {step}, in float16"
    with pytest.raises(DataError, match=began):
        pool_forward(model, list(codes), [None, None], [Site("resid", 2)], pooling, ["a", "b"])
    clean = MusicGen(random_musicgen(3, 4, 32, seed=1))

    clean.lm.transformer.layers[1].self_attn.out_proj.register_forward_pre_hook(
        lambda _, args: (args[0].index_fill(-1, torch.tensor([17]), torch.inf),)
    )
    found = first_not_finite(clean, codes[0], "a")
    assert found is not None and found[0] == Site("heads", 1, 2) and found[2] == torch.float32


# Devices ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("name", ["cuda", "gpu", "cuda:1", "mps", "nonsense", "meta", ""])
def test_a_device_that_is_not_there_gets_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ModelError, match=r"there is no device '.*' here: .*this machine has cpu\."):
        interp.load("tiny", device=name)


def test_devices_are_listed_and_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert devices.devices() == ["cuda:0", "cuda:1", "cpu"]
    assert device_named(None) == torch.device("cuda") and device_named("cuda:1").index == 1
    for name in ("cuda:2", "gpu"):
        with pytest.raises(ModelError, match="this machine has cuda:0, cuda:1, cpu"):
            device_named(name)
    with pytest.raises(ModelError, match="a GPU is written cuda"):
        device_named("gpu")


def test_the_codec_of_a_model_on_apples_gpu_is_on_the_cpu() -> None:
    assert codec_device(torch.device("mps")) == torch.device("cpu")
    assert codec_device(torch.device("cuda:1")) == torch.device("cuda:1")
    assert MusicGen(random_musicgen()).encode(torch.zeros(16000), 16000).device.type == "cpu"


@pytest.mark.parametrize("name", ["int8", "half precision", "float64", torch.int32, ""])
def test_a_dtype_that_no_model_runs_in_gets_one_sentence(name: Any) -> None:
    with pytest.raises(ModelError, match=r"cannot run in dtype '.*': use float32, float16, bfloat16\."):
        interp.load("tiny", dtype=name)
    assert dtype_named("torch.float16") == dtype_named(torch.float16) == torch.float16


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_the_command_line_says_it_too(tmp_path: Path) -> None:
    import numpy as np
    import soundfile

    from interp.cli import app

    soundfile.write(tmp_path / "a.wav", 0.1 * np.ones(8000, np.float32), 16000)
    (tmp_path / "metadata.csv").write_text("file_name,drums\na.wav,1\n")
    for device in ("cuda", "gpu"):
        result = CliRunner().invoke(app, ["extract", str(tmp_path), "--out", str(tmp_path / "s"), "--device", device])
        assert result.exit_code in (1, 2)
        assert "this machine has cpu" in " ".join(result.output.split())
        assert "Traceback" not in result.output
