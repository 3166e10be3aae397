"""The table of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from moe2opt.result import BoolArray, FloatArray
from moe2opt.selection.evaluation.intervals import (
    Estimate,
    bootstrap_means,
    common_prompts,
    estimate,
)
from moe2opt.selection.evaluation.policies import Outcome, Policy, TestPart, mean_outcome
from moe2opt.selection.evaluation.sets import RANDOM
from moe2opt.selection.plan.words import text_table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """What one policy gets on the test part.

    Attributes
    ----------
    policy, note, feasible
        Its name, what must be known about it, and whether its set keeps all budgets.
    deployed
        Labels of the deployed experts; of random sets, one text for each.
    promised
        Accuracy that the policy's own model expected; None without one.
    prompts
        Test prompts that it is compared on: those with a known outcome for every policy, or, where
        that would take more than a tenth of the plan's, for this one and the plan.
    accuracy
        Measured score of the published answers.
    against_plan
        Paired difference of that score to the plan's.
    accuracy_quantised
        The score times the estimated share that the precisions keep.
    energy_j_per_prompt, delay_s
        Realised joules and seconds of the experts asked.
    delay_p95_s
        95th percentile of the realised seconds.
    late_rate
        Share of the prompts whose realised delay exceeds the deadline of their category.
    over_energy_rate
        Share of the prompts whose realised energy exceeds the energy limit; None without a limit.
    unanswered_rate
        Share of the prompts for which no deployed expert is expected to be in time; they count as
        wrong.
    all_energy_j_per_prompt
        Realised joules if every deployed expert answered, which is what a worst-case budget limits.
    """

    policy: str
    note: str
    feasible: bool
    deployed: tuple[str, ...]
    promised: float | None
    prompts: int
    accuracy: Estimate
    against_plan: Estimate
    accuracy_quantised: Estimate
    energy_j_per_prompt: Estimate
    delay_s: Estimate
    delay_p95_s: float
    late_rate: Estimate
    over_energy_rate: Estimate | None
    unanswered_rate: float
    all_energy_j_per_prompt: float

    @property
    def fair(self) -> bool:
        """Whether it keeps the budgets and does not see the answers."""
        return self.feasible and "oracle" not in self.policy


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Policies on the test part of one instance.

    Attributes
    ----------
    instance
        Its name.
    rows
        One row per policy, the plan first.
    provenance
        Data, split, gate, bootstrap.
    caveats
        What must be known to read the figures.
    """

    instance: str
    rows: tuple[PolicyReport, ...]
    provenance: dict[str, Any]
    caveats: tuple[str, ...]

    def row(self, policy: str) -> PolicyReport:
        """Return the row of a policy; raise KeyError when there is none."""
        for row in self.rows:
            if row.policy == policy:
                return row
        raise KeyError(policy)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        return asdict(self)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per policy, intervals as columns ``_low`` and ``_high``."""
        import pandas as pd

        return pd.DataFrame([_flat(row) for row in self.rows])

    def summary(self) -> str:
        """Return the table as text."""
        prompts = self.provenance["split"]["prompts"]["test"]
        lines = [
            f"{self.instance}: {prompts} test prompts; 95 % intervals from "
            f"{self.provenance['bootstrap']['replicates']} resamples of the prompts",
            "",
            *_table(self.rows),
            "",
            *self._verdict(),
            "",
            *(f"{row.policy}: {row.note}" for row in self.rows if row.note),
            "",
            *(f"Note: {caveat}" for caveat in self.caveats),
        ]
        return "\n".join(lines)

    def _verdict(self) -> list[str]:
        """Return which policies are level with the plan, and which are better, in words."""
        plan, *others = self.rows
        met = [r for r in others if r.fair and r.against_plan.low is not None]
        ends = [(r.policy, r.against_plan.low or 0.0, r.against_plan.high or 0.0) for r in met]
        level = [name for name, low, high in ends if low <= 0 <= high]
        better = [name for name, low, _ in ends if low > 0]
        lines = []
        if better:
            lines.append(f"Better than {plan.policy} beyond chance (95 %): {', '.join(better)}")
        if level:
            lines.append(f"Level with {plan.policy} (the interval holds 0): {', '.join(level)}")
        return lines


def build_report(
    test: TestPart,
    policies: Sequence[Policy],
    outcomes: Sequence[Outcome],
    plan: str,
    *,
    replicates: int,
    seed: int,
) -> Evaluation:
    """Return the table of all policies; random sets are averaged into one row."""
    policies, outcomes = _averaged(list(policies), list(outcomes))
    place = [policy.name for policy in policies].index(plan)
    known = ~np.isnan(np.column_stack([o.score for o in outcomes]))
    compared = common_prompts(known, place)
    columns = np.column_stack(
        [_columns(test, o, outcomes[place], compared[:, k]) for k, o in enumerate(outcomes)]
    )
    resampled = bootstrap_means(columns, replicates, seed)
    width = columns.shape[1] // len(policies)
    blocks = [slice(k * width, (k + 1) * width) for k in range(len(policies))]
    rows = tuple(
        _row(test, policy, outcome, (columns[:, block], resampled[:, block]))
        for policy, outcome, block in zip(policies, outcomes, blocks, strict=True)
    )
    provenance = {**test.instance.origin, "bootstrap": {"replicates": replicates, "seed": seed}}
    notes = (
        "accuracies are those of the published answers; the loss by quantisation is only in "
        "accuracy_quantised, as an estimate",
        "seconds and joules apply the profiles' model to the length of each published answer",
    )
    share = compared[:, place].mean()
    few = f"policies are compared on {share:.1%} of the test prompts; other outcomes are missing"
    caveats = (*notes, *[few] * bool(share < 1), *test.instance.caveats)
    return Evaluation(test.instance.name, rows, provenance, caveats)


def _columns(test: TestPart, outcome: Outcome, plan: Outcome, compared: BoolArray) -> FloatArray:
    """Return ``(T, 7)``: score, to the plan, quantised, energy, delay, late, over the limit.

    The first three are NaN outside the prompts that are `compared`.
    """
    instance = test.instance
    deadline = instance.deadline_s[instance.outcomes.category_of[test.prompts]]
    late = (outcome.delay_s > deadline).astype(np.float64)
    limit = instance.energy_limit_j_per_prompt
    over = np.full(len(late), np.nan)
    if limit is not None:
        over = (outcome.energy_j > limit * (1 + 1e-9)).astype(np.float64)
    scores = (outcome.score, outcome.score - plan.score, outcome.quantised)
    kept = [np.where(compared, values, np.nan) for values in scores]
    return np.column_stack([*kept, outcome.energy_j, outcome.delay_s, late, over])


def _row(
    test: TestPart,
    policy: Policy,
    outcome: Outcome,
    block: tuple[FloatArray, FloatArray],
) -> PolicyReport:
    columns, resampled = block
    score, against, quantised, energy, delay, late, over = (
        estimate(columns[:, k], resampled[:, k]) for k in range(columns.shape[1])
    )
    limited = test.instance.energy_limit_j_per_prompt is not None
    return PolicyReport(
        policy=policy.name,
        note=policy.note,
        feasible=policy.feasible,
        deployed=policy.labels([expert.label for expert in test.instance.experts]),
        promised=policy.promised,
        prompts=int((~np.isnan(columns[:, 0])).sum()),
        accuracy=score,
        against_plan=against,
        accuracy_quantised=quantised,
        energy_j_per_prompt=energy,
        delay_s=delay,
        delay_p95_s=float(np.quantile(outcome.delay_s, 0.95)),
        late_rate=late,
        over_energy_rate=over if limited else None,
        unanswered_rate=float((~outcome.answered).mean()),
        all_energy_j_per_prompt=float(outcome.all_energy_j.mean()),
    )


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


def _flat(row: PolicyReport) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name in PolicyReport.__dataclass_fields__:
        value = getattr(row, name)
        if isinstance(value, Estimate):
            flat |= {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}
        else:
            flat[name] = ", ".join(value) if isinstance(value, tuple) else value
    return flat


def _table(rows: Sequence[PolicyReport]) -> list[str]:
    header = ("policy", "experts", "promised", "n", "accuracy", "95 %", "to plan", "95 %",
              "J/prompt", "delay s", "p95 s", "late", "over J")  # fmt: skip
    cells = [
        (r.policy + ("" if r.feasible else " *"), _count(r),
         _points(r.promised), str(r.prompts), _points(r.accuracy.mean), _range(r.accuracy),
         _points(r.against_plan.mean, sign=True), _range(r.against_plan, sign=True),
         _plain(r.energy_j_per_prompt.mean, 0), _plain(r.delay_s.mean, 2), _plain(r.delay_p95_s, 2),
         _points(r.late_rate.mean),
         "-" if r.over_energy_rate is None else _points(r.over_energy_rate.mean))
        for r in rows
    ]  # fmt: skip
    lines = text_table(header, cells)
    return lines + ["* does not keep the budgets"] * any(not r.feasible for r in rows)


def _count(row: PolicyReport) -> str:
    if row.policy == RANDOM:
        return f"{np.mean([len(own.split(' + ')) for own in row.deployed]):.1f}"
    return str(len(row.deployed)) if row.deployed else "-"


def _points(value: float | None, *, sign: bool = False) -> str:
    return "-" if value is None else f"{100 * value:{'+' if sign else ''}.1f}"


def _plain(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _range(value: Estimate, *, sign: bool = False) -> str:
    return f"{_points(value.low, sign=sign)}..{_points(value.high, sign=sign)}"
