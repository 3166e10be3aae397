"""Power meters: RAPL, NVML, the INA sensors of a Jetson, and its tool tegrastats.

Every meter says its scope. Watts of different scopes are not comparable, and what no meter of the
machine can see (wall power, mostly) is not guessed.
"""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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

_SYS = Path("/sys")

#: Seconds between two looks at a sensor that shows power, not energy.
_PERIOD_S = 0.02

#: Windows that each power figure is the median of.
_WINDOWS = 5

#: tegrastats prints ten lines a second and is listened to for at least so long.
_TEGRASTATS = ("--interval", "100")
_TEGRASTATS_S = 0.5

#: Rails that already hold all the others.
_INPUT_RAILS = ("VDD_IN", "POM_5V_IN", "VIN")

#: tegrastats leaves this rail of the AGX Orin out, so the sum over sensors does too.
_LEFT_OUT = ("VDDQ_VDD2_1V8AO", "NC")

#: A rail of tegrastats: name, power now, mean power since start; milliwatts.
_RAIL = re.compile(r"\b([A-Z][A-Z0-9_]*) (\d+)(?:mW)?/(\d+)(?:mW)?(?=\s|$)")


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
class TegrastatsMeter:
    """Power from the lines that tegrastats prints while the load runs."""

    program: str
    scope: str
    name: str = "tegrastats"
    kind: str = "host"

    def mean_power_w(self, load: Action, seconds: float) -> float:
        """Return the mean over the lines printed meanwhile."""
        with subprocess.Popen(
            [self.program, *_TEGRASTATS],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            try:
                repeat_for(load, max(seconds, _TEGRASTATS_S))
            finally:
                process.terminate()
            lines = list(process.stdout or ())
        watts = [total_of(rails)[0] for rails in map(parse_tegrastats, lines) if rails]
        if not watts:
            raise UnavailableError("tegrastats printed no power")
        return sum(watts) / len(watts)


def parse_tegrastats(line: str) -> dict[str, float]:
    """Return the watts of each rail in a line of tegrastats, empty when it names none.

    Both spellings are read: ``VDD_IN 3120mW/3120mW`` and ``GPU 463/463``. Memory, which is written
    alike, ends in a unit and is told apart by it.
    """
    return {name: int(now) / 1000 for name, now, _ in _RAIL.findall(line)}


def total_of(rails: dict[str, float]) -> tuple[float, str]:
    """Return the watts of the input rail, or of all rails together, and the scope in words."""
    for name in _INPUT_RAILS:
        if name in rails:
            return rails[name], f"input rail {name}"
    counted = {name: watts for name, watts in rails.items() if name not in _LEFT_OUT}
    return sum(counted.values()), "sum of rails " + " + ".join(sorted(counted))


def find_meters(
    root: Path = _SYS,
    nvml: Callable[[], Any] | None = None,
    tegrastats: str | None = None,
) -> tuple[list[Meter], list[Skipped]]:
    """Return the meters that answer, and why others do not.

    Parameters
    ----------
    root
        The ``/sys`` of the machine.
    nvml
        Returns the module ``pynvml``, or raises ImportError.
    tegrastats
        Path of that program; looked up when None.
    """
    program = tegrastats or shutil.which("tegrastats")
    rails = (root / "bus/i2c/drivers/ina3221").is_dir()
    finders: list[tuple[str, Callable[[], Meter]]] = [
        ("RAPL", lambda: rapl_meter(root)),
        ("INA sensors", lambda: ina_meter(root)),
        ("NVML", lambda: nvml_meter(nvml or _pynvml)),
    ]
    if program and not rails:
        # The program reads the same sensors: it stands in for them, it does not come on top.
        finders[1] = ("tegrastats", lambda: tegrastats_meter(program))
    meters, skipped = list[Meter](), list[Skipped]()
    for name, find in finders:
        try:
            meters.append(find())
        except UnavailableError as reason:
            skipped.append(Skipped(f"power by {name}", str(reason)))
    return meters, skipped


def rapl_meter(root: Path = _SYS) -> Meter:
    """Return the energy counters of all processor packages, with their memory where counted."""
    packages = sorted((root / "class/powercap").glob("intel-rapl:[0-9]"))
    domains = [p for p in packages if _read(p / "name").startswith("package")]
    if not domains:
        raise UnavailableError("no RAPL counters in /sys/class/powercap")
    memory = [
        sub
        for package in domains
        for sub in sorted(package.glob("intel-rapl:*:*"))
        if _read(sub / "name") == "dram"
    ]
    try:
        counters = tuple(_rapl_counter(domain) for domain in (*domains, *memory))
    except PermissionError:
        raise UnavailableError(
            "only root may read the RAPL counters (energy_uj in /sys/class/powercap)"
        ) from None
    except (OSError, ValueError) as error:
        raise UnavailableError(f"the RAPL counters do not answer: {error}") from None
    scope = "CPU packages and memory" if memory else "CPU packages"
    return CounterMeter("RAPL", scope, counters)


def _rapl_counter(domain: Path) -> Counter:
    def read_j() -> float:
        return int((domain / "energy_uj").read_text()) / 1e6

    read_j()
    limit = _read(domain / "max_energy_range_uj")
    return Counter(read_j, int(limit) / 1e6 if limit.isdigit() else float("inf"))


def ina_meter(root: Path = _SYS) -> Meter:
    """Return the INA3221 sensors of a Jetson as one meter."""
    channels = list(_ina_channels(root))
    if not channels:
        raise UnavailableError("no INA3221 sensors in /sys/bus/i2c")

    def rails() -> dict[str, float]:
        # Millivolts times milliamperes are microwatts.
        return {
            label: int(mv.read_text()) * int(ma.read_text()) / 1e6 for label, mv, ma in channels
        }

    try:
        _, scope = total_of(rails())
    except (OSError, ValueError) as error:
        raise UnavailableError(f"the INA3221 sensors do not answer: {error}") from None
    return GaugeMeter("INA sensors", scope, lambda: total_of(rails())[0])


def _ina_channels(root: Path) -> Iterator[tuple[str, Path, Path]]:
    for label in sorted((root / "bus/i2c/drivers/ina3221").glob("*/hwmon/hwmon*/in[123]_label")):
        name, number = _read(label), label.name[2]
        if name and name not in _LEFT_OUT:
            folder = label.parent
            yield name, folder / f"in{number}_input", folder / f"curr{number}_input"


def nvml_meter(module: Callable[[], Any]) -> Meter:
    """Return the first NVIDIA GPU: its energy counter, or its power where it has none."""
    try:
        nvml = module()
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByIndex(0)
    except ImportError:
        raise UnavailableError("pynvml is not installed (pip install nvidia-ml-py)") from None
    except Exception as error:
        raise UnavailableError(f"no NVIDIA driver answers: {error}") from None
    for build in (_nvml_counter, _nvml_gauge):
        try:
            return build(nvml, handle)
        except Exception:
            continue
    raise UnavailableError("the GPU tells neither energy nor power")


def _nvml_counter(nvml: Any, handle: Any) -> Meter:
    def read_j() -> float:
        return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000

    read_j()
    return CounterMeter("NVML", "GPU board", (Counter(read_j),), "accelerator")


def _nvml_gauge(nvml: Any, handle: Any) -> Meter:
    def read_w() -> float:
        return float(nvml.nvmlDeviceGetPowerUsage(handle)) / 1000

    read_w()
    return GaugeMeter("NVML", "GPU board", read_w, "accelerator")


def _pynvml() -> Any:
    return importlib.import_module("pynvml")


def tegrastats_meter(program: str) -> Meter:
    """Return the meter of that program, when what it prints names rails."""
    try:
        done = subprocess.run(
            [program, *_TEGRASTATS], capture_output=True, timeout=_TEGRASTATS_S, check=False
        )
        printed = done.stdout
    except subprocess.TimeoutExpired as running:
        printed = running.stdout or b""
    except OSError as error:
        raise UnavailableError(f"tegrastats does not start: {error.strerror}") from None
    rails = parse_tegrastats(printed.decode(errors="replace"))
    if not rails:
        raise UnavailableError("tegrastats names no rail")
    return TegrastatsMeter(program, total_of(rails)[1])


def measure_power(
    device: str, meter: Meter, loads: Sequence[tuple[str, Action]], effort: Effort
) -> Iterator[Figure]:
    """Yield ``power_idle`` and the power under each load, medians over a few windows."""
    window_s = max(effort.seconds_per_figure / _WINDOWS, 0.05)
    method = f"{meter.name}, scope: {meter.scope}, windows of {window_s:.2f} s"
    idle: tuple[str, Action] = ("idle", _rest)
    for name, load in (idle, *loads):
        load()
        samples = [meter.mean_power_w(load, window_s) for _ in range(_WINDOWS)]
        yield figure(device, f"power_{name}", "W", samples, method)


def _rest() -> None:
    time.sleep(_PERIOD_S)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
