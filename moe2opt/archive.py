"""Large proofs on disk: a split tree and its multipliers as compressed arrays.

The file is an ordinary NPZ archive, written and read array by array; nothing is ever unpickled.
``tree`` holds one row per record (kind, first field, last field), ``kinds`` names the kinds,
``lengths`` the three lengths of each multiplier vector, ``vectors`` all their entries in a row.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Record = tuple[str, int, int]

#: A file that would unpack to more than this is refused.
MOST_BYTES = 2**35

#: A tree has few kinds of records, with short names.
_MOST_KINDS = 256

_ARRAYS = ("kinds", "tree", "lengths", "vectors")

#: Multipliers are nearly random digits: more effort saves little space.
_COMPRESSION = 1

_BLOCK = 2**20


def write_arrays(
    path: Path, tree: Sequence[Record], vectors: Sequence[tuple[Vector, Vector, Vector]]
) -> str:
    """Write a tree and its multiplier vectors; return the SHA-256 of the file."""
    kinds = sorted({record[0] for record in tree})
    code = {kind: k for k, kind in enumerate(kinds)}
    rows = np.array([(code[kind], first, last) for kind, first, last in tree], dtype=np.int64)
    if np.abs(rows).max(initial=0) < 2**31:
        rows = rows.astype(np.int32)
    lengths = np.array([[len(part) for part in triple] for triple in vectors], dtype=np.int64)
    unfinished = path.with_name(f"{path.name}.part")
    try:
        with zipfile.ZipFile(
            unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESSION
        ) as archive:
            _write(archive, "kinds", np.array(kinds, dtype=np.str_))
            _write(archive, "tree", rows.reshape(-1, 3))
            _write(archive, "lengths", lengths.reshape(-1, 3))
            _write_vectors(archive, vectors, int(lengths.sum()))
        digest = file_digest(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return digest


def _write(archive: zipfile.ZipFile, name: str, array: npt.NDArray[Any]) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def _write_vectors(
    archive: zipfile.ZipFile, vectors: Sequence[tuple[Vector, Vector, Vector]], total: int
) -> None:
    """Write all entries one vector after the other, without a copy of everything."""
    header = {"descr": "<f8", "fortran_order": False, "shape": (total,)}
    with archive.open("vectors.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for triple in vectors:
            member.write(np.concatenate(triple).astype("<f8").tobytes())


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(_BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def read_arrays(path: Path) -> tuple[tuple[Record, ...], list[tuple[Vector, Vector, Vector]]]:
    """Read what `write_arrays` wrote.

    Raises
    ------
    ValueError
        When the file is something else, or its arrays do not fit together.
    """
    try:
        _check_size(path)
        with np.load(path, allow_pickle=False) as archive:
            kinds, tree, lengths, vectors = (archive[name] for name in _ARRAYS)
    except (zipfile.BadZipFile, KeyError, EOFError, MemoryError) as error:
        raise ValueError(f"not a certificate archive: {error}") from error
    _check_arrays(kinds, tree, lengths, vectors)
    names = [str(kind) for kind in kinds]
    codes, first, last = (column.tolist() for column in tree.T)
    records = tuple(zip((names[k] for k in codes), first, last, strict=True))
    return records, list(_triples(lengths, vectors))


def _check_size(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > MOST_BYTES:
            raise ValueError("the archive unpacks to too much")


def _check_arrays(kinds: Any, tree: Any, lengths: Any, vectors: Any) -> None:
    fits = (
        kinds.dtype.kind == "U"
        and kinds.ndim == 1
        and len(kinds) <= _MOST_KINDS
        and tree.dtype in (np.int32, np.int64)
        and tree.shape == (len(tree), 3)
        and lengths.dtype == np.int64
        and lengths.shape == (len(lengths), 3)
        and vectors.dtype == np.float64
        and vectors.ndim == 1
    )
    if not fits:
        raise ValueError("not a certificate archive: its arrays have other types or shapes")
    if len(tree) and not 0 <= tree[:, 0].min() <= tree[:, 0].max() < len(kinds):
        raise ValueError("a record of the tree has a kind that does not exist")
    if (lengths < 0).any() or (lengths > len(vectors)).any() or lengths.sum() != len(vectors):
        raise ValueError("the lengths of the multipliers do not fit their entries")


def _triples(lengths: Any, vectors: Any) -> Iterator[tuple[Vector, Vector, Vector]]:
    ends = np.cumsum(lengths.ravel()).tolist()
    start = 0
    for k in range(0, len(ends), 3):
        a, b, c = ends[k : k + 3]
        yield vectors[start:a], vectors[a:b], vectors[b:c]
        start = c
