"""Fleets of levels, portfolios and rounds: one shared budget over any question."""

from __future__ import annotations

from pathlib import Path

import pytest
from round_files import three_senders

import moe2opt as mo
from moe2opt.fleet import load_fleet, save_fleet, solve_fleet, verify_fleet


@pytest.mark.parametrize(
    ("config", "row", "share", "sense"),
    [
        ("smile_ranks", "parameters", 0.8, "maximize"),
        ("detectors_for_fleet", "variants", 0.75, "maximize"),
        ("round.yaml", "resource_blocks", 0.75, "minimize"),
    ],
)
def test_a_fleet_asks_any_question(
    config: str, row: str, share: float, sense: str, tmp_path: Path
) -> None:
    """Two sites share a little less than both would take; what is stored is accepted."""
    three_senders(tmp_path)
    instance = mo.load(tmp_path / config if config.endswith("yaml") else config)
    alone = mo.solve(instance)
    used = instance.problem().usage_of(alone.x)[instance.row_names().index(row)]
    path = tmp_path / "fleet.yaml"
    path.write_text(
        f"fleet: 1\nname: two\nrow: {row}\nlimit: {2 * share * used}\n"
        f"sites: [{{name: site, config: {config}, count: 2, rate: 1}}]\n",
        encoding="utf-8",
    )
    fleet = load_fleet(path)
    found = solve_fleet(fleet, rel_gap=0.2)
    assert str(found.status) == "OPTIMAL" and found.certified
    assert found.used <= 2 * share * used < 2 * used
    assert found.objective <= found.bound and found.objective < 2 * alone.objective
    assert found.to_dict()["sense"] == sense
    save_fleet(found, fleet, tmp_path / "out")
    assert verify_fleet(tmp_path / "out", fleet) == []
