"""Relative gaps: what they are, and which of them count as closed."""

from __future__ import annotations

import math

#: The relative gap that counts as closed unless another is asked for: the default of `rel_gap`.
#: Whole-numbered objectives are closed exactly within it.
NUMERICAL_GAP = 1e-9

#: What two sums of the same fractions may differ by: no run on fractions closes more than this.
EXACT_GAP = 1e-12

#: A relative gap that is asked for beyond this only says when to stop: a plan that may be worth
#: less than half of the best one is not called optimal.
LARGEST_GAP = 1.0

#: Denominators of relative gaps never fall below this.
_SMALLEST_SCALE = 1e-10


def relative_gap(objective: float, bound: float) -> float:
    """Return ``(bound - objective) / max(|objective|, 1e-10)``, never NaN.

    Parameters
    ----------
    objective
        Value of the incumbent (maximisation); ``-inf`` or NaN when there is none.
    bound
        Proven upper bound; ``inf`` when nothing is proven.
    """
    if not math.isfinite(objective) or not math.isfinite(bound):
        return math.inf
    return max(0.0, bound - objective) / max(abs(objective), _SMALLEST_SCALE)


def optimal_within(rel_gap: float) -> float:
    """Return the relative gap up to which a plan is optimal when `rel_gap` was asked for."""
    return rel_gap if rel_gap <= LARGEST_GAP else 0.0


def closing_gap(rel_gap: float, integral: bool) -> float:
    """Return the relative gap at which every run ends that was asked for `rel_gap`.

    Whole numbers are closed exactly up to `NUMERICAL_GAP`, so that the default never leaves a unit
    open where values are large; fractions are never closed further than they can be summed.
    """
    if integral:
        return rel_gap if rel_gap > NUMERICAL_GAP else 0.0
    return max(rel_gap, EXACT_GAP)
