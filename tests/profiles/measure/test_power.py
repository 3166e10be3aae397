"""Power meters: counters that wrap, and the answers of zeus and jtop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from moe2opt.profiles.measure import Effort, power
from moe2opt.profiles.measure.figures import UnavailableError


def nothing() -> None:
    """Load nothing."""


def seconds(step: float) -> Callable[[], float]:
    """Return a clock that moves on by `step` with every look."""
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += step
        return now

    return clock


# ---------------------------------------------------------------------- counters


def test_watts_are_joules_over_seconds() -> None:
    """Two counters that gain 30 J in 2 s are 15 W."""
    readings = iter([100.0, 7.0, 120.0, 17.0])
    counters = tuple(power.Counter(lambda: next(readings)) for _ in range(2))
    meter = power.CounterMeter("m", "s", counters, clock=seconds(2.0))
    assert meter.mean_power_w(nothing, 1.0) == 15.0


def test_a_counter_may_start_again() -> None:
    """A counter that reaches its range and starts again loses no joule."""
    readings = iter([260.0, 3.0])
    meter = power.CounterMeter(
        "m", "s", (power.Counter(lambda: next(readings), range_j=262.0),), clock=seconds(1.0)
    )
    assert meter.mean_power_w(nothing, 1.0) == 5.0


def rapl_file(folder: Path, name: str, microjoules: int) -> Any:
    """Return a counter as zeus finds it: the file, its name and where it starts again."""
    path = folder / name
    path.write_text(f"{microjoules}\n", encoding="utf-8")
    return SimpleNamespace(name=name, energy_uj_path=str(path), max_energy_range_uj=262143328850.0)


def test_rapl_adds_packages_and_memory(tmp_path: Path) -> None:
    """Packages and their memory count; psys, which zeus lists as a processor, does not."""
    package = SimpleNamespace(
        rapl_file=rapl_file(tmp_path, "package-0", 4_000_000),
        dram=rapl_file(tmp_path, "dram", 500_000),
    )
    psys = SimpleNamespace(rapl_file=rapl_file(tmp_path, "psys", 9_000_000), dram=None)
    meter = power.rapl_meter(lambda: SimpleNamespace(cpus=[package, psys]))
    assert isinstance(meter, power.CounterMeter)
    assert (meter.scope, meter.kind) == ("CPU packages and memory", "host")
    assert [counter.read_j() for counter in meter.counters] == [4.0, 0.5]
    assert meter.counters[0].range_j == pytest.approx(262143.32885)
    package.dram = None
    assert power.rapl_meter(lambda: SimpleNamespace(cpus=[package])).scope == "CPU packages"


def refused(error: Exception) -> Callable[[], Any]:
    """Return a library that does not answer."""

    def ask() -> Any:
        raise error

    return ask


def test_what_a_library_throws_is_the_reason(tmp_path: Path) -> None:
    """Counters for root, no driver, no service: each is one line, and what answers still does."""
    psys = SimpleNamespace(rapl_file=rapl_file(tmp_path, "psys", 1), dram=None)
    meters, skipped = power.find_meters(
        refused(PermissionError("RAPL requires root privileges")),
        lambda: fake_gpus(counter=True),
        refused(RuntimeError("jtop.service is not active. Please run:\nsudo jtop --install")),
    )
    assert [meter.name for meter in meters] == ["NVML"]
    assert [(s.what, s.why) for s in skipped] == [
        ("power by RAPL", "RAPL requires root privileges"),
        ("power by jtop", "jtop.service is not active. Please run: sudo jtop --install"),
    ]
    _, skipped = power.find_meters(
        lambda: SimpleNamespace(cpus=[psys]), refused(ValueError()), refused(ImportError("jtop"))
    )
    assert [s.why for s in skipped] == [
        "no counter of a processor package",
        "ValueError",
        "jtop is not installed: pip install 'moe2opt[jetson]'",
    ]


def test_without_the_extras_the_reason_names_them() -> None:
    """A machine without zeus and jetson-stats has no meter, and is told what to install."""
    zeus = refused(ModuleNotFoundError("No module named 'zeus'", name="zeus.device"))
    meters, skipped = power.find_meters(zeus, zeus, refused(ImportError("jtop")))
    assert not meters
    assert [s.why for s in skipped] == [
        *["zeus is not installed: pip install 'moe2opt[measure]'"] * 2,
        "jtop is not installed: pip install 'moe2opt[jetson]'",
    ]


def test_the_libraries_answer_or_say_why() -> None:
    """Where zeus is installed, its own objects give a meter or a reason in one line."""
    pytest.importorskip("zeus", reason="asks zeus: pip install 'moe2opt[measure]'")
    meters, skipped = power.find_meters(jtop=refused(ImportError("jtop")))
    assert len(meters) + len(skipped) == 3
    assert all(s.why and "\n" not in s.why and "not installed" not in s.why for s in skipped[:-1])


# ---------------------------------------------------------------------- Jetson

#: Rails as jtop hands them out, in milliwatts.
ORIN = {
    "rail": {
        "VDD_GPU_SOC": {"type": "INA3221", "power": 9500},
        "VDD_CPU_CV": {"type": "INA3221", "power": 1900},
        "VIN_SYS_5V0": {"type": "INA3221", "power": 4000},
        "VDDQ_VDD2_1V8AO": {"type": "INA3221", "power": 990},
        "ucsi-source-psy-1": {"type": "USB", "power": 20000},
    },
    "tot": {"power": 36390, "avg": 36390},
}


def fake_jtop(power_mw: dict[str, Any], samples: int) -> Any:
    """Return a class like jtop that hands out one state a few times."""

    class Client:
        power = power_mw

        def __init__(self, interval: float = 0.5) -> None:
            self.observers = list[Callable[[Any], None]]()

        def attach(self, observer: Callable[[Any], None]) -> None:
            self.observers.append(observer)

        def __enter__(self) -> Any:
            for observer in self.observers * samples:
                observer(self)
            return self

        def __exit__(self, *_: object) -> None:
            pass

    return Client


def test_rails_of_a_jetson_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no rail holds the others their sum counts, as tegrastats has it, and it says so."""
    monkeypatch.setattr(power, "_JTOP_WINDOW_S", 0.0)
    meter = power.jetson_meter(lambda: fake_jtop(ORIN, 3))
    assert meter.scope == "sum of rails VDD_CPU_CV + VDD_GPU_SOC + VIN_SYS_5V0"
    assert meter.mean_power_w(nothing, 0.0) == pytest.approx(9.5 + 1.9 + 4.0)


def test_the_input_rail_is_taken_alone() -> None:
    """The input rail holds all the others and is taken alone."""
    rails = {"rail": ORIN["rail"], "tot": {"name": "VDD_IN", "power": 1931}}
    assert power.jetson_total(rails) == (1.931, "input rail VDD_IN")


def test_a_jetson_that_says_nothing_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """No rail, and no sample while the load runs, are reasons."""
    monkeypatch.setattr(power, "_JTOP_WINDOW_S", 0.0)
    with pytest.raises(UnavailableError, match="names no rail"):
        power.jetson_meter(lambda: fake_jtop({}, 1))
    with pytest.raises(UnavailableError, match="sent no sample"):
        power.JetsonMeter(fake_jtop(ORIN, 0), "s").mean_power_w(nothing, 0.0)


# ---------------------------------------------------------------------- graphics cards


def fake_gpus(*, counter: bool) -> Any:
    """Return graphics cards like those of zeus, with or without an energy counter."""
    energy = iter(range(10_000, 100_000, 5_000))
    return SimpleNamespace(
        supports_get_total_energy_consumption=lambda index: counter,
        get_total_energy_consumption=lambda index: next(energy),
        get_instant_power_usage=lambda index: 123_000,
    )


def test_gpus_count_millijoules() -> None:
    """The energy counter of the board, in millijoules, is preferred."""
    meter = power.gpu_meter(lambda: fake_gpus(counter=True))
    assert (meter.name, meter.scope, meter.kind) == ("NVML", "GPU board", "accelerator")
    assert isinstance(meter, power.CounterMeter)
    first, second = meter.counters[0].read_j(), meter.counters[0].read_j()
    assert second - first == 5.0


def test_a_gpu_without_a_counter_shows_milliwatts() -> None:
    """An older board has power only, in milliwatts."""
    meter = power.gpu_meter(lambda: fake_gpus(counter=False))
    assert meter.mean_power_w(nothing, 0.0) == 123.0


def test_the_scope_of_a_card_is_what_its_driver_counts() -> None:
    """AMD's counter is that of the socket, and it is not called a board."""

    class AMDGPUs(SimpleNamespace):
        pass

    cards = AMDGPUs(**vars(fake_gpus(counter=True)))
    assert power.gpu_meter(lambda: cards).scope == "GPU socket"


# ---------------------------------------------------------------------- figures


def test_power_is_measured_idle_and_under_load() -> None:
    """Each load has one figure, the median of five windows, with the scope in its method."""
    calls: list[str] = []
    watts = iter(range(100))

    def mean(load: Callable[[], object], seconds: float) -> float:
        load()
        return float(next(watts))

    meter: Any = SimpleNamespace(name="m", scope="s", kind="host", mean_power_w=mean)
    effort = Effort("e", 0.1, 1, 1, 0, 0, 0.0)
    loads = [("memory_read", lambda: calls.append("r")), ("matmul_fp32", lambda: calls.append("m"))]
    found = list(power.measure_power("d", meter, loads, effort))
    assert [(f.quantity, f.median) for f in found] == [
        ("power_idle", 2.0), ("power_memory_read", 7.0), ("power_matmul_fp32", 12.0),
    ]  # fmt: skip
    assert calls == ["r"] * 6 + ["m"] * 6
    assert all("scope: s, windows of" in f.method for f in found)


def test_a_sensor_that_fails_is_a_reason() -> None:
    """A sensor that stops answering while the load runs is told, and no thread stays."""

    def broken() -> float:
        raise OSError(5, "Input/output error")

    meter = power.GaugeMeter("INA sensors", "s", broken)
    with pytest.raises(UnavailableError, match="INA sensors stopped answering"):
        meter.mean_power_w(nothing, 0.0)
