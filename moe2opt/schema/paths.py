"""The one guard of paths that a configuration names."""

from __future__ import annotations

from pathlib import Path

from moe2opt.errors import InputError
from moe2opt.text import shown


def inside(folder: Path, name: str, key: str, *, allow_outside: bool = False) -> Path:
    """Return `name` relative to `folder`; links and dots are resolved before the check.

    Parameters
    ----------
    folder
        Folder of the configuration file.
    name
        The path as it was written.
    key
        What messages call it.
    allow_outside
        Whether it may leave the folder.

    Raises
    ------
    InputError
        When the path, or a link in the folder that it names, leaves `folder` and may not, or when
        no file can have such a name.
    """
    try:
        root = folder.resolve()
        target = (root / name).resolve()
        entries = list(target.iterdir()) if target.is_dir() and not allow_outside else []
        leaving = [p for p in entries if p.is_symlink() and not p.resolve().is_relative_to(root)]
    except (OSError, RuntimeError, ValueError) as error:  # too long, a circle of links, NUL
        reason = getattr(error, "strerror", None) or "not the name of a file"
        raise InputError(f"{key}: '{shown(name[:80])}': {reason}") from error
    if allow_outside:
        return target
    if not target.is_relative_to(root):
        raise InputError(
            f"{key}: '{name}' leaves the folder of the configuration file; --allow-outside "
            "permits it"
        )
    if leaving:
        raise InputError(
            f"{key}: '{name}/{shown(min(leaving).name)}' is a link that leaves the folder of the "
            "configuration file"
        )
    return target
