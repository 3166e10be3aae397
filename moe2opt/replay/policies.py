r"""When and how to plan again: the policies of a replay.

``static`` keeps the first plan, ``greedy`` plans in every step as if copies cost nothing,
``periodic`` plans every so often, ``trigger`` when the estimate leaves a band, ``exact-mpc`` in
every step for a forecast, ``lyapunov`` in every step with a virtual queue of copied bytes. All of
them see the same: the rate of the link as measured up to the step before, and the memory, load, mix
and server of the moment. All plans come from the same exact re-solve; but for ``greedy`` the cost
of switching is part of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from moe2opt.replay.compiled import Conditions, ReplayModel
from moe2opt.replay.device import Device
from moe2opt.replay.estimate import EwmaEstimator
from moe2opt.replay.paths import Table
from moe2opt.replay.resolve import Planned, Planner
from moe2opt.replay.switching import switching_bytes, switching_s
from moe2opt.replay.trigger import ReplanTrigger
from moe2opt.result import FloatArray, InputError

#: Weight of a step in the long-run mean costs, and seconds in which a forecast forgets the present.
_SLOWLY, _MEMORY_S = 0.02, 20.0


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """How a replay runs.

    Attributes
    ----------
    step_s
        Length of a step.
    tokens_per_s
        Tokens over which the cost of switching is spread, per second of `horizon_s`; as many as
        the first plan gives when left out.
    horizon_s
        Seconds for which a new plan is expected to last.
    stay_s
        Seconds that a user is expected to stay at a server, where a trace has servers.
    copy_share
        Share of a link that copies may take.
    timeout_s
        Waiting time before a use is served from a store instead.
    period_s
        Interval of ``periodic``.
    theta, min_interval_s
        Band and shortest interval of ``trigger``.
    alpha, beta, kappa
        Of the estimators of the rate and of the costs that it means.
    caution
        Mean deviations of the costs that plans add to them.
    reaction_s
        Seconds from a change of the rate to a decision in force.
    forecast_s
        Seconds that ``exact-mpc`` looks ahead.
    bytes_per_s
        Mean rate of copies that ``lyapunov`` keeps to.
    tradeoff
        What ``lyapunov`` pays for latency against a queue of one second's worth of copies.
    rel_gap
        Gap that every solve aims at.
    start
        ``mean``: all policies start from the plan for the trace's mean; ``nominal``: for the
        configuration's own rates.
    link
        Link that the trace drives, ``a-b``.
    """

    step_s: float = 1.0
    tokens_per_s: float | None = None
    horizon_s: float = 10.0
    stay_s: float = 60.0
    copy_share: float = 0.5
    timeout_s: float = 1.0
    period_s: float = 30.0
    theta: float = 0.3
    min_interval_s: float = 1.0
    alpha: float = 0.9
    beta: float = 0.25
    kappa: float = 0.0
    caution: float = 0.0
    reaction_s: float = 0.2
    forecast_s: float = 10.0
    bytes_per_s: float = 5e6
    tradeoff: float = 1.0
    rel_gap: float = 1e-2
    start: str = "mean"
    link: str | None = None

    def __post_init__(self) -> None:
        lengths = ("step_s", "horizon_s", "stay_s", "period_s", "forecast_s", "bytes_per_s")
        for name in (*lengths, *(["tokens_per_s"] if self.tokens_per_s is not None else [])):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise InputError(f"{name} = {getattr(self, name)}: it must be positive")
        if not 0 < self.copy_share < 1:
            raise InputError(f"copy_share = {self.copy_share}: it must be between 0 and 1")
        if not 0 <= self.reaction_s < math.inf:
            raise InputError(f"reaction_s = {self.reaction_s}: it must not be negative")
        if not (
            self.caution >= 0 and self.rel_gap >= 0 and self.tradeoff >= 0 and self.timeout_s >= 0
        ):
            raise InputError("caution, rel_gap, tradeoff and timeout_s must not be negative")
        if self.start not in ("mean", "nominal"):
            raise InputError(f"start = {self.start!r}: it must be mean or nominal")

    @property
    def pace(self) -> float:
        """Tokens per second; 1 where nothing is known."""
        return 1.0 if self.tokens_per_s is None else self.tokens_per_s

    def paced(self, planned: Planned) -> ReplaySettings:
        """Return the settings with the tokens per second of a plan where none are given."""
        if self.tokens_per_s is not None or planned.tier is None:
            return self
        return replace(self, tokens_per_s=1.0 / max(-planned.answer.objective, 1e-9))


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What a policy knows at the start of a step.

    Attributes
    ----------
    now_s
        Seconds since the start of the trace.
    measured
        Bytes per second of the link in this step so far; NaN where nothing is measured.
    conditions
        Memory, load, mix and server of the moment; the link's rate in it means nothing.
    """

    now_s: float
    measured: float
    conditions: Conditions


@dataclass(slots=True, eq=False)
class Controller:
    """What all policies share: estimates, the planner, the last plan.

    Attributes
    ----------
    model, settings, link
        The compiled instance, how the replay runs, the replayed link.
    planner
        The compiled problem.
    estimator
        Of the link's rate.
    """

    model: ReplayModel
    settings: ReplaySettings
    link: int
    planner: Planner
    estimator: EwmaEstimator
    trigger: ReplanTrigger
    far: list[int]
    planned_at_s: float = 0.0
    queue_bytes: float = 0.0
    costs: FloatArray | None = None
    usual: FloatArray | None = None
    spread: FloatArray | None = None
    far_uses: float = 1.0
    lasting_s: float = 10.0
    situation: tuple[Any, ...] = field(default=())

    def observe(self, seen: Seen) -> None:
        """Take in what the last step showed."""
        self.estimator.observe(seen.measured)
        if math.isfinite(seen.measured) and seen.measured >= 0:
            conditions = self.expected(seen, seen.measured)
            now = self.model.table(conditions, self._wait_each()).seconds
            self.costs = _follow(self.costs, now, self.settings.alpha)
            self.usual = _follow(self.usual, now, _SLOWLY)
            off = np.abs(now - self.costs)
            self.spread = _follow(self.spread, off, self.settings.beta)

    def expected(self, seen: Seen, rate: float | None = None) -> Conditions:
        """Return the conditions to plan for: the estimate of the link, the rest as it is."""
        rates = seen.conditions.rates.copy()
        planned = self.estimator.planned if rate is None else rate
        out = seen.conditions.server == ""
        rates[self.link] = 0.0 if out else planned if math.isfinite(planned) else rates[self.link]
        return replace(seen.conditions, rates=rates)

    def expected_costs(self, conditions: Conditions, forecast: float = 0.0) -> Table:
        """Return the mean costs to plan with: latency is linear in costs, not in rates.

        Parameters
        ----------
        conditions
            What is expected.
        forecast
            Share of the long-run mean costs.
        """
        table = self.model.table(conditions, self._wait_each())
        if self.costs is None or self.usual is None or self.spread is None:
            return table
        if conditions.server == "":
            return table
        mean = (1 - forecast) * self.costs + forecast * self.usual
        return replace(table, seconds=mean + self.settings.caution * self.spread)

    def switching(
        self, device: Device, table: Table, conditions: Conditions, horizon_s: float
    ) -> FloatArray:
        """Return ``(G, O)`` seconds per token of switching, spread over a horizon.

        Copies at a server that the user will leave are spread over the expected stay.
        """
        lasts_s = np.full(len(self.model.topology.tiers), horizon_s)
        if conditions.server is not None:
            lasts_s[self.far] = max(horizon_s, self.settings.stay_s)
        return switching_s(self.model, device, table, conditions, self.settings.pace * lasts_s)

    def _wait_each(self) -> float:
        """Return the waiting to charge for a late use: a token waits once for all of them."""
        if math.isinf(self.model.timeout_s):
            return 0.0
        return self.model.timeout_s / max(1.0, self.far_uses)

    def has_new_situation(self, seen: Seen) -> bool:
        """Tell whether memory, load or the server changed since the last plan."""
        now = situation_of(seen.conditions)
        return bool(self.situation) and now != self.situation

    def plan(
        self,
        seen: Seen,
        device: Device,
        conditions: Conditions | None = None,
        table: Table | None = None,
        extra_s: FloatArray | None = None,
    ) -> Planned:
        """Plan with the cost of switching, from the present target on."""
        conditions = self.expected(seen) if conditions is None else conditions
        table = self.expected_costs(conditions) if table is None else table
        if extra_s is None:
            extra_s = self.switching(device, table, conditions, self.settings.horizon_s)
        self.planned_at_s, self.situation = seen.now_s, situation_of(seen.conditions)
        self.trigger.planned(seen.now_s, float(conditions.rates[self.link]))
        planned = self.planner.plan(conditions, extra_s, table, present=device.target)
        if planned.places is not None:
            uses = self.model.uses(conditions, planned.places.form)
            far = float(uses[np.isin(planned.places.tier, self.far)].sum())
            self.far_uses = far or self.far_uses
        return planned

    def state(self) -> dict[str, Any]:
        """Return everything that changes, as arrays."""
        numbers = [
            self.estimator.mean,
            self.estimator.deviation,
            float(self.estimator.unseen),
            self.trigger.planned_with,
            self.trigger.planned_at_s,
            self.planned_at_s,
            self.queue_bytes,
            self.far_uses,
            self.lasting_s,
        ]
        found = {f"plan:{k}": v for k, v in self.planner.state().items()}
        for name in ("costs", "usual", "spread"):
            if getattr(self, name) is not None:
                found[name] = getattr(self, name)
        return found | {"numbers": np.array(numbers)}

    def restore(self, state: dict[str, Any], conditions: Conditions) -> None:
        """Go back to what `state` returned; `conditions` are those of the step before."""
        self.planner.restore({k[5:]: v for k, v in state.items() if k.startswith("plan:")})
        numbers = [float(n) for n in state["numbers"]]
        self.estimator.mean, self.estimator.deviation = numbers[0], numbers[1]
        self.estimator.unseen = int(numbers[2])
        self.trigger.planned_with, self.trigger.planned_at_s = numbers[3], numbers[4]
        self.planned_at_s, self.queue_bytes, self.far_uses, self.lasting_s = numbers[5:]
        for name in ("costs", "usual", "spread"):
            setattr(self, name, np.array(state[name]) if name in state else None)
        self.situation = situation_of(conditions)


#: A policy: a plan for this step and the following ones, or None to keep the present one.
Policy = Callable[[Controller, Seen, Device], Planned | None]


def static(controller: Controller, seen: Seen, device: Device) -> Planned | None:
    """Keep the first plan."""
    return None


def greedy(controller: Controller, seen: Seen, device: Device) -> Planned | None:
    """Plan in every step for the present estimate, as if copies cost nothing."""
    return controller.plan(seen, device, extra_s=np.zeros(1))


def periodic(controller: Controller, seen: Seen, device: Device) -> Planned | None:
    """Plan again every `period_s` seconds."""
    if seen.now_s - controller.planned_at_s < controller.settings.period_s - 1e-9:
        return None
    return controller.plan(seen, device)


def trigger(controller: Controller, seen: Seen, device: Device) -> Planned | None:
    """Plan again when the estimate leaves its band, or memory, load, mix or the server change.

    Copies have to pay within the time that plans have lasted lately, `horizon_s` at most.
    """
    rate = float(controller.expected(seen).rates[controller.link])
    if not (controller.has_new_situation(seen) or controller.trigger.fires(seen.now_s, rate)):
        return None
    settings, lasted_s = controller.settings, seen.now_s - controller.planned_at_s
    kept_s = controller.lasting_s * 0.8 + min(lasted_s, settings.horizon_s) * 0.2
    controller.lasting_s = max(kept_s, settings.step_s)
    conditions = controller.expected(seen)
    table = controller.expected_costs(conditions)
    extra = controller.switching(device, table, conditions, controller.lasting_s)
    return controller.plan(seen, device, conditions, table, extra)


def exact_mpc(controller: Controller, seen: Seen, device: Device) -> Planned | None:
    """Plan in every step for a forecast: present costs fall back to the long-run mean.

    The plan is exact for the mean costs over the forecast, held over all of it.
    """
    conditions = controller.expected(seen)
    horizon = controller.settings.forecast_s / _MEMORY_S
    share = 1.0 + math.expm1(-horizon) / horizon
    return controller.plan(seen, device, conditions, controller.expected_costs(conditions, share))


def lyapunov(controller: Controller, seen: Seen, device: Device) -> Planned | None:
    """Plan in every step for latency plus the virtual queue times the bytes to copy.

    Drift plus penalty: the queue grows by what is copied and falls by `bytes_per_s`.
    """
    settings = controller.settings
    conditions = controller.expected(seen)
    table = controller.expected_costs(conditions)
    scale = settings.bytes_per_s * settings.horizon_s
    queue = controller.queue_bytes / scale
    extra = controller.switching(device, table, conditions, settings.horizon_s)
    push = switching_bytes(controller.model, device, table, conditions) * (queue / scale)
    extra = extra + push / max(settings.tradeoff, 1e-12)
    return controller.plan(seen, device, conditions, table, extra)


#: The policies by name.
POLICIES: dict[str, Policy] = {
    "static": static,
    "greedy": greedy,
    "periodic": periodic,
    "trigger": trigger,
    "exact-mpc": exact_mpc,
    "lyapunov": lyapunov,
}


def controller_of(model: ReplayModel, settings: ReplaySettings, link: int) -> Controller:
    """Return a controller that has seen nothing yet."""
    return Controller(
        model,
        settings,
        link,
        Planner(model, settings.rel_gap),
        EwmaEstimator(settings.alpha, settings.beta, settings.kappa),
        ReplanTrigger(settings.theta, settings.min_interval_s, floor=1e3),
        model.beyond(link),
        lasting_s=settings.horizon_s,
    )


def situation_of(conditions: Conditions) -> tuple[Any, ...]:
    """Return what makes a plan obsolete when it changes: memory, load and mix in tenths, server."""
    parts = (conditions.memory_share, np.round(conditions.load, 1), np.round(conditions.mix, 1))
    return (*(part.tobytes() for part in parts), conditions.server)


def _follow(old: FloatArray | None, new: FloatArray, weight: float) -> FloatArray:
    return new if old is None else weight * new + (1 - weight) * old
