"""The nameless file behind disk tiers, and the thread that reads ahead."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from moe2opt.executor.run.prefetch import Prefetcher
from moe2opt.executor.store.bank import BLOCK_BYTES, Bank, Buffer, blocks
from moe2opt.result import InputError


def content(size: int, seed: int = 0) -> np.ndarray:
    """Return random bytes."""
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def test_pieces_come_back_as_they_were(tmp_path: Path) -> None:
    """Pieces of any size are read back, at any block of a buffer and through a mapping."""
    with Bank(tmp_path) as bank:
        pieces = [content(size, size) for size in (1, 4095, 4096, 10_001)]
        spans = [bank.put((0, k, 0, 0), piece) for k, piece in enumerate(pieces)]
        bank.settle()
        buffer = Buffer(5 * BLOCK_BYTES)
        for piece, span in zip(pieces, spans, strict=True):
            assert bank.read(span, buffer, BLOCK_BYTES) == blocks(len(piece))
            assert (buffer.bytes[BLOCK_BYTES:][: len(piece)] == piece).all()
            assert (bank.mapped(span) == piece).all()


@pytest.mark.parametrize("size", [2**21 - 4096, 2**21, 5 * 2**20 + 1])
def test_large_buffers_are_whole_and_of_the_size_asked_for(size: int, tmp_path: Path) -> None:
    """Buffers that large pages fit in begin on one, hold what is read, and nothing beyond."""
    with Bank(tmp_path) as bank:
        piece = content(size)
        span = bank.put((0, 0, 0, 0), piece)
        bank.settle()
        buffer = Buffer(size)
        assert len(buffer.bytes) == buffer.size == blocks(size)
        assert buffer.bytes.ctypes.data % (2**21 if size >= 2**21 else BLOCK_BYTES) == 0
        assert bank.read(span, buffer) == blocks(size)
        assert (buffer.bytes[:size] == piece).all()
        assert not buffer.bytes[size:].any()


def test_a_system_without_large_pages_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Advice that the system does not take is no error."""
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", -1)
    assert not Buffer(2**22).bytes.any()


def test_the_file_has_no_name(tmp_path: Path) -> None:
    """While the bank is open its folder is empty: nothing can be left behind."""
    with Bank(tmp_path) as bank:
        bank.put((0, 0, 0, 0), content(5000))
        bank.settle()
        assert not list(tmp_path.iterdir())


def test_a_killed_process_leaves_nothing(tmp_path: Path) -> None:
    """SIGKILL in the middle of writing leaves no file in the folder."""
    code = (
        "import sys, time, numpy as np; from pathlib import Path\n"
        "from moe2opt.executor.store.bank import Bank\n"
        "bank = Bank(Path(sys.argv[1])); bank.put((0, 0, 0, 0), np.zeros(100000, np.uint8))\n"
        "print('written', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "written\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is an error in words that names the folder, and the folder stays empty."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    bank = Bank(tmp_path)
    with pytest.raises(InputError, match="the disk is full or over its quota"):
        bank.put((0, 0, 0, 0), content(100))
    assert not list(tmp_path.iterdir())


def test_a_short_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer bytes than asked for are never taken for weights."""
    with Bank(tmp_path) as bank:
        span = bank.put((0, 0, 0, 0), content(5000))
        monkeypatch.setattr(os, "preadv", lambda *_: 512)
        with pytest.raises(InputError, match="512 of 8192 bytes"):
            bank.read(span, Buffer(8192))


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    """A scratch folder that does not exist is an error that names it."""
    with pytest.raises(InputError, match="nowhere"):
        Bank(tmp_path / "nowhere")


def test_copies_arrive_in_the_place_given() -> None:
    """What is asked for early is copied into memory of the prefetcher and counted once."""
    places = [[0], [0]]

    def copy(wanted: int, place: list[int]) -> int:
        place[0] = wanted
        return 10 * wanted

    with Prefetcher(copy, places) as early:
        assert early.want(3) and early.want(3) and early.want(4)
        assert not early.want(5)
        taken = early.take(3)
        assert taken is not None and taken[0] == [3] and taken[1] == 30
        assert early.take(5) is None
        early.release(taken[0])
        assert early.want(5)


def test_abandoned_copies_are_waste() -> None:
    """A copy under way is finished and counted as waste; one not begun is left out."""
    begun, go, done = threading.Event(), threading.Event(), list[int]()

    def copy(wanted: int, _: object) -> int:
        begun.set()
        go.wait()
        done.append(wanted)
        return 7

    with Prefetcher(copy, [object(), object()]) as early:
        early.want(1)
        early.want(2)
        begun.wait()
        early.abandon_rest()
        go.set()
    assert done == [1]
    assert early.wasted_bytes == 7


def test_a_failing_copy_is_told_to_whoever_takes_it() -> None:
    """An error in the thread reaches the caller of `take`, and the place comes back."""

    def copy(wanted: int, place: int) -> int:
        raise InputError("cannot read an expert")

    with Prefetcher(copy, [0]) as early:
        early.want(1)
        with pytest.raises(InputError, match="cannot read"):
            early.take(1)
        assert early.want(2)
