"""What one device holds beside a run of layers, and what that saves: every way, in tables.

A device holds so many layers with their experts, experts of layers elsewhere, one layer whose
experts are split, and parts of those that others split. Which of these fit depends on the run of
layers between two cuts by its bytes and its number alone, of which there are few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from moe2opt.llamacpp import LlamaLayer
from moe2opt.place.case import Case, Variant
from moe2opt.place.machine import HOP_S
from moe2opt.place.options import kept_matrices, split_saved_s
from moe2opt.result import FloatArray, IntArray

#: Share of an expert by which sums of bytes may differ from it by rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """What experts weigh and save on a device, at best of some kinds of layers.

    Attributes
    ----------
    size
        Bytes of the experts of a layer.
    home, away
        Seconds that they save beside RAM with their layer, and with that elsewhere.
    kept, rest
        ``(K - 1,)`` bytes of the first matrices, and of the others.
    to_ram, to_device
        ``(K - 1,)`` seconds that a split saves whose others are in RAM, or on another device.
    """

    size: float
    home: float
    away: float
    kept: FloatArray
    rest: FloatArray
    to_ram: FloatArray
    to_device: FloatArray


def pieces_of(case: Case, d: int, ubatch: int, layers: Sequence[LlamaLayer]) -> Pieces:
    """Return the lightest of layers that save most; nothing to hold without any."""
    if not layers:
        return Pieces(1.0, 0.0, 0.0, *np.zeros((4, 0)))
    device = case.machine.devices[d]
    others = [other for e, other in enumerate(case.machine.devices) if e != d]
    home = max(
        case.expert_seconds(o, None, ubatch) - case.expert_seconds(o, device, ubatch)
        for o in layers
    )
    splits = []
    for count in range(1, max(len(layer.experts) for layer in layers)):
        own = [layer for layer in layers if len(layer.experts) > count]
        kept = [sum(o.experts[m] for m in kept_matrices(o, count)) for o in own]
        both = [(o, k / o.expert_bytes) for o, k in zip(own, kept, strict=True)]
        away = [split_saved_s(case, o, p, device, e, ubatch) for o, p in both for e in others]
        splits.append(
            (
                min(kept),
                min(o.expert_bytes - k for k, o in zip(kept, own, strict=True)),
                max(split_saved_s(case, o, part, device, None, ubatch) for o, part in both),
                max(away, default=0.0),
            )
        )
    columns = np.array(splits, dtype=np.float64).reshape(len(splits), 4).T
    size = float(min(layer.expert_bytes for layer in layers))
    return Pieces(size, home, home - 2 * HOP_S, *columns)


@dataclass(frozen=True, slots=True, eq=False)
class Prices:
    """What devices pay each other for the rests of split experts, and all for every expert.

    Attributes
    ----------
    rests
        ``(K - 1,)`` seconds for the rest of experts of which one, two, ... matrices stay.
    expert
        Seconds for the experts of a layer, of which there are only so many.
    """

    rests: FloatArray
    expert: float = 0.0


@dataclass(frozen=True, eq=False)
class Runs:
    """The runs of layers between two cuts, those of equal bytes and number together.

    Attributes
    ----------
    kind
        ``(blocks + 1, blocks + 1)`` the kind of each run, -1 where it ends before it begins.
    sizes, sparse
        Bytes, and number of layers with experts, of each kind.
    """

    kind: IntArray
    sizes: FloatArray
    sparse: IntArray

    @classmethod
    def of(cls, case: Case, ubatch: int) -> Runs:
        """Return the runs of a case."""
        flags = np.zeros(case.model.blocks, dtype=np.int64)
        flags[[layer.index for own in case.classes for layer in own]] = 1
        sums = np.concatenate([[0], np.cumsum(case.layer_bytes(ubatch))])
        before = np.concatenate([[0], np.cumsum(flags)])
        start, end = np.triu_indices(len(sums))
        pairs = np.stack([sums[end] - sums[start], before[end] - before[start]], axis=1)
        found, inverse = np.unique(pairs, axis=0, return_inverse=True)
        kind = np.full((len(sums), len(sums)), -1, dtype=np.int64)
        kind[start, end] = inverse.reshape(-1)
        return cls(kind, found[:, 0].astype(np.float64), found[:, 1])


@dataclass(frozen=True, eq=False)
class Contents:
    """What a device may hold beside every kind of run.

    Attributes
    ----------
    pieces
        What experts weigh and save.
    runs
        The runs.
    room
        Bytes for layers and experts.
    most
        Rests of others' splits that it may hold, all together.
    """

    pieces: Pieces
    runs: Runs
    room: float
    most: int

    @property
    def kinds(self) -> int:
        """How many numbers of matrices a split may keep."""
        return len(self.pieces.kept)

    @cached_property
    def key(self) -> tuple[float, ...]:
        """What tells it apart from those of other devices with the same runs."""
        own = self.pieces
        parts = np.concatenate([own.kept, own.rest, own.to_ram, own.to_device])
        return self.room, float(self.most), own.size, own.home, own.away, *parts.tolist()

    @cached_property
    def split(self) -> IntArray:
        """``(C,)`` the split of each content: none, 1 to K-1 for RAM, K on for a device."""
        return np.repeat(np.arange(1 + 2 * self.kinds), len(self._ways))

    @cached_property
    def rests(self) -> IntArray:
        """``(C, K - 1)`` rests of others' splits in each content."""
        return np.tile(self._ways, (1 + 2 * self.kinds, 1))

    @cached_property
    def _ways(self) -> IntArray:
        ways = product(range(self.most + 1), repeat=self.kinds)
        found = [own for own in ways if sum(own) <= self.most]
        return np.array(found, dtype=np.int64).reshape(len(found), self.kinds)

    @cached_property
    def sent(self) -> IntArray:
        """``(C, K - 1)`` rests that each content hands to another device."""
        found = self.split[:, None] == self.kinds + 1 + np.arange(self.kinds)
        return np.asarray(found, dtype=np.int64)

    @cached_property
    def _left(self) -> FloatArray:
        """``(C, R)`` bytes that splits, rests and layers leave."""
        own = self.pieces
        taken = self.rests @ own.rest + np.concatenate([[0.0], own.kept, own.kept])[self.split]
        left = self.room - taken[:, None] - self.runs.sizes[None, :]
        split = (self.split > 0)[:, None] & (self.runs.sparse == 0)[None, :]
        return np.where(split, -1.0, left)

    @cached_property
    def whole(self) -> IntArray:
        """``(C, R)`` experts of whole layers that have room, -1 where the content has none."""
        fits = np.floor(np.maximum(self._left, 0.0) / self.pieces.size + _ROUNDING)
        fits = np.minimum(fits, self.runs.sparse.max())
        return np.where(self._left >= 0, fits, -1).astype(np.int64)

    @cached_property
    def home(self) -> IntArray:
        """``(C, R)`` how many of them are those of the run's own layers, at most."""
        own = self.runs.sparse - (self.split > 0)[:, None]
        return np.where(self.pieces.home > 0, np.minimum(self.whole, own), 0)

    @cached_property
    def away(self) -> IntArray:
        """``(C, R)`` how many are those of other layers."""
        return np.where(self.pieces.away > 0, self.whole - self.home, 0)

    def saved(self, prices: Prices) -> FloatArray:
        """Return the ``(C, R)`` seconds that contents save at prices, ``-inf`` without room."""
        own = self.pieces
        splits = np.concatenate([[0.0], own.to_ram, own.to_device + prices.rests])
        fixed = splits[self.split] + self.rests @ (own.away - prices.expert - prices.rests)
        home, away = max(own.home - prices.expert, 0.0), max(own.away - prices.expert, 0.0)
        found: FloatArray = fixed[:, None] + home * self.home + away * self.away
        return np.where(self.whole >= 0, found, -np.inf)


def room_of(case: Case, variant: Variant, d: int) -> float:
    """Return the bytes that a device of a variant has for layers and experts; 0 when unused."""
    if d not in variant.devices:
        return 0.0
    room = case.usable_bytes(d) - case.compute_bytes(variant, d)
    return float(room - case.model.output_bytes * (d == variant.devices[-1]))
