r"""The question as a multiple-choice problem, exactly.

Groups: the variant of the run; for each device the first block that it holds (its *cut*
:math:`t_d`, where :math:`t_D` is the number of blocks and what lies before :math:`t_0` is in RAM);
for each device which layer is *split*, so that some matrices of its experts stay where the others
are in RAM or on another device (at most one, as ``--fit`` does it); and for each layer with experts
where they lie. Layers with equal experts are equal groups. With
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
from moe2opt.llamacpp import LlamaLayer
from moe2opt.place.case import Case, Variant
from moe2opt.place.machine import HOP_S, Device
from moe2opt.result import FloatArray, IntArray

#: Devices up to which a layer of each may be split.
_MOST_SPLIT = 2


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


@dataclass(frozen=True, slots=True)
class Split:
    """One layer of a device that keeps some matrices of experts which are elsewhere otherwise.

    Attributes
    ----------
    kind
        Number of the class of the layer, -1 for none.
    kept
        How many matrices stay.
    ubatch
        The micro-batch for which the others are priced, 0 on a device.
    to
        Number of the device where the others are, -1 for RAM.
    """

    kind: int = -1
    kept: int = 0
    ubatch: int = 0
    to: int = -1


def kept_matrices(layer: LlamaLayer, count: int) -> tuple[str, ...]:
    """Return which matrices stay on a device where only some do, as ``--fit`` chooses them."""
    order = ("up", "gate", "gate_up", "down")
    return tuple(name for name in order if name in layer.experts)[:count]


@dataclass(frozen=True, eq=False, slots=True)
class Compiled:
    """The problem and what its groups, options and rows stand for.

    Attributes
    ----------
    problem
        The canonical problem; its objective is minus the seconds.
    variants, sites
        Options of the first group, and of every group of experts.
    splits
        Options of the group of each device that says which layer is split; empty for no groups.
    rows
        Name of each row.
    """

    problem: MultipleChoiceProblem
    variants: tuple[Variant, ...]
    sites: tuple[Site, ...]
    splits: tuple[Split, ...]
    rows: tuple[str, ...]


_Uses = tuple[FloatArray, FloatArray, FloatArray, FloatArray]


class _Rows:
    """Rows under construction: a vector of uses for each kind of group, and a limit."""

    def __init__(self, case: Case) -> None:
        self.variants, self.sites, self.splits = case.variants, sites_of(case), splits_of(case)
        cuts, places = len(case.machine.devices), case.model.blocks + 1
        kinds = (len(case.classes), len(self.sites))
        self.shape = (len(self.variants), (cuts, places), kinds, (cuts, len(self.splits)))
        self.names: list[str] = []
        self.limits: list[float] = []
        self.variant: list[FloatArray] = []
        self.cut: list[FloatArray] = []
        self.expert: list[FloatArray] = []
        self.split: list[FloatArray] = []

    def add(self, name: str, limit: float) -> _Uses:
        """Append a row; return its uses by variant, cut, class and site, and split, to fill in."""
        own = tuple(np.zeros(shape) for shape in self.shape)
        self.names.append(name)
        self.limits.append(limit)
        for held, part in zip((self.variant, self.cut, self.expert, self.split), own, strict=True):
            held.append(part)
        return own  # type: ignore[return-value]


def sites_of(case: Case) -> tuple[Site, ...]:
    """Return where experts may lie: with their layer, on another device, in RAM."""
    count = len(case.machine.devices)
    found = [Site(d) for d in range(count)]
    if count > 1:
        found += [Site(d, away=True) for d in range(count)]
    return (*found, *(Site(-1, ubatch=u) for u in case.ubatches()))


def splits_of(case: Case) -> tuple[Split, ...]:
    """Return which layer of a device may be split: none, or one of a class.

    On more devices the gain is below that of a whole layer on one of them, and the search long.
    """
    count = len(case.machine.devices)
    if count > _MOST_SPLIT:
        return ()
    found = [
        Split(c, kept, ubatch, to)
        for c, members in enumerate(case.classes)
        for kept in range(1, len(members[0].experts))
        for ubatch, to in (
            *((own, -1) for own in case.ubatches()),
            *((0, e) for e in range(count) if count > 1),
        )
    ]
    return (Split(), *found) if found else ()


def compile_case(case: Case) -> Compiled:
    """Return the problem of a case."""
    rows = _Rows(case)
    devices, classes, splits = case.machine.devices, case.classes, rows.splits
    _memory_rows(case, rows)
    _order_rows(case, rows)
    _variant_rows(case, rows)
    values = [_variant_values(case, rows.variants)]
    uses = [np.stack(rows.variant, axis=1)]
    for d in range(len(devices)):
        values.append(_cut_values(case, d))
        uses.append(np.stack([own[d] for own in rows.cut], axis=1))
    for d in range(len(devices)) if splits else ():
        values.append(_split_values(case, d, splits))
        uses.append(np.stack([own[d] for own in rows.split], axis=1))
    of_layer = {layer.index: c for c, members in enumerate(classes) for layer in members}
    tables = [np.stack([own[c] for own in rows.expert], axis=1) for c in range(len(classes))]
    worth = [_expert_values(case, c, rows.sites) for c in range(len(classes))]
    for index in sorted(of_layer):
        values.append(worth[of_layer[index]])
        uses.append(tables[of_layer[index]])
    problem = MultipleChoiceProblem(values, uses, rows.limits)
    return Compiled(problem, rows.variants, rows.sites, splits, tuple(rows.names))


def _memory_rows(case: Case, rows: _Rows) -> None:
    """Add the bytes of each device, of all devices together, of RAM, and of what all share."""
    found = [case.layer_bytes(ubatch) for ubatch in sorted(case.config.ubatch)]
    # Rows for each micro-batch that needs bytes of its own, as that of a sliding window does.
    kinds = [sizes for k, sizes in enumerate(found) if not k or (sizes != found[k - 1]).any()]
    for sizes in kinds:
        _room_rows(case, rows, sizes)
    if case.machine.pool_bytes is not None:
        # Every layer lies in the pool, wherever it is; only what is computed with differs.
        pool = rows.add("bytes in the memory that all share", float(case.machine.pool_bytes))
        pool[0][:] = [case.pool_bytes(variant) for variant in rows.variants]


def _room_rows(case: Case, rows: _Rows, blocks: IntArray) -> None:
    """Add what devices and RAM have room for, where blocks take so many bytes.

    Where a variant's blocks take less, these rows count too much by at most the sum of what each
    takes less; the limits are raised by `spare`, the largest such sum, of which other variants
    take the rest. So each row is exact for its own micro-batches and holds under all others.
    """
    devices, model = case.machine.devices, case.model
    variants, sites, splits = rows.variants, rows.sites, rows.splits
    kept = [
        np.array([_kept_bytes(case, d, split) for split in splits]) for d in range(len(devices))
    ]
    spilled = np.array([split.to for split in splits])
    most = max((own.max(initial=0.0) for own in kept), default=0.0)
    sizes = np.concatenate([[0], np.cumsum(blocks)])
    less = [np.maximum(blocks - case.layer_bytes(v.ubatch), 0).sum() for v in variants]
    spare = float(max(less))
    taken = spare - np.array(less, dtype=np.float64)
    whole, last = float(sizes[-1]), len(devices) - 1
    experts = [float(members[0].expert_bytes) for members in case.classes]
    usable_by_all = sum(map(case.usable_bytes, range(len(devices))))
    total = rows.add("bytes on all devices", whole + usable_by_all + spare)
    total[0][:] = taken
    for d, device in enumerate(devices):
        usable = case.usable_bytes(d)
        # The upper cut of the last device is fixed, so that its share is taken off the limit.
        own = rows.add(f"bytes on {device.name}", usable + spare + (0.0 if d == last else whole))
        for v, variant in enumerate(variants):
            need = float(case.compute_bytes(variant, d))
            if variant.devices and d == variant.devices[-1]:
                need += model.output_bytes
            own[0][v] = need if d in variant.devices else usable
        total[0][:] += own[0]
        own[0][:] += taken
        own[1][d] = whole - sizes
        if d < last:
            own[1][d + 1] = sizes
        for c, size in enumerate(experts):
            for s, site in enumerate(sites):
                if site.device == d:
                    own[2][c, s] = size
                    total[2][c, s] = size
        own[3][d] = kept[d]
        total[3][d] = np.where(spilled < 0, kept[d], 0.0)
        for e in range(len(devices)) if (spilled >= 0).any() else ():
            if e != d:
                # What stays elsewhere is taken off a limit that holds the most that can.
                own[3][e] = most - np.where(spilled == d, kept[e], 0.0)
                rows.limits[rows.names.index(f"bytes on {device.name}")] += most
    if devices:
        total[1][0] = whole - sizes
    if case.machine.ram_bytes is not None:
        ram = rows.add("bytes in RAM", case.machine.ram_bytes + spare)
        ram[0][:] = taken + [case.host_bytes(variant) for variant in variants]
        if devices:
            ram[1][0] = sizes
        else:
            ram[0][:] += whole
        for c, size in enumerate(experts):
            ram[2][c, [s for s, site in enumerate(sites) if site.device < 0]] = size
        # What splits take off RAM is taken off a limit that holds the most that they can.
        for d in range(len(devices)):
            ram[3][d] = most - np.where(spilled < 0, kept[d], 0.0)
        rows.limits[-1] += len(devices) * most


def _order_rows(case: Case, rows: _Rows) -> None:
    """Say that cuts rise, and that experts lie with their layers only where these are."""
    devices, blocks = case.machine.devices, case.model.blocks
    sites, splits = rows.sites, rows.splits
    places = np.arange(blocks + 1, dtype=np.float64)
    for d in range(len(devices) - 1):
        own = rows.add(f"{devices[d].name} ends before {devices[d + 1].name} begins", float(blocks))
        own[1][d] = places
        own[1][d + 1] = blocks - places
    for c, members in enumerate(case.classes):
        before, count = case.before(c).astype(np.float64), float(len(members))
        of_kind = np.array([split.kind == c for split in splits], dtype=np.float64)
        spilled = np.array([split.to for split in splits])
        for d, device in enumerate(devices):
            own = rows.add(f"experts of kind {c} with their layers on {device.name}", count)
            own[1][d] = before
            if d + 1 < len(devices):
                own[1][d + 1] = count - before
            own[2][c, d] = 1.0
            own[3][d] = of_kind * (spilled != d)
        for d in range(len(devices)) if len(devices) > 1 else ():
            # Experts away on a device belong to layers elsewhere whose experts are not at home.
            limit = (1 if d + 1 == len(devices) else 2) * count
            own = rows.add(f"experts of kind {c} away on {devices[d].name}", limit)
            own[1][d] += count - before
            own[1][0] += before
            if d + 1 < len(devices):
                own[1][d + 1] += before
            own[2][c, [s for s, site in enumerate(sites) if _is_for_others(site, d)]] = 1.0
            for e in range(len(devices)):
                # A part that is away on this device is counted where its layer is.
                own[3][e] = of_kind * (spilled != d) * (spilled != e) * (e != d)
            if (spilled >= 0).any():
                own = rows.add(f"parts of kind {c} away on {devices[d].name}", count)
                own[2][c, [s for s, o in enumerate(sites) if not o.away or o.device != d]] = 1.0
                for e in range(len(devices)):
                    own[3][e] = of_kind * (spilled == d) * (e != d)
        if devices:
            own = rows.add(f"experts of kind {c} in RAM where their layers are", count)
            own[1][0] = before
            own[2][c, [s for s, site in enumerate(sites) if site.device >= 0]] = 1.0
            own[3][:] = of_kind * (spilled < 0)


def _is_for_others(site: Site, d: int) -> bool:
    """Tell whether a place is one away on a device, or at home on any other."""
    return site.device >= 0 and site.away == (site.device == d)


def _variant_rows(case: Case, rows: _Rows) -> None:
    """Add what a variant rules out, and how slowly a prompt may be read."""
    layers, blocks = float(sum(map(len, case.classes))), case.model.blocks
    variants, sites, splits = rows.variants, rows.sites, rows.splits
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
        most = layers + len(case.machine.devices)
        own = rows.add(f"experts in RAM read prompts in parts of {ubatch}", most)
        own[0][[v for v, variant in enumerate(variants) if variant.ubatch != ubatch]] = most
        own[2][:, [s for s, site in enumerate(sites) if site.ubatch == ubatch]] = 1.0
        own[3][:, [s for s, split in enumerate(splits) if split.ubatch == ubatch]] = 1.0
    least = case.config.goal.least_prefill_tok_s
    if least is not None:
        own = rows.add("seconds per prompt token", 1.0 / least)
        for d in range(len(case.machine.devices)):
            seconds = np.zeros(blocks + 1)
            for layer in case.model.layers:
                seconds[layer.index + 1] = case.prompt_home_s(layer, case.machine.devices[d])
            seconds = np.cumsum(seconds)
            whole = seconds[-1]
            own[1][d] += whole - seconds
            if d + 1 < len(case.machine.devices):
                own[1][d + 1] += seconds
                rows.limits[-1] += whole
        for c, members in enumerate(case.classes):
            for s, site in enumerate(sites):
                at = None if site.device < 0 else case.machine.devices[site.device]
                own[2][c, s] = case.prompt_experts_s(members[0], at, site.ubatch or 1)
        for d in range(len(case.machine.devices)) if splits else ():
            saved = np.array([_prompt_saved_s(case, d, split) for split in splits])
            own[3][d] = saved.max() - saved
            rows.limits[-1] += float(saved.max())


def _kept_bytes(case: Case, d: int, split: Split) -> float:
    """Return the bytes that a split keeps on a device; none where the others are there, too."""
    if split.kind < 0 or split.to == d:
        return 0.0
    layer = case.classes[split.kind][0]
    return float(sum(layer.experts[name] for name in kept_matrices(layer, split.kept)))


def _part(case: Case, d: int, split: Split) -> float:
    """Return the share of a layer's experts that stays."""
    return _kept_bytes(case, d, split) / case.classes[split.kind][0].expert_bytes


def _place(case: Case, split: Split) -> Device | None:
    return None if split.to < 0 else case.machine.devices[split.to]


def _prompt_saved_s(case: Case, d: int, split: Split) -> float:
    """Return seconds per prompt token that a split takes off those elsewhere."""
    if split.kind < 0:
        return 0.0
    layer, ends = case.classes[split.kind][0], (_place(case, split), case.machine.devices[d])
    there, here = (case.prompt_experts_s(layer, at, split.ubatch or 1) for at in ends)
    return _part(case, d, split) * (there - here)


def _split_values(case: Case, d: int, splits: tuple[Split, ...]) -> FloatArray:
    """Return seconds that each split of a device takes off the others'."""
    found = [0.0]
    device = case.machine.devices[d]
    for split in splits[1:]:
        layer, part, ubatch = case.classes[split.kind][0], _part(case, d, split), split.ubatch or 1
        both = case.expert_seconds(layer, device, ubatch, part) if part else 0.0
        both += case.expert_seconds(layer, _place(case, split), ubatch, 1 - part)
        found.append(case.expert_seconds(layer, _place(case, split), ubatch) - both)
    return np.array(found)


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
