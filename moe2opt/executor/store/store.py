"""The weights of a plan's experts in the memories where the plan puts them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear, silu

from moe2opt.executor.faults import explained
from moe2opt.executor.model.experts import PARTS, ExpertSource
from moe2opt.executor.store.bank import Bank, Buffer, Bytes, Key, Span, blocks
from moe2opt.executor.store.formats import Desk, Format, Packed, from_bytes, pack, to_bytes
from moe2opt.executor.store.layout import Layout

#: Places of pieces in memory are multiples of it.
_ALIGN = 64

Matrices = Mapping[str, Packed]


@dataclass(frozen=True, slots=True)
class Shapes:
    """How an expert becomes bytes.

    Attributes
    ----------
    formats
        The Q weight formats.
    hidden, width
        d and f: gate and up are (f, d), down is (d, f).
    parts
        1 when an expert is one piece, 3 when its matrices are placed apart.
    """

    formats: tuple[Format, ...]
    hidden: int
    width: int
    parts: int = 1

    def names(self, part: int) -> tuple[str, ...]:
        """Return the matrices in a piece."""
        return PARTS if self.parts == 1 else (PARTS[part],)

    def shape(self, name: str) -> tuple[int, int]:
        """Return rows and columns of a matrix."""
        return (self.hidden, self.width) if name == "down" else (self.width, self.hidden)

    def size(self, precision: int, part: int) -> int:
        """Return the bytes of a piece."""
        form = self.formats[precision]
        return sum(form.bytes_of(self.shape(name)) for name in self.names(part))

    def packed(self, weights: Mapping[str, Tensor], precision: int, part: int) -> Bytes:
        """Return the bytes of a piece."""
        form = self.formats[precision]
        parts = [to_bytes(pack(weights[name], form)).numpy() for name in self.names(part)]
        whole: Bytes = np.concatenate(parts)
        return whole

    def matrices(self, content: Tensor, precision: int, part: int) -> dict[str, Packed]:
        """Return the matrices in the bytes of a piece, without copying."""
        form, start, found = self.formats[precision], 0, {}
        for name in self.names(part):
            end = start + form.bytes_of(self.shape(name))
            found[name] = from_bytes(content[start:end], self.shape(name), form)
            start = end
        return found


def run_expert(matrices: Matrices, hidden: Tensor, desk: Desk) -> Tensor:
    """Return an expert's output: integer formats compute in fp32, the others in their own type."""
    first = next(iter(matrices.values())).data
    x = hidden.to(first.device)

    def times(name: str, inputs: Tensor) -> Tensor:
        matrix = desk.unpacked(matrices[name])
        return linear(inputs.to(matrix.dtype), matrix)

    inner = silu(times("gate", x)) * times("up", x)
    return times("down", inner).to(device=hidden.device, dtype=hidden.dtype)


@dataclass(frozen=True, slots=True, eq=False)
class Room:
    """Memory that one piece of any format fits in.

    Attributes
    ----------
    content
        ``(n,)`` uint8, on the device that computes.
    buffer, at
        Page-aligned memory behind it that a disk can read into, and the place there; None on
        another device.
    """

    content: Tensor
    buffer: Buffer | None
    at: int = 0


def rooms(number: int, size: int, device: str = "cpu") -> Iterator[Room]:
    """Yield memory for `number` pieces of at most `size` bytes."""
    step = blocks(size)
    if not number:
        return
    if device != "cpu":
        for _ in range(number):
            yield Room(torch.empty(step, dtype=torch.uint8, device=device), None)
        return
    buffer = Buffer(number * step)
    whole = torch.from_numpy(buffer.bytes)
    for k in range(number):
        yield Room(whole[k * step : (k + 1) * step], buffer, k * step)


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A piece where the plan puts it.

    Attributes
    ----------
    tier, precision, part
        As in the plan.
    content
        Its bytes in memory, None on a disk.
    span
        Its place in the bank, None in memory.
    """

    tier: int
    precision: int
    part: int
    content: Tensor | None
    span: Span | None


class Store:
    """Every stored expert of a plan.

    Parameters
    ----------
    layout, shapes
        Where pieces go, and how they become bytes.
    source
        Weights, called with layer number and expert.
    bank
        File behind disk tiers; pieces that it already holds are not written again.

    Attributes
    ----------
    held_bytes
        ``(T,)`` bytes of content by tier.
    """

    def __init__(self, layout: Layout, shapes: Shapes, source: ExpertSource, bank: Bank) -> None:
        self.layout, self.shapes, self.bank = layout, shapes, bank
        self.held_bytes = np.zeros(len(layout.kinds), dtype=np.int64)
        self._pieces: dict[tuple[int, int], tuple[Piece, ...]] = {}
        self._staging = Buffer(max(shapes.size(q, 0) for q in range(len(shapes.formats))))
        self._arenas = [self._arena(t) for t in range(len(layout.kinds))]
        self._ends = [0] * len(layout.kinds)
        for row, expert in np.argwhere(layout.stored).tolist():
            self._pieces[row, expert] = tuple(self._placed(row, expert, source))
        bank.settle()

    def pieces(self, row: int, expert: int) -> tuple[Piece, ...]:
        """Return the pieces of a stored expert."""
        return self._pieces[row, expert]

    def fetch(self, piece: Piece, room: Room) -> int:
        """Copy a piece into `room` and return its bytes (a disk reads whole blocks of them)."""
        size = self.shapes.size(piece.precision, piece.part)
        if piece.content is not None:
            room.content[:size].copy_(piece.content)
            return size
        assert piece.span is not None
        if room.buffer is not None:
            self.bank.read(piece.span, room.buffer, room.at)
            return size
        self.bank.read(piece.span, self._staging)
        room.content[:size].copy_(torch.from_numpy(self._staging.bytes[:size]))
        return size

    def _arena(self, tier: int) -> Tensor:
        """Return memory for all pieces of a tier, given back to the system when not needed."""
        layout, kind = self.layout, self.layout.kinds[tier]
        here = np.argwhere(layout.stored[:, :, None] & (layout.tier == tier))
        if kind not in ("dram", "cuda") or not len(here):
            return torch.empty(0, dtype=torch.uint8)
        sizes = (self.shapes.size(int(layout.precision[r, e, p]), p) for r, e, p in here)
        total = sum(-(-size // _ALIGN) * _ALIGN for size in sizes)
        if kind == "cuda":
            with explained(f"cannot take {total / 2**20:.0f} MiB on the CUDA device"):
                return torch.empty(total, dtype=torch.uint8, device="cuda")
        return torch.from_numpy(Buffer(total).bytes)

    def _placed(self, row: int, expert: int, source: ExpertSource) -> Iterator[Piece]:
        weights: Mapping[str, Tensor] | None = None
        for part in range(self.shapes.parts):
            tier = int(self.layout.tier[row, expert, part])
            precision = int(self.layout.precision[row, expert, part])
            key: Key = (row, expert, precision, part)
            size = self.shapes.size(precision, part)
            self.held_bytes[tier] += size
            if key not in self.bank.spans:
                weights = weights or source.expert_weights(self.layout.layers[row], expert)
                content = self.shapes.packed(weights, precision, part)
            else:
                self.bank.read(self.bank.spans[key], self._staging)
                content = self._staging.bytes[:size]
            if self.layout.kinds[tier] in ("dram", "cuda"):
                start = self._ends[tier]
                self._ends[tier] += -(-size // _ALIGN) * _ALIGN
                own = self._arenas[tier][start : start + size]
                own.copy_(torch.from_numpy(content))
                yield Piece(tier, precision, part, own, None)
            else:
                span = self.bank.spans.get(key) or self.bank.put(key, content)
                yield Piece(tier, precision, part, None, span)

    def mapped(self, piece: Piece) -> Tensor:
        """Return the content of a piece on an mmap tier."""
        assert piece.span is not None
        return torch.from_numpy(self.bank.mapped(piece.span))
