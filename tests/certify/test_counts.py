"""Multiple choice with equal groups is decided by counts, and its proof is checked by counts."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import brute_force

import moe2opt as mo
from moe2opt.certify import _replay
from moe2opt.certify.exact import RejectedError
from moe2opt.result import Certificate


def equal(*classes: tuple[Any, Any, int], budgets: Any) -> mo.MultipleChoiceProblem:
    """Return a problem with so many groups of each (values, usage)."""
    values = [v for v, _, count in classes for _ in range(count)]
    usage = [u for _, u, count in classes for _ in range(count)]
    return mo.MultipleChoiceProblem(values, usage, budgets)


def items(kinds: list[tuple[int, int, int]], budgets: Any) -> mo.MultipleChoiceProblem:
    """Return a knapsack problem with so many items of each (weight, volume)."""
    return equal(
        *(([0.0, 3 * a + 1000 * b], [[0, 0], [a, b]], count) for a, b, count in kinds),
        budgets=budgets,
    )


KINDS = [
    *[(64800, 81, 4), (45436, 40, 4), (10281, 12, 16)],
    *[(93145, 90, 4), (17713, 25, 10), (20150, 18, 14)],
]
ONE_EACH = np.eye(3) * 1.576


@pytest.mark.parametrize(
    ("problem", "optimum"),
    [
        (equal(([-2.1, -5.3], [[10], [0]], 48), budgets=[425]), 42 * -2.1 + 6 * -5.3),
        (
            equal(([-1.0, -1.03, -6.0], ONE_EACH, 36), budgets=[18.9, 30.3, 200.0]),
            11 * -1.0 + 19 * -1.03 + 6 * -6.0,
        ),
        (items(KINDS, [1_000_000, 900]), 3_716_938.0),
    ],
    ids=["layers on one device", "layers on two devices and RAM", "repeated items"],
)
@pytest.mark.parametrize("bound", ["auto", "counts"])
def test_equal_groups_close(problem: mo.MultipleChoiceProblem, optimum: float, bound: str) -> None:
    """Dozens of equal groups are decided exactly, with a proof that the checker accepts."""
    result = mo.solve(problem, "brb", bound=bound, node_limit=200)
    assert result.status is mo.Status.OPTIMAL
    assert result.objective == pytest.approx(optimum, rel=1e-12)
    verdict = mo.certify(problem, result)
    assert (verdict.ok, verdict.kind, verdict.failures) == (True, "checked", ())


def test_nearly_equal_layers_close_at_the_root() -> None:
    """Rounded rows say how many layers of about one size fit into each memory."""
    classes = [
        ([-1.0, -1.05, -1.1, -4.0], np.eye(4) * size, count)
        for size, count in ((1.5, 27), (1.507, 27), (1.515, 26))
    ]
    problem = equal(*classes, budgets=[21.6, 10.8, 7.2, 300.0])
    result = mo.solve(problem, "brb", bound="counts", node_limit=20)
    assert result.status is mo.Status.OPTIMAL
    assert result.certificate is not None and result.certificate.rounded
    assert mo.certify(problem, result).ok


@st.composite
def shared_problems(draw: Any) -> mo.MultipleChoiceProblem:
    """Draw a few classes of equal groups under a few budgets, integral or not."""
    rows = draw(st.integers(1, 3))
    scale = draw(st.sampled_from([1.0, 1 / 7]))
    number = st.integers(-9, 9).map(lambda k: k * scale)
    size = st.integers(0, 8).map(lambda k: k * scale)
    classes = []
    for _ in range(draw(st.integers(1, 3))):
        options = draw(st.integers(1, 3))
        values = draw(st.lists(number, min_size=options, max_size=options))
        usage = draw(
            st.lists(
                st.lists(size, min_size=rows, max_size=rows), min_size=options, max_size=options
            )
        )
        classes.append((values, usage, draw(st.integers(1, 3))))
    budgets = draw(st.lists(st.integers(0, 30), min_size=rows, max_size=rows))
    return equal(*classes, budgets=[b * scale for b in budgets])


@given(shared_problems())
def test_counts_find_the_optimum(problem: mo.MultipleChoiceProblem) -> None:
    """Counting finds what trying every choice finds; the proof holds, and for less it does not."""
    result = mo.solve(problem, "brb", bound="counts")
    assert result.objective == pytest.approx(brute_force(problem), rel=1e-9, abs=1e-9)
    assert mo.certify(problem, result).failures == ()
    if result.x is not None:
        assert result.certificate is not None
        lower = result.objective - 1e-3 - abs(result.objective) * 1e-3
        forged = dataclasses.replace(result.certificate, claim=lower).sealed()
        with pytest.raises(RejectedError):
            _replay(problem, forged)


def a_proof() -> tuple[mo.MultipleChoiceProblem, mo.Result[Any], Certificate]:
    """Return a problem with two classes, its result and its proof, which has splits."""
    problem = items([(7, 5, 6), (5, 6, 6), (3, 2, 4)], [41, 37])
    result = mo.solve(problem, "brb", bound="counts")
    assert result.certificate is not None and result.certificate.kind == "counts"
    return problem, result, result.certificate


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"types": ((*range(16),),)}, "groups 0 and 6 of a class differ"),
        ({"types": ((*range(6),), (*range(6, 12),))}, "the classes do not hold every group once"),
        ({"types": ()}, "the classes do not hold every group once"),
        ({"rounded": ((9, 3),)}, "row 9 does not exist"),
        ({"rounded": ((0, 0),)}, "no rounded row of a budget of 41.0 in 0 parts"),
        ({"kind": "multiple_choice"}, ""),
        ({"tree": (("split", 0, 6), ("dual", 0, 0), ("dual", 0, 0))}, "does not cut the box"),
        ({"tree": (("split", 0, -1), ("dual", 0, 0), ("dual", 0, 0))}, "not of a class of one"),
        ({"tree": (("split", 99, 0), ("dual", 0, 0), ("dual", 0, 0))}, "does not exist"),
        ({"tree": (("out:dual", 0, 0), ("out:dual", 0, 0), ("dual", 0, 0))}, ""),
        ({"tree": (("in:dual", 0, 0), ("dual", 0, 0))}, "is not understood"),
        ({"tree": (("cover", 0, 0),)}, "does not hold in its box"),
        ({"tree": (("group", 0, 0),)}, "does not hold in its box"),
        ({"tree": (("group", 7, 0),)}, "group 7 does not exist"),
        ({"tree": (("budget", 0, 0),)}, "does not hold in its box"),
        ({"tree": (("corner", 0, 0),)}, "does not hold in its box"),
    ],
)
def test_forged_proofs_are_rejected(change: dict[str, Any], fault: str) -> None:
    """A proof by counts with other classes, rows or records proves nothing, in words."""
    problem, result, proof = a_proof()
    forged = dataclasses.replace(proof, **change).sealed()
    verdict = mo.certify(problem, dataclasses.replace(result, certificate=forged))
    assert not verdict.ok
    assert fault in verdict.failures[0]


def test_infeasible_counts_are_explained() -> None:
    """Equal groups that cannot all be placed clash in a named budget, with its least limit."""
    problem = equal(([1.0, 2.0], [[3, 9], [5, 1]], 10), budgets=[29, 200])
    result = mo.solve(problem, "brb", bound="counts")
    assert result.status is mo.Status.INFEASIBLE
    assert result.certificate is not None and result.certificate.conflict is not None
    assert result.certificate.conflict.rows == (0,)
    assert result.certificate.conflict.relaxations[0].limit == 30.0
    assert mo.certify(problem, result).failures == ()


def test_counts_of_different_groups_are_a_plain_search() -> None:
    """Without two equal groups, counting still finds the optimum and proves it."""
    rng = np.random.default_rng(3)
    values = [rng.integers(0, 30, 3).astype(float) for _ in range(6)]
    usage = [rng.integers(1, 20, (3, 2)).astype(float) for _ in range(6)]
    problem = mo.MultipleChoiceProblem(values, usage, [60.0, 55.0])
    result = mo.solve(problem, "brb", bound="counts")
    assert result.objective == brute_force(problem)
    assert mo.certify(problem, result).kind == "checked"


def test_sizes_next_to_nothing_are_no_overflow() -> None:
    """A use that is a vanishing share of its budget is counted like any other."""
    problem = equal(([-1.0, -2.5], [[0.7], [5e-324]], 3), budgets=[1.0])
    result = mo.solve(problem, "brb", bound="counts")
    assert (result.status, result.objective) == (mo.Status.OPTIMAL, -6.0)
    assert mo.certify(problem, result).failures == ()
