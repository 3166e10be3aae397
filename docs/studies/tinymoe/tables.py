"""The loss tables of a model, measured: what pruning, merging and rounding experts costs.

Everything is measured on calibration text. Single experts are dropped one at a time. There are many
pairs to merge, and each changes the loss by less than the text can tell: so the change of a layer's
output is measured for each pair, and the loss that a change costs for some groupings of each layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from moe2opt.executor.model.decoder import Decoder, rotations
from moe2opt.executor.model.experts import Experts, ResidentExperts, Weights, feed_forward
from moe2opt.executor.model.folder import ModelFolder
from moe2opt.executor.model.text import batches, token_losses
from moe2opt.executor.store.formats import Format
from moe2opt.executor.store.merging import merge
from moe2opt.placement.assignment import Assignment, plain
from moe2opt.placement.modes.groupings import dendrogram
from moe2opt.result import FloatArray, InputError
from tinymoe.applying import apply_plan
from tinymoe.quality import Judged, losses, mean_loss

OnStep = Callable[[str], None]

#: Inputs of an expert on which its change is measured, and groupings of a layer that are run.
_INPUTS, _GROUPINGS = 512, 7


@dataclass(frozen=True, slots=True, eq=False)
class QualityTables:
    """Rises of the logarithm of perplexity, in nats, over the mean of the domains.

    Attributes
    ----------
    base
        Loss of the model as it is.
    pruned
        ``(L, E)`` rise when an expert alone is dropped.
    merged
        ``(L, E, E)`` expected rise when a pair alone is merged, symmetric, 0 on the diagonal: the
        change of the layer's output times the layer's nats per change.
    rounded
        Rise when all experts have a format, by its name.
    """

    base: float
    pruned: FloatArray
    merged: FloatArray
    rounded: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class _Stage:
    """A batch at the input of every layer with experts.

    Attributes
    ----------
    batch
        ``(B, T + 1)`` tokens.
    domain
        Its domain.
    hidden
        ``(B, T, d)`` by row of a layer.
    """

    batch: Tensor
    domain: str
    hidden: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """Measures the loss of a model that differs from the original in one layer.

    Attributes
    ----------
    decoder, weights
        The original.
    stages
        Its state at each layer.
    """

    decoder: Decoder
    weights: dict[tuple[int, int], Weights]
    stages: tuple[_Stage, ...]

    def loss(self, row: int, decoder: Decoder, changed: dict[int, Weights]) -> float:
        """Return the mean loss over domains with other weights for some experts of a layer."""
        layer = self.decoder.spec.moe_layers[row]
        experts = ResidentExperts(
            {**self.weights, **{(layer, expert): w for expert, w in changed.items()}}
        )
        sums: dict[str, list[Tensor]] = {}
        with torch.inference_mode():
            for stage in self.stages:
                out = between(decoder, layer, len(decoder.layers), stage.hidden[row], experts)
                found = token_losses(decoder.logits(out), stage.batch)
                sums.setdefault(stage.domain, []).append(found)
            means = {name: float(torch.cat(parts).double().mean()) for name, parts in sums.items()}
        return mean_loss(means)


def between(decoder: Decoder, first: int, last: int, hidden: Tensor, experts: Experts) -> Tensor:
    """Return the input of layer `last` given that of layer `first`, both ``(B, T, d)``.

    Sequences start at their first token; nothing is kept.
    """
    turns = rotations(decoder.spec, 0, hidden.shape[1], hidden)
    for number in range(first, last):
        hidden = decoder.layer(number, hidden, experts, turns)
    return hidden


def probe(folder: ModelFolder, decoder: Decoder, text: Judged) -> Probe:
    """Pass the text through the original model and keep its state at each layer."""
    experts = folder.resident()
    stages = []
    with torch.inference_mode():
        for name, rows in text.windows.items():
            for batch in batches(rows):
                hidden, at, kept = decoder.embedding[batch[:, :-1]], 0, []
                for layer in folder.spec.moe_layers:
                    hidden, at = between(decoder, at, layer, hidden, experts), layer
                    kept.append(hidden)
                stages.append(_Stage(batch, name, tuple(kept)))
    return Probe(decoder, dict(experts.weights), tuple(stages))


def measure_tables(
    folder: ModelFolder,
    text: Judged,
    shares: FloatArray,
    formats: Sequence[Format],
    on_step: OnStep = lambda _: None,
) -> QualityTables:
    """Measure all tables.

    Parameters
    ----------
    folder
        The model.
    text
        Calibration text.
    shares
        ``(L, E)`` use of the experts: weights in merging.
    formats
        Weight formats to measure.
    on_step
        Gets a line of progress now and then.
    """
    decoder = folder.decoder()
    whole = probe(folder, decoder, text)
    base = whole.loss(0, decoder, {})
    size = (len(folder.spec.moe_layers), folder.spec.experts)
    pruned = np.zeros(size)
    for row, expert in np.ndindex(size):
        pruned[row, expert] = _without(whole, row, expert) - base
    on_step(f"pruning: {size[0] * size[1]} experts measured")
    merged = np.zeros((*size, size[1]))
    for row in range(size[0]):
        change = pair_changes(whole, row, shares[row])
        merged[row] = change * _nats_per_change(whole, row, shares[row], change, base)
        on_step(f"merging: row {row}, {size[1] * (size[1] - 1) // 2} pairs measured")
    rounded = {f.name: _rounded(folder, decoder, text, f) - base for f in formats}
    return QualityTables(base, pruned, merged, rounded)


def _without(probe: Probe, row: int, expert: int) -> float:
    spec = probe.decoder.spec
    dropped = np.zeros((len(spec.moe_layers), spec.experts), dtype=bool)
    dropped[row, expert] = True
    return probe.loss(row, probe.decoder.without(dropped), {})


@dataclass(slots=True, eq=False)
class _Listener:
    """Keeps what a layer's experts are asked; its answers are not used."""

    inputs: list[Tensor] = field(default_factory=list)
    chosen: list[Tensor] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)

    def apply(self, layer: int, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Return the input, see `Experts`."""
        self.inputs.append(hidden)
        self.chosen.append(chosen)
        self.weights.append(weights)
        return hidden


def pair_changes(probe: Probe, row: int, shares: FloatArray) -> FloatArray:
    """Return ``(E, E)`` squared changes of a layer's output per token when pairs are merged."""
    spec, layer = probe.decoder.spec, probe.decoder.spec.moe_layers[row]
    heard = _Listener()
    table = np.zeros((spec.experts, spec.experts))
    with torch.inference_mode():
        for stage in probe.stages:
            between(probe.decoder, layer, layer + 1, stage.hidden[row], heard)
        asked = [_asked(heard, expert) for expert in range(spec.experts)]
        own = {e: probe.weights[layer, e] for e in range(spec.experts)}
        for i, j in _pairs(spec.experts):
            leader = i if shares[i] >= shares[j] else j
            both = merge(own, leader, (i, j), shares)
            table[i, j] = sum(_change(asked[e], own[e], both) for e in (i, j))
    return table + table.T


def _asked(heard: _Listener, expert: int) -> tuple[Tensor, Tensor, float]:
    """Return some inputs of an expert, their weights, and how many tokens each stands for."""
    chosen, weights = torch.cat(heard.chosen), torch.cat(heard.weights)
    tokens, rank = torch.nonzero(chosen == expert, as_tuple=True)
    step = max(1, len(tokens) // _INPUTS)
    inputs = torch.cat(heard.inputs)[tokens[::step]]
    each = len(tokens) / max(1, len(inputs)) / len(chosen)
    return inputs, weights[tokens[::step], rank[::step]], each


def _change(asked: tuple[Tensor, Tensor, float], own: Weights, other: Weights) -> float:
    inputs, weights, each = asked
    change = (feed_forward(other, inputs) - feed_forward(own, inputs)) * weights[:, None]
    return float(change.double().pow(2).sum()) * each


def _nats_per_change(
    probe: Probe, row: int, shares: FloatArray, change: FloatArray, base: float
) -> float:
    """Return the loss per change of the output, over groupings of one layer, on a log scale."""
    spec = probe.decoder.spec
    own = {e: probe.weights[spec.moe_layers[row], e] for e in range(spec.experts)}
    least = np.minimum(shares[:, None], shares[None, :])
    distance = change / np.maximum(least, 1e-9)
    numbers = np.unique(np.linspace(spec.top_k, spec.experts - 1, _GROUPINGS).astype(int))
    ratios = []
    for leader in dendrogram(distance, np.maximum(shares, 1e-12), numbers.tolist()).values():
        changed: dict[int, Weights] = {}
        for head in np.unique(leader).tolist():
            group = np.flatnonzero(leader == head).tolist()
            if len(group) > 1:
                changed |= dict.fromkeys(group, merge(own, head, group, shares))
        # Too little text can tell a small rise from none; its size still says what is small.
        rise = max(abs(probe.loss(row, probe.decoder, changed) - base), 1e-9)
        expected = float(shares @ distance[np.arange(spec.experts), leader])
        ratios.append(rise / max(expected, 1e-12))
    return float(np.exp(np.mean(np.log(ratios))))


def _pairs(number: int) -> Iterator[tuple[int, int]]:
    return ((i, j) for i in range(number) for j in range(i + 1, number))


def _rounded(folder: ModelFolder, decoder: Decoder, text: Judged, form: Format) -> float:
    """Return the loss with all experts in a format."""
    everywhere = whole_model(folder, 0)
    served = apply_plan(folder, folder.spec, everywhere, _even(folder), formats=[form])
    return mean_loss(losses(decoder, ResidentExperts(served.weights), text))


def whole_model(folder: ModelFolder, precision: int) -> Assignment:
    """Return the assignment that keeps every expert on the first tier at one precision."""
    size = (len(folder.spec.moe_layers), folder.spec.experts, 1)
    return plain(np.zeros(size, dtype=np.int64), np.full(size, precision, dtype=np.int64))


def _even(folder: ModelFolder) -> FloatArray:
    return np.ones((len(folder.spec.moe_layers), folder.spec.experts))


def saliency_of(tables: QualityTables) -> FloatArray:
    """Return ``(L, E)`` saliency: the rise by pruning alone, at least a little, summing to 1."""
    floor = max(float(tables.pruned.max()), 1e-9) * 1e-3
    found = np.maximum(tables.pruned, floor)
    return np.asarray(found / found.sum())


def distances_from(tables: QualityTables, shares: FloatArray) -> FloatArray:
    """Return ``(L, E, E)`` distances: nats per unit of use share when a pair is merged.

    The placement charges a merged expert its share of all uses times the distance; the expert
    that is merged away is the less used one of a pair.
    """
    if tables.merged.shape[:2] != shares.shape:
        raise InputError(f"shares: shape {shares.shape}, {tables.merged.shape[:2]} is expected")
    less = np.minimum(shares[:, :, None], shares[:, None, :]) / shares.sum()
    floor = float(np.abs(tables.merged).max()) * 1e-4
    found = np.maximum(tables.merged, floor) / np.maximum(less, 1e-9)
    found[:, np.arange(shares.shape[1]), np.arange(shares.shape[1])] = 0.0
    return np.asarray(found)
