"""Folders of results, and a headless browser where the machine has one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import moe2opt as mo
from moe2opt import progress
from moe2opt.pareto import Axis, Cell, Grid
from moe2opt.result import Result

ENERGY_J = (40.0, 60.0, 80.0, 130.0, 200.0)
DELAY_S = (2.0, 5.0, 10.0)


def solved(folder: Path, name: str, **settings: Any) -> Result:
    """Solve a built-in problem and write what ``solve --out`` writes."""
    folder.mkdir(parents=True, exist_ok=True)
    instance = mo.load(name, settings.pop("scenario", None))
    (folder / "config.yaml").write_text(instance.source.effective_yaml(), encoding="utf-8")
    with progress.json_lines(folder / "log.jsonl") as listener:
        result = mo.solve(instance, on_progress=listener, **settings)
    result.save(folder / "result.json")
    return result


def tiny_grid() -> Grid:
    """Return a grid of `tiny` over energy and delay, each cell solved on its own and certified."""
    cells, plans = [], []
    for i, energy in enumerate(ENERGY_J):
        for j, delay in enumerate(DELAY_S):
            keys = {"energy.limit_j_per_prompt": energy, "delay.limit_s": delay}
            instance = mo.load("tiny", overrides=keys)
            result = mo.solve(instance)
            sure = mo.certify(instance, result).ok
            if result.plan is not None:
                plans.append(result.plan.to_dict())
            cells.append(
                Cell(
                    index=(i, j),
                    budgets=(energy, delay),
                    status=str(result.status),
                    limit=None,
                    objective=result.objective,
                    bound=result.bound,
                    certified=sure,
                    used={}
                    if result.plan is None
                    else {b.name: b.used for b in result.plan.budgets},
                    x=None if result.x is None else tuple(result.x.tolist()),
                    plan=None if result.plan is None else len(plans) - 1,
                )
            )
    axes = (Axis("energy_j_per_prompt", "row", ENERGY_J), Axis("delay.limit_s", "key", DELAY_S))
    return Grid("tiny", axes, tuple(cells), tuple(plans))


@pytest.fixture(scope="session")
def solve_into() -> Callable[..., Result]:
    """Return a function that solves a problem into a folder."""
    return solved


@pytest.fixture(scope="session")
def grid_of_tiny() -> Grid:
    """Return the grid of `tiny`; one cell is made to look uncertified."""
    grid = tiny_grid()
    cells = list(grid.cells)
    cells[-1] = replace(cells[-1], certified=False)
    return replace(grid, cells=tuple(cells))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, grid_of_tiny: Grid) -> Path:
    """Return a folder with a solved `tiny` and its grid."""
    folder = tmp_path_factory.mktemp("tiny")
    solved(folder, "tiny")
    grid_of_tiny.save(folder / "grid.json")
    return folder


@pytest.fixture
def copy_of_tiny(tiny_folder: Path, tmp_path: Path) -> Path:
    """Return a copy of that folder, for tests that change it."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


#: Chromium as root in a container, without its own traffic.
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--proxy-server=127.0.0.1:9"),
)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start a headless Chromium whose every connection is refused."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium or chromedriver is not installed")
    options = selenium.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    window = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    yield window
    window.quit()
