"""Numbers at the edges of floating point: no rounding, underflow or overflow lets a claim pass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from mutations import stated
from strategies import brute_force

import moe2opt as mo
from moe2opt.canonical import merge
from moe2opt.result import Certificate, InputError, Multipliers

NONE = np.zeros(0)


def accepted(problem: Any, tree: Any, claim: float, *prices: Multipliers, **more: Any) -> bool:
    """Tell whether the checker accepts a proof written by hand."""
    proof = Certificate(
        problem.kind, claim, tuple(tree), tuple(prices), problem_hash=problem.fingerprint, **more
    )
    return mo.certify(problem, stated(proof.sealed())).ok


@pytest.mark.parametrize("family", ["facility", "choice"])
def test_budgets_of_rounded_integers_are_not_cut(family: str) -> None:
    """A sum of integers beyond 2**53 that rounds down to its budget is within it, in proofs too."""
    big = 2.0**53
    if family == "facility":
        problem: Any = mo.FacilityProblem([[1, 0], [0, 1]], [[big, 1.0]], [big])
        price = Multipliers(np.zeros(2), np.array([1.0]), NONE)
    else:
        usage = [[[0.0], [big]], [[0.0], [1.0]]]
        problem = mo.MultipleChoiceProblem([[0, 1], [0, 1]], usage, [big])
        price = Multipliers(NONE, np.array([1.0]), NONE)
    assert brute_force(problem) == 2.0
    both = (0, 1) if family == "facility" else (1, 3)
    tree = (
        ("split", both[0], 0), ("corner", 0, 0),
        ("split", both[1], 0), ("corner", 0, 0),
        ("farkas", 0, 0),
    )  # fmt: skip
    assert not accepted(problem, tree, 1.0, price)


def test_prices_that_underflow_prove_nothing() -> None:
    """Products that round to the smallest number there is do not add up to a contradiction."""
    smallest = 5e-324
    choice = mo.MultipleChoiceProblem([[1.0], [1.0]], [[[0.6]], [[0.6]]], [1.2])
    price = Multipliers(NONE, np.array([smallest]), NONE)
    assert choice.is_feasible([0, 0])
    assert not accepted(choice, (("farkas", 0, 0),), -math.inf, price)
    facility = mo.FacilityProblem([[1.0, 1.0]], [[0.6, 0.6]], [1.2], covers=[[0], [1]])
    price = Multipliers(np.zeros(1), np.array([smallest]), np.array([smallest, smallest]))
    assert facility.is_feasible([1, 1])
    assert not accepted(facility, (("farkas", 0, 0),), -math.inf, price)


@pytest.mark.parametrize("threshold", [2.0**62, 2.0**80, 1e300])
def test_thresholds_of_any_size_are_judged(threshold: float) -> None:
    """A threshold beyond 64 bits proves its own sum and nothing below it."""
    problem = mo.FacilityProblem([[1.0, 1.0], [3.0, 2.0]], [[5, 5]], [5])
    price = Multipliers(np.array([threshold, 0.0]), np.array([0.0]), NONE)
    assert accepted(problem, (("dual", 0, 0),), threshold * 2, price)
    assert not accepted(problem, (("dual", 0, 0),), math.nextafter(threshold, 0.0) - 5.0, price)
    assert not accepted(problem, (("dual", 0, 0),), 1.0, price)


def test_a_group_that_stands_twice_is_not_a_group_of_both_rows() -> None:
    """Rows of which only one has a group, however often it is given, are not interchangeable."""
    values = [[3, 2, 3, 2], [2, 3, 2, 3]]
    costs = [[1, 1, 0, 0], [0, 0, 1, 1]]
    once = mo.FacilityProblem(values, costs, [2, 2], groups=[[0, 1], [2, 3]])
    assert merge(once, [(0, 1)]).rivals == (frozenset({0, 1}),)
    twice = mo.FacilityProblem(values, costs, [2, 2], groups=[[0, 1], [0, 1]])
    with pytest.raises(InputError, match="some rows of a type only"):
        merge(twice, [(0, 1)])
    for solver in ("brb", "polyblock"):
        result = mo.solve(twice, solver)
        assert (result.objective, result.bound) == (6.0, 6.0)
        assert mo.certify(twice, result).ok


def test_types_that_do_not_exist_pack_nothing() -> None:
    """A packing leaf of a type that the certificate does not list is refused."""
    problem = mo.FacilityProblem([[1, 1]], [[1, 0], [0, 1]], [1, 1])
    for index in (-1, 1, 2):
        assert not accepted(problem, (("packing", index, 0),), 0.0, types=((0, 1),))


# ---------------------------------------------------------------------- what is refused at once


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": [[1e200, 0]], "weights": [1e200]}, r"values\[0, 0\] is 1e\+200 x 1e\+200"),
        ({"values": [[1, 1e308], [1, 1e308]]}, r"values\[0, 1\] is 1e\+308"),
        ({"costs": [[1e308, 1.5e308]]}, r"costs\[0, 1\] is 1.5e\+308"),
    ],
    ids=["product", "sum over clusters", "sum of a row"],
)
def test_facility_sums_that_overflow_are_refused(arguments: Any, message: str) -> None:
    """Data whose sums overflow are an input error that names the largest entry."""
    plain = {"values": [[1, 1]], "costs": [[1, 1]], "budgets": [1]}
    with pytest.raises(InputError, match=message):
        mo.FacilityProblem(**plain | arguments)


@pytest.mark.parametrize(
    ("values", "usage", "message"),
    [
        ([[1e308], [0, -1e308]], [[[1]], [[1], [1]]], r"values\[0\]"),
        ([[1], [1]], [[[1e308]], [[1.2e308]]], r"usage\[1\]"),
    ],
    ids=["values", "usage"],
)
def test_choice_sums_that_overflow_are_refused(values: Any, usage: Any, message: str) -> None:
    """Groups whose sums overflow are an input error that names the largest one."""
    with pytest.raises(InputError, match=message):
        mo.MultipleChoiceProblem(values, usage, [1])


def test_limits_near_the_largest_number_stay_numbers() -> None:
    """The slack of a budget does not turn it infinite."""
    largest = np.finfo(np.float64).max
    problem = mo.FacilityProblem([[1.0]], [[0.5]], [largest])
    assert problem.limits[0] == largest
    result = mo.solve(problem, "brb")
    assert mo.certify(problem, result).ok
