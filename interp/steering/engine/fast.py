"""The fast engine: audiocraft's weights, a preallocated cache, every edit in line.

audiocraft's streaming attention copies all keys and values at every step and projects the text anew; with hundreds of
rows of a small model most of the time goes there. This engine computes the same function with a cache that is written
in place, a prompt that is computed once for all rows that share it, and text that is projected once. Tests hold its
tokens against the other engines'; checkpoints with settings it does not know run on plain hooks instead.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from interp.backends.audiocraft import first_position, sinusoids
from interp.model import MusicGen
from interp.steering.engine.reference import Batch, Session
from interp.steering.ops import Half, Key

__all__ = ["FastEngine", "unsupported"]

# Matrix products of a row come out the same to the last bit whatever its neighbours only from a few rows per thread
# on, so small batches are filled up with copies of their last row.
_MULTIPLE = 4
_CHUNK_POSITIONS = 8192


def unsupported(model: MusicGen) -> str | None:
    """Why the fast engine cannot run this checkpoint, or None if it can."""
    transformer: Any = model.lm.transformer
    for name, module in model.lm.named_modules():
        hooked = module._forward_hooks or module._forward_pre_hooks
        if hooked and not name.startswith("condition_provider"):  # of the LM proper, this engine calls no module
            return f"{name or 'the LM'} carries a hook of PyTorch's"
    if transformer.positional_embedding != "sin":
        return "its positions are not sinusoidal"
    for method, names in model.lm.fuser.fuse2cond.items():
        if method != "cross" and names:
            return f"its conditions are fused by {method}"
    for layer in transformer.layers:
        if not layer.norm_first:
            return "its norms come after the blocks"
        for attention in (layer.self_attn, layer.cross_attention):
            if attention is None:
                continue
            if not attention.custom or attention.qk_layer_norm or attention.kv_repeat != 1:
                return "its attention has settings that MusicGen's does not have"
        if layer.self_attn.past_context is not None or not layer.self_attn.causal:
            return "its attention does not see all of the past"
    return None


class FastEngine:
    """See the module."""

    name = "fast"

    def __init__(self, model: MusicGen) -> None:
        self.model = model
        lm: Any = model.lm
        self.lm = lm
        self.layers: list[Any] = list(lm.transformer.layers)
        self.embeddings = [table.weight for table in lm.emb]
        self.readout = torch.cat([linear.weight for linear in lm.linears])
        biases = [linear.bias for linear in lm.linears if linear.bias is not None]
        self.readout_bias = torch.cat(biases) if biases else None
        self.compiled = model.device.type == "cpu" and model.dtype == torch.float32

    def positions(self, n: int) -> Tensor:
        """Sinusoidal position embeddings ``[n, width]``, as the LM adds them: made in float32, then cast."""
        positions = torch.arange(n, device=self.model.device) + first_position(self.lm)
        return sinusoids(self.lm.transformer, positions).to(self.embeddings[0].dtype)

    @contextlib.contextmanager
    def session(self, batch: Batch) -> Iterator[Session]:
        with torch.no_grad(), self.model.autocast():
            yield _FastSession(self, batch)


def _norm(norm: Any, x: Tensor) -> Tensor:
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


class _FastSession:
    def __init__(self, engine: FastEngine, batch: Batch) -> None:
        self.engine, self.batch, self.edits = engine, batch, batch.edits
        model = engine.model
        self.shape, self.device = model.shape, model.device
        self.rows = batch.edits.n
        self.half: Half = "cond" if batch.uncond is None else "both"
        self.n = self.rows * (1 if batch.uncond is None else 2)
        multiple = _MULTIPLE * torch.get_num_threads() if self.device.type == "cpu" else 1
        self.padded = math.ceil(self.n / multiple) * multiple
        self.spread = torch.arange(self.padded, device=self.device).clamp(max=self.n - 1)
        self.table = engine.positions(batch.positions)
        self.fed = 0
        self.attention: _Attention = (_CompiledAttention if engine.compiled else _TorchAttention)(self)
        self.keys = set(self.edits.keys)
        self._cross()

    # Text ------------------------------------------------------------------------------------------------------

    def _cross(self) -> None:
        """Project every different text once; where a text is one token, its attention is the value itself."""
        batch = self.batch
        if not self.shape.cross_attention:
            return
        texts = list(dict.fromkeys(batch.text_of))
        firsts = torch.tensor([batch.text_of.index(text) for text in texts], device=self.device)
        source = self._source(batch.cond, firsts)
        place = {text: i for i, text in enumerate(texts)}
        of = [place[text] for text in batch.text_of]
        if batch.uncond is not None:
            source = torch.cat([source, self._source(batch.uncond, firsts[:1])])
            of += [len(texts)] * self.rows
        of += [of[-1]] * (self.padded - self.n)
        self.text_of = torch.tensor(of, device=self.device)
        self.text_constant: list[Tensor | None] = []
        self.text_heads: list[Tensor | None] = []
        width = self.shape.width
        for layer_index, layer in enumerate(self.engine.layers):
            cross = layer.cross_attention
            bias = cross.in_proj_bias
            key = F.linear(
                source,
                cross.in_proj_weight[width : 2 * width],
                None if bias is None else bias[width : 2 * width],
            )
            value = F.linear(source, cross.in_proj_weight[2 * width :], None if bias is None else bias[2 * width :])
            constant = heads = None
            if source.shape[1] == 1:
                heads = value[:, 0][self.text_of]
                if ("cross_heads", layer_index) not in self.keys:
                    constant = F.linear(heads, cross.out_proj.weight, cross.out_proj.bias)
                    if ("cross", layer_index) not in self.keys:
                        constant = layer.layer_scale_cross(constant)
            else:
                self.attention.set_text(key, value)
            self.text_heads.append(heads)
            self.text_constant.append(constant)

    def _source(self, conditions: Any, rows: Tensor) -> Tensor:
        some = {name: (value[rows], mask[rows]) for name, (value, mask) in conditions.items()}
        dummy = torch.zeros(len(rows), 1, self.shape.width, device=self.device, dtype=self.engine.model.dtype)
        _, source = self.engine.lm.fuser(dummy, some)
        return source.to(self.engine.model.dtype)  # type: ignore[no-any-return]

    # Feeding ---------------------------------------------------------------------------------------------------

    def feed(self, tokens: Tensor, start: int, want: bool = True) -> tuple[Tensor, Tensor | None]:
        if self.fed == 0 and (tokens.shape[-1] > 1 or not want):
            self._feed_prompt(tokens, start)
            return tokens[:, :0], None
        x = self._embed(torch.cat([tokens, tokens]) if self.half == "both" else tokens, self.spread)[:, 0]
        for index, layer in enumerate(self.engine.layers):
            x = self._layer(index, layer, x, start)
        self.fed += 1
        self.attention.advance()
        self.edits.end()
        logits = F.linear(_norm(self.engine.lm.out_norm, x), self.engine.readout, self.engine.readout_bias)
        logits = logits.view(len(x), len(self.engine.embeddings), -1)
        return logits[: self.rows], None if self.half == "cond" else logits[self.rows : self.n]

    def _embed(self, tokens: Tensor, rows: Tensor) -> Tensor:
        tokens = tokens[rows]
        x = self.engine.embeddings[0][tokens[:, 0]]
        for k in range(1, len(self.engine.embeddings)):
            x = x + self.engine.embeddings[k][tokens[:, k]]
        return x + self.table[self.fed : self.fed + tokens.shape[-1]]

    def _edit(self, key: Key, x: Tensor, start: int) -> Tensor:
        """Let the edits act on ``x [padded, width]``; the padding is left alone."""
        if key not in self.keys:
            return x
        if len(x) == self.n or self.edits.takes_padding(key):
            return self.edits.apply(key, x[:, None], start, self.half)[:, 0]
        edited = self.edits.apply(key, x[: self.n, None], start, self.half)[:, 0]
        return torch.cat([edited, x[self.n :]])

    def _layer(self, index: int, layer: Any, x: Tensor, start: int) -> Tensor:
        if index == 0:
            x = self._edit(("embed", -1), x, start)
        attention = layer.self_attn
        projected = F.linear(_norm(layer.norm1, x), attention.in_proj_weight, attention.in_proj_bias)
        heads = self._edit(("heads", index), self.attention.step(index, projected), start)
        added = layer.layer_scale_1(F.linear(heads, attention.out_proj.weight, attention.out_proj.bias))
        x = x + self._edit(("attn", index), added, start)
        if layer.cross_attention is not None:
            x = x + self._edit(("cross", index), self._cross_block(index, layer, x, start), start)
        hidden = F.linear(_norm(layer.norm2, x), layer.linear1.weight, layer.linear1.bias)
        added = layer.layer_scale_2(F.linear(layer.activation(hidden), layer.linear2.weight, layer.linear2.bias))
        x = x + self._edit(("mlp", index), added, start)
        return self._edit(("resid", index), x, start)

    def _cross_block(self, index: int, layer: Any, x: Tensor, start: int) -> Tensor:
        constant = self.text_constant[index]
        if constant is not None:
            return constant if ("cross", index) not in self.keys else layer.layer_scale_cross(constant)  # type: ignore[no-any-return]
        cross, width = layer.cross_attention, self.shape.width
        heads = self.text_heads[index]
        if heads is None:
            bias = None if cross.in_proj_bias is None else cross.in_proj_bias[:width]
            query = F.linear(_norm(layer.norm_cross, x), cross.in_proj_weight[:width], bias)
            heads = self.attention.text(index, query)
        heads = self._edit(("cross_heads", index), heads, start)
        added: Tensor = layer.layer_scale_cross(F.linear(heads, cross.out_proj.weight, cross.out_proj.bias))
        return added

    # Prompt ----------------------------------------------------------------------------------------------------

    def _feed_prompt(self, tokens: Tensor, start: int) -> None:
        """Fill the cache with the prompt's positions, once for all rows that share text, audio and edits."""
        n = tokens.shape[-1]
        batch = self.batch
        alone = self.edits.touches(start, start + n)
        owner: list[Any] = []
        for half in range(self.n // self.rows):
            for row in range(self.rows):
                shared = (half, None if half else batch.text_of[row], batch.audio_of[row])
                owner.append((half, row) if alone else shared)
        unique = list(dict.fromkeys(owner))
        place = {name: i for i, name in enumerate(unique)}
        prefix_of = [place[name] for name in owner]
        prefix_of += [prefix_of[-1]] * (self.padded - self.n)
        members = torch.tensor([owner.index(name) for name in unique], device=self.device)
        # enough positions at once for matrix products that do not depend on the number of rows
        members = members.repeat(math.ceil(16 * _MULTIPLE / (n * len(members))))
        self.attention.set_prefix(len(members), n, prefix_of)
        both = torch.cat([tokens, tokens]) if self.half == "both" else tokens
        if alone:
            x = self._embed_many(both, members)
            self._prompt_layers(x, members, 0, lambda key, x: self._edit_prompt(key, x, start))
        else:
            size = max(1, _CHUNK_POSITIONS // n)
            for first in range(0, len(members), size):
                some = members[first : first + size]
                self._prompt_layers(self._embed_many(both, some), some, first, lambda key, x: x)
        self.fed += n
        self.edits.end()

    def _embed_many(self, tokens: Tensor, rows: Tensor) -> Tensor:
        embedded = [table[tokens[rows][:, k]] for k, table in enumerate(self.engine.embeddings)]
        x = embedded[0]
        for more in embedded[1:]:
            x = x + more
        return x + self.table[: tokens.shape[-1]]

    def _edit_prompt(self, key: Key, x: Tensor, start: int) -> Tensor:
        if key not in self.keys:
            return x
        edited = self.edits.apply(key, x[: self.n], start, self.half)
        return edited if len(x) == self.n else torch.cat([edited, x[self.n :]])

    def _prompt_layers(self, x: Tensor, members: Tensor, first: int, edit: Callable[[Key, Tensor], Tensor]) -> None:
        n_heads, width = self.shape.n_heads, self.shape.width
        x = edit(("embed", -1), x)

        def split(t: Tensor) -> Tensor:
            return t.view(*t.shape[:2], n_heads, -1).transpose(1, 2)

        for index, layer in enumerate(self.engine.layers):
            attention = layer.self_attn
            projected = F.linear(_norm(layer.norm1, x), attention.in_proj_weight, attention.in_proj_bias)
            q, k, v = (split(t) for t in torch.split(projected, width, dim=-1))
            self.attention.fill_prefix(index, first, k, v)
            heads = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
            heads = edit(("heads", index), heads)
            added = layer.layer_scale_1(F.linear(heads, attention.out_proj.weight, attention.out_proj.bias))
            x = x + edit(("attn", index), added)
            if layer.cross_attention is not None:
                cross = layer.cross_attention
                text_heads = self.text_heads[index]
                if text_heads is not None:
                    heads = text_heads[members][:, None].expand_as(x)
                else:
                    bias = None if cross.in_proj_bias is None else cross.in_proj_bias[:width]
                    q = split(F.linear(_norm(layer.norm_cross, x), cross.in_proj_weight[:width], bias))
                    key, value = self.attention.text_of(index, self.text_of[members])
                    heads = F.scaled_dot_product_attention(q, key, value).transpose(1, 2).flatten(2)
                heads = edit(("cross_heads", index), heads)
                added = layer.layer_scale_cross(F.linear(heads, cross.out_proj.weight, cross.out_proj.bias))
                x = x + edit(("cross", index), added)
            hidden = F.linear(_norm(layer.norm2, x), layer.linear1.weight, layer.linear1.bias)
            added = layer.layer_scale_2(F.linear(layer.activation(hidden), layer.linear2.weight, layer.linear2.bias))
            x = edit(("resid", index), x + edit(("mlp", index), added))


class _Attention:
    """Cache and attention of one session; see the two implementations."""

    def __init__(self, session: _FastSession) -> None:
        self.session = session
        self.own = 0
        self.n_prefix = 0
        self.texts: list[tuple[Tensor, Tensor]] = []

    def set_text(self, key: Tensor, value: Tensor) -> None:
        """Keep the projected texts ``[texts, tokens, width]`` of the next layer."""
        heads = self.session.shape.n_heads
        split = [t.view(*t.shape[:2], heads, -1).transpose(1, 2).contiguous() for t in (key, value)]
        while len(self.texts) < len(self.session.text_heads):
            self.texts.append((split[0][:0], split[1][:0]))
        self.texts.append((split[0], split[1]))

    def text_of(self, index: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of texts, ``[rows, heads, tokens, dim]``."""
        return self.texts[index][0][rows], self.texts[index][1][rows]

    def set_prefix(self, prefixes: int, positions: int, prefix_of: list[int]) -> None:
        raise NotImplementedError

    def fill_prefix(self, index: int, first: int, keys: Tensor, values: Tensor) -> None:
        raise NotImplementedError

    def step(self, index: int, projected: Tensor) -> Tensor:
        """Heads ``[rows, width]`` of the next position, from its projected query, key and value."""
        raise NotImplementedError

    def text(self, index: int, query: Tensor) -> Tensor:
        """Cross-attention heads ``[rows, width]``."""
        raise NotImplementedError

    def advance(self) -> None:
        self.own += 1


class _CompiledAttention(_Attention):
    """numba kernel over caches ``[rows, heads, dim, positions]`` and ``[rows, heads, positions, dim]``."""

    def __init__(self, session: _FastSession) -> None:
        super().__init__(session)
        from interp.steering.engine import attend as _attend

        self.kernel = _attend
        shape, layers = session.shape, session.shape.n_layers
        self.shape = (shape.n_heads, shape.head_dim)
        self.keys: list[Any] = [None] * layers
        self.values: list[Any] = [None] * layers
        nothing = np.zeros((1, shape.n_heads, shape.head_dim, 0), dtype=np.float32)
        self.prefix_keys: list[Any] = [nothing] * layers
        self.prefix_values: list[Any] = [nothing.transpose(0, 1, 3, 2).copy()] * layers
        self.prefix_of = np.zeros(session.padded, dtype=np.int64)
        self.text_keys: dict[int, Any] = {}

    def set_prefix(self, prefixes: int, positions: int, prefix_of: list[int]) -> None:
        heads, dim = self.shape
        self.n_prefix = positions
        self.prefix_of = np.array(prefix_of, dtype=np.int64)
        for index in range(len(self.keys)):
            self.prefix_keys[index] = np.empty((prefixes, heads, dim, positions), dtype=np.float32)
            self.prefix_values[index] = np.empty((prefixes, heads, positions, dim), dtype=np.float32)

    def fill_prefix(self, index: int, first: int, keys: Tensor, values: Tensor) -> None:
        stop = first + len(keys)
        self.prefix_keys[index][first:stop] = keys.transpose(2, 3).numpy()
        self.prefix_values[index][first:stop] = values.numpy()

    def step(self, index: int, projected: Tensor) -> Tensor:
        session = self.session
        heads, dim = self.shape
        if self.keys[index] is None:
            room = session.batch.positions - self.n_prefix
            self.keys[index] = np.empty((session.padded, heads, dim, room), dtype=np.float32)
            self.values[index] = np.empty((session.padded, heads, room, dim), dtype=np.float32)
        out = np.empty((session.padded, heads, dim), dtype=np.float32)
        self.kernel.step(
            projected.view(session.padded, 3, heads, dim).numpy(),
            self.prefix_keys[index],
            self.prefix_values[index],
            self.prefix_of,
            self.n_prefix,
            self.keys[index],
            self.values[index],
            self.own,
            out,
        )
        return torch.from_numpy(out).view(session.padded, -1)

    def text(self, index: int, query: Tensor) -> Tensor:
        session = self.session
        if index not in self.text_keys:
            key, value = self.texts[index]
            self.text_keys[index] = (key.transpose(2, 3).contiguous().numpy(), value.numpy())
            self.text_rows = session.text_of.numpy()
        out = np.empty((session.padded, *self.shape), dtype=np.float32)
        keys, values = self.text_keys[index]
        self.kernel.attend(
            query.view(session.padded, *self.shape).numpy(),
            keys,
            values,
            self.text_rows,
            keys.shape[-1],
            keys[:0],
            values[:0],
            0,
            out,
        )
        return torch.from_numpy(out).view(session.padded, -1)


class _TorchAttention(_Attention):
    """torch's attention over caches ``[rows, heads, positions, dim]``: any device and dtype."""

    def __init__(self, session: _FastSession) -> None:
        super().__init__(session)
        layers = session.shape.n_layers
        self.keys: list[Any] = [None] * layers
        self.values: list[Any] = [None] * layers
        self.prefix: list[Any] = [None] * layers
        self.prefix_of = torch.zeros(session.padded, dtype=torch.long, device=session.device)

    def set_prefix(self, prefixes: int, positions: int, prefix_of: list[int]) -> None:
        self.n_prefix, self.prefixes = positions, prefixes
        self.prefix_of = torch.tensor(prefix_of, device=self.session.device)

    def fill_prefix(self, index: int, first: int, keys: Tensor, values: Tensor) -> None:
        if self.prefix[index] is None:
            size = (self.prefixes, *keys.shape[1:])
            self.prefix[index] = (keys.new_empty(size), values.new_empty(size))
        self.prefix[index][0][first : first + len(keys)] = keys
        self.prefix[index][1][first : first + len(keys)] = values

    def step(self, index: int, projected: Tensor) -> Tensor:
        session = self.session
        q, k, v = projected.view(session.padded, 3, session.shape.n_heads, -1).unbind(1)
        if self.keys[index] is None:
            size = (session.padded, session.shape.n_heads, session.batch.positions, session.shape.head_dim)
            self.keys[index], self.values[index] = k.new_empty(size), v.new_empty(size)
            if self.n_prefix:
                keys, values = self.prefix[index]
                self.keys[index][:, :, : self.n_prefix] = keys[self.prefix_of]
                self.values[index][:, :, : self.n_prefix] = values[self.prefix_of]
                self.prefix[index] = None
        at = self.n_prefix + self.own
        self.keys[index][:, :, at], self.values[index][:, :, at] = k, v
        keys, values = self.keys[index][:, :, : at + 1], self.values[index][:, :, : at + 1]
        return F.scaled_dot_product_attention(q[:, :, None], keys, values).flatten(1)

    def text(self, index: int, query: Tensor) -> Tensor:
        session = self.session
        q = query.view(session.padded, session.shape.n_heads, 1, -1)
        keys, values = self.text_of(index, session.text_of)
        return F.scaled_dot_product_attention(q, keys, values).flatten(1)
