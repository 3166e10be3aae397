"""What a plan promised beside what running it took."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from moe2opt.executor.compare.figures import Comparison, LayerRow, Row
from moe2opt.executor.run.record import Run
from moe2opt.placement import PlacementInstance
from moe2opt.placement.assignment import Assignment
from moe2opt.placement.judge import evaluate
from moe2opt.result import FloatArray

#: Standard error of the bytes per token, as a share, from which on it is told.
_SAMPLING = 0.02


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
    figures = evaluate(instance.mode, assignment)
    size = instance.expert_bytes[assignment.precision].mean(axis=2)
    loads = instance.mode.layer_loads(assignment, shares)
    if instance.config.cache is not None:
        uses = np.full(len(loads), float(instance.shape.top_k))
        moved = loads * size[:, 0]
    else:
        each = instance.mode.uses(assignment, shares)
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
        layer_s=instance.mode.layer_seconds(assignment, shares),
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
    rest = [p.token_s - p.experts_s.sum(axis=1) for p in run.passes]
    nats = float(run.losses.mean())
    grown = None if held.grown_bytes is None else float(held.grown_bytes)
    wanted = None if reference_nats is None else math.exp(reference_nats + predicted.loss_nats)
    total = (
        Row("time", "s/token", predicted.token_s, float(run.token_s.mean())),
        Row("dense", "s/token", predicted.dense_s, float(np.median(rest, axis=0).mean())),
        Row("experts", "s/token", float(predicted.layer_s.sum()), float(run.layer_s.sum())),
        Row("bytes", "bytes/token", float(predicted.layer_bytes.sum()), float(moved)),
        Row("hit_rate", "", 1 - float(loads.sum() / uses.sum()), hits),
        Row("memory", "bytes", predicted.memory_bytes, float(resident)),
        Row("grown", "bytes", predicted.memory_bytes, grown),
        Row("perplexity", "", wanted, math.exp(nats)),
        Row("energy", "J/token", predicted.joules_per_token, run.joules_per_token),
    )
    means = [float(p.token_s.mean()) for p in run.passes]
    low, high = np.percentile(means, (25, 75))
    return Comparison(
        total, tuple(_layers(predicted, run, counts)), (float(low), float(high)), run.notes
    )


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


def caveats(instance: PlacementInstance, run: Run) -> Iterator[str]:
    """Yield what may explain large errors: rates that nobody measured, and too few tokens."""
    if instance.rates is None:
        yield (
            "rates are assumptions of the file, not measured here, so times may be far off; "
            "measure them: moe2opt execute ... --calibrate --out run, then moe2opt profile "
            "--from-run run/execute.json --out my_machine, then `rates: my_machine` in the file"
        )
    moved = np.zeros(run.tokens.size)
    for use in run.passes[0].served:
        moved[use.token % moved.size] += use.moved_bytes
    if moved.size < 2 or moved.mean() == 0:
        return
    error = float(moved.std(ddof=1) / np.sqrt(moved.size) / moved.mean())
    if error > _SAMPLING:
        yield (
            f"{moved.size} tokens were run: bytes are a sample, with a standard error of about "
            f"{100 * error:.0f} % if tokens were independent; --tokens runs more"
        )
