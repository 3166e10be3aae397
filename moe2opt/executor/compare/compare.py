"""What a plan promised beside what running it took."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from moe2opt.executor.model.experts import ExpertSource, dispatch, feed_forward
from moe2opt.executor.run.run import Run
from moe2opt.placement import times
from moe2opt.placement.assignment import Assignment, evaluate, layer_uses
from moe2opt.result import FloatArray, InputError, IntArray

if TYPE_CHECKING:
    from torch import Tensor

    from moe2opt.executor.model.decoder import Decoder
    from moe2opt.placement import PlacementInstance

#: Figures that a tolerance can be stated for.
JUDGED = ("time", "bytes", "hit_rate", "memory", "perplexity")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure, predicted and measured.

    Attributes
    ----------
    name, unit
        What it is.
    predicted, measured
        None where one of them is not known.
    """

    name: str
    unit: str
    predicted: float | None
    measured: float | None

    @property
    def error(self) -> float | None:
        """Measured over predicted, minus 1; of a hit rate the difference. None where unknown."""
        if self.predicted is None or self.measured is None:
            return None
        if self.name == "hit_rate":
            return self.measured - self.predicted
        if self.predicted == 0:
            return 0.0 if self.measured == 0 else math.inf
        return self.measured / self.predicted - 1

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        error = self.error
        finite = error is not None and math.isfinite(error)
        return {**asdict(self), "error": error if finite else None}


@dataclass(frozen=True, slots=True)
class LayerRow:
    """A layer's experts: milliseconds, bytes and hit rate per token, predicted and measured."""

    layer: int
    time: Row
    bytes: Row
    hit_rate: Row

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        rows = {row.name: row.to_dict() for row in (self.time, self.bytes, self.hit_rate)}
        return {"layer": self.layer, **rows}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Prediction against measurement.

    Attributes
    ----------
    total
        One row per figure of the whole model.
    layers
        One per layer with experts.
    quartiles_s
        Lower and upper quartile of the mean token time over the passes.
    notes
        What must be known.
    """

    total: tuple[Row, ...]
    layers: tuple[LayerRow, ...]
    quartiles_s: tuple[float, float]
    notes: tuple[str, ...] = ()

    def row(self, name: str) -> Row:
        """Return the row of a figure."""
        return next(row for row in self.total if row.name == name)

    def exceeded(self, tolerances: Mapping[str, float]) -> list[str]:
        """Return in words which stated tolerances the errors exceed."""
        found = []
        for name, limit in tolerances.items():
            error = self.row(name).error
            if error is None:
                found.append(f"{name}: there is no figure to hold against the tolerance")
            elif not abs(error) <= limit:
                found.append(f"{name}: off by {_percent(error)}, tolerance {_percent(limit)}")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        return {
            "total": {row.name: row.to_dict() for row in self.total},
            "layers": [layer.to_dict() for layer in self.layers],
            "token_s_quartiles": list(self.quartiles_s),
            "notes": list(self.notes),
        }


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def parse_tolerances(texts: Sequence[str], names: Sequence[str] = JUDGED) -> dict[str, float]:
    """Return tolerances by figure from texts such as ``0.15`` (the first) or ``time=15%,bytes=2%``.

    Raises
    ------
    InputError
        For an unknown figure or a number that is none.
    """
    found = {}
    for part in (part.strip() for text in texts for part in text.split(",")):
        name, _, number = part.rpartition("=")
        name = (name or names[0]).strip()
        if name not in names:
            raise InputError(f"--tolerance {part}: unknown figure ({', '.join(names)})")
        try:
            value = float(number.rstrip("% ")) / (100 if number.strip().endswith("%") else 1)
        except ValueError as error:
            raise InputError(f"--tolerance {part}: '{number}' is not a number") from error
        if not 0 <= value < math.inf:
            raise InputError(f"--tolerance {part}: the tolerance must be at least 0")
        found[name] = value
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """What an instance says about an assignment, by layer.

    Attributes
    ----------
    dense_s
        Seconds per token of all but experts.
    layer_s, layer_bytes, layer_loads, layer_uses
        ``(L,)`` per token.
    memory_bytes
        In DRAM and on CUDA devices, dense part and context included.
    loss_nats
        Rise of the logarithm of perplexity.
    joules_per_token
        None where a power is unknown.
    """

    dense_s: float
    layer_s: FloatArray
    layer_bytes: FloatArray
    layer_loads: FloatArray
    layer_uses: FloatArray
    memory_bytes: float
    loss_nats: float
    joules_per_token: float | None

    @property
    def token_s(self) -> float:
        """Seconds per token."""
        return self.dense_s + float(self.layer_s.sum())


def predict(
    instance: PlacementInstance, assignment: Assignment, kinds: Sequence[str] | None = None
) -> Predicted:
    """Return what the instance says about an assignment.

    Parameters
    ----------
    instance, assignment
        The plan.
    kinds
        Real memory of each tier; by the kind of the tier when None.
    """
    shares = instance.activation.mixed
    figures = evaluate(instance, assignment)
    size = instance.expert_bytes[assignment.precision].mean(axis=2)
    loads = times.loads_by_layer(instance, assignment, shares)
    if instance.config.cache is not None:
        uses = np.full(len(loads), float(instance.shape.top_k))
        moved = loads * size[:, 0]
    else:
        each = layer_uses(instance, assignment, shares)
        uses = each.sum(axis=1)
        tier = np.maximum(assignment.tier, 0)
        copied = instance.use.move_s[tier, assignment.precision] > 0
        part = instance.expert_bytes[assignment.precision] / assignment.tier.shape[2]
        moved = (each * (copied * part).sum(axis=2)).sum(axis=1)
    real = kinds or ["disk" if t.kind == "disk" else "dram" for t in instance.topology.tiers]
    inside = np.array([kind in ("dram", "cuda") for kind in real])
    joules = figures.joules_per_token
    return Predicted(
        dense_s=instance.dense_s,
        layer_s=times.seconds_by_layer(instance, assignment, shares),
        layer_bytes=moved,
        layer_loads=loads,
        layer_uses=uses,
        memory_bytes=float(figures.bytes_by_tier[inside].sum()),
        loss_nats=figures.loss_nats,
        joules_per_token=None if math.isnan(joules) else joules,
    )


def compare(predicted: Predicted, run: Run, reference_nats: float | None) -> Comparison:
    """Return prediction and measurement side by side.

    Parameters
    ----------
    predicted
        By the instance.
    run
        The measurement.
    reference_nats
        Mean loss of the unchanged model on the same tokens, None when it is not known.
    """
    counts = _counts(run)
    tokens = run.tokens.size
    moved = counts["bytes"].sum() / tokens
    hits = 1 - float(counts["misses"].sum() / counts["uses"].sum())
    loads, uses = predicted.layer_loads, predicted.layer_uses
    held = run.held
    resident = sum(
        size
        for size, kind in zip(held.experts_bytes, run.layout.kinds, strict=True)
        if kind in ("dram", "cuda")
    )
    resident += held.dense_bytes + held.context_bytes + held.passing_bytes
    nats = float(run.losses.mean())
    wanted = None if reference_nats is None else math.exp(reference_nats + predicted.loss_nats)
    total = (
        Row("time", "s/token", predicted.token_s, float(run.token_s.mean())),
        Row("dense", "s/token", predicted.dense_s, dense_s(run)),
        Row("experts", "s/token", float(predicted.layer_s.sum()), float(run.layer_s.sum())),
        Row("bytes", "bytes/token", float(predicted.layer_bytes.sum()), float(moved)),
        Row("hit_rate", "", 1 - float(loads.sum() / uses.sum()), hits),
        Row("memory", "bytes", predicted.memory_bytes, float(resident)),
        Row("grown", "bytes", predicted.memory_bytes, _number(held.grown_bytes)),
        Row("perplexity", "", wanted, math.exp(nats)),
        Row("energy", "J/token", predicted.joules_per_token, run.joules_per_token),
    )
    means = [float(p.token_s.mean()) for p in run.passes]
    low, high = np.percentile(means, (25, 75))
    return Comparison(
        total, tuple(_layers(predicted, run, counts)), (float(low), float(high)), run.notes
    )


def _number(value: int | None) -> float | None:
    return None if value is None else float(value)


def dense_s(run: Run) -> float:
    """Return the mean seconds per token of all but the experts."""
    rest = [p.token_s - p.experts_s.sum(axis=1) for p in run.passes]
    return float(np.median(rest, axis=0).mean())


def _counts(run: Run) -> dict[str, FloatArray]:
    """Return ``(L,)`` uses, misses and bytes of one pass, the mean over passes."""
    found = {name: np.zeros(len(run.layout.layers)) for name in ("uses", "misses", "bytes")}
    for one in run.passes:
        row = np.array([s.row for s in one.served], dtype=np.int64)
        np.add.at(found["uses"], row, 1.0)
        np.add.at(found["misses"], row, [0.0 if s.hit else 1.0 for s in one.served])
        np.add.at(found["bytes"], row, [float(s.moved_bytes) for s in one.served])
        found["bytes"] += one.wasted_bytes / len(run.layout.layers)
    return {name: value / len(run.passes) for name, value in found.items()}


def _layers(predicted: Predicted, run: Run, counts: Mapping[str, FloatArray]) -> Iterator[LayerRow]:
    measured_s, tokens = run.layer_s, run.tokens.size
    for row, layer in enumerate(run.layout.layers):
        expected = 1 - float(predicted.layer_loads[row] / predicted.layer_uses[row])
        found = 1 - float(counts["misses"][row] / counts["uses"][row])
        yield LayerRow(
            layer,
            Row("time", "s/token", float(predicted.layer_s[row]), float(measured_s[row])),
            Row(
                "bytes",
                "bytes/token",
                float(predicted.layer_bytes[row]),
                float(counts["bytes"][row] / tokens),
            ),
            Row("hit_rate", "", expected, found),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Streamed:
    """Every expert in fp32, read when it is used: the unchanged model in little memory."""

    source: ExpertSource

    def apply(self, layer: int, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Return the weighted sum of the chosen experts' outputs."""

        def run(expert: int, inputs: Tensor) -> Tensor:
            own = self.source.expert_weights(layer, expert)
            return feed_forward(
                {k: t.to(inputs.device, inputs.dtype) for k, t in own.items()}, inputs
            )

        return dispatch(hidden, chosen, weights, run)


def reference_loss(decoder: Decoder, source: ExpertSource, tokens: IntArray) -> float:
    """Return the mean loss in nats of the unchanged model on ``(S, N)`` tokens."""
    import torch

    from moe2opt.executor.model.quality import token_losses

    batch = torch.from_numpy(np.asarray(tokens, dtype=np.int64)).to(decoder.embedding.device)
    with torch.inference_mode():
        logits = decoder.forward(batch[:, :-1], Streamed(source))
        return float(token_losses(logits.float(), batch).double().mean())
