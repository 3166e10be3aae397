"""Files appear whole or not at all, and only where nothing that is somebody else's is lost.

Every file is written under another name in its folder, flushed to the disk and renamed; a full disk
or an interrupt leaves the earlier file as it was. A folder of results remembers the names of what
moe2opt wrote there: a file of that name which is not ours is never replaced.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from moe2opt.errors import InputError
from moe2opt.files import read_json, read_text
from moe2opt.text import as_cell, shown

#: Names of the files in a folder that moe2opt wrote, one a line.
MANIFEST = ".moe2opt"

#: What a page of ours holds.
_PAGE = '<meta name="generator" content="moe2opt'

#: Longest ending of a name that the unfinished file takes over; formats are chosen by it.
_LONGEST_SUFFIX = 16


@contextmanager
def replacing(path: str | Path, label: str = "") -> Iterator[Path]:
    """Yield the path to write to; what is there at the end of the block replaces `path`.

    A symbolic link stays one. A device or a pipe is written to, not replaced. A label, such as the
    option that named the file, begins the message.

    Raises
    ------
    InputError
        ``label path: reason`` when the file cannot be written.
    """
    try:
        target = Path(path).resolve() if Path(path).is_symlink() else Path(path)
        if target.exists() and not target.is_file() and not target.is_dir():
            import tempfile  # rare, and not quick to load

            with tempfile.TemporaryDirectory() as folder:
                beside = Path(folder) / f"content{_suffix(target)}"
                yield beside
                with beside.open("rb") as source, target.open("wb") as stream:
                    shutil.copyfileobj(source, stream)
            return
        beside = target.with_name(f".moe2opt-{os.urandom(6).hex()}{_suffix(target)}")
        try:
            yield beside
            _put_in_place(beside, target)
        finally:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{label}{shown(str(path))}: {error.strerror or error}") from error


def write_text(path: str | Path, text: str, label: str = "") -> None:
    """Write a text in UTF-8; raise as `replacing`."""
    with replacing(path, label) as beside:
        beside.write_text(text, encoding="utf-8", newline="")


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write bytes; raise as `replacing`."""
    with replacing(path) as beside:
        beside.write_bytes(content)


def write_frame(path: str | Path, frame: Any) -> None:
    """Write a pandas table as CSV with Unix line ends; raise as `replacing`."""
    write_text(path, frame_text(frame))


def frame_text(frame: Any) -> str:
    """Return a pandas table as CSV in which no text is a formula to a spreadsheet."""
    safe = frame.copy()
    for name, column in frame.items():
        if column.dtype.kind == "O":
            safe[name] = column.map(lambda cell: as_cell(cell) if isinstance(cell, str) else cell)
    text: str = safe.to_csv(index=False, lineterminator="\n")
    return text


def made(folder: str | Path, label: str = "") -> Path:
    """Create a folder where it is missing; raise `InputError` when it cannot be."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{label}{shown(str(folder))}: {error.strerror}") from error
    return Path(folder)


def check_ours(folder: Path, names: Iterable[str]) -> None:
    """Raise `InputError` when a file of these names is in a folder and moe2opt did not write it."""
    known = _manifest(folder)
    for name in names:
        path = folder / name
        if os.path.lexists(path) and name not in known and not _says_so(path):
            raise InputError(
                f"{shown(str(path))} was not written by moe2opt and would be replaced; choose "
                "another folder, or move it away"
            )


def ours(folder: Path, names: Iterable[str]) -> Path:
    """Note that moe2opt writes files of these names in a folder, after `check_ours`."""
    names = list(names)
    check_ours(made(folder), names)
    known = _manifest(folder)
    if not known.issuperset(names):
        write_text(folder / MANIFEST, "".join(f"{name}\n" for name in sorted(known.union(names))))
    return folder


@contextmanager
def writing(folder: Path, *names: str) -> Iterator[None]:
    """Create the folder for a block that writes files of these names into it.

    Raises
    ------
    InputError
        When it cannot be created, the block cannot write, or a file of these names in it is
        somebody else's.
    """
    ours(made(folder, "--out "), names)
    try:
        yield
    except OSError as error:
        raise InputError(f"--out {folder}: {error.strerror}") from error


def _manifest(folder: Path) -> set[str]:
    try:
        return set(read_text(folder / MANIFEST).splitlines())
    except InputError:
        return set()


def _says_so(path: Path) -> bool:
    """Tell whether a JSON file names a format of ours, or a page its maker."""
    if path.suffix == ".html":
        with suppress(InputError):
            return _PAGE in read_text(path)
    if path.suffix != ".json":
        return False
    try:
        content = read_json(path)
    except InputError:
        return False
    form = content.get("format") if isinstance(content, dict) else None
    return type(form) is int or str(form).startswith("moe2opt")


def _suffix(path: Path) -> str:
    return path.suffix if len(path.suffix) <= _LONGEST_SUFFIX else ""


def _put_in_place(beside: Path, target: Path) -> None:
    if target.exists():
        if not os.access(target, os.W_OK):
            raise PermissionError(13, os.strerror(13))
        shutil.copymode(target, beside)
    with beside.open("rb+") as stream:
        os.fsync(stream.fileno())
    beside.replace(target)
