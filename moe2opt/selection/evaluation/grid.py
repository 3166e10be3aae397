"""Certified plans on a grid of budgets, beside every baseline, on the test part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from moe2opt.canonical import FacilityProblem
from moe2opt.result import BoolArray, FloatArray, InputError, IntArray
from moe2opt.selection.evaluation.grid_report import GridCell, GridEvaluation, Rival
from moe2opt.selection.evaluation.intervals import common_prompts
from moe2opt.selection.evaluation.policies import Outcome, Policy, TestPart, mean_outcome
from moe2opt.selection.evaluation.realised import by_category, facts_of, retrained_scores
from moe2opt.selection.evaluation.routers import trained_routers
from moe2opt.selection.evaluation.sets import (
    PER_CATEGORY,
    RANDOM,
    RANDOM_SETS,
    Facts,
    baseline_sets,
    random_sets,
)
from moe2opt.selection.question import GatedInstance


@dataclass(frozen=True, slots=True, eq=False)
class SolvedCell:
    """A solved combination of budgets.

    Attributes
    ----------
    budgets
        Budget on each axis.
    instance
        The instance there; cells may share it where they differ in rows of the problem alone.
    problem
        The facility problem there.
    x
        Its solution, None without one.
    status, certified, objective, bound
        What is proven.
    """

    budgets: tuple[float, ...]
    instance: GatedInstance
    problem: FacilityProblem
    x: IntArray | None
    status: str
    certified: bool
    objective: float
    bound: float


def evaluate_grid(
    names: Iterable[str],
    cells: Iterable[SolvedCell],
    *,
    retrain: bool = False,
    seed: int = 0,
    on_step: Callable[[int], None] | None = None,
) -> GridEvaluation:
    """Compare the plan of every cell with the baselines that keep the same budgets.

    Parameters
    ----------
    names
        Name of each axis.
    cells
        Solved cells; `moe2opt.pareto.grid` solves them.
    retrain
        Whether to train a gate for every deployed set as well, once per set of LLMs.
    seed
        Seed of the random sets.
    on_step
        Hears how many cells are done.

    Raises
    ------
    InputError
        When the test part is empty, there is no cell, or a cell is not a plain facility problem.
    """
    judge, found = _Judge(retrain, seed), []
    for cell in cells:
        found.append(judge.cell(cell))
        if on_step is not None:
            on_step(len(found))
    if not found or judge.origin is None:
        raise InputError("grid: no cells")
    notes = (
        "accuracies are those of the published answers, without loss by quantisation",
        "joules and seconds are those expected of who answers, by category",
    )
    caveats = (*notes, *judge.origin.caveats)
    origin = {**judge.origin.origin, "seed": seed}
    return GridEvaluation(judge.origin.name, tuple(names), tuple(found), origin, caveats)


@dataclass(slots=True)
class _Judge:
    """Judges cells, remembering what cells of one instance share.

    Attributes
    ----------
    retrain, seed
        As in `evaluate_grid`.
    origin
        The first instance met.
    """

    retrain: bool
    seed: int
    origin: GatedInstance | None = None
    _tests: dict[GatedInstance, TestPart] = field(default_factory=dict)
    _facts: dict[GatedInstance, Facts] = field(default_factory=dict)
    _routers: dict[GatedInstance, dict[str, FloatArray]] = field(default_factory=dict)
    _scores: dict[tuple[GatedInstance, tuple[str, ...]], FloatArray] = field(default_factory=dict)
    _outcomes: dict[Any, Outcome] = field(default_factory=dict)

    def cell(self, cell: SolvedCell) -> GridCell:
        """Return what the plan and every baseline of a cell get."""
        self._meet(cell)
        facts = (cell.status, cell.certified, cell.objective, cell.bound)
        if cell.x is None:
            return GridCell(cell.budgets, *facts)
        chosen, instance = np.flatnonzero(cell.x), cell.instance
        plan = self._outcome(instance, self._gated("moe2", instance, chosen))
        met = list(self._rivals(cell, chosen))
        known = [~np.isnan(outcome.score) for outcome in (plan, *(own for _, _, own in met))]
        own, *others = common_prompts(np.column_stack(known), 0).T
        rivals = [
            replace(_rival(name, outcome, plan, compared), deployed=_labels(instance, sets))
            for (name, sets, outcome), compared in zip(met, others, strict=True)
        ]
        return GridCell(
            cell.budgets,
            *facts,
            deployed=_labels(instance, [chosen]),
            prompts=int(own.sum()),
            accuracy=_mean(plan.score[own]),
            energy_j_per_prompt=float(plan.energy_j.mean()),
            delay_s=float(plan.delay_s.mean()),
            rivals=tuple(rivals),
        )

    def _meet(self, cell: SolvedCell) -> None:
        instance = cell.instance
        instance.require_sums("grid")
        if cell.problem.size != len(instance.experts):
            raise InputError("grid: the problem of a cell is not that of its instance")
        if instance not in self._tests:
            test = TestPart(instance, instance.split.members("test"))
            if not len(test.prompts):
                raise InputError("splits.test: the test part is empty")
            self._tests[instance] = test
            self._facts[instance] = facts_of(instance)
            self._routers[instance] = trained_routers(instance, test.prompts)
        self.origin = self.origin or instance

    def _gated(self, name: str, instance: GatedInstance, chosen: IntArray) -> Policy:
        return Policy(name, chosen, self._tests[instance].by_gate(chosen))

    def _rivals(
        self, cell: SolvedCell, chosen: IntArray
    ) -> Iterator[tuple[str, list[IntArray], Outcome]]:
        """Yield name, deployed sets (several where they are drawn) and outcome of each baseline."""
        instance, test = cell.instance, self._tests[cell.instance]
        for name, other in baseline_sets(cell.problem, self._facts[instance]).items():
            if other is None:
                continue
            policy = self._gated(name, instance, other)
            if name == PER_CATEGORY:
                policy = replace(policy, routing=by_category(test, other))
            yield name, [other], self._outcome(instance, policy)
        drawn = random_sets(cell.problem, RANDOM_SETS, self.seed, instance.model_of)
        if drawn:
            parts = [self._outcome(instance, self._gated("moe2", instance, s)) for s in drawn]
            yield RANDOM, drawn, mean_outcome(parts)
        equal = test.everybody(chosen, equal=True)
        routings = [
            ("majority vote", equal, "vote"),
            ("uniform routing", equal, "uniform"),
            ("category table", by_category(test, chosen), "first"),
        ]
        for name, scores in self._routers[instance].items():
            routings.append((name, test.by_scores(scores, chosen), "first"))
        if self.retrain:
            scores = self._retrained(instance, chosen)
            routings.append(("gate retrained for the set", test.by_scores(scores, chosen), "first"))
        for name, routing, rule in routings:
            policy = Policy(name, chosen, routing, rule)  # type: ignore[arg-type]
            yield name, [chosen], self._outcome(instance, policy)

    def _retrained(self, instance: GatedInstance, chosen: IntArray) -> FloatArray:
        key = (instance, tuple(chosen.tolist()))
        if key not in self._scores:
            self._scores[key] = retrained_scores(instance, chosen)
        return self._scores[key]

    def _outcome(self, instance: GatedInstance, policy: Policy) -> Outcome:
        """Return what a policy gets; sets come back in many cells."""
        key = (instance, policy.chosen.tobytes(), policy.rule, policy.routing.experts.tobytes())
        if key not in self._outcomes:
            test = self._tests[instance]
            delay = instance.delay_s[instance.outcomes.category_of[test.prompts]]
            self._outcomes[key] = test.outcome(policy, delay, test.energy)
        return self._outcomes[key]


def _labels(instance: GatedInstance, sets: list[IntArray]) -> tuple[str, ...]:
    """Return the labels of a set; of several sets, one text for each."""
    labels = [[instance.experts[i].label for i in chosen] for chosen in sets]
    return tuple(labels[0]) if len(labels) == 1 else tuple(" + ".join(own) for own in labels)


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if len(values) else np.nan


def _rival(name: str, other: Outcome, plan: Outcome, compared: BoolArray) -> Rival:
    """Return a baseline beside the plan, on the prompts that it is compared on."""
    known = (other.score - plan.score)[compared]
    error = float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else 0.0
    return Rival(
        policy=name,
        prompts=len(known),
        accuracy=_mean(other.score[compared]),
        difference=float(known.mean()) if len(known) else 0.0,
        error=error,
        energy_j_per_prompt=float(other.energy_j.mean()),
        delay_s=float(other.delay_s.mean()),
    )
