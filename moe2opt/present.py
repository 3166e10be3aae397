"""How figures look to people and programs: digits, sense and unit of an objective.

Canonical problems are maximised. A question that wants little of something (time, joules) is
compiled to minus it; whatever is shown or written passes through its `Measure`, which knows the
way back.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Literal

Sense = Literal["maximize", "minimize"]

_WIDEST_NUMBER = 12

#: Endings of names that stand for units.
_UNITS = (
    ("j_per_prompt", "J per prompt"),
    ("j_per_token", "J per token"),
    ("joules_per_token", "J per token"),
    ("seconds_per_token", "s per token"),
    ("s_per_token", "s per token"),
    ("loads_per_token", "loads per token"),
    ("uncovered_per_token", "layers per token"),
    ("memory_gib", "GiB"),
    ("gib", "GiB"),
    ("loss_nats", "nats"),
    ("nats", "nats"),
    ("bytes", "bytes"),
    ("mbps", "Mbit/s"),
    ("watts", "W"),
    ("w", "W"),
    ("s", "s"),
    ("j", "J"),
)


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
    least
        What no value is below, whatever is proven: 0 for seconds. Files do not hold it.
    """

    sense: Sense = "maximize"
    unit: str = ""
    quantity: str = "objective"
    least: float = field(default=-math.inf, compare=False)

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

    def shown(self, canonical: float) -> float:
        """Return the question's own value; where a bound is below it, what no value is below."""
        own = self.own(canonical)
        return max(own, self.least) if math.isfinite(own) else own

    def figure(self, canonical: float) -> str:
        """Return the question's own value as people see it, without its unit."""
        return number(self.shown(canonical), 4 if self.suffix else 6)

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


def label_of(name: str) -> str:
    """Return a name of the code as an axis label: its words, and its unit in brackets.

    Examples
    --------
    >>> label_of("energy_j_per_prompt")
    'energy (J per prompt)'
    >>> label_of("memory_gib[rtx-a]")
    'memory, rtx-a (GiB)'
    >>> label_of("seconds_per_token")
    'time (s per token)'
    >>> label_of("delay.limit_s")
    'delay (s)'
    >>> label_of("money_usd_per_prompt")
    'money (USD per prompt)'
    >>> label_of("max_experts")
    'max experts'
    """
    found = re.fullmatch(r"(.*?)(?:\[(.*)\])?", name, re.DOTALL)
    stem, place = (name, None) if found is None else found.groups()
    section, _, key = stem.rpartition(".")
    bare = key.removeprefix("limit_")
    stem = f"{section}_{bare}" if section and bare != key else bare
    words, unit = _split(stem)
    where = "" if place is None else f", {place}"
    return f"{words}{where} ({unit})" if unit else f"{words}{where}"


def _split(stem: str) -> tuple[str, str]:
    """Return the words of a name and its unit, empty where it has none."""
    whole = {"seconds_per_token": "time", "joules_per_token": "energy", "s_per_token": "time"}
    if found := re.fullmatch(r"money_([a-z]{3})_per_(prompt|hour)", stem):
        return "money", f"{found[1].upper()} per {found[2]}"
    for ending, unit in _UNITS:
        if stem == ending or stem.endswith(f"_{ending}"):
            rest = stem.removesuffix(ending).rstrip("_")
            kind = whole.get(ending) or ending.split("_")[0]
            words = rest if rest and ending not in ("loss_nats", "memory_gib") else f"{rest} {kind}"
            return words.replace("_", " ").strip(), unit
    return stem.replace("_", " "), ""
