"""Where results go: ``--out``, asked before the work and written after it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from moe2opt.cli.target import source_of
from moe2opt.errors import InputError
from moe2opt.writing import check_ours, made, write_text
from moe2opt.writing import writing as writing


def create(folder: Path, *names: str) -> None:
    """Create the folder before the work; raise `InputError` where `writing` would."""
    check_ours(made(folder, "--out "), names)
    _try_writing(folder, f"--out {folder}")


def _try_writing(folder: Path, label: str) -> None:
    import tempfile  # not quick to load

    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{label}: {error.strerror}") from error


def write_config(folder: Path, target: object) -> None:
    """Write the effective configuration of what was loaded; a bare problem has none."""
    from moe2opt.stored import marked, place_in

    if (source := source_of(target)) is not None:
        origin = source.path, folder, source.scenario, source.overrides
        write_text(place_in(folder), marked(source.effective_yaml(), *origin))


def spare(
    out: Path | None, *inputs: str | Path | None, folder: bool = False, flag: str = "--out"
) -> None:
    """Raise `InputError` before the work when `out` cannot be written, or is a file that is read.

    With `folder` it may be one, or become one, together with the folders above it.
    """
    if out is None:
        return
    if out.exists():
        for name in inputs:
            if name is not None and Path(name).exists() and out.samefile(name):
                raise InputError(f"{flag} {out}: this file is read; name another one")
    if out.is_dir() and not folder:
        raise InputError(f"{flag} {out}: {os.strerror(errno.EISDIR)}")
    if out.exists() and not (out.is_file() or out.is_dir()):  # a device or a pipe
        return
    place = out if out.is_dir() else out.parent
    near = next(p for p in (place, *place.parents) if p.exists() or not folder)
    _try_writing(near, f"{flag} {out}")
