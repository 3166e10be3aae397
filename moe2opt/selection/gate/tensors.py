"""Read and write arrays in the safetensors format, with numpy alone.

A file is the length of a JSON header (8 bytes, little endian), the header, and the bytes of the
arrays. Nothing in it can be executed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moe2opt.errors import DAMAGE, InputError
from moe2opt.files import json_of, read_bytes
from moe2opt.writing import write_bytes

#: The types that a gate uses, by their name in the format.
_TYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8"}

#: Longest header that is read, in bytes; a gate's has a few hundred.
_LONGEST_HEADER = 1_000_000


def write_tensors(path: Path, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write arrays of doubles, floats or 64-bit integers."""
    header: dict[str, Any] = {}
    blocks: list[bytes] = []
    place = 0
    for name, array in tensors.items():
        kind = next(k for k, code in _TYPES.items() if np.dtype(code) == array.dtype)
        block = np.ascontiguousarray(array, dtype=_TYPES[kind]).tobytes()
        ends = [place, place + len(block)]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": ends}
        place += len(block)
        blocks.append(block)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    write_bytes(path, len(text).to_bytes(8, "little") + text + b"".join(blocks))


def read_tensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read arrays written by `write_tensors` or by any other writer of the format.

    Raises
    ------
    InputError
        When the file is not in the format, or holds another type of number.
    """
    content = read_bytes(path)
    try:
        return _parse(content)
    except DAMAGE as error:
        raise InputError(f"{path}: not a safetensors file of a gate: {error}") from error


def _parse(content: bytes) -> dict[str, npt.NDArray[Any]]:
    length = int.from_bytes(content[:8], "little")
    if not 2 <= length <= min(_LONGEST_HEADER, len(content) - 8):
        raise ValueError(f"a header of {length} bytes in a file of {len(content)}")
    header, data = json_of(content[8 : 8 + length].decode(), "header"), content[8 + length :]
    header.pop("__metadata__", None)
    return {name: _tensor(name, entry, data) for name, entry in header.items()}


def _tensor(name: str, entry: dict[str, Any], data: bytes) -> npt.NDArray[Any]:
    if entry["dtype"] not in _TYPES:
        raise ValueError(f"{name}: type {entry['dtype']}; expected {', '.join(_TYPES)}")
    dtype, shape = np.dtype(_TYPES[entry["dtype"]]), tuple(entry["shape"])
    first, last = entry["data_offsets"]
    whole = all(isinstance(n, int) and n >= 0 for n in (*shape, first, last))
    if not whole or not first <= last <= len(data):
        raise ValueError(f"{name}: bytes {first}..{last} of {len(data)}")
    if last - first != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name}: {last - first} bytes do not hold shape {list(shape)}")
    return np.frombuffer(data[first:last], dtype).reshape(shape)
