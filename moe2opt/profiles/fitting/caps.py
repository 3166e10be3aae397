r"""Power caps: how much slower a card becomes when its power is held below what it asks for.

A sweep gives the time per token at each cap. Relative to the time at the default limit,

.. math::
    r(c) = 1 + \sum_j a_j \max(0, (K_j - c) / K_j), \qquad a_j \ge 0,

a convex, non-increasing and non-negative-coefficient curve through fixed knots :math:`K_j`. The
drawn power is the smaller of the cap and of what the workload asks for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from moe2opt.profiles.fitting.robust import robust_nnls, upper_error
from moe2opt.result import FloatArray
from moe2opt.schema.csv import Row

_NOISE = 0.02
_KNOTS = 12
#: Log error of the power of one card under one cap on another day, at least.
_METER = 0.03
#: Caps above this share of the highest power that was drawn do not bind.
_FREE = 0.995


@dataclass(frozen=True, slots=True)
class CapCurve:
    """Slow-down of one workload on one device under a power cap.

    Attributes
    ----------
    device, workload
        What was swept; `workload` is ``decode``, ``moe decode``, ``batched decode``, ``prefill``
        or ``moe prefill``.
    knots_w, slopes
        The curve.
    lowest_w, highest_w
        Range of the caps that were measured.
    drawn_w
        Power at the highest cap.
    error
        Mean relative error of a cap that was left out of the fit.
    params_b
        Parameters of the model that was swept, in 1e9.
    watts_error
        Nine in ten of the powers that were measured are within this log error of `drawn`.
    """

    device: str
    workload: str
    knots_w: tuple[float, ...]
    slopes: tuple[float, ...]
    lowest_w: float
    highest_w: float
    drawn_w: float
    error: float
    params_b: float
    watts_error: float

    def drawn(self, cap_w: float) -> float:
        """Return the watts of the workload that was swept, under a cap."""
        return min(cap_w, self.drawn_w)

    def slowdown(self, cap_w: float) -> float:
        """Return the time relative to the uncapped card."""
        lacking = (max(0.0, 1.0 - cap_w / knot) for knot in self.knots_w)
        return 1.0 + math.fsum(a * b for a, b in zip(self.slopes, lacking, strict=True))


def workload_of(model: str, workload: str) -> str:
    """Return the kind of workload of a sweep."""
    moe = "moe " if "-A" in model and model.rsplit("-A", 1)[1][:1].isdigit() else ""
    if workload.startswith("prefill"):
        return f"{moe}prefill"
    return "batched decode" if "concurrent" in workload else f"{moe}decode"


def fit_curves(rows: Sequence[Row]) -> tuple[CapCurve, ...]:
    """Return a curve for each device and kind of workload in ``power_caps.csv``."""
    sweeps: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        kind = workload_of(row["model"], row["workload"])
        sweeps.setdefault((row["device"], kind), []).append(row)
    return tuple(_curve(device, kind, sweep) for (device, kind), sweep in sweeps.items())


def _curve(device: str, kind: str, sweep: list[Row]) -> CapCurve:
    sweep = sorted(sweep, key=lambda row: float(row["power_cap_w"]))
    caps = np.array([float(row["power_cap_w"]) for row in sweep])
    drawn = max(float(row["power_w"]) for row in sweep)
    relative = float(sweep[-1]["tokens_per_s"]) / np.array(
        [float(r["tokens_per_s"]) for r in sweep]
    )
    knots = np.linspace(caps[0], max(drawn, caps[0] + 1.0), _KNOTS + 1)[1:]
    slopes = _slopes(caps, relative, knots)
    curve = CapCurve(
        device, kind, tuple(knots.tolist()), tuple(slopes.tolist()),
        float(caps[0]), float(caps[-1]), drawn, 0.0, _params_b(sweep[0]["model"]), 0.0,
    )  # fmt: skip
    misses = [
        abs(math.log(curve.drawn(float(row["power_cap_w"])) / float(row["power_w"])))
        for row in sweep
    ]
    return replace(
        curve,
        error=_left_out(caps, relative, knots),
        watts_error=max(upper_error(misses, 0.9), _METER),
    )


def _params_b(model: str) -> float:
    """Return the parameters in the name of a model; NaN where it does not say."""
    found = re.search(r"(?<![A-Za-z\d.])(\d+(?:\.\d+)?)B", model)
    return float(found[1]) if found else math.nan


def _slopes(caps: FloatArray, relative: FloatArray, knots: FloatArray) -> FloatArray:
    """Fit the curve; the constant 1 is taken off, so a flat stretch stays flat."""
    lacking = np.maximum(0.0, 1.0 - caps[:, None] / knots)
    table = np.concatenate([lacking, np.ones((len(caps), 1))], axis=1)
    centre = np.concatenate([np.full(len(knots), 0.3), [1.0]])
    spread = np.concatenate([np.full(len(knots), 10.0), [0.01]])
    ones = np.ones(len(caps))
    return robust_nnls(table, relative, ones, centre, spread, _NOISE)[:-1]


def _left_out(caps: FloatArray, relative: FloatArray, knots: FloatArray) -> float:
    """Return the mean relative error at a cap that the fit has not seen; the ends are kept."""
    misses = []
    for k in range(1, len(caps) - 1):
        rest = np.arange(len(caps)) != k
        slopes = _slopes(caps[rest], relative[rest], knots)
        guess = 1.0 + float(slopes @ np.maximum(0.0, 1.0 - caps[k] / knots))
        misses.append(abs(guess / relative[k] - 1.0))
    return float(np.mean(misses)) if misses else float("nan")
