"""A file with the bytes of experts that are not in memory, read past the page cache.

The file has no name from the start: it is unlinked as soon as it is open, so that it vanishes
however the process ends.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from moe2opt.executor.faults import explained, reason
from moe2opt.result import InputError

Bytes = NDArray[np.uint8]

#: Blocks that a disk is read in; places and sizes are multiples of it.
BLOCK_BYTES = 4096

#: Pages that the system can use for large buffers.
_LARGE_PAGE = 2 << 20

#: Row of the layer, expert, precision, part (0 where an expert is one piece).
Key = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Span:
    """Where a piece lies.

    Attributes
    ----------
    offset, size
        Place in the file and bytes of content.
    """

    offset: int
    size: int

    @property
    def read_bytes(self) -> int:
        """Bytes that reading it moves: whole blocks."""
        return blocks(self.size)


def blocks(size: int) -> int:
    """Return `size` rounded up to whole blocks."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


class Buffer:
    """Page-aligned memory that pieces are read into, given back to the system when unused.

    Where the system has large pages, as much as fills them lies in such pages: a disk that fills
    scattered small ones is up to three times slower, and by how much depends on where they happen
    to lie.
    """

    def __init__(self, size: int) -> None:
        self.size = max(blocks(size), BLOCK_BYTES)
        large = self.size // _LARGE_PAGE * _LARGE_PAGE
        with explained(f"cannot take {self.size / 2**20:.0f} MiB"):
            # Private, so that the system counts it as memory of this process alone.
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            raw = mmap.mmap(-1, self.size + (_LARGE_PAGE if large else 0), flags=flags)
        whole: Bytes = np.frombuffer(raw, dtype=np.uint8)
        start = -whole.ctypes.data % _LARGE_PAGE if large else 0
        if large and hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):
                raw.madvise(mmap.MADV_HUGEPAGE, start, large)
        self.bytes: Bytes = whole[start : start + self.size]


class Bank:
    """Pieces of weights in a nameless file.

    Parameters
    ----------
    folder
        Folder on the disk that is to be used; the temporary folder when None.

    Attributes
    ----------
    direct
        Whether reads bypass the page cache by themselves; else it is asked to forget.
    spans
        Place of each piece.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = Path(tempfile.gettempdir()) if folder is None else folder
        self.spans: dict[Key, Span] = {}
        self.end = 0
        self._map: mmap.mmap | None = None
        self._writer, self._reader, self.direct = _nameless(self.folder)

    def put(self, key: Key, content: Bytes) -> Span:
        """Append a piece, the rest of its last block filled with zeros.

        Raises
        ------
        InputError
            When it cannot be written; the file vanishes with the bank.
        """
        span = Span(self.end, len(content))
        view = memoryview(content.tobytes() + bytes(span.read_bytes - span.size))
        try:
            while view:
                view = view[os.write(self._writer, view) :]
        except OSError as error:
            self.close()
            raise InputError(
                f"cannot write {(self.end + span.size) / 2**20:.0f} MiB of experts to "
                f"{self.folder}: {reason(error)} (nothing is left behind)"
            ) from error
        self.end += span.read_bytes
        self.spans[key] = span
        return span

    def settle(self) -> None:
        """Bring everything to the disk and out of the page cache."""
        with explained("cannot write the experts", self.folder):
            os.fsync(self._writer)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._reader, 0, 0, os.POSIX_FADV_DONTNEED)

    def read(self, span: Span, buffer: Buffer, at: int = 0) -> int:
        """Read a piece to the place `at` (whole blocks) of `buffer`; return the bytes that moved.

        Raises
        ------
        InputError
            When the disk returns fewer bytes or an error.
        """
        size = span.read_bytes
        view = buffer.bytes.data[at : at + size]
        with view, explained("cannot read an expert"):
            done = os.preadv(self._reader, [view], span.offset)
        if not self.direct:
            os.posix_fadvise(self._reader, span.offset, size, os.POSIX_FADV_DONTNEED)
        if done != size:
            raise InputError(f"cannot read an expert: {done} of {size} bytes came back")
        return done

    def mapped(self, span: Span) -> Bytes:
        """Return a piece as memory that the system reads when it is touched."""
        if self._map is None or len(self._map) < self.end:
            # Private and writable, since torch wants writable memory; nothing is written.
            prot = mmap.PROT_READ | mmap.PROT_WRITE
            self._map = mmap.mmap(self._reader, self.end, flags=mmap.MAP_PRIVATE, prot=prot)
        whole: Bytes = np.frombuffer(self._map, dtype=np.uint8)
        return whole[span.offset : span.offset + span.size]

    def close(self) -> None:
        """Give the space back; views of `mapped` keep theirs until they are gone."""
        for number in (self._writer, self._reader):
            with suppress(OSError):
                os.close(number)
        self._writer = self._reader = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _nameless(folder: Path) -> tuple[int, int, bool]:
    """Return descriptors for writing and reading, and whether reads bypass the page cache."""
    if not hasattr(os, "preadv"):
        raise InputError("this system has no positioned reads into a buffer; keep experts in DRAM")
    try:
        writer, name = tempfile.mkstemp(prefix=".moe2opt-", dir=folder)
    except OSError as error:
        raise InputError(f"cannot create a file in {folder}: {reason(error)}") from error
    try:
        reader, direct = _reader(name)
    except OSError as error:
        os.close(writer)
        raise InputError(f"cannot read a file in {folder}: {reason(error)}") from error
    finally:
        Path(name).unlink(missing_ok=True)
    return writer, reader, direct


def _reader(name: str) -> tuple[int, bool]:
    if hasattr(os, "O_DIRECT"):
        with suppress(OSError):
            return os.open(name, os.O_RDONLY | os.O_DIRECT), True
    return os.open(name, os.O_RDONLY), False
