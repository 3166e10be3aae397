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
_STEPS = 35

#: Work per cluster above which the linear programme counts as slow: at the root, and per box after
#: a trial of some boxes. Measured: 70-170 and up to 35 on the real catalogue, 600-1,200 and
#: 170-1,200 on generated instances, where cheap boxes were 3 to 20 times faster overall.
_ROOT_WORK, _BOX_WORK = 300, 60
_TRIAL = 12


class LagrangianBound:
    """Multipliers from subgradient steps that start at those of the parent box."""

    def __init__(self, model: FacilityModel, root: CutBound) -> None:
        self.model, self.root, self.started = model, root, False
        size = model.ranked[:, 0] if model.problem.clusters else np.zeros(0)
        mean = float(size.mean()) if len(size) else 0.0
        self.cluster_step = size / mean if mean > 0 else np.ones(len(size))
        limits = model.problem.limits
        self.row_step = 0.5 * np.sqrt(max(1, model.problem.clusters)) / np.maximum(limits, 1e-300)
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
            start.cluster,
            start.row[:budgets],
            target - constant,
            _STEPS,
        )
        price = model.price(box, cluster, np.concatenate([row, fixed_rows]), cover)
        return Bounded(price, average, cheap=True)


class AutomaticBound:
    """The linear programme where it is quick, cheap nodes where it is not.

    On data of few experts that matter (a real catalogue) the programme takes a few pivots per box
    and its bound saves most of the tree. On large or unstructured data it takes hundreds, and
    many cheap boxes win. Work is counted in pivots times rows and columns, not timed, so that a
    run can be repeated.
    """

    def __init__(self, model: FacilityModel) -> None:
        self.cuts = CutBound(model)
        self.cheap = LagrangianBound(model, self.cuts)
        self.clusters = model.problem.clusters
        self.boxes = 0
        self.root_work = 0

    def bound(self, box: Subset, search: Search) -> Bounded:
        """Return the multipliers of whichever bound the work so far speaks for."""
        if self.is_cheap():
            return self.cheap.bound(box, search)
        bounded = self.cuts.bound(box, search)
        self.boxes += 1
        if self.boxes == 1:
            self.root_work = self.cuts.work
        return bounded

    def is_cheap(self) -> bool:
        """Tell whether the next box is bounded by steps alone."""
        return self.boxes > 0 and self._programme_is_slow()

    def bound_cheaply(self, box: Subset, target: float) -> Bounded:
        """Return multipliers for a box with a start, by steps towards `target`."""
        return self.cheap.bound_cheaply(box, target)

    def _programme_is_slow(self) -> bool:
        if self.root_work > _ROOT_WORK * self.clusters:
            return True
        spent = self.cuts.work - self.root_work
        return self.boxes > _TRIAL and spent > _BOX_WORK * self.clusters * (self.boxes - 1)
