"""Means, ratios, profiles, contradictions and growth on numbers made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from moe2opt.bench.figures import gap_over_time
from moe2opt.bench.growth import fit_growth
from moe2opt.bench.job import Row
from moe2opt.bench.tally import (
    conflicts,
    performance_profile,
    ratios,
    shifted_geometric_mean,
    summarise,
    times_by_case,
)

LIMIT_S = 16.0


def row(case: str, peer: str, solve_s: float = 1.0, **changes: object) -> Row:
    """Return a solved run that found and proved the value 10."""
    content: dict[str, object] = {
        "end": "finished",
        "status": "OPTIMAL",
        "objective": 10.0,
        "bound": 10.0,
        "solve_s": solve_s,
        "peak_bytes": 5,
    }
    return Row("s", case, peer, 0, **{**content, **changes})  # type: ignore[arg-type]


ROWS = [
    row("a", "x", 1.0),
    row("a", "y", 4.0),
    row("b", "x", 8.0),
    row("b", "y", 2.0),
    row("c", "x", 3.0, end="killed", status="FEASIBLE", bound=12.0),
    row("c", "y", 4.0),
]


def test_shifted_geometric_mean_of_nothing_is_nan() -> None:
    """Without a run there is no mean, and shift zero is the geometric mean."""
    assert math.isnan(shifted_geometric_mean([]))
    assert shifted_geometric_mean([1.0, 4.0, 16.0], shift_s=0.0) == pytest.approx(4.0)


def test_times_are_medians_and_unsolved_runs_count_the_limit() -> None:
    """The time of a case is the median over seeds; a killed run counts as the limit."""
    more = [*ROWS, row("a", "x", 3.0), row("a", "x", 100.0)]
    table = times_by_case(more, LIMIT_S)
    assert table["x"] == {"s/a": 3.0, "s/b": 8.0, "s/c": 16.0}
    assert table["y"] == {"s/a": 4.0, "s/b": 2.0, "s/c": 4.0}


@pytest.mark.parametrize("end", ["missing", "unsupported"])
def test_peers_that_cannot_run_do_not_count(end: str) -> None:
    """A missing or unsupported peer is no unsolved run."""
    table = times_by_case([row("a", "x"), row("a", "z", end=end)], LIMIT_S)
    assert list(table) == ["x"]


def test_a_wrong_claim_counts_as_unsolved() -> None:
    """A false optimum never looks fast."""
    assert times_by_case([row("a", "x", 0.1, wrong="no")], LIMIT_S)["x"]["s/a"] == LIMIT_S


def test_ratio_to_the_best_other_peer() -> None:
    """Ratios divide the best time of the others by one's own."""
    table = times_by_case([*ROWS, row("a", "z", 2.0)], LIMIT_S)
    assert ratios(table, "x").tolist() == [2.0, 0.25, 0.25]
    assert ratios(table, "nobody").tolist() == []


def test_summary_of_hand_made_rows() -> None:
    """Means, speed-ups and counts follow their definitions."""
    x, y = summarise(ROWS, LIMIT_S)
    assert (x.peer, x.counted, x.solved, y.solved) == ("x", 3, 2, 3)
    assert x.mean_s == pytest.approx((2.0 * 9.0 * 17.0) ** (1 / 3) - 1.0)
    assert x.speedup == pytest.approx((4.0 * 0.25 * 0.25) ** (1 / 3))
    assert x.least == 0.25


def test_performance_profile_of_hand_made_rows() -> None:
    """The profile counts, at each factor, the cases solved within it; unsolved ones never."""
    curves = performance_profile(times_by_case(ROWS, LIMIT_S), LIMIT_S)
    factors, share = curves["x"]
    assert factors.tolist() == [1.0, 4.0]
    assert share.tolist() == pytest.approx([1 / 3, 2 / 3])
    factors, share = curves["y"]
    assert factors.tolist() == [1.0, 1.0, 4.0]
    assert share[-1] == 1.0


def test_a_bound_below_a_solution_of_another_run_is_flagged() -> None:
    """Claims are compared across peers: the solution found elsewhere refutes the bound."""
    rows = [row("a", "x"), row("a", "liar", objective=9.0, bound=9.0), row("b", "liar")]
    assert list(conflicts(rows)) == [1]
    assert "x has a solution of 10.0" in conflicts(rows)[1]


def test_claimed_infeasibility_is_refuted_by_a_solution() -> None:
    """A peer that calls a solved instance infeasible is wrong."""
    infeasible = row("a", "y", status="INFEASIBLE", objective=-math.inf, bound=-math.inf)
    assert list(conflicts([row("a", "x"), infeasible])) == [1]


def test_gap_over_time_steps_down() -> None:
    """The gap at a time is that of the last point before it; a wrong run has none."""
    points = [(1.0, 10.0, 20.0), (2.0, 10.0, 11.0)]
    times = np.array([0.5, 1.5, 3.0])
    assert gap_over_time(row("a", "x", trajectory=points), times).tolist() == [math.inf, 1.0, 0.1]
    wrong = row("a", "x", trajectory=points, wrong="no")
    assert np.isinf(gap_over_time(wrong, times)).all()


def test_fitted_exponents() -> None:
    """Times that grow as the square of N are fitted with exponent 2; C stays without a fit."""
    sizes = {f"n{n}": (n, 7) for n in (10, 20, 40)} | {"odd": (10, 99)}
    rows = [row(f"n{n}", "x", 0.01 * n**2, peak_bytes=100 * n) for n in (10, 20, 40)]
    fits = fit_growth([*rows, row("odd", "x", 5.0)], sizes)
    assert [(f.axis, f.measure, f.fixed) for f in fits] == [
        ("experts", "solve_s", 7),
        ("experts", "peak_bytes", 7),
    ]
    assert [f.exponent for f in fits] == pytest.approx([2.0, 1.0])


def test_rows_survive_json() -> None:
    """A row comes back from its JSON form, infinite numbers included."""
    before = row("a", "x", objective=-math.inf, bound=math.inf, trajectory=[(0.0, -math.inf, 3.0)])
    assert Row.from_dict(before.to_dict()) == before


def test_a_late_proof_does_not_count() -> None:
    """A peer that overruns the limit and then proves optimality counts as unsolved."""
    late = row("a", "x", 1.5 * LIMIT_S)
    assert late.solved
    assert times_by_case([late], LIMIT_S)["x"]["s/a"] == LIMIT_S
    assert summarise([late], LIMIT_S)[0].solved == 0
