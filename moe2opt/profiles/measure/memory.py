"""Bandwidth of the main memory for reading and copying blocks in random order.

The blocks of a buffer far larger than the caches are visited once each, in random order, by all
cores at once: what happens when experts of that size are read where they lie. Bytes are counted
once, also those of a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from moe2opt.profiles.measure import machine
from moe2opt.profiles.measure.figures import (
    Action,
    Effort,
    Figure,
    UnavailableError,
    figure,
    rates,
    seconds_of,
)
from moe2opt.result import FloatArray, IntArray

#: Sizes of the blocks in bytes: a page, a tile, a small expert, a large one.
BLOCKS_BYTES = (4 * 2**10, 64 * 2**10, 2**20, 16 * 2**20)

_WORD_BYTES = 8

#: The buffer takes at most this share of the memory that is free.
_SHARE = 8

_LEAST_BUFFER_BYTES = 4 * max(BLOCKS_BYTES)

Kernel = Callable[[FloatArray, FloatArray, IntArray, int], float]


def buffer_bytes(effort: Effort, available: int) -> int:
    """Return the size of the buffer, a multiple of the largest block."""
    size = min(effort.buffer_bytes, available // _SHARE)
    if size < _LEAST_BUFFER_BYTES:
        raise UnavailableError(f"only {available / 2**20:.0f} MiB of memory are free")
    return size - size % max(BLOCKS_BYTES)


@contextmanager
def reading(effort: Effort, available: int | None = None) -> Iterator[Action]:
    """Give a call that reads the whole buffer once, in the largest blocks."""
    size = buffer_bytes(effort, machine.available_bytes() if available is None else available)
    source, threads = np.ones(size // _WORD_BYTES), machine.cores()
    with ThreadPoolExecutor(threads) as pool:
        yield _Sweep(pool, threads, _read_kernel(), source, source, max(BLOCKS_BYTES))


def measure_memory(device: str, effort: Effort, available: int | None = None) -> Iterator[Figure]:
    """Yield ``dram_read@B`` and ``dram_copy@B`` for each block size B, then ``dram_read``.

    The last one repeats the figure of the largest block, the bandwidth that a device is known by.
    """
    size = buffer_bytes(effort, machine.available_bytes() if available is None else available)
    threads = machine.cores()
    source = np.ones(size // _WORD_BYTES)
    target = np.ones(size // _WORD_BYTES)
    kernels = {"read": _read_kernel(), "copy": _copy_kernel()}
    how = _conditions(size, threads)
    with ThreadPoolExecutor(threads) as pool:
        for block in BLOCKS_BYTES:
            for verb, kernel in kernels.items():
                sweep = _Sweep(pool, threads, kernel, source, target, block)
                samples = rates(seconds_of(sweep, effort), sweep.total_bytes)
                yield figure(device, f"dram_{verb}@{block}", "GB/s", samples, how)
                if verb == "read" and block == max(BLOCKS_BYTES):
                    yield figure(device, "dram_read", "GB/s", samples, how)


class _Sweep:
    """One pass over all blocks of the buffer, shared among the threads."""

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        threads: int,
        kernel: Kernel,
        source: FloatArray,
        target: FloatArray,
        block_bytes: int,
    ) -> None:
        words = block_bytes // _WORD_BYTES
        starts = np.random.default_rng(0).permutation(len(source) // words) * words
        self.pool, self.kernel, self.words = pool, kernel, words
        self.source, self.target = source, target
        self.parts = [part for part in np.array_split(starts, threads) if len(part)]
        self.total_bytes = len(starts) * block_bytes

    def __call__(self) -> float:
        """Visit every block; the sum keeps the compiler from leaving the work out."""
        jobs = [
            self.pool.submit(self.kernel, self.source, self.target, part, self.words)
            for part in self.parts
        ]
        return sum(job.result() for job in jobs)


def _conditions(size: int, threads: int) -> str:
    cache = machine.cache_bytes()
    text = f"blocks in random order from {size // 2**20} MiB, {threads} threads"
    if cache and size < 4 * cache:
        text += f"; the largest cache has {cache // 2**20} MiB, part of this is its speed"
    return text


@cache
def _read_kernel() -> Kernel:
    def read(source: Any, target: Any, starts: Any, words: int) -> float:
        total = 0.0
        for start in starts:
            # A slice, so that the compiler need not think of negative indices.
            block = source[start : start + words]
            for k in range(words):
                total += block[k]
        return total

    return _compiled(read)


@cache
def _copy_kernel() -> Kernel:
    def copy(source: Any, target: Any, starts: Any, words: int) -> float:
        for start in starts:
            block, place = source[start : start + words], target[start : start + words]
            for k in range(words):
                place[k] = block[k]
        return 0.0

    return _compiled(copy)


def _compiled(function: Kernel) -> Kernel:
    """Compile with wide additions and without the interpreter lock, so that threads overlap."""
    import numba  # half a second that only this step needs

    compiled: Kernel = numba.njit(nogil=True, fastmath=True)(function)
    tiny = np.ones(8)
    compiled(tiny, tiny.copy(), np.zeros(1, dtype=np.int64), 8)
    return compiled
