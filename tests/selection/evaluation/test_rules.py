"""Cascades and shares: rules of the literature as baselines."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from moe2opt.selection.evaluation.policies import Policy, TestPart
from moe2opt.selection.evaluation.realised import facts_of
from moe2opt.selection.evaluation.rules import cascade, good_enough, stage_route

from .test_grid import complete


@cache
def part_of_tiny() -> TestPart:
    """Return the test part of the tiny instance; nothing is missing."""
    return TestPart(complete(), complete().split.members("test"))


def everyone() -> np.ndarray:
    """Return one expert of each LLM."""
    return np.unique(complete().model_of, return_index=True)[1]


def test_good_enough_never_costs_more() -> None:
    """On every prompt the good enough expert costs at most what the best one costs, and is near."""
    part, chosen = part_of_tiny(), everyone()
    routing, shortfall = good_enough(part, chosen)
    rows, best = np.arange(len(part.prompts)), part.by_gate(chosen).first
    chance = part.instance.expert_scores[part.prompts]
    assert (part.energy[rows, routing.first] <= part.energy[rows, best] + 1e-12).all()
    assert (chance[rows, routing.first] >= chance[rows, best] - shortfall).all()


def with_answers(answers: np.ndarray) -> TestPart:
    """Return the test part with an answer of each LLM, the same ones to every prompt."""
    own = complete().outcomes
    given = np.broadcast_to(answers, own.score.shape)
    instance = replace(complete(), outcomes=replace(own, answers=given))
    return TestPart(instance, instance.split.members("test"))


@pytest.mark.parametrize(
    ("answers", "asked", "believed"),
    [([7, 7, 3, 3], 2, 0), ([7, 5, 5, 7], 3, 1), ([1, 2, 3, 4], 4, None), ([-1, -1, 2, 2], 4, 2)],
)
def test_cascade_ends_where_two_agree(answers: list[int], asked: int, believed: int | None) -> None:
    """The cheapest are asked until two agree; without agreement the gate's best is believed."""
    part, chosen = with_answers(np.zeros(4, dtype=np.int64)), everyone()
    row = int(np.flatnonzero(part.allowed[:, chosen].all(axis=1))[0])
    order = chosen[np.argsort(part.energy[row, chosen], kind="stable")]
    given = np.zeros(4, dtype=np.int64)
    given[part.instance.model_of[order]] = answers
    part = with_answers(given)
    routing = cascade(part, chosen)
    assert routing is not None
    assert routing.experts[row][routing.experts[row] >= 0].tolist() == order[:asked].tolist()
    best = int(part.by_gate(chosen).first[row])
    wanted = best if believed is None else int(order[believed])
    assert int(routing.experts[row, routing.weights[row].argmax()]) == wanted
    policy = Policy("cascade", chosen, routing, "cascade")
    delay = part.instance.delay_s[part.instance.outcomes.category_of[part.prompts]]
    done = part.outcome(policy, delay, part.energy)
    assert done.energy_j[row] == pytest.approx(part.energy[row, order[:asked]].sum())
    assert done.delay_s[row] == pytest.approx(delay[row, order[:asked]].sum())
    assert done.score[row] == part.score[row, wanted]


def test_no_cascade_without_answers() -> None:
    """Whether answers agree is unknown where they are not recorded."""
    assert cascade(part_of_tiny(), everyone()) is None


@pytest.mark.parametrize("energy_j", [30.0, 60.0, 500.0])
def test_shares_keep_the_expected_budget(energy_j: float) -> None:
    """The set keeps the budgets of the problem, and the shares the expected joules."""
    part, facts = part_of_tiny(), facts_of(complete())
    problem = complete().compiled
    found = stage_route(part, problem, facts, energy_j)
    cheapest = facts.energy_j.min()
    if found is None:
        assert energy_j < cheapest
        return
    chosen, routing = found
    x = np.isin(np.arange(problem.size), chosen).astype(np.int64)
    assert problem.is_feasible(x)
    asked = (routing.experts >= 0).any(axis=1)
    assert routing.weights.sum(axis=1)[asked] == pytest.approx(1.0)
    full = part.allowed[:, chosen].all(axis=1)
    weights = routing.weights[full]
    if len(weights):
        assert (weights @ facts.energy_j[chosen] <= energy_j * (1 + 1e-6)).all()
