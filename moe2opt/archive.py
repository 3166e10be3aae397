"""Large proofs on disk: a split tree and its multipliers as compressed arrays.

The file is an ordinary NPZ archive, written and read array by array; nothing is ever unpickled.
``tree`` holds one row per record (kind, first field, last field), ``kinds`` names the kinds,
``lengths`` the three lengths of each multiplier vector, ``vectors`` all their entries in a row.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from moe2opt.errors import InputError
from moe2opt.files import open_regular
from moe2opt.text import fault_of_name, shown
from moe2opt.writing import replacing

Vector = npt.NDArray[np.float64]
Record = tuple[str, int, int]

#: A file that would unpack to more than this is refused.
MOST_BYTES = 2**35

#: The same for archives of other arrays than proofs.
MOST_OTHERS = 2**32

#: A tree has few kinds of records, with short names.
_MOST_KINDS = 256

_ARRAYS = ("kinds", "tree", "lengths", "vectors")

#: Multipliers are nearly random digits: more effort saves little space.
_COMPRESSION = 1

_BLOCK = 2**20

#: Records are turned into tuples this many at a time.
_AT_ONCE = 2**14


class Records(Sequence[Record]):
    """The records of a split tree, 12 or 24 bytes each; reads like a tuple of tuples.

    Attributes
    ----------
    kinds
        Names of the kinds.
    rows
        ``(n, 3)`` position in `kinds`, first and last field of each record.
    """

    __slots__ = ("kinds", "rows")

    def __init__(self, kinds: Sequence[str], rows: npt.NDArray[Any]) -> None:
        self.kinds, self.rows = tuple(kinds), rows

    @classmethod
    def of(cls, tree: Sequence[Record]) -> Records:
        """Return the records as arrays; raise OverflowError where a field has over 64 bits."""
        if isinstance(tree, Records):
            return tree
        kinds = sorted({record[0] for record in tree})
        code = {kind: k for k, kind in enumerate(kinds)}
        rows = [(code[kind], first, last) for kind, first, last in tree]
        return cls(kinds, np.array(rows, dtype=np.int64).reshape(-1, 3))

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Record, ...]: ...
    def __getitem__(self, place: int | slice) -> Record | tuple[Record, ...]:
        if isinstance(place, slice):
            return tuple(Records(self.kinds, self.rows[place]))
        code, first, last = self.rows[place].tolist()
        return self.kinds[code], first, last

    def __iter__(self) -> Iterator[Record]:
        for start in range(0, len(self.rows), _AT_ONCE):
            codes, first, last = self.rows[start : start + _AT_ONCE].T.tolist()
            yield from zip((self.kinds[k] for k in codes), first, last, strict=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    @property
    def splits(self) -> int:
        """Number of inner nodes with two children."""
        code = [k for k, kind in enumerate(self.kinds) if kind == "split"]
        return int(np.isin(self.rows[:, 0], code).sum())


def hash_tree(tree: Sequence[Record], digest: Any) -> None:
    """Add the kinds in use, sorted, and all fields as 64-bit integers, to a digest."""
    try:
        records = Records.of(tree)
    except OverflowError:  # no checker accepts such a field
        digest.update(json.dumps(list(tree)).encode())
        return
    kinds = sorted({records.kinds[k] for k in np.unique(records.rows[:, 0]).tolist()})
    position = [kinds.index(kind) if kind in kinds else -1 for kind in records.kinds]
    digest.update(json.dumps([len(records), kinds]).encode())
    for start in range(0, len(records), _BLOCK):
        block = records.rows[start : start + _BLOCK].astype("<i8")
        block[:, 0] = np.array(position, dtype=np.int64)[block[:, 0]]
        digest.update(block.tobytes())


def write_arrays(
    path: Path, tree: Sequence[Record], lengths: npt.NDArray[np.int64], vectors: Iterator[Vector]
) -> str:
    """Write a tree and its multiplier vectors; return the SHA-256 of the file.

    Parameters
    ----------
    path
        The file.
    tree
        The records.
    lengths
        ``(m, 3)`` lengths of the three vectors of each multipliers.
    vectors
        All their entries, in any number of pieces.
    """
    records = Records.of(tree)
    rows = records.rows
    if np.abs(rows).max(initial=0) < 2**31:
        rows = rows.astype(np.int32)
    with replacing(path) as beside:
        with zipfile.ZipFile(
            beside, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESSION
        ) as archive:
            _write(archive, "kinds", np.array(records.kinds, dtype=np.str_))
            _write(archive, "tree", rows.reshape(-1, 3))
            _write(archive, "lengths", lengths.reshape(-1, 3))
            _write_vectors(archive, vectors, int(lengths.sum()))
        return file_digest(beside)


def _write(archive: zipfile.ZipFile, name: str, array: npt.NDArray[Any]) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def _write_vectors(archive: zipfile.ZipFile, vectors: Iterator[Vector], total: int) -> None:
    """Write all entries one vector after the other, without a copy of everything."""
    header = {"descr": "<f8", "fortran_order": False, "shape": (total,)}
    with archive.open("vectors.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for piece in vectors:
            member.write(np.ascontiguousarray(piece, dtype="<f8").tobytes())


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with open_regular(path) as stream:
        for block in iter(lambda: stream.read(_BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def read_named(named: Any, folder: Path) -> tuple[Records, npt.NDArray[np.int64], Vector]:
    """Read the file that a certificate names; it must lie in `folder` and be unchanged.

    Raises
    ------
    ValueError
        Saying what is wrong.
    """
    name, digest = (
        (named.get("file"), named.get("sha256")) if isinstance(named, dict) else (None, None)
    )
    if not isinstance(name, str) or not name.endswith(".npz") or Path(name).name != name:
        raise ValueError(f"arrays.file {name!r} is not the name of an .npz file")
    if "\\" in name or fault_of_name(name):
        raise ValueError(f"arrays.file {name!r} is not the name of an .npz file")
    path = folder / name
    try:
        if path.resolve().parent != folder.resolve():
            raise ValueError(f"arrays.file {name!r} lies outside the result's folder")
        found = file_digest(path)
        content = read_arrays(path) if found == digest else None
    except InputError as error:
        raise ValueError(str(error)) from error
    except OSError as error:
        raise ValueError(f"{name}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if content is None:
        raise ValueError(f"{name} was changed: its SHA-256 differs")
    return content


def read_arrays(path: Path) -> tuple[Records, npt.NDArray[np.int64], Vector]:
    """Read what `write_arrays` wrote: records, lengths and entries of the vectors.

    Raises
    ------
    ValueError
        When the file is something else, or its arrays do not fit together.
    """
    arrays = read_npz(path, MOST_BYTES)
    missing = [name for name in _ARRAYS if name not in arrays]
    if missing:
        raise ValueError(f"not a certificate archive: '{missing[0]}' is missing")
    kinds, tree, lengths, vectors = (arrays[name] for name in _ARRAYS)
    _check_arrays(kinds, tree, lengths, vectors)
    return Records([str(kind) for kind in kinds], tree), lengths, vectors


def read_npz(path: str | Path, most_bytes: int = MOST_OTHERS) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of an NPZ file; nothing is unpickled.

    What an array claims to hold is compared with what the archive holds of it before any memory is
    asked for.

    Raises
    ------
    InputError
        ``path: reason`` when the file cannot be read, is damaged, or would unpack to more than
        `most_bytes`.
    """
    with open_regular(path) as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                members = archive.infolist()
                unpacked = sum(member.file_size for member in members)
                if unpacked > most_bytes:
                    raise ValueError(f"unpacks to {unpacked:,} bytes; at most {most_bytes:,}")
                return {m.filename.removesuffix(".npy"): _array(archive, m) for m in members}
        except MemoryError as error:
            raise InputError(f"{shown(str(path))}: too large for the memory") from error
        except Exception as error:  # zipfile, zlib and numpy's parser each have their own
            reason = shown(" ".join(str(error).split())) or type(error).__name__
            raise InputError(f"{shown(str(path))}: cannot be read as NPZ: {reason}") from error


def read_npy(path: str | Path, most_bytes: int = MOST_OTHERS) -> npt.NDArray[Any]:
    """Return the array of an NPY file, with the same care as `read_npz`."""
    with open_regular(path, most_bytes) as stream:
        try:
            return _read_array(stream, os.fstat(stream.fileno()).st_size)
        except MemoryError as error:
            raise InputError(f"{shown(str(path))}: too large for the memory") from error
        except Exception as error:  # numpy's parser raises what it likes
            reason = shown(" ".join(str(error).split())) or type(error).__name__
            raise InputError(f"{shown(str(path))}: cannot be read as NPY: {reason}") from error


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> npt.NDArray[Any]:
    if not member.filename.endswith(".npy"):
        raise ValueError(f"'{member.filename}' is not an array")
    with archive.open(member) as stream:
        try:
            return _read_array(stream, member.file_size)
        except ValueError as error:
            raise ValueError(f"{member.filename}: {error}") from error


def _read_array(stream: Any, size: int) -> npt.NDArray[Any]:
    """Read an array whose header and content fill `size` bytes."""
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"version {version} of the format is not known")
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("holds Python objects, which are not read")
    if not dtype.itemsize:
        raise ValueError(f"entries of type {dtype} hold nothing")
    held, claimed = size - stream.tell(), math.prod(shape) * dtype.itemsize
    if claimed != held:
        raise ValueError(f"an array of shape {shape} and type {dtype} in {held:,} bytes")
    stream.seek(0)
    array: npt.NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _check_arrays(kinds: Any, tree: Any, lengths: Any, vectors: Any) -> None:
    fits = (
        kinds.dtype.kind == "U"
        and kinds.ndim == 1
        and len(kinds) <= _MOST_KINDS
        and tree.dtype in (np.int32, np.int64)
        and tree.shape[1:] == (3,)
        and lengths.dtype == np.int64
        and lengths.shape[1:] == (3,)
        and vectors.dtype == np.float64
        and vectors.ndim == 1
    )
    if not fits:
        raise ValueError("not a certificate archive: its arrays have other types or shapes")
    if len(tree) and not 0 <= tree[:, 0].min() <= tree[:, 0].max() < len(kinds):
        raise ValueError("a record of the tree has a kind that does not exist")
    if (lengths < 0).any() or (lengths > len(vectors)).any() or lengths.sum() != len(vectors):
        raise ValueError("the lengths of the multipliers do not fit their entries")


def triples(
    lengths: npt.NDArray[np.int64], vectors: Vector
) -> Iterator[tuple[Vector, Vector, Vector]]:
    """Yield the three vectors of each multipliers."""
    ends = np.cumsum(lengths.ravel()).tolist()
    start = 0
    for k in range(0, len(ends), 3):
        a, b, c = ends[k : k + 3]
        yield vectors[start:a], vectors[a:b], vectors[b:c]
        start = c
