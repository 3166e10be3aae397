"""Separable monotone problems, solved as the multiple-choice problems that they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from moe2opt.canonical import ChoiceView, MonotoneProblem
from moe2opt.result import Certificate, ProgressEvent
from moe2opt.solvers.base import Search
from moe2opt.solvers.ceiling import ceiling
from moe2opt.solvers.choice.relaxation import choice_relaxation
from moe2opt.solvers.monotone.relaxation import monotone_relaxation
from moe2opt.solvers.relaxation import Explored

#: What works through the tree of a relaxation.
Explore = Callable[[Any, Search], Explored]


class SeparableRelaxation:
    """The tree of the choice view, which is a proof about the monotone problem, too.

    Should rounding outward have let in a point that the problem itself refuses, the oracles decide.
    """

    def __init__(self, problem: MonotoneProblem, view: ChoiceView, explore: Explore) -> None:
        self.problem, self.view, self._explore = problem, view, explore
        self._inner: Any = None
        self._is_view = True

    def explore(self, search: Search) -> Explored:
        """Prove the optimum of the view, telling the search of its solutions and bounds."""
        scale = self.view.scale
        start = None if search.x is None else self.view.options(search.x)

        def tell(event: ProgressEvent) -> None:
            search.nodes, search.open_nodes = event.nodes, event.open_nodes
            if trial.x is not None and event.source.strip():
                search.offer(self.view.point(trial.x), event.source)
            search.improve_bound(scale.above(event.bound))
            search.tick()

        trial = search.viewed(self.view.problem, start, scale.within, tell)
        trial.offer_start()
        self._inner = choice_relaxation(self.view.problem, trial)
        explored = self._explore(self._inner, trial)
        search.nodes = trial.nodes
        if trial.x is not None:
            point = self.view.point(trial.x)
            search.offer(point, "H")
            if explored.limit is None and not self.problem.is_feasible(point):
                self._is_view = False
                self._inner = monotone_relaxation(self.problem, search)
                return self._explore(self._inner, search)
        bound = ceiling(self.view.problem) if explored.bound == math.inf else explored.bound
        claim, wanted = scale.above(bound), search.cutoff
        # A claim just above the cutoff by rounding would leave a run open that pruned every node.
        if bound <= scale.within(wanted):
            claim = min(claim, wanted)
        return Explored(claim, explored.limit)

    def certificate(self, claim: float) -> Certificate:
        """Return the certificate of the view's tree, with the claim in values of the problem."""
        if not self._is_view:
            certificate: Certificate = self._inner.certificate(claim)
            return certificate
        proof: Certificate = self._inner.certificate(self.view.scale.within(claim))
        return replace(proof, claim=claim, problem_hash=self.problem.fingerprint).sealed()
