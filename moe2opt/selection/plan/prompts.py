"""From a solution to the plan where a trained gate routes every single prompt."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from moe2opt.result import FloatArray, IntArray
from moe2opt.selection.constraints.compiled import Compiled
from moe2opt.selection.constraints.objectives import mixture_value
from moe2opt.selection.constraints.together import ensemble_of
from moe2opt.selection.gated import GatedCase
from moe2opt.selection.plan import votes
from moe2opt.selection.plan.model import GatedCategory, GatedPlan
from moe2opt.selection.plan.parts import deployed, measurements, money_of, shared_out, usage
from moe2opt.selection.routing.prompts import route


def decode(case: GatedCase, compiled: Compiled, x: IntArray) -> GatedPlan:
    """Return the plan of the 0/1 vector `x`, with what the gate's routing scores on the test part.

    A prompt goes to the deployed expert in time with the highest score; ties to the lower energy.
    Where experts vote, it goes to all of them.
    """
    if case.vote is not None:
        return votes.decode(case, compiled, x)
    own = compiled.problem.vector(x)[: len(case.experts)]
    chosen = np.flatnonzero(own)
    rows, test = case.members(), case.split.members("test")
    answer, tested = (routed(case, part, chosen) for part in (rows, test))
    score = test_scores(case, test, tested)
    known = ~np.isnan(score)
    category, value = case.outcomes.category_of[rows], evaluated(case, chosen)
    energy = case.energy_j[category, np.maximum(answer, 0)]
    joules = np.where(answer >= 0, energy, 0.0)
    plan = GatedPlan(
        instance=case.name,
        experts=tuple(
            deployed(case.experts[i], float((answer == i).mean()) if len(answer) else 0.0)
            for i in chosen
        ),
        budgets=usage(compiled, compiled.usage_of(own)),
        by_category=tuple(
            _report(case, k, (rows, answer, joules), (test, score))
            for k in range(len(case.categories))
        ),
        predicted_accuracy=value if case.toll is None else _accuracy(case, rows, answer),
        test_prompts=int(known.sum()),
        test_accuracy=float(score[known].mean()) if known.any() else None,
        energy_j_per_prompt=float(joules.mean()) if len(rows) else 0.0,
        routing={**_routing(case), "table": category_table(case, chosen)},
        caveats=case.caveats,
        delay_statistic=case.delay_words,
        objective=case.objective_words,
        measured=measurements(case, chosen),
        money=money_of(case, chosen, (answer, category, np.full(len(rows), 1 / len(rows))), value),
    )
    return shared_out(case, plan, chosen, category)


def routed(case: GatedCase, prompts: IntArray, chosen: IntArray) -> IntArray:
    """Return the expert of each prompt, -1 where no chosen one may serve."""
    if not len(chosen) or not len(prompts):
        return np.full(len(prompts), -1, dtype=np.int64)
    energy = case.energy_j[case.outcomes.category_of[prompts]]
    found = route(
        case.expert_values[prompts], chosen, allowed=case.may_serve[prompts], costs=energy
    )
    return found.first


def test_scores(case: GatedCase, prompts: IntArray, answer: IntArray) -> FloatArray:
    """Return the measured score of each prompt's expert; 0 where nobody answers, NaN unknown."""
    models = case.model_of[np.maximum(answer, 0)]
    return np.where(answer >= 0, case.pool.score[prompts, models], 0.0)


def evaluated(case: GatedCase, chosen: IntArray) -> float:
    """Return the objective of the chosen experts over its prompts."""
    rows = case.members()
    if case.mixture is not None:
        return mixture_value(case.mixture, case.scored, chosen)
    if case.vote is not None:
        return ensemble_of(case, rows).value(chosen)
    if not len(chosen):
        return 0.0
    values = np.where(case.may_serve, case.expert_values, 0.0)[np.ix_(rows, chosen)]
    return math.fsum(np.maximum(values.max(axis=1), 0.0)) / len(rows)


def _accuracy(case: GatedCase, rows: IntArray, answer: IntArray) -> float:
    """Return the mean score of the routed experts."""
    scores = case.expert_scores[rows, np.maximum(answer, 0)]
    return math.fsum(np.where(answer >= 0, scores, 0.0)) / max(len(rows), 1)


def _report(
    case: GatedCase,
    k: int,
    rows: tuple[IntArray, IntArray, FloatArray],
    test: tuple[IntArray, FloatArray],
) -> GatedCategory:
    prompts, answer, joules = rows
    own = case.outcomes.category_of[prompts] == k
    scores = case.expert_scores[prompts[own], np.maximum(answer[own], 0)]
    results = test[1][case.outcomes.category_of[test[0]] == k]
    results = results[~np.isnan(results)]
    serving = np.unique(answer[own & (answer >= 0)])
    deadline = float(case.deadline_s[k])
    return GatedCategory(
        category=case.categories[k],
        share_of_prompts=float(own.mean()) if len(own) else 0.0,
        predicted_accuracy=float(np.where(answer[own] >= 0, scores, 0.0).mean())
        if own.any()
        else None,
        test_prompts=len(results),
        test_accuracy=float(results.mean()) if len(results) else None,
        energy_j_per_prompt=float(joules[own].mean()) if own.any() else None,
        delay_s=float(case.delay_s[k, serving].max()) if len(serving) else None,
        deadline_s=deadline if math.isfinite(deadline) else None,
    )


def _routing(case: GatedCase) -> dict[str, Any]:
    gate = case.gate
    return {
        "head": gate.head,
        "calibration": gate.calibrator.kind,
        "backend": gate.record.get("settings", {}).get("backend"),
        "folder": case.gate_folder.name,
        "data_sha256": gate.record.get("data_sha256"),
        "selected_on": list(case.part),
        "split": case.split.record(),
    }


def category_table(case: GatedCase, chosen: IntArray) -> dict[str, Any]:
    """Return what routing by category needs: ``(K, S)`` mean scores, costs, who may serve."""
    rows = case.members()
    category, scores = case.outcomes.category_of[rows], case.expert_values[rows][:, chosen]
    own = [scores[category == k] for k in range(len(case.categories))]
    worth = [(part if len(part) else scores).mean(axis=0) for part in own]
    return {
        "worth": [np.round(row, 6).tolist() for row in worth],
        "energy_j": case.energy_j[:, chosen].tolist(),
        "delay_s": case.delay_s[:, chosen].tolist(),
        "in_time": (~case.barred[:, chosen]).tolist(),
    }
