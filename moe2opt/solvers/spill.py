"""Multipliers of a growing proof: in memory while there are few, in a temporary file beyond."""

from __future__ import annotations

import mmap
import tempfile
import weakref
from typing import IO

import numpy as np

from moe2opt.result import FloatArray, Multipliers

#: Multipliers are kept in memory up to this size.
MOST_IN_MEMORY_BYTES = 2**28

#: Beyond it they are written in blocks of this size.
BLOCK_BYTES = 2**25


class VectorStore:
    """Takes multipliers and hands back equal ones that may live in a mapped temporary file.

    The file has no name and disappears with the process. A full block need not stay in memory: its
    pages are given back to the system, which reads them again where they are needed.
    """

    def __init__(self) -> None:
        self._in_memory = 0
        self._file: IO[bytes] | None = None
        self._mapping: mmap.mmap | None = None
        self._block: FloatArray = np.zeros(0)
        self._used = 0

    def kept(self, vectors: Multipliers) -> Multipliers:
        """Return multipliers with the same numbers."""
        parts = (vectors.cluster, vectors.row, vectors.cover)
        numbers = sum(map(len, parts))
        if self._in_memory + 8 * numbers <= MOST_IN_MEMORY_BYTES:
            self._in_memory += 8 * numbers
            return vectors
        if self._used + numbers > len(self._block):
            self._next_block(8 * numbers)
        return Multipliers(*(self._copied(part) for part in parts))

    def _copied(self, part: FloatArray) -> FloatArray:
        place = self._block[self._used : self._used + len(part)]
        place[:] = part
        self._used += len(part)
        return place

    def _next_block(self, least_bytes: int) -> None:
        """Release the full block and map a new one, of at least this size."""
        if self._mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._mapping.madvise(mmap.MADV_DONTNEED)
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the store
            weakref.finalize(self, self._file.close)
        page = mmap.ALLOCATIONGRANULARITY
        size = -(-max(BLOCK_BYTES, least_bytes) // page) * page
        start = self._file.seek(0, 2)
        self._file.truncate(start + size)
        self._mapping = mmap.mmap(self._file.fileno(), size, offset=start)
        self._block, self._used = np.frombuffer(self._mapping, np.float64), 0
