"""Greedy construction and swaps for facility problems, in numpy.

Usage is compared with limits that are a hair tighter than the problem's own, so that what is
feasible here is feasible there; the results are checked by the problem all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from moe2opt.canonical import FacilityProblem, indicators
from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.solvers.base import Stop, never
from moe2opt.solvers.budgets import shares, tightened
from moe2opt.solvers.facility.kernels import add_by_gain
from moe2opt.solvers.moves import improving
from moe2opt.solvers.tuning import DEFAULT, FacilityTuning

#: Improvements below this share of the largest possible value are taken for rounding errors.
_SMALLEST_GAIN = 1e-12

_Score = Callable[[FloatArray, FloatArray], FloatArray]


@dataclass(frozen=True, slots=True, eq=False)
class _Data:
    """A facility problem prepared for moves.

    Attributes
    ----------
    gains
        ``(N, C)`` weighted values, one contiguous row per expert.
    opening
        ``(N,)`` opening costs.
    costs, limits
        ``(K, N)`` and ``(K,)``.
    price
        ``(N,)`` sum of the shares of the limits that an expert uses.
    groups, covers
        ``(G, N)`` and ``(H, N)`` indicator rows.
    smallest_gain
        Smaller improvements count as none.
    tuning
        The engine's tuned numbers.
    """

    gains: FloatArray
    opening: FloatArray
    costs: FloatArray
    limits: FloatArray
    price: FloatArray
    groups: FloatArray
    covers: FloatArray
    smallest_gain: float
    tuning: FacilityTuning

    @classmethod
    def of(cls, problem: FacilityProblem, tuning: FacilityTuning) -> _Data:
        limits = tightened(problem.limits, problem.budgets)
        return cls(
            gains=np.array(problem.weighted.T, order="C"),  # a copy, also of one cluster
            opening=problem.fixed,
            costs=np.ascontiguousarray(problem.costs),
            limits=limits,
            price=shares(problem.costs, limits),
            groups=indicators(problem.groups, problem.size),
            covers=indicators(problem.covers, problem.size),
            smallest_gain=_SMALLEST_GAIN * float(problem.weighted.max(axis=1).sum()),
            tuning=tuning,
        )


_Move = Callable[[_Data, BoolArray, Stop], BoolArray | None]


def greedy_facility(
    problem: FacilityProblem, stop: Stop = never, tuning: FacilityTuning = DEFAULT.facility
) -> IntArray | None:
    """Return the better of greedy by gain and greedy by gain per cost.

    Covers are met first, by the best members that leave room for the others.

    Returns
    -------
    array or None
        ``(N,)`` feasible 0/1 vector; None when no way to meet covers and budgets was found, which
        proves nothing.
    """
    data = _Data.of(problem, tuning)
    # Where all experts cost the same, both scores rank them alike.
    scores = SCORES if np.ptp(data.price) > 0 else SCORES[:1]
    found: list[IntArray] = []
    for score in scores:
        x = None if stop() else _construct(problem, data, score)
        found += [] if x is None else [x]
    return max(found, key=problem.evaluate, default=None)


def improve_facility(problem: FacilityProblem, x: IntArray, rounds: int = 1000) -> IntArray:
    """Return `x` after additions, removals and 1-1 and 1-2 swaps, until none improves.

    Parameters
    ----------
    problem
        Problem that `x` solves.
    x
        ``(N,)`` 0/1 vector; returned as it is when infeasible.
    rounds
        Moves at most.
    """
    best = problem.vector(x)
    for _, better in zip(range(rounds), improving_facility(problem, best), strict=False):
        best = better
    return best


def improving_facility(
    problem: FacilityProblem,
    x: IntArray,
    stop: Stop = never,
    tuning: FacilityTuning = DEFAULT.facility,
) -> Iterator[IntArray]:
    """Yield ever better solutions, each one move from the last."""
    if not problem.is_feasible(x):
        return
    data = _Data.of(problem, tuning)

    def moved(x: IntArray, move: _Move) -> IntArray | None:
        chosen = move(data, x > 0, stop)
        return None if chosen is None else chosen.astype(np.int64)

    every = (_addition, _removal, _single_swap, _double_swap)
    yield from improving(problem, np.asarray(x), [partial(moved, move=m) for m in every], stop)


def _by_gain(gain: FloatArray, price: FloatArray) -> FloatArray:
    return gain


def _by_gain_per_cost(gain: FloatArray, price: FloatArray) -> FloatArray:
    return gain / np.maximum(price, 1e-12)


SCORES: tuple[_Score, ...] = (_by_gain, _by_gain_per_cost)


def _construct(problem: FacilityProblem, data: _Data, score: _Score) -> IntArray | None:
    chosen = _meet_covers(data, score)
    if chosen is None:
        return None
    point = _fill(data, chosen, score).astype(np.int64)
    return point if problem.is_feasible(point) else None


# ---------------------------------------------------------------------- construction


def _meet_covers(data: _Data, score: _Score) -> BoolArray | None:
    """Return a choice with a member of every cover, by depth-first search with few steps."""
    start = np.zeros(data.gains.shape[0], dtype=bool)
    if not (data.limits >= 0).all():
        return None
    stack, steps = [start], 0
    while stack and steps < data.tuning.cover_nodes:
        chosen, steps = stack.pop(), steps + 1
        unmet = data.covers[(data.covers @ chosen) == 0] > 0
        if not len(unmet):
            return chosen
        fitting = unmet & _fits(data, chosen)
        tightest = fitting[np.argmin(fitting.sum(axis=1))]
        members = np.flatnonzero(tightest)
        rank = score(_single_gains(data, chosen, members), data.price[members])
        for i in members[np.argsort(rank, kind="stable")]:
            stack.append(_with(chosen, i))
    return None


def _fill(data: _Data, chosen: BoolArray, score: _Score) -> BoolArray:
    """Add experts by score while they fit and gain."""
    chosen = chosen.copy()
    # A score is a multiple of the gain, so that one number per expert says it.
    per_gain = score(np.ones(len(chosen)), data.price)
    fits = _fits(data, chosen)
    add_by_gain(
        data.gains,
        data.opening,
        per_gain,
        data.costs,
        data.limits - data.costs[:, chosen].sum(axis=1),
        data.groups,
        data.smallest_gain,
        _served(data, chosen),
        fits,
        chosen,
        np.zeros(len(chosen)),
    )
    return chosen


def _single_gains(data: _Data, chosen: BoolArray, members: IntArray) -> FloatArray:
    """Return what each of `members` adds on its own, less its opening cost."""
    best = _served(data, chosen)
    step = max(1, data.tuning.block_entries // max(1, len(best)))
    blocks = [members[k : k + step] for k in range(0, len(members), step)]
    gains = [np.maximum(data.gains[block] - best, 0.0).sum(axis=1) for block in blocks]
    return np.concatenate([np.zeros(0), *gains]) - data.opening[members]


def _served(data: _Data, chosen: BoolArray) -> FloatArray:
    return np.asarray(data.gains[chosen].max(axis=0, initial=0.0))


def _fits(data: _Data, chosen: BoolArray) -> BoolArray:
    """Return which experts can be added on their own."""
    left = data.limits - data.costs[:, chosen].sum(axis=1)
    taken = data.groups[(data.groups @ chosen) > 0].sum(axis=0) > 0
    return np.asarray((data.costs <= left[:, None]).all(axis=0) & ~taken & ~chosen)


def _with(chosen: BoolArray, i: int) -> BoolArray:
    grown = chosen.copy()
    grown[i] = True
    return grown


# ---------------------------------------------------------------------- moves


def _addition(data: _Data, chosen: BoolArray, _stop: Stop) -> BoolArray | None:
    """Return the choice filled up by gain, or None if nothing fits."""
    filled = _fill(data, chosen, _by_gain)
    return None if (filled == chosen).all() else filled


def _removal(data: _Data, chosen: BoolArray, _stop: Stop) -> BoolArray | None:
    """Return the choice without the expert that costs most beyond what it adds, or None."""
    members = np.flatnonzero(chosen)
    if not len(members) or not data.opening.any():
        return None
    served = np.sort(data.gains[members], axis=0)
    second = served[-2] if len(members) > 1 else np.zeros(data.gains.shape[1])
    loss = np.where(data.gains[members] == served[-1], served[-1] - second, 0.0).sum(axis=1)
    last = data.covers[(data.covers @ chosen) == 1][:, members].any(axis=0)
    saved = np.where(last, -np.inf, data.opening[members] - loss)
    worst = int(np.argmax(saved))
    if saved[worst] <= data.smallest_gain:
        return None
    return _exchanged(chosen, int(members[worst]), [])


def _single_swap(data: _Data, chosen: BoolArray, _stop: Stop) -> BoolArray | None:
    """Return the choice after the best exchange of one expert for another, or None."""
    members = np.flatnonzero(chosen)
    if not len(members):
        return None
    change = np.where(_swappable(data, chosen, members), _swap_table(data, members), -np.inf)
    r, j = np.unravel_index(int(np.argmax(change)), change.shape)
    if change[r, j] <= data.smallest_gain:
        return None
    return _exchanged(chosen, int(members[r]), [int(j)])


def _swap_table(data: _Data, members: IntArray) -> FloatArray:
    """Return ``(len(members), N)`` changes of the objective when a member makes way for an expert.

    Every cluster knows its best and second best member; only clusters whose best member leaves
    fall back (Resende and Werneck 2004).
    """
    served = data.gains[members]
    owner = served.argmax(axis=0)
    best = served.max(axis=0)
    served[owner, np.arange(len(owner))] = 0.0
    second = served.max(axis=0)
    owned = indicators([np.flatnonzero(owner == r) for r in range(len(members))], len(owner))
    step = max(1, data.tuning.block_entries // max(1, len(owner)))
    table = np.empty((len(members), len(data.gains)))
    for k in range(0, len(data.gains), step):
        block = data.gains[k : k + step]
        gain = np.maximum(block - best, 0.0).sum(axis=1)
        fall = np.clip(block, second, best) - best
        table[:, k : k + step] = gain + owned @ fall.T
    return table + data.opening[members][:, None] - data.opening


def _swappable(data: _Data, chosen: BoolArray, members: IntArray) -> BoolArray:
    """Return ``(len(members), N)`` whether expert j may take the place of a member."""
    used = data.costs[:, chosen].sum(axis=1)
    allowed = np.broadcast_to(~chosen, (len(members), len(chosen))).copy()
    for k, limit in enumerate(data.limits):
        cost = data.costs[k]
        allowed &= used[k] - cost[members][:, None] + cost[None, :] <= limit
    if len(data.groups):
        taken = data.groups[(data.groups @ chosen) > 0]
        allowed &= taken.sum(axis=0) == taken[:, members].T @ taken
    if len(data.covers):
        last = data.covers[(data.covers @ chosen) == 1]
        allowed &= last[:, members].T @ (1.0 - last) == 0
    return allowed


def _double_swap(data: _Data, chosen: BoolArray, stop: Stop) -> BoolArray | None:
    """Return the choice after the first improving exchange of one expert for two, or None."""
    now = float(_served(data, chosen).sum() - data.opening[chosen].sum())
    for r in np.flatnonzero(chosen):
        if stop():
            return None
        rest = chosen.copy()
        rest[r] = False
        pair = _best_pair(data, rest, now)
        if pair is not None:
            return _exchanged(chosen, int(r), pair)
    return None


def _best_pair(data: _Data, rest: BoolArray, to_beat: float) -> list[int] | None:
    """Return the two experts that, added to `rest`, give most and more than `to_beat`."""
    kept = float(data.opening[rest].sum())
    fitting = np.flatnonzero(_fits(data, rest))
    gains = _single_gains(data, rest, fitting)
    partners = fitting[np.argsort(-gains, kind="stable")[: data.tuning.partners]]
    served = np.maximum(data.gains[partners], _served(data, rest))
    allowed = np.triu(_compatible(data, rest, partners), 1)
    best, pair = to_beat + data.smallest_gain, None
    for a in np.flatnonzero(allowed.any(axis=1)):
        others = np.flatnonzero(allowed[a])
        values = np.maximum(served[others], served[a]).sum(axis=1) - kept
        values -= data.opening[partners[others]] + data.opening[partners[a]]
        if values.max() > best:
            best = float(values.max())
            pair = [int(partners[a]), int(partners[others[int(np.argmax(values))]])]
    return pair


def _compatible(data: _Data, rest: BoolArray, partners: IntArray) -> BoolArray:
    """Return which two of `partners` may join `rest` together."""
    left = data.limits - data.costs[:, rest].sum(axis=1)
    cost = data.costs[:, partners]
    fits = (cost[:, :, None] + cost[:, None, :] <= left[:, None, None]).all(axis=0)
    group = data.groups[:, partners]
    apart = group.T @ group == 0
    unmet = data.covers[(data.covers @ rest) == 0][:, partners]
    met = (np.maximum(unmet[:, :, None], unmet[:, None, :]) > 0).all(axis=0)
    return np.asarray(fits & apart & met)


def _exchanged(chosen: BoolArray, out: int, into: list[int]) -> BoolArray:
    swapped = chosen.copy()
    swapped[out] = False
    swapped[into] = True
    return swapped
