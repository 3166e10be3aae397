"""Robust non-negative least squares on relative errors, and quantiles of hold-out errors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from moe2opt.result import FloatArray

#: Residuals beyond this many noise levels lose weight (Cauchy weights).
_SCALE = 2.0
_ITERATIONS = 12


def robust_nnls(
    columns: FloatArray,
    target: FloatArray,
    weights: FloatArray,
    centre: FloatArray,
    spread: FloatArray,
    noise: float,
) -> FloatArray:
    r"""Return non-negative coefficients of `columns` that predict `target` within few per cent.

    Minimises :math:`\sum_i w_i \rho((X_i\theta / y_i - 1) / \sigma) +
    \sum_j ((\theta_j / c_j - 1) / s_j)^2` over :math:`\theta \ge 0` by iteratively reweighted
    non-negative least squares (Lawson and Hanson 1974, as in `scipy.optimize.nnls`), :math:`\rho`
    being the Cauchy loss: one wrong row bends the fit little. The second sum draws coefficients
    that the rows say nothing about towards `centre`.

    Parameters
    ----------
    columns
        ``(n, p)``, non-negative, in the unit of `target` per coefficient.
    target
        ``(n,)``, positive.
    weights
        ``(n,)``, non-negative.
    centre, spread
        ``(p,)``, positive: where a coefficient is expected, and its relative standard deviation.
    noise
        Relative standard deviation of a good measurement.
    """
    # Here, because reading a stored gate or a table of profiles fits nothing and needs no scipy.
    from scipy.optimize import nnls

    if not len(target):
        return centre.copy()
    relative = columns / target[:, None]
    trust = np.ones(len(target))
    found = centre.copy()
    for _ in range(_ITERATIONS):
        scale = np.sqrt(weights * trust) / noise
        rows = np.vstack([relative * scale[:, None], np.diag(1.0 / (centre * spread))])
        found = np.asarray(nnls(rows, np.concatenate([scale, 1.0 / spread]))[0])
        miss = (relative @ found - 1.0) / noise
        trust = 1.0 / (1.0 + (miss / _SCALE) ** 2)
    return found


def weighted_sum(table: FloatArray, coefficients: FloatArray) -> FloatArray:
    """Return ``table @ coefficients``, summed column by column.

    A matrix product may differ in the last bit between machines, and a certificate would then
    belong to another problem there.
    """
    total = np.zeros(len(table))
    for k, coefficient in enumerate(coefficients.tolist()):
        total = total + table[:, k] * coefficient
    return total


def group_weights(labels: Sequence[object]) -> FloatArray:
    """Return weights with which a group of n rows counts as the square root of n rows."""
    counts: dict[object, int] = {}
    for label in labels:
        counts[label] = counts.get(label, 0) + 1
    return np.array([counts[label] ** -0.5 for label in labels])


def group_means(labels: Sequence[object], values: FloatArray) -> FloatArray:
    """Return the mean of `values` in each group of equal `labels`."""
    groups: dict[object, list[float]] = {}
    for label, value in zip(labels, values.tolist(), strict=True):
        groups.setdefault(label, []).append(value)
    return np.array([math.fsum(g) / len(g) for g in groups.values()])


def upper_error(errors: Sequence[float], level: float) -> float:
    """Return a bound that a new absolute error stays below with probability `level`.

    The rank is that of split conformal prediction, ``ceil((n + 1) level)``; where it exceeds the
    number of errors, the largest one stands in, and the true level is lower than asked. At level
    0 the bound is 0.
    """
    ordered = sorted(errors)
    rank = min(math.ceil((len(ordered) + 1) * level - 1e-9), len(ordered))
    return ordered[rank - 1] if rank > 0 else 0.0
