"""The instance for a runtime other than llama.cpp: one choice among all of its settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.content import Content
from moe2opt.errors import InputError
from moe2opt.place.case import Case
from moe2opt.place.judge import Rate
from moe2opt.place.machine import GIB
from moe2opt.place.runtimes import accelerate, ktransformers, sglang, vllm
from moe2opt.place.runtimes.base import Setting
from moe2opt.place.runtimes.plan import RuntimePlan
from moe2opt.place.shown import RAM, device_row
from moe2opt.present import Measure
from moe2opt.result import IntArray

#: Runtimes by name: each module has `settings`, `words` and `notes`.
RUNTIMES: dict[str, ModuleType] = {
    own.NAME: own for own in (ktransformers, vllm, sglang, accelerate)
}


@dataclass(frozen=True, eq=False, repr=False)
class RuntimeInstance(Content):
    """Which setting of a runtime is fastest on a machine.

    Attributes
    ----------
    case
        Model, machine and settings; its configuration names the runtime.
    """

    case: Case

    measure = Measure("minimize", "s per token", "time", least=0.0)

    @property
    def name(self) -> str:
        """Short name."""
        return self.case.config.name

    @property
    def runtime(self) -> ModuleType:
        """What is known of the runtime."""
        return RUNTIMES[self.case.config.runtime]

    @cached_property
    def settings(self) -> tuple[Setting, ...]:
        """Every setting that is understood, in a fixed order."""
        return tuple(self.runtime.settings(self.case))

    @cached_property
    def _problem(self) -> MultipleChoiceProblem:
        values = np.array([-self.seconds(setting) for setting in self.settings])
        uses = np.array([self.uses(setting) for setting in self.settings])
        return MultipleChoiceProblem([values], [uses], self.limits())

    def problem(self) -> MultipleChoiceProblem:
        """Return the canonical problem: one group."""
        return self._problem

    def seconds(self, setting: Setting) -> float:
        """Return the weighted seconds of the goal."""
        prompt, answer = self.case.weights
        return answer * setting.seconds + prompt * setting.prompt_s

    def uses(self, setting: Setting) -> list[float]:
        """Return what a setting takes of each row."""
        found = [sum(own) for own in setting.held]
        if self.case.machine.ram_bytes is not None:
            found.append(setting.ram)
        if self.case.machine.pool_bytes is not None:
            found.append(sum(map(sum, setting.held)) + setting.ram)
        if self.case.config.goal.least_prefill_tok_s is not None:
            found.append(setting.prompt_s)
        return found

    def limits(self) -> list[float]:
        """Return the limit of each row."""
        machine = self.case.machine
        found = [float(self.case.usable_bytes(d)) for d in range(len(machine.devices))]
        if machine.ram_bytes is not None:
            found.append(float(machine.ram_bytes))
        if machine.pool_bytes is not None:
            found.append(float(machine.pool_bytes))
        least = self.case.config.goal.least_prefill_tok_s
        return found if least is None else [*found, 1 / least]

    def row_names(self) -> list[str]:
        """Return the name of each row."""
        machine = self.case.machine
        found = [f"bytes on {device.name}" for device in machine.devices]
        found += ["bytes in RAM"] if machine.ram_bytes is not None else []
        found += ["bytes in the memory that all share"] if machine.pool_bytes is not None else []
        least = self.case.config.goal.least_prefill_tok_s
        return found if least is None else [*found, "seconds per prompt token"]

    def cover_names(self) -> list[str]:
        """Return no names: nothing has to be covered."""
        return []

    def decode(self, x: IntArray) -> RuntimePlan:
        """Return the plan that a solution stands for."""
        case, setting = self.case, self.settings[int(np.asarray(x)[0])]
        command, files = self.runtime.words(case, setting)
        return RuntimePlan(
            name=case.config.name,
            model=case.model.name,
            runtime=case.config.runtime,
            options=dict(setting.options),
            devices=tuple(_device_rows(case, setting)),
            layers=tuple(_layer_rows(case, setting)),
            decode=Rate(1 / setting.seconds, 1 / setting.slow, 1 / setting.fast),
            prefill=self._prefill(setting),
            tried=len(self.settings),
            command=command,
            files=files,
            notes=(
                *case.model.notes,
                *case.machine.notes,
                *self.runtime.notes(case, setting),
                _NOTE,
            ),
        )

    def _prefill(self, setting: Setting) -> Rate:
        devices = self.case.machine.devices
        spread = max(devices[d].prompt_spread for d in setting.devices)
        value = 1 / setting.prompt_s
        return Rate(value, value / spread, value * spread)

    def _setting_of(self, plan: RuntimePlan) -> Setting | None:
        return next((s for s in self.settings if s.options == plan.options), None)

    def evaluate(self, plan: RuntimePlan) -> float:
        """Return minus the seconds of a plan, from what it sets; minus infinity for no setting."""
        setting = self._setting_of(plan)
        return -np.inf if setting is None else -self.seconds(setting)

    def check(self, plan: RuntimePlan) -> list[str]:
        """Return what of a plan does not fit."""
        setting = self._setting_of(plan)
        if setting is None:
            return [f"its options are no setting of {self.case.config.runtime} here"]
        return list(self._faults(setting))

    def _faults(self, setting: Setting) -> Iterator[str]:
        rows = zip(self.row_names(), self.uses(setting), self.limits(), strict=True)
        for name, used, limit in rows:
            if used > limit:
                yield f"{name}: {used:.6g} where {limit:.6g} are allowed"

    def describe(self) -> str:
        """Return one line about model, machine and runtime."""
        case = self.case
        devices = ", ".join(
            f"{d.name} ({d.capacity_bytes / GIB:g} GiB)" for d in case.machine.devices
        )
        return (
            f"{case.model.name} ({case.model.architecture}): {len(case.model.layers)} layers, "
            f"{case.model.bytes / GIB:.2f} GiB; {case.config.runtime} on {devices}: "
            f"{len(self.settings):,} settings"
        )


_NOTE = (
    "1 GiB of each card is assumed for activations and graphs; rates of the cards are those fitted "
    "to published runs of other engines, and the command was not run"
)


def _device_rows(case: Case, setting: Setting) -> Iterator[dict[str, Any]]:
    machine = case.machine
    for d, device in enumerate(machine.devices):
        margin = device.margin_bytes if d in setting.devices else 0
        yield device_row(device.name, device.capacity_bytes, setting.held[d], margin)
    limit, system = machine.ram_bytes, 0.0
    if limit is not None and case.config.ram.gib is not None:
        system = case.config.ram.gib * GIB - limit
    capacity = None if limit is None else limit + system
    yield device_row(RAM, capacity, (setting.ram, 0.0, 0.0), system)


def _layer_rows(case: Case, setting: Setting) -> Iterator[dict[str, Any]]:
    names = [device.name for device in case.machine.devices]
    shared = " + ".join(names[d] for d in setting.devices)
    for layer in case.model.layers:
        k = layer.index
        home = names[setting.homes[k]] if k in setting.homes else shared
        moved = setting.experts_in_ram.get(k, 0)
        whole = k in setting.layers_in_ram
        experts = None
        if layer.experts:
            experts = RAM if whole or moved == case.model.experts else home
        row = {"layer": k, "dense": RAM if whole else home, "experts": experts}
        yield row | ({"experts_in_ram": moved} if 0 < moved < case.model.experts else {})


def instance_for(case: Case) -> RuntimeInstance:
    """Return the instance of the runtime that a case names.

    Raises
    ------
    InputError
        Where the runtime cannot express what is asked.
    """
    config = case.config
    if config.unified is not None and config.runtime == "ktransformers":
        raise InputError("unified: ktransformers moves experts off a card, and here is one memory")
    found = RuntimeInstance(case)
    if not found.settings:
        raise InputError(f"runtime: {config.runtime} has no setting for this machine")
    return found


def fastest(case: Case) -> RuntimePlan:
    """Return the plan of the fastest setting that fits.

    Raises
    ------
    InputError
        Where none fits, with what lacks least.
    """
    instance = instance_for(case)
    limits = np.array(instance.limits())
    over = [(np.array(instance.uses(s)) - limits).max() for s in instance.settings]
    fitting = [k for k, own in enumerate(over) if own <= 0]
    if not fitting:
        raise InputError(
            f"runtime: no setting of {case.config.runtime} fits: the closest lacks "
            f"{min(over) / 2**20:,.0f} MiB"
        )
    best = min(fitting, key=lambda k: instance.seconds(instance.settings[k]))
    return instance.decode(np.array([best]))
