"""What runs the experts of a model: the protocol, and everything in memory as its reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear, silu

#: Matrices of an expert: gate (f, d), up (f, d), down (d, f).
PARTS = ("gate", "up", "down")

Weights = Mapping[str, Tensor]


class Experts(Protocol):
    """Runs the chosen experts of a layer; the model does everything else."""

    def apply(self, layer: int, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Return the ``(T, d)`` sum of the chosen experts' outputs, each times its weight.

        Parameters
        ----------
        layer
            Number of the layer, as the model counts all its layers.
        hidden
            ``(T, d)`` input of the experts.
        chosen, weights
            ``(T, k)`` experts of each token (int64) and their routing weights.
        """
        ...


class ExpertSource(Protocol):
    """Where the weights of single experts come from."""

    def expert_weights(self, layer: int, expert: int) -> Weights:
        """Return the matrices `gate`, `up` and `down` of an expert."""
        ...


def feed_forward(weights: Weights, hidden: Tensor) -> Tensor:
    """Return ``down (silu(gate x) * up x)`` of ``(T, d)`` inputs."""
    inner = silu(linear(hidden, weights["gate"])) * linear(hidden, weights["up"])
    return linear(inner, weights["down"])


def dispatch(
    hidden: Tensor,
    chosen: Tensor,
    weights: Tensor,
    run: Callable[[int, Tensor], Tensor],
) -> Tensor:
    """Return the weighted sum of the outputs of ``run(expert, inputs)``, one call per expert."""
    flat = chosen.flatten()
    order = flat.argsort(stable=True)
    tokens = order // chosen.shape[1]
    experts, counts = torch.unique_consecutive(flat[order], return_counts=True)
    inputs = torch.split(hidden[tokens], counts.tolist())
    outs = [run(int(e), part) for e, part in zip(experts.tolist(), inputs, strict=True)]
    scaled = torch.cat(outs) * weights.flatten()[order, None].to(hidden.dtype)
    return torch.zeros_like(hidden).index_add(0, tokens, scaled)


@dataclass(frozen=True, slots=True, eq=False)
class ResidentExperts:
    """All experts in memory at one precision: the reference that others are compared with.

    Attributes
    ----------
    weights
        By layer number and expert.
    """

    weights: Mapping[tuple[int, int], Weights]

    def apply(self, layer: int, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Return the weighted sum of the chosen experts' outputs, see `Experts`."""
        return dispatch(
            hidden,
            chosen,
            weights,
            lambda expert, inputs: feed_forward(self.weights[layer, expert], inputs),
        )


@dataclass(frozen=True, slots=True, eq=False)
class StreamedExperts:
    """Every expert in fp32, read when it is used: the unchanged model in little memory.

    Attributes
    ----------
    source
        Where they are read.
    """

    source: ExpertSource

    def apply(self, layer: int, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Return the weighted sum of the chosen experts' outputs, see `Experts`."""

        def run(expert: int, inputs: Tensor) -> Tensor:
            own = self.source.expert_weights(layer, expert)
            return feed_forward({name: t.to(inputs) for name, t in own.items()}, inputs)

        return dispatch(hidden, chosen, weights, run)
