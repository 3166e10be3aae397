"""What every policy got on every test prompt, of one split or of several that are pooled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.selection.evaluation.intervals import common_prompts
from moe2opt.selection.evaluation.policies import Outcome, Policy, TestPart, mean_outcome
from moe2opt.selection.evaluation.sets import RANDOM
from moe2opt.selection.question import GatedInstance

#: What is known of each policy on each prompt.
COLUMNS = (
    "accuracy",
    "against_plan",
    "accuracy_quantised",
    "energy_j_per_prompt",
    "delay_s",
    "late_rate",
    "over_energy_rate",
    "money_per_prompt",
)


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """The policies of one split on its T test prompts.

    Attributes
    ----------
    instance
        The instance with that split.
    prompts
        ``(T,)`` indices of the prompts.
    policies, outcomes
        The n policies, the plan among them, and what they get; random sets are one policy.
    columns
        ``(T, n, 8)`` `COLUMNS` of each policy, NaN where unknown. Scores and differences are NaN
        outside the prompts that the policy is compared on.
    compared
        ``(T, n)`` whether the policy is compared on the prompt, see `intervals.common_prompts`.
    """

    instance: GatedInstance
    prompts: IntArray
    policies: tuple[Policy, ...]
    outcomes: tuple[Outcome, ...]
    columns: FloatArray
    compared: BoolArray


def observe(
    test: TestPart, policies: Sequence[Policy], outcomes: Sequence[Outcome], plan: str
) -> Observed:
    """Return what the policies get beside the plan of that name."""
    policies, outcomes = _averaged(list(policies), list(outcomes))
    place = [policy.name for policy in policies].index(plan)
    known = ~np.isnan(np.column_stack([o.score for o in outcomes]))
    compared = common_prompts(known, place)
    columns = [_columns(test, o, outcomes[place], compared[:, k]) for k, o in enumerate(outcomes)]
    stacked = np.stack(columns, axis=1)
    return Observed(
        test.instance, test.prompts, tuple(policies), tuple(outcomes), stacked, compared
    )


@dataclass(frozen=True, slots=True, eq=False)
class Pooled:
    """Sums over the splits for each of the U prompts that some split tested.

    Attributes
    ----------
    names
        Names of the n policies.
    sums, counts
        ``(U, n, 8)`` sum of the known values, and how many there are.
    """

    names: tuple[str, ...]
    sums: FloatArray
    counts: FloatArray


def pooled(parts: Sequence[Observed]) -> Pooled:
    """Add up what policies of one name got in several splits, prompt by prompt."""
    names = tuple(dict.fromkeys(policy.name for part in parts for policy in part.policies))
    prompts = np.unique(np.concatenate([part.prompts for part in parts]))
    sums = np.zeros((len(prompts), len(names), len(COLUMNS)))
    counts = np.zeros_like(sums)
    for part in parts:
        rows = np.searchsorted(prompts, part.prompts)
        columns = np.array([names.index(policy.name) for policy in part.policies])
        where = np.ix_(rows, columns)
        sums[where] += np.nan_to_num(part.columns)
        counts[where] += ~np.isnan(part.columns)
    return Pooled(names, sums, counts)


def _columns(test: TestPart, outcome: Outcome, plan: Outcome, compared: BoolArray) -> FloatArray:
    """Return ``(T, 8)`` `COLUMNS` of one policy."""
    instance = test.instance
    deadline = instance.deadline_s[instance.outcomes.category_of[test.prompts]]
    late = (outcome.delay_s > deadline).astype(np.float64)
    limit = instance.energy_limit_j_per_prompt
    over = np.full(len(late), np.nan)
    if limit is not None:
        over = (outcome.energy_j > limit * (1 + 1e-9)).astype(np.float64)
    scores = (outcome.score, outcome.score - plan.score, outcome.quantised)
    kept = [np.where(compared, values, np.nan) for values in scores]
    paid = np.full(len(late), np.nan) if outcome.money is None else outcome.money
    return np.column_stack([*kept, outcome.energy_j, outcome.delay_s, late, over, paid])


def _averaged(
    policies: list[Policy], outcomes: list[Outcome]
) -> tuple[list[Policy], list[Outcome]]:
    """Replace the random sets by one policy with their mean outcome on every prompt."""
    drawn = [k for k, policy in enumerate(policies) if policy.name.startswith(RANDOM)]
    if not drawn:
        return policies, outcomes
    mean = mean_outcome([outcomes[k] for k in drawn])
    promised = [policies[k].promised or 0.0 for k in drawn]
    note = f"mean of {len(drawn)} sets, {policies[drawn[0]].note}"
    policy = replace(
        policies[drawn[0]],
        name=RANDOM,
        chosen=np.zeros(0, dtype=np.int64),
        drawn=tuple(policies[k].chosen for k in drawn),
        promised=float(np.mean(promised)),
        note=note,
    )
    both = [
        (policy, mean) if k == drawn[0] else (policies[k], outcomes[k])
        for k in range(len(policies))
        if k == drawn[0] or k not in drawn
    ]
    return [own for own, _ in both], [own for _, own in both]
