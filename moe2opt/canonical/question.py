"""What the rest asks of a question: the door between a file, its instance, its problem, its plan.

Nothing above the questions looks into their sections, instances or plans: loading, solving,
reports, exports and the command line ask the members of these classes.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from moe2opt.canonical.storage import Problem
from moe2opt.result import IntArray, PlanT_co
from moe2opt.result import Plan as Plan
from moe2opt.view import Table
from moe2opt.writing import write_text


@runtime_checkable
class Instance(Protocol[PlanT_co]):
    """A question with its data; compiles to a canonical problem and reads solutions back.

    For a type checker, ``Instance[MyPlan]`` is one whose plans are `MyPlan`; without an argument
    they have at least the methods of `Plan`.

    An attribute ``measure`` (`moe2opt.present.Measure`) says in which sense and unit its objective
    is shown and written; without one the canonical values are. An attribute ``bound`` names the
    bound of the solver `brb` that suits its problem, an attribute ``fixed_rows`` the positions of
    rows that are no limit of the user's: no explanation of infeasibility lists or relaxes them. An
    attribute ``start`` is a solution to start from where the user gives none, or None. A method
    ``tightened`` returns the solution of the same plan with most value, where several stand for it.
    `moe2opt.load` sets the attribute ``source`` (`moe2opt.source.Source`) of what it built from a
    file.
    """

    @property
    def name(self) -> str:
        """Short name for logs and file names."""

    def problem(self) -> Problem:
        """Return the canonical problem; the same object at every call."""

    def decode(self, x: IntArray) -> PlanT_co:
        """Return the plan that a solution of the canonical problem stands for."""

    def evaluate(self, plan: Any) -> float:
        """Return the objective of a plan, computed from the instance's own data."""

    def check(self, plan: Any) -> list[str]:
        """Return the violated requirements in words; empty for a valid plan."""

    def row_names(self) -> list[str]:
        """Return the name (with unit) of each budget row."""

    def cover_names(self) -> list[str]:
        """Return the name of each cover row."""

    def describe(self) -> str:
        """Return one line about the size and origin of the instance."""


class Exported(Protocol):
    """A plan in the words of a runtime: texts, where they go, and what the user must know."""

    @property
    def text(self) -> str:
        """What is printed where no file is named."""

    def write(self, out: Path) -> None:
        """Write everything to `out`, a file or a folder as the format has it."""

    def content(self, out: Path | None) -> dict[str, Any]:
        """Return what ``--json`` says of it; `out` is where it was written, None for nowhere."""

    def words(self, out: Path | None) -> list[str]:
        """Return how to use it, what was lost and what is still to fill in, a line each."""


@dataclass(frozen=True, slots=True)
class TextExport:
    """The export that is one text in one file.

    Attributes
    ----------
    text
        The file.
    notes
        What the user must know, a line each.
    """

    text: str
    notes: tuple[str, ...] = ()

    @classmethod
    def of_rows(cls, rows: Iterable[Sequence[str]], notes: tuple[str, ...]) -> TextExport:
        """Return rows as CSV, the header among them."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        return cls(text.getvalue(), notes)

    @classmethod
    def of_json(cls, content: object, notes: tuple[str, ...] = ()) -> TextExport:
        """Return JSON-ready content, indented."""
        return cls(f"{json.dumps(content, indent=1)}\n", notes)

    def write(self, out: Path) -> None:
        """Write the file."""
        write_text(out, self.text, "--out ")

    def content(self, out: Path | None) -> dict[str, Any]:
        """Return file, text and notes."""
        return {"file": None if out is None else str(out), "text": self.text, "notes": self.notes}

    def words(self, out: Path | None) -> list[str]:
        """Return the notes."""
        return [f"Note: {note}" for note in self.notes]


#: From a plan, and its instance (None where no configuration was named), to an export.
Exporter = Callable[[Any, Any], Exported]


@dataclass(frozen=True, slots=True)
class Order:
    """What the user of ``execute`` says beside the configuration.

    Attributes
    ----------
    result, against
        The stored result whose plan is run, and one of an earlier plan to run beside it.
    model, text
        Folder of weights and held-out text; those of the configuration when None.
    tokens, repeats
        How many; those of the configuration when None.
    calibrate
        Whether a mixture of everything that is calibrated is run, too.
    tolerance
        Texts of ``--tolerance``.
    allow_outside
        Whether paths of the configuration may leave its folder.
    on_step
        Hears steps done and to be done.
    """

    result: Path
    against: Path | None = None
    model: Path | None = None
    text: Path | None = None
    tokens: int | None = None
    repeats: int | None = None
    calibrate: bool = False
    tolerance: tuple[str, ...] = ()
    allow_outside: bool = False
    on_step: Callable[[int, int], None] | None = None


@dataclass(frozen=True, slots=True)
class Ran:
    """A plan that was run.

    Attributes
    ----------
    content
        JSON-ready account.
    shown
        Tables and sentences that are printed, in order.
    notes
        What must be known to read them.
    exceeded
        Tolerances that are exceeded, in words.
    follow_up
        What to do with the written account; ``{run}`` stands for the file.
    draw
        Draws it into a file, None for no picture.
    """

    content: dict[str, Any]
    shown: tuple[Table | str, ...]
    notes: tuple[str, ...] = ()
    exceeded: tuple[str, ...] = ()
    follow_up: str = ""
    draw: Callable[[Path], None] | None = None


#: From an instance, a solution of its problem and an order to what was run.
Runner = Callable[[Any, IntArray, Order], Ran]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question that configuration files can ask.

    Attributes
    ----------
    name
        The value of the key `problem` in its files.
    asks
        What it asks, in one sentence.
    config
        Its sections: a `moe2opt.schema.Section` with ``problem: Literal[name]``.
    build
        Turns the validated sections and the file's folder into an instance:
        ``build(sections, folder, *, allow_outside)``.
    plan_from_dict
        Rebuilds a plan from what ``to_dict`` made of it; raises `InputError` for anything else.
        None where plans are not read back.
    exporters
        What makes a plan into files, by the name of the format.
    runner
        ``module:function`` of the `Runner` that ``execute`` calls, empty where plans cannot be run.
        Named, not imported: running may need packages that nothing else needs.
    problems
        Folder of its built-in problems, ``FILE.yaml`` is called ``name/FILE``; None for none. (Ours
        are in ``problems/``.)
    axes
        From the effective configuration to the budgets worth exploring: names (budget rows or
        dotted keys) with lowest and highest value, the two of the explorer first. None takes the
        first budget rows of the instance.
    checks
        Called by ``check`` with an instance and whether its paths may leave its folder; raises
        `InputError` for what is missing and only running a plan would find. None for nothing.
    """

    name: str
    config: type[Any]
    build: Callable[..., Any]
    asks: str = ""
    plan_from_dict: Callable[[dict[str, Any]], Any] | None = None
    exporters: Mapping[str, Exporter] = field(default_factory=dict)
    runner: str = ""
    problems: Path | None = None
    axes: Callable[[dict[str, Any]], dict[str, tuple[float, float]]] | None = None
    checks: Callable[[Any, bool], None] | None = None
