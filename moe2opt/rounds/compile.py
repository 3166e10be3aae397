r"""The question as one multiple-choice problem, exactly.

The first group is the *clock*: one option per time :math:`T_k` at which a round can end, worth
:math:`-w_1 T_k` (of a pipeline one per time and number of devices at work). Every block or device
is a group of its own, its options worth minus their weighted energy. With the times in order, an
option that takes :math:`T_j` may be chosen only under a clock :math:`k \ge j`:

.. math:: j + (n - 1 - k) \le n - 1,

a row of whole numbers for each group. A round that ends at :math:`T_k` is a choice of this problem
and the other way round, so a bound of :math:`-T^*` on its value is the proof that nothing attains
the next smaller time.
"""

from __future__ import annotations

import bisect
import itertools
import math
from dataclasses import dataclass

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.result import IntArray
from moe2opt.rounds.case import Case, Option
from moe2opt.rounds.sections import AssignBlocks, Pipeline


@dataclass(frozen=True, slots=True)
class Clock:
    """A time at which the round may end: the slowest device, and how many are at work at most."""

    rank: int
    active: int
    time_s: float


@dataclass(frozen=True, eq=False, slots=True)
class Compiled:
    """The problem and what its first group and its rows stand for.

    Attributes
    ----------
    problem
        The canonical problem; its objective is minus the weighted sum.
    times
        Seconds that the slowest device may take, rising.
    clocks
        Options of the first group.
    rows
        Name of each row; the first `fixed` ones make the round one, the others are limits.
    """

    problem: MultipleChoiceProblem
    times: tuple[float, ...]
    clocks: tuple[Clock, ...]
    rows: tuple[str, ...]
    fixed: int


class _Rows:
    """Rows under construction: what each option of each group uses, and the limits."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes
        self.names: list[str] = []
        self.limits: list[float] = []
        self.uses: list[list[list[float]]] = []

    def add(self, name: str, limit: float, *uses: list[float]) -> None:
        """Append a row: uses by the clock, then by each group; an empty list for none."""
        own = [use or [0.0] * size for use, size in zip(uses, self.sizes, strict=True)]
        self.names.append(name)
        self.limits.append(limit)
        self.uses.append(own)


def compile_case(case: Case) -> Compiled:
    """Return the problem of a case."""
    groups = [options for _, options in case.groups]
    times, clocks = _clocks(case)
    rows = _Rows([len(clocks), *map(len, groups)])
    last = float(len(times) - 1)
    for g, (name, options) in enumerate(case.groups):
        own: list[list[float]] = [[] for _ in groups]
        own[g] = [float(_rank(times, option)) for option in options]
        rows.add(f"{name} in time", last, [last - clock.rank for clock in clocks], *own)
    _work_rows(case, rows, clocks, groups)
    fixed, goal, limits = len(rows.names), case.config.objective, case.config.limits
    used = [[float(option.blocks) for option in options] for options in groups]
    rows.add("resource_blocks", float(case.config.radio.blocks), [], *used)
    if limits.quantisation_error is not None:
        error = [[o.error for o in options] for options in groups]
        rows.add("quantisation_error", limits.quantisation_error, [], *error)
    nothing: list[list[float]] = [[] for _ in groups]
    rows.add("time_s", goal.deadline_s or math.inf, [c.time_s for c in clocks], *nothing)
    energy = [[option.energy_j for option in options] for options in groups]
    rows.add("energy_j", limits.energy_j or math.inf, [], *energy)
    values = [
        np.array([-goal.time * clock.time_s for clock in clocks]),
        *(np.array([-goal.energy * option.queued_j for option in own]) for own in groups),
    ]
    usage = [
        np.array([row[g] for row in rows.uses], dtype=np.float64).T for g in range(len(values))
    ]
    problem = MultipleChoiceProblem(values, usage, rows.limits)
    return Compiled(problem, times, clocks, tuple(rows.names), fixed)


def _rank(times: tuple[float, ...], option: Option) -> int:
    """Return the position of the first time by which an option is done."""
    return 0 if option.device is None else bisect.bisect_left(times, option.seconds)


def _clocks(case: Case) -> tuple[tuple[float, ...], tuple[Clock, ...]]:
    """Return the times of the slowest device, and those at which the round can end.

    No round ends before every group's soonest option.
    """
    groups = [options for _, options in case.groups]
    pipeline = isinstance(case.config.work, Pipeline)
    found = {o.seconds for options in groups for o in options if o.device is not None}
    soonest = 0.0 if pipeline else max(options[0].seconds for options in groups)
    times = tuple(sorted(time for time in found if time >= soonest))
    counts = range(1, len(groups) + 1) if pipeline else (len(groups),)
    clocks = [
        Clock(rank, active, case.time_s(time, active))
        for (rank, time), active in itertools.product(enumerate(times), counts)
    ]
    return times, tuple(sorted(clocks, key=lambda clock: (clock.active, clock.rank)))


def _work_rows(
    case: Case, rows: _Rows, clocks: tuple[Clock, ...], groups: list[tuple[Option, ...]]
) -> None:
    """Add the rows that one kind of work has."""
    work = case.config.work
    if isinstance(work, AssignBlocks):
        for device in case.devices:
            taken = [[float(o.device is device) for o in options] for options in groups]
            rows.add(f"blocks on {device.name}", 1.0, [], *taken)
    elif isinstance(work, Pipeline):
        held = [[float(o.item.layers or 0) for o in options] for options in groups]
        short = [[work.layers - n for n in own] for own in held]
        rows.add("layers at most", float(work.layers), [], *held)
        rows.add("layers at least", float(work.layers * (len(groups) - 1)), [], *short)
        at_work = [[float(o.device is not None) for o in options] for options in groups]
        count = float(len(groups))
        rows.add("devices at work", count, [count - clock.active for clock in clocks], *at_work)


def clock_of(case: Case, compiled: Compiled, x: IntArray) -> int:
    """Return the soonest clock under which the other choices of a solution are possible.

    That of the solution itself where it chooses no device at all.
    """
    chosen = [options[int(o)] for (_, options), o in zip(case.groups, x[1:], strict=True)]
    rank = max(_rank(compiled.times, option) for option in chosen)
    active = sum(option.device is not None for option in chosen)
    for k, clock in enumerate(compiled.clocks):
        if clock.rank >= rank and clock.active >= active:
            return k
    return int(x[0])
