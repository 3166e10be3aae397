"""Interchangeable variables: what parts show, what is declared, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import moe2opt as mo
from moe2opt.canonical import parts
from moe2opt.canonical.symmetry import lowered_to_order, raised_to_order

TWICE = np.array([[0.3, 0.3, 0.5, 0.3], [0.2, 0.2, 0.4, 0.2]])
PAIRED = np.array([[0, 2, 5, 2], [0, 0, 5, 2], [0, 0, 0, 5], [0, 0, 0, 0]])

ALIKE = {
    "tables": parts.total([[0, 1, 3], [0, 1, 3], [0, 2, 3], [0, 1, 3]]),
    "product": parts.product([[0.1, 0.7, 1], [0.1, 0.7, 1], [0.2, 0.3, 1], [0.1, 0.7, 1]]),
    "coverage": parts.coverage(TWICE, [2, 3]),
    "quadratic": parts.quadratic(PAIRED, [1, 1, 4, 1]),
    "least": parts.minimum(parts.linear([3, 3, 1, 3]), parts.linear([1, 1, 5, 1])),
    "roots": [parts.concave(np.sqrt, parts.linear(row)) for row in np.eye(4)[[0, 1, 3]]],
    "blocks": parts.total([[[0, 1], [1, 3]], [[0, 1], [1, 3]]], [[0, 1], [3, 2]]),
}


def made(objective: Any, **more: Any) -> mo.MonotoneProblem:
    """Return a problem of four variables from 0 to 2, with one row that tells only 2 apart."""
    upper = [1] * 4 if objective is ALIKE["blocks"] else [2] * 4
    within = [(parts.linear([2, 2, 3, 2]), 6)]
    return mo.MonotoneProblem.from_parts([0] * 4, upper, objective, at_most=within, **more)


@pytest.mark.parametrize("name", [name for name in ALIKE if name != "blocks"])
def test_parts_show_which_variables_are_alike(name: str) -> None:
    """Equal tables, columns and coefficients make a set; one that differs stays outside."""
    assert made(ALIKE[name]).orders == ((0, 1, 3),)


def test_pairs_that_are_coupled_in_turn_are_alike_as_pairs_only() -> None:
    """Swapping one member of a coupled pair alone changes the function, and is not offered."""
    assert made(ALIKE["blocks"]).orders == ((0, 1),)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"at_most": [(parts.linear([2, 2, 3, 1]), 6)]}, ((0, 1),)),
        ({"at_least": [(parts.total([[0, 1, 2], [0, 1, 1], [0, 0, 0], [0, 1, 2]]), 1)]}, ((0, 3),)),
        ({"at_least": [(parts.coverage(TWICE), 0.5)]}, ()),  # rounding might decide
        ({"at_most": [(parts.increasing(lambda x: x.sum(axis=1) * 1.0), 4)]}, ()),  # code might
    ],
)
def test_rows_tell_variables_apart(change: dict[str, Any], wanted: Any) -> None:
    """A variable with another coefficient in any row is not alike, and code shows nothing."""
    rows = {"at_most": [(parts.linear([2, 2, 3, 2]), 6)], **change}
    problem = mo.MonotoneProblem.from_parts([0] * 4, [2] * 4, ALIKE["tables"], **rows)
    assert problem.orders == wanted


def test_other_ranges_tell_variables_apart() -> None:
    """Only variables of one range are alike; declared ones of two are refused by name."""
    problem = mo.MonotoneProblem.from_parts([0] * 3, [2, 1, 2], parts.linear([1, 1, 1]))
    assert problem.orders == ((0, 2),)
    with pytest.raises(mo.InputError, match=r"interchangeable\[0\]: variables 0 and 1 have"):
        mo.MonotoneProblem([0, 0], [1, 2], lambda x: x.sum(axis=1), interchangeable=[[0, 1]])
    with pytest.raises(mo.InputError, match="variable 1 is in two sets"):
        mo.MonotoneProblem(
            [0] * 3, [1] * 3, lambda x: x.sum(axis=1), interchangeable=[[0, 1], [1, 2]]
        )


@pytest.mark.parametrize(
    ("name", "oracles"),
    [
        ("objective", {"objective": lambda x: x @ [1.0, 1.0, 1.1]}),
        (r"constraints\[0\]", {"constraints": [lambda x: x @ [1.0, 1.0, 2.0] - 4.0]}),
        (r"reverse_constraints\[0\]", {"reverse_constraints": [lambda x: x[:, 0] * 1.0]}),
        (
            "objective",
            {"objective": None, "mixed_objective": lambda a, b: a.sum(axis=1) - b @ [1, 2, 3]},
        ),
    ],
)
def test_a_lie_is_met_with_two_points(name: str, oracles: dict[str, Any]) -> None:
    """Variables that an oracle tells apart are refused, with the points that show it."""
    given = {"objective": lambda x: x.sum(axis=1) * 1.0, **oracles}
    with pytest.raises(mo.InputError, match=f"{name} tells variables apart .* but .* at"):
        mo.MonotoneProblem([0] * 3, [5] * 3, **given, interchangeable=[[0, 1, 2]])
    with pytest.raises(mo.InputError, match="tells variables apart"):
        made(parts.submodular(lambda x: x @ [3.0, 3.0, 3.0, 1.0]), interchangeable=[[0, 1, 3]])


def test_a_rare_lie_is_found_by_looking_longer() -> None:
    """What 64 points miss, `find_counterexample` meets with more of them, and says so."""
    rare = np.array([3, 3, 3, 1, 3, 2])

    def objective(x: Any) -> Any:
        return x.sum(axis=1) + 0.5 * (x >= rare).all(axis=1)

    problem = mo.MonotoneProblem([0] * 6, [3] * 6, objective, interchangeable=[range(6)])
    found = mo.find_counterexample(problem, samples=20_000)
    assert "tells variables apart that are declared interchangeable" in str(found)


def test_points_are_put_in_order_by_as_little_as_possible() -> None:
    """The least ordered point above, and the largest one below; other coordinates stay."""
    points = np.array([[1, 5, 3, 2]])
    assert raised_to_order(points.copy(), [(0, 2, 3)]).tolist() == [[3, 5, 3, 2]]
    assert lowered_to_order(points.copy(), [(0, 2, 3)]).tolist() == [[1, 5, 1, 1]]
