"""Replays: one policy after the other through the same trace, step by step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from moe2opt.errors import NoPlanError
from moe2opt.replay.compiled import Conditions, Places, ReplayModel
from moe2opt.replay.device import Device, Moved
from moe2opt.replay.merged import MergedModel
from moe2opt.replay.merging import device_of
from moe2opt.replay.paths import Table
from moe2opt.replay.policies import (
    POLICIES,
    Controller,
    ReplaySettings,
    Seen,
    controller_of,
    situation_of,
)
from moe2opt.replay.resolve import Planned, Planner
from moe2opt.replay.world import World
from moe2opt.result import InputError, Status

_MBIT_PER_BYTE = 8e-6


@dataclass(slots=True, eq=False)
class Run:
    """A policy on its way through a trace.

    Attributes
    ----------
    policy
        Its name.
    world
        What happens.
    controller, device
        What the policy knows, and what is where.
    step
        The next step.
    """

    policy: str
    world: World
    controller: Controller
    device: Device
    step: int = 0

    def state(self) -> dict[str, Any]:
        """Return everything that changes, as arrays."""
        return {f"device:{k}": v for k, v in self.device.state().items()} | {
            **{f"controller:{k}": v for k, v in self.controller.state().items()},
            "step": np.array(self.step),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state` returned."""
        self.step = int(state["step"])
        self.device.restore(_part(state, "device:"))
        before = self.world.at(max(0, self.step - 1))
        self.controller.restore(_part(state, "controller:"), before)


def _part(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def starting_plan(world: World, settings: ReplaySettings) -> Planned:
    """Return the plan that all policies start from.

    Raises
    ------
    NoPlanError
        When none exists.
    """
    conditions = world.mean() if settings.start == "mean" else world.model.nominal
    # A late use ends at a store, so it costs no more than one there unless the wait is charged;
    # then no best plan has one, and charging each use instead of each token changes no optimum.
    table = world.model.table(conditions, wait_s=world.model.timeout_s)
    planned = Planner(world.model, settings.rel_gap).plan(conditions, table=table)
    if planned.tier is None:
        proven = planned.status is Status.INFEASIBLE
        why = "proven" if proven else "none was found in time"
        raise NoPlanError(
            f"no plan fits the conditions that the replay starts with ({why})", proven=proven
        )
    return planned


def start_run(world: World, policy: str, settings: ReplaySettings, planned: Planned) -> Run:
    """Return a policy at the start of a trace, with a plan in force.

    Raises
    ------
    InputError
        For a policy that does not exist.
    """
    if policy not in POLICIES:
        raise InputError(f"unknown policy {policy!r}; choose from {', '.join(POLICIES)}")
    assert planned.places is not None
    controller = controller_of(world.model, settings, world.link)
    device = device_of(world.model, planned.places, world.link)
    mean = world.mean() if settings.start == "mean" else world.model.nominal
    rate = float(mean.rates[world.link])
    uses = world.model.uses(mean, planned.places.form)
    controller.far_uses = float(uses[np.isin(planned.places.tier, controller.far)].sum()) or 1.0
    controller.observe(Seen(0.0, rate, world.at(0)))
    controller.trigger.planned(-math.inf, rate)
    controller.situation = situation_of(world.at(0))
    return Run(policy, world, controller, device)


def steps(run: Run, settings: ReplaySettings) -> Iterator[dict[str, Any]]:
    """Go through the rest of the trace; yield one record per step, see docs/guides/replay.md."""
    world = run.world
    origin = float(world.trace.t_s[0])
    while run.step < len(world):
        k = run.step
        truth = world.at(k)
        now_s = float(world.trace.t_s[k]) - origin
        yield _step(run, settings, Seen(now_s, world.measured(k), truth), truth)


def _step(run: Run, settings: ReplaySettings, seen: Seen, truth: Conditions) -> dict[str, Any]:
    """Do one step: events, decision, moves without copies, copies, and what tokens meet."""
    model, device, controller = run.world.model, run.device, run.controller
    free = model.free_bytes(truth)
    if truth.server is not None:
        device.reach(truth.server, model.beyond(run.world.link))
    device.shrink(free)
    before = device.places
    controller.observe(seen)
    planned = POLICIES[run.policy](controller, seen, device)
    switched = False
    if planned is not None and planned.places is not None:
        switched = device.aim(*planned.places)
    table = model.table(truth)
    device.settle(table, truth)
    after = device.places
    uses = model.uses(truth, device.form)
    moved = device.copy(settings.step_s, settings.copy_share, table, uses, free)
    controller.queue_bytes = max(
        0.0, controller.queue_bytes + moved.bytes - settings.bytes_per_s * settings.step_s
    )
    run.step += 1
    record = _met(run, settings, truth, moved, before, after)
    record |= {"replanned": planned is not None, "switched": switched}
    record |= _solved(planned)
    record["violations"] = device.violations(free)
    return {"t_s": seen.now_s, "planned_mbit_per_s": _mbit(controller.estimator.planned)} | record


def _met(
    run: Run,
    settings: ReplaySettings,
    truth: Conditions,
    moved: Moved,
    before: Places,
    after: Places,
) -> dict[str, Any]:
    """Return what tokens meet in a step: links shared with copies, places before the copies.

    What was decided in this step takes effect after the reaction time.
    """
    model = run.world.model
    busy = replace(truth, rates=truth.rates * (1 - np.minimum(moved.busy, 1.0)))
    table = model.table(busy)
    old, new = (_met_at(model, truth, table, place) for place in (before, after))
    late = min(1.0, settings.reaction_s / settings.step_s)
    mixed = {key: late * old[key] + (1 - late) * new[key] for key in new}
    fits = bool(model.free_bytes(truth)[model.topology.home] >= 0)
    tokens = settings.pace * settings.step_s
    mixed["joules_per_token"] += moved.joules / tokens
    latency = mixed.pop("latency_s")
    return {
        "mbit_per_s": _mbit(float(truth.rates[run.world.link])),
        "server": truth.server,
        "latency_s": latency if fits else None,
        **{key: _finite(value) for key, value in mixed.items()},
        "bytes": moved.bytes,
        "network_bytes": moved.network_bytes,
        "loss_nats": run.device.loss(),
    }


def _met_at(
    model: ReplayModel, truth: Conditions, table: Table, places: Places
) -> dict[str, float]:
    uses, place = model.uses(truth, places.form), (places.tier, places.precision)
    return {
        "latency_s": model.latency_s(truth, table, *places),
        "misses_per_token": float(uses @ table.copied[place]),
        "timeouts_per_token": 0.0 if table.late is None else float(uses @ table.late[place]),
        "joules_per_token": float(uses @ table.joules[place]) + model.instance.dense_j,
    }


def _solved(planned: Planned | None) -> dict[str, Any]:
    if planned is None:
        return {"status": None, "gap": None, "solve_s": None}
    return {
        "status": str(planned.status),
        "gap": _finite(planned.answer.gap),
        "solve_s": planned.seconds,
    }


def _mbit(bytes_per_s: float) -> float | None:
    return _finite(bytes_per_s * _MBIT_PER_BYTE)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def replay(
    world: World,
    policy: str,
    settings: ReplaySettings,
    planned: Planned | None = None,
    on_step: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Run one policy through a trace; return the records of all steps.

    Raises
    ------
    InputError
        For an unknown policy.
    NoPlanError
        When no plan exists at the start.
    """
    planned = planned or starting_plan(world, settings)
    settings = settings.paced(planned)
    run = start_run(world, policy, settings, planned)
    records = []
    for record in steps(run, settings):
        records.append(record)
        if on_step is not None:
            on_step(record)
    return records


def clairvoyant(world: World, settings: ReplaySettings) -> list[dict[str, Any]]:
    """Return a lower bound of the latency of any policy, step by step.

    In every step it knows the rates of that step and switches for nothing: the bound that the
    re-solve proves for these conditions. No policy can be below it.
    """
    planner = Planner(world.model, settings.rel_gap)
    records = []
    for k in range(len(world)):
        truth = world.at(k)
        planned = planner.plan(truth)
        feasible = planned.tier is not None
        records.append(
            {
                "t_s": float(world.trace.t_s[k] - world.trace.t_s[0]),
                "latency_s": -planned.answer.bound if feasible else None,
                "plan_latency_s": -planned.answer.objective if feasible else None,
                "gap": _finite(planned.answer.gap),
            }
        )
    return records


def model_of(instance: Any, settings: ReplaySettings) -> ReplayModel:
    """Return the compiled instance of a replay."""
    own = getattr(instance, "instance", instance)
    grouped = getattr(getattr(own, "config", None), "aggregation", None) is not None
    return (MergedModel if grouped else ReplayModel)(own, settings.timeout_s)
