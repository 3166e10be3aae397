"""How kernels are compiled: as few and as lean machine code units as numba allows.

An *entry* is called from Python and cached on disk: beside the package where that folder can be
written, else in numba's cache folder of the user, else not at all. An *inner* kernel is only called
by other kernels: it needs no wrapper for Python. A *merged* kernel has one caller and becomes part
of that caller's source. Only numba's public settings are used.

What keeps compilation short: no slice assignments or array expressions (each pulls in numpy's
broadcasting), no allocation (so that no reference is counted), no literal integers as arguments
(each would make another specialisation; constants are numpy integers instead), and no garbage
collection meanwhile, which would walk through all that numba has built again and again.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np

from moe2opt import progress

_Function = TypeVar("_Function", bound=Callable[..., Any])


def entry(function: _Function) -> _Function:
    """Compile on first use and cache on disk where a folder for that can be written."""
    return _stored(function)


def released(function: _Function) -> _Function:
    """Compile like an entry that lets other threads run meanwhile."""
    return _stored(function, nogil=True)


def reordered(function: _Function) -> _Function:
    """Compile like an inner kernel whose sums may be taken in any order, and so several at once."""
    return _linked(function, fastmath={"reassoc", "nsz"})


def inner(function: _Function) -> _Function:
    """Compile for the kernels that call it."""
    return _linked(function)


def merged(function: _Function) -> _Function:
    """Compile as part of the only kernel that calls it."""
    return _compiled(function, inline="always")


def _linked(function: _Function, **settings: Any) -> _Function:
    return _compiled(function, no_cpython_wrapper=True, **settings)


def _stored(function: _Function, **settings: Any) -> _Function:
    try:
        kernel: Any = _compiled(function, cache=True, **settings)
    except RuntimeError:  # no folder can be written
        return _compiled(function, **settings)
    forget_other_sources(kernel.stats.cache_path)
    return cast("_Function", kernel)


@lru_cache
def forget_other_sources(folder: str) -> None:
    """Delete code that was compiled before an upgrade.

    Stored code counts as good for numba as long as the file of its entry is the same, although it
    holds all the kernels that the entry calls, from other files.
    """
    stamp = Path(folder) / "sources.txt"
    try:
        if stamp.exists() and stamp.read_text() == _sources():
            return
        for index in Path(folder).glob("*.nbi"):
            index.unlink(missing_ok=True)
        stamp.write_text(_sources())
    except OSError:  # somebody else's folder: it can be read only
        return


@lru_cache
def _sources() -> str:
    """Return names, sizes and times of all files that kernels can be in."""
    found = sorted(Path(__file__).parent.rglob("*.py"))
    states = ((path.name, path.stat()) for path in found)
    return "".join(f"{name} {state.st_size} {state.st_mtime_ns}\n" for name, state in states)


def _compiled(function: _Function, **settings: Any) -> _Function:
    njit: Any = numba.njit
    kernel: _Function = njit(function, error_model="numpy", no_cfunc_wrapper=True, **settings)
    return kernel


def no_literal(number: int) -> int:
    """Return an integer that is no literal for numba."""
    return cast("int", np.int64(number))


def is_stored(kernel: Any) -> bool:
    """Tell whether there is compiled code of an entry on disk."""
    folder = kernel.stats.cache_path
    if folder is None:
        return False
    function = kernel.py_func
    stem = f"{Path(function.__code__.co_filename).stem}.{function.__qualname__}-"
    return any(path.name.startswith(stem) for path in Path(folder).glob("*.nbi"))


@contextlib.contextmanager
def compiling(*kernels: Any) -> Iterator[None]:
    """Say that kernels are about to be compiled, unless they are stored, and make it quick."""
    if not all(map(is_stored, kernels)):
        progress.logger.info("Compiling kernels for this machine, once: this takes some seconds")
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
