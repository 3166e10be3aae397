"""A small exact interpreter of the proof format VIPR, written from its specification alone.

It reads a whole file, checks every solution and every derived constraint in rational arithmetic,
tracks assumptions, and verifies the relation to prove. It knows nothing of moe2opt.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

_SENSES = {"L": -1, "E": 0, "G": 1}
_NUMBER = re.compile(r"-?\d+(/\d+|\.\d+)?")


class RefusedError(Exception):
    """The file is malformed or proves nothing."""


@dataclass(frozen=True)
class Constraint:
    """``terms (sense) limit`` under assumptions, named by their constraint numbers."""

    sense: int
    limit: Fraction
    terms: dict[int, Fraction]
    assumptions: frozenset[int] = frozenset()

    @property
    def absurd(self) -> bool:
        """Tell whether it is a contradiction such as 0 >= 1."""
        if self.terms:
            return False
        return (self.sense >= 0 and self.limit > 0) or (self.sense <= 0 and self.limit < 0)

    def dominates(self, other: Constraint) -> bool:
        """Tell whether every point that meets this constraint meets the other, as specified."""
        if self.absurd:
            return True
        if self.terms != other.terms:
            return False
        if other.sense == 0:
            return self.sense == 0 and self.limit == other.limit
        if self.sense not in (0, other.sense):
            return False
        return (self.limit - other.limit) * other.sense >= 0

    def holds_at(self, point: dict[int, Fraction]) -> bool:
        """Tell whether a point meets the constraint."""
        excess = sum((a * point.get(j, 0) for j, a in self.terms.items()), -self.limit)
        return excess == 0 if self.sense == 0 else excess * self.sense >= 0


@dataclass(frozen=True)
class Checked:
    """What the file proves: infeasibility, or an interval (None: open end) of the optimum."""

    infeasible: bool
    lower: Fraction | None
    upper: Fraction | None
    variables: int
    derived: int


class Reader:
    """One pass over the tokens of a file."""

    def __init__(self, text: str) -> None:
        lines = (line for line in text.splitlines() if not line.startswith("%"))
        self._tokens: Iterator[str] = iter(" ".join(lines).split())

    def word(self) -> str:
        """Return the next token."""
        token = next(self._tokens, None)
        if token is None:
            raise RefusedError("the file ends too early")
        return token

    def expect(self, *words: str) -> None:
        """Read tokens that must be these."""
        for word in words:
            found = self.word()
            if found != word:
                raise RefusedError(f"expected {word}, found {found}")

    def whole(self, low: int, high: float) -> int:
        """Read an integer in ``[low, high)``."""
        token = self.word()
        if not re.fullmatch(r"-?\d+", token) or not low <= int(token) < high:
            raise RefusedError(f"{token} is not an integer in [{low}, {high})")
        return int(token)

    def value(self) -> Fraction:
        """Read a rational number."""
        return self._value(self.word())

    def end(self) -> None:
        """Make sure that nothing follows."""
        extra = next(self._tokens, None)
        if extra is not None:
            raise RefusedError(f"unexpected {extra} at the end")

    @staticmethod
    def _value(token: str) -> Fraction:
        if not _NUMBER.fullmatch(token):
            raise RefusedError(f"{token} is not a number")
        try:
            return Fraction(token)
        except ZeroDivisionError as error:
            raise RefusedError(f"{token} is not a number") from error

    def check(self) -> Checked:
        """Check everything; raise `RefusedError` at the first thing that is wrong."""
        self.expect("VER")
        if self.word() not in ("1.0", "1.1"):
            raise RefusedError("unknown version")
        self.expect("VAR")
        self.variables = self.whole(0, math.inf)
        names = [self.word() for _ in range(self.variables)]
        if len(set(names)) != len(names):
            raise RefusedError("two variables share a name")
        self.expect("INT")
        self.integers = {self.whole(0, self.variables) for _ in range(self.whole(0, math.inf))}
        self.expect("OBJ")
        sense = self.word()
        if sense not in ("min", "max"):
            raise RefusedError(f"unknown sense {sense}")
        self.maximise = sense == "max"
        self.objective = self._nonzero(self._pairs(self.whole(0, math.inf), self.variables))
        self.labels: set[str] = set()
        self.expect("CON")
        rows = self.whole(0, math.inf)
        bounds = self.whole(0, rows + 1)
        self.constraints = [self._constraint() for _ in range(rows)]
        self.rows = list(self.constraints)
        if any(len(row.terms) != 1 for row in self.rows[:bounds]):
            raise RefusedError("a bound constraint has not one variable")
        infeasible, lower, upper = self._relation()
        self._solutions(infeasible, lower, upper)
        self.expect("DER")
        derived = self.whole(0, math.inf)
        for _ in range(derived):
            self.constraints.append(self._derived())
        self.end()
        self._conclude(infeasible, lower, upper)
        return Checked(infeasible, lower, upper, self.variables, derived)

    # ------------------------------------------------------------------ sections

    def _pairs(self, count: int, below: float) -> list[tuple[int, Fraction]]:
        found = [(self.whole(0, below), self.value()) for _ in range(count)]
        if len({index for index, _ in found}) != count:
            raise RefusedError("an index appears twice")
        return found

    @staticmethod
    def _nonzero(found: list[tuple[int, Fraction]]) -> dict[int, Fraction]:
        return {index: value for index, value in found if value}

    def _constraint(self) -> Constraint:
        label = self.word()
        if label in self.labels:
            raise RefusedError(f"two constraints are called {label}")
        self.labels.add(label)
        letter = self.word()
        if letter not in _SENSES:
            raise RefusedError(f"unknown sense {letter}")
        limit, count = self.value(), self.word()
        if count == "OBJ":
            return Constraint(_SENSES[letter], limit, self.objective)
        if not count.isdigit():
            raise RefusedError(f"{count} is not a number of terms")
        terms = self._nonzero(self._pairs(int(count), self.variables))
        return Constraint(_SENSES[letter], limit, terms)

    def _relation(self) -> tuple[bool, Fraction | None, Fraction | None]:
        self.expect("RTP")
        kind = self.word()
        if kind == "infeas":
            return True, None, None
        if kind != "range":
            raise RefusedError(f"unknown relation {kind}")
        low, high = self.word(), self.word()
        lower = None if low == "-inf" else self._value(low)
        upper = None if high == "inf" else self._value(high)
        if lower is not None and upper is not None and lower > upper:
            raise RefusedError("the range is empty")
        return False, lower, upper

    def _solutions(self, infeasible: bool, lower: Fraction | None, upper: Fraction | None) -> None:
        self.expect("SOL")
        worths = []
        for _ in range(self.whole(0, math.inf)):
            self.word()
            point = dict(self._pairs(self.whole(0, math.inf), self.variables))
            if any(point[j].denominator != 1 for j in point.keys() & self.integers):
                raise RefusedError("a solution is fractional on an integer variable")
            if not all(row.holds_at(point) for row in self.rows):
                raise RefusedError("a solution violates a constraint")
            worths.append(sum((a * point.get(j, 0) for j, a in self.objective.items()), Fraction()))
        known = lower if self.maximise else upper
        if infeasible and worths:
            raise RefusedError("an infeasible problem has a solution")
        if known is not None:
            good = (w >= known if self.maximise else w <= known for w in worths)
            if not any(good):
                raise RefusedError("no solution reaches the range")
        self.best = (max if self.maximise else min)(worths, default=None)

    def _derived(self) -> Constraint:
        stated = self._constraint()
        self.expect("{")
        reason = self.word()
        if reason == "asm":
            made = Constraint(
                stated.sense, stated.limit, stated.terms, frozenset({len(self.constraints)})
            )
        elif reason in ("lin", "rnd"):
            made = self._combined(stated, rounded=reason == "rnd")
        elif reason == "uns":
            made = self._resolved(stated)
        else:
            raise RefusedError(f"unknown reason {reason}")
        self.expect("}")
        self.whole(-1, math.inf)
        return made

    def _combined(self, stated: Constraint, *, rounded: bool) -> Constraint:
        factors = self._pairs(self.whole(0, math.inf), len(self.constraints))
        signs, limit = set(), Fraction(0)
        terms: dict[int, Fraction] = {}
        assumptions: frozenset[int] = frozenset()
        for number, factor in factors:
            used = self.constraints[number]
            signs.add(used.sense * ((factor > 0) - (factor < 0)))
            limit += factor * used.limit
            assumptions |= used.assumptions
            for j, a in used.terms.items():
                terms[j] = terms.get(j, Fraction(0)) + factor * a
        if {-1, 1} <= signs:
            raise RefusedError("inequalities of both directions are added")
        made = Constraint(sum(signs), limit, {j: a for j, a in terms.items() if a})
        if rounded:
            made = self._rounded(made)
        if not made.dominates(stated):
            raise RefusedError(f"a combination gives {made}, not {stated}")
        return Constraint(stated.sense, stated.limit, stated.terms, assumptions)

    def _rounded(self, made: Constraint) -> Constraint:
        if made.sense == 0:
            raise RefusedError("an equation is rounded")
        if not self._whole_on_integers(made.terms):
            raise RefusedError("rounding needs integers")
        towards = math.floor if made.sense < 0 else math.ceil
        return Constraint(made.sense, Fraction(towards(made.limit)), made.terms)

    def _whole_on_integers(self, terms: dict[int, Fraction]) -> bool:
        return terms.keys() <= self.integers and all(a.denominator == 1 for a in terms.values())

    def _resolved(self, stated: Constraint) -> Constraint:
        numbers = [self.whole(0, len(self.constraints)) for _ in range(4)]
        left, left_side, right, right_side = (self.constraints[k] for k in numbers)
        if not (left.dominates(stated) and right.dominates(stated)):
            raise RefusedError("a side of a branching does not imply the constraint")
        below, above = sorted((left_side, right_side), key=lambda side: side.sense)
        cover = (
            (below.sense, above.sense) == (-1, 1)
            and below.terms == above.terms
            and below.limit + 1 == above.limit
            and below.limit.denominator == 1
            and self._whole_on_integers(below.terms)
        )
        if not cover:
            raise RefusedError("the two sides of a branching leave a gap")
        left_rest = left.assumptions - {numbers[1]}
        right_rest = right.assumptions - {numbers[3]}
        return Constraint(stated.sense, stated.limit, stated.terms, left_rest | right_rest)

    def _conclude(self, infeasible: bool, lower: Fraction | None, upper: Fraction | None) -> None:
        claimed = upper if self.maximise else lower
        if not infeasible and claimed is None:
            return
        if not self.constraints:
            raise RefusedError("nothing is derived")
        last = self.constraints[-1]
        if last.assumptions:
            raise RefusedError("the last constraint rests on assumptions")
        if infeasible:
            proven = last.absurd
        else:
            assert claimed is not None
            goal = Constraint(-1 if self.maximise else 1, claimed, self.objective)
            proven = last.dominates(goal)
        if not proven:
            raise RefusedError("the last constraint is not the relation to prove")


def check_text(text: str) -> Checked:
    """Check the text of a VIPR file; raise `RefusedError` when it proves nothing."""
    return Reader(text).check()


def check_file(path: Path) -> Checked:
    """Check a VIPR file; raise `RefusedError` when it proves nothing."""
    return check_text(path.read_text(encoding="ascii"))
