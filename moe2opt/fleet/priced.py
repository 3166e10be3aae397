"""One site at one price of the shared budget: an ordinary problem for the ordinary engines.

A site that pays price p per unit maximises value - p * use. For multiple choice the price goes into
the values. For a facility problem it goes into extra clusters: of a set G of which at most one
expert is chosen, choosing i costs p * a_i. A cluster of its own values i at p * (a_max - a_i), and
an added expert "nobody", exclusive with G and free of charge, at p * a_max. The optimum then is
that of value - p * use, plus the constant p * (sum of all a_max).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from moe2opt.canonical import FacilityProblem, MultipleChoiceProblem, partition
from moe2opt.certify import certify
from moe2opt.content import Content
from moe2opt.fleet.sites import Fleet, SiteProblem
from moe2opt.result import Certificate, IntArray, Result
from moe2opt.solvers import Interrupt, Options, Outcome, Search
from moe2opt.solvers.brb import choose_relaxation, explore

#: What rounding of priced values can add to a bound, relative to their size.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Priced:
    """A site's problem at a price.

    Attributes
    ----------
    problem
        The priced problem.
    shift
        Its optimum minus that of value - price * use.
    size
        Number of the site's own variables; the others are "nobody" of each set.
    sets
        Sets of which at most one is chosen, in the order of the added experts.
    """

    problem: SiteProblem
    shift: float
    size: int
    sets: tuple[IntArray, ...] = ()

    def extended(self, x: IntArray | None) -> IntArray | None:
        """Return a solution of the site as one of the priced problem."""
        if x is None or not self.sets:
            return x
        nobody = [int(not x[members].any()) for members in self.sets]
        return np.concatenate([x, np.array(nobody, dtype=np.int64)])

    def net(self, bound: float) -> float:
        """Return a bound on value - price * use from one on the priced problem."""
        if not math.isfinite(bound):
            return bound
        return bound - self.shift + _ROUNDING * (abs(bound) + abs(self.shift))


def priced(problem: SiteProblem, row: int, price: float) -> Priced:
    """Return the problem whose optimum is the best of value - price * use, shifted."""
    if price == 0.0:
        return Priced(problem, 0.0, problem.size)
    if isinstance(problem, MultipleChoiceProblem):
        worth = problem.flat_values - price * problem.costs[row]
        split = np.split(worth, problem.offsets[1:-1])
        choice = MultipleChoiceProblem(split, problem.usage, problem.budgets)
        return Priced(choice, 0.0, problem.size)
    sets = tuple(partition(problem.groups, problem.size))
    count, clusters = len(sets), problem.clusters
    values = np.zeros((clusters + count, problem.size + count))
    values[:clusters, : problem.size] = problem.weighted
    total = []
    for s, members in enumerate(sets):
        cost = price * problem.costs[row][members]
        most = float(cost.max())
        values[clusters + s, members] = most - cost
        values[clusters + s, problem.size + s] = most
        total.append(most)
    inside = {int(i): s for s, members in enumerate(sets) for i in members}
    groups = [np.append(members, problem.size + s) for s, members in enumerate(sets)]
    # A group that overlaps others is no set of its own; it stays a group.
    groups += [g for g in problem.groups if len({inside[int(i)] for i in g}) > 1]
    costs = np.hstack([problem.costs, np.zeros((len(problem.costs), count))])
    opening = np.concatenate([problem.fixed, np.zeros(count)])
    grown = FacilityProblem(
        values, costs, problem.budgets, None, tuple(groups), problem.covers, opening
    )
    return Priced(grown, math.fsum(total), problem.size, sets)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a site does at a price, and how good that is at most.

    Attributes
    ----------
    price
        The price.
    bound
        Proven upper bound on value - price * use; ``-inf`` when the site has no plan.
    value, used
        Value and use of the plan found; ``-inf`` and 0 without one.
    x
        The plan.
    certificate
        Proof of the bound, about the priced problem.
    certified
        The checker accepted it.
    """

    price: float
    bound: float
    value: float
    used: float
    x: IntArray | None
    certificate: Certificate | None
    certified: bool


@dataclass(slots=True, eq=False, repr=False)
class SiteState(Content):
    """A distinct site and its answers, in the order of the questions.

    Attributes
    ----------
    problem, row
        The site's problem and its shared row.
    answers
        What was asked so far; the first one is at price 0.
    """

    problem: SiteProblem
    row: int
    answers: list[Answer] = field(default_factory=list)

    def at(self, price: float) -> Answer | None:
        """Return the answer to a price, None if it was not asked."""
        return next((a for a in self.answers if a.price == price), None)

    def ask(self, price: float, tolerance: float, interrupt: Interrupt | None = None) -> Answer:
        """Solve the site at a price up to an absolute tolerance, and keep the proof."""
        posed = priced(self.problem, self.row, price)
        most = abs(self.answers[0].value) + posed.shift if self.answers else math.inf
        gap = tolerance / most if self.answers and most > 0 else 0.0
        options = Options(warm_start=self._start(posed, price), rel_gap=gap)
        search = Search(posed.problem, options, interrupt=interrupt)
        relaxation = choose_relaxation(posed.problem, search)
        search.offer_start()
        explored = explore(relaxation, search)
        bound = max(explored.bound, search.objective)
        certificate = relaxation.certificate(bound)
        result = search.result(Outcome(bound, explored.limit, certificate), "brb")
        verdict = certify(posed.problem, result)
        answer = self._answer(posed, price, result, verdict.ok and verdict.kind == "checked")
        self.answers.append(answer)
        return answer

    def _start(self, posed: Priced, price: float) -> IntArray | None:
        """Return the known plan that is best at a price."""
        known = [a for a in self.answers if a.x is not None]
        best = max(known, key=lambda a: a.value - price * a.used, default=None)
        return None if best is None else posed.extended(best.x)

    def _answer(self, posed: Priced, price: float, result: Result, certified: bool) -> Answer:
        value, used, x = -math.inf, 0.0, None
        if result.x is not None:
            x = result.x[: self.problem.size]
            value, used = self.problem.evaluate(x), float(self.problem.usage_of(x)[self.row])
        bound = posed.net(result.bound)
        return Answer(price, bound, value, used, x, result.certificate, certified)


def distinct_sites(fleet: Fleet) -> tuple[list[SiteState], IntArray]:
    """Return the distinct sites, and which of them each site is."""
    found: dict[tuple[str, int], int] = {}
    states: list[SiteState] = []
    kind_of: list[int] = []
    for site in fleet.sites:
        key = (site.problem.fingerprint, site.row)
        if key not in found:
            found[key] = len(states)
            states.append(SiteState(site.problem, site.row))
        kind_of.append(found[key])
    return states, np.array(kind_of, dtype=np.int64)
