"""Results by what they are results of: one folder per cell, named by the SHA-256 of its input.

A folder appears by one rename, complete or not at all. So a sweep can be killed at any moment, and
running it again does only what is missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from moe2opt.errors import DAMAGE
from moe2opt.files import open_regular, read_bytes, read_json
from moe2opt.result import InputError, Result, Status, encode_float
from moe2opt.sweep.spec import Task
from moe2opt.writing import write_bytes

#: Files larger than this are not read in full: of weights of models only headers matter.
_LARGE = 2**28

_TEMPORARY = re.compile(r"tmp-(\d+)-\d+")


@dataclass(slots=True)
class Store:
    """Finished cells in a folder.

    Attributes
    ----------
    folder
        Where the cells are.
    """

    folder: Path
    _count: int = 0

    def __post_init__(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.folder}: {error.strerror}") from error
        for path in self.folder.glob("tmp-*"):
            match = _TEMPORARY.fullmatch(path.name)
            if match and not _alive(int(match.group(1))):
                shutil.rmtree(path, ignore_errors=True)

    def addresses(self) -> set[str]:
        """Return the addresses of all finished cells."""
        return {path.name for path in self.folder.iterdir() if len(path.name) == 64}

    def row(self, address: str) -> dict[str, Any] | None:
        """Return the row of a finished cell, None without one or without its result."""
        try:
            row = read_json(self.folder / address / "row.json")
            if row["status"] == Status.ERROR:
                return dict(row)
            result = Result.load(self.folder / address / "result.json")
            figures = [encode_float(v) for v in (result.objective, result.bound)]
            made_for = result.provenance.get("problem", {}).get("sha256")
            same = [str(result.status), *figures, made_for] == [
                row[key] for key in ("status", "objective", "bound", "problem_sha256")
            ]
        except DAMAGE:
            return None
        return dict(row) if same else None

    def put(self, address: str, files: dict[str, bytes]) -> None:
        """Add a finished cell at once; one with an error is replaced."""
        self._count += 1
        temporary = self.folder / f"tmp-{os.getpid()}-{self._count}"
        try:
            temporary.mkdir()
            for name, content in files.items():
                write_bytes(temporary / name, content)
        except (InputError, OSError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise InputError(f"{self.folder / address}: {_reason(error)}") from error
        target = self.folder / address
        if target.exists():
            target.rename(self.folder / f"tmp-{os.getpid()}-{self._count}-old")
        temporary.rename(target)
        shutil.rmtree(self.folder / f"tmp-{os.getpid()}-{self._count}-old", ignore_errors=True)


def _reason(error: Exception) -> str:
    return str(getattr(error.__cause__ or error, "strerror", error))


def _alive(process: int) -> bool:
    if process == os.getpid():
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@dataclass(slots=True)
class Addresses:
    """Content addresses of cells, with the digests of the files that they read."""

    _digests: dict[Path, str] = field(default_factory=dict)

    def of(self, task: Task) -> str:
        """Return the SHA-256 of everything that the result of a cell depends on.

        These are the configuration file, scenario, values and settings, the content of every file
        that the configuration or a value names (of weights of models size, time of change and
        beginning), and the version of moe2opt.
        """
        file = Path(task.config)
        content = {
            "version": metadata.version("moe2opt"),
            "config": self._digest(file),
            "scenario": task.scenario,
            "values": [list(pair) for pair in task.values],
            "settings": [list(pair) for pair in task.settings],
            "files": sorted(self._named(file, [value for _, value in task.values])),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _named(self, file: Path, values: list[str]) -> Iterator[tuple[str, str]]:
        """Yield path and digest of the files and folders that texts of the configuration name."""
        texts = {*re.findall(r"[\w./-]+", read_bytes(file).decode(errors="ignore"))}
        for value in values:
            texts |= {*re.findall(r"[\w./-]+", value)}
        for text in sorted(texts):
            path = file.parent / text
            if text.strip("./") and _exists(path):
                yield text, self._digest(path)

    def _digest(self, path: Path) -> str:
        if path not in self._digests:
            digest = hashlib.sha256()
            files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
            for part in files:
                digest.update(str(part.relative_to(path.parent)).encode() + b"\0")
                with open_regular(part) as stream:
                    of = os.fstat(stream.fileno())
                    if of.st_size > _LARGE:
                        digest.update(f"{of.st_size} {of.st_mtime_ns}\0".encode())
                        digest.update(stream.read(2**20))
                        continue
                    while block := stream.read(2**20):
                        digest.update(block)
            self._digests[path] = digest.hexdigest()
        return self._digests[path]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
