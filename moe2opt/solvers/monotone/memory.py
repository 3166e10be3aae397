"""What oracles have said: no point is asked for twice while its answer is kept.

Corners of boxes come back: a child shares one with its parent, bisections on neighbouring boxes
meet. On network redundancy problems six in ten points are known already, and a batch of nothing
else calls no oracle at all.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property

import numpy as np

from moe2opt.canonical import MonotoneProblem
from moe2opt.result import FloatArray, IntArray

#: Memory that the answers of one problem may take, a third for each of the three questions.
MOST_BYTES = 3 * 2**26

#: Share of the memory below a limit that they may take.
_SHARE = 1 / 4

#: An answer beside its key and its numbers: two objects, and a place in a table half full.
_ENTRY_BYTES = sys.getsizeof(b"") + sys.getsizeof([]) + 160


def remembering(problem: MonotoneProblem, room_bytes: float = math.inf) -> MonotoneProblem:
    """Return the problem with a memory of its oracles; one made of parts as it is.

    Tables are quicker than a memory of them, and what a class of its own knows must stay. Where
    room is short, most of it is left to the tree.
    """
    if problem.structure is not None or type(problem) is not MonotoneProblem:
        return problem
    own = {f.name: getattr(problem, f.name) for f in fields(MonotoneProblem) if f.init}
    known = Remembering(**own, most_bytes=min(MOST_BYTES, _SHARE * room_bytes))
    # A problem of another class may know more of its data than its oracles show.
    known.__dict__["fingerprint"] = problem.fingerprint
    return known


@dataclass(frozen=True, eq=False, repr=False)
class Remembering(MonotoneProblem):
    """A monotone problem that keeps what its oracles said, as far as there is room."""

    most_bytes: float = MOST_BYTES

    def _probe(self) -> None:
        """Ask nothing: the oracles were probed when the problem was made."""

    def upper_values(self, upper: IntArray, lower: IntArray) -> FloatArray:
        """Return what is known, or ask; see `MonotoneProblem.upper_values`."""
        points = (upper,) if self.mixed_objective is None else (upper, lower)
        return self._objective(*points)[:, 0]

    def constraint_values(self, points: IntArray) -> FloatArray:
        """Return what is known, or ask; see `MonotoneProblem.constraint_values`."""
        return self._above(points) if self.constraints else super().constraint_values(points)

    def reverse_values(self, points: IntArray) -> FloatArray:
        """Return what is known, or ask; see `MonotoneProblem.reverse_values`."""
        return self._below(points) if self.reverse_constraints else super().reverse_values(points)

    @cached_property
    def _objective(self) -> _Answers:
        ask = super().upper_values
        return _Answers(lambda *points: ask(points[0], points[-1])[:, None], self.most_bytes / 3)

    @cached_property
    def _above(self) -> _Answers:
        return _Answers(super().constraint_values, self.most_bytes / 3)

    @cached_property
    def _below(self) -> _Answers:
        return _Answers(super().reverse_values, self.most_bytes / 3)


@dataclass(eq=False, slots=True)
class _Answers:
    """An oracle of ``(B, m)`` numbers that asks another one for what it does not know.

    Attributes
    ----------
    ask
        What is asked.
    most_bytes
        Memory that the answers may take.
    known
        Numbers by the bytes of the points.
    """

    ask: Callable[..., FloatArray]
    most_bytes: float
    known: dict[bytes, list[float]] = field(default_factory=dict)

    def __call__(self, *points: IntArray) -> FloatArray:
        """Return one row of numbers per point."""
        if not len(points[0]):
            return self.ask(*points)
        rows = points[0] if len(points) == 1 else np.hstack(points)
        text, width = rows.tobytes(), rows.shape[1] * rows.itemsize
        keys = [text[k : k + width] for k in range(0, len(text), width)]
        known = self.known
        missing = {key: k for k, key in enumerate(keys) if key not in known}
        if missing:
            picks = list(missing.values())
            self._keep(missing, self.ask(*(part[picks] for part in points)), keys)
        return np.array([known[key] for key in keys])

    def _keep(self, missing: dict[bytes, int], values: FloatArray, wanted: list[bytes]) -> None:
        """Add answers; when there are too many, forget all that are not wanted at once."""
        known = self.known
        each = len(wanted[0]) + 32 * values.shape[1] + _ENTRY_BYTES
        if (len(known) + len(missing)) * each > self.most_bytes:
            kept = {key: known[key] for key in wanted if key in known}
            known.clear()
            known.update(kept)
        known.update(zip(missing, values.tolist(), strict=True))
