"""Solve a fleet: prices out, answers with proofs back, until plan and bound meet."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

import numpy as np

from moe2opt.fleet.answer import FleetResult
from moe2opt.fleet.master import Table, least_value, price_of, proves_none, repaired
from moe2opt.fleet.priced import distinct_sites
from moe2opt.fleet.sites import Fleet
from moe2opt.fleet.workers import CHUNK, Crew, Errand
from moe2opt.result import FloatArray, InputError, IntArray, Status, relative_gap

#: Distinct sites of which a first price is found.
_SAMPLE = 100

#: Prices asked of the sample, and of all sites.
_SAMPLE_ROUNDS, _MOST_ROUNDS = 8, 12

#: A first price a little too high gives a plan at once; one too low gives none.
_ABOVE = 1.02

#: Prices that differ by this share are the same.
_SAME_PRICE = 1e-5

#: How far beyond the least price that could prove a fleet infeasible the next one is.
_PROOF = 4.0

#: Share of the gap that the sites' own gaps may take.
_SITE_SHARE = 0.3


def solve_fleet(
    fleet: Fleet,
    *,
    rel_gap: float = 1e-3,
    backend: str = "serial",
    workers: int | None = None,
    scheduler: str | None = None,
    executor: Executor | None = None,
    on_round: Callable[[dict[str, float]], None] | None = None,
) -> FleetResult:
    """Find plans for all sites that keep the shared budget, and prove how good they are.

    Parameters
    ----------
    fleet
        The sites.
    rel_gap
        Stop once the relative gap between bound and objective is at most this.
    backend, workers, scheduler, executor
        As for `moe2opt.sweep`.
    on_round
        Called after every price that all sites were asked.

    Returns
    -------
    FleetResult
        With a plan unless some site, or the fleet, has none.

    Notes
    -----
    For every price p of the shared budget, the sum over sites of rate times the largest
    (value - p * use), plus p times the limit, bounds the fleet's objective (Lagrangian duality).
    Each site's part is proven by a certificate about its priced problem, see
    `moe2opt.fleet.priced`.
    """
    if not isinstance(fleet, Fleet):
        raise InputError(f"expected a fleet of moe2opt.load_fleet, got {type(fleet).__name__}")
    if not 0 < rel_gap < math.inf:
        raise InputError(f"rel_gap = {rel_gap} is not understood; it must be positive")
    with Crew(backend, workers, scheduler, executor) as crew:
        return _Run(fleet, rel_gap, crew, on_round).result()


class _Run:
    def __init__(
        self,
        fleet: Fleet,
        rel_gap: float,
        crew: Crew,
        on_round: Callable[[dict[str, float]], None] | None,
    ) -> None:
        self.fleet, self.rel_gap, self.crew, self.on_round = fleet, rel_gap, crew, on_round
        self.distinct, self.kind_of = distinct_sites(fleet)
        self.rates: FloatArray = np.zeros(len(self.distinct))
        np.add.at(self.rates, self.kind_of, fleet.rates)
        self.solved = 0
        self.stopped = ""
        self.rounds: list[dict[str, float]] = []
        self.start_s = time.perf_counter()
        self.best: tuple[float, float] = (math.inf, 0.0)
        self.infeasible = False
        self.plan: tuple[float, IntArray | None] = (-math.inf, None)

    def result(self) -> FleetResult:
        """Return what was found; what ends the search early leaves the plan and bound so far."""
        try:
            self._search()
        except KeyboardInterrupt:
            self.stopped = "interrupted"
        except InputError as error:  # a lost cluster
            if not self.rounds:
                raise
            self.stopped = str(error)
        return self._finished()

    def _search(self) -> None:
        """Ask for the free plans, then for those at better and better prices."""
        everyone = range(len(self.distinct))
        self._round(everyone, 0.0)
        if any(site.answers[0].x is None for site in self.distinct) or self._close_enough():
            return
        price = self._first_price()
        for _ in range(_MOST_ROUNDS):
            before = self.best[0], self.plan[0]
            self._round(everyone, price)
            if self._close_enough() or self.infeasible:
                break
            last, price = price, self._better_price(price)
            stuck = before == (self.best[0], self.plan[0]) and self.plan[1] is not None
            if stuck and abs(price - last) <= _SAME_PRICE * last:
                break

    def _first_price(self) -> float:
        """Return the price at which a sample of sites keeps its share of the budget."""
        rng = np.random.default_rng(0)
        count = min(_SAMPLE, len(self.distinct))
        sample = sorted(rng.choice(len(self.distinct), count, replace=False).tolist())
        free = np.array([site.answers[0].used for site in self.distinct])
        limit = self.fleet.limit * float((self.rates * free)[sample].sum() / (self.rates @ free))
        value = sum(self.rates[k] * abs(self.distinct[k].answers[0].value) for k in sample)
        price = 0.1 * value / max(float((self.rates * free)[sample].sum()), 1e-300)
        for _ in range(_SAMPLE_ROUNDS):
            self._ask(sample, price)
            price, before = self._next_price(sample, price, limit), price
            if abs(price - before) <= 1e-3 * before:
                break
        return _ABOVE * float(price)

    def _better_price(self, price: float) -> float:
        """Return the next price for all sites, one that may prove that no plans keep the limit."""
        found = self._next_price(range(len(self.distinct)), price, self.fleet.limit)
        table = Table.of(self.distinct, self.rates)
        excess = table.use(table.least()) - self.fleet.limit
        if self.plan[1] is not None or excess <= 0:
            return found
        worth = self.rounds[0]["bound"] - self._least_value()
        return max(found, _PROOF * worth / excess)

    def _least_value(self) -> float:
        return least_value([site.problem for site in self.distinct], self.rates)

    def _next_price(self, which: Sequence[int], price: float, limit: float) -> float:
        """Return the price at which the known plans of some sites just keep a limit."""
        table = Table.of([self.distinct[k] for k in which], self.rates[list(which)])
        found = price_of(table, limit)
        if found is None:  # no known plans keep the limit: a little more than their excess asks for
            excess = table.use(table.least()) / limit if limit > 0 else math.inf
            return max(price, 1e-9) * min(4.0, 1.02 * excess**2)
        asked = {a.price for a in self.distinct[which[0]].answers}
        return found if found not in asked else found * (1.0 + 1e-6)

    def _round(self, which: Sequence[int], price: float) -> None:
        """Ask all sites, and note the bound and the plan that follow."""
        self._ask(which, price)
        answers = [site.at(price) for site in self.distinct]
        terms = [r * a.bound for r, a in zip(self.rates, answers, strict=True) if a is not None]
        bound = math.fsum(terms) + price * self.fleet.limit
        self.best = min(self.best, (bound, price))
        self.infeasible = proves_none(*self.best, self.fleet.limit, self._least_value())
        table = self._site_table()
        found = price_of(table, self.fleet.limit)
        choice = repaired(table, self.fleet.limit, price if found is None else found)
        if choice is not None:
            self.plan = max(self.plan, (self._totals(choice)[0], choice), key=lambda plan: plan[0])
        self._report(price)

    def _ask(self, which: Sequence[int], price: float) -> None:
        open_ = [k for k in which if self.distinct[k].at(price) is None]
        parts = [open_[i : i + CHUNK] for i in range(0, len(open_), CHUNK)]
        errands = [
            Errand(
                tuple(self.distinct[k] for k in part),
                price,
                tuple(self._tolerance(k) for k in part),
            )
            for part in parts
        ]
        for number, answers in self.crew.run(errands):
            self.solved += len(answers)
            for k, answer in zip(parts[number], answers, strict=True):
                if self.distinct[k].at(price) is None:
                    self.distinct[k].answers.append(answer)

    def _tolerance(self, k: int) -> float:
        answers = self.distinct[k].answers
        return _SITE_SHARE * self.rel_gap * abs(answers[0].value) if answers else 0.0

    def _close_enough(self) -> bool:
        return relative_gap(self.plan[0], self.best[0]) <= self.rel_gap

    def _site_table(self) -> Table:
        """Return the known plans per site, not per distinct site."""
        small = Table.of(self.distinct, self.rates)
        return Table(self.fleet.rates, small.values[self.kind_of], small.used[self.kind_of])

    def _totals(self, choice: IntArray) -> tuple[float, float]:
        pairs = zip(self.kind_of.tolist(), choice.tolist(), strict=True)
        answers = [self.distinct[k].answers[c] for k, c in pairs]
        rates = [site.rate for site in self.fleet.sites]
        value = math.fsum(r * a.value for r, a in zip(rates, answers, strict=True))
        return value, math.fsum(r * a.used for r, a in zip(rates, answers, strict=True))

    def _report(self, price: float) -> None:
        value = self.plan[0] if math.isfinite(self.plan[0]) else 0.0
        bound = self.best[0] if math.isfinite(self.best[0]) else 0.0
        own = self.fleet.measure.own
        line = {"price": price, "bound": own(bound), "objective": own(value)}
        line["solved"] = float(self.solved)
        self.rounds.append(line)
        if self.on_round is not None:
            self.on_round({**line, "time_s": time.perf_counter() - self.start_s})

    def _finished(self) -> FleetResult:
        value, choice = self.plan
        bound, price = self.best
        status = Status.INFEASIBLE if self.infeasible else Status.NO_SOLUTION
        if choice is not None:
            status = Status.OPTIMAL if self._close_enough() else Status.FEASIBLE
        proofs = [site.at(price) for site in self.distinct]
        return FleetResult(
            name=self.fleet.name,
            status=status,
            objective=value,
            bound=max(bound, value),
            price=price,
            used=0.0 if choice is None else self._totals(choice)[1],
            limit=self.fleet.limit,
            rel_gap=self.rel_gap,
            certified=all(proof is not None and proof.certified for proof in proofs),
            choice=np.zeros(0, dtype=np.int64) if choice is None else choice,
            distinct=tuple(self.distinct),
            kind_of=self.kind_of,
            solved=self.solved,
            rounds=tuple(self.rounds),
            stopped=self.stopped,
            measure=self.fleet.measure,
        )
