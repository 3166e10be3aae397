"""Power meters: zeus for processors and graphics cards, jetson-stats for the rails of a Jetson.

Every meter says its scope. Watts of different scopes are not comparable, and what no meter of the
machine can see (wall power, mostly) is not guessed. Both libraries are optional.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from moe2opt.profiles.measure.figures import (
    Action,
    Clock,
    Effort,
    Figure,
    Skipped,
    UnavailableError,
    figure,
)

#: Seconds between two looks at a sensor that shows power, not energy.
_PERIOD_S = 0.02

#: Windows that each power figure is the median of.
_WINDOWS = 5

#: Seconds between two samples of jtop, and the least that it is listened to.
_JTOP_S, _JTOP_WINDOW_S = 0.1, 1.0

#: tegrastats leaves this rail of the AGX Orin out, so the sum over rails does too.
_LEFT_OUT = ("VDDQ_VDD2_1V8AO",)


class Meter(Protocol):
    """Something that tells mean power.

    Attributes
    ----------
    name, scope
        The sensor, and what it sees.
    kind
        ``host`` or ``accelerator``: which device the watts belong to.
    """

    @property
    def name(self) -> str:
        """Sensor."""

    @property
    def scope(self) -> str:
        """What the watts comprise."""

    @property
    def kind(self) -> str:
        """Device that the watts belong to."""

    def mean_power_w(self, load: Action, seconds: float) -> float:
        """Return the mean power in watts while `load` is repeated for `seconds`."""


def repeat_for(load: Action, seconds: float, clock: Clock = time.perf_counter) -> float:
    """Repeat `load` until `seconds` are over and return how long that took."""
    start = clock()
    while True:
        load()
        elapsed = clock() - start
        if elapsed >= seconds:
            return elapsed


@dataclass(frozen=True, slots=True)
class Counter:
    """An energy counter.

    Attributes
    ----------
    read_j
        Returns joules since some point.
    range_j
        Where the counter starts again from zero.
    """

    read_j: Callable[[], float]
    range_j: float = float("inf")


@dataclass(frozen=True, slots=True)
class CounterMeter:
    """Power from the difference of energy counters."""

    name: str
    scope: str
    counters: tuple[Counter, ...]
    kind: str = "host"
    clock: Clock = time.perf_counter

    def mean_power_w(self, load: Action, seconds: float) -> float:
        """Return joules over seconds; a counter may start again once in between."""
        before = [counter.read_j() for counter in self.counters]
        elapsed = repeat_for(load, seconds, self.clock)
        joules = 0.0
        for counter, first in zip(self.counters, before, strict=True):
            used = counter.read_j() - first
            joules += used if used >= 0 else used + counter.range_j
        return joules / elapsed


@dataclass(frozen=True, slots=True)
class GaugeMeter:
    """Power from a sensor that is looked at again and again while the load runs."""

    name: str
    scope: str
    read_w: Callable[[], float]
    kind: str = "host"

    def mean_power_w(self, load: Action, seconds: float) -> float:
        """Return the mean over looks at equal distances."""
        stop, seen, faults = threading.Event(), list[float](), list[OSError]()

        def look() -> None:
            try:
                while not seen or not stop.wait(_PERIOD_S):
                    seen.append(self.read_w())
            except OSError as error:
                faults.append(error)

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            repeat_for(load, seconds)
        finally:
            stop.set()
            thread.join()
        if faults or not seen:
            raise UnavailableError(f"{self.name} stopped answering")
        return sum(seen) / len(seen)


@dataclass(frozen=True, slots=True)
class JetsonMeter:
    """Power from the samples that jtop hands out while the load runs."""

    jtop: Callable[..., Any]
    scope: str
    name: str = "jtop"
    kind: str = "host"

    def mean_power_w(self, load: Action, seconds: float) -> float:
        """Return the mean over the samples taken meanwhile."""
        seen = list[float]()
        client = self.jtop(interval=_JTOP_S)
        client.attach(lambda now: seen.append(jetson_total(now.power)[0]))
        with client:
            repeat_for(load, max(seconds, _JTOP_WINDOW_S))
        if not seen:
            raise UnavailableError("jtop sent no sample")
        return sum(seen) / len(seen)


def jetson_total(power: Mapping[str, Any]) -> tuple[float, str]:
    """Return the watts of the input rail, or of all rails together, and the scope in words.

    Parameters
    ----------
    power
        What jtop knows of power, in milliwatts: ``rail`` by name, and ``tot``, which has the name
        of the rail that holds all the others where there is one.
    """
    total = power.get("tot", {})
    if "name" in total:
        return total["power"] / 1000, f"input rail {total['name']}"
    rails = {
        name: rail["power"] / 1000
        for name, rail in power.get("rail", {}).items()
        # Power supplies are listed beside the sensors of the board.
        if name not in _LEFT_OUT and rail.get("type", "INA3221").startswith("INA")
    }
    if not rails:
        raise UnavailableError("jtop names no rail")
    return sum(rails.values()), "sum of rails " + " + ".join(sorted(rails))


def find_meters(
    cpus: Callable[[], Any] | None = None,
    gpus: Callable[[], Any] | None = None,
    jtop: Callable[[], Any] | None = None,
) -> tuple[list[Meter], list[Skipped]]:
    """Return the meters that answer, and why others do not.

    Parameters
    ----------
    cpus, gpus
        Return the processors and graphics cards of zeus, or raise.
    jtop
        Returns the class of that name from jetson-stats, or raises ImportError.
    """
    finders: tuple[tuple[str, Callable[[], Meter]], ...] = (
        ("RAPL", lambda: rapl_meter(cpus or _zeus_cpus)),
        ("GPU", lambda: gpu_meter(gpus or _zeus_gpus)),
        ("jtop", lambda: jetson_meter(jtop or _jtop)),
    )
    meters, skipped = list[Meter](), list[Skipped]()
    for name, find in finders:
        try:
            meters.append(find())
        except ImportError as error:
            package = (error.name or str(error)).partition(".")[0]
            extra = "jetson" if name == "jtop" else "measure"
            why = f"{package} is not installed: pip install 'moe2opt[{extra}]'"
            skipped.append(Skipped(f"power by {name}", why))
        except Exception as error:  # whatever a library or a driver throws is the reason
            why = " ".join(str(error).split()) or type(error).__name__
            skipped.append(Skipped(f"power by {name}", why))
    return meters, skipped


def _zeus_cpus() -> Any:
    from zeus.device import get_cpus

    return get_cpus()


def _zeus_gpus() -> Any:
    from zeus.device import get_gpus

    return get_gpus()


def _jtop() -> Any:
    from jtop import jtop

    return jtop


def rapl_meter(cpus: Callable[[], Any]) -> Meter:
    """Return the energy counters of all processor packages, with their memory where counted.

    The files that zeus finds are read here: it would start a process that watches them for a new
    start from zero, which a window of a second sees at most once and `CounterMeter` allows for.
    """
    # zeus lists the whole platform (psys) among the processors; it would count twice.
    packages = [cpu for cpu in cpus().cpus if cpu.rapl_file.name.startswith("package")]
    if not packages:
        raise UnavailableError("no counter of a processor package")
    memory = [cpu.dram for cpu in packages if cpu.dram is not None]
    counters = [
        Counter(partial(_joules_in, Path(file.energy_uj_path)), file.max_energy_range_uj / 1e6)
        for file in (*(cpu.rapl_file for cpu in packages), *memory)
    ]
    scope = "CPU packages and memory" if memory else "CPU packages"
    return CounterMeter("RAPL", scope, tuple(counters))


def _joules_in(energy_uj: Path) -> float:
    return int(energy_uj.read_text()) / 1e6


def gpu_meter(gpus: Callable[[], Any]) -> Meter:
    """Return the first graphics card: its energy counter, or its power where it has none."""
    cards = gpus()
    amd = type(cards).__name__.startswith("AMD")
    name, scope = ("AMD SMI", "GPU socket") if amd else ("NVML", "GPU board")

    def read_j() -> float:
        return float(cards.get_total_energy_consumption(0)) / 1000

    def read_w() -> float:
        return float(cards.get_instant_power_usage(0)) / 1000

    if cards.supports_get_total_energy_consumption(0):
        read_j()
        return CounterMeter(name, scope, (Counter(read_j),), "accelerator")
    read_w()
    return GaugeMeter(name, scope, read_w, "accelerator")


def jetson_meter(jtop: Callable[[], Any]) -> Meter:
    """Return the rails of a Jetson as its service jtop reads them."""
    client = jtop()
    with client() as now:
        return JetsonMeter(client, jetson_total(now.power)[1])


def measure_power(
    device: str, meter: Meter, loads: Sequence[tuple[str, Action]], effort: Effort
) -> Iterator[Figure]:
    """Yield ``power_idle`` and the power under each load, medians over a few windows."""
    window_s = max(effort.seconds_per_figure / _WINDOWS, 0.05)
    method = f"{meter.name}, scope: {meter.scope}, windows of {window_s:.2f} s"
    idle: tuple[str, Action] = ("idle", lambda: time.sleep(_PERIOD_S))
    for name, load in (idle, *loads):
        load()
        samples = [meter.mean_power_w(load, window_s) for _ in range(_WINDOWS)]
        yield figure(device, f"power_{name}", "W", samples, method)
