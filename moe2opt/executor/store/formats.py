"""Weight formats for real: packing matrices to fewer bits, group by group, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from moe2opt.result import InputError

#: Bits of a group's scale (fp16).
SCALE_BITS = 16

_BITS = {"fp32": 32, "fp16": 16, "bf16": 16, "int8": 8, "int4": 4}


@dataclass(frozen=True, slots=True)
class Format:
    """A weight format.

    Attributes
    ----------
    name
        ``fp32``, ``fp16``, ``bf16``, ``int8`` or ``int4``.
    group
        Neighbouring weights of a row that share a scale; None for the whole row, or no scales.
    """

    name: str
    group: int | None = None

    @property
    def bits(self) -> int:
        """Bits of a weight, scales left out."""
        return _BITS[self.name]

    @property
    def grouped(self) -> bool:
        """Whether there are scales."""
        return self.bits <= 8

    def row_bytes(self, columns: int) -> int:
        """Return the bytes of a row of `columns` weights, scales included."""
        scales = columns // (self.group or columns) if self.grouped else 0
        return columns * self.bits // 8 + scales * SCALE_BITS // 8

    def bytes_of(self, shape: tuple[int, int]) -> int:
        """Return the bytes of a matrix."""
        return shape[0] * self.row_bytes(shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """A matrix in a weight format.

    Attributes
    ----------
    data
        ``(rows, columns)`` numbers; int4 holds two in a byte, ``(rows, columns / 2)`` uint8.
    scales
        ``(rows, groups)`` fp16, None without.
    shape
        Rows and columns.
    format
        How it is packed.
    """

    data: Tensor
    scales: Tensor | None
    shape: tuple[int, int]
    format: Format

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        scales = 0 if self.scales is None else self.scales.nbytes
        return int(self.data.nbytes + scales)


def format_of(name: str, bits_per_weight: float) -> Format:
    """Return the format that a plan's precision stands for.

    The size of the groups follows from the effective bits: 16 bits of scale per group, so 4.5 bits
    of int4 are groups of 32. Without a surplus (exactly 4 or 8 bits) each row has one scale, whose
    bytes the plan does not count.

    Raises
    ------
    InputError
        For an unknown name, or effective bits that no size of groups has.
    """
    if name not in _BITS:
        raise InputError(f"precision '{name}': the executor packs {', '.join(_BITS)}")
    bits = _BITS[name]
    surplus = bits_per_weight - bits
    if surplus == 0:
        return Format(name)
    group = round(SCALE_BITS / surplus) if surplus > 0 else 0
    if bits > 8 or group < 2 or abs(SCALE_BITS / group - surplus) > 1e-6:
        raise InputError(
            f"precision '{name}': {bits_per_weight:g} bits per weight are not {bits} bits"
            + ("" if bits > 8 else f" and a scale of {SCALE_BITS} bits per group")
        )
    return Format(name, group)


def pack(tensor: Tensor, form: Format) -> Packed:
    """Return a ``(rows, columns)`` matrix in a format, integers with one fp16 scale per group.

    Each group's entry of largest magnitude takes the lowest level (-128 or -8), so that all levels
    are in use; the others are rounded to the nearest one.

    Raises
    ------
    InputError
        For columns that the group does not divide.
    """
    rows, columns = tensor.shape
    if not form.grouped:
        return Packed(tensor.to(_dtype(form)), None, (rows, columns), form)
    group = form.group or columns
    if columns % group or (form.bits == 4 and group % 2):
        raise InputError(f"quantise: groups of {group} do not divide rows of {columns} weights")
    grouped = tensor.to(torch.float32).reshape(rows, columns // group, group)
    largest = grouped.gather(2, grouped.abs().argmax(dim=2, keepdim=True))
    lowest = 2 ** (form.bits - 1)
    scales = (largest / -lowest).to(torch.float16)
    # Scales below the least fp16 number vanish: such groups become zero.
    wide = scales.float()
    levels = (grouped / wide.where(wide != 0, 1)).round().clamp(-lowest, lowest - 1)
    levels = levels.where(wide != 0, 0)
    if form.bits == 8:
        data = levels.to(torch.int8)
    else:  # two levels in each byte: the first half of a group in the low bits
        low, high = (levels + 8).to(torch.uint8).chunk(2, dim=2)
        data = low | (high << 4)
    return Packed(data.reshape(rows, -1), scales.squeeze(2), (rows, columns), form)


class Desk:
    """Memory in which integer formats are unpacked, one matrix after the other.

    It is kept from call to call: fresh memory of this size would cost more than the unpacking.
    """

    def __init__(self) -> None:
        self._wide = torch.empty(0)
        self._narrow = torch.empty(0, dtype=torch.uint8)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        held: int = self._wide.nbytes + self._narrow.nbytes
        return held

    def unpacked(self, packed: Packed) -> Tensor:
        """Return a matrix to compute with: integers in fp32, valid until the next call."""
        if packed.scales is None:
            return packed.data
        rows, columns = packed.shape
        group = packed.format.group or columns
        if self._wide.numel() < rows * columns:
            self._wide = torch.empty(rows * columns, device=packed.data.device)
        wide = self._wide[: rows * columns].view(rows, columns // group, group)
        if packed.format.bits == 4:
            pairs = packed.data.view(rows, columns // group, group // 2)
            if self._narrow.numel() < pairs.numel():
                self._narrow = torch.empty_like(pairs.flatten())
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


def to_bytes(packed: Packed) -> Tensor:
    """Return the content as one vector of uint8: data, then scales."""
    parts = [packed.data] if packed.scales is None else [packed.data, packed.scales]
    return torch.cat([part.contiguous().view(-1).view(torch.uint8) for part in parts])


def from_bytes(content: Tensor, shape: tuple[int, int], form: Format) -> Packed:
    """Rebuild from `to_bytes` without copying; `content` is a vector of uint8.

    Raises
    ------
    InputError
        When the number of bytes is not that of the shape and format.
    """
    if content.numel() != form.bytes_of(shape):
        raise InputError(
            f"a matrix {shape} in {form.name} has {form.bytes_of(shape)} bytes, "
            f"got {content.numel()}"
        )
    end = shape[0] * shape[1] * form.bits // 8
    data = content[:end].view(_dtype(form)).view(shape[0], -1)
    scales = content[end:].view(torch.float16).view(shape[0], -1) if form.grouped else None
    return Packed(data, scales, shape, form)


def _dtype(form: Format) -> Any:
    names = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    return names.get(form.name, torch.int8 if form.bits == 8 else torch.uint8)
