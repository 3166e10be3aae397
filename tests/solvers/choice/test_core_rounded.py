"""Budgets whose costs have few sizes are rounded in the core, too: whole items leave a rest."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from solving import run
from strategies import brute_force

import moe2opt as mo
from moe2opt.certify import _replay
from moe2opt.certify.exact import RejectedError
from moe2opt.solvers.tuning import DEFAULT

#: Rounded rows are tried on small problems, too.
TUNING = dataclasses.replace(DEFAULT, choice=dataclasses.replace(DEFAULT.choice, rounded_options=2))


def memories(groups: int, seed: int, room: float) -> mo.MultipleChoiceProblem:
    """Return groups that are nowhere or in one of two memories, in two sizes."""
    rng = np.random.default_rng(seed)
    values = [np.concatenate([[0.0], 8 + rng.random(4)]) for _ in range(groups)]
    usage = np.zeros((5, 2))
    usage[1:3, 0] = usage[3:, 1] = 1.0, 1.25
    return mo.MultipleChoiceProblem(values, [usage] * groups, [room, 0.7 * room])


def test_whole_items_leave_a_rest() -> None:
    """Memories with room for 40.9 and 28.63 groups hold 40 and 28, which few nodes prove."""
    problem = memories(250, 0, 40.9)
    result = mo.solve(problem, "brb", node_limit=2000, rel_gap=1e-9)
    assert result.status is mo.Status.OPTIMAL
    assert result.certificate is not None
    assert len(result.certificate.rounded) >= 2
    verdict = mo.certify(problem, result)
    assert (verdict.ok, verdict.kind, verdict.failures) == (True, "checked", ())
    plain = mo.solve(problem, "brb", node_limit=2000, rel_gap=1e-9, proof="linear")
    assert plain.limit is mo.Limit.NODES
    assert plain.objective <= result.objective <= plain.bound


def test_the_optimum_is_what_enumeration_finds() -> None:
    """With rounded rows, too, the value is that of the best of all choices, and is proven."""
    rounded = 0
    for seed in range(8):
        problem = memories(5, seed, 1.9 + 0.15 * seed)
        result = run(problem, "brb", bound="core", tuning=TUNING)
        assert result.objective == pytest.approx(brute_force(problem), abs=1e-12)
        assert result.bound == pytest.approx(result.objective, rel=1e-9)
        verdict = mo.certify(problem, result)
        assert (verdict.ok, verdict.failures) == (True, ())
        assert result.certificate is not None
        rounded += len(result.certificate.rounded) > 0
    assert rounded > 2


def changed_rows(rounded: tuple[tuple[int, int], ...]) -> list[tuple[tuple[int, int], ...]]:
    """Return other rows: fewer parts, another budget, none, and what does not exist."""
    (row, parts), *rest = rounded
    return [
        ((row, parts - 1), *rest),
        ((1 - row, parts), *rest),
        (),
        ((row, 0), *rest),
        ((row, 10**9), *rest),
        ((-1, parts), *rest),
        ((4, parts), *rest),
    ]


def test_other_rounded_rows_prove_nothing() -> None:
    """A proof that names other rows than those that it prices is refused."""
    problem = memories(250, 0, 40.9)
    certificate: Any = mo.solve(problem, "brb", node_limit=2000, rel_gap=1e-9).certificate
    _replay(problem, certificate)
    for rounded in changed_rows(certificate.rounded):
        with pytest.raises(RejectedError):
            _replay(problem, dataclasses.replace(certificate, rounded=rounded))
