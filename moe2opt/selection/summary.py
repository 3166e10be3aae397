"""A plan in words and columns, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moe2opt.selection.plan import SelectionPlan


def summarise(plan: SelectionPlan) -> str:
    """Return the plan as plain text: experts, budgets, categories, caveats."""
    lines = [
        f"{plan.instance}: {len(plan.experts)} experts, "
        f"{_percent(plan.predicted_accuracy)} of the answers expected to be correct "
        f"(test split, without quantisation loss: {_percent(plan.test_accuracy)} "
        f"of {plan.test_prompts} prompts)",
        "",
        *_experts(plan),
        "",
        *_budgets(plan),
        "",
        *_categories(plan),
        "",
        *(f"Note: {caveat}" for caveat in plan.caveats),
    ]
    return "\n".join(lines).rstrip()


def _experts(plan: SelectionPlan) -> list[str]:
    rows = [
        (e.llm, e.precision, e.server, f"{e.memory_gib:.1f}", f"{e.energy_j_per_prompt:.0f}",
         _percent(e.share_of_prompts))
        for e in plan.experts
    ]  # fmt: skip
    return _table(("LLM", "precision", "server", "GiB", "J/prompt", "prompts"), rows)


def _budgets(plan: SelectionPlan) -> list[str]:
    rows = [(u.name, f"{u.used:.4g}", f"{u.limit:.4g}", _percent(u.share)) for u in plan.budgets]
    return _table(("budget", "used", "limit", "share"), rows)


def _categories(plan: SelectionPlan) -> list[str]:
    rows = [
        (r.category, _percent(r.share_of_prompts), _percent(r.predicted_accuracy),
         f"{_percent(r.test_accuracy)} of {r.test_prompts}", f"{r.energy_j_per_prompt:.0f}",
         _seconds(r.delay_s), _seconds(r.deadline_s))
        for r in plan.by_category
    ]  # fmt: skip
    header = ("category", "prompts", "predicted", "test split", "J/prompt", "delay s", "deadline s")
    return _table(header, rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[k]) for row in (header, *rows)) for k in range(len(header))]
    return [
        "  ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
