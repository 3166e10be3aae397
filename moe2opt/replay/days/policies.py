r"""Policies: what each believes of the LLMs, when it deploys others, and what that costs.

A policy counts right answers by category and LLM, and believes the mean, leaning on the LLM's mean
over all categories with the weight of `PRIOR` prompts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from moe2opt.canonical import FacilityProblem
from moe2opt.certify import certify
from moe2opt.errors import NoPlanError
from moe2opt.replay.days.world import Stage, World
from moe2opt.result import BoolArray, FloatArray, IntArray, Limit, Result, Status
from moe2opt.solve import solve

#: Prompts that an LLM's overall mean counts for in each category.
PRIOR = 10.0

Key = tuple[str, str, str]

HINDSIGHT = "hindsight"

#: Deploys as ``exact`` does, and routes single prompts by a gate; needs ``routing.days: gate``.
GATED = "gated"


@dataclass(slots=True, eq=False)
class Knowledge:
    """What a policy knows: ``(K, M)`` prompts run and scores summed."""

    run: FloatArray
    right: FloatArray

    def learn(self, category: IntArray, column: IntArray, score: FloatArray) -> None:
        """Take note of single outcomes; NaN says nothing."""
        known = ~np.isnan(score)
        place = (category[known], column[known])
        np.add.at(self.run, place, 1.0)
        np.add.at(self.right, place, score[known])

    @property
    def means(self) -> FloatArray:
        """``(K, M)`` believed accuracies."""
        total = (self.right.sum(axis=0) + 1.0) / (self.run.sum(axis=0) + 2.0)
        return np.asarray((self.right + PRIOR * total) / (self.run + PRIOR))

    @property
    def upper(self) -> FloatArray:
        """``(K, M)`` upper confidence bounds, after as many prompts as were ever answered."""
        width = np.sqrt(np.log(1.0 + self.run.sum()) / (2.0 * (self.run + PRIOR)))
        return np.asarray(np.minimum(self.means + width, 1.0))


@dataclass(slots=True, eq=False)
class Policy:
    """One policy on its way through the days.

    Attributes
    ----------
    name
        Its name in `POLICIES`, or `GATED`.
    knowledge
        What it knows by category.
    heard
        ``(P, M)`` flags of the single outcomes that it knows.
    deployed
        Experts of the day before.
    """

    name: str
    knowledge: Knowledge
    heard: BoolArray
    deployed: tuple[Key, ...] = field(default=())

    @property
    def beliefs(self) -> FloatArray:
        """``(K, M)`` accuracies that it plans and routes by."""
        return self.knowledge.upper if self.name == "stageroute" else self.knowledge.means


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """What is deployed on a day.

    Attributes
    ----------
    chosen
        Experts of the stage.
    promised, bound
        Value by the policy's own beliefs, loading costs deducted, and what no set can exceed.
    proven
        Whether a checked certificate says that the set is best by these beliefs.
    """

    chosen: IntArray
    promised: float
    bound: float
    proven: bool


def fresh(name: str, world: World) -> Policy:
    """Return a policy before the first day, with the history of the LLMs that are there then.

    Hindsight has all outcomes.
    """
    shape = (len(world.outcomes.categories), len(world.outcomes.llms))
    heard = np.zeros(world.outcomes.score.shape, dtype=bool)
    policy = Policy(name, Knowledge(np.zeros(shape), np.zeros(shape)), heard)
    prompts, llms = world.parts[0], world.days[0].offered
    if name == HINDSIGHT:
        prompts, llms = np.concatenate(world.parts), tuple(world.outcomes.names)
    hear(policy, world, prompts, llms)
    return policy


def hear(policy: Policy, world: World, prompts: IntArray, llms: tuple[str, ...]) -> None:
    """Let a policy know the outcomes of some LLMs on some prompts."""
    for column in world.outcomes.columns(list(llms)).tolist():
        learn(policy, world, prompts, np.full(len(prompts), column))


def learn(policy: Policy, world: World, prompts: IntArray, column: IntArray) -> None:
    """Let a policy know the outcome of one LLM on each of some prompts."""
    category, score = world.outcomes.category_of[prompts], world.outcomes.score[prompts, column]
    policy.knowledge.learn(category, column, score)
    policy.heard[prompts, column] = ~np.isnan(score)


def solved(problem: FacilityProblem, day: int) -> tuple[Result, bool]:
    """Return the optimum, and whether its certificate was checked.

    Raises
    ------
    NoPlanError
        When no deployment keeps the budgets, or none was found.
    KeyboardInterrupt
        When a signal ended the search: what it found is no answer to the day.
    """
    result = solve(problem)
    if result.limit is Limit.INTERRUPTED:
        raise KeyboardInterrupt
    if result.x is None:
        proven = result.status is Status.INFEASIBLE
        why = "no deployment keeps the budgets" if proven else "no deployment was found"
        raise NoPlanError(f"day {day}: {why}", proven=proven)
    verdict = certify(problem, result)
    return result, result.status is Status.OPTIMAL and verdict.ok and verdict.kind == "checked"


def _exact(policy: Policy, world: World, stage: Stage, day: int) -> Decision:
    """Deploy what is best by the beliefs of today, whatever is there."""
    return _best(stage.problem(policy.beliefs), day)


def _static(policy: Policy, world: World, stage: Stage, day: int) -> Decision:
    """Keep what is there as long as it may stay; else deploy what is best today."""
    chosen = kept(policy, stage)
    x = np.zeros(stage.base.size, dtype=np.int64)
    x[chosen] = 1
    problem = stage.problem(policy.beliefs)
    if len(chosen) < len(policy.deployed) or not len(chosen) or not problem.is_feasible(x):
        return _best(problem, day)
    value = problem.evaluate(x)
    return Decision(chosen, value, np.inf, proven=False)


def _thrifty(policy: Policy, world: World, stage: Stage, day: int) -> Decision:
    """Deploy what is best after what loading costs, spread over the days that it should last.

    An expert that is loaded is taken to lose what it is believed to be worth on all prompts.
    """
    weights = stage.instance.tables.weights
    worth = weights @ stage.values(policy.beliefs)
    charge = loading(world, stage) * worth / world.settings.horizon_days
    charge[kept(policy, stage)] = 0.0
    opening = charge if policy.deployed else None
    return _best(stage.problem(policy.beliefs, opening=opening), day)


def _best(problem: FacilityProblem, day: int) -> Decision:
    result, proven = solved(problem, day)
    assert result.x is not None
    return Decision(np.flatnonzero(result.x), result.objective, result.bound, proven)


def kept(policy: Policy, stage: Stage) -> IntArray:
    """Return the experts of the day before that may stay."""
    there = [i for i, key in enumerate(stage.keys) if key in policy.deployed]
    return np.array(there, dtype=np.int64)


def loading(world: World, stage: Stage) -> FloatArray:
    """Return the ``(N,)`` share of a day that it takes to load each expert."""
    gib = np.array([expert.memory_gib for expert in stage.instance.experts])
    return np.minimum(gib / world.settings.load_gib_per_s / world.settings.day_s, 1.0)


#: Name of each policy, and how it decides. ``stageroute`` decides by upper confidence bounds.
#: `HINDSIGHT` decides as ``exact`` does, but knows all outcomes of all days.
POLICIES: dict[str, Callable[[Policy, World, Stage, int], Decision]] = {
    "static": _static,
    "exact": _exact,
    "thrifty": _thrifty,
    "stageroute": _exact,
    HINDSIGHT: _exact,
}


def decide(policy: Policy, world: World, stage: Stage, day: int) -> Decision:
    """Return what a policy deploys on a day."""
    return POLICIES["exact" if policy.name == GATED else policy.name](policy, world, stage, day)


def usual(gate: bool) -> tuple[str, ...]:
    """Return the policies that are compared when none are asked for."""
    return (*POLICIES, *((GATED,) if gate else ()))
