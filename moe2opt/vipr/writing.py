"""Lines of a VIPR file: rows, linear combinations, and the numbering of derived constraints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TextIO

#: A branching assumption: variable, and whether it is one (else zero).
Assumption = tuple[int, bool]

#: Variable or constraint numbers with their factors.
Terms = Iterable[tuple[int, Fraction | int]]


@dataclass(frozen=True, slots=True)
class Row:
    """A constraint of the programme; `sense` is ``L``, ``G`` or ``E``."""

    sense: str
    limit: Fraction | int
    terms: tuple[tuple[int, Fraction | int], ...]


@dataclass(slots=True)
class Combination:
    """A sum of constraints that gives ``objective <= value``, or ``0 <= value`` without it.

    Attributes
    ----------
    terms
        Factor of each constraint of the programme or derived one.
    value
        Right side.
    assumed
        Factor of each branching assumption.
    contradiction
        Whether the left side is zero rather than the objective.
    """

    value: Fraction
    contradiction: bool
    terms: dict[int, Fraction] = field(default_factory=dict)
    assumed: dict[Assumption, Fraction] = field(default_factory=dict)

    def add(self, constraint: int, factor: Fraction, limit: Fraction | int = 0) -> None:
        """Add `factor` times a constraint with right side `limit`."""
        known = self.terms.get(constraint)
        self.terms[constraint] = factor if known is None else known + factor
        if limit:
            self.value += factor * limit

    def assume(self, assumption: Assumption, factor: Fraction) -> None:
        """Add `factor` times a branching assumption."""
        self.assumed[assumption] = factor
        if assumption[1]:
            self.value += factor


class Derivations:
    """The derived constraints, written as they come.

    Parameters
    ----------
    stream
        Where the lines go.
    first
        Number of the first derived constraint.
    """

    def __init__(self, stream: TextIO, first: int) -> None:
        self._stream, self._first, self.count = stream, first, 0
        self._assumptions: dict[Assumption, int] = {}

    def assumption(self, assumption: Assumption) -> int:
        """Return the number of an assumption; each is written once and serves every branch."""
        if assumption not in self._assumptions:
            variable, chosen = assumption
            bound = "G 1" if chosen else "L 0"
            self._assumptions[assumption] = self._write("A", f"{bound} 1 {variable} 1", "asm")
        return self._assumptions[assumption]

    def combination(self, what: str, terms: Mapping[int, Fraction], *, rounded: bool) -> int:
        """Write a constraint that follows from a linear combination, perhaps rounded."""
        kept = [(k, factor) for k, factor in terms.items() if factor]
        return self._write("D", what, f"{'rnd' if rounded else 'lin'} {pairs(kept)}")

    def resolution(self, what: str, sides: Iterable[tuple[int, Assumption]]) -> int:
        """Write a constraint that holds on both sides of a branching."""
        named = " ".join(f"{number} {self.assumption(assumed)}" for number, assumed in sides)
        return self._write("D", what, f"uns {named}")

    def _write(self, prefix: str, what: str, reason: str) -> int:
        number = self._first + self.count
        # The last field would allow a reader to forget; -1 asks it not to.
        self._stream.write(f"{prefix}{number} {what} {{ {reason} }} -1\n")
        self.count += 1
        return number


def pairs(terms: Terms) -> str:
    """Return the number of terms and the terms."""
    listed = list(terms)
    return " ".join([str(len(listed)), *(f"{k} {factor}" for k, factor in listed)])
