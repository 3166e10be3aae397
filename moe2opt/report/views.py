"""A plan as a reader sees it: figures, tables and notes, whatever question it answers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from moe2opt.errors import DAMAGE
from moe2opt.plotting.style import label_of
from moe2opt.result import InputError

#: Objectives of placement are minimised; their canonical problems maximise minus them.
_PLACEMENT = "placement"


@dataclass(frozen=True, slots=True)
class Scale:
    """How an objective of the canonical problem is shown.

    Attributes
    ----------
    label
        Its name, with the unit.
    factor
        What it is multiplied by; negative where less is better.
    unit
        Unit behind a figure.
    """

    label: str
    factor: float = 1.0
    unit: str = ""

    @property
    def less_is_better(self) -> bool:
        """Whether small figures are good ones."""
        return self.factor < 0

    def shown(self, objective: float) -> float:
        """Return the figure for an objective; ``nan`` when it is not finite."""
        return self.factor * objective if math.isfinite(objective) else math.nan

    def text(self, objective: float) -> str:
        """Return the figure with its unit, or a dash."""
        value = self.shown(objective)
        if math.isnan(value):
            return "–"
        return f"{number(value)} {self.unit}".rstrip()


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
    scale
        How objectives are shown.
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
    scale: Scale
    figures: tuple[tuple[str, str], ...]
    bars: tuple[Bar, ...]
    tables: tuple[Table, ...]
    caveats: tuple[str, ...]


def number(value: float | None) -> str:
    """Return a figure as people write it: 1,234; 12.3; 0.0123; a dash for none.

    Examples
    --------
    >>> number(1161.2), number(20.0), number(0.47362), number(None), number(1.5e-7)
    ('1,161', '20', '0.4736', '–', '1.5e-07')
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def percent(share: float | None) -> str:
    """Return a share in percent with one decimal, or a dash."""
    return "–" if share is None or not math.isfinite(share) else f"{100 * share:.1f} %"


def view_of(plan: Any) -> View:
    """Return the view of a plan in the form of `to_dict`, or of a bare solution (None).

    Raises
    ------
    InputError
        When the content is not a plan.
    """
    if not isinstance(plan, dict):
        return View("solution", Scale("objective"), (), (), (), ())
    try:
        if "assignment" in plan:
            return _placement(plan)
        if "experts" in plan:
            return _selection(plan)
    except DAMAGE as error:
        raise InputError(f"plan: not understood: {type(error).__name__}: {error}") from error
    return View("solution", Scale("objective"), (), (), (), _texts(plan.get("caveats", ())))


def _selection(plan: dict[str, Any]) -> View:
    figures = [
        ("expected correct answers", percent(plan["predicted_accuracy"])),
        (f"on {plan['test_prompts']:,} test prompts", percent(plan["test_accuracy"])),
        ("experts deployed", str(len(plan["experts"]))),
        ("routed expert alone", f"{number(plan['energy_j_per_prompt'])} J per prompt"),
    ]
    return View(
        kind="selection",
        scale=Scale("expected correct answers (%)", 100.0, "%"),
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
    objective = str(plan["objective"])
    label = label_of(objective)
    unit = label.rsplit("(", 1)[-1].rstrip(")") if "(" in label else ""
    figures = [
        ("time", f"{number(plan['seconds_per_token'])} s per token"),
        ("energy", f"{number(plan['joules_per_token'])} J per token"),
        ("quality loss", f"{number(plan['loss_nats'])} nats"),
        ("memory", f"{number(plan['memory_gib'])} GiB"),
        ("loads", f"{number(plan['loads_per_token'])} per token"),
    ]
    return View(
        kind=_PLACEMENT,
        scale=Scale(label, -1.0, unit),
        figures=tuple(pair for pair in figures if "–" not in pair[1]),
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
        k > 0 and all(line[k][:1] in "+-–−∞" or line[k][:1].isdigit() for line in lines)
        for k in range(len(header))
    )
    return Table(title, tuple(header), lines, numeric)


def _bars(budgets: Iterable[dict[str, Any]]) -> tuple[Bar, ...]:
    return tuple(
        Bar(label_of(b["name"]), number(b["used"]), number(b["limit"]), b["share"]) for b in budgets
    )


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(str(value) for value in values)
