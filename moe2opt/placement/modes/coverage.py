"""Residents of a layer such that most tokens find all their experts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from moe2opt.result import FloatArray, InputError, IntArray
from moe2opt.steps import step

if TYPE_CHECKING:
    from moe2opt.placement.question import PlacementInstance

#: Most experts of a layer whose sets of residents are all looked at.
MOST_EXPERTS = 20


@dataclass(frozen=True, slots=True, eq=False)
class Residents:
    """The best sets of each size.

    Attributes
    ----------
    covered
        ``(E + 1,)`` share of tokens covered by the best set of each size.
    experts
        That set.
    """

    covered: FloatArray
    experts: tuple[tuple[int, ...], ...]


def best_residents(instance: PlacementInstance, layer: int) -> Residents:
    """Return the best residents of a layer for every number of them, by looking at all sets.

    Raises
    ------
    InputError
        Without a trace, or with more than `MOST_EXPERTS` experts.
    """
    trace = instance.activation.trace
    if trace is None:
        raise InputError("coverage: needs activation.trace, the experts of each token")
    if instance.shape.experts > MOST_EXPERTS:
        raise InputError(
            f"coverage: {instance.shape.experts} experts per layer are too many (at most "
            f"{MOST_EXPERTS}); the number of sets of residents doubles with each"
        )
    return _cached(_Key(trace, layer, instance.shape.experts))


@dataclass(frozen=True, slots=True, eq=False)
class _Key:
    trace: IntArray
    layer: int
    experts: int

    def __hash__(self) -> int:
        return hash((id(self.trace), self.layer))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and (self.trace is other.trace, self.layer) == (
            True,
            other.layer,
        )


@lru_cache(maxsize=256)
def _cached(key: _Key) -> Residents:
    return exhaustive(key.trace[:, key.layer], key.experts)


def exhaustive(tokens: IntArray, experts: int) -> Residents:
    """Return the best residents of each size for ``(tokens, k)`` experts of one layer.

    The tokens covered by a set are those whose own set is a subset: sums over subsets of all
    ``2 ** experts`` sets at once (zeta transform).
    """
    masks = np.bitwise_or.reduce(np.int64(1) << tokens.astype(np.int64), axis=1)
    covered = np.bincount(masks, minlength=2**experts).astype(np.float64)
    for e in range(experts):
        pairs = covered.reshape(-1, 2, 2**e)
        pairs[:, 1] += pairs[:, 0]
    sets = np.arange(2**experts)
    size = np.zeros(len(sets), dtype=np.int64)
    for e in range(experts):
        size += (sets >> e) & 1
    best = []
    for number in range(experts + 1):
        step()
        candidates = np.flatnonzero(size == number)
        best.append(int(candidates[np.argmax(covered[candidates])]))
    chosen = tuple(tuple(e for e in range(experts) if s >> e & 1) for s in best)
    return Residents(covered[best] / len(tokens), chosen)
