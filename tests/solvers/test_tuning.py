"""Tuned numbers: passed to the engines, explained, and without a say in what is true."""

from __future__ import annotations

import ast
import inspect
from typing import Any

import numpy as np
import pytest
from solving import run
from strategies import brute_force

import moe2opt as mo
from moe2opt.bench.generated import uniform
from moe2opt.solvers import tuning, tuning_choice
from moe2opt.solvers.tuning import ChoiceTuning, FacilityTuning, MonotoneTuning, Tuning

RNG = np.random.default_rng(0)
FACILITY = uniform(14, 40, 0.35, 3)
CHOICE = mo.MultipleChoiceProblem(
    values=[RNG.integers(0, 99, 4) for _ in range(8)],
    usage=[RNG.integers(0, 60, (4, 3)) for _ in range(8)],
    budgets=[200, 200, 200],
)
MONOTONE = mo.MonotoneProblem(
    lower=[0, 0, 0],
    upper=[40, 40, 40],
    objective=lambda x: 3.0 * x[:, 0] + 2.0 * x[:, 1] + np.sqrt(x[:, 2]),
    constraints=[lambda x: x[:, 0] * x[:, 1] + x[:, 2] - 150.0],
)
OTHERS: dict[str, tuple[Any, str, Tuning]] = {
    "steps": (FACILITY, "lagrangian", Tuning(facility=FacilityTuning(steps=2, length=0.2))),
    "cuts": (FACILITY, "cuts", Tuning(facility=FacilityTuning(root_rounds=1, node_rounds=1))),
    "core": (CHOICE, "core", Tuning(choice=ChoiceTuning(small_core=0, often=0, dive_options=()))),
    "rounds": (MONOTONE, "auto", Tuning(monotone=MonotoneTuning(rounds=1, exchanges=0))),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_tuning_gives_another_tree_and_the_same_answer(name: str) -> None:
    """Numbers that are passed reach the engine, which proves the same optimum by another tree."""
    problem, bound, other = OTHERS[name]
    usual, result = (run(problem, "brb", bound=bound, tuning=t) for t in (Tuning(), other))
    assert usual.objective == result.objective == brute_force(problem)
    assert usual.certificate.tree != result.certificate.tree
    for answer in (usual, result):
        assert answer.status == mo.Status.OPTIMAL
        assert mo.certify(problem, answer).ok


def test_every_number_says_what_it_trades() -> None:
    """Each field of each tuning is followed by a docstring."""
    nodes = [n for m in (tuning, tuning_choice) for n in ast.parse(inspect.getsource(m)).body]
    engines = [n for n in nodes if isinstance(n, ast.ClassDef) and n.name != "Tuning"]
    assert len(engines) == 6
    for engine in engines:
        for field, text in zip(engine.body[1::2], engine.body[2::2], strict=True):
            assert isinstance(field, ast.AnnAssign)
            assert isinstance(text, ast.Expr)
            assert isinstance(text.value, ast.Constant)
