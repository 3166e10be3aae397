"""Rules in use, judged by the same formulas, and the polynomial methods of the special cases.

Without a limit on the joules of all devices together the least time of ``assign_blocks`` is a
matching under bisection, and that of ``pipeline`` a dynamic programme: both are exact, and both are
independent of the canonical problem.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from moe2opt.beside import Rival, beside, nothing
from moe2opt.rounds.case import Case, Option
from moe2opt.rounds.judge import Assignment, Verdict, judge
from moe2opt.rounds.sections import AssignBlocks, Pipeline

#: Rounds of block-coordinate descent at most.
_ROUNDS = 50


def rivals(case: Case, objective: float) -> Iterator[Rival]:
    """Yield what each rule gives beside a plan of this objective."""
    for name, options in _rules(case):
        if options is None:
            yield nothing(name)
            continue
        taken = [Assignment.of(option) for option in options]
        found = judge(case, taken)
        who = {own.device: f"{own.work}, {own.resource_blocks} resource blocks" for own in taken}
        values = objective, found.objective
        yield beside(name, who, values, found.objective - objective, None, found.faults)


def _rules(case: Case) -> Iterator[tuple[str, list[Option] | None]]:
    work = case.config.work
    if isinstance(work, AssignBlocks):
        equal = _equal(case, len(case.blocks))
        yield "equal bandwidth, best matching", _matched(case, equal)
        yield "most work to the fastest device, equal bandwidth", _sorted(case, equal)
    elif isinstance(work, Pipeline):
        yield "equal split, equal bandwidth", _split(case, even=True)
        yield "split by speed, equal bandwidth", _split(case, even=False)
    else:
        uniform = _uniform(case)
        yield "same bits, full power, equal bandwidth", uniform
        yield "block-coordinate descent", _descended(case, uniform)
    if is_polynomial(case):
        name = "matching" if isinstance(work, AssignBlocks) else "dynamic programme"
        yield f"{name} under bisection, a polynomial method", polynomial(case)


def is_polynomial(case: Case) -> bool:
    """Tell whether a polynomial method finds the optimum: the least time, no joules in all."""
    config = case.config
    timed = config.objective.energy == 0 and config.limits.energy_j is None
    return timed and isinstance(config.work, AssignBlocks | Pipeline)


def polynomial(case: Case) -> list[Option] | None:
    """Return a round of least time, None when there is none that ends by the deadline."""
    if isinstance(case.config.work, AssignBlocks):
        return _soonest(case, _matching)
    return min(
        filter(None, (_soonest(case, _chain(count)) for count in range(1, len(case.devices) + 1))),
        key=lambda options: _judged(case, options).time_s,
        default=None,
    )


def _judged(case: Case, options: Sequence[Option]) -> Verdict:
    return judge(case, map(Assignment.of, options))


# ---------------------------------------------------------------------- matching, chain


def _soonest(
    case: Case, attempt: Callable[[Case, float], list[Option] | None]
) -> list[Option] | None:
    """Return the first success over rising times of the slowest device, by bisection."""
    times = sorted({o.seconds for _, options in case.groups for o in options if o.device})
    low, high, best = 0, len(times), None
    while low < high:
        middle = (low + high) // 2
        found = attempt(case, times[middle])
        if found is None:
            low = middle + 1
        else:
            best, high = found, middle
    return best


def _matching(case: Case, time: float) -> list[Option] | None:
    """Return each block's device with fewest resource blocks in all, if these are enough."""
    spots = {device.name: k for k, device in enumerate(case.devices)}
    cheapest: dict[tuple[int, int], Option] = {}
    cost = np.full((len(case.groups), len(spots)), 1e9)
    for g, (_, options) in enumerate(case.groups):
        for option in options:
            if option.device is not None and option.seconds <= time:
                spot = g, spots[option.device.name]
                if option.blocks < cost[spot]:
                    cost[spot], cheapest[spot] = option.blocks, option
    picks = list(zip(*linear_sum_assignment(cost), strict=True))
    if sum(cost[spot] for spot in picks) > case.config.radio.blocks:
        return None
    return [cheapest[int(g), int(k)] for g, k in picks]


def _chain(count: int) -> Callable[[Case, float], list[Option] | None]:
    """Return the dynamic programme over devices, layers held and devices at work."""

    def attempt(case: Case, time: float) -> list[Option] | None:
        assert isinstance(case.config.work, Pipeline)
        state: dict[tuple[int, int], tuple[int, list[Option]]] = {(0, 0): (0, [])}
        for _, options in case.groups:
            fewest: dict[int, Option] = {}
            for option in options:
                if option.device is not None and option.seconds <= time:
                    layers = option.item.layers or 0
                    if layers not in fewest or option.blocks < fewest[layers].blocks:
                        fewest[layers] = option
            grown = dict(state)
            for (held, active), (used, taken) in state.items():
                for layers, option in fewest.items():
                    key = held + layers, active + 1
                    if key[0] > case.config.work.layers or key[1] > count:
                        continue
                    if key not in grown or used + option.blocks < grown[key][0]:
                        grown[key] = used + option.blocks, [*taken, option]
            state = grown
        ends = [state[key] for key in state if key[0] == case.config.work.layers]
        if not ends:
            return None
        used, taken = min(ends, key=lambda end: end[0])
        return taken if used <= case.config.radio.blocks else None

    return attempt


# ---------------------------------------------------------------------- rules in use


def _equal(case: Case, shares: int) -> int | None:
    """Return the largest grant that every one of so many devices can have."""
    fitting = [r for r in case.grants if r * shares <= case.config.radio.blocks]
    return fitting[-1] if fitting else None


def _matched(case: Case, grant: int | None) -> list[Option] | None:
    """Return the matching of least time where every device gets the same."""
    if grant is None:
        return None
    kept = tuple(
        (name, tuple(o for o in options if o.blocks == grant)) for name, options in case.groups
    )
    same = Case(case.config, case.devices, case.blocks)
    same.__dict__["groups"] = kept
    return _soonest(same, _matching)


def _sorted(case: Case, grant: int | None) -> list[Option] | None:
    """Return the block of most work on the fastest device, and so on."""
    if grant is None:
        return None
    blocks = sorted(case.blocks, key=lambda block: -block.flop)
    devices = sorted(case.devices, key=lambda device: -device.flop_per_s)
    power = max(case.config.radio.power_w)
    return [
        case.option(device, block, power, grant)
        for block, device in zip(blocks, devices, strict=False)
    ]


def _split(case: Case, *, even: bool) -> list[Option] | None:
    """Return the layers on all devices, as evenly or as speed and memory allow."""
    work = case.config.work
    assert isinstance(work, Pipeline)
    grant = _equal(case, min(len(case.devices), work.layers))
    if grant is None:
        return None
    layers = [0] * len(case.devices)
    for _ in range(work.layers):
        free = [
            ((layers[k] + 1) / (1.0 if even else device.flop_per_s), k)
            for k, device in enumerate(case.devices)
            if (layers[k] + 1) * work.layer_mb <= device.memory_mb
        ]
        if not free:
            return None
        layers[min(free)[1]] += 1
    power = max(case.config.radio.power_w)
    return [
        case.option(device, case.items_of(device)[n - 1], power, grant)
        for device, n in zip(case.devices, layers, strict=True)
        if n
    ]


def _uniform(case: Case) -> list[Option] | None:
    """Return the fewest bits that keep the error, full power and equal bandwidth for all."""
    grant, power = _equal(case, len(case.devices)), max(case.config.radio.power_w)
    if grant is None:
        return None
    limit = case.config.limits.quantisation_error or math.inf
    for k in range(len(case.items_of(case.devices[0]))):
        options = [case.option(d, case.items_of(d)[k], power, grant) for d in case.devices]
        if math.fsum(option.error for option in options) <= limit * (1 + 1e-9):
            return options
    return None


def _descended(case: Case, start: list[Option] | None) -> list[Option] | None:
    """Return what is left when no device alone can do better, the others as they are."""
    if start is None or _judged(case, start).faults:
        return None
    goal, limits = case.config.objective, case.config.limits
    tables = [
        np.array([(o.seconds, o.queued_j, o.energy_j, o.error, o.blocks) for o in (*own, now)])
        for (_, own), now in zip(case.groups, start, strict=True)
    ]
    most = np.array([limits.energy_j, limits.quantisation_error, case.config.radio.blocks], float)
    most = np.where(np.isnan(most), math.inf, most * (1 + 1e-9))
    chosen = np.array([table[-1] for table in tables])
    picks, before = list(start), math.inf
    for _ in range(_ROUNDS):
        for k, (_, own) in enumerate(case.groups):
            rest = np.delete(chosen, k, axis=0)
            time = np.maximum(tables[k][:, 0], rest[:, 0].max(initial=0.0))
            total = tables[k][:, 1:] + rest[:, 1:].sum(axis=0)
            fits = (total[:, 1:] <= most).all(axis=1) & (time <= (goal.deadline_s or math.inf))
            costs = np.where(fits, goal.time * time + goal.energy * total[:, 0], math.inf)
            best = int(np.argmin(costs))
            chosen[k], picks[k] = tables[k][best], (*own, start[k])[best]
        if not costs[best] < before:
            break
        before = costs[best]
    return picks
