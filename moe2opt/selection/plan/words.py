"""A plan in words and columns, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from moe2opt.text import many

#: Rows of a measured table that are shown; of a longer one, those of deployed experts.
_MOST_ROWS = 30


def summarise(plan: Any, *blocks: Sequence[str]) -> str:
    """Return a plan as plain text: experts, budgets, what is its own, caveats."""
    lines = [
        f"{plan.instance}: {many(len(plan.experts), 'expert')}, "
        f"{percent(plan.predicted_accuracy)} of the answers expected to be correct "
        f"(test split, without quantisation loss: {percent(plan.test_accuracy)} "
        f"of {plan.test_prompts} prompts)",
        "",
        *_expert_lines(plan),
        "",
        *_budget_lines(plan),
        *(line for block in blocks for line in block),
        *(f"Note: {caveat}" for caveat in plan.caveats),
    ]
    return "\n".join(lines).rstrip()


def _expert_lines(plan: Any) -> list[str]:
    rows = [
        (e.llm, e.precision, e.server, f"{e.memory_gib:.1f}", f"{e.energy_j_per_prompt:.0f}",
         percent(e.share_of_prompts))
        for e in plan.experts
    ]  # fmt: skip
    return text_table(("LLM", "precision", "server", "GiB", "J/prompt", "prompts"), rows)


def _budget_lines(plan: Any) -> list[str]:
    rows = [(u.name, f"{u.used:.4g}", f"{u.limit:.4g}", percent(u.share)) for u in plan.budgets]
    return text_table(("budget", "used", "limit", "share"), rows)


def category_lines(plan: Any) -> list[str]:
    """Return the table of categories."""
    rows = [
        (r.category, percent(r.share_of_prompts), percent(r.predicted_accuracy),
         f"{percent(r.test_accuracy)} of {r.test_prompts}",
         "-" if r.energy_j_per_prompt is None else f"{r.energy_j_per_prompt:.0f}",
         _seconds(r.delay_s), _seconds(r.deadline_s))
        for r in plan.by_category
    ]  # fmt: skip
    header = ("category", "prompts", "predicted", "test split", "J/prompt", "delay s", "deadline s")
    return ["", *text_table(header, rows)]


def plan_words(plan: Any) -> list[str]:
    """Return what is not a mean, and who answers where it is not the best expert alone."""
    lines = []
    if plan.objective != "best expert":
        lines.append(f"Every prompt is answered by: {plan.objective}.")
    if plan.delay_statistic != "mean":
        lines.append(f"Seconds are the {plan.delay_statistic} over the lengths of answers.")
    return ["", *lines] if lines else []


def votes(plan: Any) -> bool:
    """Whether all deployed experts answer every prompt, and vote."""
    return isinstance(plan.routing, dict) and "vote" in plan.routing


def money_lines(plan: Any) -> list[str]:
    """Return what a plan costs; empty where money does not matter."""
    own = plan.money
    if own is None:
        return []
    unit = own.currency.upper()
    who = "all experts together take" if votes(plan) else "the routed expert alone takes"
    lines = [
        f"Money: {who} {own.per_prompt:.4g} {unit} per prompt; deployed, "
        f"{own.per_hour:.4g} {unit} per hour."
    ]
    if own.net is not None:
        lines.append(f"Less what they cost, the answers are worth {percent(own.net)} correct ones.")
    for expert, price in zip(plan.experts, own.by_expert, strict=True):
        label = f"{expert.llm} {expert.precision} @ {expert.server}"
        lines.append(f"  {label}: {price:.4g} {unit} per prompt, if it answered all")
    return ["", *lines]


def measured_lines(plan: Any) -> list[str]:
    """Return where the figures of the deployed experts come from, and the rows about them."""
    own = plan.measured
    if own is None:
        return []
    lines = [f"Figures of the deployed experts ({own.file}, {own.count} rows):"]
    for expert, basis in zip(plan.experts, own.basis, strict=True):
        lines.append(f"  {expert.llm} {expert.precision} @ {expert.server}: {basis}")
    short = len(own.rows) <= _MOST_ROWS
    told = [row for row, used in zip(own.rows, own.used, strict=True) if used or short]
    more = own.count - len(told[:_MOST_ROWS])
    rows = (",".join(row) for row in told[:_MOST_ROWS])
    rest = [f"  ... and {more} more rows"] * (more > 0)
    return ["", *lines, f"  {','.join(own.columns)}", *(f"  {row}" for row in rows), *rest]


def set_lines(plan: Any) -> list[str]:
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


def robust_lines(plan: Any) -> list[str]:
    """Return the robustness of a plan in words; empty when there is none."""
    own = plan.robustness
    if own is None:
        return []
    lines = [f"Robust: every prediction is put at its {100 * own.quantile:g} % quantile."]
    for margin in own.margins:
        mark = "  tight" if margin.tight else ""
        lines.append(
            f"  {margin.name}: {margin.predicted:.4g} by the predictions, {margin.robust:.4g} "
            f"at the quantile, limit {margin.limit:.4g}{mark}"
        )
    if own.lost_categories:
        lines.append(f"  too late at the quantile: some expert in {', '.join(own.lost_categories)}")
    if own.nominal_objective is not None:
        lines.append(_price(plan.predicted_accuracy, own))
    return ["", *lines]


def _price(objective: float, own: Any) -> str:
    assert own.nominal_objective is not None
    points = 100 * (own.nominal_objective - objective)
    bound = np.inf if own.nominal_bound is None else own.nominal_bound
    proven = bound <= own.nominal_objective * (1 + 1e-6)
    least = "" if proven else "at least "
    text = (
        f"  price of robustness: {least}{points:.2f} points "
        f"({100 * own.nominal_objective:.2f} % without it, {100 * objective:.2f} % with it)"
    )
    if own.broken:
        text += f"; the plan without it would break: {', '.join(own.broken)}"
    return text


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


def _seconds(value: float | None) -> str:
    """Return seconds, ``-`` for none."""
    return "-" if value is None else f"{value:.2f}"
