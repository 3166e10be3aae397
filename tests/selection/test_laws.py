"""Laws that hold for every selection instance, whatever its budgets."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moe2opt.profiles import Profiles, read_profiles
from moe2opt.selection import ClusterTables, SelectionConfig, SelectionInstance, read_tables
from moe2opt.selection.question import assemble

FOLDER = Path(__file__).resolve().parents[2] / "problems" / "selection"

SERVERS = [
    {"name": "slow", "device": "slow-box", "uplink_mbps": 1000, "downlink_mbps": 1000},
    {"name": "fast", "device": "fast-box", "uplink_mbps": 1000, "downlink_mbps": 1000},
]
INT8 = {"name": "int8"}
INT4 = {"name": "int4", "bits_per_weight": 4.0, "quality_factor": 0.9}

LIMITS = st.floats(0.3, 12)


@cache
def data() -> tuple[ClusterTables, Profiles]:
    """Read the tiny tables once."""
    return read_tables(FOLDER / "tiny_tables"), read_profiles(FOLDER / "tiny_profiles")


@st.composite
def settings_of_instances(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a configuration over the tiny tables."""
    energies = st.fixed_dictionaries(
        {"limit_j_per_prompt": st.floats(0, 400), "counts": st.sampled_from(["all", "one"])}
    )
    delays = st.fixed_dictionaries(
        {
            "limit_s": st.one_of(
                st.none(), LIMITS, st.dictionaries(st.sampled_from(["code", "prose"]), LIMITS)
            ),
            "sharing": st.sampled_from(["dedicated", "shared"]),
            "scope": st.sampled_from(["category", "everywhere"]),
        }
    )
    return {
        "problem": "selection",
        "name": "drawn",
        "tables": "-",
        "context_gib": 0.0,
        "precisions": draw(st.sampled_from([[INT8], [INT8, INT4]])),
        "servers": draw(st.sampled_from([SERVERS, SERVERS[:1], SERVERS[1:]])),
        "energy": draw(st.one_of(st.none(), energies)),
        "delay": draw(delays),
        "max_experts": draw(st.one_of(st.none(), st.integers(1, 3))),
    }


def instance_of(settings: dict[str, Any]) -> SelectionInstance:
    """Build an instance."""
    return assemble(SelectionConfig.model_validate(settings), *data())


@given(settings=settings_of_instances(), bits=st.integers(0, 2**12 - 1))
def test_a_plan_is_valid_exactly_when_its_vector_is_feasible(
    settings: dict[str, Any], bits: int
) -> None:
    """The instance's own check and the compiled problem agree on every choice, and on its value."""
    instance = instance_of(settings)
    x = np.array([bits >> k & 1 for k in range(len(instance.experts))])
    plan = instance.decode(x)
    assert (instance.check(plan) == []) == instance.problem().is_feasible(x)
    assert instance.evaluate(plan) == instance.problem().evaluate(x) == plan.predicted_accuracy


@given(settings=settings_of_instances(), bits=st.integers(0, 2**12 - 1))
def test_valid_plans_answer_everything_in_time(settings: dict[str, Any], bits: int) -> None:
    """In a valid plan every cluster is answered, shares sum to one, and deadlines are kept."""
    instance = instance_of(settings)
    x = np.array([bits >> k & 1 for k in range(len(instance.experts))])
    if not instance.problem().is_feasible(x):
        return
    plan = instance.decode(x)
    assert all(route.expert is not None for route in plan.routing)
    assert abs(sum(expert.share_of_prompts for expert in plan.experts) - 1) < 1e-12
    for report in plan.by_category:
        assert report.delay_s is not None
        assert report.deadline_s is None or report.delay_s <= report.deadline_s


@given(settings=settings_of_instances())
def test_names_match_rows_and_covers(settings: dict[str, Any]) -> None:
    """Every row and every cover has one name, and no name is used twice."""
    instance = instance_of(settings)
    problem = instance.problem()
    assert len(instance.row_names()) == len(problem.budgets) == len(set(instance.row_names()))
    assert len(instance.cover_names()) == len(problem.covers) == len(set(instance.cover_names()))


@given(settings=settings_of_instances(), extra=st.floats(0, 300), bits=st.integers(0, 2**12 - 1))
def test_more_energy_never_hurts(settings: dict[str, Any], extra: float, bits: int) -> None:
    """A choice that is feasible stays feasible when the energy limit rises."""
    if settings["energy"] is None:
        return
    limit = settings["energy"]["limit_j_per_prompt"] + extra
    richer = {**settings, "energy": {**settings["energy"], "limit_j_per_prompt": limit}}
    instance, relaxed = instance_of(settings), instance_of(richer)
    x = np.array([bits >> k & 1 for k in range(len(instance.experts))])
    assert relaxed.problem().is_feasible(x) or not instance.problem().is_feasible(x)
