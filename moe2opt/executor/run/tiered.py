"""Runs the chosen experts from the memories where a plan puts them, and notes what it costs."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from moe2opt.executor.run.prefetch import Prefetcher
from moe2opt.executor.run.slots import Policy, SlotCache
from moe2opt.executor.store.store import Desk, Matrices, Piece, Room, Store, rooms, run_expert

if TYPE_CHECKING:
    from torch import Tensor

_clock = time.perf_counter

#: Predicts the experts of a layer, best first, from the ``(1, d)`` input of the layer before.
Predict = Callable[[int, "Tensor"], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Served:
    """One use of an expert.

    Attributes
    ----------
    token, row, expert
        Which token since the start, which layer with experts, which stored expert.
    tier, precision
        Of its first part.
    hit
        Whether its weights were where they are computed.
    moved_bytes
        Bytes copied for it, early copies included.
    early
        Whether the copy had been asked for before the layer began.
    move_s, compute_s
        Seconds until its weights were there, and of computing.
    """

    token: int
    row: int
    expert: int
    tier: int
    precision: int
    hit: bool
    moved_bytes: int
    early: bool
    move_s: float
    compute_s: float


@dataclass(slots=True)
class Notes:
    """What was served, in order.

    Attributes
    ----------
    token
        Number of the present token.
    served
        Uses so far.
    """

    token: int = 0
    served: list[Served] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Found:
    """An expert where it computes, and what it took to get it there."""

    matrices: Matrices
    hit: bool
    moved_bytes: int = 0
    early: bool = False


class TieredExperts:
    """Experts by the plan: satisfies `moe2opt.executor.model.experts.Experts`.

    Parameters
    ----------
    store
        Weights where the plan puts them.
    policy, pinned
        Policy of the cache slots, and ``pinned(row)`` experts that are there from the start.
    predict
        Predictor of the next layer's experts; None without prefetching.
    top_k
        Experts of a token, whose copies may be needed at the same time when prefetching.

    Attributes
    ----------
    notes
        What was served.
    """

    def __init__(
        self,
        store: Store,
        policy: Policy = "lru",
        pinned: Callable[[int], Sequence[int]] | None = None,
        predict: Predict | None = None,
        top_k: int = 1,
    ) -> None:
        layout = store.layout
        self.store, self.layout, self.notes = store, layout, Notes()
        self._row = {layer: row for row, layer in enumerate(layout.layers)}
        self._serving: list[list[int]] = layout.representative.tolist()
        self._cuda = "cuda" in layout.kinds
        self._ready: dict[tuple[int, int], _Found] = {}
        self._caches: list[tuple[SlotCache, list[Room]]] = []
        if layout.slots is not None:
            self._caches = [
                self._cache(row, int(slots), policy, pinned)
                for row, slots in enumerate(layout.slots)
            ]
        self._predict = predict
        self._borrowed: list[Room] = []
        self._desk = Desk()
        self._views: dict[tuple[Room, int, int], Matrices] = {}
        self._mapped: dict[Piece, Room] = {}
        self._early: Prefetcher[Piece, Room] | None = None
        turns = 1 if predict is None else min(top_k, layout.tier.shape[1])
        self._passing = [list(self._rooms(store.shapes.parts)) for _ in range(turns)]
        self._early_rooms: list[Room] = []
        if predict is not None:
            self._early_rooms = list(self._rooms(2 * turns * store.shapes.parts))
            self._early = Prefetcher(store.fetch, self._early_rooms)

    @property
    def slot_bytes(self) -> int:
        """Bytes of the cache slots."""
        return sum(room.content.numel() for _, places in self._caches for room in places)

    @property
    def passing_bytes(self) -> int:
        """Bytes of the buffers that copies pass through and formats are unpacked in."""
        rooms = (*itertools.chain(*self._passing), *self._early_rooms)
        return int(self._desk.nbytes + sum(r.content.numel() for r in rooms))

    @property
    def wasted_bytes(self) -> int:
        """Bytes of early copies that nobody used."""
        return 0 if self._early is None else self._early.wasted_bytes

    def start_sequence(self) -> None:
        """Forget what the caches hold, as at the start of every sequence."""
        for cache, _ in self._caches:
            cache.clear()

    def apply(self, layer: int, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Return the weighted sum of the chosen experts' outputs, see `Experts`."""
        import torch

        row = self._row[layer]
        total = torch.zeros_like(hidden)
        for token in range(hidden.shape[0]):
            x = hidden[token : token + 1]
            shares = self._shares(row, chosen[token].tolist(), weights[token].tolist())
            total[token : token + 1] = self._one(row, x, shares)
        return total

    def _shares(
        self, row: int, chosen: Sequence[int], weights: Sequence[float]
    ) -> dict[int, float]:
        """Return the weight of each expert that serves; one may stand for several chosen ones."""
        serving, shares = self._serving[row], dict[int, float]()
        for expert, weight in zip(chosen, weights, strict=True):
            own = serving[expert]
            shares[own] = shares.get(own, 0.0) + weight
        return shares

    def _one(self, row: int, hidden: Tensor, shares: dict[int, float]) -> Tensor:
        import torch

        if self._early is not None:
            return self._one_ahead(row, hidden, shares, self._early)
        total = torch.zeros_like(hidden)
        start = _clock()
        for expert, found in self._served(row, list(shares)):
            middle = _clock()
            out = self._run(found.matrices, hidden) * shares[expert]
            total += out
            end = _clock()
            self._note(row, expert, found, middle - start, end - middle)
            start = end
        return total

    def _one_ahead(
        self,
        row: int,
        hidden: Tensor,
        shares: dict[int, float],
        early: Prefetcher[Piece, Room],
    ) -> Tensor:
        """Gather what this layer needs, ask for what the next one will need, then compute."""
        import torch

        ready, times = list[_Found](), list[float]()
        for expert in shares:
            start = _clock()
            ready.append(self._placed(row, expert, len(ready)))
            times.append(_clock() - start)
        early.abandon_rest()
        self._look_ahead(row + 1, hidden, early)
        total = torch.zeros_like(hidden)
        for expert, found, waited in zip(shares, ready, times, strict=True):
            start = _clock()
            out = self._run(found.matrices, hidden) * shares[expert]
            total += out
            self._note(row, expert, found, waited, _clock() - start)
        for room in self._borrowed:
            early.release(room)
        self._borrowed.clear()
        return total

    def _run(self, matrices: Matrices, hidden: Tensor) -> Tensor:
        out = run_expert(matrices, hidden, self._desk)
        if self._cuda:
            _wait()
        return out

    def _note(self, row: int, expert: int, found: _Found, move_s: float, compute_s: float) -> None:
        first = self.store.pieces(row, expert)[0]
        where = (row, expert, first.tier, first.precision)
        what = (found.hit, found.moved_bytes, found.early)
        self.notes.served.append(Served(self.notes.token, *where, *what, move_s, compute_s))

    def _served(self, row: int, experts: list[int]) -> Iterator[tuple[int, _Found]]:
        """Yield each expert with its matrices; hits before misses, which may take their slots."""
        if not self._caches:
            for expert in experts:
                yield expert, self._placed(row, expert)
            return
        cache, places = self._caches[row]
        found = cache.look_up(experts)
        for expert, slot in found.hits:
            piece = self.store.pieces(row, expert)[0]
            yield expert, _Found(self._matrices(piece, places[slot]), True)
        for expert, place in found.misses:
            piece = self.store.pieces(row, expert)[0]
            room = self._passing[0][0] if place is None else places[place]
            moved = self.store.fetch(piece, room)
            yield expert, _Found(self._matrices(piece, room), False, moved)

    def _placed(self, row: int, expert: int, turn: int = 0) -> _Found:
        """Return an expert that has a fixed place, copied where it computes."""
        if (row, expert) in self._ready:
            return self._ready[row, expert]
        found: dict[str, Any] = {}
        moved, early = 0, False
        for piece in self.store.pieces(row, expert):
            matrices, moved_now, early_now = self._piece(piece, turn)
            moved, early = moved + moved_now, early or early_now
            found |= matrices
        ready = _Found(found, not moved, moved, early)
        if not moved:
            self._ready[row, expert] = ready
        return ready

    def _piece(self, piece: Piece, turn: int) -> tuple[Matrices, int, bool]:
        """Return the matrices of a piece, the bytes moved, and whether that began early."""
        if not self.layout.moved[piece.tier, piece.precision]:
            assert piece.content is not None
            return self._matrices(piece, Room(piece.content, None)), 0, False
        if self.layout.kinds[piece.tier] == "mmap":
            if piece not in self._mapped:
                self._mapped[piece] = Room(self.store.mapped(piece), None)
            size = self.store.shapes.size(piece.precision, piece.part)
            return self._matrices(piece, self._mapped[piece]), size, False
        taken = None if self._early is None else self._early.take(piece)
        if taken is not None:
            self._borrowed.append(taken[0])
            return self._matrices(piece, taken[0]), taken[1], True
        room = self._passing[turn][piece.part]
        return self._matrices(piece, room), self.store.fetch(piece, room), False

    def _matrices(self, piece: Piece, room: Room) -> Matrices:
        """Return a piece in `room` as matrices; views of the same memory are made once."""
        key = (room, piece.precision, piece.part)
        if key not in self._views:
            size = self.store.shapes.size(piece.precision, piece.part)
            self._views[key] = self.store.shapes.matrices(
                room.content[:size], piece.precision, piece.part
            )
        return self._views[key]

    def _look_ahead(self, row: int, hidden: Tensor, early: Prefetcher[Piece, Room]) -> None:
        """Ask for the experts that the next layer will probably use."""
        if row >= len(self._serving) or self._predict is None:
            return
        for expert in self._predict(row, hidden):
            own = self._serving[row][expert]
            if not self.layout.dropped[row, own]:
                for piece in self.store.pieces(row, own):
                    if self.layout.moved[piece.tier, piece.precision] and piece.span is not None:
                        early.want(piece)

    def _cache(
        self,
        row: int,
        slots: int,
        policy: Policy,
        pinned: Callable[[int], Sequence[int]] | None,
    ) -> tuple[SlotCache, list[Room]]:
        """Return the cache of a layer; pinned experts are copied in now."""
        fixed = list(pinned(row))[:slots] if policy == "pinned" and pinned is not None else []
        places = list(self._rooms(slots))
        for slot, expert in enumerate(fixed):
            self.store.fetch(self.store.pieces(row, expert)[0], places[slot])
        return SlotCache(slots, policy, fixed), places

    def _rooms(self, number: int) -> Iterator[Room]:
        """Return memory on the home tier for a number of pieces."""
        cuda = self.layout.kinds[self.layout.home] == "cuda"
        return rooms(number, self._most(), "cuda" if cuda else "cpu")

    def _most(self) -> int:
        """Return the bytes of the largest piece that the plan uses."""
        used = {
            (int(self.layout.precision[index]), index[2])
            for index in zip(*(self.layout.tier >= 0).nonzero(), strict=True)
        }
        return max(self.store.shapes.size(q, p) for q, p in used)

    def close(self) -> None:
        """End the thread of early copies."""
        if self._early is not None:
            self._early.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _wait() -> None:
    import torch

    torch.cuda.synchronize()
