"""Devices with the rates at which they read weights and compute."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from moe2opt.errors import InputError
from moe2opt.place.sections import Gpu, PlaceConfig, Rates
from moe2opt.profiles.fitting import decode
from moe2opt.profiles.fitting.calibrate import Hardware
from moe2opt.profiles.fitting.holdout import KINDS
from moe2opt.profiles.formats import CLASSES, REFERENCE, engine_class, weight_class
from moe2opt.profiles.predicting.predict import tables_of
from moe2opt.profiles.ram import COPIED_SPREAD, RamRate, ram_rate
from moe2opt.profiles.ram import HOP_S as RAM_HOP_S
from moe2opt.profiles.ram import SPREAD as RAM_SPREAD
from moe2opt.profiles.tables.tables import Profiles

GIB = 2**30

#: Bandwidth of a device of which only the size is known.
ASSUMED_GB_PER_S = 500.0

#: Seconds of handing an activation to another device; that from layer to layer is not counted.
HOP_S = 2e-5


@dataclass(frozen=True, slots=True)
class Device:
    """A device that holds layers and computes them.

    Attributes
    ----------
    name
        As the user calls it.
    capacity_bytes, margin_bytes
        Its memory, and what is kept free of it.
    gb_per_s
        Peak bandwidth of its memory.
    byte_s, weight_s
        Seconds to read a byte, and to unpack a weight (by class of formats).
    fixed_s, routed_s
        Seconds per token of launching all layers of a model, and of routing in all of them.
    operation_s
        Seconds of an operation of a prompt, in dense and in routed parts.
    spread, prompt_spread
        Factors around seconds per token, of answers and of prompts, between which new runs lie.
    measured
        Whether runs of this device stand behind it.
    """

    name: str
    capacity_bytes: int
    margin_bytes: int
    gb_per_s: float
    byte_s: float
    weight_s: dict[str, float]
    fixed_s: float
    routed_s: float
    operation_s: tuple[float, float]
    spread: float
    prompt_spread: float
    measured: bool

    def reading_s(self, size: float, weights: float) -> float:
        """Return seconds to use tensors of so many bytes and weights once."""
        kind = weight_class(8 * size / weights) if weights else "16-bit"
        return size * self.byte_s + weights * self.weight_s.get(kind, 0.0)


@dataclass(frozen=True, slots=True)
class Machine:
    """Devices, RAM, and the rates between them.

    Attributes
    ----------
    devices
        In the order in which llama.cpp lists them.
    ram_bytes
        Memory of the processor that may be used, None for no limit.
    ram_byte_s, ram_layer_s
        Seconds to use a byte in RAM for a token, and to hand a layer over to the processor.
    ram_spread, ram_words
        Factor around these seconds between which new runs lie, and where they come from.
    copy_byte_s, copied_spread
        Seconds to copy a byte from RAM to a device, and the least factor around the seconds of a
        prompt for which something is copied.
    pool_bytes
        What the device and the processor may use together, where they share one memory.
    notes
        What must be known of these rates.
    """

    devices: tuple[Device, ...]
    ram_bytes: int | None
    ram_byte_s: float
    ram_layer_s: float
    ram_spread: float
    ram_words: str
    copy_byte_s: float
    copied_spread: float
    pool_bytes: int | None = None
    notes: tuple[str, ...] = ()


def expanded(config: PlaceConfig, profiles: Profiles | None = None) -> PlaceConfig:
    """Return a configuration with the device of a unified memory among its devices.

    The processor reads such a memory at half its bandwidth where no other rate is given, and a
    copy within it reads and writes: both are assumptions.

    Raises
    ------
    InputError
        When its size or bandwidth is neither given nor in the device table.
    """
    own = config.unified
    if own is None or config.gpus:
        return config
    gib, bandwidth = own.gib, own.gb_per_s
    if own.name is not None and (gib is None or bandwidth is None):
        try:
            known = tables_of(profiles).device(own.name)
        except InputError as error:
            raise InputError(f"unified.name: {error}; or give gib and gb_per_s") from error
        gib = gib or float(known["memory_gib"])
        bandwidth = bandwidth or float(known["memory_bandwidth_gb_per_s"])
    if gib is None or bandwidth is None:
        raise InputError("unified: give name, or gib and gb_per_s")
    if config.margin_gib >= gib * own.device_share:
        raise InputError(
            f"unified.gib: the device may use {gib * own.device_share:g} GiB, and the margin is "
            f"{config.margin_gib:g}"
        )
    device = Gpu(name=own.name, gib=gib * own.device_share, gb_per_s=bandwidth)
    changes: dict[str, Any] = {
        "gpus": (device,), "unified": own.model_copy(update={"gib": gib, "gb_per_s": bandwidth}),
    }  # fmt: skip
    if not {"gb_per_s", "kind"} & config.ram.model_fields_set:
        changes["ram"] = config.ram.model_copy(update={"gb_per_s": bandwidth / 2})
    if "pcie_gb_per_s" not in config.model_fields_set:
        changes["pcie_gb_per_s"] = bandwidth / 2
    return config.model_copy(update=changes)


def machine_of(config: PlaceConfig, profiles: Profiles | None = None) -> Machine:
    """Return the machine that a configuration names.

    Raises
    ------
    InputError
        For a device that is neither known by name nor given by size and bandwidth.
    """
    tables = tables_of(profiles)
    devices = [_device(gpu, k, config.margin_gib, tables) for k, gpu in enumerate(config.gpus)]
    names = [device.name for device in devices]
    if len(set(names)) < len(names):
        devices = [_renamed(device, k) for k, device in enumerate(devices)]
    ram = config.ram
    ram_bytes = None if ram.gib is None else int((ram.gib - ram.margin_gib) * GIB)
    if ram_bytes is not None and ram_bytes <= 0:
        raise InputError(f"ram.gib: {ram.gib:g} GiB are no more than the margin of the system")
    pool = config.unified
    pool_bytes = None
    if pool is not None and pool.gib is not None:
        pool_bytes = int((pool.gib - pool.margin_gib) * GIB)
        if pool_bytes <= 0:
            raise InputError(
                f"unified.gib: {pool.gib:g} GiB are no more than the margin of the system"
            )
    rate, rates = ram_rate(ram.kind, ram.gb_per_s), config.rates
    if rates.ram_gb_per_s is not None:
        rate = RamRate(rates.ram_gb_per_s * 1e9, f"{rates.ram_gb_per_s:g} GB/s (fitted)")
    hop_s = RAM_HOP_S if rates.ram_layer_us is None else rates.ram_layer_us * 1e-6
    fitted = rates.ram_gb_per_s is not None and rates.spread is not None
    return Machine(
        pool_bytes=pool_bytes,
        notes=tuple(_notes(config, tables)),
        devices=tuple(_rated(device, rates) for device in devices),
        ram_bytes=ram_bytes,
        ram_byte_s=1 / rate.bytes_per_s,
        ram_layer_s=hop_s,
        ram_spread=rates.spread if fitted and rates.spread else RAM_SPREAD,
        ram_words=rate.words,
        copy_byte_s=1 / (config.pcie_gb_per_s * 1e9),
        copied_spread=1.0 if rates.prompt_spread else COPIED_SPREAD,
    )


def _notes(config: PlaceConfig, tables: Profiles) -> Iterator[str]:
    """Yield what was fitted, and which devices of several a name was taken for."""
    yield from config.rates.notes
    for gpu in config.gpus:
        if gpu.name is not None and gpu.gib is None:
            told = tables.taken_for(gpu.name)
            if told is not None:
                yield told


def _rated(device: Device, rates: Rates) -> Device:
    """Return a device with the rates that were fitted to runs on the machine."""
    if rates.model_copy(update={"notes": ()}) == Rates():
        return device
    dense, routed = device.operation_s
    return replace(
        device,
        byte_s=device.byte_s * rates.answers,
        weight_s={kind: own * rates.answers for kind, own in device.weight_s.items()},
        fixed_s=device.fixed_s * rates.answers,
        routed_s=device.routed_s * rates.answers,
        operation_s=(dense * rates.prompts, routed * rates.prompts),
        spread=rates.spread or device.spread,
        prompt_spread=rates.prompt_spread or device.prompt_spread,
        measured=device.measured or rates.spread is not None,
    )


def _renamed(device: Device, k: int) -> Device:
    return replace(device, name=f"{device.name} #{k}")


def _device(gpu: Gpu, k: int, margin_gib: float, tables: Profiles) -> Device:
    gib, bandwidth, name = gpu.gib, gpu.gb_per_s, gpu.name or f"gpu{k}"
    known = None
    if gpu.name is not None:
        try:
            known = tables.device(gpu.name)
        except InputError as error:
            if gib is None:
                raise InputError(
                    f"gpus.{k}.name: {error}; or give gib and gb_per_s of a device of your own"
                ) from error
    if known is not None:
        name = known["device"]
        gib = gib or float(known["memory_gib"])
        bandwidth = bandwidth or float(known["memory_bandwidth_gb_per_s"])
    if gib is None:
        raise InputError(f"gpus.{k}: give name, or gib and gb_per_s")
    bandwidth = bandwidth or ASSUMED_GB_PER_S
    margin = margin_gib if gpu.margin_gib is None else gpu.margin_gib
    if margin >= gib:
        raise InputError(
            f"gpus.{k}: the margin of {margin:g} GiB is no less than its memory of {gib:g} GiB"
        )
    found = tables.fit.calibration
    own = found.decode.get(name) if known is not None else None
    reading = found.pools.decode.coefficients if own is None else own
    prompt = found.prefill.get(name) if known is not None else None
    if prompt is None:
        prompt = found.pools.prefill.coefficients
    tflops = known["fp16_tflops"] if known is not None else None
    peak, operations_per_s = Hardware(bandwidth, tflops).peaks
    engine = engine_class(known["usual_engine"]) if known is not None else None
    operations_per_s /= found.pools.prefill.factor(engine or REFERENCE)
    terms = dict(zip(decode.COEFFICIENTS, reading.tolist(), strict=True))
    return Device(
        name=name,
        capacity_bytes=int(gib * GIB),
        margin_bytes=int(margin * GIB),
        gb_per_s=bandwidth,
        byte_s=terms["bytes"] / peak,
        weight_s={kind: terms[kind] / peak for kind in list(CLASSES)[1:]},
        fixed_s=terms["fixed"] * 1e9 / peak,
        routed_s=terms["moe"] * 1e9 / peak,
        operation_s=(float(prompt[0]) / operations_per_s, float(prompt[1]) / operations_per_s),
        spread=_spread(tables, name, "decode", measured=own is not None),
        prompt_spread=_spread(tables, name, "prefill", measured=name in found.prefill),
        measured=own is not None,
    )


#: Probability of the intervals.
LEVEL = 0.9


def _spread(tables: Profiles, device: str, quantity: str, *, measured: bool) -> float:
    """Return the factor around a prediction of seconds, from errors of sources left out."""
    errors = tables.fit.errors
    own = device if measured else ""
    log = errors.spread(own, quantity, KINDS[0], extrapolated=not measured, level=LEVEL)
    return math.exp(log)
