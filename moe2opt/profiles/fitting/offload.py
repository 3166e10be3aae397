r"""Seconds per token when part of the experts lies in a slower tier.

With a share :math:`f` of the experts on the GPU,

.. math::
    t(f) = t_1 + a\,(1 - f) + b\,(1 - f)^3 + l\,(1 - f^{k}), \qquad t_1, a, b, l \ge 0,

:math:`t_1` with everything on the GPU, :math:`a` the missed bytes over the tier's bandwidth when
experts are chosen evenly, :math:`b` the same when the GPU holds those that are used most (few
tokens then miss), and :math:`l` the latency of going to the tier at all: it is paid whenever one
of the :math:`k` experts of a token is missed. Overlap of transfer and computing shows as smaller
:math:`a` and :math:`b`. Where whole layers are placed, :math:`b = l = 0`. One fit per published
series: one model, engine, host and strategy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe2opt.profiles.fitting.robust import robust_nnls, weighted_sum
from moe2opt.result import FloatArray
from moe2opt.schema.csv import Row

#: Coefficients: all on the GPU, evenly missed, rarely missed, latency of any miss.
COEFFICIENTS = ("resident_s", "missed_s", "rarely_missed_s", "latency_s")

#: Experts per token behind the latency term where a series does not state them.
_EXPERTS_PER_TOKEN = 8
_NOISE = 0.03
_SPREAD = np.array([0.5, 2.0, 4.0, 4.0])


@dataclass(frozen=True, slots=True)
class OffloadCurve:
    """Seconds per token against the share of the experts on the GPU.

    Attributes
    ----------
    series
        Which model, engine, host and strategy.
    device, host, source
        Where it was measured.
    coefficients
        ``(4,)`` seconds, in the order of `COEFFICIENTS`.
    points
        Number of runs.
    errors
        Relative error at each share that was left out, in the order of the shares.
    """

    series: str
    device: str
    host: str
    source: str
    coefficients: tuple[float, ...]
    points: int
    errors: tuple[float, ...]

    def seconds(self, expert_share_gpu: float) -> float:
        """Return the seconds per token at a share of the experts on the GPU."""
        share = np.array([expert_share_gpu])
        return float(weighted_sum(_columns(share), np.array(self.coefficients))[0])

    @property
    def mean_error(self) -> float:
        """Mean leave-one-share-out error; NaN for a series of fewer than three shares."""
        return math.fsum(self.errors) / len(self.errors) if self.errors else float("nan")


def fit_curves(rows: Sequence[Row]) -> tuple[OffloadCurve, ...]:
    """Return one curve per series of ``offload_runs.csv``.

    Runs without a series, a share or a rate are left out.
    """
    series: dict[str, list[Row]] = {}
    for row in rows:
        if row["series"] and row["expert_share_gpu"] is not None and _seconds(row) is not None:
            series.setdefault(row["series"], []).append(row)
    return tuple(_curve(name, runs) for name, runs in series.items())


def _curve(name: str, runs: list[Row]) -> OffloadCurve:
    shares = np.array([float(run["expert_share_gpu"]) for run in runs])
    seconds = np.array([_seconds(run) or 0.0 for run in runs])
    layered = all(run["moe_layers_cpu"] is not None for run in runs)
    return OffloadCurve(
        series=name,
        device=runs[0]["device"],
        host=runs[0]["host"] or "not stated",
        source=runs[0]["source"],
        coefficients=tuple(_fit(shares, seconds, layered).tolist()),
        points=len(runs),
        errors=tuple(_left_out(shares, seconds, layered)),
    )


def _seconds(row: Row) -> float | None:
    if row["decode_tokens_per_s"]:
        return 1.0 / float(row["decode_tokens_per_s"])
    return float(row["decode_s_per_token"]) if row["decode_s_per_token"] else None


def _columns(share: FloatArray) -> FloatArray:
    missed = 1.0 - share
    any_miss = 1.0 - share**_EXPERTS_PER_TOKEN
    return np.stack([np.ones_like(share), missed, missed**3, any_miss], axis=1)


def _fit(shares: FloatArray, seconds: FloatArray, layered: bool) -> FloatArray:
    """Fit a series; where whole layers are placed, every layer costs the same."""
    resident = float(seconds[np.argmax(shares)])
    lost = max(float(seconds.max()) - resident, 0.05 * resident)
    centre = np.array([resident, 0.7 * lost, 0.15 * lost, 0.15 * lost])
    ones = np.ones(len(shares))
    if layered:
        centre = np.array([resident, lost])
        pair = robust_nnls(_columns(shares)[:, :2], seconds, ones, centre, _SPREAD[:2], _NOISE)
        return np.concatenate([pair, [0.0, 0.0]])
    return robust_nnls(_columns(shares), seconds, ones, centre, _SPREAD, _NOISE)


def _left_out(shares: FloatArray, seconds: FloatArray, layered: bool) -> list[float]:
    """Return the relative error at each share, fitted without it."""
    levels = np.unique(shares)
    if len(levels) < 3:
        return []
    misses = []
    for level in levels:
        rest = shares != level
        own = _fit(shares[rest], seconds[rest], layered)
        guess = weighted_sum(_columns(np.array([level])), own)
        measured = float(np.mean(seconds[~rest]))
        misses.append(abs(float(guess[0]) / measured - 1.0))
    return misses
