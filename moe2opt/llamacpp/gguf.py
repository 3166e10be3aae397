"""Headers of GGUF files, read with a bound on everything that they claim.

Only what stands before the weights is read (docs/gguf.md of ggml, versions 2 and 3): keys with
their values, and name, shape, type and place of every tensor. Of arrays only those are kept that
describe layers; vocabularies are passed over. Sizes of the types come from the library ``gguf``.

A model may lie in several files (`split.count`), of which any one names all.
"""

from __future__ import annotations

import math
import os
import re
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

#: Longest array of numbers that is kept: one entry per layer; vocabularies are longer.
_LONGEST_ARRAY = 2**12

#: How a file of several is named, and how many there may be.
_SHARD = re.compile(r"(?P<start>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_MOST_SHARDS = 2**10

#: Format and size of the scalar types by their number; 8 is text, 9 an array.
_SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_TEXT, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the file: name, number of weights, bytes that it takes, and name of its type."""

    name: str
    weights: int
    size: int
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Header:
    """Values by key, long arrays left out, and the tensors."""

    fields: Mapping[str, Any]
    tensors: tuple[Tensor, ...]


def type_sizes() -> dict[int, tuple[int, int, str]]:
    """Return weights of a block, its bytes, and its name, by the number of a type."""
    try:
        from gguf import GGML_QUANT_SIZES
    except ImportError as error:
        raise InputError("needs the package gguf: pip install gguf") from error
    return {int(kind): (*own, kind.name) for kind, own in GGML_QUANT_SIZES.items()}


def read_header(path: Path) -> Header:
    """Read the header of a GGUF file.

    Raises
    ------
    InputError
        When it is no GGUF file, is cut off, or claims what cannot be; when ``gguf`` is missing.
    """
    sizes = type_sizes()
    with open_regular(path) as stream:
        if stream.read(4) != b"GGUF":
            raise InputError(f"{path.name} is not a GGUF file")
        try:
            return _Reader(stream).header(sizes)
        except (OSError, ValueError, struct.error) as error:
            raise InputError(f"{path.name} is truncated or damaged ({error})") from error


def shards(path: Path) -> tuple[Path, ...]:
    """Return all files of the model that a file or a folder holds.

    Parameters
    ----------
    path
        A GGUF file (any one of several), or a folder with the files of one model. Projectors
        (``mmproj``) and hidden files beside them are no models.

    Raises
    ------
    InputError
        When there is none, a file of several is missing, or a folder holds several models.
    """
    if path.is_dir():
        folder = path.resolve().name or path
        found = [p for p in sorted(path.glob("*.gguf")) if not p.name.startswith((".", "mmproj"))]
        models = {m["start"] if (m := _SHARD.fullmatch(p.name)) else p.name for p in found}
        if not models:
            raise InputError(f"'{folder}' holds no GGUF file; a config.json will do")
        if len(models) > 1:
            some = ", ".join(sorted(models)[:3]) + ", ..." * (len(models) > 3)
            raise InputError(f"'{folder}' holds {len(models)} models ({some}): name a file of one")
        path = found[0]
    if not path.is_file():
        if path.exists():
            raise InputError(f"'{path.name}' is not a regular file")
        # A name on a hub looks like a path.
        hub = (
            "" if path.suffix in (".gguf", ".json") else "; of a model on a hub config.json will do"
        )
        raise InputError(f"no such file '{path}'{hub}")
    named = _SHARD.fullmatch(path.name)
    if named is None:
        return (path,)
    count = int(named["count"])
    if not 1 <= int(named["number"]) <= count <= _MOST_SHARDS:
        raise InputError(f"'{path.name}' is not one of {count} files")
    files = [
        path.with_name(f"{named['start']}-{k:05d}-of-{named['count']}.gguf")
        for k in range(1, count + 1)
    ]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        lacking = f" and {len(missing) - 1} more are" if missing[1:] else " is"
        raise InputError(f"{missing[0]}{lacking} missing of the {count} files of the model")
    return tuple(files)


def read_model(path: Path) -> Header:
    """Read the headers of all files of a model as one: keys of the first, tensors of all.

    Raises
    ------
    InputError
        As `shards` and `read_header`; when the files do not belong together.
    """
    files = shards(path)
    headers = [read_header(file) for file in files]
    first = headers[0].fields
    told = first.get("split.count", len(files))
    if told not in (len(files), 0):
        raise InputError(
            f"{files[0].name} is one of {told} files ({path.name} names {len(files)}): give the "
            "first by its own name, `...-00001-of-....gguf`"
        )
    tensors = tuple(tensor for header in headers for tensor in header.tensors)
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise InputError(f"{files[0].name}: two of the {len(files)} files hold the same tensor")
    counted = first.get("split.tensors.count", len(tensors))
    if counted != len(tensors):
        raise InputError(
            f"{files[0].name}: the model has {counted} tensors, its files hold {len(tensors)}"
        )
    return Header(first, tensors)


class _Reader:
    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.size = os.fstat(stream.fileno()).st_size
        self.order = "<"

    def header(self, sizes: Mapping[int, tuple[int, int, str]]) -> Header:
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

    def _tensor(self, sizes: Mapping[int, tuple[int, int, str]]) -> tuple[Tensor, int]:
        name = self._text(_LONGEST_NAME)
        shape = [
            self._one("Q") for _ in range(self._bounded("axes", self._one("I"), _MOST_DIMENSIONS))
        ]
        kind, place = self._one("I"), self._one("Q")
        if kind not in sizes:
            raise ValueError(f"{name!r:.80} has the unknown type {kind}")
        weights = math.prod(shape)
        block, size, label = sizes[kind]
        return Tensor(name, weights, weights * size // block, label), place

    def _value(self, kind: int, *, inner: bool = False) -> Any:
        """Return a value; an array of text or of many numbers is passed over and None."""
        if kind in _SCALARS:
            return self._one(_SCALARS[kind])
        if kind == _TEXT:
            return self._text(_LONGEST_TEXT)
        if kind != _ARRAY or inner:
            raise ValueError(f"a value has the unknown type {kind}")
        kind, count = self._one("I"), self._one("Q")
        if kind in _SCALARS and count <= _LONGEST_ARRAY:
            return [self._one(_SCALARS[kind]) for _ in range(count)]
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
