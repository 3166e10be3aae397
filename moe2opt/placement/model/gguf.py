"""Headers of GGUF files, read with a bound on everything that they claim.

Only what stands before the weights is read (docs/gguf.md of ggml, versions 2 and 3): keys with
their values, and name, shape, type and place of every tensor. Arrays are passed over. Sizes of the
types come from the library ``gguf``.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from moe2opt.errors import InputError
from moe2opt.files import open_regular

#: What a header may claim at most.
_MOST_TENSORS, _MOST_KEYS, _MOST_DIMENSIONS = 2**20, 2**16, 8
_LONGEST_NAME, _LONGEST_TEXT, _MOST_HEADER = 2**10, 2**20, 2**28

#: Format and size of the scalar types by their number; 8 is text, 9 an array.
_SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_TEXT, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the file: name, number of weights, and bytes that it takes."""

    name: str
    weights: int
    size: int


@dataclass(frozen=True, slots=True)
class Header:
    """Values by key, arrays left out, and the tensors."""

    fields: Mapping[str, Any]
    tensors: tuple[Tensor, ...]


def read_header(path: Path) -> Header:
    """Read the header of a GGUF file.

    Raises
    ------
    InputError
        When it is no GGUF file, is cut off, or claims what cannot be; when ``gguf`` is missing.
    """
    try:
        from gguf import GGML_QUANT_SIZES
    except ImportError as error:
        raise InputError("needs the package gguf: pip install gguf") from error
    sizes = {int(kind): own for kind, own in GGML_QUANT_SIZES.items()}
    with open_regular(path) as stream:
        if stream.read(4) != b"GGUF":
            raise InputError(f"{path.name} is not a GGUF file")
        try:
            return _Reader(stream).header(sizes)
        except (OSError, ValueError, struct.error) as error:
            raise InputError(f"{path.name} is truncated or damaged ({error})") from error


class _Reader:
    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.size = os.fstat(stream.fileno()).st_size
        self.order = "<"

    def header(self, sizes: Mapping[int, tuple[int, int]]) -> Header:
        """Read everything that follows the first four bytes."""
        version = self._one("I")
        if version & 0xFFFF == 0:  # written on a machine of the other byte order
            self.order = ">"
            version = int.from_bytes(version.to_bytes(4, "little"), "big")
        if version not in (2, 3):
            raise ValueError(f"version {version} is not known")
        count = self._bounded("tensors", self._one("Q"), _MOST_TENSORS)
        keys = self._bounded("keys", self._one("Q"), _MOST_KEYS)
        fields: dict[str, Any] = {}
        for _ in range(keys):
            name = self._text(_LONGEST_NAME)
            if name in fields:
                raise ValueError(f"the key {name!r:.80} appears twice")
            fields[name] = self._value(self._one("I"))
        listed = [self._tensor(sizes) for _ in range(count)]
        names = {tensor.name for tensor, _ in listed}
        if len(names) < count:
            raise ValueError("two tensors have one name")
        align = fields.get("general.alignment", 32)
        if not isinstance(align, int) or not 1 <= align <= 2**20:
            raise ValueError(f"general.alignment is {align!r:.20}")
        start = -(-self.stream.tell() // align) * align
        for tensor, place in listed:
            if start + place + tensor.size > self.size:
                raise ValueError(f"the weights of {tensor.name!r:.80} end beyond the file")
        return Header(fields, tuple(tensor for tensor, _ in listed))

    def _tensor(self, sizes: Mapping[int, tuple[int, int]]) -> tuple[Tensor, int]:
        name = self._text(_LONGEST_NAME)
        shape = [
            self._one("Q") for _ in range(self._bounded("axes", self._one("I"), _MOST_DIMENSIONS))
        ]
        kind, place = self._one("I"), self._one("Q")
        if kind not in sizes:
            raise ValueError(f"{name!r:.80} has the unknown type {kind}")
        weights = math.prod(shape)
        block, size = sizes[kind]
        return Tensor(name, weights, weights * size // block), place

    def _value(self, kind: int, *, inner: bool = False) -> Any:
        """Return a value; an array is passed over and None."""
        if kind in _SCALARS:
            return self._one(_SCALARS[kind])
        if kind == _TEXT:
            return self._text(_LONGEST_TEXT)
        if kind != _ARRAY or inner:
            raise ValueError(f"a value has the unknown type {kind}")
        kind, count = self._one("I"), self._one("Q")
        if kind in _SCALARS:
            self._skip(count * struct.calcsize(f"<{_SCALARS[kind]}"))
        else:
            # Every text takes 8 bytes at least, so that the file itself bounds their number.
            for _ in range(self._bounded("entries", count, self.size // 8)):
                if kind != _TEXT:
                    raise ValueError(f"an array holds the unknown type {kind}")
                self._skip(self._one("Q"))
        return None

    def _one(self, code: str) -> Any:
        form = f"{self.order}{code}"
        return struct.unpack(form, self._bytes(struct.calcsize(form)))[0]

    def _text(self, longest: int) -> str:
        raw = self._bytes(self._bounded("characters", self._one("Q"), longest))
        return raw.decode("utf-8")

    def _bytes(self, count: int) -> bytes:
        raw = self.stream.read(count)
        if len(raw) < count:
            raise ValueError("the header ends too soon")
        return raw

    def _skip(self, count: int) -> None:
        place = self.stream.tell() + count
        if place > min(self.size, _MOST_HEADER):
            raise ValueError("an array ends beyond the file or the header")
        self.stream.seek(place)

    @staticmethod
    def _bounded(what: str, number: int, most: int) -> int:
        if number > most:
            raise ValueError(f"{number} {what}; at most {most} are read")
        return number
