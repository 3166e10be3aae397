r"""Devices, radio and work, and what each way of taking part in a round costs.

A device that computes :math:`C` operations at :math:`f` per second, sends :math:`D` bits with
:math:`r` resource blocks of width :math:`W` at power :math:`p` over a channel of gain :math:`h`,
and waits for :math:`D'` bits takes

.. math:: t = C / f + (D + D') / R, \quad e = \epsilon C + p D / R, \quad
    R = r W \log_2\!\Big(1 + \frac{p h}{N_0 r W}\Big),

the usual formula of the field: more blocks spread the same power, so that rates rise ever less.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from moe2opt.canonical import undominated
from moe2opt.errors import InputError
from moe2opt.rounds.sections import AssignBlocks, Pipeline, QuantisedUpload, RoundsConfig
from moe2opt.schema.csv import COUNT, NAME, POSITIVE, Column, header_of, read_table

_NUMBER = Column("number", optional=True)
_SIZE = Column("number", least=0, optional=True)
_DEVICES = {
    "name": NAME,
    "distance_km": Column("number", least=1e-4, most=50, optional=True),  # what the losses are for
    "gain_db": _NUMBER,
    "memory_mb": _SIZE,
    "pj_per_flop": _SIZE,
    "energy_limit_j": _SIZE,
    "energy_queue": _SIZE,
    "share": _SIZE,
}
_BLOCKS = {
    "block": NAME,
    "gflop": POSITIVE,
    "upload_mbit": POSITIVE,
    "memory_mb": Column("number", least=0),
}
_RATES = {"device": NAME, "slot": COUNT, "mbps": Column("number", least=0)}

#: Loss in dB at one kilometre, and per tenfold distance.
_LOSSES = {"macro": (128.1, 37.6), "device": (148.0, 40.0)}

_MOST_OPTIONS = 200_000


@dataclass(frozen=True, slots=True)
class Device:
    """A device.

    Attributes
    ----------
    name
        Its name.
    flop_per_s, j_per_flop, memory_mb
        What it computes with.
    gain, band_bits_per_s
        Gain of its channel, or what it gets from the whole band; the other is None.
    energy_limit_j
        Most joules that it may spend.
    queue, share
        Weight of its joules in the objective, and of its rounding error.
    """

    name: str
    flop_per_s: float
    j_per_flop: float
    memory_mb: float
    gain: float | None
    band_bits_per_s: float | None
    energy_limit_j: float
    queue: float
    share: float


@dataclass(frozen=True, slots=True)
class Item:
    """Work that a device can take on.

    Attributes
    ----------
    block, layers, bits
        The block, how many layers, or how many bits per value; the others are None.
    flop, sent_bits, received_bits, memory_mb
        What it takes.
    """

    block: str | None = None
    layers: int | None = None
    bits: int | None = None
    flop: float = 0.0
    sent_bits: float = 0.0
    received_bits: float = 0.0
    memory_mb: float = 0.0


@dataclass(frozen=True, slots=True)
class Option:
    """One way of taking part; `device` is None for staying idle.

    Attributes
    ----------
    device, item, power_w, blocks
        Who does what, with what power and how many resource blocks.
    compute_s, upload_s, energy_j
        What that takes, waiting for what is received among the seconds of the upload.
    """

    device: Device | None
    item: Item
    power_w: float = 0.0
    blocks: int = 0
    compute_s: float = 0.0
    upload_s: float = 0.0
    energy_j: float = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of the device; of a pipeline, for the whole batch in one part."""
        return self.compute_s + self.upload_s

    @property
    def error(self) -> float:
        """Share of the data times the variance of rounding, for values of range 2 times 1/4."""
        if self.device is None or self.item.bits is None:
            return 0.0
        return self.device.share * (2.0**self.item.bits - 1.0) ** -2

    @property
    def queued_j(self) -> float:
        """Joules as the objective weighs them."""
        return 0.0 if self.device is None else self.device.queue * self.energy_j


IDLE = Option(None, Item(layers=0))


@dataclass(frozen=True, eq=False)
class Case:
    """A round to be planned.

    Attributes
    ----------
    config, devices, blocks
        The sections; the devices; the blocks of ``assign_blocks``, else none.
    """

    config: RoundsConfig
    devices: tuple[Device, ...]
    blocks: tuple[Item, ...] = ()

    @property
    def grants(self) -> tuple[int, ...]:
        """Numbers of resource blocks that one device may get, rising."""
        most = self.config.radio.blocks
        sizes = self.config.radio.grants or range(1, most + 1)
        return tuple(sorted(r for r in sizes if r <= most))

    def rate(self, device: Device, power_w: float, blocks: int) -> float:
        """Return bits per second."""
        radio = self.config.radio
        if device.band_bits_per_s is not None:
            return device.band_bits_per_s * blocks / radio.blocks
        assert device.gain is not None
        width = blocks * radio.block_hz
        noise_w = 10 ** (radio.noise_dbm_hz / 10 - 3) * width
        return width * math.log1p(power_w * device.gain / noise_w) / math.log(2)

    def option(self, device: Device, item: Item, power_w: float, blocks: int) -> Option:
        """Return a way of taking part with what it takes; seconds are infinite without a signal."""
        rate = self.rate(device, power_w, blocks)
        sent, received = (
            bits / rate if rate > 0 else math.inf for bits in (item.sent_bits, item.received_bits)
        )
        joules = device.j_per_flop * item.flop + power_w * sent
        compute = item.flop / device.flop_per_s
        return Option(device, item, power_w, blocks, compute, sent + received, joules)

    def items_of(self, device: Device) -> tuple[Item, ...]:
        """Return what a device can take on besides nothing, blocks aside."""
        work = self.config.work
        if isinstance(work, Pipeline):
            flop, sent = 1e9 * work.layer_gflop, 1e6 * work.boundary_mbit
            return tuple(
                Item(layers=n, flop=n * flop, sent_bits=sent, memory_mb=n * work.layer_mb)
                for n in range(1, work.layers + 1)
            )
        assert isinstance(work, QuantisedUpload)
        return tuple(
            Item(
                bits=q,
                flop=1e9 * work.gflop,
                sent_bits=work.values * q,
                received_bits=work.received_values * q,
            )
            for q in sorted(work.bits)
        )

    @cached_property
    def groups(self) -> tuple[tuple[str, tuple[Option, ...]], ...]:
        """Who decides, a block or a device, and the options, soonest first."""
        found = []
        if isinstance(self.config.work, AssignBlocks):
            for block in self.blocks:
                assert block.block is not None
                pairs = [(device, block) for device in self.devices]
                found.append((f"block {block.block}", self._options(pairs)))
        else:
            for device in self.devices:
                own = self._options([(device, item) for item in self.items_of(device)])
                if isinstance(self.config.work, Pipeline):
                    own = (IDLE, *own)
                found.append((device.name, own))
        for name, own in found:
            if not own:
                raise InputError(
                    f"{name}: no device can take part in time: memory_mb, energy_limit_j or the "
                    "signal rule out every way of it"
                )
        return tuple(found)

    def _options(self, pairs: list[tuple[Device, Item]]) -> tuple[Option, ...]:
        radio = self.config.radio
        found = [
            self.option(device, item, power, blocks)
            for device, item in pairs
            if item.memory_mb <= device.memory_mb
            for power in radio.power_w
            for blocks in self.grants
        ]
        kept = [
            option
            for option in found
            if math.isfinite(option.seconds) and option.energy_j <= option.device.energy_limit_j  # type: ignore[union-attr]
        ]
        kept = _undominated(kept)
        return tuple(sorted(kept, key=lambda option: (option.seconds, option.blocks)))

    def time_s(self, slowest_s: float, active: int) -> float:
        """Return the seconds of a round whose slowest device takes `slowest_s`.

        A pipeline of `active` devices and the best number of parts: parts and devices less one,
        times the stage time of a part.
        """
        return min(self._parts(slowest_s, active))[0]

    def micro_batches(self, slowest_s: float, active: int) -> int | None:
        """Return into how many parts the batch of a pipeline is cut; None for other work."""
        return min(self._parts(slowest_s, active))[1] or None

    def _parts(self, slowest_s: float, active: int) -> list[tuple[float, int]]:
        work = self.config.work
        if not isinstance(work, Pipeline):
            return [(slowest_s, 0)]
        return [
            ((m + active - 1) * (work.overhead_s + slowest_s / m), m) for m in work.micro_batches
        ]


def _undominated(options: list[Option]) -> list[Option]:
    """Return the options that no other of the same device and as many layers replaces.

    One replaces another that takes no less time, energy and bandwidth and errs no less; of equal
    ones the first stays.
    """
    alike: dict[tuple[str, int | None], list[Option]] = {}
    for option in options:
        assert option.device is not None
        alike.setdefault((option.device.name, option.item.layers), []).append(option)
    kept = []
    for own in alike.values():
        table = np.array([(o.seconds, o.blocks, o.energy_j, o.error) for o in own])
        kept += [own[k] for k in undominated(table)]
    return kept


def read_case(config: RoundsConfig, file: Callable[[str, str], Path]) -> Case:
    """Read the tables; `file` returns the path of a name that stands under a key."""
    if config.limits.quantisation_error is not None and config.work.kind != "quantised_upload":
        raise InputError("limits.quantisation_error: for work of the kind quantised_upload only")
    table = file(config.devices, "devices")
    speed = "flops" if "flops" in header_of(table) else "gflop_per_s"
    rows = read_table(table, _DEVICES | {speed: POSITIVE}, unique=["name"])
    if not rows:
        raise InputError("devices: the table has no device")
    rates = _rates(config, rows, file)
    devices = tuple(_device(config, row, rates, len(rows)) for row in rows)
    blocks: tuple[Item, ...] = ()
    if isinstance(config.work, AssignBlocks):
        work = read_table(file(config.work.table, "work.table"), _BLOCKS, unique=["block"])
        if not 1 <= len(work) <= len(devices):
            raise InputError(
                f"work.table: {len(work)} blocks for {len(devices)} devices; each device takes "
                "one at most"
            )
        blocks = tuple(
            Item(
                block=row["block"],
                flop=1e9 * row["gflop"],
                sent_bits=1e6 * row["upload_mbit"],
                memory_mb=row["memory_mb"],
            )
            for row in work
        )
    case = Case(config, devices, blocks)
    if not case.grants:
        raise InputError(f"radio.grants: the band holds {config.radio.blocks} resource blocks")
    each = len(config.radio.power_w) * len(case.grants)
    items = len(blocks) or len(case.items_of(devices[0]))
    if each * items * len(devices) > _MOST_OPTIONS:
        raise InputError(
            f"radio.grants: {each * items * len(devices)} ways of taking part; "
            f"{_MOST_OPTIONS} at most are searched: allow fewer sizes of a grant"
        )
    _ = case.groups  # says what is wrong with them now
    return case


def _rates(
    config: RoundsConfig, rows: list[dict[str, Any]], file: Callable[[str, str], Path]
) -> dict[str, float]:
    """Return the measured bits per second of each device in the slot."""
    trace = config.radio.throughputs
    if trace is None:
        return {}
    table = read_table(
        file(trace.table, "radio.throughputs.table"), _RATES, unique=["device", "slot"]
    )
    rates = {row["device"]: 1e6 * row["mbps"] for row in table if row["slot"] == trace.slot}
    for row in rows:
        if row["name"] not in rates:
            raise InputError(
                f"radio.throughputs.table: no rate of device {row['name']!r} in slot {trace.slot}"
            )
    return rates


def _device(
    config: RoundsConfig, row: dict[str, Any], rates: dict[str, float], count: int
) -> Device:
    name, gain_db = row["name"], row["gain_db"]
    given = sum(row[key] is not None for key in ("distance_km", "gain_db"))
    if given != (0 if rates else 1):
        wanted = "neither, with throughputs" if rates else "exactly one"
        raise InputError(f"devices: {name}: distance_km and gain_db: give {wanted}")
    if row["distance_km"] is not None:
        at_km, per_decade = _LOSSES[config.radio.path_loss]
        gain_db = -(at_km + per_decade * math.log10(row["distance_km"]))

    def given_or(key: str, otherwise: float) -> float:
        return otherwise if row[key] is None else row[key]

    return Device(
        name=name,
        flop_per_s=row["flops"] if "flops" in row else 1e9 * row["gflop_per_s"],
        j_per_flop=1e-12 * given_or("pj_per_flop", 20.0),
        memory_mb=given_or("memory_mb", math.inf),
        gain=None if gain_db is None else 10 ** (gain_db / 10),
        band_bits_per_s=rates.get(name),
        energy_limit_j=given_or("energy_limit_j", math.inf),
        queue=given_or("energy_queue", 1.0),
        share=given_or("share", 1.0 / count),
    )
