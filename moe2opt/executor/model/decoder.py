"""A decoder with mixture-of-experts layers whose experts somebody else runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention

from moe2opt.executor.model.experts import Experts, Weights, feed_forward
from moe2opt.executor.model.families import ModelSpec
from moe2opt.result import BoolArray

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
                batch, heads, _, width = new.shape
                room = new.new_zeros((batch, heads, max(_LEAST_ROOM, 2 * end), width))
                if layer in held:
                    room[:, :, : self.length] = held[layer][:, :, : self.length]
                held[layer] = room
            held[layer][:, :, self.length : end] = new
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]


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

    def forward(self, tokens: Tensor, experts: Experts, cache: Cache | None = None) -> Tensor:
        """Return the logits ``(..., T, V)`` of ``(T,)`` or ``(B, T)`` tokens.

        With a cache the tokens continue those that it holds, and are added to it.
        """
        batch = tokens if tokens.dim() == 2 else tokens[None]
        hidden = self.embedding[batch]
        start = 0 if cache is None else cache.length
        turns = rotations(self.spec, start, batch.shape[1], hidden)
        for number in range(len(self.layers)):
            hidden = self.layer(number, hidden, experts, turns, cache)
        if cache is not None:
            cache.length += batch.shape[1]
        logits = self.logits(hidden)
        return logits if tokens.dim() == 2 else logits[0]

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits of the output of the last layer."""
        return linear(_norm(hidden, self.norm, self.spec.norm_eps), self.head)

    def layer(
        self,
        number: int,
        hidden: Tensor,
        experts: Experts,
        turns: tuple[Tensor, Tensor],
        cache: Cache | None = None,
    ) -> Tensor:
        """Return the output ``(B, T, d)`` of a layer; `turns` are those of `rotations`."""
        layer = self.layers[number]
        normed = _norm(hidden, layer.tensors["input_norm"], self.spec.norm_eps)
        hidden = hidden + attend(self.spec, number, layer.tensors, normed, turns, cache)
        normed = _norm(hidden, layer.tensors["post_norm"], self.spec.norm_eps)
        flat = normed.reshape(-1, normed.shape[-1])
        if layer.dense is not None:
            dense, gate = feed_forward(layer.dense, flat), layer.tensors.get("shared_gate")
            dense = dense if gate is None else dense * linear(flat, gate).sigmoid()
            hidden = hidden + dense.view(hidden.shape)
        if "router" in layer.tensors:
            chosen, weights = self.route(number, flat)
            hidden = hidden + experts.apply(number, flat, chosen, weights).view(hidden.shape)
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
        layers = list(self.layers)
        for row, number in enumerate(self.spec.moe_layers):
            alive = torch.from_numpy(~dropped[row]).to(self.embedding.device)
            layers[number] = replace(layers[number], alive=None if alive.all() else alive)
        return replace(self, layers=layers)


def _norm(hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return the root-mean-square norm, computed in fp32."""
    return weight * rms_norm(hidden.float(), hidden.shape[-1:], eps=eps).to(hidden.dtype)


def rotations(spec: ModelSpec, start: int, number: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``(number, head_dim)`` cosines and sines of rotary positions from `start`."""
    half = torch.arange(0, spec.head_dim, 2, device=like.device, dtype=torch.float32)
    positions = torch.arange(start, start + number, device=like.device, dtype=torch.float32)
    angles = positions[:, None] / spec.rope_theta ** (half / spec.head_dim)
    both = torch.cat([angles, angles], dim=-1)
    return both.cos().to(like.dtype), both.sin().to(like.dtype)


def _rotated(x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
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
    new = q.shape[2]
    if (spec.window is None or total <= spec.window) and new in (1, total):
        return None, new > 1
    at = torch.arange(total - new, total, device=q.device)[:, None]
    back = at - torch.arange(total, device=q.device)[None]
    seen = back >= 0
    return seen if spec.window is None else seen & (back < spec.window), False
