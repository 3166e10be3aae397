"""Tables for papers: plan and baselines with intervals, as CSV and LaTeX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe2opt.present import label_of
from moe2opt.result import InputError
from moe2opt.schema.source import did_you_mean
from moe2opt.selection.evaluation.grid_report import TWO_SIDED, GridEvaluation
from moe2opt.selection.evaluation.report import PLAN, Evaluation, PolicyReport
from moe2opt.writing import write_frame, write_text

if TYPE_CHECKING:
    import pandas as pd

#: What a figure shows quality against: a budget, or what the policies use.
BUDGET = "budget"
MEASURES = ("energy_j_per_prompt", "delay_s", "money_per_prompt")

#: Columns of single budgets, which a table has for grids of one axis.
_MOST_BUDGETS = 8

#: Columns of whole numbers.
_COUNTS = ("prompts", "cells", "plan_at_least_as_good", "baseline_not_better", "plan_better")

_ESCAPED = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def kept_policies(done: Evaluation | GridEvaluation, wanted: Sequence[str]) -> list[str]:
    """Return the names of the plan and of the wanted baselines, in the order of the table.

    Raises
    ------
    InputError
        For a name that is no policy of the table.
    """
    if isinstance(done, Evaluation):
        known = [row.policy for row in done.rows]
    else:
        known = [PLAN, *dict.fromkeys(r.policy for cell in done.planned for r in cell.rivals)]
    for name in wanted:
        if name not in known:
            raise InputError(f"policies: '{name}' is not among {', '.join(known)}"
                             f"{did_you_mean(name, known)}")  # fmt: skip
    return [name for name in known if name == PLAN or not wanted or name in wanted]


def paper_table(done: Evaluation | GridEvaluation, policies: Sequence[str] = ()) -> pd.DataFrame:
    """Return one row per policy: quality, paired difference to the plan, 95 % intervals, verdict.

    Quality is in percent and differences are in points. A grid's rows are over all cells; one axis
    of few budgets adds the quality at each of them.

    Parameters
    ----------
    done
        What `evaluate` found.
    policies
        Baselines that are kept; all when empty.
    """
    import pandas as pd

    shown = kept_policies(done, policies)
    if isinstance(done, Evaluation):
        return pd.DataFrame([_of_row(done.row(name)) for name in shown])
    table = pd.DataFrame(list(_of_grid(done, shown)))
    return table.astype({name: "Int64" for name in _COUNTS if name in table.columns})


def _of_row(row: PolicyReport) -> dict[str, Any]:
    points = [_points(row.accuracy), _points(row.against_plan)]
    plan = row.policy == PLAN
    mean, low, high = points[1]
    told = {
        "policy": row.policy,
        "prompts": row.prompts,
        "accuracy": points[0][0],
        "accuracy_low": points[0][1],
        "accuracy_high": points[0][2],
        "to_plan": None if plan else mean,
        "to_plan_low": None if plan else low,
        "to_plan_high": None if plan else high,
        "verdict": "" if plan or low is None or high is None else _verdict(low, high),
    }
    used = {name: getattr(row, name, None) for name in MEASURES}
    means = {name: getattr(own, "mean", own) for name, own in used.items()}
    return told | {name: mean for name, mean in means.items() if mean is not None}


def _verdict(low: float, high: float) -> str:
    return "level" if low <= 0 <= high else "better" if low > 0 else "behind"


def _points(own: Any) -> list[float | None]:
    return [None if end is None else 100 * end for end in (own.mean, own.low, own.high)]


def _of_grid(done: GridEvaluation, shown: Sequence[str]) -> Iterator[dict[str, Any]]:
    cells = done.planned
    tallies = {tally.policy: tally for tally in done.tallies()}
    single = len(done.axes) == 1 and len(done.cells) <= _MOST_BUDGETS
    for name in shown:
        row: dict[str, Any] = {"policy": name}
        for cell in cells if single else ():
            own: Any = (
                cell if name == PLAN else next((r for r in cell.rivals if r.policy == name), None)
            )
            row[f"{done.axes[0]}={cell.budgets[0]:g}"] = None if own is None else 100 * own.accuracy
        tally = tallies.get(name)
        if tally is None:
            yield row | {"cells": len(cells)}
            continue
        margin = 100 * TWO_SIDED * tally.error
        mean = 100 * tally.mean
        yield row | {
            "cells": tally.cells,
            "plan_at_least_as_good": tally.beaten,
            "baseline_not_better": tally.level,
            "plan_better": tally.behind,
            "to_plan": mean,
            "to_plan_low": mean - margin,
            "to_plan_high": mean + margin,
            "verdict": tally.verdict,
            "largest_lead": 100 * tally.worst,
        }


def check_table(path: Path) -> None:
    """Raise `InputError` for a table in a format that is not written."""
    if path.suffix.lower() not in (".csv", ".tex"):
        raise InputError(f"{path}: a table is written as csv, tex")


def write_table(path: Path, table: pd.DataFrame, about: str) -> None:
    """Write a table as CSV in full precision, or as LaTeX (booktabs), by its ending.

    Raises
    ------
    InputError
        For another ending, or a file that cannot be written.
    """
    check_table(path)
    if path.suffix.lower() == ".csv":
        write_frame(path, table)
    else:
        write_text(path, latex(table, about))


def latex(table: pd.DataFrame, about: str) -> str:
    """Return a table as a LaTeX ``tabular`` with rules of booktabs; intervals stand in brackets.

    Parameters
    ----------
    table
        What `paper_table` returns.
    about
        What it shows, for a comment above it.
    """
    ends = [name for name in table.columns if name.endswith(("_low", "_high"))]
    columns = [name for name in table.columns if name not in ends]
    lines = [
        f"% {' '.join(about.split())}",
        "% needs \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
        "\\toprule",
        " & ".join(_escaped(_head(name)) for name in columns) + " \\\\",
        "\\midrule",
    ]
    for row in table.to_dict("records"):
        lines.append(" & ".join(_entry(row, name) for name in columns) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def _head(name: str) -> str:
    """Return the head of a column in words; of a budget, its quantity and value."""
    axis, equals, budget = name.partition("=")
    return f"{label_of(axis)}: {budget}" if equals else label_of(name)


def _entry(row: dict[Any, Any], name: str) -> str:
    value = row[name]
    if isinstance(value, str):
        return _escaped(value)
    if value is None or value != value:
        return "--"
    if name in _COUNTS:
        return f"${value:.0f}$"
    # Prices of single prompts are small in any currency.
    text = f"{value:.3g}" if name == "money_per_prompt" else _number(value)
    low, high = (row.get(f"{name}_{end}") for end in ("low", "high"))
    if low is None or high is None or low != low:
        return f"${text}$"
    return f"${text}$ [${_number(low)}$, ${_number(high)}$]"


def _number(value: float) -> str:
    small = 0 < abs(value) < 0.01
    return f"{value:.2g}" if small else f"{value:.1f}".replace("-0.0", "0.0")


def _escaped(text: str) -> str:
    return "".join(_ESCAPED.get(c, c) for c in text)
