"""The compiled instance of a replay: the same coefficients as compiling again would give."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import moe2opt as mo
from moe2opt.placement.machine.topology import Topology
from moe2opt.replay.compiled import ReplayModel
from moe2opt.replay.resolve import Planner
from moe2opt.replay.traces.synthetic import synthetic_mix
from moe2opt.replay.traces.trace import build_trace
from moe2opt.replay.world import build_world
from moe2opt.result import InputError


def loaded(name: str, *overrides: str) -> Any:
    """Return a built-in placement instance."""
    return mo.load(name, None, overrides)


@pytest.mark.parametrize("name", ["three_tier_edge", "mobile_edge"])
@pytest.mark.parametrize("granularity", ["expert", "layer"])
def test_nominal_coefficients_are_those_of_the_instance(name: str, granularity: str) -> None:
    """Under the configuration's own rates every value equals that of the compiled problem."""
    instance = loaded(name, f"granularity={granularity}")
    model = ReplayModel(instance, timeout_s=np.inf)
    table = model.table(model.nominal)
    np.testing.assert_allclose(table.seconds, instance.use.seconds, rtol=1e-13)
    np.testing.assert_allclose(table.joules, instance.use.joules, rtol=1e-12)
    np.testing.assert_allclose(
        model.values(model.nominal), model.problem.flat_values, rtol=1e-12, atol=1e-15
    )


@pytest.mark.parametrize("seed", range(4))
def test_changed_coefficients_are_those_of_compiling_again(seed: int) -> None:
    """For any rates, load and memory the values and limits equal a fresh compilation's."""
    rng = np.random.default_rng(seed)
    instance = loaded("three_tier_edge")
    model = ReplayModel(instance, timeout_s=np.inf)
    rates = model.nominal.rates * np.exp(2 * rng.standard_normal(len(model.nominal.rates)))
    load = rng.random(4) * 0.8
    share = np.array([1.0, rng.uniform(0.5, 1.0), rng.uniform(0.5, 1.0), 1.0])
    now = replace(model.nominal, rates=rates, load=load, memory_share=share)
    old = instance.topology
    links = [replace(k, bytes_per_s=float(r)) for k, r in zip(old.links, rates, strict=True)]
    tiers = [
        replace(
            t,
            capacity_bytes=t.capacity_bytes * s,
            compute_bytes_per_s=t.compute_bytes_per_s and t.compute_bytes_per_s * (1 - a),
        )
        for t, a, s in zip(old.tiers, load, share, strict=True)
    ]
    again = replace(instance, topology=Topology(tuple(tiers), tuple(links), old.home))
    fresh = again.problem()
    np.testing.assert_allclose(model.values(now), fresh.flat_values, rtol=1e-12)
    # Compiling rounds memory down to whole experts; the replay does so for full memory only.
    limits = model.limits(now)
    assert (limits >= fresh.budgets * (1 - 1e-12)).all()
    assert (limits <= fresh.budgets + float(instance.expert_bytes.max()) / 2**30).all()


def test_a_plan_is_worth_in_the_instance_what_the_replay_says() -> None:
    """The latency of an assignment equals the instance's own figure for that plan."""
    instance = loaded("mobile_edge")
    model = ReplayModel(instance, timeout_s=np.inf)
    planned = Planner(model, 1e-2).plan(model.nominal)
    plan = instance.decode(planned.answer.x)
    table = model.table(model.nominal)
    latency = model.latency_s(model.nominal, table, planned.tier, planned.precision)
    assert latency == pytest.approx(plan.seconds_per_token, rel=1e-12)
    assert instance.check(plan) == []
    assert mo.certify(planned.answer.problem, planned.answer.result()).kind == "checked"


def test_a_late_use_is_served_from_a_store_after_one_timeout() -> None:
    """With a dead link a token pays flash for what was planned at the server, and waits once."""
    model = ReplayModel(loaded("mobile_edge"), timeout_s=0.5)
    dead = replace(model.nominal, rates=np.array([model.nominal.rates[0], 0.0, 1e9]))
    tier, precision = np.full(model.units, 1), np.zeros(model.units, dtype=int)
    flash = np.full(model.units, 2)
    table = model.table(dead)
    at_server = model.latency_s(dead, table, tier, precision)
    assert at_server == pytest.approx(model.latency_s(dead, table, flash, precision) + 0.5)


def test_drifting_requests_change_the_uses() -> None:
    """A mixture with all weight on one domain has the uses of that domain."""
    instance = loaded("three_tier_edge")
    model = ReplayModel(instance)
    domains = instance.activation.domains
    world = build_world(model, synthetic_mix(domains, 60))
    assert np.allclose(world.mix.sum(axis=1), 1.0)
    only = replace(model.nominal, mix=np.eye(len(domains))[2])
    np.testing.assert_allclose(model.uses(only), instance.activation.shares[2].ravel())


@pytest.mark.parametrize(
    ("name", "overrides", "words"),
    [
        ("mmlu_pro_edge", (), "must be a placement"),
        ("adapmoe_mixtral_cache", (), "does not follow the part cache"),
        ("three_tier_edge", ("objective=joules_per_token",), "seconds_per_token"),
        ("three_tier_edge", ("granularity=tensor",), "granularity"),
        ("three_tier_edge", ("activation.robust=true",), "worst domain"),
        ("three_tier_edge", ("budgets.joules_per_token=9",), "budget on joules_per_token"),
        ("mixtral_8x7b_4090", (), "needs a disk tier"),
    ],
)
def test_instances_that_cannot_be_followed_are_refused(
    name: str, overrides: tuple[str, ...], words: str
) -> None:
    """What a replay does not model is an error that says so, not a wrong figure."""
    with pytest.raises(InputError, match=words):
        ReplayModel(loaded(name, *overrides))


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("mbit_per_s[a-b]", "link 'a-b': there is none; links: portable-flash"),
        ("memory_share[moon]", "unknown tier 'moon'"),
        ("mix[jokes]", "no such domain"),
    ],
)
def test_traces_that_do_not_fit_are_refused(column: str, words: str) -> None:
    """A trace that names a link, tier or domain that is not there is an error."""
    with pytest.raises(InputError, match=words):
        build_world(ReplayModel(loaded("mobile_edge")), build_trace("x", [0.0], {column: [0.5]}))


def test_the_link_of_a_trace_is_the_slowest_between_devices() -> None:
    """Without a name the mobile network is meant, with one the link of that name."""
    model = ReplayModel(loaded("mobile_edge"))
    assert model.topology.links[model.link(None)].b == "edge"
    assert model.link("flash-portable") == 0
    assert [model.topology.names[t] for t in model.beyond(model.link(None))] == ["edge"]
