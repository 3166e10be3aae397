"""The plan of a gated instance: what is deployed, and what the gate makes of it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from moe2opt.content import Content
from moe2opt.result import FloatArray, InputError, IntArray
from moe2opt.schema import rebuilt
from moe2opt.selection.constraints.objectives import mixture_value
from moe2opt.selection.evaluation.evaluate import budget_faults, expert_indices, set_faults
from moe2opt.selection.plan import (
    DeployedExpert,
    Usage,
    deployed,
    frame_of_experts,
    usage,
)
from moe2opt.selection.robustness import Robustness, robustness_of
from moe2opt.selection.routing.prompts import route
from moe2opt.selection.shares import delay_words, objective_words, shared_out
from moe2opt.selection.view import view_of
from moe2opt.view import View

if TYPE_CHECKING:
    import pandas as pd

    from moe2opt.selection.gated import GatedInstance


@dataclass(frozen=True, slots=True)
class GatedCategory:
    """What one category gets when the gate routes its prompts.

    Attributes
    ----------
    category, share_of_prompts
        Its name and its share of the prompts that the objective averages over.
    predicted_accuracy
        Mean highest score of a deployed expert on those prompts; None without prompts.
    test_prompts, test_accuracy
        Routed test prompts with a known outcome, and their mean score (None without any). They are
        the published answers: quantisation is not in them.
    energy_j_per_prompt
        Expected joules of the routed expert alone, over the prompts of the objective.
    delay_s, deadline_s
        Time of the slowest expert that serves it, and the deadline (None for none).
    """

    category: str
    share_of_prompts: float
    predicted_accuracy: float | None
    test_prompts: int
    test_accuracy: float | None
    energy_j_per_prompt: float | None
    delay_s: float | None
    deadline_s: float | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class GatedPlan(Content):
    """A decoded solution of a gated instance.

    Attributes
    ----------
    instance
        Name of the instance.
    experts
        Deployed experts; shares are those of the prompts of the objective.
    budgets
        Use of every budget row.
    by_category
        Quality, energy and delay of each category.
    predicted_accuracy
        The objective: mean highest score of a deployed expert.
    test_prompts, test_accuracy
        Test prompts with a known outcome of their routed expert, and their mean score.
    energy_j_per_prompt
        Expected joules per prompt when only the routed expert answers.
    routing
        What routes: the gate's head, calibration, folder and data digest, the split, and a table
        of scores and costs by category.
    caveats
        What must be known to read the figures.
    delay_statistic
        What the seconds are: ``mean``, ``quantile 0.95``, ...
    objective
        Who answers a prompt.
    robustness
        Margins and price of robust budgets; None where the predictions themselves count.
    """

    instance: str
    experts: tuple[DeployedExpert, ...]
    budgets: tuple[Usage, ...]
    by_category: tuple[GatedCategory, ...]
    predicted_accuracy: float
    test_prompts: int
    test_accuracy: float | None
    energy_j_per_prompt: float
    routing: dict[str, Any] = field(default_factory=dict)
    caveats: tuple[str, ...] = ()
    delay_statistic: str = "mean"
    objective: str = "best expert"
    robustness: Robustness | None = None

    def to_frame(self) -> pd.DataFrame:
        """Return one row per deployed expert."""
        return frame_of_experts(self.experts)

    def category_frame(self) -> pd.DataFrame:
        """Return one row per category."""
        import pandas as pd

        return pd.DataFrame([asdict(report) for report in self.by_category])

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> GatedPlan:
        """Rebuild from `to_dict`; raise `InputError` when the content is not a plan."""
        return rebuilt(cls, data, "gated plan")

    def summary(self) -> str:
        """Return a readable account of the plan."""
        from moe2opt.selection.gated_summary import summarise_gated

        return summarise_gated(self)

    def view(self) -> View:
        """Return what a page shows of the plan."""
        return view_of(self)


def decode_gated(instance: GatedInstance, x: IntArray) -> GatedPlan:
    """Return the plan of the 0/1 vector `x`, with what the gate's routing scores on the test part.

    A prompt goes to the deployed expert in time with the highest score; ties to the lower energy.
    """
    own = instance.problem().vector(x)[: len(instance.experts)]
    chosen = np.flatnonzero(own)
    rows, test = instance.members(), instance.split.members("test")
    answer, tested = (routed(instance, part, chosen) for part in (rows, test))
    score = test_scores(instance, test, tested)
    known = ~np.isnan(score)
    joules = _expected_j(instance, rows, answer)
    plan = GatedPlan(
        instance=instance.name,
        experts=tuple(
            deployed(instance.experts[i], float((answer == i).mean()) if len(answer) else 0.0)
            for i in chosen
        ),
        budgets=usage(instance, instance.compiled.usage_of(own)),
        by_category=tuple(
            _report(instance, k, (rows, answer, joules), (test, score))
            for k in range(len(instance.categories))
        ),
        predicted_accuracy=evaluated(instance, chosen),
        test_prompts=int(known.sum()),
        test_accuracy=float(score[known].mean()) if known.any() else None,
        energy_j_per_prompt=float(joules.mean()) if len(rows) else 0.0,
        routing={**_routing(instance), "table": category_table(instance, chosen)},
        caveats=instance.caveats,
        delay_statistic=delay_words(instance),
        objective=objective_words(instance),
        robustness=robustness_of(instance, own),
    )
    return shared_out(instance, plan, chosen, instance.outcomes.category_of[rows])


def routed(instance: GatedInstance, prompts: IntArray, chosen: IntArray) -> IntArray:
    """Return the expert of each prompt, -1 where no chosen one is in time."""
    if not len(chosen) or not len(prompts):
        return np.full(len(prompts), -1, dtype=np.int64)
    energy = instance.energy_j[instance.outcomes.category_of[prompts]]
    found = route(
        instance.expert_scores[prompts], chosen, allowed=instance.in_time[prompts], costs=energy
    )
    return found.first


def test_scores(instance: GatedInstance, prompts: IntArray, answer: IntArray) -> FloatArray:
    """Return the measured score of each prompt's expert; 0 where nobody answers, NaN unknown."""
    models = instance.model_of[np.maximum(answer, 0)]
    return np.where(answer >= 0, instance.pool.score[prompts, models], 0.0)


def evaluate_gated(instance: GatedInstance, plan: GatedPlan) -> float:
    """Return the objective of the plan's experts over its prompts, computed anew.

    Raises
    ------
    InputError
        When the plan names an expert that the instance does not have.
    """
    return evaluated(instance, np.array(expert_indices(instance, plan.experts), dtype=np.int64))


def evaluated(instance: GatedInstance, chosen: IntArray) -> float:
    """Return the objective of the chosen experts over its prompts."""
    rows = instance.members()
    if instance.mixture is not None:
        return mixture_value(instance.mixture, instance.scored, chosen)
    if not len(chosen):
        return 0.0
    scores = np.where(instance.in_time, instance.expert_scores, 0.0)[np.ix_(rows, chosen)]
    return math.fsum(scores.max(axis=1)) / len(rows)


def check_gated(instance: GatedInstance, plan: GatedPlan) -> list[str]:
    """Return what the plan violates: unknown names, budgets, groups, covers, stated figures."""
    try:
        indices = expert_indices(instance, plan.experts)
    except InputError as error:
        return [str(error)]
    if len(set(indices)) < len(indices):
        return ["plan: an expert is deployed twice"]
    x = np.zeros(len(instance.experts), dtype=np.int64)
    x[indices] = 1
    faults = budget_faults(instance, instance.compiled.usage_of(x)) + set_faults(instance, x)
    return faults + _figure_faults(instance, plan, x)


def _figure_faults(instance: GatedInstance, plan: GatedPlan, x: IntArray) -> list[str]:
    """Compare the figures that the plan states with the instance's own."""
    own = decode_gated(instance, instance.completed(x))
    used = {b.name: b.used for b in own.budgets}
    pairs = [
        ("predicted_accuracy", plan.predicted_accuracy, evaluate_gated(instance, plan)),
        ("test_accuracy", plan.test_accuracy or 0.0, own.test_accuracy or 0.0),
        *((b.name, b.used, used.get(b.name, math.nan)) for b in plan.budgets),
    ]
    return [
        f"{name}: the plan states {stated:.6g}, the instance has {value:.6g}"
        for name, stated, value in pairs
        if not math.isclose(stated, value, rel_tol=1e-9, abs_tol=1e-9)
    ]


def _expected_j(instance: GatedInstance, prompts: IntArray, answer: IntArray) -> FloatArray:
    energy = instance.energy_j[instance.outcomes.category_of[prompts], np.maximum(answer, 0)]
    return np.where(answer >= 0, energy, 0.0)


def _report(
    instance: GatedInstance,
    k: int,
    rows: tuple[IntArray, IntArray, FloatArray],
    test: tuple[IntArray, FloatArray],
) -> GatedCategory:
    prompts, answer, joules = rows
    own = instance.outcomes.category_of[prompts] == k
    scores = instance.expert_scores[prompts[own], np.maximum(answer[own], 0)]
    results = test[1][instance.outcomes.category_of[test[0]] == k]
    results = results[~np.isnan(results)]
    serving = np.unique(answer[own & (answer >= 0)])
    deadline = float(instance.deadline_s[k])
    return GatedCategory(
        category=instance.categories[k],
        share_of_prompts=float(own.mean()) if len(own) else 0.0,
        predicted_accuracy=float(np.where(answer[own] >= 0, scores, 0.0).mean())
        if own.any()
        else None,
        test_prompts=len(results),
        test_accuracy=float(results.mean()) if len(results) else None,
        energy_j_per_prompt=float(joules[own].mean()) if own.any() else None,
        delay_s=float(instance.delay_s[k, serving].max()) if len(serving) else None,
        deadline_s=deadline if math.isfinite(deadline) else None,
    )


def _routing(instance: GatedInstance) -> dict[str, Any]:
    gate = instance.gate
    return {
        "head": gate.head,
        "calibration": gate.calibrator.kind,
        "backend": gate.record.get("settings", {}).get("backend"),
        "folder": instance.gate_folder.name,
        "data_sha256": gate.record.get("data_sha256"),
        "selected_on": list(instance.part),
        "split": instance.split.record(),
    }


def category_table(instance: GatedInstance, chosen: IntArray) -> dict[str, Any]:
    """Return what routing by category needs: ``(K, S)`` mean scores, costs, who is in time."""
    rows = instance.members()
    category, scores = instance.outcomes.category_of[rows], instance.expert_scores[rows][:, chosen]
    own = [scores[category == k] for k in range(len(instance.categories))]
    worth = [(part if len(part) else scores).mean(axis=0) for part in own]
    return {
        "worth": [np.round(row, 6).tolist() for row in worth],
        "energy_j": instance.energy_j[:, chosen].tolist(),
        "delay_s": instance.delay_s[:, chosen].tolist(),
        "in_time": (~instance.late[:, chosen]).tolist(),
    }
