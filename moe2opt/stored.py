"""The configuration in a folder of results: what was solved, and which file that came from.

Its second line is a comment that names the original file, scenario and overrides, and the SHA-256
of what follows. So the folder can be checked with its own configuration, paths and all, as long as
the original still says the same; and a copy that somebody has edited is known to be theirs.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from moe2opt import library
from moe2opt.errors import InputError
from moe2opt.files import json_of, read_text

#: Name of the configuration in a folder of results, and what it is called where that is taken.
NAME, OTHER_NAME = "config.yaml", "moe2opt.config.yaml"

_MARK = "# moe2opt: "


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an effective configuration comes from.

    Attributes
    ----------
    file
        The original file, relative to the folder; ``builtin:NAME`` for a built-in problem.
    scenario, overrides
        What was applied to it.
    sha256
        Of the text after the comments.
    """

    file: str
    scenario: str | None
    overrides: tuple[str, ...]
    sha256: str

    @property
    def applied(self) -> tuple[str | None, tuple[str, ...]]:
        """Scenario and overrides."""
        return self.scenario, self.overrides


def marked(
    text: str, origin: Path, folder: Path, scenario: str | None, overrides: tuple[str, ...]
) -> str:
    """Return an effective configuration with the comment that says where it comes from."""
    first, _, body = text.partition("\n")
    digest = hashlib.sha256(body.encode()).hexdigest()
    about = Origin(_named(origin, folder), scenario, overrides, digest)
    return f"{first}\n{_MARK}{json.dumps(asdict(about))}\n{body}"


def origin_of(path: Path) -> Origin | None:
    """Return what the comment of a file says, None for a file without one."""
    return _read(path)[0]


def is_ours(path: Path) -> bool:
    """Tell whether a file is as moe2opt wrote it."""
    origin, body = _read(path)
    return origin is not None and hashlib.sha256(body.encode()).hexdigest() == origin.sha256


def place_in(folder: Path) -> Path:
    """Return where a folder keeps its configuration; a file of somebody else's is left alone.

    Raises
    ------
    InputError
        When both names are taken.
    """
    for name in (NAME, OTHER_NAME):
        path = folder / name
        if not os.path.lexists(path) or is_ours(path):
            return path
    raise InputError(f"{folder / OTHER_NAME} was changed and would be replaced; move it away")


def found_in(folder: Path) -> Path:
    """Return the configuration that moe2opt wrote into a folder, else the one that is there."""
    other = folder / OTHER_NAME
    return other if other.is_file() else folder / NAME


def original_of(path: Path, origin: Origin) -> Path | None:
    """Return the file that an effective configuration was made from, None when it is gone."""
    name = origin.file.removeprefix("builtin:")
    try:
        file = library.find(name) if name != origin.file else path.parent / name
        return file if file.is_file() else None
    except (InputError, OSError, ValueError):
        return None


def _named(origin: Path, folder: Path) -> str:
    for known in library.builtins():
        if known.path.resolve() == origin.resolve():
            return f"builtin:{known.name}"
    try:
        return os.path.relpath(origin.resolve(), folder.resolve())
    except ValueError:  # another drive
        return str(origin.resolve())


def _read(path: Path) -> tuple[Origin | None, str]:
    try:
        _, _, rest = read_text(path).partition("\n")
        mark, _, body = rest.partition("\n")
        if not mark.startswith(_MARK):
            return None, body
        about = json_of(mark.removeprefix(_MARK), str(path))
        texts = (about["file"], about["sha256"], about["scenario"] or "", *about["overrides"])
        if not all(isinstance(text, str) for text in texts):
            return None, body
        return Origin(
            about["file"], about["scenario"], tuple(about["overrides"]), about["sha256"]
        ), body
    except (InputError, KeyError, TypeError):
        return None, ""
