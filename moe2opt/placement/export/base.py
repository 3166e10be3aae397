"""What an export is: a text for a runtime, and a report of what was lost on the way."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from moe2opt.placement.summary import gib, table


@dataclass(frozen=True, slots=True)
class TierCheck:
    """Memory of a tier after projection, in GiB; no limit is None.

    Attributes
    ----------
    tier
        Name.
    used_gib
        What the exported placement takes there: experts, what is reserved, buffers of the runtime.
    limit_gib
        Size less the margin.
    """

    tier: str
    used_gib: float
    limit_gib: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """What the projection to a runtime changed, and what it costs.

    Attributes
    ----------
    runtime, unit
        Where to, and what that runtime places as one piece.
    moved, reformatted, experts
        Experts with another tier, experts with another format, and experts in all.
    objective, plan_value, projected_value
        The plan's objective before and after; None when it cannot be computed.
    gap
        (projected - plan) / plan, None when unknown.
    unknown
        Why the projected value is not known, empty when it is.
    memory
        The check of every tier after projection.
    notes
        What the runtime cannot express or does otherwise.
    validated
        What was checked about the text.
    """

    runtime: str
    unit: str
    moved: int
    reformatted: int
    experts: int
    objective: str
    plan_value: float
    projected_value: float | None
    gap: float | None
    memory: tuple[TierCheck, ...]
    unknown: str = ""
    notes: tuple[str, ...] = ()
    validated: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        return asdict(self)

    def summary(self) -> str:
        """Return the report as plain text."""
        rows = [
            (c.tier, gib(c.used_gib), "-" if c.limit_gib is None else gib(c.limit_gib), "")
            for c in self.memory
        ]
        lines = [
            f"Export for {self.runtime}, placed by {self.unit}: {self.moved} of {self.experts} "
            f"experts in another tier, {self.reformatted} in another format than in the plan",
            self._value_line(),
            *table(("tier", "GiB used", "limit", ""), rows),
            *(f"Note: {note}" for note in self.notes),
            *(f"Checked: {text}" for text in self.validated),
        ]
        return "\n".join(lines)

    def _value_line(self) -> str:
        plan = f"{self.objective} {self.plan_value:.6g} in the plan"
        if self.projected_value is None:
            return f"{plan}, unknown as exported: {self.unknown}"
        gap = "" if self.gap is None else f" ({100 * self.gap:+.3f} %)"
        return f"{plan}, {self.projected_value:.6g} as exported{gap}"


@dataclass(frozen=True, slots=True)
class Export:
    """A text for a runtime.

    Attributes
    ----------
    format
        Name of the format.
    suffix
        Ending of the file's name where one plan gives several files; empty for the main one.
    text
        The file, or the options themselves.
    launch
        How the runtime is told about it; ``{file}`` stands for the file in a shell, ``{file!r}`` in
        Python.
    report
        What was lost.
    """

    format: str
    suffix: str
    text: str
    launch: str
    report: Report
    extras: dict[str, Any] = field(default_factory=dict)
