"""Fleets: plans keep the shared budget, bounds are proven, and enumeration agrees."""

from __future__ import annotations

import gzip
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations_of_results import mutations
from strategies import all_points, choice_problems, facility_problems

import moe2opt as mo
from moe2opt.cli.verbs.fleet import fleet as fleet_verb
from moe2opt.fleet import Fleet, Site, load_fleet, save_fleet, solve_fleet, verify_fleet
from moe2opt.fleet.driver import _Run
from moe2opt.fleet.priced import SiteState, priced
from moe2opt.result import InputError, Status

TEXT = """\
fleet: 1
name: demo
row: energy_j_per_prompt
limit: {limit}
seed: 1
sites:
  - name: varied
    config: tiny
    count: 5
    rate: {{low: 0.5, high: 2.0}}
    vary: {{use: 0.1, quality: 0.02}}
  - name: same
    config: tiny
    count: 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the file of a fleet of eight sites, three of them alike."""
    path = tmp_path / "fleet.yaml"
    path.write_text(TEXT.format(limit=700), encoding="utf-8")
    return path


def outcomes(problem: Any, row: int) -> list[tuple[float, float]]:
    """Return value and use of the shared row of every feasible solution."""
    points = [x for x in all_points(problem) if problem.is_feasible(x)]
    return [(problem.evaluate(x), float(problem.usage_of(x)[row])) for x in points]


@settings(max_examples=25)
@given(st.one_of(facility_problems(), choice_problems()), st.integers(0, 8))
def test_priced_problems_have_the_priced_optimum(problem: Any, eighths: int) -> None:
    """The bound of a site at a price is its best value minus price times use, and is certified."""
    if not len(problem.budgets):
        return
    price = eighths / 8
    pairs = outcomes(problem, 0)
    state = SiteState(problem, 0)
    state.ask(0.0, 0.0)
    answer = state.ask(price, 0.0)
    assert answer.certified
    expected = max((v - price * u for v, u in pairs), default=-math.inf)
    assert answer.bound == pytest.approx(expected, rel=1e-11, abs=1e-9)
    if pairs:
        assert answer.value - price * answer.used == pytest.approx(expected, rel=1e-11, abs=1e-9)


@settings(max_examples=6)
@given(st.lists(facility_problems(experts=4), min_size=2, max_size=3), st.integers(1, 20))
def test_bound_covers_enumeration(problems: list[Any], limit: int) -> None:
    """No combination of site plans within the shared budget is worth more than the bound."""
    problems = [p for p in problems if len(p.budgets)]
    if not problems:
        return
    sites = tuple(Site(f"s{k}", p, 0, 1.0) for k, p in enumerate(problems))
    found = solve_fleet(Fleet("f", "r", float(limit), sites), rel_gap=1e-6)
    best = max(
        (
            sum(v for v, _ in pairs)
            for pairs in itertools.product(*(outcomes(p, 0) for p in problems))
            if sum(u for _, u in pairs) <= limit
        ),
        default=-math.inf,
    )
    assert found.bound >= best - 1e-9
    assert found.objective <= best + 1e-9
    assert found.used <= limit or found.status in (Status.INFEASIBLE, Status.NO_SOLUTION)


def test_fleet_file(file: Path) -> None:
    """A file gives the sites it names; equal sites are solved once, and all budgets are kept."""
    fleet = load_fleet(file)
    assert len(fleet.sites) == 8
    found = solve_fleet(fleet, rel_gap=0.05)
    assert len(found.distinct) == 6
    assert found.certified
    assert found.used <= fleet.limit
    assert found.objective <= found.bound
    table = found.to_frame(fleet)
    assert float((table["rate"] * table["value"]).sum()) == pytest.approx(found.objective)
    assert any("synthetic" in caveat for caveat in fleet.caveats)


def test_saved_fleets_are_checked(file: Path, tmp_path: Path) -> None:
    """What was saved holds; a better bound, a lost proof or a plan of another value does not."""
    fleet = load_fleet(file)
    save_fleet(solve_fleet(fleet, rel_gap=0.05), fleet, tmp_path / "out")
    assert verify_fleet(tmp_path / "out", fleet) == []
    told = tmp_path / "out" / "fleet.json"
    content = json.loads(told.read_text(encoding="utf-8"))
    told.write_text(json.dumps({**content, "bound": content["bound"] * 0.9}), encoding="utf-8")
    assert "the sites prove" in verify_fleet(tmp_path / "out", fleet)[0]
    told.write_text(json.dumps({**content, "objective": content["bound"]}), encoding="utf-8")
    assert "the plans are worth" in verify_fleet(tmp_path / "out", fleet)[0]
    told.write_text(json.dumps(content), encoding="utf-8")
    proofs = tmp_path / "out" / "proofs.jsonl.gz"
    lines = gzip.decompress(proofs.read_bytes()).splitlines(keepends=True)
    proofs.write_bytes(gzip.compress(b"".join(lines[1:])))
    assert "no proof" in verify_fleet(tmp_path / "out", fleet)[0]


def test_changed_fleets_are_rejected(file: Path, tmp_path: Path) -> None:
    """A saved fleet is rejected with any leaf of its file or any cell of its table changed."""
    fleet = load_fleet(file)
    save_fleet(solve_fleet(fleet, rel_gap=0.05), fleet, tmp_path / "out")
    told, table = tmp_path / "out" / "fleet.json", tmp_path / "out" / "sites.csv"
    content, rows = json.loads(told.read_text()), table.read_text()
    for what, mutant in mutations(content, 60, ("price", "rel_gap", "solved", "rounds")):
        told.write_text(json.dumps(mutant), encoding="utf-8")
        assert rejected(tmp_path / "out", fleet), f"{what} was accepted"
    told.write_text(json.dumps(content), encoding="utf-8")
    lines = rows.splitlines()
    for k, cell in enumerate(lines[1].split(",")):
        changed = "other" if k == 0 else str(float(cell) + 1)
        first = [*lines[1].split(",")[:k], changed, *lines[1].split(",")[k + 1 :]]
        table.write_text("\n".join([lines[0], ",".join(first), *lines[2:]]), encoding="utf-8")
        assert rejected(tmp_path / "out", fleet), f"{lines[0].split(',')[k]} was accepted"
    table.write_text("\n".join(lines[:-1]), encoding="utf-8")
    assert rejected(tmp_path / "out", fleet)


def test_a_wide_gap_is_said(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An optimum that only the gap in the file makes one is accepted with that gap's words."""
    fleet, out = load_fleet(file), tmp_path / "out"
    save_fleet(solve_fleet(fleet, rel_gap=0.05), fleet, out)
    content = json.loads((out / "fleet.json").read_text())
    assert content["gap"] > 1e-9
    changed = {**content, "rel_gap": 1.0, "status": "OPTIMAL"}
    (out / "fleet.json").write_text(json.dumps(changed), encoding="utf-8")
    assert fleet_verb(file, backend="serial", out=out, check=True) == 0
    assert "optimal only within a relative gap of 1;" in capsys.readouterr().out


def rejected(folder: Path, fleet: Fleet) -> bool:
    """Tell whether the check finds fault; content that is no fleet is a fault."""
    try:
        return bool(verify_fleet(folder, fleet))
    except mo.InputError:
        return True


def test_a_fleet_of_placements_minimises(tmp_path: Path) -> None:
    """Sites that minimise give a fleet in their own sense and unit, which the check accepts."""
    path = tmp_path / "fleet.yaml"
    path.write_text(
        "fleet: 1\nname: boxes\nrow: loss_nats\nlimit: 100\n"
        "sites: [{name: box, config: tinymoe, count: 2, rate: 1}]\n",
        encoding="utf-8",
    )
    fleet = load_fleet(path)
    found = solve_fleet(fleet, rel_gap=0.1)
    content = found.to_dict()
    assert (content["sense"], content["unit"]) == ("minimize", "s per token x rate")
    assert content["objective"] == -found.objective > 0
    save_fleet(found, fleet, tmp_path / "out")
    assert verify_fleet(tmp_path / "out", fleet) == []


def test_impossible_fleets(file: Path, tmp_path: Path) -> None:
    """Too small a shared budget is proven to have no plan, and so is a site without any."""
    sites = load_fleet(file).sites
    impossible = Fleet("f", "energy_j_per_prompt", 1.0, sites)
    small = solve_fleet(impossible)
    assert small.status is Status.INFEASIBLE
    assert small.certified
    assert small.bound < 0.0
    save_fleet(small, impossible, tmp_path / "small")
    assert not verify_fleet(tmp_path / "small", impossible)
    assert verify_fleet(tmp_path / "small", Fleet("f", "energy_j_per_prompt", 700.0, sites))
    broken: Any = mo.load("tiny", "infeasible").problem()
    site = Site("broken", broken, 2, 1.0)
    assert solve_fleet(Fleet("f", "e", 1e6, (*sites, site))).status is Status.INFEASIBLE


@pytest.mark.slow
def test_processes_give_the_same_fleet(file: Path) -> None:
    """Two worker processes find what one process finds."""
    fleet = load_fleet(file)
    serial = solve_fleet(fleet, rel_gap=0.05)
    process = solve_fleet(fleet, rel_gap=0.05, backend="process", workers=2)
    assert serial.to_dict() == process.to_dict()


def test_bad_fleets_are_told(file: Path, tmp_path: Path) -> None:
    """Unknown rows, keys and rates are errors that name what is wrong."""
    text = file.read_text(encoding="utf-8")
    for old, new, message in (
        ("energy_j_per_prompt", "energy", "no budget row"),
        ("count: 3", "count: 0", "count"),
        ("name: demo", "nam: demo", "nam"),
    ):
        file.write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(InputError, match=message):
            load_fleet(file)
    problem: Any = mo.load("tiny").problem()
    with pytest.raises(InputError, match="rate"):
        Fleet("f", "r", 1.0, (Site("s", problem, 0, 0.0),))
    with pytest.raises(InputError, match="row 9"):
        Fleet("f", "r", 1.0, (Site("s", problem, 9, 1.0),))
    with pytest.raises(InputError, match="at least one site"):
        Fleet("f", "r", 1.0, ())


def test_prices_leave_the_plan_readable() -> None:
    """A solution of the priced problem starts with the site's own variables."""
    problem: Any = mo.load("tiny").problem()
    posed = priced(problem, 2, 0.001)
    x = mo.solve(problem).x
    assert x is not None
    grown = posed.extended(x)
    assert grown is not None
    assert np.array_equal(grown[: problem.size], x)
    worth = problem.evaluate(x) - 0.001 * float(problem.usage_of(x)[2])
    assert posed.problem.evaluate(grown) == pytest.approx(worth + posed.shift)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_dask_gives_the_same_fleet(file: Path) -> None:
    """A local Dask cluster finds what one process finds."""
    pytest.importorskip("distributed", reason="dask.distributed is not installed")
    fleet = load_fleet(file)
    serial = solve_fleet(fleet, rel_gap=0.05)
    dask = solve_fleet(fleet, rel_gap=0.05, backend="dask", workers=2)
    assert serial.to_dict() == dask.to_dict()


@pytest.mark.parametrize("known", [False, True])
def test_an_interrupted_fleet_says_what_is_proven(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], known: bool
) -> None:
    """Before the first price there is no certificate, which is not a rejected one."""
    search = _Run._round

    def interrupted(run: Any, which: Any, price: float) -> None:
        if known and not run.rounds:
            return search(run, which, price)
        raise KeyboardInterrupt

    monkeypatch.setattr(_Run, "_round", interrupted)
    fleet_verb(file, 1e-6, backend="serial", quiet=True)
    shown = capsys.readouterr().out
    assert f"certificate {'checked' if known else 'none'}" in shown
    assert known or "gap -" in shown
