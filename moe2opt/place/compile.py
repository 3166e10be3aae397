r"""The question as a multiple-choice problem, exactly.

Groups: the variant of the run; for each device the first block that it holds (its *cut*
:math:`t_d`, where :math:`t_D` is the number of blocks and what lies before :math:`t_0` is in RAM);
and for each layer with experts where they lie. Layers with equal experts are equal groups. With
:math:`f(t)` the bytes of the first :math:`t` blocks, :math:`e_l` those of experts,

.. math::
    f(t_{d+1}) - f(t_d) + \sum_{l \to d} e_l + \text{compute}_d(v) \le \text{capacity}_d .

Every row holds non-negative numbers only: what is subtracted stands on both sides. Experts lie
with their layer, on another device (which costs a hop), or in RAM; how many of a class lie with
their layers on a device is at most how many of its layers are there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.place.case import Case, Variant
from moe2opt.place.machine import HOP_S
from moe2opt.result import FloatArray


@dataclass(frozen=True, slots=True)
class Site:
    """Where the experts of a layer may lie.

    Attributes
    ----------
    device
        Number of the device, -1 for RAM.
    away
        Whether the layer itself is elsewhere on the devices.
    ubatch
        The micro-batch for which experts in RAM are priced, 0 on a device.
    """

    device: int
    away: bool = False
    ubatch: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class Compiled:
    """The problem and what its groups, options and rows stand for.

    Attributes
    ----------
    problem
        The canonical problem; its objective is minus the seconds.
    variants, sites
        Options of the first group, and of every group of experts.
    rows
        Name of each row.
    """

    problem: MultipleChoiceProblem
    variants: tuple[Variant, ...]
    sites: tuple[Site, ...]
    rows: tuple[str, ...]


class _Rows:
    """Rows under construction: a vector of uses for each kind of group, and a limit."""

    def __init__(self, variants: int, cuts: int, blocks: int, classes: int, sites: int) -> None:
        self.shape = (variants, (cuts, blocks + 1), (classes, sites))
        self.names: list[str] = []
        self.limits: list[float] = []
        self.variant: list[FloatArray] = []
        self.cut: list[FloatArray] = []
        self.expert: list[FloatArray] = []

    def add(self, name: str, limit: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Append a row; return its uses by variant, by cut and by class and site, to fill in."""
        own = tuple(np.zeros(shape) for shape in self.shape)
        self.names.append(name)
        self.limits.append(limit)
        for held, part in zip((self.variant, self.cut, self.expert), own, strict=True):
            held.append(part)
        return own  # type: ignore[return-value]


def sites_of(case: Case) -> tuple[Site, ...]:
    """Return where experts may lie: with their layer, on another device, in RAM."""
    count = len(case.machine.devices)
    found = [Site(d) for d in range(count)]
    if count > 1:
        found += [Site(d, away=True) for d in range(count)]
    return (*found, *(Site(-1, ubatch=u) for u in case.ubatches()))


def compile_case(case: Case) -> Compiled:
    """Return the problem of a case."""
    devices, variants, sites = case.machine.devices, case.variants, sites_of(case)
    blocks, classes = case.model.blocks, case.classes
    rows = _Rows(len(variants), len(devices), blocks, len(classes), len(sites))
    _memory_rows(case, rows, variants, sites)
    _order_rows(case, rows, sites)
    _variant_rows(case, rows, variants, sites)
    values = [_variant_values(case, variants)]
    uses = [np.stack(rows.variant, axis=1)]
    for d in range(len(devices)):
        values.append(_cut_values(case, d))
        uses.append(np.stack([own[d] for own in rows.cut], axis=1))
    of_layer = {layer.index: c for c, members in enumerate(classes) for layer in members}
    tables = [np.stack([own[c] for own in rows.expert], axis=1) for c in range(len(classes))]
    worth = [_expert_values(case, c, sites) for c in range(len(classes))]
    for index in sorted(of_layer):
        values.append(worth[of_layer[index]])
        uses.append(tables[of_layer[index]])
    problem = MultipleChoiceProblem(values, uses, rows.limits)
    return Compiled(problem, variants, sites, tuple(rows.names))


def _memory_rows(
    case: Case, rows: _Rows, variants: tuple[Variant, ...], sites: tuple[Site, ...]
) -> None:
    """Add the bytes of each device, of all devices together, and of RAM."""
    devices, model = case.machine.devices, case.model
    # Only how much is computed at once depends on the variant; layers need the same under all.
    sizes = np.concatenate([[0], np.cumsum(case.layer_bytes(max(case.config.ubatch)))])
    whole, last = float(sizes[-1]), len(devices) - 1
    experts = [float(members[0].expert_bytes) for members in case.classes]
    usable_by_all = sum(map(case.usable_bytes, range(len(devices))))
    total = rows.add("bytes on all devices", whole + usable_by_all)
    for d, device in enumerate(devices):
        usable = case.usable_bytes(d)
        # The upper cut of the last device is fixed, so that its share is taken off the limit.
        own = rows.add(f"bytes on {device.name}", usable + (0.0 if d == last else whole))
        for v, variant in enumerate(variants):
            need = float(case.compute_bytes(variant, d))
            if variant.devices and d == variant.devices[-1]:
                need += model.output_bytes
            own[0][v] = need if d in variant.devices else usable
            total[0][v] += own[0][v]
        own[1][d] = whole - sizes
        if d < last:
            own[1][d + 1] = sizes
        for c, size in enumerate(experts):
            for s, site in enumerate(sites):
                if site.device == d:
                    own[2][c, s] = size
                    total[2][c, s] = size
    if devices:
        total[1][0] = whole - sizes
    if case.machine.pool_bytes is not None:
        # Every layer lies in the pool, wherever it is; only what is computed with differs.
        pool = rows.add("bytes in the memory that all share", float(case.machine.pool_bytes))
        pool[0][:] = [case.pool_bytes(variant) for variant in variants]
    if case.machine.ram_bytes is not None:
        ram = rows.add("bytes in RAM", float(case.machine.ram_bytes))
        ram[0][:] = [case.host_bytes(variant) for variant in variants]
        if devices:
            ram[1][0] = sizes
        else:
            ram[0][:] += whole
        for c, size in enumerate(experts):
            ram[2][c, [s for s, site in enumerate(sites) if site.device < 0]] = size


def _order_rows(case: Case, rows: _Rows, sites: tuple[Site, ...]) -> None:
    """Say that cuts rise, and that experts lie with their layers only where these are."""
    devices, blocks = case.machine.devices, case.model.blocks
    places = np.arange(blocks + 1, dtype=np.float64)
    for d in range(len(devices) - 1):
        own = rows.add(f"{devices[d].name} ends before {devices[d + 1].name} begins", float(blocks))
        own[1][d] = places
        own[1][d + 1] = blocks - places
    for c, members in enumerate(case.classes):
        before, count = case.before(c).astype(np.float64), float(len(members))
        for d, device in enumerate(devices):
            own = rows.add(f"experts of kind {c} with their layers on {device.name}", count)
            own[1][d] = before
            if d + 1 < len(devices):
                own[1][d + 1] = count - before
            own[2][c, d] = 1.0
        for d in range(len(devices)) if len(devices) > 1 else ():
            # Experts away on a device belong to layers elsewhere whose experts are not at home.
            limit = (1 if d + 1 == len(devices) else 2) * count
            own = rows.add(f"experts of kind {c} away on {devices[d].name}", limit)
            own[1][d] += count - before
            own[1][0] += before
            if d + 1 < len(devices):
                own[1][d + 1] += before
            own[2][c, [s for s, site in enumerate(sites) if _is_for_others(site, d)]] = 1.0
        if devices:
            own = rows.add(f"experts of kind {c} in RAM where their layers are", count)
            own[1][0] = before
            own[2][c, [s for s, site in enumerate(sites) if site.device >= 0]] = 1.0


def _is_for_others(site: Site, d: int) -> bool:
    """Tell whether a place is one away on a device, or at home on any other."""
    return site.device >= 0 and site.away == (site.device == d)


def _variant_rows(
    case: Case, rows: _Rows, variants: tuple[Variant, ...], sites: tuple[Site, ...]
) -> None:
    """Add what a variant rules out, and how slowly a prompt may be read."""
    layers, blocks = float(sum(map(len, case.classes))), case.model.blocks
    if any(not variant.offloads for variant in variants):
        own = rows.add("nothing lies elsewhere", layers + 1)
        own[0][[v for v, variant in enumerate(variants) if not variant.offloads]] = layers + 1
        own[1][0, 1:] = 1.0
        own[2][:, [s for s, site in enumerate(sites) if site.device < 0 or site.away]] = 1.0
    piped = [v for v, own in enumerate(variants) if own.offloads and len(own.devices) > 1]
    if piped and case.backend.pipelines:
        # With nothing elsewhere the runtime would keep the inputs of several batches.
        own = rows.add("something lies elsewhere", layers + 1)
        own[0][piped] = 1.0
        own[1][0, 0] = 1.0
        own[2][:, [s for s, site in enumerate(sites) if site.device >= 0 and not site.away]] = 1.0
    priced = list(case.ubatches())
    for ubatch in priced if len(priced) > 1 else ():
        own = rows.add(f"experts in RAM read prompts in parts of {ubatch}", layers)
        own[0][[v for v, variant in enumerate(variants) if variant.ubatch != ubatch]] = layers
        own[2][:, [s for s, site in enumerate(sites) if site.ubatch == ubatch]] = 1.0
    least = case.config.goal.least_prefill_tok_s
    if least is not None:
        own = rows.add("seconds per prompt token", 1.0 / least)
        for d in range(len(case.machine.devices)):
            seconds = np.concatenate([[0.0], np.cumsum(_per_block(case, d, blocks))])
            whole = seconds[-1]
            own[1][d] += whole - seconds
            if d + 1 < len(case.machine.devices):
                own[1][d + 1] += seconds
                rows.limits[-1] += whole
        for c, members in enumerate(case.classes):
            for s, site in enumerate(sites):
                at = None if site.device < 0 else case.machine.devices[site.device]
                own[2][c, s] = case.prompt_experts_s(members[0], at, site.ubatch or 1)


def _per_block(case: Case, d: int, blocks: int) -> FloatArray:
    seconds = np.zeros(blocks)
    for layer in case.model.layers:
        seconds[layer.index] = case.prompt_home_s(layer, case.machine.devices[d])
    return seconds


def _variant_values(case: Case, variants: tuple[Variant, ...]) -> FloatArray:
    """Return minus the seconds that no layer says; without devices, those of all homes, too."""
    base = 0.0 if case.machine.devices else float(case.home_seconds(None)[-1])
    return np.array([-(base + case.output_s(variant)) for variant in variants])


def _cut_values(case: Case, d: int) -> FloatArray:
    """Return minus the seconds of homes that a cut decides: sums of devices below and above."""
    devices = case.machine.devices
    here = case.home_seconds(devices[d])
    below = case.home_seconds(devices[d - 1] if d else None)
    return np.asarray(-(here[-1] - here) - below + (below[-1] if d else 0.0))


def _expert_values(case: Case, c: int, sites: tuple[Site, ...]) -> FloatArray:
    layer = case.classes[c][0]
    found = []
    for site in sites:
        at = None if site.device < 0 else case.machine.devices[site.device]
        hop = 2 * HOP_S if site.away else 0.0
        found.append(-(case.expert_seconds(layer, at, site.ubatch or 1) + hop))
    return np.array(found)
