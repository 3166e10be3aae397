"""Sweeps and fleets run on any Executor; functions that use the package travel to all of them."""

from __future__ import annotations

import importlib.util
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import joblib
import pytest
from joblib.externals.loky import get_reusable_executor

import moe2opt as mo
from moe2opt.fleet import load_fleet, solve_fleet

OVER = {"energy.limit_j_per_prompt": [40, 60, 90]}

FLEET = """\
fleet: 1
name: demo
row: energy_j_per_prompt
limit: 300
sites:
  - {name: same, config: tiny, count: 3}
"""


def executors() -> dict[str, Any]:
    """Return ways to make an executor."""
    return {
        "threads": lambda: ThreadPoolExecutor(2),
        "processes": lambda: ProcessPoolExecutor(1, get_context("spawn")),
        "loky": lambda: get_reusable_executor(1),
    }


def rows(**where: Any) -> list[tuple[Any, ...]]:
    """Return what the cells of a sweep found."""
    names = ("status", "objective", "certified")
    return [tuple(row[n] for n in names) for row in mo.sweep("tiny", OVER, **where).rows]


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("processes", "loky")]


@pytest.mark.parametrize("name", ["threads", *SLOW])
def test_sweeps_run_on_any_executor(name: str, tmp_path: Path) -> None:
    """Every executor gives the rows of this process, and stays open."""
    executor: Executor = executors()[name]()
    try:
        expected = rows(out=tmp_path / "here")
        assert rows(out=tmp_path / name, executor=executor) == expected
        assert executor.submit(abs, -3).result() == 3
    finally:
        executor.shutdown()


def test_fleets_run_on_any_executor(tmp_path: Path) -> None:
    """A fleet on threads has the plans of one in this process."""
    (tmp_path / "fleet.yaml").write_text(FLEET)
    fleet = load_fleet(tmp_path / "fleet.yaml")
    with ThreadPoolExecutor(2) as pool:
        assert solve_fleet(fleet, executor=pool).to_dict() == solve_fleet(fleet).to_dict()


def test_lost_cells_are_rows(tmp_path: Path) -> None:
    """A cell that an executor loses is a row with its error, not an end of the sweep."""

    class Losing(Executor):
        def submit(self, function: Any, /, *args: Any, **named: Any) -> Any:
            future: Future[Any] = Future()
            future.set_exception(OSError("the machine is gone\nfor good"))
            return future

    found = mo.sweep("tiny", OVER, out=tmp_path, executor=Losing())
    told = "its worker was lost: OSError: the machine is gone"
    assert {row["error"] for row in found.rows} == {told}


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"executor": 3}, "executor: int has no method submit"),
        ({"executor": ThreadPoolExecutor(1), "workers": 2},
         "executor: give it alone, without backend, workers and scheduler"),
        ({"backend": ThreadPoolExecutor(1)},
         "backend: expected a name, got a ThreadPoolExecutor; see executor"),
    ],
)  # fmt: skip
def test_wrong_executors_are_told(where: dict[str, Any], message: str, tmp_path: Path) -> None:
    """What is no executor, or goes with nothing else, is one line."""
    with pytest.raises(mo.InputError) as caught:
        mo.sweep("tiny", OVER, out=tmp_path, **where)
    assert str(caught.value) == message


def test_a_closed_executor_is_told(tmp_path: Path) -> None:
    """An executor that was shut down before is one line."""
    closed = ThreadPoolExecutor(1)
    closed.shutdown()
    with pytest.raises(mo.InputError, match=r"^executor: cannot schedule new futures"):
        mo.sweep("tiny", OVER, out=tmp_path, executor=closed)


@pytest.mark.slow
def test_joblib_runs_functions_that_use_the_package() -> None:
    """A local function that uses the package runs in joblib's processes."""

    def local(limit: float) -> float:
        target = mo.load("tiny", overrides={"energy.limit_j_per_prompt": limit})
        return float(mo.solve(target).objective)

    found = joblib.Parallel(n_jobs=2)(joblib.delayed(local)(limit) for limit in (40.0, 90.0))
    assert found == [local(40.0), local(90.0)]


@pytest.mark.slow
def test_dask_runs_functions_sweeps_and_fleets(tmp_path: Path) -> None:
    """A local function, and a sweep through Dask's executor, run on a cluster."""
    distributed = pytest.importorskip("distributed")
    problem = mo.FacilityProblem([[3, 0, 2]], [1, 1, 1], 1)

    def local(budget: float) -> Any:
        return mo.solve(problem.with_budgets([budget]))

    with (
        distributed.LocalCluster(1, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        assert client.submit(local, 2).result() == local(2)
        expected = rows(out=tmp_path / "here")
        assert rows(out=tmp_path / "dask", executor=client.get_executor()) == expected


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_ray_runs_functions_that_use_the_package() -> None:
    """A local function that uses the package runs in Ray's workers."""
    import ray

    def local(budget: float) -> float:
        return float(mo.solve(mo.FacilityProblem([[3, 0, 2]], [1, 1, 1], budget)).objective)

    ray.init(num_cpus=1, include_dashboard=False)
    try:
        assert ray.get(ray.remote(local).remote(2)) == local(2)
    finally:
        ray.shutdown()
