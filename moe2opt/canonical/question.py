"""What the orchestrator asks of a question: the one door between an instance and its problem."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from moe2opt.canonical.storage import Problem
from moe2opt.result import IntArray, PlanT_co
from moe2opt.result import Plan as Plan


@runtime_checkable
class Instance(Protocol[PlanT_co]):
    """A question with its data; compiles to a canonical problem and reads solutions back.

    For a type checker, ``Instance[MyPlan]`` is one whose plans are `MyPlan`; without an argument
    they have at least the methods of `Plan`.

    An attribute ``measure`` (`moe2opt.present.Measure`) says in which sense and unit its objective
    is shown and written; without one the canonical values are.
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
