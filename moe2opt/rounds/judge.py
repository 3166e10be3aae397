"""What a round costs: seconds and joules from its own assignments, not from the problem."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from moe2opt.rounds.case import Case, Item, Option
from moe2opt.rounds.sections import AssignBlocks, Pipeline

#: Share of a limit by which sums of figures may exceed it.
_SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one device does in the round.

    Attributes
    ----------
    device
        Its name.
    block, layers, bits
        The block that it trains, how many layers it holds, or in how many bits it sends values;
        the others are None.
    power_w, resource_blocks
        How it sends.
    compute_s, upload_s, energy_j
        What that takes; seconds of a pipeline are those of the whole batch, those of an upload
        hold the wait for what comes back.
    """

    device: str
    block: str | None
    layers: int | None
    bits: int | None
    power_w: float
    resource_blocks: int
    compute_s: float
    upload_s: float
    energy_j: float

    @property
    def work(self) -> str:
        """What it does, in words."""
        if self.block is not None:
            return f"block {self.block}"
        if self.layers is not None:
            return f"{self.layers} layer{'s' * (self.layers != 1)}"
        return f"{self.bits} bits"

    @classmethod
    def of(cls, option: Option) -> Assignment:
        """Return what an option that is not idle says."""
        assert option.device is not None
        return cls(
            device=option.device.name,
            block=option.item.block,
            layers=option.item.layers,
            bits=option.item.bits,
            power_w=option.power_w,
            resource_blocks=option.blocks,
            compute_s=option.compute_s,
            upload_s=option.upload_s,
            energy_j=option.energy_j,
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """Seconds, joules, weighted joules and objective of a round, and what is wrong with it."""

    time_s: float
    energy_j: float
    objective: float
    faults: tuple[str, ...]


def judge(case: Case, assignments: Iterable[Assignment]) -> Verdict:
    """Return what assignments cost, by the formulas of their devices and work."""
    given = tuple(assignments)
    try:
        options = [_option(case, own) for own in given]
    except LookupError as error:
        return Verdict(math.inf, math.inf, math.inf, (str(error.args[0]),))
    slowest = max((option.seconds for option in options), default=math.inf)
    time = case.time_s(slowest, len(options))
    energy = math.fsum(option.energy_j for option in options)
    goal = case.config.objective
    queued = math.fsum(option.queued_j for option in options)
    objective = (goal.time * time if goal.time else 0.0) + goal.energy * queued
    return Verdict(time, energy, objective, tuple(_faults(case, options, time, energy)))


def _option(case: Case, own: Assignment) -> Option:
    """Return an assignment with its own seconds and joules."""
    device = next((d for d in case.devices if d.name == own.device), None)
    if device is None:
        raise LookupError(f"plan: there is no device {own.device!r}")
    items: Iterable[Item] = case.blocks or case.items_of(device)
    named = (own.block, own.layers, own.bits)
    item = next((i for i in items if (i.block, i.layers, i.bits) == named), None)
    if item is None:
        raise LookupError(f"plan: {own.device}: there is no such work")
    if own.power_w not in case.config.radio.power_w or own.resource_blocks not in case.grants:
        raise LookupError(f"plan: {own.device}: no such power or number of resource blocks")
    return case.option(device, item, own.power_w, own.resource_blocks)


def _faults(case: Case, options: list[Option], time: float, energy: float) -> Iterator[str]:
    """Yield the requirements that a round breaks."""
    config, work = case.config, case.config.work
    held = Counter(option.device.name for option in options if option.device is not None)
    for name, times in held.items():
        if times > 1:
            yield f"{name} takes part {times} times"
    for option in options:
        device = option.device
        assert device is not None
        if option.item.memory_mb > device.memory_mb:
            yield f"{device.name} lacks memory"
        if option.energy_j > device.energy_limit_j * (1 + _SLACK):
            yield f"{device.name} spends {option.energy_j:.6g} J"
    if isinstance(work, AssignBlocks):
        done = sorted(str(option.item.block) for option in options)
        if done != sorted(str(block.block) for block in case.blocks):
            yield "not every block is trained once"
    elif isinstance(work, Pipeline):
        layers = sum(option.item.layers or 0 for option in options)
        if layers != work.layers:
            yield f"{layers} of {work.layers} layers are held"
    elif len(options) != len(case.devices):
        yield "not every device takes part"
    used: tuple[tuple[str, float, float | None], ...] = (
        ("resource_blocks", sum(option.blocks for option in options), config.radio.blocks),
        ("time_s", time, config.objective.deadline_s),
        ("energy_j", energy, config.limits.energy_j),
        (
            "quantisation_error",
            math.fsum(option.error for option in options),
            config.limits.quantisation_error,
        ),
    )
    for row, amount, limit in used:
        if limit is not None and amount > limit * (1 + _SLACK):
            yield f"{row}: {amount:.6g} is more than {limit:.6g}"
