"""Reading blocks from a disk at random places, the page cache bypassed.

The file that is read has no name from the start: it is unlinked as soon as it is open, so that it
vanishes however the process ends.
"""

from __future__ import annotations

import errno
import mmap
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe2opt.profiles.measure.figures import (
    Effort,
    Figure,
    Skipped,
    UnavailableError,
    figure,
    rates,
    seconds_of,
)
from moe2opt.result import InputError

#: Sizes of the blocks in bytes, multiples of every disk's sector.
BLOCKS_BYTES = (4 * 2**10, 64 * 2**10, 2**20, 8 * 2**20)

#: Readers at once for the figure that shows what a queue of requests brings.
READERS = 4

_CHUNK_BYTES = 8 * 2**20
_LEAST_FILE_BYTES = 4 * max(BLOCKS_BYTES)

#: Free space that is left untouched.
_SPARE_BYTES = 64 * 2**20

#: File systems that are memory, not a disk.
_IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs")

#: Repeats of one small read; they cost microseconds.
_MOST_READS = 2000


@dataclass(frozen=True, slots=True)
class OpenFile:
    """The file that is read.

    Attributes
    ----------
    descriptor
        For reading.
    size
        In bytes.
    direct
        Whether reads bypass the page cache by themselves.
    write_s
        Seconds that writing and syncing it took.
    """

    descriptor: int
    size: int
    direct: bool
    write_s: float


def check_folder(folder: Path) -> None:
    """Raise `InputError` unless a file can be created in `folder`."""
    if not folder.is_dir():
        raise InputError(f"--disk {folder}: not a folder")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"--disk {folder}: cannot create a file: {error.strerror}") from error
    kind = file_system(folder)
    if kind in _IN_MEMORY:
        raise InputError(f"--disk {folder}: lies in memory ({kind}), not on a disk")


def measure_disk(device: str, folder: Path, effort: Effort) -> Iterator[Figure | Skipped]:
    """Yield bandwidth and latency by block size, of one reader and of several.

    Raises
    ------
    UnavailableError
        When the folder lies in memory, has too little space, or the disk fills up.
    """
    if not hasattr(os, "preadv"):
        raise UnavailableError("this system has no positioned reads into a buffer")
    kind = file_system(folder)
    if kind in _IN_MEMORY:
        raise UnavailableError(f"{folder} lies in memory ({kind}); --disk names a folder on a disk")
    with random_file(folder, _file_bytes(folder, effort)) as file:
        how = _conditions(file, kind)
        if not file.direct:
            yield Skipped("disk reads past the page cache", f"no O_DIRECT on {kind}; {how}")
        yield figure(device, "disk_write", "GB/s", [file.size / file.write_s / 1e9], how)
        for block in BLOCKS_BYTES:
            yield from _one_reader(device, file, block, effort, how)
        yield _readers(device, file, effort, how)


def _one_reader(
    device: str, file: OpenFile, block: int, effort: Effort, how: str
) -> Iterator[Figure]:
    reader = _Reader(file, block, seed=block)
    many = Effort(
        effort.name, effort.seconds_per_figure, effort.least, _MOST_READS, 0, 0, effort.limit_s
    )
    try:
        durations = seconds_of(reader, many)
    finally:
        reader.close()
    yield figure(device, f"disk_read@{block}", "GB/s", rates(durations, block), how)
    microseconds = [1e6 * seconds for seconds in durations]
    yield figure(device, f"disk_latency@{block}", "us", microseconds, how)


def _readers(device: str, file: OpenFile, effort: Effort, how: str) -> Figure:
    block, rounds = 2**20, 4
    readers = [_Reader(file, block, seed=k) for k in range(READERS)]
    try:
        with ThreadPoolExecutor(READERS) as pool:

            def read() -> None:
                list(pool.map(lambda reader: [reader() for _ in range(rounds)], readers))

            samples = rates(seconds_of(read, effort), READERS * rounds * block)
    finally:
        for reader in readers:
            reader.close()
    name = f"disk_read_{READERS}_readers@{block}"
    return figure(device, name, "GB/s", samples, how)


class _Reader:
    """Reads one block at a random place into a page-aligned buffer with every call."""

    def __init__(self, file: OpenFile, block: int, seed: int) -> None:
        self.file, self.block = file, block
        self.buffer = mmap.mmap(-1, block)
        order = np.random.default_rng(seed).permutation(file.size // block)
        self.places = [int(place) * block for place in order]
        self.turn = 0

    def __call__(self) -> None:
        offset = self.places[self.turn % len(self.places)]
        self.turn += 1
        if not self.file.direct:
            _forget(self.file.descriptor, offset, self.block)
        done = os.preadv(self.file.descriptor, [self.buffer], offset)
        if done != self.block:
            raise UnavailableError(f"a read of {self.block} bytes returned {done}")

    def close(self) -> None:
        self.buffer.close()


@contextmanager
def random_file(folder: Path, size: int) -> Iterator[OpenFile]:
    """Write a nameless file of random bytes and open it for reads past the page cache."""
    # The name is known before the file is there: an interruption at any moment finds it.
    name = str(folder / f".moe2opt-{secrets.token_hex(6)}")
    descriptor: int | None = None
    reader: int | None = None
    try:
        try:
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            words = f"cannot create a file in {folder}: {error.strerror}"
            raise UnavailableError(words) from error
        reader, direct = _open_reader(name)
        Path(name).unlink()
        write_s = _fill(descriptor, size, folder)
        if not direct:
            _forget(descriptor, 0, size)
        yield OpenFile(reader, size, direct, write_s)
    finally:
        Path(name).unlink(missing_ok=True)
        for number in (descriptor, reader):
            if number is not None:
                os.close(number)


def _open_reader(name: str) -> tuple[int, bool]:
    """Return a descriptor and whether it bypasses the page cache."""
    if hasattr(os, "O_DIRECT"):
        with suppress(OSError):
            return os.open(name, os.O_RDONLY | os.O_DIRECT), True
    return os.open(name, os.O_RDONLY), False


def _fill(descriptor: int, size: int, folder: Path) -> float:
    """Write random bytes, which no disk can compress, and return the seconds until synced."""
    chunk = np.random.default_rng(0).bytes(_CHUNK_BYTES)
    seconds = 0.0
    try:
        for start in range(0, size, _CHUNK_BYTES):
            view = memoryview(chunk)[: size - start]
            begin = time.perf_counter()
            while view:
                view = view[os.write(descriptor, view) :]
            seconds += time.perf_counter() - begin
            chunk = chunk[4096:] + chunk[:4096]
        begin = time.perf_counter()
        os.fsync(descriptor)
        return seconds + time.perf_counter() - begin
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        reason = "the disk is full or over its quota" if full else error.strerror
        raise UnavailableError(
            f"cannot write {size // 2**20} MiB to {folder}: {reason} (the file is removed)"
        ) from error


def _file_bytes(folder: Path, effort: Effort) -> int:
    free = shutil.disk_usage(folder).free - _SPARE_BYTES
    size = min(effort.file_bytes, free // 2)
    if size < _LEAST_FILE_BYTES:
        raise UnavailableError(
            f"{folder} has {max(free, 0) // 2**20} MiB to spare, "
            f"{2 * _LEAST_FILE_BYTES // 2**20} MiB are needed"
        )
    return size - size % max(BLOCKS_BYTES)


def _forget(descriptor: int, offset: int, size: int) -> None:
    """Ask the system to drop pages from its cache; it need not comply."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)


def _conditions(file: OpenFile, kind: str) -> str:
    bypass = "O_DIRECT" if file.direct else "posix_fadvise(DONTNEED), which may be ignored"
    return f"random places in a file of {file.size // 2**20} MiB on {kind}, {bypass}"


def file_system(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """Return the kind of file system that holds `folder`, ``unknown`` where it is not told."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "unknown"
    folder = folder.resolve()
    kind, depth = "unknown", -1
    for line in lines:
        cells = line.split()
        point = Path(cells[1].replace("\\040", " "))
        if len(point.parts) >= depth and (point == folder or point in folder.parents):
            kind, depth = cells[2], len(point.parts)
    return kind
