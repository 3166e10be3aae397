"""Walks with a short memory from the incumbent of a multiple-choice problem."""

from __future__ import annotations

import math

import numpy as np
import pytest

import moe2opt as mo
from moe2opt.solvers.base import Options, Search
from moe2opt.solvers.choice.heuristics import greedy_choice, improve_choice
from moe2opt.solvers.choice.kernels import descend
from moe2opt.solvers.choice.model import ChoiceModel
from moe2opt.solvers.choice.vertex import new_vertex
from moe2opt.solvers.choice.walk import walk


def _knapsacks(items: int, rows: int, seed: int) -> mo.MultipleChoiceProblem:
    """Return knapsacks of many rows as Chu and Beasley (1998) drew theirs."""
    rng = np.random.default_rng(seed)
    usage = rng.integers(1, 1000, (items, rows))
    worth = np.floor(usage.mean(axis=1) + 500 * rng.random(items))
    return mo.MultipleChoiceProblem(
        [np.array([0.0, v]) for v in worth],
        [np.stack([0 * u, u]) for u in usage],
        usage.sum(axis=0) // 2,
    )


def _walked(problem: mo.MultipleChoiceProblem, moves: int) -> tuple[float, float]:
    """Return what swaps reach, and what a walk makes of it."""
    search = Search(problem, Options())
    start = greedy_choice(problem)
    assert start is not None
    search.offer(improve_choice(problem, start), "H")
    before = search.objective
    model = ChoiceModel(problem)
    core = model.part(np.ones(len(model.values), dtype=bool)).core
    vertex = new_vertex(core)
    box = np.ones(len(core.values), dtype=np.uint8)
    _, bound = descend(core, vertex, box, -math.inf, 1000)
    walk(model, vertex.price, bound, search, moves)
    assert search.x is not None
    assert problem.is_feasible(search.x)
    return before, search.objective


@pytest.mark.parametrize("seed", range(3))
def test_a_walk_improves_on_swaps_where_many_rows_bind(seed: int) -> None:
    """What swaps cannot better, a walk betters on thirty rows, the same each time."""
    problem = _knapsacks(80, 30, seed)
    before, after = _walked(problem, 5000)
    assert after > before
    assert _walked(problem, 5000) == (before, after)


def test_a_walk_of_no_moves_changes_nothing() -> None:
    """Without moves the incumbent stays."""
    before, after = _walked(_knapsacks(80, 30, 0), 0)
    assert after == before


def test_a_tree_cut_short_by_nodes_has_the_plan_of_a_walk() -> None:
    """The engine walks before a tree of many rows ends, and its bound stays checked."""
    problem = _knapsacks(100, 30, 1)
    result = mo.solve(problem, "brb", node_limit=200)
    assert result.limit is mo.Limit.NODES
    assert any(event.source == "H" for event in result.log if event.nodes >= 60)
    assert mo.certify(problem, result).kind == "checked"
