"""Problems from parts: what is declared is checked, tables are what functions say."""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import pickle
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import moe2opt as mo
from moe2opt.canonical import choice_view, parts
from moe2opt.canonical.logarithm import log_bounds
from moe2opt.result import InputError


def logarithm(values: Any) -> Any:
    """Return logarithms, -inf of 0 without a warning."""
    return np.log(values, where=values > 0, out=np.full(len(values), -np.inf))


#: A declaration that is not true on the box 0..2 x 0..2, and what the error says.
LIES = [
    (parts.linear([1, -1]), "function 1 is not monotone: raising coordinate 1 of x = [0, 0]"),
    (parts.total([[0, 2, 1], [0, 1, 2]]), "raising coordinate 0 of x = [1, 0]"),
    (parts.total([[0, 1], [0, 1, 2]]), "function 0 has 2 values for 3 levels"),
    (parts.product([[-1, 0, 1], [0, 1, 2]]), "a factor is at least 0"),
    (parts.product([[1e-200, 1, 2], [1e-200, 1, 2]]), "products of its factors go beyond"),
    (parts.total([1.0], [[0, 0]]), "twice in one"),
    (parts.coverage([[0.5, 1.5]]), "table of probabilities"),
    (parts.quadratic([[0, -1], [0, 0]]), "pairs[0, 1] is -1; no entry may be negative"),
    (parts.submodular(lambda x: 1.0 * x[:, 0] * x[:, 1]), "is not submodular"),
    (parts.increasing(lambda x: 1.0 * (x[:, 0] == 1)), "is not monotone: raising coordinate 0"),
    (parts.composed(lambda v: -v, parts.linear([1, 1])), "outer function is not increasing"),
    (parts.submodular(lambda x: 1e-10 * x[:, 0] * x[:, 1]), "is not submodular"),
    (parts.increasing(lambda x: -1e-10 * x[:, 0]), "is not monotone"),
    (parts.total([[0, 1, 1e300], [0, 1, 2]]), "objective: function 0 reaches 1e+300"),
    ([parts.linear([1e279, 0]), parts.linear([0, 1e279])], "objective: function 0 reaches 2e+279"),
    (lambda x: x[:, 0], "parts come from mo.parts"),
    (parts.supermodular(lambda x: np.sqrt(x.sum(axis=1))), "is not supermodular: raising"),
    (
        parts.submodular(lambda x: 1.0 * x.sum(axis=1), marginals=lambda x: 2.0 + 0 * x),
        "marginals say that raising coordinate 0 of x = [0, 0] gains 2, but it gains 1",
    ),
    (
        parts.submodular(lambda x: 1.0 * x.sum(axis=1), marginals=lambda x: x[:, 0]),
        "marginals returned (9,) for points (9, 2)",
    ),
    (parts.concave(np.square, parts.linear([1, 1])), "outer function is not concave: its slope"),
    (parts.convex(np.sqrt, parts.linear([1, 1])), "outer function is not convex: its slope"),
    (parts.convex(np.negative, parts.linear([1, 1])), "outer function is not increasing"),
    (parts.concave(logarithm, parts.linear([1, 1])), "outer function is -inf at 0; let the box"),
    (parts.composed(logarithm, parts.linear([1, 1])), "objective is -inf at x = [0, 0]; a point"),
    (parts.minimum(parts.linear([1, -1])), "part 0: function 1 is not monotone"),
    (parts.maximum(), "the least or greatest of no parts"),
    (parts.ratio(parts.linear([1, 1]), parts.linear([1, 1])), "a divisor above 0; they are at"),
    (parts.ratio(parts.linear([1, 1]), parts.linear([1, 1]), 4), "least 0 (x = [0, 0]) and 0"),
    (
        [parts.linear([1, 1]), parts.ratio(parts.linear([1, 1]), parts.total([[1, 2, 3], 0.0]))],
        "a ratio by a rising part does not rise; it is an objective by itself",
    ),
]


@pytest.mark.parametrize(("part", "message"), LIES)
def test_lies_raise_with_an_example(part: Any, message: str) -> None:
    """What a part is not, is said with the place at which it is not."""
    with pytest.raises(InputError) as error:
        mo.MonotoneProblem.from_parts([0, 0], [2, 2], part)
    assert message in str(error.value)


#: What is no declaration at all, and what the error says.
NONSENSE = [
    (parts.linear(None), "objective: functions: expected one per variable, got None"),
    (parts.linear("ab"), "objective: functions: expected one per variable, got 'ab'"),
    (parts.linear(["a", 1]), "objective: function 0: dtype <U1 is not a real number type"),
    (parts.linear([1, 1j]), "objective: function 1"),
    (parts.total([[0, [1], 2], 1.0]), "objective: function 0"),
    (parts.total([lambda v: 1.0, 1.0]), "objective: function 0: expected 1 dimension(s)"),
    (parts.linear({"a": 1}), "objective: blocks[0]: dtype <U1 is not a real number type"),
    (parts.linear({0.5: 1}), "objective: blocks[0][0] is 0.5; every entry must be an integer"),
    (parts.total([1.0], [[]]), "objective: blocks[0] holds no variable"),
    (parts.total([1.0], 3), "objective: blocks: expected one per variable, got 3"),
    (parts.submodular(3), "objective: 3 is no function of arrays"),  # type: ignore[arg-type]
    (
        parts.submodular(lambda x: 1.0 * x.sum(axis=1), marginals=[1, 1]),  # type: ignore[arg-type]
        "objective: marginals: [1, 1] is no function of arrays",
    ),
    (parts.convex(2, parts.linear([1, 1])), "objective: outer: 2 is no function of arrays"),  # type: ignore[arg-type]
    (
        parts.ratio(parts.linear([1, 1]), parts.linear([1, 1]), "9"),  # type: ignore[arg-type]
        "objective: whole: dtype <U1 is not a real number type",
    ),
]


@pytest.mark.parametrize(("part", "message"), NONSENSE)
def test_what_is_no_declaration_is_refused_by_name(part: Any, message: str) -> None:
    """Whatever is handed over in place of numbers, variables or functions is named."""
    with pytest.raises(InputError) as error:
        mo.MonotoneProblem.from_parts([0, 0], [2, 2], part)
    assert message in str(error.value)


def test_rows_that_are_no_list_are_refused() -> None:
    """One row without its list is named, and so is nothing at all."""
    for rows in (5, None):
        with pytest.raises(InputError, match="at_most: expected a list of pairs"):
            mo.MonotoneProblem.from_parts([0], [1], parts.linear([1]), at_most=rows)  # type: ignore[arg-type]


@pytest.mark.parametrize("solver", ["brb", "polyblock"])
def test_a_sum_of_no_parts_is_0(solver: str) -> None:
    """Lists of parts may be empty: nothing to maximise, and rows that nothing adds to."""
    nothing = mo.MonotoneProblem.from_parts([0], [3], [])
    assert mo.solve(nothing, solver).objective == 0
    never = mo.MonotoneProblem.from_parts(
        [0], [3], parts.linear([1]), at_most=[([], 0.5)], at_least=[([], 1)]
    )
    result = mo.solve(never, solver)
    assert str(result.status) == "INFEASIBLE"
    assert mo.certify(never, result).ok


def test_a_lie_between_blocks_is_found() -> None:
    """A function of two variables is checked along both of them."""
    table = [[0, 1], [2, 0]]
    with pytest.raises(InputError, match=r"raising coordinate 2 of x = \[0, 0, 0\]|coordinate 0"):
        mo.MonotoneProblem.from_parts([0] * 3, [1] * 3, parts.total([table, 1.0], [[0, 2], [1]]))


def test_parts_are_worth_what_they_say() -> None:
    """Every kind of part has the value of its formula."""
    values = {
        "total": (parts.total([lambda v: v**2, 2.0]), 4 + 2),
        "product": (parts.product([[1, 2, 5], [0.5, 1, 2]]), 5.0),
        "block": (parts.total([lambda p: p[:, 0] * p[:, 1]], [[0, 1]]), 2.0),
        "coverage": (parts.coverage([[0.5, 0.2]], [10]), 10 * (1 - 0.25 * 0.8)),
        "quadratic": (parts.quadratic([[1, 2], [3, 4]], [1, 1]), 4 + 5 * 2 + 4 + 3),
        "composed": (parts.composed(np.sqrt, parts.linear([4, 1])), 3.0),
        "concave": (parts.concave(np.sqrt, parts.linear([4, 1])), 3.0),
        "convex": (parts.convex(np.square, parts.linear([4, 1])), 81.0),
        "minimum": (parts.minimum(parts.linear([4, 1]), parts.linear([1, 4])), 6.0),
        "maximum": (parts.maximum(parts.linear([4, 1]), [parts.linear([5, 4])]), 14.0),
        "ratio": (parts.ratio(parts.linear([4, 1]), parts.total([[1, 2, 3], 1.0])), 9 / 4),
        "left": (parts.ratio(parts.linear([4, 1]), parts.linear([1, 1]), 6), 9 / 3),
        "supermodular": (parts.supermodular(lambda x: 1.0 * x[:, 0] * x[:, 1]), 2.0),
        "sum": ([parts.linear([1, 1]), parts.quadratic([[0, 1], [0, 0]])], 3 + 2),
    }
    for name, (part, expected) in values.items():
        p = mo.MonotoneProblem.from_parts([0, 0], [2, 2], part)
        assert p.evaluate([2, 1]) == pytest.approx(expected), name


def test_points_without_a_value_are_refused() -> None:
    """An objective that is -inf where it begins is refused, since its points would not count."""
    with pytest.raises(InputError, match=r"objective is -inf at x = \[0\]; a point"):
        mo.MonotoneProblem([0], [0], lambda x: np.where(x[:, 0] > 0, 0.0, -np.inf))
    low = mo.parts.composed(lambda v: np.log(np.maximum(v, 1e-9)), mo.parts.linear([1, 1]))
    only = mo.MonotoneProblem.from_parts(
        [0, 0], [0, 3], low, at_most=[(mo.parts.linear([1, 1]), 0)]
    )
    result = mo.solve(only)
    assert result.status is mo.Status.OPTIMAL
    assert result.objective == pytest.approx(np.log(1e-9))


def test_a_ratio_may_be_minimised_and_maximised() -> None:
    """A quotient by a rising part is solved in both directions, with proofs."""
    top, under = parts.total([[1, 3, 4], [0, 1, 5]]), parts.total([[1, 2, 6], [1, 1, 2]])
    values = {
        (a, b): ([1, 3, 4][a] + [0, 1, 5][b]) / ([1, 2, 6][a] + [1, 1, 2][b])
        for a in range(3)
        for b in range(3)
    }
    for sense, best in (("objective", max(values.values())), ("minimise", -min(values.values()))):
        p = mo.MonotoneProblem.from_parts([0, 0], [2, 2], **{sense: parts.ratio(top, under)})
        result = mo.solve(p)
        assert result.objective == best
        assert mo.certify(p, result).kind == "checked"


def test_the_numbers_of_parts_are_in_the_fingerprint() -> None:
    """Two problems whose tables differ have different fingerprints, a pickled one the same."""
    one, other = (
        mo.MonotoneProblem.from_parts([0], [1], parts.total([[0, v]])) for v in (1.0, 2.0)
    )
    assert one.fingerprint != other.fingerprint
    copy = pickle.loads(pickle.dumps(one))
    assert copy.fingerprint == one.fingerprint
    assert copy.structure is not None


def test_structure_goes_with_its_oracles() -> None:
    """A problem whose constraints are replaced is no longer made of the parts."""
    p = mo.MonotoneProblem.from_parts([0], [1], parts.linear([1]))
    changed = dataclasses.replace(p, constraints=[lambda x: x[:, 0] - 0.5])
    assert changed.structure is None
    assert mo.solve(changed).objective == 0


def test_parts_know_nothing_outside_of_their_box() -> None:
    """A box may be cut, but not moved beyond the tables of the parts."""
    p = mo.MonotoneProblem.from_parts([1, 1], [3, 3], parts.total([[1, 2, 3], [1, 2, 3]]))
    assert mo.solve(dataclasses.replace(p, upper=[2, 3])).objective == 5
    with pytest.raises(InputError, match="larger than the one its parts were placed on"):
        dataclasses.replace(p, lower=[0, 1])


@given(st.floats(min_value=5e-324, max_value=1e308), st.sampled_from((1, 36, 40, 90)))
def test_logarithms_lie_between_their_bounds(value: float, bits: int) -> None:
    """The bounds hold a logarithm of sixty digits, and are at most two units apart."""
    low, high = log_bounds(value, bits)
    with localcontext() as context:
        context.prec = 60
        assert low <= Decimal(value).ln() * 2**bits <= high
    assert high - low <= 2


def test_what_couples_variables_makes_one_group() -> None:
    """Blocks that share a variable are one group; options that others beat are left out."""
    p = mo.MonotoneProblem.from_parts(
        [0] * 4,
        [1] * 4,
        parts.total([lambda q: q.sum(axis=1), 1.0, 0.0], [[0, 1], [2], [3]]),
        at_most=[(parts.total([lambda q: 2 * q.max(axis=1)], [[1, 2]]), 1)],
    )
    view = choice_view(p)
    assert view is not None
    assert [group.tolist() for group in view.groups] == [[0, 1, 2], [3]]
    assert view.point(np.array([0] * 2)).tolist() == [1, 0, 0, 0]
    assert mo.solve(p).objective == 1


@pytest.mark.parametrize(
    "part",
    [parts.quadratic([[0, 1], [0, 0]]), parts.coverage([[0.1, 0.2]])],
)
def test_coupled_parts_have_no_choice_view(part: Any) -> None:
    """What is not separable is not taken for it."""
    assert choice_view(mo.MonotoneProblem.from_parts([0, 0], [1, 1], part)) is None


@pytest.mark.parametrize("kind", ["linear", "whole", "fractions", "product"])
def test_tables_at_once_are_what_they_are_one_by_one(kind: str) -> None:
    """Many points at once have, to the last digit, the values of their tables one after another."""
    rng = np.random.default_rng(5)
    lower, upper = rng.integers(-2, 3, 9), np.full(9, 6)
    widths = (upper - lower + 1).tolist()
    if kind == "linear":
        part = parts.linear(rng.integers(0, 4, 9) * (np.arange(9) % 3 > 0))
    elif kind == "whole":
        part = parts.total([np.cumsum(rng.integers(0, 9, w)) for w in widths])
    elif kind == "fractions":
        part = parts.total([np.cumsum(rng.uniform(0, 9, w)) * (w % 2) for w in widths])
    else:
        part = parts.product([np.cumsum(rng.uniform(0, 1, w)) for w in widths])
    problem = mo.MonotoneProblem.from_parts(lower, upper, part)
    made = problem.structure
    assert made is not None
    points = rng.integers(lower, upper + 1, (200, 9))
    columns = np.array([block(points) for block in made.objective.blocks])
    wanted = [math.fsum(column) for column in columns.T]
    if kind == "product":
        wanted = [functools.reduce(operator.mul, column, 1.0) for column in columns.T]
    assert made.objective(points).tolist() == wanted
