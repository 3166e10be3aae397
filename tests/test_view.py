"""What a page shows of a plan comes from the plan itself."""

from __future__ import annotations

import json

import pytest

import moe2opt as mo


@pytest.mark.parametrize("name", ["tiny", "three_tier_edge"])
def test_a_stored_plan_has_the_view_of_the_plan(name: str) -> None:
    """A plan that went through JSON is shown exactly as the plan that `solve` returned."""
    plan = mo.solve(mo.load(name)).plan
    stored = type(plan).from_dict(json.loads(json.dumps(plan.to_dict())))
    assert stored.view() == plan.view()
    assert plan.view().tables[0].rows


def test_the_map_of_a_placement_holds_every_expert() -> None:
    """The cells of a placement's map count each tier as often as the plan stores experts there."""
    plan = mo.solve(mo.load("three_tier_edge")).plan
    shown = plan.view().map
    cells = [place for row in shown.rows for place in row]
    assert len(cells) == len(plan.layers) * len(plan.uses[0])
    for place, tier in enumerate(plan.tiers):
        assert cells.count(place) == tier.experts
