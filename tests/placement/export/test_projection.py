"""Projection to what a runtime can express: memory, formats, the reported gap, refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_plans import CPU, DISK, GPU, make_plan, priced, tier

from moe2opt.placement import PlacementPlan
from moe2opt.placement.assignment import KEEP, MERGE, PRUNE, Assignment
from moe2opt.placement.export import FORMATS, export
from moe2opt.placement.export.judge import Judge, expert_bytes_by_tier, free_bytes, seconds
from moe2opt.placement.export.project import Runtime, project
from moe2opt.placement.export.reporting import report
from moe2opt.result import InputError

LAYERS = Runtime("by layer", ("gpu", "cpu", "disk"), "layer", "unit")
EXPERTS = Runtime("by expert", ("gpu", "cpu", "disk"), "expert", "expert")


def plans(draw: Any) -> PlacementPlan:
    """Draw a plan over three tiers and two formats, with some experts pruned."""
    layers, experts = draw(st.integers(1, 4)), draw(st.integers(2, 6))
    count = layers * experts

    def table(high: int) -> np.ndarray:
        values = st.lists(st.integers(0, high), min_size=count, max_size=count)
        return np.array(draw(values)).reshape(layers, experts)

    plan = make_plan(table(2), tiers=(GPU, CPU, DISK), formats=table(1))
    gone = table(3) == 0
    a = plan.assignment
    form = np.where(gone, PRUNE, KEEP)
    where = np.where(gone[:, :, None], -1, a.tier)
    return priced(plan, Assignment(where, a.precision, form, a.representative))


@given(st.data())
def test_projection_fits_and_respects_pieces(data: st.DataObject) -> None:
    """A projected placement has one tier and format per layer, and every tier holds it."""
    plan = plans(data.draw)
    found = project(plan, LAYERS)
    assert (found.tier == found.tier[:, :1]).all()
    assert (found.precision == found.precision[:, :1]).all()
    assert (found.form == KEEP).all()
    assert (expert_bytes_by_tier(plan, found) <= free_bytes(plan) * (1 + 1e-9)).all()


@given(st.data())
def test_no_expert_loses_bits(data: st.DataObject) -> None:
    """A stored expert never gets a format with fewer bits than in the plan."""
    plan = plans(data.draw)
    found = project(plan, LAYERS)
    bits = np.array([p.bits_per_weight for p in plan.precisions])
    kept = plan.assignment.form == KEEP
    assert (bits[found.precision] >= bits[plan.assignment.precision])[kept].all()


def test_a_plan_that_can_be_expressed_stays(plan: PlacementPlan) -> None:
    """Where pieces are experts nothing changes and the gap is exactly zero."""
    found = project(plan, EXPERTS)
    assert np.array_equal(found.tier, plan.assignment.tier)
    assert report(Judge(plan), EXPERTS, found).gap == 0.0


def test_gap_is_the_relative_rise_of_the_objective(plan: PlacementPlan) -> None:
    """The gap is (projected - plan) / plan, with seconds recomputed from uses."""
    found = project(plan, LAYERS)
    told = report(Judge(plan), LAYERS, found)
    by_hand = plan.dense_s + sum(
        use * plan.seconds_of[found.tier[i, j, 0]][found.precision[i, j, 0]]
        for i, row in enumerate(plan.uses)
        for j, use in enumerate(row)
    )
    assert told.projected_value == pytest.approx(by_hand, rel=1e-12)
    assert told.gap == pytest.approx(by_hand / plan.objective_value - 1, rel=1e-9)
    assert told.gap > 0
    assert told.moved == 4


def test_least_used_layers_leave_a_full_tier() -> None:
    """Of layers that do not all fit, those with fewest uses go to the slower tier."""
    where = np.zeros((4, 8), dtype=np.int64)
    where[:, 7] = 1
    found = project(make_plan(where), LAYERS)
    assert found.tier[:, 0, 0].tolist() == [0, 0, 1, 1]


def test_other_machines_are_not_used() -> None:
    """Experts on a neighbour's device move to a tier of the home device."""
    tiers = (GPU, tier("neighbour", "remote", 9.0, device="other"), DISK)
    found = project(make_plan(np.ones((2, 4)), tiers=tiers), LAYERS)
    assert 1 not in found.tier


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    """When no tier has room the message names runtime, tier and bytes."""
    tiers = (GPU, tier("dram", "cpu", 0.5))
    plan = make_plan(np.zeros((8, 8)), tiers=tiers)
    with pytest.raises(InputError, match=r"--to by layer: .*would hold 8.00 GiB.*2.50 GiB") as told:
        project(plan, LAYERS)
    assert "\n" not in str(told.value)


def test_merged_experts_are_exported_and_said() -> None:
    """Merged and pruned experts become experts of their own, and the report says so."""
    plan = make_plan(np.zeros((2, 4)))
    a = plan.assignment
    form = a.form.copy()
    own = a.representative.copy()
    form[0, 1], own[0, 1] = MERGE, 0
    plan = replace(plan, assignment=replace(a, form=form, representative=own))
    found = project(plan, LAYERS)
    told = report(Judge(plan), LAYERS, found)
    assert (found.form == KEEP).all()
    assert any("form 'merge'" in note for note in told.notes)
    assert told.projected_value is None
    assert "--config" in told.summary()


def test_seconds_are_not_invented() -> None:
    """When a plan's own seconds are no sum of uses, projected seconds are unknown."""
    plan = make_plan([[0, 1], [1, 1]])
    other = replace(plan, seconds_per_token=2 * plan.seconds_per_token, objective_value=2.0)
    assert report(Judge(other), LAYERS, project(other, LAYERS)).gap is None
    assert Judge(plan).additive
    assert seconds(plan, plan.assignment) == plan.seconds_per_token


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tier": np.full((4, 8, 1), 7)}, "assignment.tier has a number out of range"),
        ({"precision": np.full((4, 8, 1), -1)}, "assignment.precision has a number"),
        ({"form": np.zeros((1, 1), dtype=np.int64)}, "shapes that do not fit"),
        ({"slots": np.zeros(9, dtype=np.int64)}, "shapes that do not fit"),
    ],
)
@pytest.mark.parametrize("to", FORMATS)
def test_broken_plans_are_refused(
    plan: PlacementPlan, to: str, change: dict[str, Any], words: str
) -> None:
    """Arrays of wrong shape or with wrong numbers give one message for every format."""
    broken = replace(plan, assignment=replace(plan.assignment, **change))
    with pytest.raises(InputError, match=words):
        export(broken, to)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layers": (0, 1, 2, 9)}, "layers: a number is not below n_layers"),
        ({"home": "nowhere"}, "home: unknown tier 'nowhere'"),
        ({"n_layers": 10**9}, "layers: a number"),
    ],
)
def test_wrong_names_and_numbers_are_refused(
    plan: PlacementPlan, changes: dict[str, Any], words: str
) -> None:
    """Layers that the model does not have and an unknown home tier are named in the message."""
    with pytest.raises(InputError, match=words):
        export(replace(plan, **changes), "json")
