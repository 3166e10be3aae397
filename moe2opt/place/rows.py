"""The rows of the problem: bytes, order, and what a variant rules out."""

from __future__ import annotations

import numpy as np

from moe2opt.place.case import Case
from moe2opt.place.machine import Device
from moe2opt.place.options import (
    Site,
    begins_of,
    kept_bytes,
    prompt_saved_s,
    sites_of,
    splits_of,
)
from moe2opt.place.variants import variants_of
from moe2opt.result import FloatArray, IntArray

Uses = tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]


class Rows:
    """Rows under construction: a vector of uses for each kind of group, and a limit.

    The group of the first device's cut also says for which micro-batch blocks in RAM are priced;
    what differs by that adds to the uses of the cut.
    """

    def __init__(self, case: Case) -> None:
        self.variants, self.sites, self.splits = variants_of(case), sites_of(case), splits_of(case)
        cuts, places = len(case.machine.devices), case.model.blocks + 1
        kinds = (len(case.classes), len(self.sites))
        self.begins = begins_of(case)
        self.shape = (
            len(self.variants),
            (cuts, places),
            kinds,
            (cuts, len(self.splits)),
            len(self.begins),
        )
        self.names: list[str] = []
        self.limits: list[float] = []
        self.variant: list[FloatArray] = []
        self.cut: list[FloatArray] = []
        self.expert: list[FloatArray] = []
        self.split: list[FloatArray] = []
        self.begin: list[FloatArray] = []

    def add(self, name: str, limit: float) -> Uses:
        """Append a row; return its uses to fill in.

        They are by variant, by cut, by class and site, by split, and by begin.
        """
        own = tuple(np.zeros(shape) for shape in self.shape)
        self.names.append(name)
        self.limits.append(limit)
        kinds = (self.variant, self.cut, self.expert, self.split, self.begin)
        for held, part in zip(kinds, own, strict=True):
            held.append(part)
        return own  # type: ignore[return-value]


def memory_rows(case: Case, rows: Rows) -> None:
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


def _room_rows(case: Case, rows: Rows, blocks: IntArray) -> None:
    """Add what devices and RAM have room for, where blocks take so many bytes.

    Where a variant's blocks take less, these rows count too much by at most the sum of what each
    takes less; the limits are raised by `spare`, the largest such sum, of which other variants
    take the rest. So each row is exact for its own micro-batches and holds under all others.
    """
    devices, model = case.machine.devices, case.model
    variants, sites, splits = rows.variants, rows.sites, rows.splits
    kept = [np.array([kept_bytes(case, d, split) for split in splits]) for d in range(len(devices))]
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


def order_rows(case: Case, rows: Rows) -> None:
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


def variant_rows(case: Case, rows: Rows) -> None:
    """Add what a variant rules out."""
    layers = float(sum(map(len, case.classes)))
    variants, sites, splits = rows.variants, rows.sites, rows.splits
    if any(not variant.offloads for variant in variants):
        own = rows.add("nothing lies elsewhere", layers + 1)
        own[0][[v for v, variant in enumerate(variants) if not variant.offloads]] = layers + 1
        own[1][0, 1:] = 1.0
        own[2][:, [s for s, site in enumerate(sites) if site.device < 0 or site.away]] = 1.0
    if any(variant.offloads and not variant.copies for variant in variants):
        # Without anything in RAM the first device needs no room for copies of it.
        own = rows.add("nothing lies in RAM", layers + 1)
        own[0][[v for v, o in enumerate(variants) if o.offloads and not o.copies]] = layers + 1
        own[1][0, 1:] = 1.0
        own[2][:, [s for s, site in enumerate(sites) if site.device < 0]] = 1.0
    piped = [v for v, own in enumerate(variants) if own.offloads and len(own.devices) > 1]
    if piped and case.backend.pipelines:
        # With nothing elsewhere the runtime would keep the inputs of several batches.
        own = rows.add("something lies elsewhere", layers + 1)
        own[0][piped] = 1.0
        own[1][0, 0] = 1.0
        own[2][:, [s for s, site in enumerate(sites) if site.device >= 0 and not site.away]] = 1.0
    priced = list(case.ubatches())
    for ubatch in priced if len(priced) > 1 else ():
        most = layers + len(case.machine.devices) + 1
        own = rows.add(f"what is in RAM reads prompts in parts of {ubatch}", most)
        own[0][[v for v, variant in enumerate(variants) if variant.ubatch != ubatch]] = most
        own[2][:, [s for s, site in enumerate(sites) if site.ubatch == ubatch]] = 1.0
        own[3][:, [s for s, split in enumerate(splits) if split.ubatch == ubatch]] = 1.0
        own[4][
            [b for b, begin in enumerate(rows.begins) if begin.block and begin.ubatch == ubatch]
        ] = 1.0


def prompt_row(case: Case, rows: Rows) -> None:
    """Say how slowly a prompt may be read."""
    least = case.config.goal.least_prefill_tok_s
    if least is None:
        return
    variants, sites, splits = rows.variants, rows.sites, rows.splits
    blocks = case.model.blocks
    own = rows.add("seconds per prompt token", 1.0 / least)

    def of_homes(device: Device | None, ubatch: int) -> FloatArray:
        """Return the seconds of the homes of the first blocks."""
        found = np.zeros(blocks + 1)
        for layer in case.model.layers:
            found[layer.index + 1] = case.prompt_home_s(layer, device, ubatch)
        return np.cumsum(found)

    in_ram = {ubatch: of_homes(None, ubatch) for ubatch in case.config.ubatch}
    more = np.array([case.prompt_more_s(variant) for variant in variants])
    if devices := case.machine.devices:
        own[4][:] = [in_ram[begin.ubatch][begin.block] for begin in rows.begins]
    else:
        more += [in_ram[variant.ubatch][-1] for variant in variants]
    own[0][:] = more - min(more.min(), 0.0)
    rows.limits[-1] -= min(more.min(), 0.0)
    for d in range(len(devices)):
        seconds = of_homes(devices[d], case.config.ubatch[0])
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
        saved = np.array([prompt_saved_s(case, d, split) for split in splits])
        own[3][d] = saved.max() - saved
        rows.limits[-1] += float(saved.max())
