"""Files that others wrote: whatever is wrong with one ends in one `InputError`, soon."""

from __future__ import annotations

import io
import os
import socket
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moe2opt as mo
from moe2opt import archive, files
from moe2opt.archive import read_npy, read_npz
from moe2opt.canonical import load_problem
from moe2opt.errors import InputError

READERS: list[tuple[str, Callable[[Path], Any]]] = [
    ("x.json", files.read_json),
    ("x.npz", read_npz),
    ("x.npy", read_npy),
    ("x.json", load_problem),
    ("x.npz", load_problem),
    ("x.json", mo.Result.load),
    ("x.json", mo.Certificate.load),
]

#: (content, message)
JSON: list[tuple[bytes, str]] = [
    (b"", "not JSON: Expecting value: line 1 column 1"),
    (b"{", "not JSON: "),
    (b"\xff\xfe{\x00}\x00", "not UTF-8 text (byte 0)"),
    (b'{"a": "\xe9"}', "not UTF-8 text (byte 7)"),
    (b'{"a": 1}\n\0', "x.json:2: character U+0000 is not allowed in text"),
    (b"[" * 100_000, "nested deeper than 60 levels"),
    (b"[" * 100_000 + b"]" * 100_000, "nested deeper than 60 levels"),
    (b"[" * 62 + b"]" * 62, "nested deeper than 60 levels"),
    (b'{"a":' * 62 + b"1" + b"}" * 62, "nested deeper than 60 levels"),
    (b'{"a": [1, 1e400]}', "a.1: a number is too large"),
    (b"[" + b"[]," * 5_000_000 + b"0]", "more than 5,000,000 values"),
    (b"[-1e999]", "0: a number is too large"),
    (b"[" + b"9" * 5000 + b"]", "not JSON: a whole number of 5000 digits"),
    (b'{"a": {"b": 1, "b": 2}}', 'not JSON: the key "b" stands twice in one section'),
    (b'{"a": NaN}', "not JSON: NaN is not a number of JSON"),
    (b"[Infinity]", "not JSON: Infinity is not a number of JSON"),
    (b'{"a": {"b": ["x", "a\\u001b[2Jb"]}}', "a.b.1: character U+001B is not allowed in text"),
    (b'{"a": "\\ud800"}', "a: half a surrogate pair is not text"),
    (b'{"a": "\\u202e"}', "a: character U+202E is not allowed in text"),
    (b'{"a": "\\u0000"}', "a: character U+0000 is not allowed in text"),
    (b'{"a": {"\\u200b": 1}}', "a: a key: character U+200B is not allowed in text"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), JSON, ids=[m for _, m in JSON])
def test_bad_json(tmp_path: Path, content: bytes, message: str) -> None:
    """What is not JSON, too deep, not finite or cannot be shown is refused with its place."""
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        files.read_json(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert str(caught.value).isprintable()


def test_good_json(tmp_path: Path) -> None:
    """Letters of every language, line ends in notes, a byte order mark and depth are read."""
    text = '\ufeff{"é 漢字 (b/c)": "two\\nlines\\tand a tab 🙂", "deep": [[[[1.5e300]]]]}'
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    content = files.read_json(path)
    assert content["é 漢字 (b/c)"] == "two\nlines\tand a tab 🙂"
    assert content["deep"] == [[[[1.5e300]]]]


@pytest.mark.parametrize(("name", "read"), READERS)
def test_what_is_no_file(tmp_path: Path, name: str, read: Callable[[Path], Any]) -> None:
    """Pipes, sockets, devices, folders, and names that no file can have are refused at once."""
    suffix = name.removeprefix("x")
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    (tmp_path / f"device{suffix}").symlink_to("/dev/zero")
    (tmp_path / f"loop{suffix}").symlink_to(tmp_path / f"loop{suffix}")
    (tmp_path / f"gone{suffix}").symlink_to(tmp_path / "nowhere")
    own = socket.socket(socket.AF_UNIX)
    own.bind(str(tmp_path / f"socket{suffix}"))
    names = ["pipe", "folder", "device", "loop", "gone", "socket", "n" * 300, "a\0b", "\ud800"]
    for stem in [*names, "/".join(["d" * 200] * 30)]:
        with pytest.raises(InputError) as caught:
            read(tmp_path / f"{stem}{suffix}")
        assert str(caught.value).isprintable(), stem
    own.close()


def test_large_files_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text of 100 MB is refused by its size, before a byte of it is read."""
    path = tmp_path / "x.json"
    with path.open("wb") as stream:
        stream.truncate(100 * 10**6)
    monkeypatch.setattr(files.os, "fdopen", None)
    with pytest.raises(InputError, match=r"x\.json: larger than 64 MiB$"):
        files.read_json(path)


def npy(header: str, content: bytes = b"", version: int = 1) -> bytes:
    """Return an array file with a header of our own."""
    text = header.encode() + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + content


def whole(array: Any) -> bytes:
    """Return an array file as numpy writes it."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


ARRAYS: list[tuple[bytes, str]] = [
    (b"", "EOF"),
    (b"\x93NUMPY", "EOF"),
    (b"PK\x03\x04", "magic"),
    (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (10**12,), }"), "header"),
    (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"), "in 0 bytes"),
    (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }", bytes(8)), "in 8 bytes"),
    (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }", bytes(8)), "in 8 bytes"),
    (npy("{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000,), }"), "hold nothing"),
    (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"x"), "Python objects"),
    (npy("{'descr': '<f8', 'shape': (1,), }", bytes(8)), "header"),
    (npy("__import__('os').system('true')"), "header"),
    (npy("{" * 5000), "header"),
    (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }", bytes(8), 3), "version"),
    (whole(np.array([1, "x", None], dtype=object)), "Python objects"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), ARRAYS, ids=[m for _, m in ARRAYS])
def test_bad_arrays(tmp_path: Path, content: bytes, message: str) -> None:
    """An array that claims more than it holds, or that holds objects, is never built."""
    alone = tmp_path / "x.npy"
    alone.write_bytes(content)
    packed = tmp_path / "x.npz"
    with zipfile.ZipFile(packed, "w") as stream:
        stream.writestr("a.npy", content)
    for read, path in ((read_npy, alone), (read_npz, packed)):
        with pytest.raises(InputError) as caught:
            read(path)
        assert message in str(caught.value)
        assert str(caught.value).startswith(f"{path}: cannot be read as NP")


def test_bad_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Archives that are cut, damaged, hold other files or unpack to too much are refused."""
    path = tmp_path / "x.npz"
    np.savez_compressed(path, a=np.arange(1000.0))
    good = path.read_bytes()
    assert read_npz(path)["a"].sum() == 499500.0
    for end in range(0, len(good), 7):
        path.write_bytes(good[:end])
        with pytest.raises(InputError, match="cannot be read as NPZ"):
            read_npz(path)
    for place in range(0, len(good), 3):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0xFF]) + good[place + 1 :])
        try:
            read_npz(path)
        except InputError as error:
            assert str(error).isprintable()
    with zipfile.ZipFile(path, "w") as stream:
        stream.writestr("notes\x1b.txt", "x")
    with pytest.raises(InputError, match=r"'notes\?.txt' is not an array"):
        read_npz(path)
    path.write_bytes(good)
    with pytest.raises(InputError, match=r"unpacks to 8,128 bytes; at most 8,000"):
        read_npz(path, 8000)
    monkeypatch.setattr(archive.zipfile.ZipFile, "open", None)
    with pytest.raises(InputError, match="unpacks to"):
        read_npz(path, 8000)
