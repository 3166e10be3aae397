r"""Many cheap nodes: Lagrangian bounds by a few compiled subgradient steps per node.

A node inherits the multipliers of its parent, which are nearly right. A handful of deflected steps
towards the cutoff either prune it or give its children a better start. The root starts from what a
good choice suggests.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moe2opt.result import BoolArray, FloatArray
from moe2opt.solvers.base import Search
from moe2opt.solvers.facility.cuts import CutBound
from moe2opt.solvers.facility.descent import Pace, descend
from moe2opt.solvers.facility.model import Bounded, FacilityModel, Subset

#: Experts that use less than this share of the budgets say nothing about what these are worth.
_FREE = 1e-12

#: More nodes than any tree has.
_NEVER = 2**62


class LagrangianBound:
    """Multipliers from subgradient steps that start at those of the parent node."""

    def __init__(self, model: FacilityModel) -> None:
        self.model, self.started = model, False
        size = model.best_values
        mean = float(size.mean()) if len(size) else 0.0
        self.cluster_step = size / mean if mean > 0 else np.ones(len(size))
        # Copies, since kernels are compiled for arrays that can be written.
        self.costs, self.limits = np.array(model.problem.costs), np.array(model.problem.limits)
        limits = self.limits
        self.row_step = 0.5 * np.sqrt(max(1, len(size))) / np.maximum(limits, 1e-300)
        self.row_step[limits <= 0] = 0.0

    def bound(self, box: Subset, search: Search) -> Bounded:
        """Return multipliers for `box`; without a start, those of the LP."""
        if box.parent is None:
            self.started = True
            return CutBound(self.model).bound(box, search)
        return self.bound_cheaply(box, search.target)

    def is_cheap(self) -> bool:
        """Tell whether the next node is bounded by subgradient steps alone."""
        return self.started

    def allowance(self) -> int:
        """Return after how many cheap nodes it is decided again whether they stay cheap: never."""
        return _NEVER

    def took(self, count: int, search: Search) -> None:
        """Take note of cheap nodes, which changes nothing."""

    def begin(self, box: Subset, search: Search) -> Bounded:
        """Return multipliers for the first node, by steps from what the incumbent suggests."""
        cluster, row = self._suggested(np.asarray(search.x) > 0)
        bounded = Bounded(self.model.price(box, cluster, row, np.zeros(0)))
        tuning = self.model.tuning
        length = tuning.length
        for _ in range(tuning.root_descents):
            start = replace(box, parent=bounded)
            lower = self.bound_cheaply(start, search.target, length)
            gained = bounded.price.value - lower.price.value
            if gained > 0:
                bounded = lower
            gap = bounded.price.value - search.cutoff
            settled = length < tuning.length and gained < tuning.worthwhile * gap
            if gap <= 0 or settled or search.limit_reached() is not None:
                break
            length *= tuning.gentler
        return bounded

    def _suggested(self, chosen: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Return multipliers under which a choice looks good.

        Thresholds lie halfway between the two best values that it gives to each cluster; budgets
        share in paying for what the expert in the middle gains beyond them.
        """
        model, budgets = self.model, len(self.model.problem.limits)
        experts = np.unique(model.merged_index[chosen])
        row = np.zeros(len(model.limits))
        if not len(experts):
            return model.best_values.copy(), row
        served = np.sort(model.columns[experts], axis=0)
        cluster = 0.5 * (served[-1] + served[-2]) if len(experts) > 1 else 0.5 * served[-1]
        gain = np.maximum(model.columns[experts] - cluster, 0.0).sum(axis=1)
        gain = np.maximum(gain - model.problem.fixed[experts], 0.0)
        limits = model.problem.limits
        scarce = limits > 0
        shares = (model.problem.costs[scarce][:, experts] / limits[scarce][:, None]).sum(axis=0)
        paying = shares > _FREE
        if paying.any():
            rate = float(np.median(gain[paying] / shares[paying]))
            row[:budgets][scarce] = rate / limits[scarce]
        return cluster, row

    def bound_cheaply(self, box: Subset, target: float, length: float | None = None) -> Bounded:
        """Return multipliers for a node with a start, by steps towards `target`."""
        assert box.parent is not None
        tuning = self.model.tuning
        model, start = self.model, box.parent.price
        budgets = len(model.problem.limits)
        fixed_rows, cover = start.row[budgets:], start.cover
        bonus = cover @ model.covers - fixed_rows @ model.rows[budgets:] - model.problem.fixed
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
            self.costs,
            self.limits,
            bonus,
            self.cluster_step,
            self.row_step,
            start.cluster * model.kinds.count,
            start.row[:budgets],
            target - constant,
            tuning.steps,
            min(tuning.length, box.length) if length is None else length,
            Pace.of(tuning),
        )
        price = model.price(box, cluster, np.concatenate([row, fixed_rows]), cover)
        return Bounded(price, average, cheap=True)


class AutomaticBound:
    """Cheap nodes first; the LP where they do not finish and it is quick.

    Small trees end within the first cheap nodes, and need no LP at all unless its rows
    matter. Where they do not end, a second tree starts from the LP's root, and the data
    decide: with few experts that matter (a real catalogue), or a relaxation that is nearly tight
    (p-median), the LP takes a few pivots per node and its bound saves most of the tree; on
    large or unstructured data it takes hundreds, and many cheap nodes win. Work is counted in
    pivots times rows and columns, not timed, so that a run can be repeated.
    """

    def __init__(self, model: FacilityModel) -> None:
        self.model = model
        self._cuts: CutBound | None = None
        self.cheap = LagrangianBound(model)
        self.kinds = len(model.best_values)
        self.cheap_nodes = 0
        self.lp_nodes = 0
        self.root_work, self.root_bound = 0, np.inf
        self.quick: bool | None = None
        # Prices of covers, of overlapping cliques and of rounded rows only come from the LP.
        self.first_tree = _only_budgets(model)
        self.next_look, self.closed_before = model.tuning.first_look, 0.0
        self._restart = False

    @property
    def cuts(self) -> CutBound:
        """The LP, set up once it is wanted."""
        self._cuts = self._cuts or CutBound(self.model)
        return self._cuts

    def bound(self, box: Subset, search: Search) -> Bounded:
        """Return the multipliers of whichever bound the work so far speaks for."""
        if box.parent is None:
            self.first_tree = self.first_tree and search.x is not None
            return (self.cheap.begin if self.first_tree else self.cuts.bound)(box, search)
        return (self.cheap if self.is_cheap() else self.cuts).bound(box, search)

    def count(self, bounded: Bounded, search: Search) -> None:
        """Take note of what bounded a node."""
        if self.first_tree:
            self._count_first(bounded, search)
            return
        if bounded.cheap:
            self.cheap_nodes += 1
            return
        self.lp_nodes += 1
        if self.lp_nodes == 1:
            self.root_work = self.cuts.work
            self.root_bound = search.rounded(bounded.price.value)
        elif self.quick is None:
            self._judge(self.cuts.work - self.root_work, search)

    def _count_first(self, bounded: Bounded, search: Search) -> None:
        """Take note of a node of the first tree."""
        if self.cheap_nodes == 0:
            self.root_bound = search.rounded(bounded.price.value)
        self.took(1, search)

    def allowance(self) -> int:
        """Return after how many cheap nodes it is decided again whether they stay cheap."""
        if self.first_tree:
            return self.next_look - self.cheap_nodes
        return self.model.tuning.cheap_first - self.cheap_nodes if self.quick is None else _NEVER

    def took(self, count: int, search: Search) -> None:
        """Take note of cheap nodes; end the first tree where it makes no progress."""
        self.cheap_nodes += count
        if self.first_tree and self.cheap_nodes == self.next_look:
            closed = self._closed(search)
            least = self.model.tuning.least_progress * (1.0 - self.closed_before)
            if closed - self.closed_before < least:
                self.first_tree, self.cheap_nodes, self._restart = False, 0, True
            self.closed_before = closed
            self.next_look *= 2

    def _judge(self, spent: int, search: Search) -> None:
        """Decide for or against the LP, after the trial or once it took too long."""
        tuning = self.model.tuning
        stalled = self._closed(search) < tuning.stalled
        rate = tuning.stalled_work if stalled else tuning.node_work
        slow = spent > rate * self.kinds * tuning.trial
        if slow or self.lp_nodes > tuning.trial:
            self.quick = self._restart = not slow

    def is_cheap(self) -> bool:
        """Tell whether the next node is bounded by subgradient steps alone."""
        if self.first_tree or self.lp_nodes == 0:
            return self.first_tree
        if self.quick is None:
            return self.cheap_nodes < self.model.tuning.cheap_first
        return not self.quick

    def _closed(self, search: Search) -> float:
        """Return the share of the root's gap that is closed."""
        gap = self.root_bound - search.cutoff
        return (self.root_bound - search.bound) / gap if gap > 0 else 1.0

    def wants_restart(self) -> bool:
        """Tell, where the first tree ended or the LP proved quick, to begin another."""
        wanted, self._restart = self._restart, False
        return wanted

    def bound_cheaply(self, box: Subset, target: float) -> Bounded:
        """Return multipliers for a node with a start, by steps towards `target`."""
        return self.cheap.bound_cheaply(box, target)


def _only_budgets(model: FacilityModel) -> bool:
    """Tell whether budgets and disjoint cliques are all there is."""
    sets = model.rows[len(model.problem.limits) :]
    overlapping = bool((sets.sum(axis=0) > 1.0).any())
    return not (len(model.covers) or model.merged.types or overlapping)
