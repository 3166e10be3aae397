r"""Expected quality of a masked softmax gate: mixed monotone, not monotone.

A gate with logits :math:`g_{ci}`, masked to the chosen experts S, serves cluster c with the
mixture :math:`f_c(S) = \sum_{i \in S} e_{ci} q_{ci} / \sum_{i \in S} e_{ci}`, where
:math:`e = \exp g`. Adding an expert that is worse than the mixture lowers it, so this objective
must not be given to a solver as an increasing one. Here it comes with the tightest bound that
looks at one cluster at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from moe2opt.canonical import validate
from moe2opt.canonical.facility import FacilityProblem
from moe2opt.canonical.monotone import MonotoneProblem
from moe2opt.result import BoolArray, FloatArray, InputError, IntArray

#: Widest range of logits in a cluster whose weights stay clear of underflow.
WIDEST_LOGITS = 600.0

#: Relative error of one operation.
_UNIT = 2.0**-53

#: Numbers in one intermediate array; more boxes than that allows are worked off in parts.
_MOST_NUMBERS = 2_000_000


@dataclass(frozen=True, eq=False)
class MaskedSoftmax:
    r"""Batched oracle F(x, y) for :math:`f(S) = \sum_c w_c f_c(S)`; the value of no expert is 0.

    On a box, y ≤ x, every cluster has its own best choice between the two corners:
    :math:`F_c(x, y) = \max_{y \le t \le x} f_c(t)`. It is found in closed form: with the experts
    sorted by quality, keep y and add the experts of x from the best downward as long as each is
    at least as good as the mixture it joins.

    Parameters
    ----------
    logits
        ``(C, N)`` gate logits of expert i on cluster c, in nats.
    quality
        ``(C, N)`` non-negative quality of expert i on cluster c.
    weights
        ``(C,)`` non-negative cluster weights, all one by default.
    k
        Only the k chosen experts of highest quality take part (ties to the lower index); their
        logits must rank as their qualities do. By default all of them.
    allowed
        ``(C, N)`` whether expert i may serve cluster c at all; by default everywhere.

    Raises
    ------
    InputError
        Naming the array and the index at fault.

    Notes
    -----
    For any x and y let :math:`F_c(x, y)` be the least :math:`\lambda \ge 0` with

    .. math:: g_\lambda(x, y) = \sum_i x_i e_{ci} (q_{ci} - \lambda)^+
              - \sum_i y_i e_{ci} (\lambda - q_{ci})^+ \le 0 .

    *Monotone*: :math:`g_\lambda` increases in x, decreases in y and decreases in λ, so a larger x
    or a smaller y leaves fewer λ to choose from. *Exact on points*: :math:`g_\lambda(x, x) = 0` is
    :math:`\lambda = f_c(x)`, and with no expert λ = 0. *Tight on boxes*: for y ≤ x the maximum of
    :math:`\sum_i t_i e_{ci} (q_{ci} - \lambda)` over y ≤ t ≤ x is :math:`g_\lambda(x, y)`, so some
    t reaches the ratio λ exactly as long as it is not negative (Dinkelbach 1967).

    With k, an expert counts on either side only if fewer than k experts of x are better than it:
    who is among the best k of x is among the best k of every smaller t that holds it. So the same
    three statements hold, tightness excepted: λ bounds every y ≤ t ≤ x.

    Examples
    --------
    >>> import numpy as np
    >>> from moe2opt.canonical.ratio import MaskedSoftmax
    >>> f = MaskedSoftmax(logits=[[0.0, 0.0, 0.0]], quality=[[0.8, 0.6, 0.2]])
    >>> x, y = np.array([[1, 1, 1]]), np.array([[0, 1, 0]])
    >>> f(x, x).round(4), f(x, y).round(4)
    (array([0.5333]), array([0.7]))
    """

    logits: FloatArray
    quality: FloatArray
    weights: FloatArray | None = None
    k: int | None = None
    allowed: BoolArray | None = None

    def __post_init__(self) -> None:
        quality = validate.real_array("quality", self.quality, 2, nonnegative=True)
        logits = validate.real_array("logits", self.logits, 2)
        validate.shaped("logits", logits, quality.shape, "(C, N)")
        if not quality.shape[1]:
            raise InputError(f"quality: shape {quality.shape} holds no expert")
        spread = np.ptp(logits, axis=1)
        if (spread > WIDEST_LOGITS).any():
            c = int(np.argmax(spread > WIDEST_LOGITS))
            raise InputError(
                f"logits[{c}] span {spread[c]:g} nats; beyond {WIDEST_LOGITS:g} weights underflow"
            )
        object.__setattr__(self, "quality", quality)
        object.__setattr__(self, "logits", logits)
        if self.weights is not None:
            weights = validate.real_array("weights", self.weights, 1, nonnegative=True)
            validate.shaped("weights", weights, (len(quality),), "(C,)")
            object.__setattr__(self, "weights", weights)
        if self.allowed is not None:
            allowed = np.asarray(self.allowed, dtype=bool)
            validate.shaped("allowed", allowed, quality.shape, "(C, N)")
            object.__setattr__(self, "allowed", allowed)
        if self.k is not None:
            self._check_ranking(self.k)

    def _check_ranking(self, k: int) -> None:
        """Raise unless better experts have larger logits."""
        if k < 1:
            raise InputError(f"k is {k}; expected at least 1")
        order = np.argsort(-self.quality, axis=1, kind="stable")
        falling = np.diff(np.take_along_axis(self.logits, order, axis=1), axis=1) <= 0
        if not falling.all():
            c = int(np.argmin(falling.all(axis=1)))
            raise InputError(f"logits[{c}] do not rank as quality[{c}], which k needs")

    def __call__(self, upper: IntArray, lower: IntArray) -> FloatArray:
        """Return F for ``(B, N)`` 0/1 corners `upper` and `lower`, shape ``(B,)``.

        Over boxes it is raised by more than all sums can lose to rounding, so that it is no less
        than the value computed at any choice of the box.
        """
        if upper is lower:
            return np.array([self._at(np.flatnonzero(point)) for point in upper])
        rows = max(1, _MOST_NUMBERS // max(1, self.quality.size))
        values = np.zeros(len(upper))
        for k in range(0, len(upper), rows):
            best = self.best_mixtures(upper[k : k + rows], lower[k : k + rows])
            weighted = best if self.weights is None else best * self.weights
            values[k : k + rows] = weighted.sum(axis=1)
        # Nothing is negative, so a sum is off by half a unit in the last place per term at most.
        return values * (1.0 + 8.0 * _UNIT * (sum(self.quality.shape) + 8))

    def _at(self, chosen: IntArray) -> float:
        """Return the value of the chosen experts, looking at no others."""
        order = np.argsort(-self.quality[:, chosen], axis=1, kind="stable")
        mass = np.take_along_axis(self._mass[:, chosen], order, axis=1)
        quality = np.take_along_axis(self.quality[:, chosen], order, axis=1)
        if self.k is not None:
            present = mass > 0
            mass = mass * (np.cumsum(present, axis=1) - present < self.k)
        total = mass.sum(axis=1)
        reached = (mass * quality).sum(axis=1)
        best = np.divide(reached, total, out=np.zeros_like(total), where=total > 0)
        return float((best if self.weights is None else best * self.weights).sum())

    def best_mixtures(self, upper: IntArray, lower: IntArray) -> FloatArray:
        """Return every cluster's own F for ``(B, N)`` corners, shape ``(B, C)``, unweighted."""
        active = np.asarray((upper > 0).any(axis=0) | (lower > 0).any(axis=0))
        order, quality, parts = self._among(active)
        chosen, kept = _columns(upper)[order], _columns(lower)[order]
        if self.k is not None:
            # Who has no mass may not serve and takes nobody's place.
            present = chosen * (parts[:, 0] > 0)
            leading = np.cumsum(present, axis=0) - present < self.k
            chosen, kept = chosen * leading, kept * leading
        offered, forced = parts * chosen[:, None], parts * kept[:, None]
        # The k best of x mixed with the rest of y: k grows while its last expert does not lose.
        # It is compared with the others alone, because its weight may be so large that their
        # mixture vanishes in the sum; k stops for good at the first who loses for the same reason.
        others = _better_and_worse(offered, forced)
        joins = others[:, 1] <= quality * others[:, 0]
        count = np.logical_and.accumulate(joins, axis=0).sum(axis=0)
        cluster, box = np.ogrid[: count.shape[0], : count.shape[1]]
        last = np.maximum(count - 1, 0)
        mass, reached = (
            others[last, part, cluster, box] + offered[last, part, cluster, box] for part in (0, 1)
        )
        best = np.divide(reached, mass, out=np.zeros_like(mass), where=mass > 0)
        return np.ascontiguousarray(best.T)

    def _among(self, active: BoolArray) -> tuple[IntArray, FloatArray, FloatArray]:
        """Return `_sorted` without the experts that are on neither corner of any box."""
        order, quality, parts = self._sorted
        if active.all() or not active.any():
            return order, quality, parts
        # Every cluster keeps the same number of experts.
        kept = np.nonzero(active[order.T])[1].reshape(order.shape[1], -1).T
        return (
            np.take_along_axis(order, kept, axis=0),
            np.take_along_axis(quality, kept[:, :, None], axis=0),
            np.take_along_axis(parts, kept[:, None, :, None], axis=0),
        )

    @cached_property
    def _mass(self) -> FloatArray:
        """``(C, N)`` weights before they are made to sum to one."""
        mass = np.exp(self.logits - self.logits.max(axis=1, keepdims=True))
        return mass if self.allowed is None else np.where(self.allowed, mass, 0.0)

    @cached_property
    def _sorted(self) -> tuple[IntArray, FloatArray, FloatArray]:
        """Experts by falling quality: index, quality, and weight with weight times quality.

        Shapes ``(N, C)``, ``(N, C, 1)`` and ``(N, 2, C, 1)``: sums run over the first axis, boxes
        lie along the last.
        """
        order = np.argsort(-self.quality, axis=1, kind="stable")
        quality = np.take_along_axis(self.quality, order, axis=1)
        mass = np.take_along_axis(self._mass, order, axis=1)
        parts = np.stack([mass, mass * quality])
        return (
            np.ascontiguousarray(order.T),
            np.ascontiguousarray(quality.T)[:, :, None],
            np.ascontiguousarray(parts.transpose(2, 0, 1))[:, :, :, None],
        )


def masked_softmax_problem(
    gate_logits: Any,
    quality: Any,
    costs: Any,
    budgets: Any,
    weights: Any = None,
    *,
    at_least_one: bool = True,
) -> MonotoneProblem:
    r"""Return: maximise the quality of the masked softmax mixture under budgets.

    Parameters
    ----------
    gate_logits, quality, weights
        See `MaskedSoftmax`.
    costs
        ``(K, N)`` non-negative use of budget k by expert i.
    budgets
        ``(K,)`` limits.
    at_least_one
        Whether some expert must be chosen. Without it the empty choice, of value 0, is allowed.

    Returns
    -------
    MonotoneProblem
        Over the unit box, with a mixed-monotone objective.

    Raises
    ------
    InputError
        Naming the array and the index at fault.

    Examples
    --------
    >>> import moe2opt as mo
    >>> from moe2opt.canonical.ratio import masked_softmax_problem
    >>> p = masked_softmax_problem([[0.0, 0.0]], [[0.9, 0.5]], costs=[[2, 1]], budgets=[3])
    >>> mo.solve(p, solver="brb").x.tolist(), p.evaluate([1, 1])
    ([1, 0], 0.7)
    """
    objective = MaskedSoftmax(gate_logits, quality, weights)
    ceiling = masked_softmax_ceiling(quality, costs, budgets, weights, at_least_one=at_least_one)
    rows = ceiling.as_monotone()
    return MonotoneProblem(
        lower=rows.lower,
        upper=rows.upper,
        constraints=rows.constraints,
        reverse_constraints=rows.reverse_constraints,
        mixed_objective=objective,
    )


def masked_softmax_ceiling(
    quality: Any, costs: Any, budgets: Any, weights: Any = None, *, at_least_one: bool = True
) -> FacilityProblem:
    r"""Return the facility problem whose optimum bounds that of every gate.

    A mixture is at most its best part, :math:`f_c(S) \le \max_{i \in S} q_{ci}`, whatever the
    logits; the constraints are the same. The facility engine solves this problem at sizes far
    beyond the reach of the mixed-monotone bound.
    """
    quality = validate.real_array("quality", quality, 2, nonnegative=True)
    covers = (np.arange(quality.shape[1]),) if at_least_one else ()
    return FacilityProblem(quality, costs, budgets, weights, covers=covers)


def _columns(points: IntArray) -> FloatArray:
    """Return ``(B, N)`` points as ``(N, B)`` floats."""
    return np.ascontiguousarray(points.T, dtype=np.float64)


def _better_and_worse(head: FloatArray, tail: FloatArray) -> FloatArray:
    """Return ``head[:k].sum(axis=0) + tail[k + 1:].sum(axis=0)`` for every k; overwrites `tail`.

    The rest of y is summed from its far end: differences of sums would cancel where the weights
    differ widely. Adding slice by slice is several times as fast as `numpy.cumsum` here.
    """
    sums = np.zeros_like(head)
    for k in range(1, len(head)):
        np.add(sums[k - 1], head[k - 1], out=sums[k])
    for k in range(len(tail) - 2, 0, -1):
        tail[k] += tail[k + 1]
    sums[:-1] += tail[1:]
    return sums
