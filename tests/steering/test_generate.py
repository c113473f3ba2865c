"""The decoding loop: audiocraft's greedy tokens, a row's own noise, batches that change nothing."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from torch import Tensor

from interp.backends import audiocraft as seam
from interp.backends.audiocraft import ConditioningAttributes
from interp.backends.build import random_musicgen
from interp.errors import ClipError, InterpError, InterventionError, ModelError
from interp.model import MusicGen
from interp.steering import Add, Row, generate

running = importlib.import_module("interp.steering.generate")
ENGINES = ("fast", "hooks", "nnsight")
TEXTS = ("a", "b", None)


def audiocraft_greedy(
    model: MusicGen, audio: Tensor | None, frames: int, guidance: float, two_step: bool = False
) -> Tensor:
    attributes = [ConditioningAttributes(text={"description": text}) for text in TEXTS]
    prompt = None if audio is None else audio[None].repeat(len(TEXTS), 1, 1)
    model.lm.cfg_coef = guidance  # two-step generation takes the stored one
    return model.lm.generate(
        prompt, attributes, max_gen_len=frames, use_sampling=False, cfg_coef=guidance, two_step_cfg=two_step
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("prompted", "two_step"), [(False, False), (True, False), (False, True), (True, True)])
def test_greedy_tokens_equal_audiocraft(
    tiny_lm_model: MusicGen, audio_prompt: Tensor, engine: str, prompted: bool, two_step: bool
) -> None:
    audio = audio_prompt if prompted else None
    expected = audiocraft_greedy(tiny_lm_model, audio, 24, 3.0, two_step)
    rows = [Row(text, seed, audio) for seed, text in enumerate(TEXTS)]
    made = generate(tiny_lm_model, rows, 24 / 50, greedy=True, two_step=two_step, engine=engine, progress=False)  # type: ignore[arg-type]
    assert torch.equal(made.codes, expected)
    assert expected.unique().numel() > 5  # not a constant that any loop would produce


def test_no_guidance_is_guidance_of_one_without_doubling(tiny_lm_model: MusicGen, audio_prompt: Tensor) -> None:
    expected = audiocraft_greedy(tiny_lm_model, audio_prompt, 24, 1.0)
    rows = [Row(text, 0, audio_prompt) for text in TEXTS]
    seen: list[int] = []
    handle = tiny_lm_model.lm.transformer.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    try:
        for guidance in (None, 1, 1.0):
            made = generate(tiny_lm_model, rows, 0.48, guidance, greedy=True, engine="hooks", progress=False)
            assert torch.equal(made.codes, expected)
    finally:
        handle.remove()
    assert set(seen) == {len(rows)}


@pytest.mark.parametrize("engine", ("fast", "hooks"))
def test_beyond_the_longest_window_as_audiocraft(engine: str) -> None:
    model = MusicGen(random_musicgen(2, 2, 16, seed=3))
    model.audiocraft.max_duration = 0.6
    model.audiocraft.set_generation_params(
        use_sampling=False, duration=1.3, cfg_coef=3.0, extend_stride=0.36, two_step_cfg=False
    )
    attributes, _ = model.audiocraft._prepare_tokens_and_attributes(TEXTS, None)
    audio = torch.randint(0, model.cardinality, (4, 6), generator=torch.Generator().manual_seed(0))
    for prompt in (None, audio):
        batch = None if prompt is None else prompt[None].repeat(3, 1, 1)
        expected = model.audiocraft._generate_tokens(attributes, batch, False)
        rows = [Row(text, 0, prompt) for text in TEXTS]
        made = generate(model, rows, 1.3, greedy=True, engine=engine, progress=False)  # type: ignore[arg-type]
        assert torch.equal(made.codes, expected)


def test_longer_texts_do_not_lengthen_their_neighbours() -> None:
    """audiocraft's cross-attention attends to padding: rows of other text lengths must not share a batch."""
    model = MusicGen(random_musicgen(2, 2, 16, seed=4))
    lm = model.lm

    class Letters(seam.LUTConditioner):
        """Embeds a text letter by letter, padded to the longest."""

        def tokenize(self, x: list[str | None]) -> tuple[Tensor, Tensor]:
            size = max(len(text or "") for text in x) or 1
            ids = [[ord(letter) % 64 for letter in (text or "").ljust(size)] for text in x]
            mask = [[i < len(text or "") for i in range(size)] for text in x]
            return torch.tensor(ids), torch.tensor(mask).int()

    torch.manual_seed(0)
    lm.condition_provider.conditioners["description"] = Letters(64, 16, 16, "noop")
    rows = [Row("ab", 1), Row("abcdefg", 2), Row("hi", 3), Row(None, 4)]
    together = generate(model, rows, 0.4, progress=False)
    assert torch.equal(together.codes, generate(model, rows, 0.4, engine="hooks", progress=False).codes)
    for i, row in enumerate(rows):
        assert torch.equal(generate(model, [row], 0.4, progress=False).codes[0], together.codes[i])
    alone = lm.generate(
        None, [ConditioningAttributes(text={"description": "ab"})], max_gen_len=20, use_sampling=False, cfg_coef=3.0
    )
    batch = generate(model, [Row("ab"), Row("abcdefg")], 0.4, greedy=True, progress=False)
    assert torch.equal(batch.codes[:1], alone)


@pytest.mark.parametrize("engine", ("fast", "hooks"))
def test_a_row_alone_and_in_any_batch_is_the_same_music(
    tiny_lm_model: MusicGen, audio_prompt: Tensor, engine: str
) -> None:
    rows = [Row(text, seed, audio) for seed in (0, 7) for text in ("a", None) for audio in (None, audio_prompt)]
    together = generate(tiny_lm_model, rows, 0.5, engine=engine, progress=False)  # type: ignore[arg-type]
    for size in (1, 3):
        made = generate(tiny_lm_model, rows, 0.5, batch_size=size, engine=engine, progress=False)  # type: ignore[arg-type]
        assert torch.equal(made.codes, together.codes)
    backwards = generate(tiny_lm_model, rows[::-1], 0.5, engine=engine, progress=False)  # type: ignore[arg-type]
    assert torch.equal(backwards.codes.flip(0), together.codes)


def test_twins_share_their_noise_and_strangers_do_not(tiny_lm_model: MusicGen) -> None:
    rows = [Row("a", 3), Row("a", 4), Row("a", 3), Row("b", 3)]
    codes = generate(tiny_lm_model, rows, 0.5, progress=False).codes
    assert torch.equal(codes[0], codes[2])
    assert not torch.equal(codes[0], codes[1])
    # another text moves the distribution a little, so twins agree far more often than strangers
    assert (codes[0] == codes[3]).float().mean() > (codes[0] == codes[1]).float().mean() + 0.2


def test_temperature_zero_is_greedy(tiny_lm_model: MusicGen) -> None:
    rows = [Row("a", 1), Row("a", 2)]
    cold = generate(tiny_lm_model, rows, 0.3, temperature=0, progress=False).codes
    assert torch.equal(cold, generate(tiny_lm_model, rows, 0.3, greedy=True, progress=False).codes)


def test_out_of_memory_splits_the_batch_and_keeps_the_music(
    tiny_lm_model: MusicGen, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [Row("a", seed) for seed in range(5)]
    expected = generate(tiny_lm_model, rows, 0.3, progress=False).codes
    run = running.run_batch

    def starved(job: object, some: list[Row], *rest: object) -> object:
        if len(some) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes.")
        return run(job, some, *rest)

    monkeypatch.setattr(running, "run_batch", starved)
    assert torch.equal(generate(tiny_lm_model, rows, 0.3, progress=False).codes, expected)
    assert "out of memory" in caplog.text


def test_other_errors_are_not_taken_for_a_lack_of_memory(
    tiny_lm_model: MusicGen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> object:
        raise RuntimeError("something else")

    monkeypatch.setattr(running, "run_batch", broken)
    with pytest.raises(RuntimeError, match="something else"):
        generate(tiny_lm_model, [Row("a"), Row("b")], 0.3, progress=False)


def test_two_threads_make_the_same_music(tiny_lm_model: MusicGen, make_directions: object) -> None:
    directions = make_directions()  # type: ignore[operator]
    rows = [Row("a", seed, None, (Add(directions, dose=float(seed % 3)),)) for seed in range(32)]
    before = torch.get_num_threads()
    one = generate(tiny_lm_model, rows, 0.3, progress=False)
    try:
        torch.set_num_threads(2)
        two = generate(tiny_lm_model, rows, 0.3, progress=False)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one.codes, two.codes)
    assert one.log.equals(two.log)


def test_audio_is_decoded_from_the_codes(tiny_lm_model: MusicGen) -> None:
    made = generate(tiny_lm_model, [Row("a", 1), Row("b", 2)], 0.3, progress=False)
    assert made.audio.shape == (2, 1, int(0.3 * made.sample_rate))
    assert made.audio.dtype == torch.float32
    assert torch.equal(made.audio, tiny_lm_model.decode(made.codes))


def test_a_failure_leaves_the_model_as_it_was(tiny_lm_model: MusicGen) -> None:
    before = generate(tiny_lm_model, [Row("a", 1)], 0.3, engine="hooks", progress=False).codes

    class Explosive(Add):
        """Fails when its numbers are asked for."""

        def parameters(self) -> dict:  # type: ignore[type-arg]
            raise ValueError("boom")

    from interp.directions import Direction

    with pytest.raises(ValueError, match="boom"):
        item = Explosive(Direction.from_weight("L0.H0", np.ones(8)), strength=1.0)
        generate(tiny_lm_model, [Row("a", 1, None, (item,))], 0.3, engine="hooks", progress=False)
    assert torch.equal(generate(tiny_lm_model, [Row("a", 1)], 0.3, engine="hooks", progress=False).codes, before)


@pytest.mark.parametrize(
    ("rows", "options", "error", "says"),
    [
        ([], {}, InterventionError, "no rows"),
        ([Row()], {"seconds": 0.001}, ClipError, "hold no frame"),
        ([Row()], {"temperature": -1}, ModelError, "temperature"),
        ([Row()], {"guidance": float("nan")}, ModelError, "guidance"),
        ([Row()], {"engine": "steam"}, ModelError, "steam"),
        ([Row()], {"batch_size": 0}, ModelError, "batch of 0"),
        ([Row(None, 0, torch.zeros(4, 30, dtype=torch.long))], {}, ClipError, "leaves nothing"),
        ([Row(None, 0, torch.zeros(3, 5, dtype=torch.long))], {}, ClipError, "3 codebooks"),
        ([Row(None, 0, torch.full((4, 5), 99))], {}, ClipError, "encode it with this model"),
    ],
)
def test_bad_input_gets_one_sentence(
    tiny_lm_model: MusicGen, rows: list[Row], options: dict[str, object], error: type[InterpError], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        generate(tiny_lm_model, rows, **({"seconds": 0.4, "progress": False} | options))  # type: ignore[arg-type]
    assert str(caught.value).count("\n") == 0


def test_an_audio_prompt_of_samples_is_refused() -> None:
    with pytest.raises(ClipError, match="encode"):
        Row(None, 0, torch.zeros(1, 16000))
