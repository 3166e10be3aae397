"""A decoder with mixture-of-experts layers whose experts somebody else runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from moe2opt.executor.model.experts import Experts, Weights, feed_forward
from moe2opt.executor.model.families import ModelSpec
from moe2opt.result import BoolArray

if TYPE_CHECKING:
    from torch import Tensor

#: Called with the layer (-1 before the first, n_layers after the last), the part (embed, attention,
#: router, experts, dense, head) and its seconds.
OnLayer = Callable[[int, str, float], None]

_LEAST_ROOM = 64


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """The weights of a layer that are not routed experts.

    Attributes
    ----------
    tensors
        By short name: ``input_norm``, ``post_norm``, ``q``, ``k``, ``v``, ``o``, and where the
        model has them ``q_bias``, ``k_bias``, ``v_bias``, ``o_bias``, ``q_norm``, ``k_norm``,
        ``router`` (E, d), ``shared_gate`` (1, d).
    dense
        Feed-forward part that every token passes: a shared expert, or all there is.
    alive
        ``(E,)`` bool, experts that the router may choose; None for all.
    """

    tensors: Weights
    dense: Weights | None = None
    alive: Tensor | None = None


@dataclass(slots=True, eq=False)
class Cache:
    """Keys and values of the tokens so far; grows as needed.

    Attributes
    ----------
    length
        Tokens held.
    keys, values
        By layer ``(B, heads, room, head_dim)``.
    """

    length: int = 0
    keys: dict[int, Tensor] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)

    def extended(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store the keys and values of new tokens; return those of all tokens."""
        end = self.length + key.shape[2]
        for held, new in ((self.keys, key), (self.values, value)):
            if layer not in held or held[layer].shape[2] < end:
                held[layer] = self._moved(held.get(layer), new, end)
            held[layer][:, :, self.length : end] = new
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def _moved(self, old: Tensor | None, new: Tensor, end: int) -> Tensor:
        """Return larger storage with the old content."""
        batch, heads, _, width = new.shape
        room = new.new_zeros((batch, heads, max(_LEAST_ROOM, 2 * end), width))
        if old is not None:
            room[:, :, : self.length] = old[:, :, : self.length]
        return room


@dataclass(frozen=True, slots=True, eq=False)
class Decoder:
    """A decoder-only model.

    Attributes
    ----------
    spec
        Shape and options.
    embedding, norm, head
        ``(V, d)``, ``(d,)``, ``(V, d)``.
    layers
        Weights by layer.
    """

    spec: ModelSpec
    embedding: Tensor
    norm: Tensor
    head: Tensor
    layers: Sequence[Layer]

    def forward(
        self,
        tokens: Tensor,
        experts: Experts,
        cache: Cache | None = None,
        on_layer: OnLayer | None = None,
    ) -> Tensor:
        """Return the logits ``(..., T, V)`` of ``(T,)`` or ``(B, T)`` tokens.

        With a cache the tokens continue those that it holds, and are added to it.
        """
        batch = tokens if tokens.dim() == 2 else tokens[None]
        clock = _Clock(on_layer)
        hidden = self.embed(batch)
        start = 0 if cache is None else cache.length
        turns = rotations(self.spec, start, batch.shape[1], hidden)
        clock.tick(-1, "embed")
        for number in range(len(self.layers)):
            hidden = self._layer(number, hidden, experts, turns, cache, clock)
        logits = self.logits(hidden)
        clock.tick(len(self.layers), "head")
        if cache is not None:
            cache.length += batch.shape[1]
        return logits if tokens.dim() == 2 else logits[0]

    def embed(self, tokens: Tensor) -> Tensor:
        """Return the ``(B, T, d)`` input of the first layer for ``(B, T)`` tokens."""
        return self.embedding[tokens]

    def between(self, first: int, last: int, hidden: Tensor, experts: Experts) -> Tensor:
        """Return the input of layer `last` given that of layer `first`, both ``(B, T, d)``.

        Sequences start at their first token; nothing is kept.
        """
        turns = rotations(self.spec, 0, hidden.shape[1], hidden)
        for number in range(first, last):
            hidden = self._layer(number, hidden, experts, turns, None, _Clock(None))
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits of the output of the last layer."""
        from torch.nn.functional import linear

        return linear(_norm(hidden, self.norm, self.spec.norm_eps), self.head)

    def _layer(
        self,
        number: int,
        hidden: Tensor,
        experts: Experts,
        turns: tuple[Tensor, Tensor],
        cache: Cache | None,
        clock: _Clock,
    ) -> Tensor:
        layer = self.layers[number]
        normed = _norm(hidden, layer.tensors["input_norm"], self.spec.norm_eps)
        hidden = hidden + attend(self.spec, number, layer.tensors, normed, turns, cache)
        normed = _norm(hidden, layer.tensors["post_norm"], self.spec.norm_eps)
        flat = normed.reshape(-1, normed.shape[-1])
        clock.tick(number, "attention")
        if layer.dense is not None:
            hidden = hidden + _dense(layer, layer.dense, flat).view(hidden.shape)
            clock.tick(number, "dense")
        if "router" in layer.tensors:
            chosen, weights = self.route(number, flat)
            clock.tick(number, "router")
            hidden = hidden + experts.apply(number, flat, chosen, weights).view(hidden.shape)
            clock.tick(number, "experts")
        return hidden

    def route(self, number: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ``(T, k)`` experts that layer `number` chooses for ``(T, d)`` inputs.

        Returns
        -------
        chosen, weights
            Experts, most wanted first, and their weights.
        """
        probabilities = self.router_probabilities(number, hidden)
        weights, chosen = probabilities.topk(self.spec.top_k, dim=-1)
        if self.spec.renormalise:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        return chosen, weights.to(hidden.dtype)

    def router_probabilities(self, number: int, hidden: Tensor) -> Tensor:
        """Return the ``(T, E)`` probabilities of layer `number`; dropped experts have none."""
        from torch.nn.functional import linear

        layer = self.layers[number]
        scores = linear(hidden, layer.tensors["router"]).float()
        if layer.alive is not None:
            scores = scores.masked_fill(~layer.alive, float("-inf"))
        return scores.softmax(dim=-1)

    def without(self, dropped: BoolArray) -> Decoder:
        """Return the model whose routers never choose the dropped experts.

        Parameters
        ----------
        dropped
            ``(L, E)`` over the layers with experts; at least top-k stay in each.
        """
        import torch

        layers = list(self.layers)
        for row, number in enumerate(self.spec.moe_layers):
            alive = torch.from_numpy(~dropped[row]).to(self.embedding.device)
            layers[number] = replace(layers[number], alive=None if alive.all() else alive)
        return replace(self, layers=layers)


class _Clock:
    """Reports seconds since the last report; costs next to nothing without a listener."""

    def __init__(self, on_layer: OnLayer | None) -> None:
        self._on_layer = on_layer
        self._last = time.perf_counter()

    def tick(self, layer: int, part: str) -> None:
        """Report the time since the last tick as that of `part`."""
        if self._on_layer is None:
            return
        now = time.perf_counter()
        self._on_layer(layer, part, now - self._last)
        self._last = time.perf_counter()


def _norm(hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return the root-mean-square norm, computed in fp32."""
    wide = hidden.float()
    scaled = wide * (wide.pow(2).mean(dim=-1, keepdim=True) + eps).rsqrt()
    return weight * scaled.to(hidden.dtype)


def _dense(layer: Layer, dense: Weights, flat: Tensor) -> Tensor:
    from torch.nn.functional import linear

    out = feed_forward(dense, flat)
    gate = layer.tensors.get("shared_gate")
    return out if gate is None else out * linear(flat, gate).sigmoid()


def rotations(spec: ModelSpec, start: int, number: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``(number, head_dim)`` cosines and sines of rotary positions from `start`."""
    import torch

    half = torch.arange(0, spec.head_dim, 2, device=like.device, dtype=torch.float32)
    positions = torch.arange(start, start + number, device=like.device, dtype=torch.float32)
    angles = positions[:, None] / spec.rope_theta ** (half / spec.head_dim)
    both = torch.cat([angles, angles], dim=-1)
    return both.cos().to(like.dtype), both.sin().to(like.dtype)


def _rotated(x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    import torch

    first, second = x.chunk(2, dim=-1)
    return x * turns[0] + torch.cat([-second, first], dim=-1) * turns[1]


def attend(
    spec: ModelSpec,
    number: int,
    tensors: Weights,
    hidden: Tensor,
    turns: tuple[Tensor, Tensor],
    cache: Cache | None,
) -> Tensor:
    """Return the ``(B, T, d)`` output of a layer's attention."""
    from torch.nn.functional import linear, scaled_dot_product_attention

    q, k, v = (_projected(spec, name, tensors, hidden) for name in "qkv")
    q, k = _rotated(q, turns), _rotated(k, turns)
    if cache is not None:
        k, v = cache.extended(number, k, v)
    mask, causal = _mask(spec, q, k.shape[2])
    out = scaled_dot_product_attention(
        q, k, v, mask, is_causal=causal, enable_gqa=spec.heads != spec.kv_heads
    )
    flat = out.transpose(1, 2).reshape(*hidden.shape[:2], -1)
    return linear(flat, tensors["o"], tensors.get("o_bias"))


def _projected(spec: ModelSpec, name: str, tensors: Weights, hidden: Tensor) -> Tensor:
    """Return queries, keys or values ``(B, heads, T, head_dim)``, before rotation."""
    from torch.nn.functional import linear

    x = linear(hidden, tensors[name], tensors.get(f"{name}_bias"))
    norm = tensors.get(f"{name}_norm")
    if norm is not None and not spec.norm_by_head:
        x = _norm(x, norm, spec.norm_eps)
    if spec.clip is not None:
        x = x.clamp(-spec.clip, spec.clip)
    x = x.view(*hidden.shape[:2], -1, spec.head_dim)
    if norm is not None and spec.norm_by_head:
        x = _norm(x, norm, spec.norm_eps)
    return x.transpose(1, 2)


def _mask(spec: ModelSpec, q: Tensor, total: int) -> tuple[Tensor | None, bool]:
    """Return what attention sees: a mask or none, and whether the built-in causal one does."""
    import torch

    new = q.shape[2]
    if (spec.window is None or total <= spec.window) and new in (1, total):
        return None, new > 1
    at = torch.arange(total - new, total, device=q.device)[:, None]
    back = at - torch.arange(total, device=q.device)[None]
    seen = back >= 0
    return seen if spec.window is None else seen & (back < spec.window), False
