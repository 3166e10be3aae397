"""What holds for every fleet: sums, order, scale, larger budgets; and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import choice_problems, facility_problems

import moe2opt as mo
from moe2opt.fleet import Fleet, FleetResult, Site, load_fleet, solve_fleet
from moe2opt.result import InputError, Status

PLANNED = (Status.OPTIMAL, Status.FEASIBLE)


@st.composite
def fleets(draw: Any, most: int = 4) -> Fleet:
    """Fleets of up to `most` tiny sites, some alike, under a budget that may be too small."""
    posed = facility_problems(experts=4) | choice_problems(groups=3, options=3)
    problems = draw(st.lists(posed.filter(lambda p: len(p.budgets)), min_size=1, max_size=2))
    picks = draw(st.lists(st.integers(0, len(problems) - 1), min_size=1, max_size=most))
    rates = draw(st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=most, max_size=most))
    sites = tuple(
        Site(f"s{n}", problems[k], 0, rate)
        for n, (k, rate) in enumerate(zip(picks, rates, strict=False))
    )
    most_used = sum(site.rate * float(np.abs(site.problem.costs[0]).sum()) for site in sites)
    return Fleet("drawn", "row", most_used * draw(st.integers(1, 10)) / 10, sites)


def solved(fleet: Fleet) -> FleetResult:
    """Return the result of a fleet, solved closely."""
    return solve_fleet(fleet, rel_gap=1e-6)


def slack(*values: float) -> float:
    """Return by how much rounding may change numbers of this size."""
    return 1e-9 * (1.0 + sum(abs(value) for value in values if math.isfinite(value)))


@settings(max_examples=25)
@given(fleets())
def test_a_fleet_is_the_sum_of_its_sites(fleet: Fleet) -> None:
    """Objective and use are the rates times what each site's own problem says of its plan."""
    found = solved(fleet)
    if found.status not in PLANNED:
        assert len(found.choice) == 0
        return
    plans = [found.answer_of(s).x for s in range(len(fleet.sites))]
    for site, x in zip(fleet.sites, plans, strict=True):
        assert site.problem.is_feasible(x)
    pairs = list(zip(fleet.sites, plans, strict=True))
    worth = math.fsum(site.rate * site.problem.evaluate(x) for site, x in pairs)
    used = math.fsum(site.rate * float(site.problem.usage_of(x)[site.row]) for site, x in pairs)
    assert found.objective == pytest.approx(worth, rel=1e-12, abs=1e-12)
    assert found.used == pytest.approx(used, rel=1e-12, abs=1e-12)
    assert used <= fleet.limit + slack(used)
    assert worth <= found.bound + slack(worth)


@settings(max_examples=15)
@given(fleets(), st.randoms(use_true_random=False))
def test_the_order_of_sites_proves_nothing(fleet: Fleet, dice: Any) -> None:
    """Sites in another order have the same bound, and plans that the bound covers."""
    sites = list(fleet.sites)
    dice.shuffle(sites)
    one, other = solved(fleet), solved(replace(fleet, sites=tuple(sites)))
    assert (one.status in PLANNED) == (other.status in PLANNED)
    assert other.objective <= one.bound + slack(one.bound)
    assert one.objective <= other.bound + slack(one.bound)
    if one.status is other.status is Status.OPTIMAL:
        assert other.objective == pytest.approx(one.objective, rel=1e-5, abs=1e-9)


@settings(max_examples=15)
@given(fleets(), st.sampled_from([0.25, 4.0]))
def test_rates_have_no_scale(fleet: Fleet, factor: float) -> None:
    """All rates and the limit times a power of two: objective and bound times that power."""
    sites = tuple(replace(site, rate=factor * site.rate) for site in fleet.sites)
    one = solved(fleet)
    other = solved(replace(fleet, sites=sites, limit=factor * fleet.limit))
    assert other.status is one.status
    if one.status in PLANNED:
        assert other.objective == pytest.approx(factor * one.objective, rel=1e-9, abs=1e-9)
        assert other.bound == pytest.approx(factor * one.bound, rel=1e-9, abs=1e-9)


@settings(max_examples=15)
@given(fleets())
def test_a_larger_budget_never_hurts(fleet: Fleet) -> None:
    """No plan within a budget is worth more than what is proven for twice that budget."""
    one, other = solved(fleet), solved(replace(fleet, limit=2 * fleet.limit))
    assert one.objective <= other.bound + slack(one.objective)
    assert one.status not in PLANNED or other.status is not Status.INFEASIBLE


@settings(max_examples=25)
@given(facility_problems(experts=5) | choice_problems(), st.integers(1, 10))
def test_a_site_alone_is_its_problem(problem: Any, tenths: int) -> None:
    """The bound of one site covers the optimum of its problem with the shared limit as its own."""
    if not len(problem.budgets):
        return
    limit = float(np.abs(problem.costs[0]).sum()) * tenths / 10
    found = solved(Fleet("one", "row", limit, (Site("s", problem, 0, 1.0),)))
    budgets = np.array(problem.budgets)
    budgets[0] = min(budgets[0], limit)
    alone = mo.solve(problem.with_budgets(budgets))
    if alone.status is Status.OPTIMAL:
        assert found.bound >= alone.objective - slack(alone.objective)
        assert found.objective <= alone.objective + slack(alone.objective)
    else:
        assert found.status not in PLANNED


def test_a_budget_that_binds_nobody_costs_nothing() -> None:
    """With more than all sites can use, each has its own optimum, at a price of 0."""
    tiny: Any = mo.load("tiny").problem()
    sites = tuple(Site(f"s{k}", tiny, 2, rate) for k, rate in enumerate((0.5, 2.0)))
    found = solved(Fleet("rich", "energy_j_per_prompt", 1e4, sites))
    assert (found.status, found.price) == (Status.OPTIMAL, 0.0)
    assert found.objective == pytest.approx(2.5 * mo.solve(tiny).objective)


def test_a_fleet_without_a_plan_has_a_table_of_gaps() -> None:
    """The table of an infeasible fleet names its sites, and has neither values nor uses."""
    tiny: Any = mo.load("tiny").problem()
    fleet = Fleet("poor", "energy_j_per_prompt", 1.0, (Site("a", tiny, 2, 1.0),))
    table = solved(fleet).to_frame(fleet)
    assert table["site"].tolist() == ["a"]
    assert table[["value", "used"]].isna().all(axis=None)


@pytest.mark.parametrize("limit", [math.nan, math.inf, -math.inf])
def test_limits_are_finite(limit: float) -> None:
    """A limit that is no number, or none at all, is refused with the fleet's name."""
    tiny: Any = mo.load("tiny").problem()
    with pytest.raises(InputError, match=r"^fleet f: the limit -?(nan|inf) must be finite$"):
        Fleet("f", "r", limit, (Site("a", tiny, 2, 1.0),))


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_rates_are_positive_numbers(rate: float) -> None:
    """A rate that is not positive and finite is refused with the site's name."""
    tiny: Any = mo.load("tiny").problem()
    with pytest.raises(InputError, match=r"^site a: the rate .* must be positive$"):
        Fleet("f", "r", 1.0, (Site("a", tiny, 2, rate),))


def test_sites_have_budget_rows() -> None:
    """A monotone problem has no row that could be shared, and is refused."""
    free: Any = mo.MonotoneProblem([0], [2], lambda x: x[:, 0], [lambda x: x[:, 0] - 1])
    with pytest.raises(InputError, match=r"site a: its problem \(MonotoneProblem\) has no budget"):
        Fleet("f", "r", 1.0, (Site("a", free, 0, 1.0),))


@pytest.mark.parametrize("gap", [0.0, -1.0, math.nan, math.inf])
def test_gaps_are_positive(gap: float) -> None:
    """A gap that no search can reach, or any can, is refused."""
    tiny: Any = mo.load("tiny").problem()
    with pytest.raises(InputError, match=r"^rel_gap = .* it must be positive$"):
        solve_fleet(Fleet("f", "r", 1.0, (Site("a", tiny, 2, 1.0),)), rel_gap=gap)


FILE = """\
fleet: 1
name: demo
row: energy_j_per_prompt
limit: 700
sites:
  - {name: a, config: tiny, count: 2}
  - {name: b, config: tiny, count: 1}
"""

#: A change of the file, and what the message about it begins with.
BAD_FILES = [
    ("fleet: 1", "fleet: 2", "fleet.yaml:1:8: fleet: "),
    ("limit: 700", "limit: .inf", "fleet.yaml:4:8: limit: "),
    ("limit: 700", "limit: 0", "fleet.yaml:4:8: limit: "),
    ("count: 1", "rate: {low: 2, high: 1}, count: 1", "fleet.yaml:7:35: sites.1.rate"),
    ("count: 1", "vary: {use: 1}, count: 1", "fleet.yaml:7:41: sites.1.vary.use: "),
    ("config: tiny, count: 1", "config: tinny, count: 1", "tinny: "),
    ("config: tiny, count: 1", "config: tinymoe, count: 1", "{file}: sites.b: no budget row "),
]


@pytest.mark.parametrize(("old", "new", "message"), BAD_FILES, ids=[new for _, new, _ in BAD_FILES])
def test_bad_files_are_told_with_their_place(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    """A fault of a fleet file is told with file, place and key."""
    file = tmp_path / "fleet.yaml"
    file.write_text(FILE.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError) as told:
        load_fleet(file)
    shown = str(told.value).replace(f"{tmp_path}/", "")
    assert shown.startswith(message.format(file="fleet.yaml")), shown


def test_objectives_of_other_units_are_not_added(tmp_path: Path) -> None:
    """Sites that count seconds and sites that count memory make no fleet."""
    file = tmp_path / "fleet.yaml"
    text = FILE.replace("tiny", "tinymoe").replace("energy_j_per_prompt", "loss_nats")
    file.write_text(text.replace("count: 1", "overrides: {objective: memory_gib}, count: 1"))
    with pytest.raises(
        InputError, match=r"objectives cannot be added up \(minimize GiB, minimize s per token\)"
    ):
        load_fleet(file)
