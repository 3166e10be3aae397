"""Rules of the literature that ask experts in turn, or by shares: cascades and StageRoute."""

from __future__ import annotations

import numpy as np

from moe2opt.result import FloatArray, IntArray
from moe2opt.selection.evaluation.policies import TestPart, answered_by
from moe2opt.selection.evaluation.sets import Deployable, Facts, grow
from moe2opt.selection.gate.measures import simplest
from moe2opt.selection.routing.prompts import Routing

#: Names of the rules in tables.
GOOD_ENOUGH = "cheapest good enough"
CASCADE = "cascade until two agree"
STAGE_ROUTE = "StageRoute-like shares"

#: How much lower than the best expert's chance that of a good enough one may be.
_SHORTFALLS = (0.2, 0.1, 0.05, 0.02, 0.01, 0.0)


def good_enough(test: TestPart, chosen: IntArray) -> tuple[Routing, float]:
    """Send every prompt to the cheapest expert whose chance is hardly below the best one's.

    This is the cascade of FrugalGPT (Chen et al., 2023) with the gate in the place of the judge of
    answers, so that nobody is asked in vain. The shortfall is the largest whose measured score on
    the validation and selection parts is within a standard error of the best.

    Returns
    -------
    routing, shortfall
        Who answers, and what it is.
    """
    instance = test.instance
    held = TestPart(instance, instance.split.members("validation", "select"))
    routings = [_cheapest(held, chosen, shortfall) for shortfall in _SHORTFALLS]
    rows = np.arange(len(held.prompts))
    scores = np.array([np.where(e >= 0, held.score[rows, e], 0.0) for e in routings])
    known = ~np.isnan(scores).any(axis=0)
    shortfall = _SHORTFALLS[simplest(scores[:, known])] if known.any() else 0.0
    return answered_by(_cheapest(test, chosen, shortfall)), shortfall


def _cheapest(test: TestPart, chosen: IntArray, shortfall: float) -> IntArray:
    """Return the cheapest expert of each prompt within `shortfall` of the best, -1 for nobody."""
    allowed = test.allowed[:, chosen]
    chance = np.where(allowed, test.instance.expert_scores[np.ix_(test.prompts, chosen)], -np.inf)
    able = allowed & (chance >= chance.max(axis=1, keepdims=True) - shortfall)
    cost = np.where(able, test.cost[:, chosen], np.inf)
    order = np.lexsort((-chance, cost))[:, 0]
    return np.where(able.any(axis=1), chosen[order], -1)


def cascade(test: TestPart, chosen: IntArray) -> Routing | None:
    """Ask one expert after the other, the cheapest first, until two answers agree.

    When none do, the expert that the gate rates highest has the last word. All who are asked cost
    joules and seconds, one after the other. None where answers are not recorded.
    """
    answers = test.answers
    if answers is None:
        return None
    allowed = test.allowed[:, chosen]
    cost = np.where(allowed, test.cost[:, chosen], np.inf)
    order = chosen[np.argsort(cost, axis=1, kind="stable")]
    rows = np.arange(len(order))[:, None]
    asked = test.allowed[rows, order]
    given = answers[rows, order]
    best = test.by_gate(chosen).first
    weights = (order == best[:, None]).astype(np.float64) * asked
    for row in range(len(order)):
        seen: dict[int, int] = {}
        for k in np.flatnonzero(asked[row]):
            answer = int(given[row, k])
            if answer >= 0 and answer in seen:
                weights[row] = 0.0
                weights[row, seen[answer]] = 1.0
                asked[row, k + 1 :] = False
                break
            seen[answer] = int(k)
    return Routing(np.where(asked, order, -1), weights)


def stage_route(
    test: TestPart, problem: Deployable, facts: Facts, energy_j: float
) -> tuple[IntArray, Routing] | None:
    """Deploy by optimistic accuracy, and share prompts out by a linear programme.

    So does StageRoute (arXiv 2506.17254) at each of its stages: upper confidence bounds decide
    what is deployed, then shares of the deployed LLMs maximise accuracy within a budget of expected
    joules. Neither looks at the prompt. Costs are known here, so they need no bound.

    Parameters
    ----------
    problem, facts
        What may be deployed together, and accuracies outside the test part.
    energy_j
        Budget of expected joules per prompt.

    Returns
    -------
    chosen, routing
        The set, and the shares as a lottery; None when nothing can be deployed within the budget.
    """
    runs = np.maximum(facts.runs, 2.0)
    optimistic = np.minimum(facts.worth + np.sqrt(np.log(runs) / (2 * runs)), 1.0)
    wanted = _shares(optimistic, facts.energy_j, energy_j)
    if wanted is None:
        return None
    chosen = grow(problem, np.lexsort((-optimistic, -wanted)), facts.model_of)
    if chosen is None or not len(chosen):
        return None
    shares = _shares(facts.worth[chosen], facts.energy_j[chosen], energy_j)
    if shares is None:
        return None
    allowed = test.allowed[:, chosen]
    # Whoever may not serve a prompt leaves its share to those who may, all of them alike where
    # none of these has one.
    weights = np.where(allowed, shares, 0.0)
    weights = np.where(weights.any(axis=1, keepdims=True), weights, allowed)
    weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    return chosen, Routing(np.where(weights > 0, chosen, -1), weights)


def _shares(worth: FloatArray, costs: FloatArray, budget: float) -> FloatArray | None:
    """Return the shares of the largest mean worth within a budget of mean cost; None for none."""
    from scipy.optimize import linprog

    found = linprog(-worth, costs[None], [budget], np.ones((1, len(worth))), [1.0])
    return np.asarray(found.x) if found.success else None
