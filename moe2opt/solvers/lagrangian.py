r"""Many cheap nodes: Lagrangian bounds by a few compiled subgradient steps per box.

A box inherits the multipliers of the box it was cut from, which are nearly right. A handful of
deflected steps towards the cutoff either close it or give its children a better start.
"""

from __future__ import annotations

import numpy as np

from moe2opt.solvers.base import Search
from moe2opt.solvers.cuts import CutBound
from moe2opt.solvers.descent import descend
from moe2opt.solvers.facility_model import Bounded, FacilityModel, Subset

#: Subgradient steps per box.
_STEPS = 50

#: Cheap boxes before the linear programme is tried, and boxes of that trial.
_CHEAP_FIRST, _TRIAL = 100, 4

#: Work of the programme per box and cluster above which it counts as slow. Measured: 0.2-0.6 on
#: the real catalogue, where it saves nine tenths of the tree; 20-1,400 on generated instances,
#: where cheap boxes were 3 to 20 times faster.
_BOX_WORK = 10

#: The same where cheap boxes have closed less than a share of the gap: on p-median with many
#: facilities (pmed14, 147 per box) they never did, while the programme needed nine boxes.
_STALLED_WORK, _STALLED = 600, 0.05


class LagrangianBound:
    """Multipliers from subgradient steps that start at those of the parent box."""

    def __init__(self, model: FacilityModel, root: CutBound) -> None:
        self.model, self.root, self.started = model, root, False
        size = model.best_values
        mean = float(size.mean()) if len(size) else 0.0
        self.cluster_step = size / mean if mean > 0 else np.ones(len(size))
        limits = model.problem.limits
        self.row_step = 0.5 * np.sqrt(max(1, len(size))) / np.maximum(limits, 1e-300)
        self.row_step[limits <= 0] = 0.0

    def bound(self, box: Subset, search: Search) -> Bounded:
        """Return multipliers for `box`; without a start, those of the linear programme."""
        if box.parent is None:
            self.started = True
            return self.root.bound(box, search)
        return self.bound_cheaply(box, search.target)

    def is_cheap(self) -> bool:
        """Tell whether the next box is bounded by steps alone."""
        return self.started

    def bound_cheaply(self, box: Subset, target: float) -> Bounded:
        """Return multipliers for a box with a start, by steps towards `target`."""
        assert box.parent is not None
        model, start = self.model, box.parent.price
        budgets = len(model.problem.limits)
        fixed_rows, cover = start.row[budgets:], start.cover
        bonus = cover @ model.covers - fixed_rows @ model.rows[budgets:]
        constant = float(fixed_rows @ model.limits[budgets:] - cover.sum())
        _, cluster, row, average = descend(
            model.columns,
            model.near,
            model.nearest,
            model.last,
            box.allowed,
            box.forced,
            model.part_of,
            len(model.parts),
            model.problem.costs,
            model.problem.limits,
            bonus,
            self.cluster_step,
            self.row_step,
            start.cluster * model.kinds.count,
            start.row[:budgets],
            target - constant,
            _STEPS,
        )
        price = model.price(box, cluster, np.concatenate([row, fixed_rows]), cover)
        return Bounded(price, average, cheap=True)


class AutomaticBound:
    """Cheap boxes first; the linear programme where they do not finish and it is quick.

    Small trees end within the first cheap boxes. Where they do not, the data decide: with few
    experts that matter (a real catalogue), or a relaxation that is nearly tight (p-median), the
    programme takes a few pivots per box and its bound saves most of the tree; on large or
    unstructured data it takes hundreds, and many cheap boxes win. Work is counted in pivots times
    rows and columns, not timed, so that a run can be repeated.
    """

    def __init__(self, model: FacilityModel) -> None:
        self.cuts = CutBound(model)
        self.cheap = LagrangianBound(model, self.cuts)
        self.kinds = len(model.best_values)
        self.cheap_boxes = 0
        self.programme_boxes = 0
        self.root_work, self.root_bound = 0, np.inf
        self.quick: bool | None = None
        self._restart = False

    def bound(self, box: Subset, search: Search) -> Bounded:
        """Return the multipliers of whichever bound the work so far speaks for."""
        return (self.cheap if self.is_cheap() else self.cuts).bound(box, search)

    def count(self, bounded: Bounded, search: Search) -> None:
        """Take note of what bounded a box."""
        if bounded.cheap:
            self.cheap_boxes += 1
            return
        self.programme_boxes += 1
        if self.programme_boxes == 1:
            self.root_work = self.cuts.work
            self.root_bound = search.rounded(bounded.price.value)
            self.cheap.started = True
        elif self.quick is None:
            self._judge(self.cuts.work - self.root_work, search)

    def _judge(self, spent: int, search: Search) -> None:
        """Decide for or against the programme, after the trial or once it took too long."""
        rate = _STALLED_WORK if self._stalled(search) else _BOX_WORK
        slow = spent > rate * self.kinds * _TRIAL
        if slow or self.programme_boxes > _TRIAL:
            self.quick = self._restart = not slow

    def is_cheap(self) -> bool:
        """Tell whether the next box is bounded by steps alone."""
        if self.programme_boxes == 0:
            return False
        return self.cheap_boxes < _CHEAP_FIRST if self.quick is None else not self.quick

    def _stalled(self, search: Search) -> bool:
        gap = self.root_bound - search.cutoff
        return self.root_bound - search.bound < _STALLED * gap

    def wants_restart(self) -> bool:
        """Tell, once the programme proved quick, that a tree of its own is worth it."""
        wanted, self._restart = self._restart, False
        return wanted

    def bound_cheaply(self, box: Subset, target: float) -> Bounded:
        """Return multipliers for a box with a start, by steps towards `target`."""
        return self.cheap.bound_cheaply(box, target)
