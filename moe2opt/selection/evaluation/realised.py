"""Realised quality on prompts that nothing was tuned on, beside every baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from moe2opt.canonical import FacilityProblem
from moe2opt.errors import NoPlanError
from moe2opt.result import FloatArray, InputError, IntArray
from moe2opt.selection.case import Vote
from moe2opt.selection.constraints.together import ensemble_of
from moe2opt.selection.evaluation.observed import Observed, observe
from moe2opt.selection.evaluation.policies import Policy, TestPart, answered_by
from moe2opt.selection.evaluation.report import PLAN, Evaluation, build_report
from moe2opt.selection.evaluation.routers import trained_routers
from moe2opt.selection.evaluation.rules import (
    CASCADE,
    GOOD_ENOUGH,
    STAGE_ROUTE,
    cascade,
    good_enough,
    stage_route,
)
from moe2opt.selection.evaluation.sets import (
    LOCAL_SEARCH,
    PER_CATEGORY,
    RANDOM,
    RANDOM_SETS,
    Deployable,
    Facts,
    baseline_sets,
    local_search,
    random_sets,
)
from moe2opt.selection.gate.train import train_gate
from moe2opt.selection.gated import SCORE_DECIMALS
from moe2opt.selection.plan.prompts import evaluated
from moe2opt.selection.question import GatedInstance
from moe2opt.selection.routing.joint import solve_jointly
from moe2opt.selection.routing.market import limited, market_of
from moe2opt.selection.routing.prices import price
from moe2opt.selection.routing.prompts import Routing

#: Energy budget of cost-aware routing as a share of what the plan's own routing is expected to use.
_SHARE_OF_ENERGY = 0.75

#: Name of the set that votes best, where the plan pools log-probabilities.
BEST_VOTE = "selected for the vote"

_ORACLE_NOTE = "upper bound: it sees the answers, and guessing inflates it"


class Solved(Protocol):
    """What a solver must tell."""

    @property
    def x(self) -> IntArray | None:
        """Solution, None without one."""

    @property
    def bound(self) -> float:
        """Valid upper bound."""

    @property
    def objective(self) -> float:
        """Value of the solution."""

    @property
    def status(self) -> str:
        """What is proven: OPTIMAL, FEASIBLE, ..."""


#: Solves an instance or a facility problem; `moe2opt.solve` does.
Solver = Callable[[Any], Solved]

Listener = Callable[[str], None]


def evaluate_on_test(
    instance: GatedInstance | Sequence[GatedInstance],
    solve: Solver,
    *,
    replicates: int = 2000,
    seed: int = 0,
    on_step: Listener | None = None,
) -> Evaluation:
    """Compare the plan with every baseline on the test part.

    Parameters
    ----------
    instance
        A gated instance; its gate is trained when it has none. Several that differ by the split
        alone are pooled.
    solve
        A solver of instances and of facility problems, such as `moe2opt.solve`.
    replicates, seed
        Bootstrap resamples, and the seed of everything random here.
    on_step
        Hears what is done.

    Returns
    -------
    Evaluation
        One row per policy. All sets keep the same budgets unless their row says otherwise.

    Raises
    ------
    InputError
        When the test part is empty.
    NoPlanError
        When no deployment keeps the budgets, or none was found within the limits.
    """
    instances = instance if isinstance(instance, Sequence) else (instance,)
    parts = []
    for own in instances:
        head = f"split {own.split.seed}: " if len(instances) > 1 else ""
        parts.append(_observed(own, solve, seed, head, on_step))
    return build_report(parts, replicates=replicates, seed=seed)


def _observed(
    instance: GatedInstance, solve: Solver, seed: int, head: str, on_step: Listener | None
) -> Observed:
    """Return what plan and baselines get on the test part of one split."""
    test = TestPart(instance, instance.split.members("test"))
    if not len(test.prompts):
        raise InputError("splits.test: the test part is empty")
    policies = []
    for policy in _policies(test, solve, seed):
        policies.append(policy)
        if on_step is not None:
            on_step(head + policy.name)
    used = np.unique(np.concatenate([policy.chosen for policy in policies]))
    delay_s, energy_j, money = instance.realised(test.prompts, used)
    paid = None if instance.price is None else money
    outcomes = [test.outcome(policy, delay_s, energy_j, paid) for policy in policies]
    return observe(test, policies, outcomes, PLAN)


def _policies(test: TestPart, solve: Solver, seed: int) -> Iterator[Policy]:
    instance = test.instance
    result = solve(instance)
    if result.x is None:
        proven = result.status == "INFEASIBLE"
        why = "no deployment keeps the budgets" if proven else "no deployment was found in time"
        raise NoPlanError(f"evaluate: {why} (moe2opt solve says more)", proven=proven)
    chosen = test.deployed(result.x)
    note = f"selected on the selection part: {str(result.status).lower()}, bound {result.bound:.4f}"
    if instance.mixture is not None:
        note += "; one of the experts answers, by lot with the weights of the objective"
    yield Policy(PLAN, chosen, *test.as_planned(chosen), result.objective, note)
    yield from _selected_on_train(test, solve)
    yield from _other_sets(test, seed)
    everybody = test.as_planned(chosen)[0]
    if instance.vote is None:  # a vote has no gate, and routes nothing
        yield from _other_routings(test, chosen)
        yield from literature(test, instance.compiled, facts_of(instance), chosen)
        yield from _cost_aware(test, chosen, solve)
        everybody = test.everybody(chosen, equal=True)
    elif instance.vote.pool != "answers":
        yield from _votes_beside(test, chosen, solve)
    yield Policy("per-prompt oracle of the set", chosen, everybody, "oracle", note=_ORACLE_NOTE)
    if not all(np.isnan(llm.params_total_b) for llm in instance.tables.llms):
        yield _largest(test)


def _votes_beside(test: TestPart, chosen: IntArray, solve: Solver) -> Iterator[Policy]:
    """Yield votes on the answers that were given, of a pool's set and of the one selected so."""
    instance = test.instance
    note = _vote_note(test)
    yield Policy("majority vote", chosen, test.as_planned(chosen)[0], "vote", note=note)
    score = instance.pool.score[instance.members()]
    if ((score > 0) & (score < 1)).any():
        return
    result = solve(replace(instance, vote=Vote("equal")))
    if result.x is not None:
        own = test.deployed(result.x)
        note = f"{note}; the best set for it on the selection part"
        routing = test.as_planned(own)[0]
        yield Policy(BEST_VOTE, own, routing, "vote", result.objective, note)


def _vote_note(test: TestPart) -> str:
    votes = "exact" if test.answers is not None else "lower bound: right if over half of it is"
    return f"all ask; {votes}"


def _selected_on_train(test: TestPart, solve: Solver) -> Iterator[Policy]:
    """Yield the set that looks best on the prompts the gate has learnt: over-fitting shows here."""
    result = solve(test.instance.on_part("train"))
    if result.x is not None:
        chosen, name = test.deployed(result.x), "moe2, selected on train"
        note = "selected on the gate's own training part"
        yield Policy(name, chosen, *test.as_planned(chosen), result.objective, note)


def _other_sets(test: TestPart, seed: int) -> Iterator[Policy]:
    instance, problem = test.instance, test.instance.compiled
    rules = baseline_sets(problem, facts_of(instance))
    if instance.vote is not None:  # greedy rules count the best answer, not the vote
        value = ensemble_of(instance, instance.members()).value
        start = max((own for own in rules.values() if own is not None), key=value, default=None)
        if start is not None:
            rules[LOCAL_SEARCH] = local_search(problem, start, value)
    for name, chosen in rules.items():
        if name == PER_CATEGORY and chosen is not None:
            note = "the best expert of each category that fits, and its category's prompts to it"
            yield Policy(name, chosen, by_category(test, chosen), note=note)
            continue
        single = name == "best single LLM"
        note = "chosen on all but the test part" if single else _answering(instance)
        yield from _named(test, name, chosen, note)
    for number, chosen in enumerate(random_sets(problem, RANDOM_SETS, seed, instance.model_of)):
        yield from _named(test, f"{RANDOM} #{number}", chosen, _answering(instance))


def _answering(instance: GatedInstance) -> str:
    return "routed by the gate" if instance.vote is None else "all vote"


def _named(test: TestPart, name: str, chosen: IntArray | None, note: str) -> Iterator[Policy]:
    if chosen is None:
        return
    promised = evaluated(test.instance, chosen)
    yield Policy(name, chosen, *test.as_planned(chosen), promised, note)


def _other_routings(test: TestPart, chosen: IntArray) -> Iterator[Policy]:
    instance = test.instance
    note = _vote_note(test)
    yield Policy(
        "majority vote",
        chosen,
        test.everybody(chosen, equal=True),
        "vote",
        note=note,
    )
    if instance.config.routing.top_k > 1:
        k = instance.config.routing.top_k
        routing = test.by_scores(instance.expert_scores, chosen, k)
        told = note.replace("all ask", "weights of the gate")
        yield Policy(f"top-{k} vote", chosen, routing, "vote", note=told)
    yield Policy("uniform routing", chosen, test.everybody(chosen, equal=True), "uniform")
    yield Policy("category table", chosen, by_category(test, chosen), note="no gate")
    for name, scores in trained_routers(instance, test.prompts).items():
        note = "of the plan's set, trained on the training and validation parts"
        yield Policy(name, chosen, test.by_scores(scores, chosen), note=note)
    scores = retrained_scores(instance, chosen)
    yield Policy("gate retrained for the set", chosen, test.by_scores(scores, chosen))


def literature(
    test: TestPart, problem: Deployable, facts: Facts, chosen: IntArray
) -> Iterator[Policy]:
    """Yield cascades of the plan's set, and the set and shares of StageRoute's rule."""
    routing, shortfall = good_enough(test, chosen)
    note = f"chance at most {100 * shortfall:g} points below the best, chosen outside the test part"
    yield Policy(GOOD_ENOUGH, chosen, routing, note=note)
    asked = cascade(test, chosen)
    if asked is not None:
        yield Policy(CASCADE, chosen, asked, "cascade", note="cheapest first; all asked cost")
    rows, answer = np.arange(len(test.prompts)), test.by_gate(chosen).first
    own = float(np.where(answer >= 0, test.energy[rows, answer], 0.0).mean())
    budget = test.instance.config.routing.energy_j_per_prompt or own
    staged = stage_route(test, problem, facts, budget)
    if staged is not None:
        deployed, shares = staged
        note = f"by lot, within {budget:.4g} J expected per prompt; it does not look at the prompt"
        yield Policy(STAGE_ROUTE, deployed, shares, "uniform", note=note)


def retrained_scores(instance: GatedInstance, chosen: IntArray) -> FloatArray:
    """Return ``(P, N)`` scores of a gate trained on the LLMs of the chosen experts alone."""
    names = sorted({instance.experts[i].llm for i in chosen})
    gate = train_gate(instance.outcomes, instance.split, instance.gate_settings, llms=names)
    chances = gate.scores(instance.outcomes.vectors, instance.outcomes.category)
    scores = np.zeros((len(chances), len(instance.experts)))
    for i in chosen:
        column = chances[:, gate.llms.index(instance.experts[i].llm)]
        scores[:, i] = np.round(column, SCORE_DECIMALS) * instance.factors[i]
    return scores


def by_category(test: TestPart, chosen: IntArray) -> Routing:
    """Send each category to the chosen expert that was best in it outside the test part."""
    instance = test.instance
    accuracy = category_accuracy(instance)[instance.outcomes.category_of]
    return test.by_scores(accuracy, chosen)


def _cost_aware(test: TestPart, chosen: IntArray, solve: Solver) -> Iterator[Policy]:
    """Yield routing by prices; they are found on the selection part and used on the test part."""
    instance, budgets = test.instance, test.instance.config.routing
    select, own = (market_of(instance, p) for p in (instance.members(), test.prompts))
    given = (budgets.energy_j_per_prompt, budgets.delay_s, budgets.money_per_prompt)
    limits = np.array([np.inf if limit is None else limit for limit in given])
    if np.isinf(limits[[0, 2]]).all():
        saved = 0 if instance.price is None else 2
        free = select.restricted_to(chosen).response(np.zeros(len(select.limits)))
        limits[saved] = _SHARE_OF_ENERGY * select.restricted_to(chosen).worth(free)[1][saved]
    select, own = (limited(market, limits) for market in (select, own))
    if not select.allowed[:, chosen].any(axis=1).all():
        return
    found = price(select.restricted_to(chosen))
    unit = "" if instance.money is None else f" {instance.money.currency.upper()}"
    words = ("energy at most {:.4g} J per prompt", "delay at most {:.4g} s",
             f"price at most {{:.4g}}{unit} per prompt")  # fmt: skip
    told = [w.format(limit) for w, limit in zip(words, limits, strict=True) if limit < np.inf]
    note = f"expected {', expected '.join(told)}"
    kept = found.answer is not None
    answer = chosen[own.restricted_to(chosen).response(found.prices)]
    yield Policy(
        "cost-aware routing",
        chosen,
        answered_by(answer),
        promised=found.value if kept else None,
        note=note if kept else f"{note} cannot be kept: the cheapest routing of the set",
    )
    problem = instance.problem()
    plain = isinstance(problem, FacilityProblem) and problem.size == len(instance.experts)
    if not plain or all(limit is None for limit in given):
        return

    def facility(problem: FacilityProblem) -> tuple[IntArray | None, float]:
        done = solve(problem)
        return done.x, done.bound

    joint = solve_jointly(problem, select, facility)
    if joint.chosen is not None and joint.routing is not None:
        answer = joint.chosen[own.restricted_to(joint.chosen).response(joint.routing.prices)]
        note += f"; set and prices together, at most {joint.bound:.4f} is possible"
        routing = answered_by(answer)
        yield Policy("joint set and prices", joint.chosen, routing, "first", joint.value, note)


def _largest(test: TestPart) -> Policy:
    """Return the largest LLM that has a size, at its best precision, whatever it costs."""
    instance = test.instance
    sizes = np.array([llm.params_total_b for llm in instance.tables.llms])[instance.model_of]
    best = np.lexsort((-instance.factors, -sizes))[0]
    answer = np.full(len(test.prompts), best)
    note = f"{instance.experts[best].llm}: ignores budgets and deadlines"
    x = np.zeros(len(instance.experts), dtype=np.int64)
    x[best] = 1
    fits = instance.compiled.is_feasible(x)
    return Policy(
        "largest LLM of the pool", np.array([best]), answered_by(answer), note=note, feasible=fits
    )


def facts_of(instance: GatedInstance) -> Facts:
    """Return what rules of thumb go by: accuracies outside the test part, joules, LLMs."""
    learn = instance.split.members("train", "validation", "select")
    count = np.bincount(instance.outcomes.category_of[learn], minlength=len(instance.categories))
    accuracy = np.where(instance.barred, 0.0, category_accuracy(instance))
    shares = count / len(learn)
    runs = instance.pool.observed[learn].sum(axis=0)[instance.model_of].astype(np.float64)
    price = None if instance.price is None else instance.prices
    known = (accuracy, shares, instance.joules, instance.model_of, runs, price)
    return Facts(shares @ accuracy, *known)


def expert_accuracy(instance: GatedInstance) -> FloatArray:
    """Return ``(N,)`` mean score outside the test part; 0 in categories that it may not serve."""
    return facts_of(instance).worth


def category_accuracy(instance: GatedInstance) -> FloatArray:
    """Return ``(K, N)`` mean score by category outside the test part, precision included.

    An LLM without outcomes in a category takes its overall mean.
    """
    learn = instance.split.members("train", "validation", "select")
    means = instance.pool.category_means(instance.pool.score, learn)
    accuracy: FloatArray = means[:, instance.model_of] * instance.factors
    return accuracy
