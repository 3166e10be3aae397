"""What a page shows of the plan of a selection: experts, categories, budgets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moe2opt.selection.plan.words import votes
from moe2opt.view import Table, View, bars, number, percent, table

#: The question in one sentence.
ASKS = (
    "Which LLMs are deployed on which server and at which precision, and which prompts go to which "
    "of them, so that most answers are correct within the budgets?"
)


def view_of(plan: Any) -> View:
    """Return what a page shows of a plan, whoever routes."""
    return View(
        asks=ASKS,
        figures=(
            ("expected correct answers", percent(plan.predicted_accuracy)),
            (f"on {plan.test_prompts:,} test prompts", percent(plan.test_accuracy)),
            ("experts deployed", str(len(plan.experts))),
            (_answering(plan), f"{number(plan.energy_j_per_prompt)} J per prompt"),
            *_money_figures(plan),
        ),
        bars=bars(plan.budgets),
        tables=(
            _expert_table(plan),
            _category_table(plan),
            *_money_tables(plan),
            *_measured_tables(plan),
        ),
        notes=plan.caveats,
    )


def _answering(plan: Any) -> str:
    """Return who answers a prompt."""
    return "all experts together" if votes(plan) else "routed expert alone"


def _expert_table(plan: Any) -> Table:
    rows = [
        (
            e.llm, e.precision, e.server, f"{e.memory_gib:.1f}",
            number(e.energy_j_per_prompt), percent(e.share_of_prompts),
        )
        for e in plan.experts
    ]  # fmt: skip
    header = ("LLM", "precision", "server", "memory (GiB)", "energy (J per prompt)", "prompts")
    return table("Deployed experts", header, rows)


def _money_figures(plan: Any) -> Iterator[tuple[str, str]]:
    """Yield what a plan costs, where money matters."""
    if (own := plan.money) is None:
        return
    unit = own.currency.upper()
    yield f"{_answering(plan)}, money", f"{number(own.per_prompt)} {unit} per prompt"
    yield "deployed", f"{number(own.per_hour)} {unit} per hour"
    if own.net is not None:
        yield "correct answers less what they cost", percent(own.net)


def _money_tables(plan: Any) -> Iterator[Table]:
    """Yield what each expert and each category costs, where money matters."""
    if (own := plan.money) is None:
        return
    header = f"{own.currency.upper()} per prompt"
    experts = zip(plan.experts, own.by_expert, strict=True)
    rows = [(f"{e.llm} {e.precision} @ {e.server}", number(price)) for e, price in experts]
    yield table("Price of the deployed experts", ("expert", header), rows)
    categories = zip(plan.by_category, own.by_category, strict=True)
    paid = [(c.category, number(price)) for c, price in categories]
    yield table("Price by category", ("category", header), paid)


def _measured_tables(plan: Any) -> Iterator[Table]:
    """Yield where the figures come from, and the measured table as it was typed."""
    own = plan.measured
    if own is None:
        return
    pairs = zip(plan.experts, own.basis, strict=True)
    rows = [(f"{e.llm} {e.precision} @ {e.server}", basis) for e, basis in pairs]
    yield table("Where the figures come from", ("expert", "seconds and joules"), rows)
    typed = zip(own.rows, own.used, strict=True)
    marked = [(*row, "yes" if used else "no") for row, used in typed]
    title = f"{own.file}, as typed ({len(own.rows)} of {own.count} rows)"
    yield table(title, (*own.columns, "deployed"), marked)


def _category_table(plan: Any) -> Table:
    rows = [
        (
            c.category, percent(c.share_of_prompts), percent(c.predicted_accuracy),
            f"{percent(c.test_accuracy)} of {c.test_prompts}",
            number(c.energy_j_per_prompt), number(c.delay_s), number(c.deadline_s),
        )
        for c in plan.by_category
    ]  # fmt: skip
    header = (
        *("category", "prompts", "predicted", "test split"),
        *("energy (J per prompt)", "delay (s)", "deadline (s)"),
    )
    return table("By category", header, rows)
