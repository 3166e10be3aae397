r"""Hand-over: which experts to stage at the next server before the user arrives.

Until the user arrives, the next server can load for a window of time, into the memory that it will
give this user. Each unit either stays where it is or is staged at some precision. The value of an
option is minus the seconds that the unit will cost during the stay,

.. math:: -u_e \cdot c_{e,o} \cdot \text{tokens while there},

and what is staged has to fit the server's memory, the window and the loss budget: a
multiple-choice knapsack, solved exactly and certified. The criterion behind it (stage an expert
when the time that it saves exceeds the time to copy it) is our reconstruction, see
`docs/guides/replay.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.certify import certify
from moe2opt.replay.compiled import Conditions, ReplayModel
from moe2opt.replay.device import Device
from moe2opt.replay.journal import latencies
from moe2opt.replay.policies import ReplaySettings, Seen
from moe2opt.replay.replay import model_of, start_run, starting_plan, steps
from moe2opt.replay.traces.trace import Trace
from moe2opt.replay.world import World, build_world
from moe2opt.result import FloatArray, InputError, IntArray, Result
from moe2opt.solvers.parametric import ParametricChoice

#: How to choose what to stage.
How = Literal["none", "top", "exact", "all"]

#: Relative gap that the knapsack aims at: there is little time before the user arrives.
_GAP = 1e-3

#: Seconds after a hand-over that count as its aftermath.
_AFTER_S = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Staging:
    """What to stage at a server.

    Attributes
    ----------
    held
        ``(U,)`` precision of each unit there, -1 where it is not staged.
    bytes
        Bytes to load.
    result
        Result of the knapsack with its certificate; None where nothing was solved.
    """

    held: IntArray
    bytes: float
    result: Result | None = None


def staging_problem(
    model: ReplayModel,
    device: Device,
    conditions: Conditions,
    tier: int,
    window_s: float,
    tokens: float,
) -> MultipleChoiceProblem:
    """Return the knapsack: option 0 leaves a unit where it will be without staging.

    Parameters
    ----------
    model, device
        The compiled instance, and what is where now.
    conditions
        Expected at the next server.
    tier
        The server's tier.
    window_s
        Seconds of loading until the user arrives.
    tokens
        Tokens expected while there.
    """
    table, uses = model.table(conditions, model.timeout_s), model.uses(conditions)
    precisions = np.arange(len(model.bytes))
    away = np.where(device.tier == tier, model.library, device.tier)
    stay = table.seconds[away, device.precision]
    staged = table.seconds[tier, precisions]
    load_s = np.minimum(table.move_s[tier] * model.count, 1e9)
    now = model.loss[np.arange(model.units), device.precision]
    values, usage = [], []
    for u in range(model.units):
        values.append(-tokens * uses[u] * np.append(stay[u], staged))
        rows = np.zeros((1 + len(precisions), 3))
        rows[1:, 0], rows[1:, 1] = model.bytes / 2**30, load_s
        rows[:, 2] = np.append(now[u], model.loss[u])
        usage.append(rows)
    room = max(0.0, float(model.free_bytes(conditions)[tier])) / 2**30
    loss = model.instance.config.budgets.loss_nats
    most = float(model.loss.max(axis=1).sum()) if loss is None else loss
    return MultipleChoiceProblem(values, usage, np.array([room, window_s, max(most, now.sum())]))


def stage(
    model: ReplayModel,
    device: Device,
    conditions: Conditions,
    tier: int,
    window_s: float,
    tokens: float,
    how: How = "exact",
) -> Staging:
    """Return what to stage at the next server.

    Parameters
    ----------
    model, device, conditions, tier, window_s, tokens
        As for `staging_problem`.
    how
        ``exact``: the knapsack, certified, to a gap of about 0.1 %; ``top``: what the plan has at
        the server, most used first, while the window lasts; ``all``: all of that, whatever it
        takes; ``none``.
    """
    wanted = np.where(device.target_tier == tier, device.target_precision, -1)
    if how == "exact":
        problem = staging_problem(model, device, conditions, tier, window_s, tokens)
        result = ParametricChoice(problem, rel_gap=_GAP).solve(hurried=True).result()
        certify(problem, result).raise_if_failed()
        x = np.zeros(model.units, np.int64) if result.x is None else result.x
        return Staging(x - 1, _bytes(model, x - 1), result)
    if how == "none":
        wanted = np.full(model.units, -1)
    elif how == "top":
        uses = model.uses(conditions)
        order = np.argsort(np.where(wanted >= 0, -uses, np.inf), kind="stable")
        load = model.table(conditions).move_s[tier, np.maximum(wanted, 0)] * model.count
        spent = np.cumsum(np.where(wanted >= 0, load, 0.0)[order])
        wanted = wanted.copy()
        wanted[order[spent > window_s]] = -1
    return Staging(wanted, _bytes(model, wanted))


def _bytes(model: ReplayModel, held: IntArray) -> float:
    return float(model.bytes[held[held >= 0]].sum())


@dataclass(frozen=True, slots=True, eq=False)
class HandOvers:
    """A replay with hand-overs.

    Attributes
    ----------
    records
        Of all steps.
    arrivals
        Steps in which another server came into reach.
    stagings
        What was staged for each.
    """

    records: list[dict[str, Any]]
    arrivals: list[int]
    stagings: list[Staging]

    def aftermath_s(self, step_s: float) -> FloatArray:
        """Return the seconds per token of all steps soon after a hand-over."""
        soon = int(_AFTER_S / step_s)
        near = [k + j for k in self.arrivals for j in range(soon) if k + j < len(self.records)]
        return latencies([self.records[k] for k in near])


def replay_handovers(
    world: World,
    settings: ReplaySettings,
    how: How = "exact",
    window_s: float = 4.0,
    policy: str = "trigger",
) -> HandOvers:
    """Replay a trace with a column ``server``, staging `window_s` seconds before each hand-over.

    A server forgets a user who leaves. Copies may take the share `settings.copy_share` of the
    window; the stay is expected to last as long as the mean of those so far.
    """
    planned = starting_plan(world, settings)
    settings = settings.paced(planned)
    run = start_run(world, policy, settings, planned)
    tiers = world.model.beyond(world.link)
    if not world.trace.server or not tiers:
        raise InputError(f"trace {world.trace.name}: hand-overs need a column server")
    ahead = max(1, round(window_s / settings.step_s))
    arrivals = [k for k in range(1, len(world)) if _arrives(world, k)]
    records, stagings = [], []
    ready: dict[int, Staging] = {}
    for record in steps(run, settings):
        records.append(record)
        run.device.elsewhere.clear()
        due = run.step + ahead - 1
        if due in arrivals:
            tokens = settings.pace * settings.step_s * _stay(arrivals, run.step)
            expected = run.controller.expected(Seen(0.0, np.nan, world.at(due)))
            loading = window_s * settings.copy_share
            ready[due] = stage(world.model, run.device, expected, tiers[0], loading, tokens, how)
            stagings.append(ready[due])
        if run.step in ready:
            held = np.full((len(tiers), world.model.units), -1)
            held[0] = ready[run.step].held
            run.device.stage(world.trace.server[run.step], tiers, held)
    return HandOvers(records, arrivals, stagings)


def _stay(arrivals: Sequence[int], now: int) -> float:
    """Return the mean number of steps at a server so far, a minute's worth before the first."""
    past = [k for k in arrivals if k <= now]
    return float(np.mean(np.diff([0, *past]))) if past else 60.0


def _arrives(world: World, k: int) -> bool:
    before, now = world.trace.server[k - 1], world.trace.server[k]
    return now not in ("", before)


def with_servers(trace: Trace, stay_s: float = 60.0, servers: Sequence[str] = "abc") -> Trace:
    """Return a trace whose user passes a server every `stay_s` seconds, there and back.

    The stays are synthetic; the rates remain those of the trace.
    """
    way = [*servers, *servers[-2:0:-1]]
    at = ((trace.t_s - trace.t_s[0]) // stay_s).astype(int)
    return replace(trace, server=tuple(f"server-{way[k % len(way)]}" for k in at))


def staging_table(instance: Any, trace: Trace, settings: ReplaySettings | None = None) -> str:
    """Return lines that compare ways to stage on a trace; servers are added where it has none."""
    settings = settings or ReplaySettings(rel_gap=1e-2)
    trace = trace.resampled(settings.step_s)
    world = build_world(
        model_of(instance, settings), trace if trace.server else with_servers(trace), settings.link
    )
    lines = ["staged   mean s   p95 s  10 s after a hand-over   GB staged   checked   largest gap"]
    ways: tuple[How, ...] = ("none", "top", "exact", "all")
    for how in ways:
        done = replay_handovers(world, settings, how)
        latency = latencies(done.records)
        results = [s.result for s in done.stagings if s.result is not None]
        proven = f"{len(results)} of {len(results)}" if results else "-"
        gap = f"{max(r.gap for r in results):.1e}" if results else "-"
        lines.append(
            f"{how:6} {np.nanmean(latency):8.3f} {np.nanpercentile(latency, 95):7.3f} "
            f"{np.nanmean(done.aftermath_s(settings.step_s)):22.3f} "
            f"{sum(s.bytes for s in done.stagings) / 1e9:11.2f} {proven:>9} {gap:>13}"
        )
    return "\n".join(lines)
