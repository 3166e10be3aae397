"""Certified plans on a grid of budgets, beside every baseline, on the test part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from moe2opt.canonical import FacilityProblem
from moe2opt.result import FloatArray, InputError, IntArray
from moe2opt.selection.evaluation.grid_report import GridCell, GridEvaluation, Rival
from moe2opt.selection.evaluation.intervals import common_prompts, mean_and_error
from moe2opt.selection.evaluation.policies import (
    Outcome,
    Policy,
    TestPart,
    joined_labels,
    mean_outcome,
)
from moe2opt.selection.evaluation.realised import (
    by_category,
    facts_of,
    literature,
    retrained_scores,
)
from moe2opt.selection.evaluation.report import PLAN
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
    cells: Iterable[SolvedCell | Sequence[SolvedCell]],
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
        Solved cells; `moe2opt.pareto.grid` solves them. Cells of one combination of budgets in
        several splits come together, and are pooled.
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
        found.append(judge.cell((cell,) if isinstance(cell, SolvedCell) else cell))
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
    if len(judge.splits) > 1:
        origin["splits"] = list(judge.splits.values())
    errors = {name: mean_and_error(*sums)[1] for name, sums in judge.gaps.items() if name != PLAN}
    return GridEvaluation(judge.origin.name, tuple(names), tuple(found), origin, caveats, errors)


@dataclass(frozen=True, slots=True)
class _Met:
    """A policy in one cell of one split, on the test prompts that it is compared on.

    Attributes
    ----------
    outcome
        What it gets.
    gap
        Its scores minus the plan's, NaN outside the prompts that it is compared on.
    prompts
        ``(T,)`` the test prompts.
    labels
        Labels of its experts; of several sets, one text for each.
    """

    outcome: Outcome
    gap: FloatArray
    prompts: IntArray
    labels: tuple[str, ...]

    @property
    def score(self) -> FloatArray:
        """Its scores on the prompts that it is compared on, NaN elsewhere."""
        return np.where(np.isnan(self.gap), np.nan, self.outcome.score)


@dataclass(slots=True)
class _Judge:
    """Judges cells, remembering what cells of one instance share.

    Attributes
    ----------
    retrain, seed
        As in `evaluate_grid`.
    origin
        The first instance met.
    splits
        Record of each split, by its digest.
    gaps
        For each baseline and prompt, the sum over all cells and splits of its score minus the
        plan's, and how many there are.
    """

    retrain: bool
    seed: int
    origin: GatedInstance | None = None
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    gaps: dict[str, tuple[FloatArray, FloatArray]] = field(default_factory=dict)
    _tests: dict[GatedInstance, TestPart] = field(default_factory=dict)
    _facts: dict[GatedInstance, Facts] = field(default_factory=dict)
    _routers: dict[Any, dict[str, FloatArray]] = field(default_factory=dict)
    _scores: dict[tuple[GatedInstance, tuple[str, ...]], FloatArray] = field(default_factory=dict)
    _outcomes: dict[Any, Outcome] = field(default_factory=dict)

    def cell(self, cells: Sequence[SolvedCell]) -> GridCell:
        """Return what the plan and every baseline get at some budgets, pooled over the splits."""
        met: dict[str, list[_Met]] = {}
        for cell in cells:
            self._meet(cell)
            for name, own in self._judged(cell) if cell.x is not None else ():
                met.setdefault(name, []).append(own)
        figures = {name: self._figures(name, own) for name, own in met.items()}
        proven = replace(_proven(cells), splits=len(met.get(PLAN, ())))
        if PLAN not in figures:
            return proven
        plan = {k: v for k, v in figures.pop(PLAN).items() if k not in ("difference", "error")}
        rivals = tuple(Rival(name, **own) for name, own in figures.items())
        return replace(proven, **plan, rivals=rivals)

    def _judged(self, cell: SolvedCell) -> Iterator[tuple[str, _Met]]:
        """Yield the plan and every baseline of one split, by name."""
        chosen, instance = np.flatnonzero(cell.x), cell.instance  # type: ignore[arg-type]
        plan = self._outcome(instance, self._gated(PLAN, instance, chosen))
        met = [(PLAN, [chosen], plan), *self._rivals(cell, chosen)]
        known = np.column_stack([~np.isnan(outcome.score) for _, _, outcome in met])
        prompts = self._tests[instance].prompts
        for (name, sets, outcome), compared in zip(met, common_prompts(known, 0).T, strict=True):
            gap = np.where(compared, outcome.score - plan.score, np.nan)
            yield name, _Met(outcome, gap, prompts, _labels(instance, sets))

    def _figures(self, name: str, met: list[_Met]) -> dict[str, Any]:
        """Return the figures of a policy in a cell."""
        assert self.origin is not None
        size = len(self.origin.outcomes.prompts)
        gaps = _by_prompt(size, [(own.prompts, own.gap) for own in met])
        scores = _by_prompt(size, [(own.prompts, own.score) for own in met])
        sums, counts = self.gaps.setdefault(name, (np.zeros(size), np.zeros(size)))
        sums += gaps[0]
        counts += gaps[1]
        difference, error = mean_and_error(*gaps)
        accuracy, accuracy_error = mean_and_error(*scores)
        paid = [own.outcome.money for own in met if own.outcome.money is not None]
        return {
            "prompts": int(gaps[1].sum()),
            "accuracy": accuracy,
            "accuracy_error": accuracy_error,
            "difference": 0.0 if np.isnan(difference) else difference,
            "error": error,
            "energy_j_per_prompt": float(np.mean([own.outcome.energy_j.mean() for own in met])),
            "delay_s": float(np.mean([own.outcome.delay_s.mean() for own in met])),
            "money_per_prompt": float(np.mean([m.mean() for m in paid])) if paid else None,
            "deployed": joined_labels([own.labels for own in met], drawn=name == RANDOM),
        }

    def _meet(self, cell: SolvedCell) -> None:
        instance = cell.instance
        instance.require_sums("grid")
        if cell.problem.size != len(instance.experts):
            raise InputError("grid: the problem of a cell is not that of its instance")
        self.origin = self.origin or instance
        if len(instance.outcomes.prompts) != len(self.origin.outcomes.prompts):
            raise InputError("grid: cells have different numbers of prompts")
        if instance not in self._tests:
            test = TestPart(instance, instance.split.members("test"))
            if not len(test.prompts):
                raise InputError("splits.test: the test part is empty")
            self._tests[instance] = test
            self._facts[instance] = facts_of(instance)
            record = instance.split.record()
            self.splits.setdefault(record["sha256"], record)

    def _trained(self, instance: GatedInstance) -> dict[str, FloatArray]:
        """Return the routers' scores; instances that differ by budgets alone share them."""
        experts = (instance.model_of.tobytes(), instance.factors.tobytes())
        key = (instance.outcomes.digest, instance.split.record()["sha256"], *experts)
        if key not in self._routers:
            self._routers[key] = trained_routers(instance, self._tests[instance].prompts)
        return self._routers[key]

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
            parts = [self._outcome(instance, self._gated(PLAN, instance, s)) for s in drawn]
            yield RANDOM, drawn, mean_outcome(parts)
        equal = test.everybody(chosen, equal=True)
        routings = [
            ("majority vote", equal, "vote"),
            ("uniform routing", equal, "uniform"),
            ("category table", by_category(test, chosen), "first"),
        ]
        for name, scores in self._trained(instance).items():
            routings.append((name, test.by_scores(scores, chosen), "first"))
        if self.retrain:
            scores = self._retrained(instance, chosen)
            routings.append(("gate retrained for the set", test.by_scores(scores, chosen), "first"))
        for name, routing, rule in routings:
            policy = Policy(name, chosen, routing, rule)  # type: ignore[arg-type]
            yield name, [chosen], self._outcome(instance, policy)
        for policy in literature(test, cell.problem, self._facts[instance], chosen):
            yield policy.name, [policy.chosen], self._outcome(instance, policy)

    def _retrained(self, instance: GatedInstance, chosen: IntArray) -> FloatArray:
        key = (instance, tuple(chosen.tolist()))
        if key not in self._scores:
            self._scores[key] = retrained_scores(instance, chosen)
        return self._scores[key]

    def _outcome(self, instance: GatedInstance, policy: Policy) -> Outcome:
        """Return what a policy gets; sets come back in many cells."""
        routing = policy.routing
        asked = (routing.experts.tobytes(), routing.weights.tobytes())
        key = (instance, policy.chosen.tobytes(), policy.rule, *asked)
        if key not in self._outcomes:
            test = self._tests[instance]
            delay = instance.delay_s[instance.outcomes.category_of[test.prompts]]
            self._outcomes[key] = test.outcome(policy, delay, test.energy, test.price)
        return self._outcomes[key]


def _labels(instance: GatedInstance, sets: list[IntArray]) -> tuple[str, ...]:
    """Return the labels of a set; of several sets, one text for each."""
    labels = [[instance.experts[i].label for i in chosen] for chosen in sets]
    return tuple(labels[0]) if len(labels) == 1 else tuple(" + ".join(own) for own in labels)


def _proven(cells: Sequence[SolvedCell]) -> GridCell:
    """Return what is proven of one combination of budgets: of several splits, the weakest."""
    certified = all(cell.certified for cell in cells)
    statuses = [cell.status for cell in cells]
    objective, bound = (
        float(np.mean([getattr(c, n) for c in cells])) for n in ("objective", "bound")
    )
    status = max(statuses, key=lambda status: (status != "OPTIMAL", status != "FEASIBLE"))
    return GridCell(cells[0].budgets, status, certified, objective, bound)


def _by_prompt(
    size: int, parts: Iterable[tuple[IntArray, FloatArray]]
) -> tuple[FloatArray, FloatArray]:
    """Return ``(size,)`` sums of the known values of each prompt, and their numbers."""
    sums, counts = np.zeros(size), np.zeros(size)
    for prompts, values in parts:
        sums[prompts] += np.nan_to_num(values)
        counts[prompts] += ~np.isnan(values)
    return sums, counts
