"""The weights of a plan's experts in the memories where the plan puts them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from moe2opt.executor.faults import explained
from moe2opt.executor.model.experts import PARTS, ExpertSource
from moe2opt.executor.store.bank import Bank, Buffer, Bytes, Key, Span, blocks
from moe2opt.executor.store.formats import Format, Packed, from_bytes, pack, to_bytes
from moe2opt.executor.store.layout import Layout

if TYPE_CHECKING:
    from torch import Tensor

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


class Desk:
    """Memory in which integer formats are unpacked, one matrix after the other.

    It is kept from call to call: fresh memory of this size would cost more than the unpacking.
    """

    def __init__(self) -> None:
        self._wide: Any = None
        self._narrow: Any = None

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(t.nbytes for t in (self._wide, self._narrow) if t is not None)

    def unpacked(self, packed: Packed) -> Tensor:
        """Return a matrix in fp32, valid until the next call; equal to `dequantise`."""
        import torch

        assert packed.scales is not None
        rows, columns = packed.shape
        group = packed.format.group or columns
        wide = self._room(rows * columns, packed.data).view(rows, columns // group, group)
        if packed.format.bits == 4:
            pairs = packed.data.view(rows, columns // group, group // 2)
            half = self._narrow[: pairs.numel()].view(pairs.shape)
            torch.bitwise_and(pairs, 15, out=half)
            wide[:, :, : group // 2].copy_(half)
            torch.bitwise_right_shift(pairs, 4, out=half)
            wide[:, :, group // 2 :].copy_(half)
            wide.sub_(8)
        else:
            wide.copy_(packed.data.view(rows, columns // group, group))
        wide.mul_(packed.scales.to(torch.float32)[:, :, None])
        return wide.view(rows, columns)

    def _room(self, size: int, like: Tensor) -> Tensor:
        import torch

        if self._wide is None or self._wide.numel() < size:
            self._wide = torch.empty(size, dtype=torch.float32, device=like.device)
        if like.dtype == torch.uint8 and (self._narrow is None or self._narrow.numel() < size // 2):
            self._narrow = torch.empty(size // 2, dtype=torch.uint8, device=like.device)
        room: Tensor = self._wide[:size]
        return room


def run_expert(matrices: Matrices, hidden: Tensor, desk: Desk) -> Tensor:
    """Return an expert's output: integer formats compute in fp32, the others in their own type."""
    from torch.nn.functional import linear, silu

    first = next(iter(matrices.values())).data
    x = hidden.to(first.device)

    def times(name: str, inputs: Tensor) -> Tensor:
        packed = matrices[name]
        matrix = packed.data if packed.scales is None else desk.unpacked(packed)
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
    import torch

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
        self._arenas = {t: _arena(self._total(t), kind) for t, kind in enumerate(layout.kinds)}
        self._ends = dict.fromkeys(self._arenas, 0)
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
        import torch

        self.bank.read(piece.span, self._staging)
        room.content[:size].copy_(torch.from_numpy(self._staging.bytes[:size]))
        return size

    def _total(self, tier: int) -> int:
        """Return the bytes of memory that a tier takes."""
        if self.layout.kinds[tier] not in ("dram", "cuda"):
            return 0
        here = self.layout.stored[:, :, None] & (self.layout.tier == tier)
        found = np.argwhere(here)
        sizes = (self.shapes.size(int(self.layout.precision[r, e, p]), p) for r, e, p in found)
        return sum(-(-size // _ALIGN) * _ALIGN for size in sizes)

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
            yield self._put(tier, key, content)

    def _put(self, tier: int, key: Key, content: Bytes) -> Piece:
        import torch

        _, _, precision, part = key
        kind = self.layout.kinds[tier]
        if kind in ("dram", "cuda"):
            start = self._ends[tier]
            self._ends[tier] += -(-len(content) // _ALIGN) * _ALIGN
            own = self._arenas[tier][start : start + len(content)]
            own.copy_(torch.from_numpy(content))
            return Piece(tier, precision, part, own, None)
        span = self.bank.spans.get(key) or self.bank.put(key, content)
        return Piece(tier, precision, part, None, span)

    def mapped(self, piece: Piece) -> Tensor:
        """Return the content of a piece on an mmap tier."""
        import torch

        assert piece.span is not None
        return torch.from_numpy(self.bank.mapped(piece.span))


def _arena(size: int, kind: str) -> Any:
    """Return ``(size,)`` uint8 of memory that goes back to the system when it is not needed."""
    import torch

    if kind == "cuda":
        with explained(f"cannot take {size / 2**20:.0f} MiB on the CUDA device"):
            return torch.empty(size, dtype=torch.uint8, device="cuda")
    return torch.from_numpy(Buffer(size).bytes) if size else torch.empty(0, dtype=torch.uint8)
