"""A plan in words and columns, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from moe2opt.placement.baselines.rules import ABOUT_ZERO, Baseline

if TYPE_CHECKING:
    from moe2opt.placement.plan import PlacementPlan

#: Words for the objectives.
_WORDS = {
    "seconds_per_token": "ms per token",
    "joules_per_token": "J per token",
    "loss_nats": "nats of loss",
    "memory_gib": "GiB",
    "loads_per_token": "expert loads per token",
    "uncovered_per_token": "uncovered layers per token",
}


def summarise(plan: PlacementPlan) -> str:
    """Return the plan as plain text: figures, tiers, forms, budgets, baselines, caveats."""
    lines = [
        f"{plan.instance}: {plan.model}, {_headline(plan)}",
        "",
        *_tiers(plan),
        "",
        *_forms(plan),
        *_budgets(plan),
        "",
        *_baselines(plan),
        "",
        *(f"Note: {caveat}" for caveat in plan.caveats),
    ]
    return "\n".join(lines).rstrip()


def shown(plan: PlacementPlan, value: float | None) -> str:
    """Return a figure of the plan's objective with its unit."""
    if value is None:
        return "-"
    scale = 1e3 if plan.objective == "seconds_per_token" else 1.0
    return f"{value * scale:.5g} {_WORDS[plan.objective]}"


def gib(value: float) -> str:
    """Return gibibytes with two decimals, small amounts with three digits."""
    return f"{value:.2f}" if value >= 0.1 or value <= 0.0 else f"{value:.3g}"


def _headline(plan: PlacementPlan) -> str:
    parts = [shown(plan, plan.objective_value)]
    if plan.objective == "seconds_per_token":
        parts.append(f"{1 / plan.seconds_per_token:.2f} tokens/s predicted")
    else:
        parts.append(f"{1e3 * plan.seconds_per_token:.5g} ms per token predicted")
    if plan.joules_per_token is not None and plan.objective != "joules_per_token":
        parts.append(f"{plan.joules_per_token:.4g} J per token")
    parts.append(f"{gib(plan.memory_gib)} GiB in all")
    if plan.loss_nats:
        parts.append(f"loss {plan.loss_nats:.4g} nats")
    return ", ".join(parts)


def _tiers(plan: PlacementPlan) -> list[str]:
    rows = [
        (t.name, t.device, str(t.experts), _percent(t.share_of_uses), gib(t.used_gib),
         "-" if t.capacity_gib is None else gib(t.capacity_gib), "")
        for t in plan.tiers
    ]  # fmt: skip
    return table(("tier", "device", "experts", "of the uses", "GiB used", "GiB size", ""), rows)


def _forms(plan: PlacementPlan) -> list[str]:
    from moe2opt.placement.assignment import FORMS

    found = []
    counts = {name: int((plan.assignment.form == k).sum()) for k, name in enumerate(FORMS)}
    stored = plan.assignment.stored
    if set(name for name, n in counts.items() if n) - {"keep"}:
        words = ", ".join(f"{name} {n}" for name, n in counts.items() if n)
        kept = stored.sum(axis=1).tolist()
        found += [f"Experts: {words}; stored per layer {_range(kept)}", ""]
    by_format = [
        int(((plan.assignment.precision[:, :, 0] == q) & (stored == 1)).sum())
        for q in range(len(plan.precisions))
    ]
    if len(plan.precisions) > 1:
        pairs = zip(plan.precisions, by_format, strict=True)
        found += ["Precisions: " + ", ".join(f"{p.name} {n}" for p, n in pairs if n), ""]
    if plan.assignment.slots is not None:
        slots = " ".join(map(str, plan.assignment.slots.tolist()))
        found += [f"Cache slots per layer: {slots}", ""]
    return found


def _budgets(plan: PlacementPlan) -> list[str]:
    rows = [
        (u.name, f"{u.used:.4g}", f"{u.limit:.4g}", _percent(u.share), "") for u in plan.budgets
    ]
    return table(("budget", "used", "limit", "share", ""), rows) if rows else []


def _baselines(plan: PlacementPlan) -> list[str]:
    rows = [
        (b.name, shown(plan, b.value), _gap(b), "" if b.feasible else "does not fit", b.note)
        for b in plan.baselines
    ]
    lines = table(("simple rule", "objective", "worse than plan", "", "how"), rows)
    fits = [b for b in plan.baselines if b.feasible and b.excess is not None and not b.exact]
    better = [b for b in fits if (b.excess or 0.0) < -ABOUT_ZERO]
    static = [b for b in fits if b not in better]
    if static:
        lines += ["", _verdict(min(static, key=lambda b: (b.excess or 0.0, b.name)))]
    lines += [
        f"'{b.name}' is predicted to be {_percent(-(b.excess or 0.0))} better than the plan: it "
        "moves experts at run time, which this plan does not; see the part 'cache'."
        for b in better
    ]
    return lines


def _verdict(best: Baseline) -> str:
    assert best.excess is not None
    if best.excess <= ABOUT_ZERO:
        return (
            f"The gap to the best simple rule that fits ('{best.name}') is about zero "
            f"({_percent(best.excess, 3)}): the rule is as good as the plan here."
        )
    return f"The best simple rule that fits ('{best.name}') is {_percent(best.excess)} worse."


def _gap(baseline: Baseline) -> str:
    if baseline.excess is None:
        return "-"
    return f"{100 * baseline.excess:+.1f} %"


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


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
