"""What a page shows of a placement plan: figures, budgets, tiers, rules, and a map of experts."""

from __future__ import annotations

from typing import Any

import numpy as np

from moe2opt.view import Map, Table, View, bars, number, percent, table

#: The question in one sentence.
ASKS = (
    "In which memory tier and in which form does each expert of the model live, so that the "
    "objective is smallest within the budgets?"
)


def view_of(plan: Any) -> View:
    """Return what a page shows of a `PlacementPlan`."""
    figures = [
        ("time", f"{number(plan.seconds_per_token)} s per token"),
        ("energy", f"{number(plan.joules_per_token)} J per token"),
        ("quality loss", f"{number(plan.loss_nats)} nats"),
        ("memory", f"{number(plan.memory_gib)} GiB"),
        ("loads", f"{number(plan.loads_per_token)} per token"),
    ]
    return View(
        asks=ASKS,
        figures=tuple(pair for pair in figures if not pair[1].startswith("-")),
        bars=bars(plan.budgets),
        tables=(_tier_table(plan), _rule_table(plan)),
        notes=plan.caveats,
        map=_map(plan),
    )


def _tier_table(plan: Any) -> Table:
    rows = [
        (
            t.name, t.kind, t.device, f"{t.experts:,}", percent(t.share_of_uses),
            f"{t.used_gib:.2f}", number(t.capacity_gib),
        )
        for t in plan.tiers
    ]  # fmt: skip
    header = ("tier", "kind", "device", "experts", "uses served", "used (GiB)", "size (GiB)")
    return table("Where the experts are", header, rows)


def _rule_table(plan: Any) -> Table:
    rows = [
        (b.name, f"+{percent(b.excess)}")
        for b in plan.baselines
        if b.feasible and b.excess is not None
    ]
    return table("What simple rules lose", ("rule", "worse by"), rows)


def _map(plan: Any) -> Map:
    """Return the tier of each expert, the most used first; its first part stands for all."""
    uses, tier = np.array(plan.uses), plan.assignment.tier[:, :, 0]
    order = np.argsort(-uses, axis=1, kind="stable")
    return Map(
        title="Where each expert lives",
        label="Layers by experts, coloured by tier; the table above holds the totals",
        caption="One row per layer; the most used experts on the left.",
        axis="experts, the most used first",
        places=tuple(t.name for t in plan.tiers),
        names=tuple(map(str, plan.layers)),
        rows=tuple(map(tuple, np.take_along_axis(tier, order, axis=1).tolist())),
    )
