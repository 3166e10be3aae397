"""The table of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from moe2opt.selection.evaluation.intervals import Estimate, bootstrap_ratios, estimated
from moe2opt.selection.evaluation.observed import COLUMNS, Observed, pooled
from moe2opt.selection.evaluation.policies import joined_labels
from moe2opt.selection.plan.words import text_table
from moe2opt.selection.question import GatedInstance

if TYPE_CHECKING:
    import pandas as pd


#: Name of the policy that the others are compared with.
PLAN = "moe2"


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """What one policy gets on the test part.

    Attributes
    ----------
    policy, note, feasible
        Its name, what must be known about it, and whether its set keeps all budgets.
    deployed
        Labels of the deployed experts; of several sets (random ones, or those of splits that
        differ), one text for each.
    experts
        How many they are, on average over several sets.
    splits
        Splits that have the policy.
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
    money_per_prompt
        Realised money of the experts asked; None where it does not matter.
    """

    policy: str
    note: str
    feasible: bool
    deployed: tuple[str, ...]
    experts: float
    splits: int
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
    money_per_prompt: Estimate | None

    @property
    def fair(self) -> bool:
        """Whether it keeps the budgets and does not see the answers."""
        return self.feasible and "oracle" not in self.policy


@dataclass(frozen=True, slots=True)
class SplitRow:
    """What one policy gets in one of several splits.

    Attributes
    ----------
    seed
        Seed of the split.
    policy, deployed, prompts
        As in `PolicyReport`.
    accuracy, against_plan
        Means over the prompts.
    """

    seed: int
    policy: str
    deployed: tuple[str, ...]
    prompts: int
    accuracy: float
    against_plan: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Policies on the test part of one instance, or pooled over several splits of it.

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
    by_split
        One row per split and policy; empty for one split.
    """

    instance: str
    rows: tuple[PolicyReport, ...]
    provenance: dict[str, Any]
    caveats: tuple[str, ...]
    by_split: tuple[SplitRow, ...] = ()

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
        splits = self.provenance.get("splits", [self.provenance["split"]])
        prompts = sum(split["prompts"]["test"] for split in splits)
        pooled_over = f" pooled over {len(splits)} splits" if len(splits) > 1 else ""
        lines = [
            f"{self.instance}: {prompts} test prompts{pooled_over}; 95 % intervals from "
            f"{self.provenance['bootstrap']['replicates']} resamples of the prompts",
            "",
            *_table(self.rows),
            "",
            *self._verdict(),
            *self._splits(),
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

    def splits_frame(self) -> pd.DataFrame:
        """Return one row per split and policy."""
        import pandas as pd

        rows = [{**asdict(row), "deployed": "; ".join(row.deployed)} for row in self.by_split]
        return pd.DataFrame(rows)

    def _splits(self) -> list[str]:
        """Return the lead over the best single LLM, split by split, in words."""
        leads = [-100 * r.against_plan for r in self.by_split if r.policy == "best single LLM"]
        words = ", ".join(f"{lead:+.1f}" for lead in leads)
        return [f"Points over the best single LLM, split by split: {words}"] if leads else []


def build_report(parts: Sequence[Observed], *, replicates: int, seed: int) -> Evaluation:
    """Return the table of all policies, pooled over splits.

    Prompts are resampled, and all that splits say of a prompt goes with it: the test parts of
    splits overlap, and the same prompt twice is not two prompts.

    Parameters
    ----------
    parts
        What is observed in each split; their instances differ by the split alone.
    replicates, seed
        Bootstrap resamples, and their seed.
    """
    whole = pooled(parts)
    flat = (len(whole.sums), -1)
    resampled = bootstrap_ratios(
        whole.sums.reshape(flat), whole.counts.reshape(flat), replicates, seed
    ).reshape(replicates, len(whole.names), len(COLUMNS))
    rows = []
    for k, name in enumerate(whole.names):
        counts = whole.counts[:, k].sum(axis=0)
        known = zip(COLUMNS, whole.sums[:, k].sum(axis=0), counts, resampled[:, k].T, strict=True)
        rows.append(_row(parts, name, {c: estimated(t, n, drawn) for c, t, n, drawn in known},
                         int(counts[0])))  # fmt: skip
    first = parts[0].instance
    provenance = {**first.origin, "bootstrap": {"replicates": replicates, "seed": seed}}
    if len(parts) > 1:
        provenance["splits"] = [part.instance.split.record() for part in parts]
    notes = (
        "accuracies are those of the published answers; the loss by quantisation is only in "
        "accuracy_quantised, as an estimate",
        _figures_words(first),
    )
    share = np.mean([part.compared[:, 0].mean() for part in parts])
    few = f"policies are compared on {share:.1%} of the test prompts; other outcomes are missing"
    caveats = (*notes, *[few] * bool(share < 1), *first.caveats)
    return Evaluation(first.name, tuple(rows), provenance, caveats, _by_split(parts))


def _figures_words(instance: GatedInstance) -> str:
    """Say where the figures of single answers come from."""
    if instance.measured is None:
        return "seconds and joules apply the profiles' model to the length of each published answer"
    return (
        f"seconds, joules and money of each answer are those of {instance.measured.table.name}; "
        "where it is silent, the profiles' model is applied to the length of the published answer"
    )


def _row(
    parts: Sequence[Observed], name: str, known: dict[str, Estimate], prompts: int
) -> PolicyReport:
    """Return the row of one policy; what is no mean is that of the splits that have it."""
    met = [
        (part, policy, outcome)
        for part in parts
        for policy, outcome in zip(part.policies, part.outcomes, strict=True)
        if policy.name == name
    ]
    _, policy, _ = met[0]
    over, money = (known.pop(column) for column in ("over_energy_rate", "money_per_prompt"))
    sets = [own.labels([e.label for e in part.instance.experts]) for part, own, _ in met]
    sizes = [len(own) for _, policy, _ in met for own in policy.drawn or (policy.chosen,)]
    promised = [own.promised for _, own, _ in met if own.promised is not None]
    delays = np.concatenate([outcome.delay_s for _, _, outcome in met])
    return PolicyReport(
        policy=name,
        note=policy.note,
        feasible=all(own.feasible for _, own, _ in met),
        deployed=joined_labels(sets, drawn=bool(policy.drawn)),
        experts=float(np.mean(sizes)),
        splits=len(met),
        promised=float(np.mean(promised)) if promised else None,
        prompts=prompts,
        delay_p95_s=float(np.quantile(delays, 0.95)),
        unanswered_rate=float(np.mean([(~o.answered).mean() for _, _, o in met])),
        all_energy_j_per_prompt=float(np.mean([o.all_energy_j.mean() for _, _, o in met])),
        over_energy_rate=None if over.mean is None else over,
        money_per_prompt=None if money.mean is None else money,
        **known,
    )


def _by_split(parts: Sequence[Observed]) -> tuple[SplitRow, ...]:
    """Return what each policy gets in each of several splits."""
    if len(parts) == 1:
        return ()
    return tuple(
        SplitRow(
            seed=part.instance.split.seed,
            policy=policy.name,
            deployed=policy.labels([e.label for e in part.instance.experts]),
            prompts=int(part.compared[:, k].sum()),
            accuracy=float(np.nanmean(part.columns[:, k, 0])),
            against_plan=float(np.nanmean(part.columns[:, k, 1])),
        )
        for part in parts
        for k, policy in enumerate(part.policies)
        if part.compared[:, k].any()
    )


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
    header: tuple[str, ...] = (
        *("policy", "experts", "promised", "n", "accuracy", "95 %", "to plan", "95 %"),
        *("J/prompt", "delay s", "p95 s", "late", "over J"),
    )
    paid = any(row.money_per_prompt is not None for row in rows)
    cells: list[tuple[str, ...]] = [
        (r.policy + ("" if r.feasible else " *"), _count(r.experts),
         _points(r.promised), str(r.prompts), _points(r.accuracy.mean), _range(r.accuracy),
         _points(r.against_plan.mean, sign=True), _range(r.against_plan, sign=True),
         _plain(r.energy_j_per_prompt.mean, 0), _plain(r.delay_s.mean, 2), _plain(r.delay_p95_s, 2),
         _points(r.late_rate.mean),
         "-" if r.over_energy_rate is None else _points(r.over_energy_rate.mean))
        for r in rows
    ]  # fmt: skip
    if paid:
        header = (*header, "money")
        cells = [
            (*cell, _money(row.money_per_prompt)) for cell, row in zip(cells, rows, strict=True)
        ]
    lines = text_table(header, cells)
    return lines + ["* does not keep the budgets"] * any(not r.feasible for r in rows)


def _count(experts: float) -> str:
    return f"{experts:.0f}" if experts == round(experts) else f"{experts:.1f}"


def _money(own: Estimate | None) -> str:
    return "-" if own is None or own.mean is None else f"{own.mean:.3g}"


def _points(value: float | None, *, sign: bool = False) -> str:
    return "-" if value is None else f"{100 * value:{'+' if sign else ''}.1f}"


def _plain(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _range(value: Estimate, *, sign: bool = False) -> str:
    return f"{_points(value.low, sign=sign)}..{_points(value.high, sign=sign)}"
