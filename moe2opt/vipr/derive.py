"""From a split tree to derived constraints: the part that both families share."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

from moe2opt.result import CertificationError, InputError, Record
from moe2opt.vipr.writing import Assumption, Combination, Derivations

#: Leaf reasons that a linear combination can give.
REASONS = ("budget", "group", "cover", "farkas", "corner", "dual")

#: How far a leaf may lie above a claim that was computed with rounded sums.
_ROUNDED_SUMS = Fraction(1, 10**9)

#: Binary digits that multipliers are rounded to, coarsest first; None keeps them exactly. Short
#: numbers make short files, and most leaves have room to spare.
PRECISIONS: tuple[int | None, ...] = (10, 28, None)


@dataclass(frozen=True, slots=True)
class Target:
    """What leaves should prove.

    Attributes
    ----------
    levels
        Right sides to state where they hold, the smallest first.
    integral
        Whether bounds may be rounded down.
    """

    levels: tuple[Fraction, ...]
    integral: bool

    @classmethod
    def of(cls, claim: float, lower: Fraction | None, *, integral: bool) -> Target:
        """Return the target for a claim and the value of the incumbent."""
        known = [] if claim == -math.inf else [Fraction(claim)]
        if lower is not None:
            known.append(lower)
        return cls(tuple(sorted(known)), integral)

    def reached(self, found: Combination) -> bool:
        """Tell whether a combination proves enough."""
        if found.contradiction:
            return found.value < 0
        value = math.floor(found.value) if self.integral else found.value
        return bool(self.levels) and value <= self.levels[-1]

    def stated(self, value: Fraction) -> Fraction:
        """Return the right side to write for a leaf of this value."""
        if self.integral:
            return Fraction(math.floor(value))
        return next((level for level in self.levels if value <= level), value)

    def missed(self, value: Fraction) -> bool:
        """Tell whether a leaf proves so little that the certificate cannot be right."""
        if not self.levels:
            return True
        largest = self.levels[-1]
        return value > largest + _ROUNDED_SUMS * max(Fraction(1), abs(largest))


@dataclass(slots=True)
class Box:
    """Assumptions on the way from the root to the current node."""

    excluded: Counter[int] = field(default_factory=Counter)
    chosen: Counter[int] = field(default_factory=Counter)

    def enter(self, assumption: Assumption) -> None:
        """Add an assumption."""
        self._side(assumption)[assumption[0]] += 1

    def leave(self, assumption: Assumption) -> None:
        """Take back an assumption."""
        side = self._side(assumption)
        side[assumption[0]] -= 1
        if not side[assumption[0]]:
            del side[assumption[0]]

    def _side(self, assumption: Assumption) -> Counter[int]:
        return self.chosen if assumption[1] else self.excluded


class Rules(Protocol):
    """The strong linear formulation of one family."""

    def leaf(
        self, reason: str, index: int, box: Box, bits: int | None, lines: Derivations
    ) -> Combination:
        """Return the combination for a leaf, its multipliers rounded to `bits` digits."""


@dataclass(frozen=True, slots=True)
class Proven:
    """A derived constraint: ``objective <= bound``, or a contradiction when bound is None."""

    number: int
    bound: Fraction | None
    used: frozenset[Assumption]


@dataclass(slots=True)
class _Frame:
    """An inner node whose subtree is being worked on.

    Attributes
    ----------
    kept
        Assumption of the side that is being worked on.
    leaf
        For a reduction, why the other side is closed.
    first
        For a split, what the first side has proven.
    """

    kept: Assumption
    leaf: tuple[str, int] | None = None
    first: Proven | None = None

    @property
    def other(self) -> Assumption:
        return self.kept[0], not self.kept[1]


def derive(tree: Sequence[Record], rules: Rules, lines: Derivations, target: Target) -> Proven:
    """Write the constraints that prove the tree's claim and return the last one.

    A side that holds without its own branching assumption makes the other side unnecessary: then
    the branching, and whatever the tree has for the other side, is left out.
    """
    deriver = _Deriver(rules, lines, target)
    frames: list[_Frame] = []
    position = 0
    while True:
        kind, axis, last = tree[position]
        position += 1
        if kind == "split":
            frames.append(_Frame((axis, False)))
            deriver.box.enter(frames[-1].kept)
        elif ":" in kind:
            side, reason = kind.split(":")
            frames.append(_Frame((axis, side == "in"), leaf=(reason, last)))
            deriver.box.enter(frames[-1].kept)
        else:
            proven = deriver.leaf(kind, axis)
            while frames:
                frame = frames[-1]
                deriver.box.leave(frame.kept)
                if frame.leaf is None and frame.first is None:
                    if frame.kept in proven.used:
                        frame.first, frame.kept = proven, frame.other
                        deriver.box.enter(frame.kept)
                        break
                    position = _after_subtree(tree, position)
                else:
                    proven = deriver.closed(frame, proven)
                frames.pop()
            else:
                return proven


def _after_subtree(tree: Sequence[Record], position: int) -> int:
    """Return the position behind the subtree that starts at `position`."""
    open_boxes = 1
    while open_boxes:
        kind = tree[position][0]
        open_boxes += 1 if kind == "split" else 0 if ":" in kind else -1
        position += 1
    return position


class _Deriver:
    """Leaves and joins, written to `lines` under the assumptions of `box`."""

    def __init__(self, rules: Rules, lines: Derivations, target: Target) -> None:
        self.rules, self.lines, self.target = rules, lines, target
        self.box = Box()
        self._precision: dict[tuple[str, int], int] = {}

    def leaf(self, reason: str, index: int) -> Proven:
        """Write the combination of a leaf."""
        if reason not in REASONS:
            raise InputError(f"the reason {reason!r} of a leaf is not one of linear programming")
        found = self._combination(reason, index)
        terms = dict(found.terms)
        terms |= {self.lines.assumption(a): f for a, f in found.assumed.items()}
        used = frozenset(a for a, factor in found.assumed.items() if factor)
        if found.contradiction:
            number = self.lines.combination(f"L {found.value} 0", terms, rounded=False)
            return Proven(number, None, used)
        bound = self.target.stated(found.value)
        rounded = bound < found.value
        return Proven(self.lines.combination(f"L {bound} OBJ", terms, rounded=rounded), bound, used)

    def _combination(self, reason: str, index: int) -> Combination:
        clash = next((j for j in self.box.chosen if j in self.box.excluded), None)
        if clash is not None:
            found = Combination(Fraction(0), True)
            found.assume((clash, False), Fraction(1))
            found.assume((clash, True), Fraction(-1))
            return found
        # What was too short for some multipliers once is too short for them again, mostly.
        for k in range(self._precision.get((reason, index), 0), len(PRECISIONS)):
            self._precision[reason, index] = k
            found = self.rules.leaf(reason, index, self.box, PRECISIONS[k], self.lines)
            if self.target.reached(found):
                return found
        if found.contradiction or self.target.missed(found.value):
            raise CertificationError(
                f"a leaf ({reason} {index}) gives {float(found.value)!r}, not what is claimed"
            )
        return found

    def closed(self, frame: _Frame, proven: Proven) -> Proven:
        """Join what was proven under the frame's assumption with its other side."""
        if frame.kept not in proven.used:
            return proven
        other = frame.first
        if frame.leaf is not None:
            self.box.enter(frame.other)
            other = self.leaf(*frame.leaf)
            self.box.leave(frame.other)
        assert other is not None
        if frame.other not in other.used:
            return other
        sides = sorted(((proven, frame.kept), (other, frame.other)), key=lambda side: side[1][1])
        bounds = [side.bound for side, _ in sides if side.bound is not None]
        bound = max(bounds) if bounds else None
        what = "G 1 0" if bound is None else f"L {bound} OBJ"
        number = self.lines.resolution(what, ((side.number, a) for side, a in sides))
        return Proven(number, bound, frozenset().union(*(side.used - {a} for side, a in sides)))


def settle(
    found: Combination,
    rest: Iterable[Any],
    scale: int,
    box: Box,
    lower: int,
    upper: int,
) -> Combination:
    """Remove what is left on the branching variables by their bounds and assumptions.

    Parameters
    ----------
    found
        Combination so far; ``rest[j] / scale`` times variable j stands on its right side.
    rest, scale
        Coefficients, exact.
    box
        Assumptions that hold.
    lower, upper
        Numbers of the constraints ``x_0 >= 0`` and ``x_0 <= 1``, those of the others follow.
    """
    for j, numerator in enumerate(rest):
        if not numerator:
            continue
        factor = Fraction(numerator, scale)
        if numerator > 0 and j in box.excluded:
            found.assume((j, False), factor)
        elif numerator < 0 and j in box.chosen:
            found.assume((j, True), factor)
        elif numerator > 0:
            found.add(upper + j, factor, 1)
        else:
            found.add(lower + j, factor)
    return found
