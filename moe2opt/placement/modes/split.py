"""Two machines side by side: experts off the fast tier are computed in place or copied to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from moe2opt.placement.assignment import NOWHERE, Assignment, plain
from moe2opt.placement.modes.layered import LayerMenu
from moe2opt.placement.modes.tiers import Stored, Tiers
from moe2opt.placement.sections import Split as Section
from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.steps import step

#: Up to this many experts the balance is found by looking at every split.
_ENUMERATED = 16


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


@dataclass(frozen=True, eq=False)
class Split(Tiers):
    """A layer takes as long as the slower of its two machines."""

    part: ClassVar[str] = "split"
    beside: ClassVar[frozenset[str]] = frozenset({"aggregation"})
    by_place: ClassVar[bool] = False

    @property
    def section(self) -> Section:
        """The part of the configuration."""
        section = self.case.config.split
        assert section is not None
        return section

    @cached_property
    def pair(self) -> tuple[int, int]:
        """Positions of the fast and the slow tier."""
        index = self.case.topology.index
        return index(self.section.fast, "split.fast"), index(self.section.slow, "split.slow")

    @cached_property
    def costs(self) -> FloatArray:
        """``(3, Q)`` seconds of a use: resident, computed in the slow tier, copied to the fast."""
        use_in, hidden = self.case.topology.use_in, self.case.shape.hidden
        return np.array(
            [
                [sum(use_in(*way, size, hidden)[:3]) for size in self.case.expert_bytes]
                for way in self._ways
            ]
        )

    @cached_property
    def joules_of(self) -> FloatArray:
        """``(3, Q)`` joules of a use: resident, computed in the slow tier, copied to the fast."""
        return self.case.joules_of(self._ways)

    @property
    def _ways(self) -> list[tuple[int, int]]:
        fast, slow = self.pair
        return [(fast, fast), (slow, slow), (slow, fast)]

    def placed(self, tier: IntArray, precision: IntArray) -> Assignment:
        """Return experts that stay where they are: none is copied."""
        return plain(tier, precision, copied=np.zeros(tier.shape[:2], dtype=np.int64))

    def open_tiers(self) -> list[int]:
        """Return the two tiers."""
        return list(self.pair)

    def order(self, precision: int) -> IntArray:
        """Return the fast tier, then the slow one."""
        return np.array(self.pair)

    def second_terms(self, assignment: Assignment, shares: FloatArray) -> list[FloatArray]:
        """Return the slower machine of each layer."""
        assert assignment.copied is not None
        uses = self.uses(assignment, shares)
        stay, slow, copy = self.costs[:, assignment.precision[:, :, 0]]
        off = assignment.tier[:, :, 0] == self.pair[1]
        copied = off & (assignment.copied == 1)
        cpu = (uses * slow * (off & ~copied)).sum(axis=1)
        gpu = (uses * np.where(copied, copy, np.where(off, 0.0, stay))).sum(axis=1)
        return [np.maximum(cpu, gpu)]

    def joules_each(self, assignment: Assignment) -> FloatArray:
        """Return the ``(L, E)`` joules of one use of each expert."""
        assert assignment.copied is not None
        stay, slow, copy = self.joules_of[:, assignment.precision[:, :, 0]]
        tier = assignment.tier[:, :, 0]
        joules = np.where(assignment.copied == 1, copy, np.where(tier == self.pair[1], slow, stay))
        return np.where(tier == NOWHERE, self.case.pruned_use_j, joules)

    def load_terms(self, assignment: Assignment, shares: FloatArray) -> list[FloatArray]:
        """Return the copies to the fast tier."""
        assert assignment.copied is not None
        return [self.uses(assignment, shares) * assignment.copied.astype(np.float64)]

    def layer_metrics(
        self, stored: Stored, ends: IntArray, served: FloatArray, precision: int
    ) -> dict[str, FloatArray]:
        """Return figures of M vectors of numbers with the best split of those off the fast tier."""
        found = [self.balance(stored.uses, int(n), precision) for n in ends[:, 0]]
        copied = np.array([balance.copied_uses for balance in found])
        metrics = {
            "seconds_per_token": np.array([balance.seconds for balance in found]),
            "loads_per_token": copied,
        }
        stay_j, slow_j, copy_j = self.joules_of[:, precision]
        used = np.concatenate([np.zeros(1), np.cumsum(stored.uses)])
        kept = used[ends[:, 0]]
        if np.isfinite([stay_j, slow_j, copy_j]).all():
            rest_j = (used[-1] - kept - copied) * slow_j + copied * copy_j
            metrics["joules_per_token"] = kept * stay_j + rest_j
        return metrics

    def read(self, menus: list[LayerMenu], x: IntArray) -> Assignment:
        """Return the chosen numbers per tier, and which of the others are copied."""
        found = super().read(menus, x)
        copied = np.zeros(self.case.shape.size, dtype=np.int64)
        for layer, (menu, i) in enumerate(zip(menus, x, strict=True)):
            _, stored = self.stored_of(layer, menu, i)
            residents = int(menu.counts[i][self.pair[0]])
            balance = self.balance(stored.uses, residents, int(menu.precision[i]))
            copied[layer, stored.experts[residents:][balance.copied]] = 1
        return replace(found, copied=copied)

    def balance(self, uses: FloatArray, residents: int, precision: int) -> Balance:
        """Return the best split of the experts after the first `residents`, which stay fast.

        The slow tier computes some in place while the others are copied and computed on the fast
        one; the layer takes as long as the slower of both. Up to 16 experts every split is looked
        at; beyond that the uses are rounded to a grid and the balance is found by dynamic
        programming.
        """
        step()
        stay, slow, copy = self.costs[:, precision]
        rest = uses[residents:]
        base = float(uses[:residents].sum()) * stay
        chosen = (
            _enumerated(rest, base, slow, copy)
            if len(rest) <= _ENUMERATED
            else _on_grid(rest, base, slow, copy, self.section.steps)
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
