"""Data of other packages are read as people mean them, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

import moe2opt as mo

EXPERTS, CLUSTERS, ROWS = ["a", "b", "c"], ["x", "y"], ["gib", "joules"]
V = np.array([[3.0, 0.0, 2.0], [0.0, 4.0, 3.0]])
A = np.array([[2.0, 2.0, 1.0], [5.0, 1.0, 1.0]])
B, W = np.array([3.0, 6.0]), np.array([1.0, 2.0])
PLAIN = mo.FacilityProblem(V, A, B, W)

VALUES = pd.DataFrame(V, CLUSTERS, EXPERTS)
COSTS = pd.DataFrame(A, ROWS, EXPERTS)
BUDGETS, WEIGHTS = pd.Series(B, ROWS), pd.Series(W, CLUSTERS)

CHOICE = mo.MultipleChoiceProblem([[0, 5], [0, 4]], [[[0, 1], [3, 2]], [[0, 1], [2, 2]]], [5, 4])


class Grid:
    """An array with named axes, as xarray has them."""

    def __init__(self, values: Any, **coords: list[str]) -> None:
        self.values, self.dims = np.asarray(values), tuple(coords)
        self.coords = {name: np.array(labels) for name, labels in coords.items()}

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self.values.astype(dtype)


#: Each gives the problem `PLAIN`.
FACILITIES: dict[str, Callable[[], mo.FacilityProblem]] = {
    "labels in order": lambda: mo.FacilityProblem(VALUES, COSTS, BUDGETS, WEIGHTS),
    "columns in another order": lambda: mo.FacilityProblem(VALUES, COSTS[["c", "a", "b"]], B, W),
    "rows in another order": lambda: mo.FacilityProblem(
        VALUES, COSTS, BUDGETS[::-1], WEIGHTS[::-1]
    ),
    "labels beside arrays": lambda: mo.FacilityProblem(V, COSTS, BUDGETS[::-1], W),
    "default labels": lambda: mo.FacilityProblem(pd.DataFrame(V), pd.DataFrame(A), pd.Series(B), W),
    "nullable numbers": lambda: mo.FacilityProblem(
        VALUES.astype("Int64"), COSTS.astype("Float64"), BUDGETS.astype("Int8"), W
    ),
    "arrow numbers": lambda: mo.FacilityProblem(VALUES.astype("int64[pyarrow]"), COSTS, B, W),
    "mappings": lambda: mo.FacilityProblem(
        {"x": V[0], "y": V[1]},
        {"gib": list(A[0]), "joules": A[1]},
        {"joules": 6, "gib": 3},
        {"y": 2, "x": 1},
    ),
    "lists of series": lambda: mo.FacilityProblem(
        [VALUES.loc["x"], VALUES.loc["y"][::-1]], [COSTS.loc["gib"], COSTS.loc["joules"]], B, W
    ),
    "sparse": lambda: mo.FacilityProblem(
        scipy.sparse.csr_matrix(V), scipy.sparse.coo_array(A), B, W
    ),
    "sparse columns": lambda: mo.FacilityProblem(
        VALUES.astype(pd.SparseDtype("float64", 0.0)), COSTS, B, W
    ),
    "masked nowhere": lambda: mo.FacilityProblem(np.ma.array(V), np.ma.masked_invalid(A), B, W),
    "named axes": lambda: mo.FacilityProblem(
        Grid(V, cluster=CLUSTERS, expert=EXPERTS),
        Grid(A[:, ::-1], row=ROWS, expert=EXPERTS[::-1]),
        B,
        W,
    ),
    "fractions and decimals": lambda: mo.FacilityProblem(
        [[Fraction(3), 0, Decimal("2")], [0, Fraction(8, 2), 3.0]], A, [Decimal(3), Fraction(6)], W
    ),
    "single precision": lambda: mo.FacilityProblem(V.astype("f2"), A.astype(">f4"), B, W),
    "other orders in memory": lambda: mo.FacilityProblem(
        np.asfortranarray(V), A[::-1][::-1], np.repeat(B, 2)[::2], W
    ),
}


@pytest.mark.parametrize("name", FACILITIES)
def test_facility_data_are_read_as_meant(name: str) -> None:
    """Whatever carries the numbers, and in whatever order their labels come, it is one problem."""
    problem = FACILITIES[name]()
    assert problem == PLAIN
    assert problem.fingerprint == PLAIN.fingerprint


USE = [pd.DataFrame(t, ["low", "high"], ["s", "gib"]) for t in CHOICE.usage]
QUALITY = pd.DataFrame(CHOICE.values, ["g", "h"], ["low", "high"])

#: Each gives the problem `CHOICE`.
CHOICES: dict[str, Callable[[], mo.MultipleChoiceProblem]] = {
    "frame of values": lambda: mo.MultipleChoiceProblem(QUALITY, USE, [5, 4]),
    "groups by name": lambda: mo.MultipleChoiceProblem(
        QUALITY, {"h": USE[1], "g": USE[0][::-1]}, {"gib": 4, "s": 5}
    ),
    "mapping of series": lambda: mo.MultipleChoiceProblem(
        {"g": QUALITY.loc["g"], "h": QUALITY.loc["h"]}, {"h": USE[1][::-1], "g": USE[0]}, [5, 4]
    ),
    "series of lists": lambda: mo.MultipleChoiceProblem(
        pd.Series([[0, 5], [0, 4]], ["g", "h"]), pd.Series(USE[::-1], ["h", "g"]), [5, 4]
    ),
    "one block": lambda: mo.MultipleChoiceProblem(
        np.array(CHOICE.values), np.array(CHOICE.usage), [5, 4]
    ),
    "iterators": lambda: mo.MultipleChoiceProblem(
        (v for v in CHOICE.values), map(scipy.sparse.csr_array, CHOICE.usage), [5, 4]
    ),
}


@pytest.mark.parametrize("name", CHOICES)
def test_choice_data_are_read_as_meant(name: str) -> None:
    """Groups, options and budgets of a multiple-choice problem are aligned by their labels."""
    assert CHOICES[name]() == CHOICE


def test_one_budget_needs_no_brackets() -> None:
    """A row of costs and a single number are one budget, for both families."""
    one = mo.FacilityProblem(V, [[1, 2, 3]], [4])
    assert mo.FacilityProblem(V, [1, 2, 3], 4) == one
    assert mo.FacilityProblem(VALUES, pd.Series([3, 2, 1], EXPERTS[::-1]), np.int8(4)) == one
    assert mo.FacilityProblem(V, [], []) == mo.FacilityProblem(V, np.zeros((0, 3)), [])
    flat = mo.MultipleChoiceProblem([[0, 5], [0, 4]], [[0, 3], [0, 2]], 4)
    assert flat == mo.MultipleChoiceProblem([[0, 5], [0, 4]], [[[0], [3]], [[0], [2]]], [4])
    use = pd.DataFrame([[3, 0], [2, 0]], QUALITY.index, QUALITY.columns[::-1])
    assert flat == mo.MultipleChoiceProblem(QUALITY, use, 4)


def test_variables_of_a_box_are_aligned() -> None:
    """The corners of a box are aligned by the names of the variables."""
    lower, upper = pd.Series([0, 1], ["m", "n"]), pd.Series([5, 3], ["n", "m"])
    box = mo.MonotoneProblem(lower, upper, lambda x: x.sum(axis=1))
    assert (box.lower.tolist(), box.upper.tolist()) == ([0, 1], [3, 5])
    line = mo.MonotoneProblem(0, 7, lambda x: 1.0 * x[:, 0])
    assert mo.solve(line).x.tolist() == [7]


@pytest.mark.parametrize("solver", ["brb", "polyblock", "milp", "greedy"])
def test_an_infinite_budget_is_no_limit(solver: str) -> None:
    """With one budget infinite the answer is that without its row, and the proof holds."""
    for problem, without in (
        (
            mo.FacilityProblem(V, A, [np.inf, 6], groups=[[0, 1]]),
            mo.FacilityProblem(V, A[1:], [6], groups=[[0, 1]]),
        ),
        (
            CHOICE.with_budgets([np.inf, 3]),
            mo.MultipleChoiceProblem(CHOICE.values, [t[:, 1:] for t in CHOICE.usage], [3]),
        ),
    ):
        assert np.isfinite(problem.budgets).all()
        result = mo.solve(problem, solver)
        assert result.objective == mo.solve(without, "enumerate").objective
        assert mo.certify(problem, result).ok


def test_sets_are_given_by_name() -> None:
    """Groups and covers may name experts, and numbers per expert are aligned by name."""
    expected = mo.FacilityProblem(V, A, B, groups=[[0, 2]], covers=[[1, 2]])
    named = mo.FacilityProblem(VALUES, A, B, groups=[["c", "a"]], covers={"some": {"b", "c"}})
    by_number = pd.Series([7, -1, 7], ["c", "b", "a"])
    assert named == expected
    assert mo.FacilityProblem(VALUES, A, B, groups=by_number, covers=[["b", "c"]]) == expected


def test_memory_of_the_caller_stays_theirs() -> None:
    """No array of the caller is frozen or changed, and no later change reaches the problem."""
    values, frame = V.copy(), VALUES.copy()
    problems = [mo.FacilityProblem(values, A, B), mo.FacilityProblem(frame, A, B)]
    values[0, 0] = frame.iloc[0, 0] = 99.0
    assert [p.values[0, 0] for p in problems] == [3.0, 3.0]
    shared = PLAIN.with_budgets([1, 1])
    assert shared.values is PLAIN.values


def _tensor() -> Any:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    return torch.tensor(V, requires_grad=True)


def test_tensors_are_read() -> None:
    """A tensor is read as the array that it holds, one that computes gradients, too."""
    assert mo.FacilityProblem(_tensor(), A, B, W) == PLAIN


MASKED = np.ma.array(V, mask=[[0, 0, 0], [0, 1, 0]])
HOLED = VALUES.astype("Float64").mask(VALUES == 4)

#: (what is built, message)
REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: mo.FacilityProblem(VALUES, COSTS.rename(columns={"b": "z"}), B),
     "costs: the experts differ from those of values: without 'b', with 'z'"),
    (lambda: mo.FacilityProblem(VALUES, pd.DataFrame(A, ROWS), B),
     "costs: the experts differ from those of values: without 'a', 'b', 'c', with 0, 1, 2"),
    (lambda: mo.FacilityProblem(VALUES, COSTS, pd.Series(B)),
     "budgets: the budget rows differ from those of costs: without 'gib', 'joules', with 0, 1"),
    (lambda: mo.FacilityProblem(VALUES, COSTS, B, pd.Series(W, ["x", "z"])),
     "weights: the clusters differ from those of values: without 'y', with 'z'"),
    (lambda: mo.FacilityProblem(VALUES.set_axis(["a", "a", "b"], axis=1), A, B),
     "values: the label 'a' of the experts appears twice"),
    (lambda: mo.FacilityProblem(pd.DataFrame(V)[[2, 0, 1]], A, B),
     "values: the experts are labelled 2, 0, 1, and costs has no labels: which order is meant? "
     "Label both or neither"),
    (lambda: mo.FacilityProblem(MASKED, A, B),
     "values[1, 1] is masked; give every entry a value first, as with .filled()"),
    (lambda: mo.FacilityProblem([[1, np.ma.masked]], [1, 1], 1),
     "values[0][1] is masked; give every entry a value first, as with .filled()"),
    (lambda: mo.FacilityProblem(list(MASKED), A, B),
     "values[1][1] is masked; give every entry a value first, as with .filled()"),
    (lambda: mo.FacilityProblem(V.astype("complex"), A, B),
     "values: dtype complex128 is not a real number type"),
    (lambda: mo.FacilityProblem(V.astype("datetime64[s]"), A, B),
     "values: dtype datetime64[s] is not a real number type"),
    (lambda: mo.FacilityProblem(V, A, pd.to_timedelta(B, "s").to_numpy().astype("m8[s]")),
     "budgets: dtype timedelta64[s] is not a real number type"),
    (lambda: mo.FacilityProblem(V, A, ["3", 6]), "budgets: dtype <U21 is not a real number type"),
    (lambda: mo.FacilityProblem(V, A, np.array([3, "x"], dtype=object)),
     "budgets[1] is 'x'; every entry must be a real number"),
    (lambda: mo.FacilityProblem(V, A, None), "budgets: None is no array of numbers"),
    (lambda: mo.FacilityProblem(V, A, {3, 6}), "budgets: a set is no array of numbers"),
    (lambda: mo.FacilityProblem(V, A, [2**53 + 1, 1]),
     "budgets[0] is 9007199254740993, an integer that float64 does not hold; scale the data"),
    (lambda: mo.FacilityProblem(V, A, [2**53 + 1, 0.5]),
     "budgets[0] is 9007199254740993, an integer that float64 does not hold; scale the data"),
    (lambda: mo.FacilityProblem(V, A, np.array([2**63 + 1, 1], dtype=np.uint64)),
     "budgets[0] is 9223372036854775809, an integer that float64 does not hold; scale the data"),
    (lambda: mo.FacilityProblem(V, A, [10**400, 1]),
     f"budgets[0] is {'1' + '0' * 38}…, too large for a float64"),
    (lambda: mo.FacilityProblem(V, A, [-np.inf, 1]),
     "budgets[0] is -inf; every entry must be finite"),
    (lambda: mo.FacilityProblem(V, A, [Decimal("NaN"), 1]),
     "budgets[0] is nan; every entry must be finite"),
    (lambda: mo.FacilityProblem(scipy.sparse.csr_matrix((2**20, 2**20)), A, B),
     "values: a sparse matrix of shape (1048576, 1048576) is too large to fill up"),
    (lambda: mo.MultipleChoiceProblem(QUALITY, USE, pd.Series([5, 4], ["s", "gb"])),
     "budgets: the budget rows differ from those of usage[0]: without 'gib', with 'gb'"),
    (lambda: mo.MultipleChoiceProblem(QUALITY, {"g": USE[0], "i": USE[1]}, [5, 4]),
     "usage: the groups differ from those of values: without 'h', with 'i'"),
    (lambda: mo.MultipleChoiceProblem(QUALITY, [USE[0], USE[1].set_axis(["low", "mid"])], [5, 4]),
     "usage[1]: the options of group 1 differ from those of values[1]: without 'high', with 'mid'"),
    (lambda: mo.MultipleChoiceProblem(3, USE, [5, 4]),
     "values: expected one array per group, got 3"),
    (lambda: PLAIN.with_budgets(pd.Series([5, 4], ["s", "gb"])),
     "budgets has labels ('s', 'gb') that nothing here has; give its numbers in order, as with "
     ".to_numpy()"),
    (lambda: mo.MultipleChoiceProblem(QUALITY, USE, [5, 4]).with_budgets({"s": 5, "gib": 4}),
     "budgets has labels ('s', 'gib') that nothing here has; give its numbers in order, as with "
     ".to_numpy()"),
    (lambda: mo.FacilityProblem([[1, 2]], [[1, 1]], 1, covers=[np.array([False, True])]),
     "covers[0] holds flags; give indices, as with numpy.flatnonzero"),
    (lambda: mo.FacilityProblem([[1, 2]], [[1, 1]], 1, groups=[[True, False]]),
     "groups[0] holds flags; give indices, as with numpy.flatnonzero"),
    (lambda: mo.MonotoneProblem(pd.Series([0], ["m"]), pd.Series([1], ["n"]), lambda x: x[:, 0]),
     "upper: the variables differ from those of lower: without 'm', with 'n'"),
    (lambda: mo.solve(PLAIN, warm_start=pd.Series([1, 0, 0], EXPERTS)),
     "warm_start: x has labels ('a', 'b', 'c') that nothing here has; give its numbers in order, "
     "as with .to_numpy()"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_cannot_be_meant_is_refused(call: Callable[[], object], message: str) -> None:
    """What has no clear meaning is refused with the labels or the entry at fault."""
    with pytest.raises(mo.InputError) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize("holed", [HOLED, VALUES.astype("Int64").mask(VALUES == 4)])
def test_missing_entries_are_named(holed: Any) -> None:
    """A missing number of a nullable column is refused with its place, however it is stored."""
    with pytest.raises(mo.InputError, match=r"^values\[1, 1\] is (<NA>|nan); every entry must be "):
        mo.FacilityProblem(holed, A, B)
