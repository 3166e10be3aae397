"""Compiled kernels: where their code is stored, when it is compiled, and what the user is told."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

import moe2opt
from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.solvers import jit
from moe2opt.solvers.base import Options, Search
from moe2opt.solvers.choice import warm as choice_warm

PACKAGE = Path(moe2opt.__file__).parent

#: Compiles one small kernel of a copy of `jit` and prints where its code went.
SCRIPT = """
import sys, types
sys.path.insert(0, sys.argv[1])
import kernel
print(kernel.twice(2.0), kernel.twice.stats.cache_path)
"""

KERNEL = """
from moe2opt.solvers.jit import entry

@entry
def twice(x):
    return 2.0 * x
"""


def where_code_goes(folder: Path, **environment: str) -> list[str]:
    """Return what a fresh process prints that compiles the kernel in `folder`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)],
        capture_output=True, text=True, check=True, timeout=300,
        env={**kept, **environment, "PYTHONPATH": str(PACKAGE.parent)},
    )  # fmt: skip
    return ran.stdout.split()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a module that holds a kernel."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "kernel.py").write_text(KERNEL, encoding="utf-8")
    return package


def test_code_is_stored_beside_the_module(folder: Path) -> None:
    """Where the package folder can be written, compiled code goes to its ``__pycache__``."""
    result, path = where_code_goes(folder)
    assert (result, Path(path)) == ("4.0", folder / "__pycache__")
    assert list((folder / "__pycache__").glob("*.nbi"))


def test_read_only_packages_use_the_cache_of_the_user(folder: Path, tmp_path: Path) -> None:
    """Where it cannot, because a file is in the way, code goes to the user's cache folder."""
    (folder / "__pycache__").write_text("in the way", encoding="utf-8")
    home = tmp_path / "home"
    home.mkdir()
    result, path = where_code_goes(folder, HOME=str(home), XDG_CACHE_HOME=str(home / "cache"))
    assert result == "4.0"
    assert home in Path(path).parents
    assert list(home.rglob("*.nbi"))


def test_kernels_work_without_any_cache(folder: Path, tmp_path: Path) -> None:
    """Where no folder can be written at all, kernels are compiled and not stored."""
    (folder / "__pycache__").write_text("in the way", encoding="utf-8")
    blocked = tmp_path / "blocked"
    blocked.write_text("in the way", encoding="utf-8")
    result, path = where_code_goes(folder, HOME=str(blocked), XDG_CACHE_HOME=str(blocked))
    assert (result, path) == ("4.0", "None")


def test_a_folder_can_be_chosen(folder: Path, tmp_path: Path) -> None:
    """NUMBA_CACHE_DIR decides where compiled code goes."""
    chosen = tmp_path / "chosen"
    _, path = where_code_goes(folder, NUMBA_CACHE_DIR=str(chosen))
    assert chosen in Path(path).parents


@jit.inner
def _halved(x: float) -> float:
    return 0.5 * x


@jit.merged
def _squared(x: float) -> float:
    return x * x


@numba.njit
def _combined(x: float) -> float:
    return _halved(x) + _squared(x)


def test_inner_and_merged_kernels_are_for_other_kernels() -> None:
    """What only kernels call works inside them; a merged one is never compiled by itself."""
    assert _combined(4.0) == 18.0
    assert _halved.signatures  # type: ignore[attr-defined]
    assert not _squared.signatures  # type: ignore[attr-defined]


def test_compiling_leaves_garbage_collection_as_it_was() -> None:
    """While kernels compile nothing is collected; afterwards all is as before, also on errors."""
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), jit.compiling():
        assert not gc.isenabled()
        _ = 1 / 0
    assert gc.isenabled()


def problem() -> MultipleChoiceProblem:
    """Return a problem that the engine splits."""
    rng = np.random.default_rng(0)
    usage = [rng.integers(0, 50, (6, 3)).astype(float) for _ in range(40)]
    return MultipleChoiceProblem([rng.random(6) for _ in usage], usage, np.full(3, 700.0))


def test_warming_compiles_exactly_what_a_search_uses() -> None:
    """After warming up, a search with nodes needs no other specialisation of a kernel."""
    from moe2opt.solvers.choice.kernels import descend
    from moe2opt.solvers.choice.search import explore
    from moe2opt.solvers.choice.state import preorder

    choice_warm.compile_kernels()
    result = moe2opt.solve(problem(), "brb", bound="core")
    assert result.stats["nodes"] > 1
    assert [len(kernel.signatures) for kernel in (descend, explore, preorder)] == [1, 1, 1]


class Unused:
    """A kernel that was never called and is not stored."""

    signatures = ()


def test_the_user_is_told_before_kernels_are_compiled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Compiling is announced before it starts."""
    said: list[str] = []
    monkeypatch.setattr(choice_warm, "explore", Unused())
    monkeypatch.setattr(jit, "is_stored", lambda kernel: False)
    monkeypatch.setattr(choice_warm, "compile_kernels", lambda: said.append(caplog.text))
    with caplog.at_level(logging.INFO, logger="moe2opt"):
        choice_warm.warm_up(Search(problem(), Options()))
    assert len(said) == 1
    assert "Compiling kernels" in said[0]


def test_a_paused_clock_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens while the clock is stopped takes no time from the limit."""
    now = [0.0]
    monkeypatch.setattr("moe2opt.solvers.base.time.perf_counter", lambda: now[0])
    search = Search(problem(), Options(time_limit_s=5.0))
    now[0] = 1.0
    with search.paused():
        now[0] = 100.0
    now[0] = 101.0
    assert (search.time_s, search.time_left_s) == (2.0, 3.0)


def test_code_of_other_sources_is_deleted(tmp_path: Path) -> None:
    """Code that was stored before any file of the engines changed is not loaded again."""
    forget = jit.forget_other_sources.__wrapped__
    code, stamp = tmp_path / "loop.grow-1.py311.nbi", tmp_path / "sources.txt"
    code.touch()
    forget(str(tmp_path))
    assert not code.exists()
    code.touch()
    forget(str(tmp_path))
    assert code.exists()
    stamp.write_text(stamp.read_text().replace("descent.py ", "descent.py 1"))
    forget(str(tmp_path))
    assert not code.exists()


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    """A folder that is not there, or cannot be written, is no error."""
    jit.forget_other_sources.__wrapped__(str(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()
