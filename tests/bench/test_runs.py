"""Workers, launchers, reports and the verb, with peers that are always installed."""

from __future__ import annotations

import json
import sys
import types
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from moe2opt.bench import Case, Plan, launch, peers, run_bench
from moe2opt.bench.job import ENDS, Job
from moe2opt.bench.launch import Launcher
from moe2opt.bench.peers import Answer, PeerInfo, Run, UnsupportedError
from moe2opt.bench.peers.linear import CutFamily, rounded
from moe2opt.bench.worker import thinned, work
from moe2opt.canonical import FacilityProblem, load_problem, save_problem
from moe2opt.cli import app

TINY = Case("test", "tiny", "uniform", {"experts": 8, "clusters": 15, "fraction": 0.4, "seed": 3})


def fake_peer(monkeypatch: pytest.MonkeyPatch, solve: object) -> None:
    """Register the peer ``fake`` with the function `solve`."""
    module = types.ModuleType("fake_peer_of_tests")
    module.solve = solve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    info = PeerInfo("fake", "a test", module.__name__, (), ())
    monkeypatch.setitem(peers.PEERS, "fake", info)


def fake_python(folder: Path, body: str) -> str:
    """Return an interpreter that runs `body` with ``out`` open instead of the worker."""
    path = folder / "python"
    code = "import json, sys, time\nout = open(sys.argv[-1], 'a')\n"
    path.write_text(f"#!{sys.executable}\n{code}{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("peer", ["brb", "highs-milp", "highs-cuts", "milp", "enumerate"])
def test_exact_peers_agree(peer: str) -> None:
    """Every exact peer proves the same optimum on a tiny instance."""
    row = work(Job(TINY, peer, time_limit_s=30.0))
    best = work(Job(TINY, "enumerate"))
    assert (row.end, row.status, row.wrong, row.note) == ("finished", "OPTIMAL", "", "")
    assert row.objective == best.objective
    assert row.fingerprint == best.fingerprint
    assert row.trajectory[-1][1] == row.objective


def test_our_certificate_is_checked() -> None:
    """The certificate of brb is checked, and the seconds of the check are apart."""
    row = work(Job(TINY, "brb"))
    assert row.certificate == "checked"
    assert row.check_s > 0
    assert work(Job(TINY, "brb", certify=False)).certificate == ""


def test_a_missing_peer_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that is not installed is reported, and does not count."""
    info = PeerInfo("fake", "a test", "no_such_module", (), ("no_such_module",))
    monkeypatch.setitem(peers.PEERS, "fake", info)
    row = work(Job(TINY, "fake"))
    assert (row.end, row.note) == ("missing", "no_such_module not installed")
    assert not row.counted


def test_missing_data_are_a_row() -> None:
    """An instance without its data is reported, and does not count."""
    case = Case("orlib", "pmed1", "orlib", {"family": "pmed", "instance": "pmed1"})
    row = work(Job(case, "brb"))
    assert row.end == "missing"
    assert "data folder" in row.note


def test_an_unsupported_problem_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that cannot express a problem says so."""

    def solve(run: Run) -> Answer:
        raise UnsupportedError("only circles")

    fake_peer(monkeypatch, solve)
    row = work(Job(TINY, "fake"))
    assert (row.end, row.note, row.counted) == ("unsupported", "only circles", False)


def test_a_problem_that_a_solver_of_ours_refuses_is_a_row() -> None:
    """A box with too many points to enumerate is no failure of `enumerate`."""
    row = work(Job(replace(TINY, arguments={**TINY.arguments, "experts": 60}), "enumerate"))
    assert (row.end, row.counted) == ("unsupported", False)
    assert "points are more than" in row.note


def test_a_failing_peer_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a peer raises becomes a row that counts as unsolved."""

    def solve(run: Run) -> Answer:
        raise RuntimeError("fell over")

    fake_peer(monkeypatch, solve)
    row = work(Job(TINY, "fake"))
    assert (row.end, row.status, row.counted) == ("failed", "ERROR", True)
    assert "fell over" in row.note


def test_a_wrong_optimum_is_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A claimed optimum is compared with the value of the solution, evaluated again."""

    def solve(run: Run) -> Answer:
        run.start()
        run.offer(np.eye(8, dtype=int)[0])
        return Answer("optimal", bound=1e9)

    fake_peer(monkeypatch, solve)
    row = work(Job(TINY, "fake"))
    assert "claims optimal" in row.wrong
    assert not row.solved


def test_an_infeasible_solution_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A solution that the canonical problem rejects is no solution."""

    def solve(run: Run) -> Answer:
        run.start()
        run.offer(np.ones(8, dtype=int))
        return Answer("optimal", bound=15_000.0)

    fake_peer(monkeypatch, solve)
    row = work(Job(TINY, "fake"))
    assert row.status == "NO_SOLUTION"
    assert "no feasible solution" in row.wrong
    assert "1 solutions were infeasible" in row.note


def test_other_runs_refute_a_false_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A consistent but false optimum is found out by the solution of another peer."""

    def solve(run: Run) -> Answer:
        run.start()
        value = run.offer(np.eye(8, dtype=int)[0])
        return Answer("optimal", bound=value)

    fake_peer(monkeypatch, solve)
    liar, honest = work(Job(TINY, "fake")), work(Job(TINY, "enumerate"))
    assert liar.solved
    liar, honest = launch.cross_check([liar, honest])
    assert not liar.solved
    assert honest.solved


def test_a_process_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    """A worker beyond limit and grace is killed; what it had reported survives, unproven."""
    lines = '{"started": 0.0}\\n{"point": [0.5, 3.0, "inf"]}\\n{"point": [0.7'
    python = fake_python(tmp_path, f"out.write('''{lines}'''); out.flush(); time.sleep(600)")
    job = Job(TINY, "highs-milp", time_limit_s=0.2)
    row = Launcher(tmp_path, python, grace_s=0.1).run(job, 1)
    assert (row.end, row.status, row.objective) == ("killed", "FEASIBLE", 3.0)
    assert row.trajectory == [(0.5, 3.0, float("inf"))]
    assert row.note == "did not stop at the time limit"
    assert not row.solved


def test_a_process_that_is_never_ready_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that never reaches the solver is killed after its time to prepare."""
    monkeypatch.setattr(launch, "PREPARE_S", 0.2)
    python = fake_python(tmp_path, "time.sleep(600)")
    row = Launcher(tmp_path, python).run(Job(TINY, "highs-milp"), 1)
    assert (row.end, row.status) == ("killed", "NO_SOLUTION")


def test_a_process_over_its_memory_limit_is_killed(tmp_path: Path) -> None:
    """A worker that holds more than the memory limit is killed."""
    python = fake_python(tmp_path, "x = bytearray(2 * 10**8); time.sleep(600)")
    job = Job(TINY, "highs-milp", memory_limit_bytes=10**8)
    row = Launcher(tmp_path, python).run(job, 1)
    assert (row.end, row.note) == ("killed", "exceeded the memory limit")


def test_a_process_that_dies_is_a_row(tmp_path: Path) -> None:
    """A crash is reported with the last words of the process."""
    python = fake_python(tmp_path, "sys.exit('out of ideas')")
    row = Launcher(tmp_path, python).run(Job(TINY, "highs-milp"), 1)
    assert (row.end, row.status) == ("failed", "ERROR")
    assert "out of ideas" in row.note


def test_workers_have_one_thread(tmp_path: Path) -> None:
    """Every thread pool of a worker is pinned to one thread."""
    body = "import os; sys.exit(' '.join(k for k in os.environ if k.endswith('_NUM_THREADS')" + (
        " and os.environ[k] == '1'))"
    )
    row = Launcher(tmp_path, fake_python(tmp_path, body)).run(Job(TINY, "brb"), 1)
    assert "OMP_NUM_THREADS" in row.note
    assert "NUMBA_NUM_THREADS" in row.note


def test_slow_recipes_are_built_once(tmp_path: Path) -> None:
    """The second worker loads the instance that the first has built."""
    arguments = {"prompts": None, "servers": 2, "energy": "tight"}
    job = Job(Case("real", "two", "catalogue", arguments), "greedy", cache=str(tmp_path))
    first = work(job)
    assert isinstance(load_problem(tmp_path / "real-two.npz"), FacilityProblem)
    again = work(job)
    assert (first.fingerprint, first.note) == (again.fingerprint, again.note)


def test_report_of_a_whole_run(tmp_path: Path) -> None:
    """A run in real processes gives a complete report, a table and plots."""
    problem = tmp_path / "tiny.json"
    values = np.random.default_rng(0).integers(0, 50, (20, 9)).astype(float)
    save_problem(FacilityProblem(values, np.ones((1, 9)), np.array([3.0])), problem)
    plan = Plan((str(problem),), ("brb", "highs-milp"), time_limit_s=20.0)
    seen: list[tuple[int, int]] = []
    report = run_bench(plan, lambda number, total, row: seen.append((number, total)))
    assert seen == [(1, 2), (2, 2)]
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert content["format"] == "moe2opt-bench/1"
    keys = {"started_utc", "plan", "machine", "versions", "rows", "summaries", "growth"}
    assert keys < set(content)
    ours, highs = content["rows"]
    assert ours["end"] in ENDS
    assert ours["certificate"] == "checked"
    assert ours["solved"] and highs["solved"]
    assert ours["objective"] == highs["objective"]
    assert ours["peak_bytes"] > ours["before_bytes"] / 2 > 0
    assert ours["cpu_s"] > 0 and highs["cpu_s"] > 0
    busy = replace(report, plan=replace(report.plan, clock="processor"))
    assert [row.solve_s for row in busy.timed] == [row.cpu_s for row in report.rows]
    assert [row.solve_s for row in report.timed] == [row.solve_s for row in report.rows]
    assert highs["versions"]["highspy"]
    for path in report.write(tmp_path / "out"):
        if path.suffix == ".svg":
            assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_verb_lists_suites_and_peers() -> None:
    """`bench --list --json` names every suite, and says which peers are installed."""
    done = CliRunner().invoke(app, ["bench", "--list", "--json"])
    content = json.loads(done.stdout)
    assert done.exit_code == 0
    assert "selection-structured" in [suite["name"] for suite in content["suites"]]
    assert {"brb", "gurobi", "cpsat"} <= {peer["name"] for peer in content["peers"]}


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-suite"],
        ["orlib", "--peers", "no-such-peer"],
        ["orlib", "--seeds", "0"],
        ["orlib", "--time-limit", "0"],
        ["orlib", "--data", "no-such-folder"],
        ["orlib", "--python", "no-such-interpreter"],
    ],
)
def test_verb_refuses_bad_input(arguments: list[str]) -> None:
    """Names and numbers that make no sense end with exit code 2 and no traceback."""
    done = CliRunner().invoke(app, ["bench", *arguments])
    assert done.exit_code == 2
    assert "Traceback" not in done.output


def test_verb_runs(tmp_path: Path) -> None:
    """The verb runs a problem file, prints the table and writes the report."""
    problem = tmp_path / "tiny.json"
    save_problem(FacilityProblem(np.eye(3), np.ones((1, 3)), np.array([2.0])), problem)
    options = ["--peers", "highs-milp", "--time-limit", "20", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["bench", str(problem), *options])
    assert done.exit_code == 0, done.output
    assert "OPTIMAL" in done.output
    assert json.loads((tmp_path / "out" / "bench.json").read_text())["rows"][0]["solved"]


def test_cuts_are_valid_and_tight() -> None:
    """At a choice, blocks are worth its objective; a cut never falls below any choice's value."""
    rng = np.random.default_rng(5)
    values = rng.integers(0, 90, (30, 7)).astype(float)
    problem = FacilityProblem(values, np.ones((1, 7)), np.array([3.0]))
    family = CutFamily(problem, blocks=4)
    points = rng.integers(0, 2, (40, 7))
    for x in points:
        assert family.worth(x).sum() == pytest.approx(problem.evaluate(x) * family.scale)
    y = rng.random(7)
    cuts = family.violated(y, family.ceilings + 1.0)
    assert len(cuts) == 4
    for cut in cuts:
        tight = cut.constant + cut.coefficients @ y
        assert tight == pytest.approx(family.worth(y)[cut.block])
        for x in points:
            assert cut.constant + cut.coefficients @ x >= family.worth(x)[cut.block] - 1e-9


def test_rounding_keeps_budgets_and_groups() -> None:
    """Rounding a fractional choice gives a feasible one."""
    groups = (np.array([0, 1]),)
    budget = np.array([2.0])
    problem = FacilityProblem(np.eye(4), np.ones((1, 4)), budget, groups=groups)
    x = rounded(problem, np.array([0.9, 0.8, 0.7, 0.6]))
    assert x.tolist() == [1, 0, 1, 0]
    assert problem.is_feasible(x)


def test_long_trajectories_are_thinned() -> None:
    """The first and the last point survive."""
    points = [(float(k), 0.0, 1.0) for k in range(1000)]
    kept = thinned(points)
    assert (len(kept), kept[0], kept[-1]) == (200, points[0], points[-1])


def test_published_optima_are_compared(tmp_path: Path) -> None:
    """A solution above what is published as the optimum is flagged, and so is a bound below."""
    folder = tmp_path / "instances" / "mknap"
    folder.mkdir(parents=True)
    (folder / "mknap1.txt").write_text("1  2 1 9   5 7  3 4  5")
    case = Case("orlib", "mknap1-1", "orlib", {"family": "mknap", "instance": "mknap1-1"})
    for published, wrong in (("7", ""), ("6", "exceeds the published"), ("8", "is below the publ")):
        text = f"instance,best_known,is_optimum,source\nmknap1-1,{published},True,made up\n"
        (folder / "values.csv").write_text(text)
        row = work(Job(case, "enumerate", data=str(tmp_path)))
        assert row.objective == 7.0
        assert wrong in row.wrong
        assert bool(row.wrong) == bool(wrong)


@pytest.mark.parametrize("peer", ["scip", "cpsat", "gurobi", "polyblocks"])
def test_optional_peers_agree(peer: str, tmp_path: Path) -> None:
    """A peer that is installed proves the same optimum, in a process of its own."""
    missing = peers.PEERS[peer].missing()
    if missing:
        pytest.skip(f"{missing[0]} is not installed")
    row = Launcher(tmp_path).run(Job(TINY, peer, time_limit_s=60.0), 1)
    assert row.solved, row
    assert row.objective == work(Job(TINY, "enumerate")).objective
