"""What a run may claim: statuses, limits, results, and (from `moe2opt.proof`) certificates.

The lowest layer: everything else speaks its words.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol

import numpy as np

from moe2opt import heartbeat
from moe2opt.content import Content
from moe2opt.errors import DAMAGE
from moe2opt.files import read_json
from moe2opt.gaps import EXACT_GAP as EXACT_GAP
from moe2opt.gaps import LARGEST_GAP as LARGEST_GAP
from moe2opt.gaps import NUMERICAL_GAP as NUMERICAL_GAP
from moe2opt.gaps import closing_gap as closing_gap
from moe2opt.gaps import optimal_within as optimal_within
from moe2opt.gaps import relative_gap as relative_gap
from moe2opt.present import PLAIN, Measure
from moe2opt.proof import LEAF_REASONS as LEAF_REASONS
from moe2opt.proof import BoolArray as BoolArray
from moe2opt.proof import Certificate as Certificate
from moe2opt.proof import CertificationError as CertificationError
from moe2opt.proof import Conflict as Conflict
from moe2opt.proof import FloatArray as FloatArray
from moe2opt.proof import InputError as InputError
from moe2opt.proof import IntArray as IntArray
from moe2opt.proof import MoeOptError as MoeOptError
from moe2opt.proof import Multipliers as Multipliers
from moe2opt.proof import PriceTable as PriceTable
from moe2opt.proof import Record as Record
from moe2opt.proof import Relaxation as Relaxation
from moe2opt.proof import encode_float as encode_float
from moe2opt.view import View
from moe2opt.writing import write_text

if TYPE_CHECKING:
    import pandas as pd

#: Version of the layout of result files.
FORMAT = 2

#: Longer values are cut in messages.
_WIDEST = 60


@enum.unique
class Status(enum.StrEnum):
    """What a run established."""

    OPTIMAL = "OPTIMAL"
    """A plan exists and the gap is within the tolerance."""
    FEASIBLE = "FEASIBLE"
    """A plan exists; better ones are not excluded."""
    INFEASIBLE = "INFEASIBLE"
    """Proven: no plan meets the budgets."""
    NO_SOLUTION = "NO_SOLUTION"
    """The run stopped before it found a plan; nothing is proven about existence."""
    ERROR = "ERROR"
    """The run failed; only sweeps and benchmarks report this, `solve` raises."""


@enum.unique
class Limit(enum.StrEnum):
    """Why a run stopped before its natural end."""

    TIME = "TIME"
    NODES = "NODES"
    MEMORY = "MEMORY"
    INTERRUPTED = "INTERRUPTED"

    @property
    def words(self) -> str:
        """What a reader calls it, for example ``node limit``."""
        if self is Limit.INTERRUPTED:
            return "interrupted"
        return f"{self.lower().removesuffix('s')} limit"


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """One line of a solver's log.

    Attributes
    ----------
    time_s
        Seconds since the solver started.
    nodes, open_nodes
        Nodes examined and nodes waiting.
    bound, objective
        Best proven upper bound and best known value at that moment.
    source
        ``H`` heuristic, ``B`` branching, ``R`` reduction, ``L`` relaxation, ``M`` milp,
        ``U`` warm start, ``P`` polyblock, ``E`` enumeration, blank for a clock tick.
    """

    time_s: float
    nodes: int
    open_nodes: int
    bound: float
    objective: float
    source: str = " "


def _canonical(data: dict[str, Any]) -> tuple[dict[str, Any], Measure]:
    """Return where a file holds the canonical values, and what they measure."""
    if "format" not in data:
        return data, PLAIN
    if data["format"] != FORMAT:
        raise InputError(f"not a result: format {_short(data['format'])} is not understood")
    texts = [_typed(data, key, str, "text") for key in ("unit", "quantity")]
    sense = data["sense"]
    if sense not in ("maximize", "minimize"):
        raise InputError(f"not a result: sense is {_short(sense)}; it must be maximize or minimize")
    for key in ("objective", "bound"):
        _read_float(data, key)
    return _typed(data, "canonical", dict, "a section"), Measure(sense, *texts)


def _whole(x: Any) -> IntArray:
    """Return the stored solution; raise `InputError` unless it is a list of whole numbers."""
    if not isinstance(x, list):
        raise InputError(f"not a result: x is {_short(x)}; it must be a list of whole numbers")
    for k, value in enumerate(x):
        if type(value) is not int or abs(value) >= 2**63:
            raise InputError(f"not a result: x[{k}] is {_short(value)}; it must be a whole number")
    return np.array(x, dtype=np.int64)


def _read_float(data: dict[str, Any], key: str) -> float:
    """Return a stored number; infinite ones are the strings that `encode_float` writes."""
    value = data[key]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number or value in ("inf", "-inf"):
        return float(value)
    raise InputError(f"not a result: {key} is {_short(value)}; it must be a number")


def _named(data: dict[str, Any], key: str, names: Iterable[str]) -> str:
    """Return a stored name, which must be one of `names`."""
    known = [str(name) for name in names]
    if data[key] in known:
        return str(data[key])
    choices = ", ".join(known)
    raise InputError(f"not a result: {key} is {_short(data[key])}; it must be one of {choices}")


def _typed(data: dict[str, Any], key: str, kind: Any, words: str) -> Any:
    if isinstance(data[key], kind):
        return data[key]
    raise InputError(f"not a result: {key} is {_short(data[key])}; it must be {words}")


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."


class Plan(Protocol):
    """A decoded solution: what the user does next, in the words of the question."""

    def summary(self) -> str:
        """Return a readable account of the plan."""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""

    def to_frame(self) -> pd.DataFrame:
        """Return the decisions as a table."""

    def view(self) -> View:
        """Return what a page shows of it."""


# What a result holds as its plan. Only type checkers know the default before Python 3.13.
if TYPE_CHECKING:
    from typing_extensions import TypeVar

    PlanT_co = TypeVar("PlanT_co", covariant=True, default=Plan)
else:
    from typing import TypeVar

    PlanT_co = TypeVar("PlanT_co", covariant=True)


def own_fields(item: Any) -> Iterator[tuple[str, str]]:
    """Yield fields in short; objective and bound in the sense and unit of the item's measure."""
    for name, text in Content._brief_fields(item):  # noqa: SLF001
        if name in ("objective", "bound"):
            yield name, item.measure.text(getattr(item, name))
        elif name != "measure":
            yield name, text


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Result(Content, Generic[PlanT_co]):
    """Outcome of `moe2opt.solve`.

    Results are equal when they claim the same: counters, log and provenance are not compared. For a
    type checker, ``Result[MyPlan]`` has a plan of that class, and plain ``Result`` a `Plan`.

    Attributes
    ----------
    status, limit
        What was established, and which limit stopped the run (None if none did).
    x
        ``(n,)`` best solution in the variables of the canonical problem, None without one.
    objective
        Its value, recomputed by the problem; ``-inf`` without a solution.
    bound
        Best proven upper bound; ``inf`` if nothing is proven, ``-inf`` if infeasible.
    certificate
        Proof of `bound`, None when the solver gives none.
    solver
        Name of the solver that ran.
    rel_gap
        The relative gap that was asked for.
    stats
        Counters and seconds per phase.
    log
        Progress events, oldest first.
    plan
        Decoded solution when an instance was solved, else None.
    provenance
        Versions, machine, hashes and seed: enough to run it again.
    measure
        Sense and unit of the objective in the question's own words. `objective` and `bound` are
        those of the canonical problem, which is maximised; `value` and `value_bound` are the
        question's own, as everything that is shown or written.
    """

    status: Status
    limit: Limit | None
    x: IntArray | None
    objective: float
    bound: float
    certificate: Certificate | None = None
    solver: str = ""
    rel_gap: float = 0.0
    stats: dict[str, Any] = field(default_factory=dict, compare=False)
    log: tuple[ProgressEvent, ...] = field(default=(), compare=False)
    plan: PlanT_co | None = None
    provenance: dict[str, Any] = field(default_factory=dict, compare=False)
    measure: Measure = PLAIN

    def __post_init__(self) -> None:
        has_solution = self.status in (Status.OPTIMAL, Status.FEASIBLE)
        if has_solution != (self.x is not None):
            raise ValueError(f"status {self.status} and the presence of a solution disagree")
        if math.isnan(self.bound) or math.isnan(self.objective):
            raise ValueError("objective and bound must be numbers")
        if not 0.0 <= self.rel_gap < math.inf:
            raise ValueError(f"rel_gap is {self.rel_gap!r}; it must be a number from 0 on")
        closed = self.gap <= max(optimal_within(self.rel_gap), NUMERICAL_GAP)
        if self.status is Status.OPTIMAL and not closed:
            raise ValueError(f"OPTIMAL with a gap of {self.gap:.3g}")

    @property
    def gap(self) -> float:
        """Relative gap ``(bound - objective) / max(|objective|, 1e-10)``; ``inf`` if undefined."""
        return relative_gap(self.objective, self.bound)

    @property
    def value(self) -> float:
        """The objective in the question's own sense and unit."""
        return self.measure.own(self.objective)

    @property
    def value_bound(self) -> float:
        """The bound in the question's own sense and unit."""
        return self.measure.own(self.bound)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content; infinite numbers become the strings ``inf`` and ``-inf``.

        Objective and bound are in the question's own sense and unit; under ``canonical`` they are
        those of the canonical problem, which is maximised.
        """
        plan: Any = self.plan
        return {
            "format": FORMAT,
            "status": str(self.status),
            "limit": None if self.limit is None else str(self.limit),
            **self.measure.to_dict(),
            "objective": encode_float(self.value),
            "bound": encode_float(self.value_bound),
            "canonical": {
                "objective": encode_float(self.objective),
                "bound": encode_float(self.bound),
            },
            "gap": encode_float(self.gap),
            "solver": self.solver,
            "rel_gap": self.rel_gap,
            "x": None if self.x is None else self.x.tolist(),
            "plan": plan.to_dict() if hasattr(plan, "to_dict") else plan,
            "certificate": None if self.certificate is None else self.certificate.to_dict(),
            "stats": self.stats,
            "provenance": self.provenance,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], folder: str | Path = ".") -> Result[Any]:
        """Rebuild from `to_dict`; the plan stays a plain dictionary.

        Files of format 1, which had no number and held canonical values only, are read, too.
        The arrays of a large certificate that was saved are looked for in `folder`.
        """
        try:
            values, measure = _canonical(data)
            stored = data["certificate"]
            certificate = None if stored is None else Certificate.from_stored(stored, Path(folder))
            return Result(
                status=Status(_named(data, "status", Status)),
                limit=None if data["limit"] is None else Limit(_named(data, "limit", Limit)),
                x=None if data["x"] is None else _whole(data["x"]),
                objective=_read_float(values, "objective"),
                bound=_read_float(values, "bound"),
                certificate=certificate,
                solver=_typed(data, "solver", str, "text"),
                rel_gap=_read_float(data, "rel_gap"),
                stats=dict(_typed(data, "stats", dict, "a section")),
                plan=_typed(data, "plan", dict | None, "a section or null"),
                provenance=dict(_typed(data, "provenance", dict, "a section")),
                measure=measure,
            )
        except KeyError as error:
            raise InputError(f"not a result: the key {error} is missing") from error
        except DAMAGE as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"not a result: {type(error).__name__}: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write the result as JSON; a large certificate goes to an NPZ file beside it."""
        path = Path(path)
        with heartbeat.doing(f"writing {path.name}"):
            content = replace(self, certificate=None).to_dict()
            if self.certificate is not None:
                content["certificate"] = self.certificate.stored(path)
            write_text(path, json.dumps(content, indent=1))

    @classmethod
    def load(cls, path: str | Path) -> Result[Any]:
        """Read a result written by `save`; raise `InputError` naming the file if it is not one."""
        data = read_json(path)
        try:
            if not isinstance(data, dict):
                raise InputError("not a result: the file does not hold a JSON object")
            return cls.from_dict(data, Path(path).parent)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def _brief_fields(self) -> Iterator[tuple[str, str]]:
        return own_fields(self)

    def _repr_html_(self) -> str:
        """Return the figures and the first lines of the plan for notebooks."""
        table, plan = Content._repr_html_(self), self.plan
        if plan is None or not hasattr(plan, "to_frame"):
            return table
        return f"{table}{plan.to_frame().to_html(max_rows=10)}"

    def __str__(self) -> str:
        limit = "" if self.limit is None else f" ({self.limit.words})"
        return (
            f"{self.status}{limit}  objective {self.measure.text(self.objective)}"
            f"  bound {self.measure.text(self.bound)}"
            f"  gap {self.gap:.3%}  solver {self.solver}"
        )
