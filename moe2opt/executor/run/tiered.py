"""Runs the chosen experts from the memories where a plan puts them, and notes what it costs."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from moe2opt.executor.run.prefetch import Prefetcher
from moe2opt.executor.run.record import Served
from moe2opt.executor.run.slots import Policy, SlotCache
from moe2opt.executor.store.formats import Desk, Packed
from moe2opt.executor.store.store import Matrices, Piece, Room, Store, rooms, run_expert

_clock = time.perf_counter

#: Predicts the experts of a layer, best first, from the ``(1, d)`` input of the layer before.
Predict = Callable[[int, Tensor], Sequence[int]]


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
    token
        Number of the present token, set by the caller.
    served
        Uses so far, in order.
    """

    def __init__(
        self,
        store: Store,
        policy: Policy = "lru",
        pinned: Callable[[int], Sequence[int]] | None = None,
        predict: Predict | None = None,
        top_k: int = 1,
    ) -> None:
        layout, parts = store.layout, store.shapes.parts
        self.store, self.layout = store, layout
        self.token, self.served = 0, list[Served]()
        self._row = {layer: row for row, layer in enumerate(layout.layers)}
        self._serving: list[list[int]] = layout.representative.tolist()
        self._cuda = "cuda" in layout.kinds
        self._ready: dict[tuple[int, int], _Found] = {}
        self._views: dict[tuple[Room, int, int], Matrices] = {}
        self._mapped: dict[Piece, Room] = {}
        self._desk = Desk()
        self._caches: list[tuple[SlotCache, list[Room]]] = []
        for row, slots in enumerate(() if layout.slots is None else layout.slots.tolist()):
            fixed = list(pinned(row))[:slots] if policy == "pinned" and pinned is not None else []
            places = list(self._rooms(slots))
            for slot, expert in enumerate(fixed):
                store.fetch(store.pieces(row, expert)[0], places[slot])
            self._caches.append((SlotCache(slots, policy, fixed), places))
        self._predict = predict
        turns = 1 if predict is None else min(top_k, layout.tier.shape[1])
        self._passing = [list(self._rooms(parts)) for _ in range(turns)]
        self._early_rooms = list(self._rooms(2 * turns * parts)) if predict is not None else []
        self._early = Prefetcher(store.fetch, self._early_rooms) if predict is not None else None
        self._borrowed: list[Room] = []

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
        row = self._row[layer]
        one = self._one if self._early is None else self._one_ahead
        total = torch.zeros_like(hidden)
        for token in range(hidden.shape[0]):
            # One expert may serve for several chosen ones.
            shares = dict[int, float]()
            for expert, weight in zip(chosen[token].tolist(), weights[token].tolist(), strict=True):
                own = self._serving[row][expert]
                shares[own] = shares.get(own, 0.0) + weight
            total[token : token + 1] = one(row, hidden[token : token + 1], shares)
        return total

    def _one(self, row: int, hidden: Tensor, shares: dict[int, float]) -> Tensor:
        """Bring and compute one expert after the other."""
        total = torch.zeros_like(hidden)
        start = _clock()
        for expert, found in self._brought(row, list(shares)):
            middle = _clock()
            total += self._run(found.matrices, hidden) * shares[expert]
            end = _clock()
            self._note(row, expert, found, middle - start, end - middle)
            start = end
        return total

    def _one_ahead(self, row: int, hidden: Tensor, shares: dict[int, float]) -> Tensor:
        """Gather what this layer needs, ask for what the next one will need, then compute."""
        assert self._early is not None
        ready, times = list[_Found](), list[float]()
        for expert in shares:
            start = _clock()
            ready.append(self._placed(row, expert, len(ready)))
            times.append(_clock() - start)
        self._early.abandon_rest()
        self._look_ahead(row + 1, hidden, self._early)
        total = torch.zeros_like(hidden)
        for expert, found, waited in zip(shares, ready, times, strict=True):
            start = _clock()
            total += self._run(found.matrices, hidden) * shares[expert]
            self._note(row, expert, found, waited, _clock() - start)
        while self._borrowed:
            self._early.release(self._borrowed.pop())
        return total

    def _run(self, matrices: Matrices, hidden: Tensor) -> Tensor:
        out = run_expert(matrices, hidden, self._desk)
        if self._cuda:
            torch.cuda.synchronize()
        return out

    def _note(self, row: int, expert: int, found: _Found, move_s: float, compute_s: float) -> None:
        first = self.store.pieces(row, expert)[0]
        where = (row, expert, first.tier, first.precision)
        what = (found.hit, found.moved_bytes, found.early)
        self.served.append(Served(self.token, *where, *what, move_s, compute_s))

    def _brought(self, row: int, experts: list[int]) -> Iterator[tuple[int, _Found]]:
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
        found: dict[str, Packed] = {}
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

    def _rooms(self, number: int) -> Iterator[Room]:
        """Return memory on the home tier for a number of pieces, each of the largest size used."""
        layout = self.layout
        used = {
            (int(layout.precision[index]), index[2])
            for index in zip(*(layout.tier >= 0).nonzero(), strict=True)
        }
        most = max(self.store.shapes.size(q, p) for q, p in used)
        return rooms(number, most, "cuda" if layout.kinds[layout.home] == "cuda" else "cpu")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the thread of early copies."""
        if self._early is not None:
            self._early.__exit__()
