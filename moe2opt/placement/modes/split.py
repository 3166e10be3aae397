"""Numbers of a layer's experts per tier, and the balance of two machines."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moe2opt.result import BoolArray, FloatArray, InputError, IntArray
from moe2opt.steps import step

if TYPE_CHECKING:
    from moe2opt.placement.question import PlacementInstance

#: Up to this many experts the balance is found by looking at every split.
_ENUMERATED = 16
_MOST_VECTORS = 100_000


@dataclass(frozen=True, slots=True, eq=False)
class Balance:
    """A split of the experts off the fast tier.

    Attributes
    ----------
    copied
        Which of them are copied to the fast tier.
    seconds
        The slower of the two machines.
    copied_uses
        Copies per token.
    """

    copied: BoolArray
    seconds: float
    copied_uses: float


def numbers_per_tier(instance: PlacementInstance, stored: int) -> IntArray:
    """Return the ``(M, T)`` vectors of numbers that sum to `stored`.

    With a split only its two tiers are used. Numbers are multiples of ``lots.step``, or `stored`;
    the last tier takes the rest, or the one before it where ``lots`` is about the last tier, which
    holds none or at least its share.
    """
    tiers = len(instance.topology.tiers)
    lots = instance.config.lots
    step = 1 if lots is None else lots.step
    grid = sorted({*range(0, stored + 1, step), stored})
    free = _free_tiers(instance)
    about = None if lots is None else instance.topology.index(lots.tier, "lots.tier")
    if free[-1] == about:
        free[-2:] = free[:-3:-1]
    if len(grid) ** (len(free) - 1) > _MOST_VECTORS:
        raise InputError(
            f"lots.step: {len(free)} tiers and {stored} experts give too many numbers per layer; "
            "set a larger step"
        )
    vectors = [
        (*head, stored - sum(head))
        for head in itertools.product(grid, repeat=len(free) - 1)
        if sum(head) <= stored
    ]
    counts = np.zeros((len(vectors), tiers), dtype=np.int64)
    counts[:, free] = np.array(vectors)
    if lots is None:
        return counts
    inside = counts[:, about]
    return np.asarray(counts[(inside == 0) | (inside >= lots.least_share * stored - 1e-9)])


def _free_tiers(instance: PlacementInstance) -> list[int]:
    if instance.config.split is not None:
        return list(instance.split_tiers)
    return list(range(len(instance.topology.tiers)))


def best_split(
    instance: PlacementInstance, uses: FloatArray, residents: int, precision: int
) -> Balance:
    """Return the best split of the experts after the first `residents`, which are on the fast tier.

    The slow tier computes some in place while the others are copied and computed on the fast one;
    the layer takes as long as the slower of both. Up to 16 experts every split is looked at; beyond
    that the uses are rounded to a grid and the balance is found by dynamic programming.
    """
    step()
    split = instance.config.split
    assert split is not None
    stay, slow, copy = instance.split_costs[:, precision]
    rest = uses[residents:]
    base = float(uses[:residents].sum()) * stay
    chosen = (
        _enumerated(rest, base, slow, copy)
        if len(rest) <= _ENUMERATED
        else _on_grid(rest, base, slow, copy, split.steps)
    )
    moved = float(rest[chosen].sum())
    left = float(rest[~chosen].sum())
    return Balance(chosen, max(left * slow, base + moved * copy), moved)


def _enumerated(rest: FloatArray, base: float, slow: float, copy: float) -> BoolArray:
    masks = np.arange(2 ** len(rest))
    bits = (masks[:, None] >> np.arange(len(rest))) & 1
    moved = bits @ rest
    times = np.maximum((rest.sum() - moved) * slow, base + moved * copy)
    return np.asarray(bits[int(np.argmin(times))].astype(bool))


def _on_grid(rest: FloatArray, base: float, slow: float, copy: float, steps: int) -> BoolArray:
    """Return the subset whose sum is nearest to the balance, sums rounded to a grid."""
    total = float(rest.sum())
    if not total:
        return np.zeros(len(rest), dtype=bool)
    units = np.round(rest / total * steps).astype(np.int64)
    reach = np.zeros((len(rest) + 1, int(units.sum()) + 1), dtype=bool)
    reach[0, 0] = True
    for k, unit in enumerate(units):
        reach[k + 1] = reach[k]
        reach[k + 1, unit:] |= reach[k, : reach.shape[1] - unit]
    sums = np.flatnonzero(reach[-1])
    moved = sums / steps * total
    times = np.maximum((total - moved) * slow, base + moved * copy)
    at = int(sums[int(np.argmin(times))])
    chosen = np.zeros(len(rest), dtype=bool)
    for k in range(len(rest) - 1, -1, -1):
        if not reach[k, at]:
            chosen[k] = True
            at -= int(units[k])
    return chosen
