"""Built-in problems: the ``problems/`` of a checkout, or its copy inside an installed package.

A further question brings its own in a folder that its door names. ``question/name`` always means
one problem; a bare name means ours, else the only one of that name.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from moe2opt.questions import QUESTIONS, known, question_names
from moe2opt.result import InputError
from moe2opt.schema import read_file
from moe2opt.schema.source import did_you_mean
from moe2opt.text import shown
from moe2opt.writing import made, write_text

_PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Builtin:
    """A built-in problem.

    Attributes
    ----------
    name
        ``folder/stem``, for instance ``selection/mmlu_pro_edge``.
    path
        Its YAML file.
    """

    name: str
    path: Path

    @property
    def stem(self) -> str:
        """The short name."""
        return self.path.stem

    def summary(self) -> tuple[str, tuple[str, ...]]:
        """Return the first sentence of its description and the names of its scenarios."""
        data = read_file(self.path).data
        text = " ".join(str(data.get("description", "")).split())
        first = re.match(r".*?[.?!](?= |$)", text)
        return first.group() if first else text, tuple(data.get("scenarios") or {})


def roots() -> list[Path]:
    """Return the folders that hold built-in problems."""
    installed = _PACKAGE / "problems"
    checkout = _PACKAGE.parent / "problems"
    beside_us = checkout.is_dir() and (checkout.parent / "pyproject.toml").is_file()
    return [root for root in (installed, *([checkout] if beside_us else [])) if root.is_dir()]


def builtins() -> list[Builtin]:
    """Return the built-in problems, sorted by name."""
    return sorted([*_ours(), *_others()], key=lambda builtin: builtin.name)


def _ours() -> list[Builtin]:
    found = {
        f"{path.parent.name}/{path.stem}": path
        for root in reversed(roots())
        for path in root.glob("*/[!.]*.yaml")
    }
    return [Builtin(name, path) for name, path in sorted(found.items())]


def _others() -> list[Builtin]:
    """Return the built-in problems of other packages; a package that is broken has none."""
    found = []
    for name in question_names():
        with suppress(InputError):
            folder = None if name in QUESTIONS else known(name).problems
            files = sorted(folder.glob("[!.]*.yaml")) if folder is not None else []
            found += [Builtin(f"{name}/{path.stem}", path) for path in files]
    return found


def copy_to(name: str, folder: Path) -> tuple[Path, ...]:
    """Copy a built-in problem and all that it names into a folder, and return what was written.

    The first path is that of the configuration, which solves to the same as the built-in one.

    Raises
    ------
    InputError
        When there is no such problem, something of that name is in the folder, or it cannot be
        written.
    """
    source = find(name)
    if source not in (builtin.path for builtin in builtins()):
        raise InputError(f"{name}: is a file, not a built-in problem")
    text, schema = source.read_text(encoding="utf-8"), source.parent.parent / "config.schema.json"
    named = sorted({source.parent / text for text in _named_in(read_file(source).data, source)})
    parts = [*named, *([schema] if schema.is_file() else [])]
    targets = [made(folder) / source.name, *(folder / part.name for part in parts)]
    for target in targets:
        if target.exists() and target.name != schema.name:
            raise InputError(f"{shown(str(target))} is there already; choose another folder")
    try:
        for part, target in zip(parts, targets[1:], strict=True):
            (shutil.copytree if part.is_dir() else shutil.copyfile)(part, target)
        write_text(targets[0], text.replace("$schema=../", "$schema="))
    except OSError as error:
        raise InputError(f"{shown(str(folder))}: {error.strerror}") from error
    return tuple(targets)


def _named_in(content: Any, source: Path) -> Iterator[str]:
    """Yield the first parts of texts in a configuration that are paths beside it."""
    if isinstance(content, dict | list):
        for entry in content.values() if isinstance(content, dict) else content:
            yield from _named_in(entry, source)
    elif isinstance(content, str) and 0 < len(content) < 200 and "\n" not in content:
        first = Path(content).parts[0] if Path(content).parts else "."
        if first not in (".", "..", "/") and (source.parent / first).exists():
            yield first


def find(config: str | Path) -> Path:
    """Return the file that a user means: a path, or the name of a built-in problem.

    A file that exists goes before a built-in problem of the same name.

    Raises
    ------
    InputError
        When there is neither, or a short name fits several built-in problems.
    """
    if not isinstance(config, str | PathLike):
        raise InputError(f"expected the name of a file or a problem, got {type(config).__name__}")
    path = Path(config)
    if not path.name or "\0" in str(config):
        raise InputError(f"{str(config)!r} names no file and no built-in problem")
    if path.is_file():
        return path
    if path.suffix in ("", ".yaml"):
        wanted = path.with_suffix("").as_posix()
        exact = _named(_ours(), wanted) or _named(_others(), wanted)
        if len(exact) == 1 and not path.suffix:
            return exact[0].path
        if len(exact) > 1:
            names = ", ".join(b.name for b in exact)
            raise InputError(f"{config}: several built-in problems have this name: {names}")
    if path.is_dir():
        raise InputError(f"{config}: is a folder, not a configuration file")
    raise InputError(f"{config}: {_not_found(path)}")


def _named(builtins: list[Builtin], wanted: str) -> list[Builtin]:
    return [b for b in builtins if wanted in (b.name, b.stem)]


def _not_found(path: Path) -> str:
    looks_like_path = bool(path.suffix) or len(path.parts) > 2
    names = [name for b in builtins() for name in (b.name, b.stem)]
    hint = did_you_mean(path.with_suffix("").name, names)
    if looks_like_path:
        return f"no such file{hint}"
    return (
        f"no such file or built-in problem{hint or '; `moe2opt problems` lists the built-in ones'}"
    )
