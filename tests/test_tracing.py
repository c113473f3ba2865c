"""The model seen from inside is the model: reads and writes equal plain PyTorch hooks, and reading changes nothing."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp.backends.audiocraft import PLACES, LMModel, hooked
from interp.backends.build import random_musicgen
from interp.clips import Clip
from interp.directions import Direction, Directions
from interp.errors import ClipError, ModelError, SiteError
from interp.model import MusicGen
from interp.sites import Site, select_sites
from interp.steering import Ablate, Add, causal_ranking
from interp.steering.causal import code_log_likelihood
from interp.steering.forced import forced_logits
from interp.tracing import TracedLM
from interp.validation.ablation import read_under

SOME = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # a failing shape says enough without being made smaller, which takes minutes
    suppress_health_check=list(HealthCheck),
)


def plain_hooks(lm: LMModel, tokens: Tensor, conditions: Any) -> tuple[dict[Site, Tensor], Tensor]:
    """Every site by PyTorch's own hooks, on an LM that nnsight never saw."""
    found: dict[Site, Tensor] = {}
    handles = []

    def keep_input(make: Any) -> Any:
        return lambda module, args: make(args[0].clone())

    def keep_output(site: Site) -> Any:
        return lambda module, args, output: found.__setitem__(site, output.clone())

    def split(kind: Any, layer: int, n_heads: int) -> Any:
        def make(x: Tensor) -> None:
            for head, part in enumerate(x.chunk(n_heads, -1)):
                found[Site(kind, layer, head)] = part

        return keep_input(make)

    layers: Any = lm.transformer.layers
    handles.append(layers[0].register_forward_pre_hook(keep_input(lambda x: found.__setitem__(Site("embed"), x))))
    for i, layer in enumerate(layers):
        n = layer.self_attn.num_heads
        handles.append(layer.self_attn.out_proj.register_forward_pre_hook(split("heads", i, n)))
        handles.append(layer.cross_attention.out_proj.register_forward_pre_hook(split("cross_heads", i, n)))
        handles.append(layer.layer_scale_1.register_forward_hook(keep_output(Site("attn", i))))
        handles.append(layer.layer_scale_cross.register_forward_hook(keep_output(Site("cross", i))))
        handles.append(layer.layer_scale_2.register_forward_hook(keep_output(Site("mlp", i))))
        handles.append(layer.register_forward_hook(keep_output(Site("resid", i))))
    with torch.no_grad():
        logits = lm(tokens, [], conditions)
    for handle in handles:
        handle.remove()
    return found, logits


def inputs(model: MusicGen, rows: int, frames: int, seed: int = 0) -> tuple[Tensor, Any]:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(model.cardinality, (rows, model.n_codebooks, frames), generator=generator)
    return model.sequence(codes)[0], model.conditions([None if row % 2 else "drums" for row in range(rows)])


@SOME
@given(
    layers=st.integers(1, 3),
    heads=st.sampled_from([1, 2, 4]),
    head_dim=st.sampled_from([4, 6, 8]),
    codebooks=st.integers(1, 4),
    rows=st.integers(1, 3),
    frames=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_every_site_equals_a_plain_hook_bit_for_bit(
    layers: int, heads: int, head_dim: int, codebooks: int, rows: int, frames: int, seed: int
) -> None:
    musicgen = random_musicgen(layers, heads, heads * head_dim, seed=seed, n_codebooks=codebooks)
    untouched = copy.deepcopy(musicgen.lm)
    model = MusicGen(musicgen)
    tokens, conditions = inputs(model, rows, frames, seed)
    expected, logits = plain_hooks(untouched, tokens, conditions)
    result = model.forward(tokens, conditions, read=select_sites("all", model.shape))
    assert set(result.values) == set(expected)
    for site, value in result.values.items():
        assert torch.equal(value, expected[site]), site
    assert result.logits is not None
    assert torch.equal(result.logits, logits)


def test_what_the_blocks_add_is_what_the_residual_gains(tiny_lm_model: MusicGen) -> None:
    tokens, conditions = inputs(tiny_lm_model, 2, 12)
    result = tiny_lm_model.forward(tokens, conditions, read=select_sites("all", tiny_lm_model.shape))
    at = {str(site): value for site, value in result.values.items()}
    before = at["embed"]
    for layer in range(3):
        after = before + at[f"L{layer}.attn"]
        after = after + at[f"L{layer}.cross"]
        after = after + at[f"L{layer}.mlp"]
        assert torch.equal(after, at[f"L{layer}.resid"])
        before = after


def test_changes_equal_those_of_plain_hooks(tiny_lm_model: MusicGen) -> None:
    model = tiny_lm_model
    untouched = random_musicgen(3, 4, 32, seed=1).lm
    tokens, conditions = inputs(model, 2, 10)
    push = torch.randn(32, generator=torch.Generator().manual_seed(3))

    def shift(x: Tensor) -> None:
        x[:, -1, 2] += push[:8]

    def stretch(x: Tensor) -> Tensor:
        return x + push

    result = model.forward(
        tokens, conditions, visit={("resid", 1): stretch, ("cross_heads", 2): shift, ("heads", 0): shift}
    )

    def pre_hook(module: Any, args: Any) -> Any:
        x = args[0].clone()
        x[:, -1, 16:24] += push[:8]
        return (x, *args[1:])

    layers: Any = untouched.transformer.layers
    layers[0].self_attn.out_proj.register_forward_pre_hook(pre_hook)
    layers[2].cross_attention.out_proj.register_forward_pre_hook(pre_hook)
    layers[1].register_forward_hook(lambda module, args, output: output + push)
    with torch.no_grad():
        expected = untouched(tokens, [], conditions)
        plain = model.lm(tokens, [], conditions)
    assert torch.equal(result.logits, expected)
    assert not torch.equal(result.logits, plain)


def test_read_gives_what_the_model_goes_on_with(tiny_lm_model: MusicGen) -> None:
    tokens, conditions = inputs(tiny_lm_model, 1, 5)
    result = tiny_lm_model.forward(
        tokens, conditions, read=["L1.H2", "L0.mlp"], visit={("heads", 1): lambda x: torch.zeros_like(x)}
    )
    assert not result.values[Site("heads", 1, 2)].any()
    assert result.values[Site("mlp", 0)].any()


def test_a_visitor_that_does_nothing_changes_no_logit(tiny_lm_model: MusicGen) -> None:
    tokens, conditions = inputs(tiny_lm_model, 2, 7)
    plain = tiny_lm_model.forward(tokens, conditions).logits
    seen: list[tuple[int, ...]] = []
    for kind in ("embed", "heads", "attn", "cross_heads", "cross", "mlp", "resid"):
        place: Any = (kind, -1 if kind == "embed" else 1)
        visited = tiny_lm_model.forward(tokens, conditions, visit={place: lambda x: seen.append(tuple(x.shape))})
        assert torch.equal(plain, visited.logits)
    steps = tokens.shape[-1]
    assert seen[1] == seen[3] == (2, steps, 4, 8)
    assert {seen[i] for i in (0, 2, 4, 5, 6)} == {(2, steps, 32)}


def test_a_pass_that_needs_no_logits_stops_early(tiny_lm_model: MusicGen) -> None:
    tokens, conditions = inputs(tiny_lm_model, 2, 7)
    calls: list[int] = []
    handle = tiny_lm_model.lm.transformer.layers[2].norm1.register_forward_hook(lambda *_: calls.append(1))
    try:
        short = tiny_lm_model.forward(tokens, conditions, read=["L1.resid"], logits=False)
        assert short.logits is None
        assert not calls
        full = tiny_lm_model.forward(tokens, conditions, read=["L1.resid"])
        assert calls
    finally:
        handle.remove()
    assert torch.equal(short.values[Site("resid", 1)], full.values[Site("resid", 1)])


def test_streaming_step_by_step_equals_audiocraft(tiny_lm_model: MusicGen) -> None:
    model = tiny_lm_model
    tokens, conditions = inputs(model, 2, 8)
    with torch.no_grad(), model.lm.streaming():
        expected = [model.lm(part, [], conditions) for part in tokens.split([4] + [1] * 8, -1)]
    with model.streaming():
        found = [
            model.forward(part, conditions, read=["L2.H0"], visit={("resid", 0): lambda x: None})
            for part in tokens.split([4] + [1] * 8, -1)
        ]
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.logits, other)
    # After the block nothing is remembered: a plain pass is what it was.
    assert torch.equal(model.forward(tokens, conditions).logits, model.forward(tokens, conditions).logits)
    assert not any(module._is_streaming for module in model.lm.modules() if hasattr(module, "_is_streaming"))


def test_free_tracing_reads_and_writes_heads(tiny_lm_model: MusicGen) -> None:
    model = tiny_lm_model
    tokens, conditions = inputs(model, 2, 6)
    with model.trace(tokens, [], conditions):
        read = model.heads[0][:, :, 3].clone().save()
        model.heads[1][:, :, 2] = 0
        model.cross_heads[2][:, -1] *= 2
        late = model.resid[2].save()
        logits = model.output.save()
    same = model.forward(
        tokens,
        conditions,
        read=["L0.H3", "L2.resid"],
        visit={("heads", 1): _zero_head_2, ("cross_heads", 2): _double_last},
    )
    assert torch.equal(read, same.values[Site("heads", 0, 3)])
    assert torch.equal(late, same.values[Site("resid", 2)])
    assert torch.equal(logits, same.logits)
    assert not torch.equal(logits, model.forward(tokens, conditions).logits)


def test_sites_by_name_and_by_layer_are_written_like_visitors_write_them(tiny_lm_model: MusicGen) -> None:
    model = tiny_lm_model
    tokens, conditions = inputs(model, 2, 6)
    push = torch.randn(32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with model.trace(tokens, conditions=conditions):
        before = model["L0.H1"].save()
        model["L0.H1"] = 0
        model["L0.H2"] += push[:8]
        model.attn[0] = model.attn[0] + push
        model.resid[0] += push
        model["L1.X.H3"] = push[:8]
        model["L1.mlp"] = 0.5
        last = model.resid[-1].save()
        logits = model.output.save()

    def heads(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, :, 1] = 0
        x[:, :, 2] += push[:8].float()
        return x

    def crossed(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, :, 3] = push[:8].float()
        return x

    same = model.forward(
        tokens,
        conditions,
        read=["L2.resid"],
        visit={
            ("heads", 0): heads,
            ("attn", 0): lambda x: x + push.float(),
            ("resid", 0): lambda x: x + push.float(),
            ("cross_heads", 1): crossed,
            ("mlp", 1): lambda x: torch.full_like(x, 0.5),
        },
    )
    assert torch.allclose(logits, same.logits, atol=1e-6)
    assert torch.allclose(last, same.values[Site("resid", 2)], atol=1e-6)
    assert before.abs().max() > 0  # what was read and saved before a write by name stays what it was
    assert len(model.heads) == 3 and "each [rows, positions, 4, 8]" in repr(model.heads)


def test_what_is_written_takes_the_dtype_of_the_place() -> None:
    model = MusicGen(random_musicgen(2, 2, 16, dtype=torch.bfloat16))
    tokens, _ = inputs(model, 1, 4)
    with model.trace(tokens):
        model.resid[0] = model.resid[0].float() + 1.0
        model["L1.H0"] = torch.ones(8, dtype=torch.float64)
        after = model.resid[1].save()
    assert after.dtype == torch.bfloat16


@pytest.mark.parametrize("texts", ["a", ["a", "b"], None])
def test_a_trace_hears_tokens_codes_audio_or_a_text(tiny_lm_model: MusicGen, texts: Any) -> None:
    model = tiny_lm_model
    audio = 0.3 * torch.randn(2, 1, 4800, generator=torch.Generator().manual_seed(0))
    codes = model.encode(audio, 16000)
    expected = model.predict(codes, texts, read=["L1.resid"]).values[Site("resid", 1)]
    with model.trace(model.sequence(codes)[0][..., :-1], text=texts):
        tokens = model.resid[1].save()
    with model.trace(codes=codes, text=texts):
        by_codes = model.resid[1].save()
    with model.trace(audio=audio, sample_rate=16000, text=texts):
        by_audio = model.resid[1].save()
    for value in (tokens, by_codes, by_audio):
        assert torch.equal(value, expected)
    with model.trace(texts):
        from_text = model.resid[1].save()
    start = torch.full((2 if isinstance(texts, list) else 1, 4, 1), model.cardinality)
    assert torch.equal(from_text, model.forward(start, text=texts, read=["L1.resid"]).values[Site("resid", 1)])
    with model.trace(audio=Clip("x", audio[0].numpy(), 16000), text=texts if isinstance(texts, str) else None):
        clip = model.resid[1].save()
    if not isinstance(texts, list):
        assert torch.allclose(clip, expected[:1], atol=1e-6)


def test_several_inputs_share_a_trace(tiny_lm_model: MusicGen) -> None:
    model = tiny_lm_model
    tokens, _ = inputs(model, 2, 6)
    with model.trace() as tracer:
        with tracer.invoke("a"):
            first = model.heads[1].save()
        with tracer.invoke(tokens, text="b"):
            model.resid[0] += 1
            second = model.heads[1].save()
        with tracer.invoke():
            everything = model.heads[1].save()
    alone = model.forward(tokens, text="b", read=["L1.H2"], visit={("resid", 0): lambda x: x + 1})
    assert first.shape[0] == 1 and everything.shape == (3, tokens.shape[-1], 4, 8)
    assert torch.allclose(second[:, :, 2], alone.values[Site("heads", 1, 2)], atol=1e-6)


def test_wrong_inputs_and_places_of_a_trace_get_one_sentence(tiny_lm_model: MusicGen) -> None:
    model = tiny_lm_model
    tokens, conditions = inputs(model, 2, 6)
    codes = torch.zeros(2, 4, 6, dtype=torch.long)
    noise = torch.zeros(1, 16000)
    for arguments, options, error, sentence in (
        ((tokens,), {"text": ["a"]}, ModelError, "2 rows of tokens need 2 texts, one a row, not 1"),
        ((tokens, [], model.conditions(["a"] * 3)), {}, ModelError, "need 2 texts, one a row, not 3"),
        ((codes,), {}, ModelError, "do not begin with the start token: give codes as trace"),
        ((tokens.float(),), {}, ModelError, r"tokens are long \[rows, 4, positions\], not torch.float32"),
        ((tokens[:, :3],), {}, ModelError, r"not torch.int64 \[2, 3, 10\]"),
        ((tokens,), {"codes": codes}, ModelError, "either tokens or codes"),
        (("a",), {"text": "b"}, ModelError, "a trace takes one text"),
        ((tokens, ["a", "b"]), {}, ModelError, "give texts as text="),
        ((), {"audio": noise}, ClipError, "how many samples a second"),
        ((tokens,), {"audio": noise, "sample_rate": 16000}, ClipError, "not several"),
        ((), {"audio": noise.repeat(1, 31), "sample_rate": 16000}, ClipError, "31.0 s long, but .* at most 30 s"),
        ((tokens,), {"txt": "a"}, TypeError, "txt"),
    ):
        with pytest.raises(error, match=sentence), model.trace(*arguments, **options):
            _ = model.output.save()
    with pytest.raises(SiteError, match="no resid of layer 3: the model has layers 0 to 2"), model.trace(tokens):
        _ = model.resid[3].save()
    with pytest.raises(SiteError, match=r"no site L0\.H4"), model.trace(tokens):
        model["L0.H4"] = 0
    with pytest.raises(SiteError, match="resid of layer 0 had been computed"), model.trace(tokens):
        late = model.resid[1].mean()
        model.resid[0] = late
    with pytest.raises(SiteError, match=r"resid of layer 0 takes \[2, 10, 32\], not \[5\]"), model.trace(tokens):
        model.resid[0] = torch.zeros(5)
    with pytest.raises(SiteError, match="inside a trace only"):
        _ = model.resid[0]
    with pytest.raises(ModelError, match="need 2 texts"):
        model.forward(tokens, model.conditions(["a"]))
    with pytest.raises(ModelError, match="need 2 texts"):
        model.predict(codes, ["a", "b", "c"])
    assert torch.equal(model.forward(tokens, conditions).logits, model.forward(tokens, conditions).logits)


def test_one_text_is_one_row(tiny_lm_model: MusicGen) -> None:
    ((one, _),), ((many, _),) = (tiny_lm_model.conditions(t).values() for t in ("jazz", ["jazz", None]))
    assert one.shape[0] == 1 and torch.allclose(one[0], many[0], atol=1e-6)
    assert tiny_lm_model.condition_lengths("jazz") == [1]


def test_predictions_are_audiocrafts_and_their_gradients_those_of_plain_autograd(tiny_lm_model: MusicGen) -> None:
    model = tiny_lm_model
    untouched = random_musicgen(3, 4, 32, seed=1).lm.requires_grad_(False)
    codes = torch.randint(32, (2, 4, 7), generator=torch.Generator().manual_seed(4))
    conditions = model.conditions(["a", None])
    expected = untouched.compute_predictions(codes, [], conditions, keep_only_valid_steps=False)
    leaf: list[Tensor] = []

    def open_graph(x: Tensor) -> Tensor:
        leaf.append(x.detach().requires_grad_(True))
        return leaf[-1]

    made = model.predict(codes, conditions=conditions, visit={("heads", 1): open_graph}, grad=True)
    assert made.logits is not None and torch.allclose(made.logits, expected.logits, atol=1e-6)
    (gradient,) = torch.autograd.grad(made.logits.logsumexp(-1).sum(), leaf)

    def hook(module: Any, args: Any) -> Any:
        leaf.append(args[0].detach().requires_grad_(True))
        return (leaf[-1], *args[1:])

    layers: Any = untouched.transformer.layers
    layers[1].self_attn.out_proj.register_forward_pre_hook(hook)
    plain = untouched.compute_predictions(codes, [], conditions, keep_only_valid_steps=False).logits
    (by_hand,) = torch.autograd.grad(plain.logsumexp(-1).sum(), leaf[-1:])
    assert gradient.abs().max() > 0
    assert torch.allclose(gradient.flatten(2), by_hand[:, :-1], atol=1e-6)  # audiocraft feeds the last step as well
    assert not by_hand[:, -1].any()
    assert not model.predict(codes).logits.requires_grad


def _zero_head_2(x: Tensor) -> None:
    x[:, :, 2] = 0


def _double_last(x: Tensor) -> None:
    x[:, -1] *= 2


def test_what_a_visitor_raises_comes_out_and_leaves_the_model_clean(tiny_lm_model: MusicGen) -> None:
    tokens, conditions = inputs(tiny_lm_model, 1, 4)
    before = tiny_lm_model.forward(tokens, conditions).logits

    def fail(x: Tensor) -> None:
        raise RuntimeError("out of tune")

    with pytest.raises(RuntimeError, match="out of tune"), tiny_lm_model.streaming():
        tiny_lm_model.forward(tokens, conditions, visit={("attn", 1): fail})
    assert torch.equal(tiny_lm_model.forward(tokens, conditions).logits, before)


@pytest.mark.parametrize("place", [("heads", 3), ("resid", -1), ("nothing", 0)])
def test_a_place_that_is_not_there_is_named(tiny_lm_model: MusicGen, place: Any) -> None:
    tokens, conditions = inputs(tiny_lm_model, 1, 4)
    with pytest.raises(SiteError, match="cannot visit"):
        tiny_lm_model.forward(tokens, conditions, visit={place: lambda x: None})
    with pytest.raises(SiteError, match="layers 0 to 2"):
        tiny_lm_model.forward(tokens, conditions, read=["L99.H3"])


def test_the_sequence_is_what_generation_feeds(tiny_lm_model: MusicGen) -> None:
    model = tiny_lm_model
    prompt = torch.randint(model.cardinality, (2, 4, 6), generator=torch.Generator().manual_seed(0))
    fed: list[Tensor] = []
    handle = model.lm.register_forward_pre_hook(lambda module, args: fed.append(args[0][:2].clone()))
    try:
        musicgen = model.audiocraft
        musicgen.set_generation_params(use_sampling=False, duration=10 / 50)
        attributes, _ = musicgen._prepare_tokens_and_attributes(["drums", "piano"], None)
        generated = musicgen._generate_tokens(attributes, prompt)
    finally:
        handle.remove()
    tokens, mask = model.sequence(generated)
    assert torch.equal(torch.cat(fed, -1), tokens[..., :-1])
    # A prompt of T frames is fed as far as its last frame's first codebook.
    assert fed[0].shape[-1] == int(model.frame_steps(6)[-1]) + 1
    assert torch.equal(tokens[:, 0, model.frame_steps(10)], generated[:, 0])
    assert bool((tokens == model.cardinality).eq(~mask).all())
    assert torch.equal(generated[:, :, :6], prompt)


def test_nothing_of_nnsight_is_overridden_by_accident(tiny_lm_model: MusicGen) -> None:
    theirs = {name for base in TracedLM.__mro__[1:-1] for name in vars(base) if not name.startswith("__")}
    ours = set(vars(MusicGen)) | set(vars(TracedLM))
    assert theirs & ours == {"device", "interleave", "_batch", "_batch_size"}
    assert not theirs & set(vars(tiny_lm_model))


def test_attention_whose_heads_cannot_be_read_is_refused() -> None:
    with pytest.raises(ModelError, match="heads of this LM cannot be read"):
        MusicGen(random_musicgen(1, 2, 8, memory_efficient=False))


def test_attention_written_out_by_audiocraft_can_be_read() -> None:
    model = MusicGen(random_musicgen(1, 2, 8, memory_efficient=False, custom=True))
    tokens, conditions = inputs(model, 1, 4)
    assert model.forward(tokens, conditions, read=["L0.H1"]).values[Site("heads", 0, 1)].shape == (1, 8, 4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_reads_in_half_precision(dtype: torch.dtype) -> None:
    model = MusicGen(random_musicgen(2, 2, 16, dtype=dtype))
    tokens, conditions = inputs(model, 1, 4)
    assert model.forward(tokens, conditions, read=["L1.H1"]).values[Site("heads", 1, 1)].dtype == dtype


# What goes through the one forward pass, against plain hooks on an LM that nnsight never saw ----------------------


@contextlib.contextmanager
def hooked_by_hand(lm: LMModel, edits: dict[Site, Any]) -> Iterator[None]:
    """Replace activations ``[rows, positions, dim]`` of residual sites and heads with PyTorch's own hooks."""
    layers: Any = lm.transformer.layers
    handles = []

    def head(site: Site, edit: Any) -> Any:
        def hook(module: Any, args: Any) -> Any:
            x = args[0].unflatten(-1, (4, 8))
            parts = list(x.unbind(2))
            parts[site.head or 0] = edit(parts[site.head or 0])
            return (torch.stack(parts, 2).flatten(2), *args[1:])

        return hook

    for site, edit in edits.items():
        layer = layers[site.layer]
        if site.kind == "heads":
            handles.append(layer.self_attn.out_proj.register_forward_pre_hook(head(site, edit)))
        else:
            handles.append(layer.register_forward_hook(lambda module, args, output, edit=edit: edit(output)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def hand_logits(lm: LMModel, codes: Tensor, conditions: Any, edits: dict[Site, Any]) -> Tensor:
    """Teacher-forced logits by audiocraft's own function, with edits by plain hooks."""
    with hooked_by_hand(lm, edits):
        logits: Tensor = lm.compute_predictions(codes, [], conditions, keep_only_valid_steps=False).logits
    return logits


@pytest.fixture
def untouched() -> LMModel:
    """The weights of ``tiny_lm_model`` in an LM without nnsight."""
    return random_musicgen(3, 4, 32, seed=1).lm.requires_grad_(False)


@pytest.fixture
def music() -> Tensor:
    return torch.randint(32, (3, 4, 9), generator=torch.Generator().manual_seed(5))


def test_forced_logits_equal_plain_hooks(tiny_lm_model: MusicGen, untouched: LMModel, music: Tensor) -> None:
    rng = np.random.default_rng(0)
    push = {"L0.H1": rng.standard_normal(8), "L1.resid": rng.standard_normal(32)}
    directions = Directions(Direction.from_weight(site, vector) for site, vector in push.items())
    items = (Add(directions, strength=0.7),)
    made = forced_logits(tiny_lm_model, music, ["a"] * 3, guidance=2.0, interventions=[items] * 3)
    shifts = {d.site: torch.tensor(0.7 * d.vector, dtype=torch.float32) for d in directions}
    edits = {site: lambda x, shift=shift: x + shift for site, shift in shifts.items()}
    with torch.no_grad():
        cond, uncond = (
            hand_logits(untouched, music, tiny_lm_model.conditions([text] * 3), edits) for text in ("a", None)
        )
    assert torch.allclose(made, uncond + 2.0 * (cond - uncond), atol=1e-4)
    assert not torch.allclose(made, forced_logits(tiny_lm_model, music, ["a"] * 3, guidance=2.0), atol=1e-2)


@pytest.mark.parametrize("method", ["ablate", "attribution"])
def test_causal_effects_equal_plain_hooks(
    tiny_lm_model: MusicGen, untouched: LMModel, music: Tensor, method: Any
) -> None:
    sites = [Site("heads", 0, 2), Site("heads", 2, 1), Site("resid", 1)]
    table = causal_ranking(tiny_lm_model, music, "a", sites=sites, method=method, baseline="zero", batch_size=3)
    conditions = tiny_lm_model.conditions(["a"] * 3)

    def measured(edits: dict[Site, Any]) -> Tensor:
        return code_log_likelihood(hand_logits(untouched, music, conditions, edits), music)

    for site in sites:
        if method == "ablate":
            with torch.no_grad():
                expected = measured({site: torch.zeros_like}) - measured({})
        else:
            kept: list[Tensor] = []

            def keep(x: Tensor, kept: list[Tensor] = kept) -> Tensor:
                kept.append(x.detach().requires_grad_(True))
                return kept[-1]

            value = measured({site: keep})
            (gradient,) = torch.autograd.grad(value.sum(), kept)
            expected = (-kept[0] * gradient).sum((1, 2)).detach()
        effect = table.set_index("site")["effect"][str(site)]
        assert effect == pytest.approx(float(expected.mean()), abs=2e-6)
        assert abs(effect) > 1e-5


def test_activations_read_under_an_ablation_equal_plain_hooks(
    tiny_lm_model: MusicGen, untouched: LMModel, music: Tensor
) -> None:
    sites = [Site("resid", 0), Site("resid", 2)]
    found = read_under(tiny_lm_model, music, (Ablate.zero(["L1.H3"], on="all"),), sites, batch_size=2)
    kept: dict[Site, Tensor] = {}

    def keep(site: Site) -> Any:
        return lambda x: kept.setdefault(site, x)

    tokens = tiny_lm_model.sequence(music)[0][..., :-1]
    edits = {Site("heads", 1, 3): torch.zeros_like} | {site: keep(site) for site in sites}
    with torch.no_grad(), hooked_by_hand(untouched, edits):
        untouched(tokens, [], tiny_lm_model.conditions([None] * 3))
    for i, site in enumerate(sites):
        assert np.allclose(found[i], kept[site].mean(1).numpy(), atol=1e-5)


def test_the_seams_own_hooks_equal_traces(tiny_lm_model: MusicGen, music: Tensor) -> None:
    """Every place, read and replaced through :func:`~interp.backends.audiocraft.hooked`, to the bit."""
    model = tiny_lm_model
    tokens, conditions = model.sequence(music)[0][..., :-1], model.conditions(["a"] * 3)
    places: list[Any] = [(kind, -1 if kind == "embed" else 1) for kind in PLACES]
    for place in places:
        seen: list[Tensor] = []

        def shrink(x: Tensor, seen: list[Tensor] = seen) -> Tensor:
            seen.append(x.clone())
            return x * 0.5

        with torch.no_grad(), hooked(model.lm, {place: shrink}):
            logits = model.lm(tokens, [], conditions)
        traced = model.forward(tokens, conditions, visit={place: shrink})
        assert torch.equal(logits, traced.logits) and torch.equal(seen[0], seen[1])
        assert not torch.equal(logits, model.forward(tokens, conditions).logits)
