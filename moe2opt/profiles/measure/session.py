"""One session: the steps, in which order, and what happens when one cannot be done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from moe2opt.profiles.measure import arithmetic, disk, machine, memory, power
from moe2opt.profiles.measure.accelerator import (
    Accelerator,
    find_accelerators,
    measure_accelerator,
)
from moe2opt.profiles.measure.arithmetic import Library
from moe2opt.profiles.measure.figures import (
    Action,
    Device,
    Effort,
    Figure,
    Measurement,
    Skipped,
    UnavailableError,
)
from moe2opt.profiles.measure.power import Meter
from moe2opt.result import InputError

#: About 45 s; no step is started after 90 s.
FULL = Effort("full", 1.2, 3, 200, 2**30, 512 * 2**20, 90.0)

#: About 10 s.
QUICK = Effort("quick", 0.15, 3, 50, 256 * 2**20, 128 * 2**20, 30.0)

#: Called with the title of the step and the share of the session that is done, 0 to 1.
Watch = Callable[[str, float], None]

Found = Figure | Skipped


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a session measures; a test puts its own parts in.

    Attributes
    ----------
    library
        Arithmetic on the processor.
    accelerators
        Devices with memory of their own.
    meters, missing_meters
        Power meters, and why others do not answer.
    """

    library: Library
    accelerators: Sequence[Accelerator] = ()
    meters: Sequence[Meter] = ()
    missing_meters: Sequence[Skipped] = ()


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for.

    Attributes
    ----------
    effort
        How long and how large.
    device
        Name of the device; the name of the hardware when None. With an accelerator it names that
        one, and the host is told apart by the word ``host``.
    disk
        Folder on the disk to measure; the current folder when None.
    """

    effort: Effort = FULL
    device: str | None = None
    disk: Path | None = None


@dataclass(slots=True)
class _Step:
    """A part of the session with its share of the work (about the number of its figures)."""

    title: str
    weight: int
    run: Callable[[], Iterator[Found]]


@dataclass(slots=True)
class _Log:
    """What was found so far."""

    figures: list[Figure] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def add(self, found: Found) -> None:
        if isinstance(found, Figure):
            self.figures.append(found)
        else:
            self.skipped.append(found)


def find_hardware() -> Hardware:
    """Look for torch, CUDA and power meters."""
    torch = arithmetic.find_torch()
    library: Library = arithmetic.Numpy() if torch is None else arithmetic.Torch(torch)
    meters, missing = power.find_meters()
    accelerators = find_accelerators(torch)
    if not accelerators:
        missing = [
            *missing,
            Skipped(
                "accelerator",
                "torch is not installed" if torch is None else "torch sees no CUDA device",
            ),
        ]
    return Hardware(library, accelerators, meters, missing)


def measure_machine(
    options: Options | None = None, watch: Watch | None = None, hardware: Hardware | None = None
) -> Measurement:
    """Measure this machine.

    Parameters
    ----------
    options
        Effort, names, and the disk.
    watch
        Told which step runs and how much is done.
    hardware
        What to measure; looked for when None.

    Raises
    ------
    InputError
        When the disk's folder or the device's name cannot be used.
    """
    options = options or Options()
    if options.device is not None and not options.device.strip():
        raise InputError("--device: the name is empty")
    if options.disk is not None:
        disk.check_folder(options.disk)
    started, clock = datetime.now(UTC), time.perf_counter()
    hardware = hardware or find_hardware()
    devices = _devices(options, hardware)
    log = _Log(skipped=list(hardware.missing_meters))
    _run(_steps(options, hardware, devices), options.effort, log, watch or (lambda *_: None))
    return Measurement(
        devices=devices,
        figures=tuple(log.figures),
        skipped=tuple(log.skipped),
        machine=machine.describe(),
        versions=machine.versions(),
        started=started.isoformat(timespec="seconds"),
        seconds=time.perf_counter() - clock,
        settings={"effort": options.effort.name, "arithmetic": hardware.library.about},
    )


def _run(steps: list[_Step], effort: Effort, log: _Log, watch: Watch) -> None:
    total, done, start = sum(step.weight for step in steps), 0, time.perf_counter()
    for step in steps:
        watch(step.title, done / total)
        if time.perf_counter() - start > effort.limit_s:
            log.add(Skipped(step.title, f"the session had taken {effort.limit_s:.0f} s already"))
            continue
        try:
            for count, found in enumerate(step.run(), start=1):
                log.add(found)
                watch(step.title, (done + min(count, step.weight)) / total)
        except UnavailableError as reason:
            log.add(Skipped(step.title, str(reason)))
        except MemoryError:
            log.add(Skipped(step.title, "there is not enough memory"))
        done += step.weight
    watch("done", 1.0)


def _devices(options: Options, hardware: Hardware) -> tuple[Device, ...]:
    """Return the host and its accelerators with names that differ."""
    name = options.device.strip() if options.device else None
    if not hardware.accelerators:
        return (Device(name or machine.processor_name(), machine.memory_bytes()),)
    host = f"{name} host" if name else machine.processor_name()
    found = [
        Device(name or accelerator.name, accelerator.memory_bytes, "accelerator")
        for accelerator in hardware.accelerators
    ]
    if host in [device.name for device in found]:
        host = f"{host} host"
    return (Device(host, machine.memory_bytes()), *found)


def _steps(options: Options, hardware: Hardware, devices: tuple[Device, ...]) -> list[_Step]:
    effort, host, folder = options.effort, devices[0].name, options.disk or Path.cwd()
    steps = [
        _Step("memory", 9, lambda: memory.measure_memory(host, effort)),
        _Step("disk", 10, lambda: disk.measure_disk(host, folder, effort)),
        _Step(
            "arithmetic",
            3 * len(hardware.library.precisions),
            lambda: arithmetic.measure_arithmetic(host, hardware.library, effort),
        ),
    ]
    for device, accelerator in zip(devices[1:], hardware.accelerators, strict=True):
        steps.append(_accelerator_step(device.name, accelerator, effort))
    for meter in hardware.meters:
        steps.append(_power_step(meter, devices, hardware, effort))
    return steps


def _accelerator_step(name: str, accelerator: Accelerator, effort: Effort) -> _Step:
    weight = 11 + 3 * len(accelerator.library.precisions)
    return _Step(
        f"accelerator {name}",
        weight,
        lambda: _guarded(measure_accelerator(name, accelerator, effort)),
    )


def _guarded(found: Iterator[Figure]) -> Iterator[Figure]:
    """Turn what a driver throws (out of memory, mostly) into a reason."""
    try:
        yield from found
    except RuntimeError as error:
        raise UnavailableError(str(error).splitlines()[0]) from error


def _power_step(
    meter: Meter, devices: tuple[Device, ...], hardware: Hardware, effort: Effort
) -> _Step:
    """Measure power idle and under the two loads that inference consists of."""
    accelerated = meter.kind == "accelerator" and len(devices) > 1

    def run() -> Iterator[Figure]:
        if meter.kind == "accelerator" and not accelerated:
            raise UnavailableError("the GPU has a power meter, but torch cannot load it")
        if accelerated:
            accelerator = hardware.accelerators[0]
            room = min(effort.buffer_bytes, accelerator.memory_bytes // 8)
            loads: list[tuple[str, Action]] = [
                ("memory_read", accelerator.read(room)),
                _product_load(accelerator.library, room),
            ]
            yield from power.measure_power(devices[1].name, meter, loads, effort)
            return
        with memory.reading(effort) as read:
            loads = [("memory_read", read), _product_load(hardware.library, effort.buffer_bytes)]
            yield from power.measure_power(devices[0].name, meter, loads, effort)

    return _Step(f"power by {meter.name}", 3, run)


def _product_load(library: Library, room: int) -> tuple[str, Action]:
    precision = library.precisions[0]
    return f"matmul_{precision}", arithmetic.sized_product(library, precision, room)[1]
