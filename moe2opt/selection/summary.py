"""A plan in words and columns, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from moe2opt.selection.robustness import robust_lines

if TYPE_CHECKING:
    from moe2opt.selection.gated_plan import GatedPlan
    from moe2opt.selection.plan import DeployedExpert, SelectionPlan, Usage


def summarise(plan: SelectionPlan) -> str:
    """Return the plan as plain text: experts, budgets, categories, caveats."""
    lines = [
        f"{plan.instance}: {len(plan.experts)} experts, "
        f"{percent(plan.predicted_accuracy)} of the answers expected to be correct "
        f"(test split, without quantisation loss: {percent(plan.test_accuracy)} "
        f"of {plan.test_prompts} prompts)",
        "",
        *expert_lines(plan.experts),
        "",
        *budget_lines(plan.budgets),
        "",
        *_categories(plan),
        *_sets(plan),
        *plan_words(plan),
        *robust_lines(plan),
        "",
        *(f"Note: {caveat}" for caveat in plan.caveats),
    ]
    return "\n".join(lines).rstrip()


def expert_lines(experts: Sequence[DeployedExpert]) -> list[str]:
    """Return the table of deployed experts."""
    rows = [
        (e.llm, e.precision, e.server, f"{e.memory_gib:.1f}", f"{e.energy_j_per_prompt:.0f}",
         percent(e.share_of_prompts))
        for e in experts
    ]  # fmt: skip
    return text_table(("LLM", "precision", "server", "GiB", "J/prompt", "prompts"), rows)


def budget_lines(budgets: Sequence[Usage]) -> list[str]:
    """Return the table of budgets."""
    rows = [(u.name, f"{u.used:.4g}", f"{u.limit:.4g}", percent(u.share)) for u in budgets]
    return text_table(("budget", "used", "limit", "share"), rows)


def _categories(plan: SelectionPlan) -> list[str]:
    rows = [
        (r.category, percent(r.share_of_prompts), percent(r.predicted_accuracy),
         f"{percent(r.test_accuracy)} of {r.test_prompts}", f"{r.energy_j_per_prompt:.0f}",
         seconds(r.delay_s), seconds(r.deadline_s))
        for r in plan.by_category
    ]  # fmt: skip
    header = ("category", "prompts", "predicted", "test split", "J/prompt", "delay s", "deadline s")
    return text_table(header, rows)


def plan_words(plan: SelectionPlan | GatedPlan) -> list[str]:
    """Return what is not a mean, and who answers where it is not the best expert alone."""
    lines = []
    if plan.objective != "best expert":
        lines.append(f"Every prompt is answered by: {plan.objective}.")
    if plan.delay_statistic != "mean":
        lines.append(f"Seconds are the {plan.delay_statistic} over the lengths of answers.")
    return ["", *lines] if lines else []


def _sets(plan: SelectionPlan) -> list[str]:
    """Return who is asked by each category, where they differ."""
    if not plan.sets:
        return []
    rows = [
        (own.category, ", ".join(f"{plan.experts[n].llm} @ {plan.experts[n].server}"
                                 for n in own.experts))
        for own in plan.sets
    ]  # fmt: skip
    width = max(len(name) for name, _ in rows)
    return ["", *(f"{name.ljust(width)}  asks {who}" for name, who in rows)]


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines in columns, the first to the left, the others to the right."""
    widths = [max(len(row[k]) for row in (header, *rows)) for k in range(len(header))]
    return [
        "  ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]


def percent(share: float | None) -> str:
    """Return a share in percent, ``-`` for none."""
    return "-" if share is None else f"{100 * share:.1f} %"


def seconds(value: float | None) -> str:
    """Return seconds, ``-`` for none."""
    return "-" if value is None else f"{value:.2f}"
