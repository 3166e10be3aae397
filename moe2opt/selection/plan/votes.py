"""From a solution to the plan where all deployed experts answer every prompt, and vote."""

from __future__ import annotations

import math

import numpy as np

from moe2opt.result import FloatArray, IntArray
from moe2opt.selection.constraints.compiled import Compiled
from moe2opt.selection.constraints.together import ensemble_of
from moe2opt.selection.gated import GatedCase
from moe2opt.selection.plan.model import GatedCategory, GatedPlan
from moe2opt.selection.plan.parts import deployed, measurements, money_of, usage


def decode(case: GatedCase, compiled: Compiled, x: IntArray) -> GatedPlan:
    """Return the plan of the 0/1 vector `x`, with what its vote gets right on the test part."""
    assert case.vote is not None
    own = compiled.problem.vector(x)[: len(case.experts)]
    chosen = np.flatnonzero(own)
    rows, test = case.members(), case.split.members("test")
    ballots = ensemble_of(case, rows)
    right = ballots.won(chosen)
    score = published(case, test, chosen)
    known = ~np.isnan(score)
    shares = np.bincount(case.outcomes.category_of[rows], minlength=len(case.categories))
    joules = case.energy_j[:, chosen].sum(axis=1)
    return GatedPlan(
        instance=case.name,
        experts=tuple(deployed(case.experts[i], 1.0) for i in chosen),
        budgets=usage(compiled, compiled.usage_of(own)),
        by_category=tuple(
            _report(case, k, chosen, (rows, right), (test, score), _last(case, compiled, k, chosen))
            for k in range(len(case.categories))
        ),
        predicted_accuracy=ballots.value(chosen),
        test_prompts=int(known.sum()),
        test_accuracy=float(score[known].mean()) if known.any() else None,
        energy_j_per_prompt=float(joules @ shares / max(1, len(rows))),
        routing={
            "vote": case.vote.weights,
            **({} if case.vote.pool == "answers" else {"pool": case.vote.pool}),
            "selected_on": list(case.part),
            "split": case.split.record(),
        },
        caveats=case.caveats,
        delay_statistic=case.delay_words,
        objective=case.objective_words,
        money=money_of(
            case,
            chosen,
            (np.zeros(len(rows), dtype=np.int64), case.outcomes.category_of[rows], ballots.weights),
            ballots.value(chosen),
        ),
        measured=measurements(case, chosen),
    )


def published(case: GatedCase, prompts: IntArray, chosen: IntArray) -> FloatArray:
    """Return ``(P,)`` chances that the vote on the published answers is right; NaN: nobody ran."""
    ran = case.pool.observed[np.ix_(prompts, case.model_of[chosen])].any(axis=1)
    right = ensemble_of(case, prompts, published=True).won(chosen)
    return np.where(ran | (len(chosen) == 0), right, np.nan)


def _last(case: GatedCase, compiled: Compiled, k: int, chosen: IntArray) -> float | None:
    """Return the seconds of the last answer, as the deadline counts them where there is one."""
    if not len(chosen):
        return None
    own = np.zeros(len(case.experts), dtype=bool)
    own[chosen] = True
    name = f"delay_s[{case.categories[k]}]"
    counted = (measure.use(own) for measure in compiled.measures if measure.name == name)
    return next(counted, float(case.delay_s[k, chosen].max()))


def _report(
    case: GatedCase,
    k: int,
    chosen: IntArray,
    rows: tuple[IntArray, FloatArray],
    test: tuple[IntArray, FloatArray],
    delay_s: float | None,
) -> GatedCategory:
    own = case.outcomes.category_of[rows[0]] == k
    results = test[1][case.outcomes.category_of[test[0]] == k]
    results = results[~np.isnan(results)]
    deadline = float(case.deadline_s[k])
    return GatedCategory(
        category=case.categories[k],
        share_of_prompts=float(own.mean()) if len(own) else 0.0,
        predicted_accuracy=float(rows[1][own].mean()) if own.any() else None,
        test_prompts=len(results),
        test_accuracy=float(results.mean()) if len(results) else None,
        energy_j_per_prompt=float(case.energy_j[k, chosen].sum()) if own.any() else None,
        delay_s=delay_s,
        deadline_s=deadline if math.isfinite(deadline) else None,
    )
