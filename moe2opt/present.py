"""How figures look to people and programs: digits, sense and unit of an objective.

Canonical problems are maximised. A question that wants little of something (time, joules) is
compiled to minus it; whatever is shown or written passes through its `Measure`, which knows the
way back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

Sense = Literal["maximize", "minimize"]

_WIDEST_NUMBER = 12


@dataclass(frozen=True, slots=True)
class Measure:
    """What an objective is, in the words of its question.

    An instance declares one as its attribute ``measure``; without it the canonical values count.

    Attributes
    ----------
    sense
        ``maximize`` or ``minimize``.
    unit
        Unit of its values, for example ``s per token``; empty where there is none.
    quantity
        What is measured, for example ``time``.
    """

    sense: Sense = "maximize"
    unit: str = ""
    quantity: str = "objective"

    @property
    def minimizes(self) -> bool:
        """Whether small values are good ones."""
        return self.sense == "minimize"

    @property
    def label(self) -> str:
        """Name and unit, for an axis."""
        return f"{self.quantity} ({self.unit})" if self.suffix else self.quantity

    @property
    def suffix(self) -> str:
        """The unit as it follows a figure; a share is a number without one."""
        return "" if self.unit.startswith("share of ") else self.unit

    def own(self, canonical: float) -> float:
        """Return the question's own value for a canonical one, and the other way round."""
        return 0.0 - canonical if self.minimizes else canonical

    def figure(self, canonical: float) -> str:
        """Return the question's own value as people see it, without its unit."""
        return number(self.own(canonical), 4 if self.suffix else 6)

    def text(self, canonical: float) -> str:
        """Return the question's own value with its unit, ``-`` for what does not exist.

        Examples
        --------
        >>> Measure("minimize", "s per token", "time").text(-0.110939)
        '0.1109 s per token'
        """
        if not math.isfinite(canonical):
            return "-"
        return f"{self.figure(canonical)} {self.suffix}".rstrip()

    def limit_words(self, bound: float) -> str:
        """Return what a proven bound says of all plans."""
        side = "costs less than" if self.minimizes else "is worth more than"
        return f"no plan {side} {self.text(bound)}"

    def to_dict(self) -> dict[str, str]:
        """Return what a JSON file says of it."""
        return {"sense": self.sense, "unit": self.unit, "quantity": self.quantity}


#: The measure of a bare problem.
PLAIN = Measure()


def measure_of(target: Any) -> Measure:
    """Return the measure that an instance declares; the plain one for a bare problem."""
    found = getattr(target, "measure", None)
    return found if isinstance(found, Measure) else PLAIN


def number(value: float | None, digits: int = 6) -> str:
    """Return so many digits, or ``-`` for what does not exist.

    Examples
    --------
    >>> number(0.47362), number(0.473647, 4), number(1161.2, 4), number(-1e11), number(None)
    ('0.47362', '0.4736', '1161', '-1e+11', '-')
    """
    if value is None or not math.isfinite(value):
        return "-"
    whole = f"{value:.0f}"
    if len(whole) <= _WIDEST_NUMBER and len(whole.lstrip("-")) > digits:
        return whole
    text = f"{value:.{digits}g}"
    return text if len(text) <= _WIDEST_NUMBER else f"{value:.{digits - 1}g}"
