"""Points of fronts and cells of grids, and how they are stored."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from moe2opt.files import read_json
from moe2opt.present import PLAIN, Measure
from moe2opt.result import InputError, encode_float, relative_gap
from moe2opt.writing import write_text

if TYPE_CHECKING:
    import pandas as pd

#: Version of the JSON files; those of version 1 held canonical values only, and are read, too.
FORMAT = 2

_CANONICAL = ("objective", "bound")


@dataclass(frozen=True, slots=True)
class Axis:
    """One budget that varies.

    Attributes
    ----------
    name
        Name of a budget row (``energy_j_per_prompt``) or dotted key of the configuration
        (``delay.limit_s``).
    kind
        ``row`` or ``key``.
    values
        Budgets, ascending.
    """

    name: str
    kind: Literal["row", "key"]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """What is known at one combination of budgets.

    Attributes
    ----------
    index
        Position on each axis.
    budgets
        Budget on each axis.
    status, limit
        As in `moe2opt.result.Result`, as text.
    objective, bound
        Value of the plan (``-inf`` without one) and the proven upper bound.
    certified
        The independent checker accepted plan, bound and status; never without a plan, unless it is
        proven that there is none.
    used
        Use of every budget row by the plan, by its name; empty without a plan.
    x
        Solution in the variables of the canonical problem, None without one.
    plan
        Position in the list of plans of the front or grid; None without one.
    proof
        Number of the solved problem whose certificate proves the bound: the problem of this cell,
        or one that relaxes it; -1 when a run was interrupted before it had any.
    nodes
        Nodes that the solver examined here; 0 where nothing had to be solved.
    """

    index: tuple[int, ...]
    budgets: tuple[float, ...]
    status: str
    limit: str | None
    objective: float
    bound: float
    certified: bool
    used: dict[str, float] = field(default_factory=dict)
    x: tuple[int, ...] | None = None
    plan: int | None = None
    proof: int = 0
    nodes: int = 0

    @property
    def gap(self) -> float:
        """Relative gap; ``inf`` where it is undefined."""
        return relative_gap(self.objective, self.bound)

    @property
    def has_plan(self) -> bool:
        """Whether there is a plan."""
        return self.x is not None

    def to_dict(self, measure: Measure = PLAIN) -> dict[str, Any]:
        """Return JSON-ready content: values in the question's own sense, and canonical ones."""
        content = {f.name: getattr(self, f.name) for f in fields(self)}
        own = {name: encode_float(measure.own(content[name])) for name in _CANONICAL}
        numbers = {**own, "canonical": {name: encode_float(content[name]) for name in _CANONICAL}}
        lists = {
            "index": list(self.index),
            "budgets": [encode_float(b) for b in self.budgets],
            "x": None if self.x is None else list(self.x),
        }
        return content | numbers | lists

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild from `to_dict`."""
        content = dict(data)
        values = content.pop("canonical", data)
        content["index"] = tuple(map(int, data["index"]))
        content["budgets"] = tuple(map(float, data["budgets"]))
        content["x"] = None if data["x"] is None else tuple(map(_whole, data["x"]))
        content |= {name: _whole(data[name]) for name in ("proof", "nodes")}
        content["plan"] = None if data["plan"] is None else _whole(data["plan"])
        content |= {name: float(values[name]) for name in _CANONICAL}
        return cls(**content)


@dataclass(frozen=True, slots=True)
class FrontPoint(Cell):
    """A point of a two-objective front.

    Attributes
    ----------
    value_per_unit
        Shadow price: what one more unit of the budget adds to the upper bound that holds at every
        budget (see `moe2opt.pareto.prices`); None where the certificate gives none.
    """

    value_per_unit: float | None = None

    @property
    def budget(self) -> float:
        """The budget on the horizontal axis."""
        return self.budgets[0]


def frame_of(names: list[str], cells: Sequence[Cell], measure: Measure = PLAIN) -> pd.DataFrame:
    """Return one row per cell, objective and bound in the question's own sense."""
    import pandas as pd

    rows = [
        {
            **{f"budget {name}": b for name, b in zip(names, cell.budgets, strict=True)},
            "status": cell.status,
            "limit": cell.limit,
            "objective": measure.own(cell.objective) if cell.has_plan else math.nan,
            "bound": measure.own(cell.bound),
            "gap": cell.gap,
            "certified": cell.certified,
            "plan": cell.plan,
            "proof": cell.proof,
            "nodes": cell.nodes,
            **({"value_per_unit": cell.value_per_unit} if isinstance(cell, FrontPoint) else {}),
            **{f"used {name}": used for name, used in cell.used.items()},
        }
        for cell in cells
    ]
    return pd.DataFrame(rows).astype({"plan": "Int64"})


def _whole(value: Any) -> int:
    if type(value) is not int or abs(value) >= 2**63:
        raise ValueError(f"{value!r} is not a whole number")
    return value


def axis_to_dict(axis: Axis) -> dict[str, Any]:
    """Return JSON-ready content of an axis."""
    return asdict(axis) | {"values": [encode_float(value) for value in axis.values]}


def axis_from_dict(data: dict[str, Any]) -> Axis:
    """Rebuild an axis."""
    return Axis(str(data["name"]), data["kind"], tuple(map(float, data["values"])))


def measure_from(data: dict[str, Any]) -> Measure:
    """Return the measure of a stored front or grid."""
    if data["format"] == 1:
        return PLAIN
    if data["sense"] not in ("maximize", "minimize"):
        raise ValueError(f"sense {data['sense']!r}")
    return Measure(data["sense"], str(data["unit"]), str(data["quantity"]))


def require(data: Any, kind: str) -> None:
    """Raise ValueError unless the content is of this kind and format."""
    if data["kind"] != kind or data["format"] not in (1, FORMAT):
        raise ValueError(f"kind {data['kind']!r}, format {data['format']!r}")


def unreadable(error: Exception, kind: str) -> InputError:
    """Return the error for content that is not of a kind."""
    return InputError(f"not a {kind}: {type(error).__name__}: {error}")


def write(content: dict[str, Any], path: str | Path) -> None:
    """Write content as JSON."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    write_text(path, f"{text}\n")


def read(path: str | Path) -> Any:
    """Return the content of a JSON file; raise `InputError` naming it if it is none."""
    return read_json(path)
