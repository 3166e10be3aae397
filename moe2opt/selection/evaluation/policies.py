"""What each policy does with the test prompts: who answers, how well, how fast, for how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.selection.constraints.objectives import mixture_weights
from moe2opt.selection.constraints.together import ensemble_of
from moe2opt.selection.plan import votes
from moe2opt.selection.plan.prompts import routed
from moe2opt.selection.question import GatedInstance
from moe2opt.selection.routing.prompts import Routing, majority_score, route, vote

#: How the answers of several experts become one.
Rule = Literal["first", "vote", "ballot", "uniform", "oracle", "cascade"]


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """A deployed set, and who answers each test prompt.

    Attributes
    ----------
    name
        Short name.
    chosen
        Deployed experts.
    routing
        Experts asked for each test prompt.
    rule
        ``first``: the first expert answers; ``vote``: all asked experts do, and vote by weight;
        ``ballot``: they vote as the objective does, a tie being decided by lot;
        ``uniform``: one of them, drawn by lot; ``oracle``: the cheapest that is right; ``cascade``:
        they are asked one after the other, and the one with the weight is believed.
    promised
        Expected accuracy by the policy's own model; None where it has none.
    note
        What must be known about it.
    feasible
        Whether the set keeps all budgets.
    drawn
        Sets that the policy is the mean of, where it is one.
    """

    name: str
    chosen: IntArray
    routing: Routing
    rule: Rule = "first"
    promised: float | None = None
    note: str = ""
    feasible: bool = True
    drawn: tuple[IntArray, ...] = ()

    def labels(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the labels of the deployed experts; of drawn sets, one text for each."""
        if self.drawn:
            return tuple(" + ".join(names[i] for i in own) for own in self.drawn)
        return tuple(names[i] for i in self.chosen)


def joined_labels(sets: Sequence[tuple[str, ...]], *, drawn: bool) -> tuple[str, ...]:
    """Return the labels of one policy in several splits: one text for each set unless all agree.

    Parameters
    ----------
    sets
        What `Policy.labels` says in each split.
    drawn
        Whether each of them already is one text for each of several sets.
    """
    if len(set(sets)) == 1:
        return sets[0]
    return tuple(text for own in sets for text in own) if drawn else tuple(map(" + ".join, sets))


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a policy gets on the T test prompts; NaN where the outcome is unknown.

    Attributes
    ----------
    score, quantised
        ``(T,)`` measured score, and the same times the estimated share that the precision keeps.
    delay_s, energy_j
        ``(T,)`` seconds until the answer and joules of all experts asked.
    all_energy_j
        ``(T,)`` joules if every deployed expert answered.
    answered
        ``(T,)`` whether anybody in time is asked.
    money
        ``(T,)`` money of all experts asked; None where it does not matter.
    """

    score: FloatArray
    quantised: FloatArray
    delay_s: FloatArray
    energy_j: FloatArray
    all_energy_j: FloatArray
    answered: BoolArray
    money: FloatArray | None = None


def mean_outcome(parts: Sequence[Outcome]) -> Outcome:
    """Return the mean over several outcomes on the same prompts; answered where all are."""
    names = ("score", "quantised", "delay_s", "energy_j", "all_energy_j")
    means = {name: np.mean([getattr(part, name) for part in parts], axis=0) for name in names}
    paid = [part.money for part in parts if part.money is not None]
    money = np.mean(paid, axis=0) if len(paid) == len(parts) else None
    answered = np.all([part.answered for part in parts], axis=0)
    return Outcome(**means, answered=answered, money=money)


@dataclass(frozen=True, eq=False)
class TestPart:
    """The test prompts of an instance with their measured scores.

    Attributes
    ----------
    instance
        The instance.
    prompts
        ``(T,)`` indices of the test prompts.
    """

    __test__ = False  # not a test case, whatever its name suggests to pytest

    instance: GatedInstance
    prompts: IntArray

    @cached_property
    def score(self) -> FloatArray:
        """``(T, N)`` measured score of every expert's LLM, NaN where it was not run."""
        return self.instance.pool.score[np.ix_(self.prompts, self.instance.model_of)]

    @cached_property
    def answers(self) -> IntArray | None:
        """``(T, N)`` number of each expert's answer; None where answers are not recorded."""
        answers = self.instance.pool.answers
        return None if answers is None else answers[np.ix_(self.prompts, self.instance.model_of)]

    @cached_property
    def allowed(self) -> BoolArray:
        """``(T, N)`` whether the expert may serve: in time, and tried in the category."""
        return self.instance.may_serve[self.prompts]

    @cached_property
    def energy(self) -> FloatArray:
        """``(T, N)`` expected joules, by category."""
        return self.instance.energy_j[self.instance.outcomes.category_of[self.prompts]]

    @cached_property
    def cost(self) -> FloatArray:
        """``(T, N)`` what makes an answer dear: joules, or money where no joules are known."""
        return self.energy if self.price is None or self.instance.energy_j.any() else self.price

    def by_gate(self, chosen: IntArray) -> Routing:
        """Route each prompt to the chosen expert that the instance's gate rates highest."""
        return answered_by(routed(self.instance, self.prompts, chosen))

    def deployed(self, x: IntArray) -> IntArray:
        """Return the experts of a solution; further variables of the problem say nothing here."""
        return np.flatnonzero(np.asarray(x)[: len(self.instance.experts)])

    def as_planned(self, chosen: IntArray) -> tuple[Routing, Rule]:
        """Route as the objective does: to the best expert, by lot, or to all for a vote."""
        mixture = self.instance.mixture
        if self.instance.vote is not None:
            everybody = np.broadcast_to(chosen, (len(self.prompts), len(chosen)))
            return Routing(everybody, np.full(everybody.shape, 1 / max(1, len(chosen)))), "ballot"
        if mixture is None:
            return self.by_gate(chosen), "first"
        weights = mixture_weights(mixture, self.instance.scored_on(self.prompts), chosen)
        experts = np.where(weights > 0, np.broadcast_to(chosen, weights.shape), -1)
        return Routing(experts, weights), "uniform"

    def by_scores(self, scores: FloatArray, chosen: IntArray, k: int = 1) -> Routing:
        """Route by any ``(P, N)`` scores."""
        part = scores[self.prompts]
        return route(part, chosen, allowed=self.allowed, costs=self.energy, k=k)

    def everybody(self, chosen: IntArray, *, equal: bool) -> Routing:
        """Ask every chosen expert in time, with equal weights or those of the gate."""
        scores = self.instance.expert_scores[self.prompts]
        found = route(scores, chosen, allowed=self.allowed, costs=self.energy, k=len(chosen))
        if not equal:
            return found
        asked = found.experts >= 0
        count = np.maximum(asked.sum(axis=1, keepdims=True), 1)
        return Routing(found.experts, asked / count)

    @cached_property
    def price(self) -> FloatArray | None:
        """``(T, N)`` expected money, by category; None where it does not matter."""
        price = self.instance.price
        return None if price is None else price[self.instance.outcomes.category_of[self.prompts]]

    def outcome(
        self,
        policy: Policy,
        delay_s: FloatArray,
        energy_j: FloatArray,
        money: FloatArray | None = None,
    ) -> Outcome:
        """Return what the policy gets, given realised seconds, joules and money ``(T, N)``."""
        asked = policy.routing.experts >= 0
        experts = np.maximum(policy.routing.experts, 0)
        rows = np.arange(len(self.prompts))[:, None]
        score, delay, energy = (a[rows, experts] for a in (self.score, delay_s, energy_j))
        factor = self.instance.factors[experts]
        weights = self._weights(policy, score, energy)
        answered = asked.sum(axis=1) > 0
        result = np.where(asked, weights * score, 0.0)
        reduced = np.where(asked, weights * score * factor, 0.0)
        values, lowered = _sum(result, weights), _sum(reduced, weights)
        if policy.rule in ("vote", "ballot"):
            if policy.rule == "vote":
                values = self._voted(policy.routing)
                lowered = values * np.where(asked, weights * factor, 0.0).sum(axis=1)
            else:
                values = votes.published(self.instance, self.prompts, policy.chosen)
                lowered = ensemble_of(self.instance, self.prompts).won(policy.chosen)
        everyone = policy.rule in ("vote", "ballot", "cascade")
        shares = asked.astype(np.float64) if everyone else weights
        spent, waited = (_spent(a, shares) for a in (energy, delay))
        if policy.rule in ("vote", "ballot"):
            waited = _all(delay, asked).max(axis=1)
        return Outcome(
            score=np.where(answered, values, 0.0),
            quantised=np.where(answered, lowered, 0.0),
            delay_s=waited,
            energy_j=spent,
            all_energy_j=energy_j[:, policy.chosen].sum(axis=1),
            answered=answered,
            money=None if money is None else _spent(money[rows, experts], shares),
        )

    def _weights(self, policy: Policy, score: FloatArray, energy: FloatArray) -> FloatArray:
        """Return how much each asked expert's answer counts."""
        weights = policy.routing.weights
        if policy.rule == "first":
            return np.where(np.arange(weights.shape[1]) == 0, 1.0, 0.0) * (weights > 0)
        if policy.rule == "oracle":
            asked = policy.routing.experts >= 0
            ranked = np.where(asked, np.where(np.isnan(score), -0.5, score), -1.0)
            right = asked & (ranked >= ranked.max(axis=1, keepdims=True))
            best = np.where(right, energy, np.inf).argmin(axis=1)
            picked: FloatArray = np.eye(weights.shape[1])[best]
            return picked
        return weights

    def _voted(self, routing: Routing) -> FloatArray:
        """Return the score of the answer that wins the vote, a lower bound without answers."""
        if self.answers is None:
            return majority_score(self.score, routing)
        winner = vote(self.answers, routing)
        return self.score[np.arange(len(winner)), np.maximum(winner, 0)]


def answered_by(expert: IntArray) -> Routing:
    """Return the routing that asks one expert per prompt, -1 for nobody."""
    return Routing(expert[:, None], (expert >= 0).astype(np.float64)[:, None])


def _all(values: FloatArray, asked: BoolArray) -> FloatArray:
    return np.where(asked, values, 0.0)


def _spent(values: FloatArray, shares: FloatArray) -> FloatArray:
    """Return what is used by those who have a share."""
    used: FloatArray = np.where(shares > 0, shares * values, 0.0).sum(axis=1)
    return used


def _sum(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Return weighted sums; an unknown score with a positive weight makes the sum unknown."""
    unknown = (np.isnan(values) & (weights > 0)).any(axis=1)
    total = np.nan_to_num(values).sum(axis=1)
    return np.where(unknown, np.nan, total)
