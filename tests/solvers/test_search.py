"""What a search asks of bounds: the value to aim at is just where boxes close."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from solving import run

from moe2opt.bench.generated import uniform
from moe2opt.canonical import FacilityProblem, MonotoneProblem, MultipleChoiceProblem, parts
from moe2opt.certify import certify
from moe2opt.result import NUMERICAL_GAP, Limit, Status
from moe2opt.solvers.base import Options, Outcome, Search
from moe2opt.solvers.tree import SplitTree, Tightening


@pytest.mark.parametrize("rel_gap", [0.0, 1e-9, 1e-6, 3e-5, 1e-3, 0.1])
@pytest.mark.parametrize("factor", [1.0, 1.0 / 3.0])
def test_bounds_below_the_target_close_a_box(rel_gap: float, factor: float) -> None:
    """A bound just below the target closes, one clearly above it does not, whatever the gap."""
    drawn = uniform(12, 400, 0.3, 0)
    problem = FacilityProblem(drawn.values * factor, drawn.costs, drawn.budgets)
    assert problem.is_integral == (factor == 1.0)
    search = Search(problem, Options(rel_gap=rel_gap))
    assert search.offer(np.eye(12, dtype=np.int64)[0], "H")
    hair = 1e-8 * search.target
    assert search.prunes(search.target - hair)
    assert not search.prunes(search.target + hair)


def test_what_closes_every_box_closes_the_run() -> None:
    """A bound that no box may exceed is optimal, also where sum and quotient round apart."""
    worth = [[-1e9], [3.999999999999], [3.0000000000000004], [4.0]]
    problem = MultipleChoiceProblem(worth, [np.zeros((1, 0))] * 4, [])
    search = Search(problem, Options())
    search.offer([0, 0, 0, 0], "U")
    result = search.result(Outcome(search.cutoff), "brb")
    assert result.status is Status.OPTIMAL
    assert certify(problem, result).ok


def _searched(values: list[float], gap: float | None) -> Search:
    problem = MultipleChoiceProblem([values], [np.zeros((2, 0))], [])
    search = Search(problem, Options() if gap is None else Options(rel_gap=gap))
    search.offer([0], "U")
    return search


@pytest.mark.parametrize("gap", [None, NUMERICAL_GAP, 0.0])
def test_whole_numbers_are_closed_exactly_by_default(gap: float | None) -> None:
    """One unit in 1e12 stays open, though it is less than the default gap."""
    search = _searched([1e12, 0.0], gap)
    assert not search.prunes(1e12 + 1.0)
    assert search.prunes(1e12 + 0.5)
    open_run = search.result(Outcome(1e12 + 1.0, Limit.NODES), "brb")
    assert open_run.status is Status.FEASIBLE


def test_rounding_of_fractions_never_holds_a_run() -> None:
    """By default fractions close within 1e-9; 0 goes on, and ends where nothing is left to do."""
    usual, exact = _searched([0.1, 0.0], None), _searched([0.1, 0.0], 0.0)
    above = 0.1 * (1 + 0.9e-9)
    assert usual.prunes(above)
    assert not exact.prunes(above)
    assert exact.prunes(0.1 * (1 + 0.9e-12))
    assert exact.result(Outcome(above, Limit.TIME), "brb").status is Status.FEASIBLE
    assert exact.result(Outcome(above), "brb").status is Status.OPTIMAL


def test_a_gap_that_was_asked_for_counts_for_all_numbers() -> None:
    """Above 1e-9, what was asked for closes whole numbers and fractions alike."""
    for search in (_searched([1e12, 0.0], 1e-6), _searched([0.1, 0.0], 1e-6)):
        assert search.prunes(search.objective * (1 + 0.9e-6))
        assert not search.prunes(search.objective * (1 + 1.1e-6))


@pytest.mark.parametrize("outer", [np.square, np.expm1, lambda v: v - 0.99])
def test_steep_functions_of_a_sum_are_closed_within_the_gap(outer: Any) -> None:
    """What is left of a sum is multiplied by a function of it, and closed all the same."""
    total = parts.total([[0.0, 1.0], [0.0, 1.9e-9]])
    uses = parts.total([[0, 1], [0, 2]])
    problem = MonotoneProblem.from_parts(
        [0, 0], [1, 1], parts.composed(outer, total), at_most=[(uses, 2.0)]
    )
    result = run(problem, "brb", rel_gap=NUMERICAL_GAP)
    assert result.status is Status.OPTIMAL
    assert result.gap <= NUMERICAL_GAP
    assert certify(problem, result).ok


@pytest.mark.parametrize("keeps_above", [False, True])
def test_a_tree_begins_again_with_all_that_its_root_cut_off(keeps_above: bool) -> None:
    """Before its first split a tree has the side that the last tightening cut off, on either side.

    Lost, its place went to a node of the second tree, and the proof of a restarted run was refused.
    """
    tree = SplitTree()
    root = tree.tighten(0, [Tightening(0, 4, keeps_above, ("budget", 0))])
    tree.split(root, 1, 2)
    again = tree.before(root)
    for position in again.split(root, 1, 5):
        again.prune(position, ("corner", 0))
    cut, halves = [("budget", 0, 0)], [("split", 1, 5), ("corner", 0, 0), ("corner", 0, 0)]
    below = cut + halves if keeps_above else halves + cut
    assert list(again.preorder()) == [("split", 0, 4), *below]
