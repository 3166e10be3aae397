"""A gated plan in words and columns, for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe2opt.selection.robustness import robust_lines
from moe2opt.selection.summary import (
    budget_lines,
    expert_lines,
    percent,
    plan_words,
    seconds,
    text_table,
)

if TYPE_CHECKING:
    from moe2opt.selection.gated_plan import GatedPlan


def summarise_gated(plan: GatedPlan) -> str:
    """Return the plan as plain text: experts, budgets, categories, gate, caveats."""
    gate = plan.routing
    lines = [
        f"{plan.instance}: {len(plan.experts)} experts, {percent(plan.predicted_accuracy)} of the "
        f"answers expected to be correct (test split, without quantisation loss: "
        f"{percent(plan.test_accuracy)} of {plan.test_prompts} prompts)",
        "",
        *expert_lines(plan.experts),
        "",
        *budget_lines(plan.budgets),
        *robust_lines(plan),
        "",
        *_categories(plan),
        *plan_words(plan),
        "",
        f"Gate: {gate['head']} ({gate['backend']}), {gate['calibration']} calibration; selected on "
        f"{', '.join(gate['selected_on'])}; split seed {gate['split']['seed']}",
        *(f"Note: {caveat}" for caveat in plan.caveats),
    ]
    return "\n".join(lines).rstrip()


def _categories(plan: GatedPlan) -> list[str]:
    rows = [
        (r.category, percent(r.share_of_prompts), percent(r.predicted_accuracy),
         f"{percent(r.test_accuracy)} of {r.test_prompts}",
         "-" if r.energy_j_per_prompt is None else f"{r.energy_j_per_prompt:.0f}",
         seconds(r.delay_s), seconds(r.deadline_s))
        for r in plan.by_category
    ]  # fmt: skip
    header = ("category", "prompts", "predicted", "test split", "J/prompt", "delay s", "deadline s")
    return text_table(header, rows)
