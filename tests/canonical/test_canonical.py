"""The waist: validation, evaluation, feasibility, views, files and the monotonicity self-test."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from strategies import (
    SoftmaxRatio,
    all_points,
    brute_force,
    choice_problems,
    facility_problems,
    monotone_problems,
    problems,
)

import moe2opt as mo
from moe2opt.canonical import (
    FacilityProblem,
    MonotoneProblem,
    MultipleChoiceProblem,
    find_counterexample,
    load_problem,
    save_problem,
)
from moe2opt.result import InputError

FACILITY: dict[str, Any] = {
    "values": [[3, 0, 2], [0, 4, 3]],
    "costs": [[1, 1, 1]],
    "budgets": [2],
}
CHOICE: dict[str, Any] = {
    "values": [[0, 5], [0, 4, 1]],
    "usage": [[[0], [3]], [[0], [2], [1]]],
    "budgets": [4],
}
MONOTONE: dict[str, Any] = {
    "lower": [0, 0],
    "upper": [3, 2],
    "objective": lambda x: x.sum(axis=1),
}

FACILITY_ERRORS = [
    ({"values": [[1, -2], [0, 1]]}, "values[0, 1] is -2; no entry may be negative"),
    ({"values": [[1, np.nan]]}, "values[0, 1] is nan; every entry must be finite"),
    ({"values": [[np.inf, 1]]}, "values[0, 0] is inf; every entry must be finite"),
    ({"values": [1, 2, 3]}, "values: expected 2 dimension(s), got shape (3,)"),
    ({"values": [[1, 2], [3]]}, "values: rows have different lengths"),
    ({"values": [["a", "b"]]}, "values: dtype <U1 is not a real number type"),
    ({"values": np.array([[1j, 2, 3]])}, "values: dtype complex128 is not a real number type"),
    (
        {"values": np.array([[None, 2, 3]])},
        "values[0, 0] is None; every entry must be a real number",
    ),
    ({"values": np.zeros((2, 0))}, "values: shape (2, 0) holds no expert"),
    ({"costs": [[1, 1]]}, "costs: shape (1, 2) does not match (K, N) = (1, 3)"),
    ({"costs": [[1, 1, -1]]}, "costs[0, 2] is -1; no entry may be negative"),
    ({"costs": 1}, "costs: expected 2 dimension(s), got shape ()"),
    ({"budgets": [1, 2]}, "budgets: shape (2,) does not match (K,) = (1,)"),
    ({"budgets": [[4]]}, "budgets: expected 1 dimension(s), got shape (1, 1)"),
    ({"budgets": [np.nan]}, "budgets[0] is nan; every entry must be finite"),
    ({"weights": [1]}, "weights: shape (1,) does not match (C,) = (2,)"),
    ({"weights": [1, -1]}, "weights[1] is -1; no entry may be negative"),
    ({"groups": [[0, 3]]}, "groups[0]: index 3 is outside 0..2"),
    ({"groups": [[0], [-1, 2]]}, "groups[1]: index -1 is outside 0..2"),
    ({"groups": [[1, 1]]}, "groups[0]: an index appears twice"),
    ({"groups": [[]]}, "groups[0] is empty"),
    ({"groups": [0, 1]}, "groups: 2 labels for 3 experts"),
    ({"groups": [[0.5, 1]]}, "groups[0][0] is 0.5; every entry must be an integer"),
    ({"covers": [0, 1, 1]}, "covers: expected a sequence of index sequences, got a flat one"),
    ({"covers": [[7]]}, "covers[0]: index 7 is outside 0..2"),
    ({"covers": [[]]}, "covers[0] is empty"),
    ({"opening": [1, 1]}, "opening: shape (2,) does not match (N,) = (3,)"),
    ({"opening": 1}, "opening: expected 1 dimension(s), got shape ()"),
    ({"opening": [1, 1, -2]}, "opening[2] is -2; no entry may be negative"),
    ({"opening": [1, np.nan, 2]}, "opening[1] is nan; every entry must be finite"),
    ({"opening": [np.inf, 0, 2]}, "opening[0] is inf; every entry must be finite"),
    ({"opening": [0, 9e279, 9e279]}, "opening[1] is 9e+279; the sum of all may be 1e+280 at most"),
]

CHOICE_ERRORS = [
    ({"values": [], "usage": []}, "values: there is no group"),
    ({"values": [[0, 5]]}, "usage: 2 groups, but values has 1"),
    ({"values": [[0, 5], []]}, "values[1]: the group has no option"),
    ({"values": [[0, np.inf], [0, 4, 1]]}, "values[0][1] is inf; every entry must be finite"),
    ({"values": [[[0, 5]], [0, 4, 1]]}, "values[0]: expected 1 dimension(s), got shape (1, 2)"),
    (
        {"usage": [[[0], [3]], [[0], [2]]]},
        "usage[1]: shape (2, 1) does not match (M_g, K) = (3, 1)",
    ),
    ({"usage": [[[0], [-3]], [[0], [2], [1]]]}, "usage[0][1, 0] is -3; no entry may be negative"),
    ({"usage": [3, [0, 2, 1]]}, "usage[0]: expected 2 dimension(s), got shape ()"),
    ({"budgets": [4, 4]}, "usage[0]: shape (2, 1) does not match (M_g, K) = (2, 2)"),
    ({"budgets": [[4]]}, "budgets: expected 1 dimension(s), got shape (1, 1)"),
]

MONOTONE_ERRORS = [
    ({"lower": [], "upper": []}, "lower: the box has no dimension"),
    ({"lower": [0]}, "upper: shape (2,) does not match the shape of lower = (1,)"),
    ({"lower": [0, 5]}, "lower[1] = 5 exceeds upper[1] = 2"),
    ({"upper": [3, 2.5]}, "upper[1] is 2.5; every entry must be an integer"),
    ({"upper": [3, 1e17]}, "upper[1] is 1e+17; entries beyond 2**53 are not exact"),
    ({"objective": None}, "objective: give exactly one of objective and mixed_objective"),
    (
        {"mixed_objective": lambda x, y: x.sum(axis=1)},
        "objective: give exactly one of objective and mixed_objective",
    ),
    ({"objective": 3.0}, "objective: not callable"),
    (
        {"constraints": lambda x: x[:, 0]},
        "constraints: expected a sequence of oracles, got one callable",
    ),
    ({"reverse_constraints": [1]}, "reverse_constraints[0]: int is not callable"),
    (
        {"objective": lambda x: x},
        "objective returned shape (3, 2) for 3 points of shape (3, 2); "
        "a batched oracle returns one value per row",
    ),
    (
        {"constraints": [lambda x: x[:, 0] * np.nan]},
        "constraints[0] returned nan at x = [0, 0]",
    ),
]


@pytest.mark.parametrize(("change", "message"), FACILITY_ERRORS)
def test_facility_validation_names_the_fault(change: dict[str, Any], message: str) -> None:
    """Every malformed array of a facility problem is refused with the exact place at fault."""
    with pytest.raises(InputError) as caught:
        FacilityProblem(**{**FACILITY, **change})
    assert str(caught.value) == message


@pytest.mark.parametrize(("change", "message"), CHOICE_ERRORS)
def test_choice_validation_names_the_fault(change: dict[str, Any], message: str) -> None:
    """Every malformed array of a multiple-choice problem is refused with the place at fault."""
    with pytest.raises(InputError) as caught:
        MultipleChoiceProblem(**{**CHOICE, **change})
    assert str(caught.value) == message


@pytest.mark.parametrize(("change", "message"), MONOTONE_ERRORS)
def test_monotone_validation_names_the_fault(change: dict[str, Any], message: str) -> None:
    """A wrong box or a misbehaving oracle is refused when the problem is built."""
    with pytest.raises(InputError) as caught:
        MonotoneProblem(**{**MONOTONE, **change})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("problem", "x", "message"),
    [
        (FacilityProblem(**FACILITY), [1, 0], "x: shape (2,) does not match (N,) = (3,)"),
        (FacilityProblem(**FACILITY), [1, 0, 2], "x[2] is 2; every entry must be 0 or 1"),
        (FacilityProblem(**FACILITY), [1, 0, 0.5], "x[2] is 0.5; every entry must be an integer"),
        (FacilityProblem(**FACILITY), [1, 0, np.nan], "x[2] is nan; every entry must be finite"),
        (MultipleChoiceProblem(**CHOICE), [1, 3], "x[1] is 3; group 1 has options 0..2"),
        (MultipleChoiceProblem(**CHOICE), [-1, 0], "x[0] is -1; group 0 has options 0..1"),
        (MultipleChoiceProblem(**CHOICE), [0], "x: shape (1,) does not match (G,) = (2,)"),
        (MonotoneProblem(**MONOTONE), [0, 3], "x[1] is 3; the box allows 0..2"),
        (MonotoneProblem(**MONOTONE), [[0, 1]], "x: expected 1 dimension(s), got shape (1, 2)"),
    ],
)
def test_points_outside_the_box_are_refused(problem: Any, x: Any, message: str) -> None:
    """A vector that is no point of the problem is bad input for `evaluate` and `is_feasible`."""
    for method in (problem.evaluate, problem.is_feasible):
        with pytest.raises(InputError) as caught:
            method(x)
        assert str(caught.value) == message


@settings(max_examples=40)
@given(facility_problems())
def test_facility_agrees_with_its_definition(problem: FacilityProblem) -> None:
    """Value, usage and feasibility equal a direct reading of the definition at every point."""
    weights = np.ones(problem.clusters) if problem.weights is None else problem.weights
    for x in all_points(problem):
        chosen = [i for i in range(problem.size) if x[i]]
        value = sum(
            w * max((row[i] for i in chosen), default=0.0)
            for w, row in zip(weights, problem.values, strict=True)
        ) - sum(problem.fixed[i] for i in chosen)
        usage = [sum(row[i] for i in chosen) for row in problem.costs]
        assert problem.evaluate(x) == pytest.approx(value, rel=1e-12, abs=1e-12)
        assert problem.usage_of(x) == pytest.approx(np.array(usage), rel=1e-12)
        slack = 1e-9 * np.maximum(1, np.abs(problem.budgets))
        fits = all(
            u <= b + s for u, b, s in zip(usage, problem.budgets, slack * (1 + 1e-6), strict=True)
        )
        valid = (
            fits
            and all(sum(x[i] for i in group) <= 1 for group in problem.groups)
            and all(any(x[i] for i in cover) for cover in problem.covers)
        )
        assert problem.is_feasible(x) == valid


@settings(max_examples=40)
@given(choice_problems())
def test_choice_agrees_with_its_definition(problem: MultipleChoiceProblem) -> None:
    """Value and usage are the sums over the chosen options."""
    for x in all_points(problem):
        value = sum(options[k] for options, k in zip(problem.values, x, strict=True))
        usage = np.sum([table[k] for table, k in zip(problem.usage, x, strict=True)], axis=0)
        assert problem.evaluate(x) == pytest.approx(value, rel=1e-12, abs=1e-9)
        assert problem.usage_of(x) == pytest.approx(usage, rel=1e-12)
        clear = np.abs(usage - problem.budgets) > 1e-6 * np.maximum(1, np.abs(problem.budgets))
        if clear.all():
            assert problem.is_feasible(x) == bool((usage <= problem.budgets).all())


@settings(max_examples=40)
@given(monotone_problems())
def test_monotone_agrees_with_its_oracles(problem: MonotoneProblem) -> None:
    """`evaluate` and `is_feasible` are the oracles applied to one point."""
    for x in all_points(problem)[:50]:
        batch = x[None, :]
        if problem.mixed_objective is None:
            assert problem.objective is not None
            expected = problem.objective(batch)
        else:
            expected = problem.mixed_objective(batch, batch)
        assert problem.evaluate(x) == expected[0]
        assert problem.is_feasible(x) == (
            all(g(batch)[0] <= 0 for g in problem.constraints)
            and all(h(batch)[0] >= 0 for h in problem.reverse_constraints)
        )


@settings(max_examples=40)
@given(facility_problems(5) | choice_problems(3, 3))
def test_monotone_view_has_the_same_optimum(problem: Any) -> None:
    """`as_monotone` changes the variables, not the optimum, and its oracles are monotone."""
    view = problem.as_monotone()
    assert brute_force(view) == pytest.approx(brute_force(problem), rel=1e-9, abs=1e-9)
    assert find_counterexample(view, samples=100) is None
    assert view.is_integral == problem.is_integral


@settings(max_examples=40)
@given(problems())
def test_random_oracles_are_monotone(problem: Any) -> None:
    """The strategies of the test suite only draw oracles with the declared directions."""
    view = problem.as_monotone()
    assert find_counterexample(view, samples=100) is None


def test_monotone_view_of_a_monotone_problem_is_itself() -> None:
    """`as_monotone` of a monotone problem returns the same object."""
    problem = MonotoneProblem(**MONOTONE)
    assert problem.as_monotone() is problem


@pytest.mark.parametrize("suffix", ["json", "npz"])
@settings(max_examples=25)
@given(problem=facility_problems() | choice_problems())
def test_files_give_back_the_same_problem(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, problem: Any
) -> None:
    """Writing and reading a problem keeps every bit of its data, in both formats."""
    path = tmp_path_factory.mktemp("problem") / f"problem.{suffix}"
    save_problem(problem, path)
    again = load_problem(path)
    assert type(again) is type(problem)
    assert again.to_dict() == problem.to_dict()
    assert again.fingerprint == problem.fingerprint


@pytest.mark.parametrize("suffix", ["json", "npz"])
@pytest.mark.parametrize("rows", [0, 2])
def test_files_give_back_problems_without_clusters(tmp_path: Path, suffix: str, rows: int) -> None:
    """A problem that has no cluster, or no row at all, keeps its number of experts in a file."""
    problem = FacilityProblem(values=np.zeros((0, 3)), costs=np.ones((rows, 3)), budgets=[1] * rows)
    save_problem(problem, tmp_path / f"p.{suffix}")
    assert load_problem(tmp_path / f"p.{suffix}").fingerprint == problem.fingerprint


def test_different_problems_have_different_fingerprints() -> None:
    """Changing one number, one set or moving a boundary between sets changes the fingerprint."""
    variants = [
        FacilityProblem(**FACILITY),
        FacilityProblem(**{**FACILITY, "budgets": [3]}),
        FacilityProblem(**FACILITY, weights=[1, 2]),
        FacilityProblem(**FACILITY, groups=[[0, 1]]),
        FacilityProblem(**FACILITY, groups=[[0], [1]]),
        FacilityProblem(**FACILITY, covers=[[0, 1]]),
        FacilityProblem(**FACILITY, opening=[0, 1, 0]),
        FacilityProblem(**FACILITY, opening=[0, 0, 1]),
        MultipleChoiceProblem(**CHOICE),
        MultipleChoiceProblem(**{**CHOICE, "budgets": [5]}),
    ]
    assert len({problem.fingerprint for problem in variants}) == len(variants)


def test_opening_for_nothing_is_the_default(tmp_path: Path) -> None:
    """Opening costs of zero are the same problem as none, in memory and in files."""
    plain, zeros = FacilityProblem(**FACILITY), FacilityProblem(**FACILITY, opening=[0, 0, 0])
    assert zeros == plain
    assert zeros.opening is None
    assert zeros.fingerprint == plain.fingerprint
    assert "opening" not in zeros.to_dict()
    save_problem(zeros, tmp_path / "zeros.npz")
    assert "opening" not in np.load(tmp_path / "zeros.npz")


def test_opening_costs_are_paid_once_and_kept() -> None:
    """Every chosen expert pays, other budgets change nothing, labels align the costs."""
    costly = FacilityProblem(**FACILITY, opening=[1, 0.5, 2])
    gross = FacilityProblem(**FACILITY)
    assert costly.evaluate([1, 1, 0]) == gross.evaluate([1, 1, 0]) - 1.5
    assert costly.evaluate([0, 0, 0]) == 0.0
    assert costly.with_budgets([9]).evaluate([0, 0, 1]) == gross.evaluate([0, 0, 1]) - 2.0
    names = ["a", "b", "c"]
    labelled = FacilityProblem(
        **{**FACILITY, "values": pd.DataFrame(FACILITY["values"], columns=names)},
        opening=pd.Series([2, 0.5, 1], names[::-1]),
    )
    assert labelled == costly
    with pytest.raises(InputError, match="opening"):
        FacilityProblem(
            **{**FACILITY, "values": pd.DataFrame(FACILITY["values"], columns=names)},
            opening={"a": 1, "b": 2, "d": 3},
        )


def test_unit_weights_are_the_default() -> None:
    """Leaving the weights out is the same problem as weights of one."""
    plain, ones = FacilityProblem(**FACILITY), FacilityProblem(**FACILITY, weights=[1, 1])
    assert plain.fingerprint == ones.fingerprint
    assert plain.evaluate([1, 1, 1]) == ones.evaluate([1, 1, 1]) == 7.0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.json", "{", "not JSON"),
        ("p.json", "[1]", "kind must be 'facility' or 'multiple_choice'"),
        ("p.json", '{"kind": "monotone"}', "kind must be 'facility' or 'multiple_choice'"),
        ("p.json", '{"kind": "facility"}', "not a problem file: 'values' is missing"),
        ("p.npz", "no archive", "cannot be read as NPZ"),
        ("p.csv", "1,2", "the suffix must be .json or .npz"),
    ],
)
def test_broken_files_are_named(tmp_path: Any, name: str, content: str, message: str) -> None:
    """A file that holds no problem is refused with its path and the reason."""
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        load_problem(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_broken_numbers_in_files_are_named(tmp_path: Any) -> None:
    """Arrays read from a file are validated like arrays passed by hand."""
    path = tmp_path / "p.json"
    content = FacilityProblem(**FACILITY).to_dict()
    content["costs"][0][1] = -1.0
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"costs\[0, 1\] is -1; no entry may be negative"):
        load_problem(path)


def test_missing_files_are_named(tmp_path: Any) -> None:
    """A file that is not there is an input error with its path."""
    with pytest.raises(InputError, match="No such file"):
        load_problem(tmp_path / "absent.json")


class Payload:
    """An object that leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    """An archive with a pickled object is refused, and the object's code does not run."""
    path, trace = tmp_path / "p.npz", tmp_path / "trace"
    np.savez(path, kind="facility", values=np.array([Payload(trace)], dtype=object))
    with pytest.raises(InputError, match="holds Python objects, which are not read"):
        load_problem(path)
    assert not trace.exists()
    with np.load(path, allow_pickle=True) as archive:
        assert archive["values"].shape == (1,)
    assert trace.exists(), "the payload must be live for the test to mean anything"


def test_code_is_not_written_to_files(tmp_path: Any) -> None:
    """A monotone problem cannot be saved, in either format."""
    for suffix in ("json", "npz"):
        with pytest.raises(InputError, match="holds oracles"):
            save_problem(MonotoneProblem(**MONOTONE), tmp_path / f"p.{suffix}")


def test_unknown_suffix_cannot_be_written(tmp_path: Any) -> None:
    """Only .json and .npz are formats."""
    with pytest.raises(InputError, match=r"the suffix must be \.json or \.npz"):
        save_problem(FacilityProblem(**FACILITY), tmp_path / "p.pkl")


def test_problems_do_not_change() -> None:
    """Fields and arrays of a problem are read-only, and the arrays it came from do not reach it."""
    values = np.array([[3.0, 0.0, 2.0], [0.0, 4.0, 3.0]])
    problem = FacilityProblem(**{**FACILITY, "values": values}, groups=[[0, 1]], weights=[1, 2])
    values[0, 0] = 99.0
    assert problem.values[0, 0] == 3.0
    arrays = (problem.values, problem.costs, problem.budgets, problem.weights, problem.weighted)
    for array in (*arrays, problem.limits, *problem.groups):
        assert array is not None
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.budgets = np.zeros(1)  # type: ignore[misc]


@pytest.mark.parametrize("order", ["C", "F"])
def test_caller_keeps_its_arrays_writable(order: Any) -> None:
    """Building a problem does not freeze the arrays that were passed in."""
    values = np.array([[1.0, 2.0], [3.0, 4.0]], order=order)
    costs, budgets, weights = np.ones((1, 2)), np.ones(1), np.ones(2)
    FacilityProblem(values, costs, budgets, weights)
    for array in (values, costs, budgets, weights):
        array[...] = 7.0
        assert (array == 7.0).all()


def test_decimal_budgets_have_numerical_slack() -> None:
    """0.1 + 0.2 meets a budget of 0.3, although it is larger in floating point."""
    problem = FacilityProblem(values=[[1, 1]], costs=[[0.1, 0.2]], budgets=[0.3])
    assert problem.is_feasible([1, 1])
    over = FacilityProblem(values=[[1, 1]], costs=[[0.1, 0.2001]], budgets=[0.3])
    assert not over.is_feasible([1, 1])


def test_integer_budgets_are_exact() -> None:
    """A row of integers with an integer limit has no slack, however large the numbers are."""
    big = 2.0**52
    problem = FacilityProblem(values=[[1, 1]], costs=[[big, 1]], budgets=[big])
    assert problem.is_feasible([1, 0])
    assert not problem.is_feasible([1, 1])
    assert problem.limits[0] == big


def test_negative_budget_is_infeasible() -> None:
    """A negative limit is data, not an error: nothing is feasible."""
    problem = FacilityProblem(**{**FACILITY, "budgets": [-1]})
    assert brute_force(problem) == -np.inf


def test_empty_choice_is_worth_nothing() -> None:
    """The best of no expert is 0, and without budgets everything fits."""
    problem = FacilityProblem(values=[[3, 1]], costs=np.zeros((0, 2)), budgets=[])
    assert problem.evaluate([0, 0]) == 0.0
    assert problem.is_feasible([1, 1])
    assert problem.usage_of([1, 1]).shape == (0,)


def test_group_labels_equal_group_sets() -> None:
    """One label per expert means the same as index sets; a negative label is in no group."""
    labels = FacilityProblem(**FACILITY, groups=[1, -1, 1])
    sets = FacilityProblem(**FACILITY, groups=[[2, 0]])
    assert [group.tolist() for group in labels.groups] == [[0, 2]]
    assert labels.fingerprint == sets.fingerprint
    assert not labels.is_feasible([1, 0, 1])


def test_other_budgets_leave_the_rest() -> None:
    """`with_budgets` replaces the budgets only."""
    facility = FacilityProblem(**FACILITY, weights=[2, 1], groups=[[0, 1]], covers=[[2]])
    wider = facility.with_budgets([9])
    assert {**wider.to_dict(), "budgets": [2.0]} == facility.to_dict()
    choice = MultipleChoiceProblem(**CHOICE).with_budgets([5])
    assert choice.to_dict() == {**MultipleChoiceProblem(**CHOICE).to_dict(), "budgets": [5.0]}


def test_single_point_oracles_can_be_looped_over() -> None:
    """``batched=False`` calls the oracle once per point, with the same values."""
    single = MonotoneProblem(
        lower=[0, 0],
        upper=[3, 2],
        mixed_objective=lambda x, y: float(x[0] * x[1] - y[0]),
        constraints=[lambda x: float(x.sum()) - 4.0],
        batched=False,
    )
    batched = MonotoneProblem(
        lower=[0, 0],
        upper=[3, 2],
        mixed_objective=lambda x, y: x[:, 0] * x[:, 1] - y[:, 0],
        constraints=[lambda x: x.sum(axis=1) - 4.0],
    )
    points = all_points(single)
    assert (single.objective_values(points) == batched.objective_values(points)).all()
    assert (single.constraint_values(points) == batched.constraint_values(points)).all()


def test_nan_in_the_middle_of_the_box_is_found_on_use() -> None:
    """An oracle that is finite at the corners but not inside fails when it is called there."""
    problem = MonotoneProblem(
        lower=[0], upper=[2], objective=lambda x: np.where(x[:, 0] == 1, np.nan, x[:, 0])
    )
    with pytest.raises(InputError, match=r"objective returned nan at x = \[1\]"):
        problem.evaluate([1])


def test_oracles_never_see_an_empty_batch() -> None:
    """No points need no call: oracles may rely on at least one row."""
    problem = MonotoneProblem(lower=[0], upper=[2], objective=lambda x: x[:, 0] + 0.0 * x.max())
    assert problem.objective_values(np.zeros((0, 1), dtype=np.int64)).shape == (0,)


NOT_MONOTONE = [
    ("objective", {"objective": lambda x: -x.sum(axis=1)}),
    ("constraints[1]", {"constraints": [lambda x: x[:, 0] - 1.0, lambda x: 1.0 - x[:, 0]]}),
    ("reverse_constraints[0]", {"reverse_constraints": [lambda x: 1.0 - x[:, 1]]}),
    (
        "mixed_objective (first argument)",
        {"objective": None, "mixed_objective": lambda x, y: -x[:, 0] - y[:, 0]},
    ),
    (
        "mixed_objective (second argument, negated)",
        {"objective": None, "mixed_objective": lambda x, y: x[:, 0] + y[:, 0]},
    ),
]


@pytest.mark.parametrize(("oracle", "change"), NOT_MONOTONE)
def test_selftest_reports_a_counterexample(oracle: str, change: dict[str, Any]) -> None:
    """An oracle with the wrong direction is named, with a point and an axis that show it."""
    problem = MonotoneProblem(**{**MONOTONE, **change})
    found = find_counterexample(problem)
    assert found is not None
    assert found.oracle == oracle
    assert found.after < found.before
    assert str(found).startswith(f"{oracle} is not monotone: raising coordinate {found.axis} of x")
    raised = found.x.copy()
    raised[found.axis] += 1
    assert (raised <= problem.upper).all()


def test_selftest_finds_the_masked_softmax_not_monotone() -> None:
    """The masked-softmax expectation declared as a plain increasing objective is caught."""
    ratio = SoftmaxRatio(((0.9, 0.1),), ((1.0, 1.0),))
    honest = MonotoneProblem(lower=[0, 0], upper=[1, 1], mixed_objective=ratio)
    naive = MonotoneProblem(lower=[0, 0], upper=[1, 1], objective=lambda x: ratio(x, x))
    assert find_counterexample(honest) is None
    found = find_counterexample(naive)
    assert found is not None
    assert (found.before, found.after) == (0.9, 0.5)


def test_selftest_of_a_single_point_is_empty() -> None:
    """A box of one point has no neighbours to compare."""
    problem = MonotoneProblem(lower=[1], upper=[1], objective=lambda x: -x[:, 0])
    assert find_counterexample(problem) is None


@pytest.mark.parametrize("solver", ["brb", "polyblock", "enumerate"])
@pytest.mark.parametrize("short", [0.0, 1e-7, 9.9e-7])
def test_nearly_whole_oracles_are_rounded_alike_everywhere(solver: str, short: float) -> None:
    """An integral oracle that returns 4.9999999 is worth 5, and no bound or proof says 4."""
    problem = mo.MonotoneProblem(
        [0, 0],
        [3, 3],
        lambda x: x.sum(axis=1) - short,
        [lambda x: x.sum(axis=1) - 5.5],
        integral=True,
    )
    result = mo.solve(problem, solver=solver)
    assert (str(result.status), result.objective, result.bound) == ("OPTIMAL", 5.0, 5.0)
    assert mo.certify(problem, result).ok


def test_whole_rows_have_no_slack_as_far_as_floats_are_exact() -> None:
    """Integers up to 2**53 are compared exactly; beyond, a row has the slack of any other."""
    whole = mo.FacilityProblem([[1, 1]], costs=[[2**52, 2**52 - 1]], budgets=[2**53 - 2])
    assert not whole.is_feasible([1, 1])
    assert whole.limits[0] == 2**53 - 2
    wide = mo.FacilityProblem([[1, 1]], costs=[[2.0**60, 2.0**60]], budgets=[2.0**61 - 2.0**9])
    assert wide.is_feasible([1, 1])
    for problem in (whole, wide):
        result = mo.solve(problem, solver="brb")
        assert problem.is_feasible(result.x)
        assert mo.certify(problem, result).ok


@pytest.mark.parametrize("budgets", [[3.0, np.inf], [-1.0, 2.5]])
def test_derived_problems_equal_constructed_ones(budgets: list[float]) -> None:
    """Other budgets, or other values, give what the constructor gives, and leave the rest alone."""
    values, usage = [[1.0, 5.0], [2.0]], [[[0.0, 1.0], [3.0, 0.5]], [[1.0, 1.0]]]
    problem = MultipleChoiceProblem(values, usage, [4.0, 4.0])
    given = np.array(budgets)
    other = problem.with_budgets(given)
    expected = MultipleChoiceProblem(values, usage, budgets)
    assert other == expected
    assert other.fingerprint == expected.fingerprint
    assert other.limits.tolist() == expected.limits.tolist()
    assert given.flags.writeable
    bare = other.priced(np.zeros(3))
    assert bare == MultipleChoiceProblem([[0.0, 0.0], [0.0]], usage, budgets)
    assert (bare.evaluate([1, 0]), other.evaluate([1, 0])) == (0.0, 7.0)
    with pytest.raises(InputError, match="usage"):
        problem.with_budgets([1.0])


def test_a_search_for_counter_examples_of_nothing_is_refused() -> None:
    """Other problems than monotone ones, and samples or seeds that are no counts, are named."""
    problem = MonotoneProblem([0], [1], lambda x: x.sum(axis=1))
    with pytest.raises(InputError, match="expected a MonotoneProblem, got int"):
        find_counterexample(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="samples = -1 is not understood"):
        find_counterexample(problem, samples=-1)
    with pytest.raises(InputError, match="seed = 'a' is not understood"):
        find_counterexample(problem, seed="a")  # type: ignore[arg-type]


def test_arrays_of_flags_and_integers_are_copied_and_checked() -> None:
    """Flags and integers are read as they are, into a vector of their own, within what is exact."""
    problem = FacilityProblem([[3.0, 2.0]], [[1.0, 1.0]], [1.0])
    for array in (np.array([True, False]), np.array([1, 0])):
        vector = problem.vector(array)
        array[0] = False
        assert (vector.dtype, vector.tolist()) == (np.dtype(np.int64), [1, 0])
        assert not vector.flags.writeable
    for wrong in (np.array([2, 0]), np.array([0, 2**53 + 2]), np.array([1, 0, 0])):
        with pytest.raises(InputError, match="x"):
            problem.vector(wrong)
