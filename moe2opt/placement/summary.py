"""Parts of a plan in words and columns, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moe2opt.placement.assignment import FORMS, Assignment
from moe2opt.placement.figures import ABOUT_ZERO, Baseline, PrecisionInfo, TierUse, Usage

#: Words for the objectives.
_WORDS = {
    "seconds_per_token": "ms per token",
    "joules_per_token": "J per token",
    "loss_nats": "nats of loss",
    "memory_gib": "GiB",
    "loads_per_token": "expert loads per token",
    "uncovered_per_token": "uncovered layers per token",
}


def shown(objective: str, value: float | None) -> str:
    """Return a figure of an objective with its unit."""
    if value is None:
        return "-"
    scale = 1e3 if objective == "seconds_per_token" else 1.0
    return f"{value * scale:.5g} {_WORDS[objective]}"


def gib(value: float) -> str:
    """Return gibibytes with two decimals, small amounts with three digits."""
    return f"{value:.2f}" if value >= 0.1 or value <= 0.0 else f"{value:.3g}"


def tier_lines(tiers: Sequence[TierUse]) -> list[str]:
    """Return a table of what each tier holds and serves."""
    rows = [
        (t.name, t.device, str(t.experts), _percent(t.share_of_uses), gib(t.used_gib),
         "-" if t.capacity_gib is None else gib(t.capacity_gib), "")
        for t in tiers
    ]  # fmt: skip
    return table(("tier", "device", "experts", "of the uses", "GiB used", "GiB size", ""), rows)


def form_lines(assignment: Assignment, precisions: Sequence[PrecisionInfo]) -> list[str]:
    """Return what becomes of experts where that is not the same for all."""
    found = []
    counts = {name: int((assignment.form == k).sum()) for k, name in enumerate(FORMS)}
    stored = assignment.stored
    if set(name for name, n in counts.items() if n) - {"keep"}:
        words = ", ".join(f"{name} {n}" for name, n in counts.items() if n)
        low, high = (int(end(stored.sum(axis=1))) for end in (np.min, np.max))
        found += [f"Experts: {words}; stored per layer {low}" + f" to {high}" * (low < high), ""]
    if len(precisions) > 1:
        by_format = np.bincount(assignment.precision[:, :, 0][stored == 1])
        pairs = zip(precisions, by_format.tolist(), strict=False)
        found += ["Precisions: " + ", ".join(f"{p.name} {n}" for p, n in pairs if n), ""]
    if assignment.slots is not None:
        slots = " ".join(map(str, assignment.slots.tolist()))
        found += [f"Cache slots per layer: {slots}", ""]
    return found


def budget_lines(budgets: Sequence[Usage]) -> list[str]:
    """Return a table of the budgets, nothing without any."""
    rows = [(u.name, f"{u.used:.4g}", f"{u.limit:.4g}", _percent(u.share), "") for u in budgets]
    return table(("budget", "used", "limit", "share", ""), rows) if rows else []


def rule_lines(baselines: Sequence[Baseline], objective: str, granularity: str) -> list[str]:
    """Return a table of the simple rules, and what they say about a plan of some granularity."""
    rows = [
        (
            b.name,
            shown(objective, b.value),
            "-" if b.excess is None else f"{100 * b.excess:+.1f} %",
            "" if b.feasible else "does not fit",
            b.note,
        )
        for b in baselines
    ]
    lines = table(("simple rule", "objective", "worse than plan", "", "how"), rows)
    fits = [b for b in baselines if b.feasible and b.excess is not None and not b.exact]
    better = [b for b in fits if (b.excess or 0.0) < -ABOUT_ZERO]
    static = [b for b in fits if b not in better]
    if static:
        best = min(static, key=lambda b: (b.excess or 0.0, b.name))
        excess = best.excess or 0.0
        if excess <= ABOUT_ZERO:
            verdict = (
                f"The gap to the best simple rule that fits ('{best.name}') is about zero "
                f"({_percent(excess, 3)}): the rule is as good as the plan here."
            )
        else:
            verdict = f"The best simple rule that fits ('{best.name}') is {_percent(excess)} worse."
        lines += ["", verdict]
    lines += [
        f"'{b.name}' is predicted to be {_percent(-(b.excess or 0.0))} better than the plan: "
        f"{_reason(b, granularity)}."
        for b in better
    ]
    return lines


def _reason(rule: Baseline, granularity: str) -> str:
    """Return why a rule can be better than a plan."""
    if rule.moves:
        return "it moves experts at run time, which this plan does not; see the part 'cache'"
    if granularity in ("layer", "tensor"):
        return f"it places single experts, which granularity: {granularity} does not allow"
    return (
        "it moves nothing at run time; either the options of this instance "
        f"(granularity: {granularity}) lack its places, or the plan is not proven to be the best"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return aligned lines, the first and the last column to the left."""
    widths = [max(len(row[k]) for row in (header, *rows)) for k in range(len(header))]
    last = len(header) - 1
    return [
        "  ".join(
            cell.ljust(width) if k in (0, last) else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]


def _percent(share: float | None, digits: int = 1) -> str:
    return "-" if share is None else f"{100 * share:.{digits}f} %"
