"""Which budgets of an instance are no sums over experts."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.selection.case import Case
from moe2opt.selection.constraints.measures import (
    Measure,
    digest_of,
    largest_sum,
    last_answer,
    remembered,
)
from moe2opt.selection.constraints.queueing import longest_wait, wait_of_all
from moe2opt.steps import step


def measures_of(case: Case) -> tuple[Measure, ...]:
    """Return the budgets that are no sums over experts."""
    largest = []
    for own in case.spendings:
        if own.counts == "largest":
            use, key = largest_sum(own.per_prompt, own.largest), (own.per_prompt, own.largest)
            largest.append(Measure(own.name, own.limit, use, digest_of(*key)))
    return (*largest, *_rents(case), *_delays(case), *_waits(case))


def hourly(case: Case) -> tuple[str, float, FloatArray, FloatArray] | None:
    """Return the budget of money per hour: name, limit, ``(N,)`` prices of experts, ``(H,)`` rents.

    None where there is no limit.
    """
    money = case.money
    if money is None or money.limit_per_hour is None:
        return None
    own = np.array([expert.money_per_hour for expert in case.experts])
    rents = np.array([host.money_per_hour for host in case.hosts])
    return f"money_{money.currency}_per_hour", money.limit_per_hour, own, rents


def _rents(case: Case) -> Iterator[Measure]:
    """Yield the budget of money per hour where servers are paid once, whatever they hold."""
    found = hourly(case)
    if found is None or not found[3].any():
        return
    name, limit, own, rents = found

    def use(chosen: BoolArray) -> float:
        used = np.unique(case.host_of[chosen])
        return math.fsum([*own[chosen].tolist(), *rents[used].tolist()])

    yield Measure(name, limit, use, digest_of(own, rents, case.host_of))


def times_add_up(case: Case) -> bool:
    """Whether the deadline of a shared server is a sum over its experts.

    Means always add up; quantiles and CVaR do where all answers are long together. The last of
    several servers is another matter: only its quantile is that of the slowest one.
    """
    samples = case.samples
    together = samples is not None and samples.comonotone
    if case.delay_counts != "all":
        return case.delay_statistic == "mean" or together
    # The last answer is that of the slowest part only where one row of samples decides.
    single = samples is not None and all(len(rows) == 1 for rows in samples.rows)
    return together and (case.delay_statistic == "quantile" or single)


def _delays(case: Case) -> Iterator[Measure]:
    everybody = case.delay_counts == "all"
    shared = case.delay_sharing == "shared"
    samples = case.samples
    if samples is None or times_add_up(case) or not (everybody or shared):
        return
    kind, level = case.delay_statistic, case.delay_level
    for k in np.flatnonzero(np.isfinite(case.deadline_s)).tolist():
        step()
        times, limit = samples.delay_s[samples.rows[k]], float(case.deadline_s[k])
        category = case.categories[k]
        if everybody:
            name, groups = f"delay_s[{category}]", case.turns if shared else None
            yield _delay(name, limit, times, kind, level, groups)
            continue
        for host in case.machines:
            asked = case.on(host.name)
            if case.delay_scope == "category":
                asked = asked & ~case.barred[k]
            name, groups = f"delay_s[{host.name}, {category}]", np.zeros(len(asked), dtype=np.int64)
            yield _delay(name, limit, times * asked, kind, level, groups)


def _delay(
    name: str,
    limit: float,
    times: FloatArray,
    kind: str,
    level: float | None,
    groups: IntArray | None,
) -> Measure:
    use = last_answer(times, kind, level, groups)
    return Measure(name, limit, use, digest_of(times, kind, level, groups))


def _waits(case: Case) -> Iterator[Measure]:
    queue, samples = case.queue, case.samples
    if queue is None or samples is None:
        return
    for host in case.machines:
        own = case.on(host.name)
        if queue.counts == "all":
            use = wait_of_all(samples, own, queue.prompts_per_s)
        else:
            share = queue.load_share
            use = longest_wait(samples, ~case.barred, own, queue.prompts_per_s, share)
        answers = (samples.busy_s, samples.category, samples.shares)
        key = digest_of(*answers, repr(queue), ~case.barred, own)
        yield Measure(f"waiting_s[{host.name}]", queue.wait_limit_s, remembered(use, own), key)
