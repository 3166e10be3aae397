"""A selection replayed on the test part: what its plan promised, what the gate realises."""

from __future__ import annotations

import numpy as np

from moe2opt.executor.compare.figures import Row
from moe2opt.result import InputError, IntArray
from moe2opt.selection.evaluation.policies import Policy, TestPart
from moe2opt.selection.plan.prompts import routed
from moe2opt.selection.question import GatedInstance

FIGURES = ("accuracy", "energy", "delay")


def replayed(instance: GatedInstance, x: IntArray) -> tuple[Row, ...]:
    """Return predicted and realised accuracy, joules and seconds per prompt of a selection.

    Parameters
    ----------
    instance
        With its trained gate, where it has one.
    x
        The 0/1 solution of a result.

    Raises
    ------
    InputError
        When the test part is empty.
    """
    test = TestPart(instance, instance.split.members("test"))
    if not len(test.prompts):
        raise InputError("splits.test: the test part is empty")
    chosen = np.flatnonzero(x)
    vote = instance.vote is not None
    asked = test.as_planned(chosen) if vote else (test.by_gate(chosen),)
    policy = Policy("plan", chosen, *asked)
    delay_s, energy_j, _ = instance.realised(test.prompts, chosen)
    outcome = test.outcome(policy, delay_s, energy_j)
    members = instance.members()
    if vote:
        category = instance.outcomes.category_of[members]
        expected_j = instance.energy_j[category][:, chosen].sum() / len(members)
        expected_s = instance.delay_s[category][:, chosen].max(axis=1, initial=0.0).mean()
    else:
        answer = routed(instance, members, chosen)
        served = np.flatnonzero(answer >= 0)
        category = instance.outcomes.category_of[members[served]]
        expected_j = instance.energy_j[category, answer[served]].sum() / len(members)
        expected_s = instance.delay_s[category, answer[served]].sum() / len(members)
    value = instance.problem().evaluate(np.asarray(x, dtype=np.int64))
    return (
        Row("accuracy", "share right", float(value), float(np.nanmean(outcome.quantised))),
        Row("energy", "J/prompt", float(expected_j), float(np.mean(outcome.energy_j))),
        Row("delay", "s/prompt", float(expected_s), float(np.mean(outcome.delay_s))),
    )
