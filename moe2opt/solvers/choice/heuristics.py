"""Greedy upgrades, option moves and pair swaps for multiple-choice problems, in numpy."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.solvers.base import Stop, never
from moe2opt.solvers.budgets import positive, shares, tightened
from moe2opt.solvers.moves import improving
from moe2opt.solvers.tuning import DEFAULT, ChoiceTuning

_SMALLEST = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class _Data:
    """A multiple-choice problem prepared for moves; options are addressed by flat position.

    Attributes
    ----------
    values, costs, limits
        ``(M,)``, ``(K, M)`` and ``(K,)``.
    price
        ``(M,)`` sum of the shares of the limits that an option uses.
    starts, group_of
        ``(G,)`` first option of each group, ``(M,)`` group of each option.
    tuning
        The engine's tuned numbers.
    """

    values: FloatArray
    costs: FloatArray
    limits: FloatArray
    price: FloatArray
    starts: IntArray
    group_of: IntArray
    tuning: ChoiceTuning

    @classmethod
    def of(cls, problem: MultipleChoiceProblem, tuning: ChoiceTuning) -> _Data:
        limits = tightened(problem.limits, problem.budgets)
        return cls(
            values=problem.flat_values,
            costs=problem.costs,
            limits=limits,
            price=shares(problem.costs, limits),
            starts=problem.offsets[:-1],
            group_of=np.repeat(np.arange(problem.size), np.diff(problem.offsets)),
            tuning=tuning,
        )

    def cheapest(self, price: FloatArray) -> IntArray:
        """Return the position of each group's option with the smallest price, ties by value."""
        order = np.lexsort((-self.values, price, self.group_of))
        return np.asarray(order[self.starts])

    def used(self, picked: IntArray) -> FloatArray:
        """Return the ``(K,)`` use of each budget."""
        return np.asarray(self.costs[:, picked].sum(axis=1))


def greedy_choice(
    problem: MultipleChoiceProblem,
    start: IntArray | None = None,
    stop: Stop = never,
    tuning: ChoiceTuning = DEFAULT.choice,
) -> IntArray | None:
    """Return the better of greedy upgrades by gain and by gain per cost.

    Parameters
    ----------
    problem
        Problem to solve.
    start
        ``(G,)`` options to repair and upgrade; by default the lightest ones.
    stop
        True to end with what there is.

    Returns
    -------
    array or None
        ``(G,)`` feasible option indices; None when no feasible start was found, which proves
        nothing.
    """
    data = _Data.of(problem, tuning)
    picked = _light_start(data) if start is None else data.starts + problem.vector(start)
    repaired = _repaired(data, picked, stop)
    if repaired is None and start is not None:
        repaired = _repaired(data, _light_start(data), stop)
    if repaired is None:
        return None
    found = [_upgraded(data, repaired, by_cost, stop) - data.starts for by_cost in (False, True)]
    feasible = [x for x in found if problem.is_feasible(x)]
    return max(feasible, key=problem.evaluate, default=None)


def improve_choice(
    problem: MultipleChoiceProblem,
    x: IntArray,
    rounds: int = 1000,
    stop: Stop = never,
    tuning: ChoiceTuning = DEFAULT.choice,
) -> IntArray:
    """Return `x` after option moves and pair swaps, until none improves or for some rounds.

    Parameters
    ----------
    problem
        Problem that `x` solves.
    x
        ``(G,)`` option indices; returned as they are when infeasible.
    rounds
        Moves at most.
    stop
        True to end with what there is.
    """
    best = problem.vector(x)
    for _, better in zip(
        range(rounds), improving_choice(problem, best, stop, tuning), strict=False
    ):
        best = better
    return best


def improving_choice(
    problem: MultipleChoiceProblem,
    x: IntArray,
    stop: Stop = never,
    tuning: ChoiceTuning = DEFAULT.choice,
) -> Iterator[IntArray]:
    """Yield ever better solutions, each one move from the last."""
    if not problem.is_feasible(x):
        return
    data = _Data.of(problem, tuning)

    def moved(
        x: IntArray, move: Callable[[_Data, IntArray, Stop], IntArray | None]
    ) -> IntArray | None:
        picked = move(data, data.starts + x, stop)
        return None if picked is None else picked - data.starts

    moves = [partial(moved, move=move) for move in (_option_moves, _pair_swap)]
    yield from improving(problem, np.asarray(x), moves, stop)


def light_start(problem: MultipleChoiceProblem, tuning: ChoiceTuning) -> IntArray | None:
    """Return light options that keep every budget, or None if none were found."""
    data = _Data.of(problem, tuning)
    picked = _repaired(data, _light_start(data), never)
    return None if picked is None else picked - data.starts


# ---------------------------------------------------------------------- construction


def _light_start(data: _Data) -> IntArray:
    """Return the lightest options under budget prices that follow the overuse."""
    scale = positive(data.costs, data.limits)
    weight, picked = 1.0 / scale, data.cheapest(data.price)
    for _ in range(data.tuning.repricings):
        used = data.used(picked)
        if (used <= data.limits).all():
            break
        weight = weight * np.clip(used / scale, 0.5, 2.0)
        picked = data.cheapest(weight @ data.costs)
    return picked


def _repaired(data: _Data, picked: IntArray, stop: Stop) -> IntArray | None:
    """Return feasible options, by moves that each cost little value per overuse removed."""
    picked = picked.copy()
    unit = positive(data.costs, data.limits)
    # Each move reduces the overuse; the cap ends runs that only shuffle rounding noise.
    for _ in range(len(data.values)):
        used = data.used(picked)
        over = (np.maximum(used - data.limits, 0.0) / unit).sum()
        if over <= 1e-12:
            return picked
        if stop():
            return None
        now = picked[data.group_of]
        moved = used[:, None] - data.costs[:, now] + data.costs
        relief = over - (np.maximum(moved - data.limits[:, None], 0.0) / unit[:, None]).sum(axis=0)
        useful = relief > _SMALLEST * over
        if not useful.any():
            return None
        loss = np.maximum(data.values[now] - data.values, 0.0) + 1e-300
        ratio = np.where(useful, loss / np.where(useful, relief, 1.0), np.inf)
        # Among free moves the one that helps most comes first.
        j = int(np.lexsort((-relief, ratio))[0])
        picked[data.group_of[j]] = j
    return None


def _upgraded(data: _Data, picked: IntArray, per_cost: bool, stop: Stop) -> IntArray:
    """Take upgrades best first while they fit; every group waits with its best one."""
    picked = picked.copy()
    left = data.limits - data.used(picked)
    ends = np.append(data.starts[1:], len(data.values))
    heap: list[tuple[float, int, int]] = []
    for g in range(len(picked)):
        if g % data.tuning.look_every == 0 and stop():
            break
        _push_upgrade(heap, data, g, int(picked[g]), int(ends[g]), left, per_cost)
    for step in itertools.count():
        if not heap or (step % data.tuning.look_every == 0 and stop()):
            break
        _, g, j = heapq.heappop(heap)
        extra = data.costs[:, j] - data.costs[:, picked[g]]
        if (extra <= left).all():
            left -= extra
            picked[g] = j
        _push_upgrade(heap, data, g, int(picked[g]), int(ends[g]), left, per_cost)
    return picked


def _push_upgrade(
    heap: list[tuple[float, int, int]],
    data: _Data,
    g: int,
    now: int,
    end: int,
    left: FloatArray,
    per_cost: bool,
) -> None:
    options = slice(int(data.starts[g]), end)
    gain = data.values[options] - data.values[now]
    extra = data.costs[:, options] - data.costs[:, now, None]
    useful = (gain > 0) & (extra <= left[:, None]).all(axis=0)
    if not useful.any():
        return
    score = gain
    if per_cost:
        score = gain / np.maximum(data.price[options] - data.price[now], 1e-12)
    best = int(np.argmax(np.where(useful, score, -np.inf)))
    heapq.heappush(heap, (-float(score[best]), g, options.start + best))


# ---------------------------------------------------------------------- moves


def _option_moves(data: _Data, picked: IntArray, stop: Stop) -> IntArray | None:
    """Return the options after all upgrades that fit, or None if there is none."""
    upgraded = _upgraded(data, picked, per_cost=False, stop=stop)
    return None if (upgraded == picked).all() else upgraded


# A gain over next to nothing is infinite, which is its rank.
@np.errstate(over="ignore")
def _pair_swap(data: _Data, picked: IntArray, _stop: Stop) -> IntArray | None:
    """Return the options after the best simultaneous move of two groups, or None."""
    gain = data.values - data.values[picked][data.group_of]
    extra = data.costs - data.costs[:, picked][:, data.group_of]
    saving = data.price[picked][data.group_of] - data.price
    tiny = max(_SMALLEST * (float(np.abs(data.values).max()) or 1.0), 1e-200)
    most = data.tuning.partners
    ups = _strongest(most, gain > 0, gain, gain / np.maximum(-saving, 1e-12))
    downs = _strongest(
        most, np.asarray((extra < 0).any(axis=0)), saving / np.maximum(-gain, tiny), gain
    )
    left = data.limits - data.used(picked)
    total = gain[ups][:, None] + gain[downs][None, :]
    fits = data.group_of[ups][:, None] != data.group_of[downs][None, :]
    for k, room in enumerate(left):
        fits &= extra[k, ups][:, None] + extra[k, downs][None, :] <= room
    total = np.where(fits, total, -np.inf)
    if not total.size or total.max() <= tiny:
        return None
    a, b = np.unravel_index(int(np.argmax(total)), total.shape)
    swapped = picked.copy()
    swapped[data.group_of[ups[a]]] = ups[a]
    swapped[data.group_of[downs[b]]] = downs[b]
    return swapped


def _strongest(most: int, allowed: BoolArray, *scores: FloatArray) -> IntArray:
    """Return the allowed positions that one of the scores ranks among the first `most`."""
    positions = np.flatnonzero(allowed)
    ranked = [np.argsort(-score[positions], kind="stable")[:most] for score in scores]
    return np.asarray(positions[np.unique(np.concatenate(ranked))])
