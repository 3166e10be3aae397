"""What must never happen while a plan is carried out, whatever happens to the world."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import moe2opt as mo
from moe2opt.errors import NoPlanError
from moe2opt.replay.compare import compare
from moe2opt.replay.compiled import ReplayModel
from moe2opt.replay.device import Device
from moe2opt.replay.journal import summarise
from moe2opt.replay.policies import POLICIES, ReplaySettings
from moe2opt.replay.replay import clairvoyant, replay, starting_plan
from moe2opt.replay.resolve import Planned, Planner
from moe2opt.replay.traces.trace import Trace, build_trace
from moe2opt.replay.world import build_world
from moe2opt.result import Limit

QUICK = ReplaySettings(rel_gap=1e-2)

STEPS = 40


@pytest.fixture(scope="module")
def model() -> ReplayModel:
    """Return the instance of the replays."""
    return ReplayModel(mo.load("mobile_edge"))


def trace(server: tuple[str, ...] = (), **columns: Any) -> Trace:
    """Return a trace of some columns, the others steady; ``a__b`` stands for ``a[b]``."""
    series = {"mbit_per_s": np.full(STEPS, 30.0)}
    for key, values in columns.items():
        kind, _, name = key.partition("__")
        series[f"{kind}[{name}]" if name else kind] = np.asarray(values, dtype=float)
    return build_trace("fault", np.arange(float(STEPS)), series, server=server, repair=True)


def from_step(k: int, before: float, after: float) -> Any:
    """Return values that change at step k."""
    return np.where(np.arange(STEPS) < k, before, after)


def run(model: ReplayModel, policy: str, world: Trace) -> list[dict[str, Any]]:
    """Return the records of one policy."""
    return replay(build_world(model, world), policy, QUICK)


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_a_link_that_dies_leaves_a_feasible_plan(model: ReplayModel, policy: str) -> None:
    """With the link at zero every policy goes on from its own stores within all budgets."""
    records = run(model, policy, trace(mbit_per_s=from_step(10, 30.0, 0.0)))
    assert len(records) == STEPS
    assert all(not record["violations"] for record in records)
    assert all(np.isfinite(record["latency_s"]) for record in records)
    if policy in ("trigger", "exact-mpc", "lyapunov"):
        assert records[-1]["timeouts_per_token"] == 0.0


@pytest.mark.parametrize("start", ["mean", "nominal"])
@pytest.mark.parametrize("policy", ["static", "trigger", "exact-mpc"])
def test_a_link_that_is_dead_from_the_start_is_not_used(
    model: ReplayModel, policy: str, start: str
) -> None:
    """The plan for a mean of zero is near the bound, and the trigger leaves a plan that is not."""
    world = build_world(model, trace(mbit_per_s=np.zeros(STEPS)))
    known = replace(QUICK, start=start)
    found = summarise(replay(world, policy, known), clairvoyant(world, known))
    if start == "mean":
        assert found["regret"] < 2 * QUICK.rel_gap
        assert found["timeouts_per_token"] == 0.0
    elif policy != "static":
        assert found["plan_switches"] >= 1
        assert found["regret"] < 0.1


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_a_server_that_vanishes_leaves_a_feasible_plan(model: ReplayModel, policy: str) -> None:
    """Without a server in reach its tier is not used, and the plan returns with another one."""
    names = ("a",) * 10 + ("",) * 15 + ("b",) * 15
    records = run(model, policy, trace(names))
    assert all(not record["violations"] for record in records)
    assert [record["server"] for record in records[9:11]] == ["a", ""]
    if policy in ("trigger", "exact-mpc"):
        assert records[20]["timeouts_per_token"] == 0.0
        assert records[-1]["latency_s"] < records[20]["latency_s"]


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_memory_that_halves_is_respected_at_once(model: ReplayModel, policy: str) -> None:
    """When memory shrinks, copies give way in the same step; no tier holds more than it has."""
    records = run(model, policy, trace(memory_share__portable=from_step(10, 1.0, 0.5)))
    assert all(not record["violations"] for record in records)
    assert records[10]["latency_s"] > records[9]["latency_s"]
    assert all(record["loss_nats"] <= 0.01 * (1 + 1e-6) for record in records)


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_memory_below_the_dense_part_means_that_no_plan_exists(
    model: ReplayModel, policy: str
) -> None:
    """When not even the dense part fits the steps say that no plan exists, then it goes on."""
    gone = np.where((np.arange(STEPS) >= 10) & (np.arange(STEPS) < 20), 0.15, 1.0)
    records = run(model, policy, trace(memory_share__portable=gone))
    assert [record["latency_s"] is None for record in records] == [10 <= k < 20 for k in range(40)]
    assert "dense part[portable]" in records[10]["violations"]
    assert summarise(records)["steps_without_plan"] == 10
    if policy in ("trigger", "exact-mpc", "lyapunov"):
        assert records[10]["status"] == "INFEASIBLE"


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_nothing_measured_keeps_the_plan(model: ReplayModel, policy: str) -> None:
    """NaN and a gap in the trace are no measurement: the estimate and the plan stay."""
    rate = np.full(STEPS, 30.0)
    rate[10:20] = np.nan
    records = run(model, policy, trace(mbit_per_s=rate))
    planned = {record["planned_mbit_per_s"] for record in records[10:20]}
    assert planned == {records[9]["planned_mbit_per_s"]}
    assert all(not record["violations"] for record in records)


def test_no_plan_at_the_start_is_said(model: ReplayModel) -> None:
    """A start for which no plan exists is an error of its own kind, with the proof named."""
    with pytest.raises(NoPlanError, match="proven") as told:
        run(model, "static", trace(memory_share__portable=np.full(STEPS, 0.1)))
    assert told.value.proven


def test_a_start_that_found_nothing_proves_nothing(
    model: ReplayModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where time ended before a plan, the error does not say that none exists."""
    full = Planner(model).plan(model.nominal)
    late = replace(full.answer, x=None, objective=-np.inf, limit=Limit.TIME)
    monkeypatch.setattr(Planner, "plan", lambda *_, **__: Planned(late, None, 0.0))
    with pytest.raises(NoPlanError, match="none was found in time") as told:
        run(model, "static", trace())
    assert not told.value.proven


@settings(max_examples=25)
@given(seed=st.integers(0, 2**20))
def test_budgets_hold_while_anything_moves(seed: int) -> None:
    """Random plans, rates and memory: at no step does a tier or the loss exceed its limit."""
    model = _MODEL
    rng = np.random.default_rng(seed)
    planner = Planner(model, 5e-2)
    start = planner.plan(model.nominal)
    device = Device(model, start.tier, start.precision, 1)
    for _ in range(6):
        conditions = _random(model, rng)
        free = model.free_bytes(conditions)
        device.shrink(free)
        planned = planner.plan(conditions)
        if planned.tier is not None and rng.random() < 0.7:
            device.aim(planned.tier, planned.precision)
        device.settle()
        table, uses = model.table(conditions), model.uses(conditions)
        moved = device.copy(rng.uniform(0.1, 20.0), 0.5, table, uses, free)
        assert device.violations(free) == []
        assert moved.bytes >= moved.network_bytes >= 0
        assert (moved.busy <= 0.5 * (1 + 1e-9) * 2).all()
        assert (model.options_of(device.tier, device.precision) >= 0).all()
        served = ~device.is_store[device.tier]
        at = np.flatnonzero(served)
        assert (device.held[device.tier[at], at] == device.precision[at]).all()


_MODEL = ReplayModel(mo.load("mobile_edge"))


def _random(model: ReplayModel, rng: np.random.Generator) -> Any:
    rates = model.nominal.rates.copy()
    rates[1] *= rng.choice([0.0, 0.01, 0.1, 1.0, 10.0])
    share = np.ones(4)
    share[0], share[1] = rng.uniform(0.5, 1.0), rng.uniform(0.0, 1.0)
    return replace(model.nominal, rates=rates, memory_share=share)


def test_moves_come_to_an_end(model: ReplayModel) -> None:
    """With a live link and steady conditions every unit arrives where the plan wants it."""
    planner = Planner(model, 1e-2)
    start = planner.plan(model.nominal)
    device = Device(model, start.tier, start.precision, 1)
    slow = replace(model.nominal, rates=np.array([1.362e9, 1e4, 1.362e9]))
    goal = planner.plan(slow)
    device.aim(goal.tier, goal.precision)
    free = model.free_bytes(slow)
    for _ in range(60):
        device.settle()
        device.copy(1.0, 0.5, model.table(slow), model.uses(slow), free)
    device.settle()
    assert len(device.pending()) == 0


def test_no_policy_is_below_the_clairvoyant_bound(model: ReplayModel) -> None:
    """In every single step every policy's latency is at least the clairvoyant bound."""
    rate = 20.0 * np.exp(np.random.default_rng(3).normal(0, 1.5, STEPS))
    done = compare(model.instance, trace(mbit_per_s=rate), settings=QUICK)
    best = np.array([record["latency_s"] for record in done.records["clairvoyant"]])
    for name in POLICIES:
        latency = np.array([record["latency_s"] for record in done.records[name]])
        assert (latency >= best * (1 - 1e-9)).all(), name
        assert done.summaries()[name]["regret"] >= 0


def test_the_first_plan_is_certified(model: ReplayModel) -> None:
    """The plan that all policies start from comes with a proof that the checker accepts."""
    planned = starting_plan(build_world(model, trace()), QUICK)
    verdict = mo.certify(planned.answer.problem, planned.answer.result())
    assert verdict.ok
    assert verdict.kind == "checked"
