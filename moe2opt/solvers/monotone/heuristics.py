"""Climbing and coordinate exchanges for monotone problems, one batch of points per step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from moe2opt.canonical import MonotoneProblem
from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.solvers.base import Search, Stop, never
from moe2opt.solvers.moves import Move, improving
from moe2opt.solvers.tuning import DEFAULT, MonotoneTuning

#: Random points that are tried where climbing gains nothing.
_DRAWS = 512

#: Random points that are repaired where no climb reaches a feasible one.
_REPAIRS = 16


def greedy_monotone(
    problem: MonotoneProblem, stop: Stop = never, tuning: MonotoneTuning = DEFAULT.monotone
) -> IntArray | None:
    """Return the best of four climbs: from below and from above, by gain and by gain per cost.

    Where none of them gains anything, as on a product that is zero until every factor has
    something, a climb from the best of some random points.

    Returns
    -------
    array or None
        ``(n,)`` feasible point; None when none was reached, which proves nothing.
    """
    reached = _reached_from_below(problem, stop), _reached_from_above(problem, stop)
    starts = [x for x in reached if x is not None]
    if not starts and (near := _repaired_somewhere(problem, stop, tuning)) is not None:
        starts = [near]
    by = (False, True)
    found = [climbed(problem, x, by_cost, stop, tuning) for x in starts for by_cost in by]
    feasible = [x for x in found if problem.is_feasible(x)]
    best = max(feasible, key=problem.evaluate, default=None)
    if best is None or stop():
        return best
    if any(problem.evaluate(best) > problem.evaluate(x) for x in starts):
        return best
    higher = None if stop() else _off_plateau(problem, best)
    if higher is None:
        return best
    climbs = (climbed(problem, higher, by_cost, stop, tuning) for by_cost in by)
    return max(climbs, key=problem.evaluate)


def _off_plateau(problem: MonotoneProblem, x: IntArray) -> IntArray | None:
    """Return the best feasible one of random points that beats `x`, None without one.

    Points lie between the lower corner and random shares of the box, so that some are small enough.
    """
    rng = np.random.default_rng(0)
    share = rng.random((_DRAWS, 1)) * rng.random((_DRAWS, problem.size))
    span = problem.upper - problem.lower + 1
    points = problem.lower + np.minimum((share * span).astype(np.int64), span - 1)
    points = points[feasible_rows(problem, points)]
    if not len(points):
        return None
    best = points[int(np.argmax(problem.objective_values(points)))]
    return best if problem.evaluate(best) > problem.evaluate(x) else None


def offer_climbs(problem: MonotoneProblem, search: Search) -> None:
    """Offer climbs from below, and from the better one a few exchanges."""
    tuning = search.options.tuning.monotone
    start = _reached_from_below(problem, search.pressed)
    if start is None:
        start = _repaired_somewhere(problem, search.pressed, tuning)
    if start is None:
        return
    for per_cost in (False, True):
        if search.limit_reached() is None:
            search.offer(climbed(problem, start, per_cost, search.pressed, tuning), "H")
    if search.x is None:
        return
    if search.objective <= problem.evaluate(start) and search.limit_reached() is None:
        higher = _off_plateau(problem, search.x)
        if higher is not None:
            search.offer(climbed(problem, higher, False, search.pressed, tuning), "H")
    better = improving_monotone(problem, search.x, search.pressed, tuning)
    for x, _ in zip(better, range(tuning.exchanges), strict=False):
        search.offer(x, "H")
        if search.limit_reached() is not None:
            return


def improving_monotone(
    problem: MonotoneProblem,
    x: IntArray,
    stop: Stop = never,
    tuning: MonotoneTuning = DEFAULT.monotone,
) -> Iterator[IntArray]:
    """Yield ever better points, each a climb or an exchange between two coordinates away."""
    if not problem.is_feasible(x):
        return
    moves: list[Move] = [
        lambda x: climbed(problem, x, False, stop, tuning),
        lambda x: _exchanged(problem, x, stop, tuning),
    ]
    yield from improving(problem, np.asarray(x), moves, stop)


def repaired(
    problem: MonotoneProblem, x: IntArray, stop: Stop, tuning: MonotoneTuning
) -> IntArray | None:
    """Return a feasible point near `x`, None where no step leads closer to one.

    Steps of one coordinate, and of one up and one down, as long as they break the rows less.
    """
    ends = np.stack([problem.lower, problem.upper])
    with np.errstate(invalid="ignore"):  # a row that is infinite at both ends has no range
        above = _scale(np.ptp(problem.constraint_values(ends), axis=0))
        below = _scale(np.ptp(problem.reverse_values(ends), axis=0))

    def broken(points: IntArray) -> FloatArray:
        over = _missing(problem.constraint_values(points), above)
        return np.asarray(over + _missing(-problem.reverse_values(points), below))

    left = float(broken(x[None, :])[0])
    while left > 0 and not stop():
        ups, downs = _steps(problem.upper - x), -_steps(x - problem.lower)
        for moves in (np.concatenate([ups, downs]), _sums(ups, downs, tuning.batch)):
            still = broken(x + moves) if len(moves) else np.array([left])
            if still.min() < left:
                break
        else:
            return None
        x, left = x + moves[int(np.argmin(still))], float(still.min())
    return x if left <= 0 else None


def _repaired_somewhere(
    problem: MonotoneProblem, stop: Stop, tuning: MonotoneTuning
) -> IntArray | None:
    """Return a feasible point near the middle of the box or near one of some random points."""
    rng = np.random.default_rng(0)
    middle = (problem.lower + problem.upper) // 2
    drawn = rng.integers(problem.lower, problem.upper + 1, (_REPAIRS, problem.size))
    found = (repaired(problem, x, stop, tuning) for x in (middle, *drawn) if not stop())
    return next((x for x in found if x is not None), None)


def feasible_rows(problem: MonotoneProblem, points: IntArray) -> BoolArray:
    """Return which of ``(B, n)`` points satisfy every constraint."""
    below = (problem.constraint_values(points) <= 0).all(axis=1)
    return np.asarray(below & (problem.reverse_values(points) >= 0).all(axis=1))


def climbed(
    problem: MonotoneProblem, x: IntArray, per_cost: bool, stop: Stop, tuning: MonotoneTuning
) -> IntArray:
    """Raise one coordinate after the other, best score first, while that is feasible and gains.

    Wide ranges are first climbed in large steps, so that their width costs a logarithm only.
    """
    widest = int((problem.upper - problem.lower).max())
    for bits in range(max(0, widest.bit_length() - tuning.fine_bits), -1, -1):
        while not stop() and (higher := _raised(problem, x, per_cost, 2**bits)) is not None:
            x = higher
    return x


def _raised(
    problem: MonotoneProblem, x: IntArray, per_cost: bool, smallest: int
) -> IntArray | None:
    """Return the feasible point with the best score one step up, or None if none gains."""
    points = x + _steps(problem.upper - x, smallest)
    points = points[feasible_rows(problem, points)]
    with np.errstate(invalid="ignore"):  # of infinite values, which are refused when offered
        gain = problem.objective_values(points) - problem.evaluate(x)
    points, gain = points[gain > 0], gain[gain > 0]
    if not len(points):
        return None
    score = gain / np.maximum(_price(problem, x, points), 1e-12) if per_cost else gain
    return np.asarray(points[int(np.argmax(score))])


def _price(problem: MonotoneProblem, x: IntArray, points: IntArray) -> FloatArray:
    """Return the sum of the shares of what is left of each constraint that the points use."""
    now = problem.constraint_values(x[None, :])
    with np.errstate(invalid="ignore"):  # nothing is used of what stays at -inf
        used = np.nan_to_num(np.maximum(problem.constraint_values(points) - now, 0.0))
    return np.asarray((used / np.maximum(-now, 1e-9 * (1.0 + np.abs(now)))).sum(axis=1))


def _reached_from_below(problem: MonotoneProblem, stop: Stop) -> IntArray | None:
    """Raise coordinates from the lower corner until the reverse constraints hold."""
    x = problem.lower
    if (problem.constraint_values(x[None, :]) > 0).any():
        return None
    scale = _scale(problem.reverse_values(x[None, :]))
    while True:
        missing = _missing(-problem.reverse_values(x[None, :]), scale)[0]
        if missing <= 0 or stop():
            return x if missing <= 0 else None
        points = x + _steps(problem.upper - x)
        points = points[(problem.constraint_values(points) <= 0).all(axis=1)]
        still = _missing(-problem.reverse_values(points), scale)
        if not len(points) or still.min() >= missing:
            return None
        x = points[int(np.argmin(still))]


def _reached_from_above(problem: MonotoneProblem, stop: Stop) -> IntArray | None:
    """Lower coordinates from the upper corner until the constraints hold."""
    x = problem.upper
    if (problem.reverse_values(x[None, :]) < 0).any():
        return None
    scale = _scale(problem.constraint_values(x[None, :]))
    while True:
        missing = _missing(problem.constraint_values(x[None, :]), scale)[0]
        if missing <= 0 or stop():
            return x if missing <= 0 else None
        points = x - _steps(x - problem.lower)
        points = points[(problem.reverse_values(points) >= 0).all(axis=1)]
        still = _missing(problem.constraint_values(points), scale)
        if not len(points) or still.min() >= missing:
            return None
        x = points[int(np.argmin(still))]


def _scale(values: FloatArray) -> FloatArray:
    return np.where(np.isfinite(values) & (values != 0), np.abs(values), 1.0)


def _missing(excess: FloatArray, scale: FloatArray) -> FloatArray:
    return np.asarray((np.maximum(excess, 0.0) / scale).sum(axis=1))


def _exchanged(
    problem: MonotoneProblem, x: IntArray, stop: Stop, tuning: MonotoneTuning
) -> IntArray:
    """Return the best point reached by raising one coordinate and lowering another, or `x`.

    Where none is better, two are raised for one, or one for two.
    """
    ups, downs = _steps(problem.upper - x), _steps(x - problem.lower)
    value = problem.evaluate(x)
    best = _best_of(problem, x, _sums(ups, -downs, tuning.batch))
    if problem.evaluate(best) > value or stop():
        return best
    twice = tuning.batch // 2
    moves = _sums(_pairs(ups, twice), -downs, twice), _sums(ups, -_pairs(downs, twice), twice)
    return _best_of(problem, x, np.concatenate(moves))


def _best_of(problem: MonotoneProblem, x: IntArray, moves: IntArray) -> IntArray:
    """Return the best feasible one of the points that moves lead to, `x` without one."""
    points = x + moves
    points = points[((points >= problem.lower) & (points <= problem.upper)).all(axis=1)]
    points = points[feasible_rows(problem, points)] if len(points) else points
    return (
        np.asarray(points[int(np.argmax(problem.objective_values(points)))]) if len(points) else x
    )


def _sums(ups: IntArray, downs: IntArray, most: int) -> IntArray:
    """Return sums of one of each that change different coordinates, thinned out evenly."""
    total = len(ups) * len(downs)
    picks = np.unique(np.linspace(0, max(0, total - 1), min(total, most)).astype(np.int64))
    up, down = ups[picks // max(1, len(downs))], downs[picks % max(1, len(downs))]
    return np.asarray((up + down)[~((up != 0) & (down != 0)).any(axis=1)])


def _pairs(steps: IntArray, most: int) -> IntArray:
    """Return sums of two steps along different coordinates, thinned out evenly."""
    first, second = np.triu_indices(len(steps), 1)
    picks = np.unique(np.linspace(0, max(0, len(first) - 1), min(len(first), most)).astype(int))
    one, other = steps[first[picks]], steps[second[picks]]
    return np.asarray((one + other)[~((one != 0) & (other != 0)).any(axis=1)])


def _steps(room: IntArray, smallest: int = 1) -> IntArray:
    """Return ``(B, n)`` moves of one coordinate: by powers of two, and by all the room it has."""
    moves = [
        (i, step)
        for i, most in enumerate(room.tolist())
        for step in sorted({most, *(2**k for k in range(most.bit_length()) if 2**k >= smallest)})
        if step > 0
    ]
    table = np.zeros((len(moves), len(room)), dtype=np.int64)
    for row, (i, step) in enumerate(moves):
        table[row, i] = step
    return table
