"""Solved again, the built-in instance gives what is on record and in the pictures."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from pages.reading import DOCS, LARGEST_PICTURE_BYTES, REFERENCE

import moe2opt as mo


@pytest.mark.parametrize("record", REFERENCE["scenarios"], ids=lambda r: str(r["scenario"]))
def test_scenarios_give_the_certified_results_on_record(record: dict[str, Any]) -> None:
    """Solved again, every scenario of the built-in instance gives the recorded status and value."""
    instance = mo.load(REFERENCE["instance"], record["scenario"])
    result = mo.solve(instance)
    verdict = mo.certify(instance, result)
    assert verdict.ok, verdict.failures
    assert (result.status, verdict.kind) == (record["status"], record["certificate"]["kind"])
    assert result.objective == pytest.approx(float(record["objective"]), rel=1e-8)


def test_figure_shows_certified_points_only() -> None:
    """Every point behind the figure was certified, optimal or proven infeasible."""
    runs = REFERENCE["energy_budget"] + REFERENCE["energy_budget_one_expert"]
    assert {run["certificate"]["kind"] for run in runs} == {"checked"}
    assert {run["status"] for run in runs} == {"OPTIMAL", "INFEASIBLE"}
    assert max(run["gap"] for run in runs if run["status"] == "OPTIMAL") <= 1e-9


def test_more_energy_never_hurts_on_record() -> None:
    """Recorded optima do not fall when the energy budget grows or more experts are allowed."""
    many = [float(run["objective"]) for run in REFERENCE["energy_budget"]]
    one = [float(run["objective"]) for run in REFERENCE["energy_budget_one_expert"]]
    tolerance = 1e-8
    assert all(b >= a - tolerance for a, b in pairwise(many))
    assert all(b >= a - tolerance for a, b in pairwise(one))
    assert all(m >= o - tolerance for m, o in zip(many, one, strict=True))


def test_pictures_are_small() -> None:
    """No picture of the documentation is larger than 150 kB."""
    pictures = [path for kind in ("svg", "png") for path in DOCS.glob(f"**/*.{kind}")]
    assert pictures
    assert all(path.stat().st_size <= LARGEST_PICTURE_BYTES for path in pictures)
