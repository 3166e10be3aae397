"""The re-solve of a multiple-choice problem whose coefficients change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import brute_force, choice_problems

import moe2opt as mo
from moe2opt.result import InputError, Status
from moe2opt.solvers.parametric import FlatChoiceProblem, ParametricChoice


@settings(max_examples=25)
@given(problem=choice_problems(4, 4), data=st.data())
def test_every_answer_keeps_its_promises(
    problem: mo.MultipleChoiceProblem, data: st.DataObject
) -> None:
    """After any change an answer is feasible, its bound is proven, and the gap is the one asked."""
    gap = data.draw(st.sampled_from([0.0, 0.01, 0.2]))
    parametric = ParametricChoice(problem, rel_gap=gap)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    for change in data.draw(st.lists(st.sampled_from("vub"), max_size=4)):
        old = parametric.problem
        if change == "v":
            parametric.update(values=old.flat_values + rng.integers(-3, 4, len(old.flat_values)))
        elif change == "u":
            parametric.update(usage=np.maximum(0, old.costs + rng.integers(-1, 2, old.costs.shape)))
        else:
            parametric.update(budgets=old.budgets * rng.choice([0.5, 1.0, 2.0]))
        answer = parametric.solve()
        best = brute_force(answer.problem)
        if best == -np.inf:
            assert answer.status is Status.INFEASIBLE
        else:
            assert answer.problem.is_feasible(answer.x)
            assert answer.objective == answer.problem.evaluate(answer.x) <= best + 1e-9
            assert answer.bound >= best
            assert answer.status is Status.OPTIMAL
        verdict = mo.certify(answer.problem, answer.result())
        assert verdict.ok, verdict.failures
        assert verdict.kind == "checked"


def test_many_small_changes_stay_within_the_gap_of_a_cold_solve() -> None:
    """Over a walk of 12 changes the warm answer is never worse than the cold bound allows."""
    rng = np.random.default_rng(0)
    use, size = np.exp(rng.standard_normal(150)), np.exp(0.3 * rng.standard_normal(150))
    usage = np.zeros((150, 3, 2))
    usage[:, 0, 0] = usage[:, 1, 1] = size
    cost = np.array([0.01, 0.2, 1.5])
    budgets = size.sum() * np.array([0.2, 0.3])
    parametric = ParametricChoice(
        mo.MultipleChoiceProblem(list(-np.outer(use, cost)), list(usage), budgets), rel_gap=1e-2
    )
    paths = set()
    for _ in range(12):
        cost = cost * np.exp(0.1 * rng.standard_normal(3))
        parametric.update(values=-np.outer(use, cost).ravel())
        answer = parametric.solve()
        cold = mo.solve(answer.problem, rel_gap=1e-2)
        assert answer.gap <= 1e-2
        assert answer.objective <= cold.bound + 1e-9 * abs(cold.bound)
        assert cold.objective <= answer.bound + 1e-9 * abs(answer.bound)
        paths.add(answer.path)
    assert "kept" in paths


def test_a_flat_problem_is_the_same_problem() -> None:
    """A problem made from flat arrays has the usual parts, limits and fingerprint."""
    problem = mo.MultipleChoiceProblem(
        [[1.5, 2.0], [3.0], [0.0, 1.0, 2.0]],
        [[[0.5], [1.0]], [[0.0]], [[0.0], [1.0], [2.0]]],
        [2.5],
    )
    flat = FlatChoiceProblem(problem.offsets, problem.flat_values, problem.costs, problem.budgets)
    assert flat.fingerprint == problem.fingerprint
    assert flat.size == problem.size
    assert flat.to_dict() == problem.to_dict()
    assert (flat.limits == problem.limits).all()
    assert flat.with_budgets([3.0]).fingerprint == problem.with_budgets([3.0]).fingerprint


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"values": [1.0]}, "values: shape"),
        ({"values": [1.0, np.nan, 0.0, 0.0]}, r"values\[1\]"),
        ({"usage": [[1.0, 1.0, -1.0, 0.0]]}, "usage"),
        ({"budgets": [1.0, 2.0]}, "budgets: shape"),
    ],
)
def test_wrong_coefficients_are_named(change: dict[str, list[float]], words: str) -> None:
    """A wrong shape or entry is an input error that names the array, and changes nothing."""
    problem = mo.MultipleChoiceProblem([[0, 5], [0, 4]], [[[0], [3]], [[0], [2]]], [4])
    parametric = ParametricChoice(problem)
    with pytest.raises(InputError, match=words):
        parametric.update(**change)
    assert parametric.problem is problem


def test_impossible_budgets_are_proven_and_undone() -> None:
    """A budget that nothing meets gives a checked proof; with the old budget the plan is back."""
    problem = mo.MultipleChoiceProblem([[1, 5], [1, 4]], [[[1], [3]], [[1], [2]]], [4])
    parametric = ParametricChoice(problem, rel_gap=0.0)
    assert parametric.solve().objective == 6.0
    parametric.update(budgets=[1.5])
    answer = parametric.solve()
    assert (answer.status, answer.x) == (Status.INFEASIBLE, None)
    assert mo.certify(answer.problem, answer.result()).kind == "checked"
    parametric.update(budgets=[4])
    assert parametric.solve().objective == 6.0
