"""Bounds of ensembles: linear ones of prompts, and those that read budgets and absences."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import moe2opt as mo
from moe2opt.selection.constraints.ensemble import Ensemble
from moe2opt.selection.constraints.envelope import envelope
from moe2opt.selection.constraints.pooling import LogPool
from moe2opt.selection.constraints.voters import Voters, with_absent
from moe2opt.selection.constraints.voting import Ballots
from moe2opt.selection.question import GatedInstance

from .test_pooling import pooled
from .test_voting import drawn

LLMS, PROMPTS = 4, 6


@st.composite
def ensembles(draw: st.DrawFn) -> Ensemble:
    """Return votes, equal or weighted, or a pool of four LLMs with one copy each on six prompts."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    common = (np.arange(LLMS), np.ones(LLMS), np.full(PROMPTS, 1 / PROMPTS))
    if draw(st.booleans()):
        ran = rng.random((LLMS, PROMPTS)) < 0.9
        against = np.ones((PROMPTS, 2), dtype=bool)
        margins = rng.integers(-3, 4, (LLMS, PROMPTS, 2)) * 10 ** draw(st.sampled_from([0, 6]))
        return LogPool(*common, margins * ran[:, :, None], against, ran)
    tie, shape = draw(st.booleans()), (PROMPTS, LLMS)
    answer = rng.integers(-1, 3, shape)  # none, right, one of two wrong ones
    wrong = np.where(answer > 0, (answer - 1) * tie, -1)
    votes = rng.integers(1, 5 if draw(st.booleans()) else 2, shape)
    return Ballots(*common, answer == 0, wrong, votes, tie)


@settings(max_examples=30)
@given(own=ensembles(), more=st.integers(1, LLMS))
def test_the_linear_bound_holds_over_every_box(own: Ensemble, more: int) -> None:
    """No set between two, with at most so many further LLMs, wins more prompts than the bound."""
    sets = np.array(list(product((False, True), repeat=LLMS)))
    won = np.array([own.chances(s.astype(float), s).sum() for s in sets])
    for state in product((0, 1, 2), repeat=LLMS):  # out, open, in
        sure, offered = np.array(state) == 2, np.array(state) > 0
        free = offered & ~sure
        if not free.any():
            continue
        inside = ((sets >= sure) & (sets <= offered)).all(axis=1)
        inside &= (sets & free).sum(axis=1) <= more
        margin, pull = own.pulls(offered, sure)
        best = own.chances(offered.astype(float), sure)
        bound = envelope(best, margin, pull[free], min(more, int(free.sum())))
        assert bound >= won[inside].max() - 1e-12


def test_the_linear_bound_knows_that_an_llm_takes_part_everywhere_or_nowhere() -> None:
    """Two LLMs that are right on one prompt each, and wrong alike on the other, win one and a half.

    Prompt by prompt both are won.
    """
    right = np.array([[True, False], [False, True]])
    own = Ballots(
        np.arange(2), np.ones(2), np.full(2, 0.5), right, np.where(right, -1, 0),
        np.ones((2, 2), dtype=int), tie=True,
    )  # fmt: skip
    everyone, nobody = np.ones(2, dtype=bool), np.zeros(2, dtype=bool)
    best = own.chances(np.ones(2), nobody)
    margin, pull = own.pulls(everyone, nobody)
    assert best.sum() == 2
    assert envelope(best, margin, pull, 2) <= 1.5
    assert max(2 * own.value(np.array(s)) for s in ([0], [1], [0, 1])) == 1


@pytest.mark.parametrize("pool", [False, True])
def test_no_box_of_copies_and_absences_has_a_better_plan(tmp_path: Path, pool: bool) -> None:
    """Random boxes of 12 columns hold no set within the budgets that is worth more than said."""
    instance = pooled(tmp_path, 1) if pool else drawn(tmp_path, 1, answers=True)
    assert isinstance(instance, GatedInstance)
    problem = instance.problem()
    assert problem.size == 12
    assert isinstance(problem.mixed_objective, Voters)
    all_sets = np.array(list(product((0, 1), repeat=8)))
    points = np.array([with_absent(instance.compiled, x) for x in all_sets])
    kept = (problem.constraint_values(points) <= 0).all(axis=1)
    kept &= (problem.reverse_values(points) >= 0).all(axis=1)
    points = points[kept]
    values = problem.objective_values(points)
    assert len(points) > 8
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        state = rng.choice(3, size=12, p=[0.25, 0.6, 0.15])
        lower, upper = (state == 2).astype(np.int64), (state > 0).astype(np.int64)
        inside = ((points >= lower) & (points <= upper)).all(axis=1)
        if inside.any():
            held += 1
            bound = problem.upper_values(upper[None, :], lower[None, :])[0]
            assert bound >= values[inside].max() - 1e-12
    assert held > 20


@pytest.mark.slow
def test_a_vote_of_32_experts_is_proven() -> None:
    """The eight LLMs of the built-in vote at two precisions on two servers are settled quickly."""
    both = "precisions=[{name: q8}, {name: q4}]"
    instance = mo.load("mmlu_pro_vote", overrides=(both,))
    result = mo.solve(instance, node_limit=400)
    assert len(instance.experts) == 32
    assert result.status == "OPTIMAL"
    assert mo.certify(instance, result).kind == "checked"
    assert instance.check(result.plan) == []


def test_an_infeasible_vote_names_its_budget() -> None:
    """A budget that nobody keeps is the conflict; columns for absences are no part of it."""
    instance = mo.load("mmlu_pro_vote", overrides=("energy.limit_j_per_prompt=1",))
    result = mo.solve(instance)
    assert result.status == "INFEASIBLE"
    named = [instance.row_names()[row] for row in result.stats["conflict_rows"]]
    assert named == ["energy_j_per_prompt"]
