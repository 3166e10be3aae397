"""Polishing: combinations of moves that use up what a solution leaves of the budgets."""

from __future__ import annotations

import math

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.solvers.base import Options, Search
from moe2opt.solvers.choice.model import ChoiceModel
from moe2opt.solvers.choice.polish import first_of_kinds, hashed, polish


def polished(problem: MultipleChoiceProblem, start: list[int], price: float, bound: float) -> float:
    """Return the value of the incumbent after polishing `start`."""
    search = Search(problem, Options())
    assert search.offer(np.array(start), "U")
    model = ChoiceModel(problem)
    polish(model, np.full(len(problem.budgets), price) / model.row_scale, bound, search)
    assert search.x is not None
    assert problem.is_feasible(search.x)
    return search.objective


def test_several_moves_together_fill_the_budget() -> None:
    """Where one unit is left, two small steps up and one step down are found together."""
    values, usage = [[0.0, 3.7]] + [[0.0, 2.35]] * 2, [[[0.0], [3.7]]] + [[[0.0], [2.2]]] * 2
    problem = MultipleChoiceProblem(values, usage, [4.4])
    assert polished(problem, [1, 0, 0], 1.0, 5.0) == 4.7


def test_no_move_means_no_change() -> None:
    """An optimal solution stays, and the search for a better one ends."""
    problem = MultipleChoiceProblem([[0.0, 2.0], [0.0, 1.0]], [[[0.0], [1.0]]] * 2, [1.0])
    assert polished(problem, [1, 0], 1.0, 3.0) == 2.0


def test_polishing_never_leaves_a_worse_or_infeasible_solution() -> None:
    """On random problems the value only rises, up to the bound, within the budgets."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        usage = [rng.integers(0, 20, (4, 2)).astype(float) for _ in range(30)]
        problem = MultipleChoiceProblem([u.sum(axis=1) + rng.random(4) for u in usage], usage,
                                        [150.0, 150.0])  # fmt: skip
        start = [int(np.argmin(u.sum(axis=1))) for u in usage]
        if problem.is_feasible(start):
            value = polished(problem, start, 0.9, math.fsum([300.0, 30.0]))
            assert problem.evaluate(start) <= value <= 330.0


def test_kinds_of_rows() -> None:
    """Equal rows share a number, and the first of each kind is kept."""
    rows = np.array([[3, -1], [0, 2], [3, -1], [2, 0], [0, 2], [-1, 3]])
    numbers = hashed(rows)
    assert numbers[0] == numbers[2]
    assert len(set(numbers.tolist())) == 4
    assert first_of_kinds(rows).tolist() == [0, 1, 3, 5]
