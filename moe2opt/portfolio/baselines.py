"""Rules in use on the same table: greedy, sorted by what each is worth alone, choices of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from moe2opt.beside import Rival, beside
from moe2opt.portfolio.case import Case
from moe2opt.portfolio.judge import faults, serving, standard_error, total, used


def rivals(case: Case, kept: tuple[str, ...]) -> Iterator[Rival]:
    """Yield each baseline that the case asks for, beside a plan."""
    serves = serving(case, kept)
    best = total(case, serves)
    for name, known in case.rivals.items():
        rule = greedy if name == "greedy" else by_worth
        chosen = rule(case) if known is None else known
        others = serving(case, chosen)
        own = total(case, others)
        error = standard_error(case, serves, others)
        yield beside(name, chosen, (best, own), best - own, error, faults(case, chosen))


def greedy(case: Case) -> tuple[str, ...]:
    """Return the better of two rules: the largest gain next, and the largest gain per cost.

    Where every class has to be served, both first take whoever serves most of those that nobody
    serves yet.
    """
    ends = [_grown(case, rate) for rate in (lambda gain, _: gain, lambda gain, cost: gain / cost)]
    return max(ends, key=lambda kept: (not faults(case, kept), total(case, serving(case, kept))))


def _grown(case: Case, rate: Callable[[float, float], float]) -> tuple[str, ...]:
    kept = case.base
    while True:
        now = serving(case, kept)
        best, added = (0, 0.0), None
        for name in case.candidates:
            if name in kept or any(use.fault for use in used(case, (*kept, name))):
                continue
            then = serving(case, (*kept, name))
            gain = total(case, then) - total(case, now)
            share = sum(
                costs[name] / (case.limits[cost] or 1.0) for cost, costs in case.costs.items()
            )
            newly = len(then) - len(now) if case.every else 0
            score = (newly, rate(gain, max(share, 1e-12)))
            if score > best:
                best, added = score, name
        if added is None:
            return kept
        kept = (*kept, added)


def by_worth(case: Case) -> tuple[str, ...]:
    """Return the candidates that fit, in the order of what each is worth alone."""
    kept = case.base
    alone = {name: total(case, serving(case, (name,))) for name in case.candidates}
    for name in sorted(case.candidates, key=lambda name: -alone[name]):
        if name not in kept and not any(use.fault for use in used(case, (*kept, name))):
            kept = (*kept, name)
    return kept
