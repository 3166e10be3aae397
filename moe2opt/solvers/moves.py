"""Local search: one improving move after another, whatever the problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from moe2opt.canonical import Problem
from moe2opt.result import IntArray
from moe2opt.solvers.limits import Stop

#: What leads from one point to another; None where it finds nothing better.
Move = Callable[[IntArray], IntArray | None]


def improving(
    problem: Problem, x: IntArray, moves: Sequence[Move], stop: Stop
) -> Iterator[IntArray]:
    """Yield ever better solutions, each one move from the last, until none improves.

    Parameters
    ----------
    problem
        Problem that judges every point: moves may err by a rounding error.
    x
        Feasible point.
    moves
        Tried in order, from the first one again after each success.
    stop
        True to end with what there is.
    """
    value, found = problem.evaluate(x), True
    while found:
        found = False
        for move in moves:
            point = None if stop() else move(x)
            if point is None or problem.evaluate(point) <= value or not problem.is_feasible(point):
                continue
            x, value, found = point, problem.evaluate(point), True
            yield x
            break
