"""Which budgets of an instance are no sums over experts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from moe2opt.result import FloatArray, IntArray
from moe2opt.selection.constraints.measures import (
    Measure,
    digest_of,
    largest_sum,
    last_answer,
    remembered,
)
from moe2opt.selection.constraints.queueing import longest_wait, wait_of_all
from moe2opt.steps import step

if TYPE_CHECKING:
    from moe2opt.selection.instance import SelectionInstance

#: Name of the energy budget.
ENERGY = "energy_j_per_prompt"


def measures_of(instance: SelectionInstance) -> tuple[Measure, ...]:
    """Return the budgets that are no sums over experts."""
    return (*_energy(instance), *_delays(instance), *_waits(instance))


def times_add_up(instance: SelectionInstance) -> bool:
    """Whether the deadline of a shared server is a sum over its experts.

    Means always add up; quantiles and CVaR do where all answers are long together. The last of
    several servers is another matter: only its quantile is that of the slowest one.
    """
    samples = instance.samples
    together = samples is not None and samples.comonotone
    if instance.delay_counts == "all":
        return together and _no_spread(instance)
    return instance.delay_statistic == "mean" or together


def _no_spread(instance: SelectionInstance) -> bool:
    """Whether one row of samples decides, so that the last answer is that of the slowest part."""
    samples = instance.samples
    assert samples is not None
    return instance.delay_statistic == "quantile" or all(len(rows) == 1 for rows in samples.rows)


def _energy(instance: SelectionInstance) -> Iterator[Measure]:
    limit = instance.energy_limit_j_per_prompt
    if limit is not None and instance.energy_counts == "largest":
        energy, k = instance.joules, instance.energy_largest
        yield Measure(ENERGY, limit, largest_sum(energy, k), digest_of(energy, k))


def _delays(instance: SelectionInstance) -> Iterator[Measure]:
    everybody = instance.delay_counts == "all"
    shared = instance.delay_sharing == "shared"
    samples = instance.samples
    if samples is None or times_add_up(instance) or not (everybody or shared):
        return
    kind, level = instance.delay_statistic, instance.delay_level
    for k in np.flatnonzero(np.isfinite(instance.deadline_s)).tolist():
        step()
        times, limit = samples.delay_s[samples.rows[k]], float(instance.deadline_s[k])
        category = instance.categories[k]
        if everybody:
            name, groups = f"delay_s[{category}]", instance.host_of if shared else None
            yield _delay(name, limit, times, kind, level, groups)
            continue
        for host in instance.hosts:
            asked = instance.on(host.name)
            if instance.delay_scope == "category":
                asked = asked & ~instance.late[k]
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


def _waits(instance: SelectionInstance) -> Iterator[Measure]:
    queue, samples = instance.queue, instance.samples
    if queue is None or samples is None:
        return
    for host in instance.hosts:
        own = instance.on(host.name)
        if queue.counts == "all":
            use = wait_of_all(samples, own, queue.prompts_per_s)
        else:
            share = queue.load_share
            use = longest_wait(samples, ~instance.late, own, queue.prompts_per_s, share)
        answers = (samples.busy_s, samples.category, samples.shares)
        key = digest_of(*answers, repr(queue), ~instance.late, own)
        yield Measure(f"waiting_s[{host.name}]", queue.wait_limit_s, remembered(use, own), key)
