"""What a plan reports where several experts share a prompt, and what its figures are called."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from moe2opt.result import FloatArray, IntArray
from moe2opt.selection.constraints.objectives import mixture_weights

if TYPE_CHECKING:
    from moe2opt.selection.instance import SelectionInstance

#: A `SelectionPlan` or a `GatedPlan`.
_Plan = TypeVar("_Plan", bound=Any)


def delay_words(instance: SelectionInstance) -> str:
    """Return what the seconds of a plan are, such as ``quantile 0.95``."""
    if instance.delay_level is None:
        return instance.delay_statistic
    return f"{instance.delay_statistic} {instance.delay_level:g}"


def objective_words(instance: SelectionInstance) -> str:
    """Return who answers a prompt, in words."""
    mixture = instance.mixture
    if mixture is None:
        return "best expert"
    who = "all experts" if mixture.k is None else f"best {mixture.k} experts"
    return f"{who}, softmax at temperature {mixture.temperature:g}"


def shared_out(
    instance: SelectionInstance, plan: _Plan, chosen: IntArray, category: IntArray
) -> _Plan:
    """Return the plan with the shares, joules and accuracies of all experts that take part.

    `category` is that of each row of the objective. Without a mixture the plan stays as it is.
    """
    if instance.mixture is None:
        return plan
    scored = instance.scored
    weights = mixture_weights(instance.mixture, scored, chosen)
    correct = (weights * scored.values[:, chosen]).sum(axis=1)
    joules = np.where(weights > 0, instance.energy_j[category][:, chosen], 0.0).sum(axis=1)
    reports = []
    for k, report in enumerate(plan.by_category):
        own = category == k
        if not own.any():
            reports.append(report)
            continue
        serving = chosen[(weights[own] > 0).any(axis=0)]
        last = float(instance.delay_s[k, serving].max()) if len(serving) else None
        reports.append(
            replace(
                report,
                predicted_accuracy=_mean(correct[own], scored.weights[own]),
                energy_j_per_prompt=_mean(joules[own], scored.weights[own]),
                delay_s=last,
            )
        )
    shares = (weights * scored.weights[:, None]).sum(axis=0).tolist()
    parts = zip(plan.experts, shares, strict=True)
    return replace(
        plan,
        experts=tuple(replace(expert, share_of_prompts=share) for expert, share in parts),
        by_category=tuple(reports),
        predicted_accuracy=math.fsum(correct * scored.weights),
        energy_j_per_prompt=math.fsum(joules * scored.weights),
    )


def _mean(values: FloatArray, weights: FloatArray) -> float:
    return float((values * weights).sum() / weights.sum())
