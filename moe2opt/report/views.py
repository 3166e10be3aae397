"""A plan as a reader sees it: figures, tables and notes, whatever question it answers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from moe2opt import present
from moe2opt.errors import DAMAGE
from moe2opt.plotting.style import label_of
from moe2opt.result import InputError


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts; the first column names the rows."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """Use of one budget: name, texts of use and limit, share from 0 to 1 (None for none)."""

    name: str
    used: str
    limit: str
    share: float | None


@dataclass(frozen=True, slots=True)
class View:
    """What the page shows of a plan.

    Attributes
    ----------
    kind
        ``selection``, ``placement`` or ``solution`` (a bare problem).
    figures
        Name and text of the headline figures.
    bars
        Use of the budgets.
    tables
        The plan itself first.
    caveats
        What must be known to read the figures.
    """

    kind: str
    figures: tuple[tuple[str, str], ...]
    bars: tuple[Bar, ...]
    tables: tuple[Table, ...]
    caveats: tuple[str, ...]


def number(value: float | None) -> str:
    """Return a figure in four digits, a dash for none."""
    return present.number(value, 4)


def percent(share: float | None) -> str:
    """Return a share in percent with one decimal, or a dash."""
    return "-" if share is None or not math.isfinite(share) else f"{100 * share:.1f} %"


def view_of(plan: Any) -> View:
    """Return the view of a plan in the form of `to_dict`, or of a bare solution (None).

    Raises
    ------
    InputError
        When the content is not a plan.
    """
    if not isinstance(plan, dict):
        return View("solution", (), (), (), ())
    try:
        if "assignment" in plan:
            return _placement(plan)
        if "experts" in plan:
            return _selection(plan)
    except DAMAGE as error:
        raise InputError(f"plan: not understood: {type(error).__name__}: {error}") from error
    return View("solution", (), (), (), _texts(plan.get("caveats", ())))


def _selection(plan: dict[str, Any]) -> View:
    figures = [
        ("expected correct answers", percent(plan["predicted_accuracy"])),
        (f"on {plan['test_prompts']:,} test prompts", percent(plan["test_accuracy"])),
        ("experts deployed", str(len(plan["experts"]))),
        ("routed expert alone", f"{number(plan['energy_j_per_prompt'])} J per prompt"),
    ]
    return View(
        kind="selection",
        figures=tuple(figures),
        bars=_bars(plan["budgets"]),
        tables=(expert_table(plan), _category_table(plan)),
        caveats=_texts(plan.get("caveats", ())),
    )


def expert_table(plan: dict[str, Any]) -> Table:
    """Return the deployed experts of a selection plan."""
    rows = [
        (
            e["llm"], e["precision"], e["server"], f"{e['memory_gib']:.1f}",
            number(e["energy_j_per_prompt"]), percent(e["share_of_prompts"]),
        )
        for e in plan["experts"]
    ]  # fmt: skip
    header = ("LLM", "precision", "server", "memory (GiB)", "energy (J per prompt)", "prompts")
    return table("Deployed experts", header, rows)


def _category_table(plan: dict[str, Any]) -> Table:
    rows = [
        (
            c["category"], percent(c["share_of_prompts"]), percent(c["predicted_accuracy"]),
            f"{percent(c['test_accuracy'])} of {c['test_prompts']}",
            number(c["energy_j_per_prompt"]), number(c["delay_s"]), number(c["deadline_s"]),
        )
        for c in plan["by_category"]
    ]  # fmt: skip
    header = (
        *("category", "prompts", "predicted", "test split"),
        *("energy (J per prompt)", "delay (s)", "deadline (s)"),
    )
    return table("By category", header, rows)


def _placement(plan: dict[str, Any]) -> View:
    figures = [
        ("time", f"{number(plan['seconds_per_token'])} s per token"),
        ("energy", f"{number(plan['joules_per_token'])} J per token"),
        ("quality loss", f"{number(plan['loss_nats'])} nats"),
        ("memory", f"{number(plan['memory_gib'])} GiB"),
        ("loads", f"{number(plan['loads_per_token'])} per token"),
    ]
    return View(
        kind="placement",
        figures=tuple(pair for pair in figures if not pair[1].startswith("-")),
        bars=_bars(plan["budgets"]),
        tables=(tier_table(plan), _rule_table(plan)),
        caveats=_texts(plan.get("caveats", ())),
    )


def tier_table(plan: dict[str, Any]) -> Table:
    """Return the memory tiers as a placement plan uses them."""
    rows = [
        (
            t["name"], t["kind"], t["device"], f"{t['experts']:,}", percent(t["share_of_uses"]),
            f"{t['used_gib']:.2f}", number(t["capacity_gib"]),
        )
        for t in plan["tiers"]
    ]  # fmt: skip
    header = ("tier", "kind", "device", "experts", "uses served", "used (GiB)", "size (GiB)")
    return table("Where the experts are", header, rows)


def _rule_table(plan: dict[str, Any]) -> Table:
    rows = [
        (b["name"], f"+{percent(b['excess'])}")
        for b in plan["baselines"]
        if b["feasible"] and b["excess"] is not None
    ]
    return table("What simple rules lose", ("rule", "worse by"), rows)


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table; columns whose every cell starts like a figure go to the right."""
    lines = tuple(tuple(str(cell) for cell in row) for row in rows)
    numeric = tuple(
        k > 0 and all(line[k][:1] in "+-" or line[k][:1].isdigit() for line in lines)
        for k in range(len(header))
    )
    return Table(title, tuple(header), lines, numeric)


def _bars(budgets: Iterable[dict[str, Any]]) -> tuple[Bar, ...]:
    return tuple(
        Bar(label_of(b["name"]), number(b["used"]), number(b["limit"]), b["share"]) for b in budgets
    )


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(str(value) for value in values)
