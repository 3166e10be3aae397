"""Power meters: counters that wrap, sensors in a fake /sys, lines of tegrastats, fake NVML."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from moe2opt.profiles.measure import Effort, power
from moe2opt.profiles.measure.figures import UnavailableError

FIXTURES = Path(__file__).parent / "fixtures"
LINES = (FIXTURES / "tegrastats.txt").read_text("utf-8").splitlines()


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


def fake_sys(root: Path, files: dict[str, str]) -> Path:
    """Write files below `root` and return it."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    return root


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


def test_rapl_adds_packages_and_memory(tmp_path: Path) -> None:
    """Packages and their memory count; cores, which packages hold, and psys do not."""
    base = "class/powercap"
    root = fake_sys(
        tmp_path,
        {
            f"{base}/intel-rapl:0/name": "package-0",
            f"{base}/intel-rapl:0/energy_uj": "4000000",
            f"{base}/intel-rapl:0/max_energy_range_uj": "262143328850",
            f"{base}/intel-rapl:0/intel-rapl:0:0/name": "core",
            f"{base}/intel-rapl:0/intel-rapl:0:0/energy_uj": "1000000",
            f"{base}/intel-rapl:0/intel-rapl:0:1/name": "dram",
            f"{base}/intel-rapl:0/intel-rapl:0:1/energy_uj": "500000",
            f"{base}/intel-rapl:1/name": "psys",
            f"{base}/intel-rapl:1/energy_uj": "9000000",
        },
    )
    meter = power.rapl_meter(root)
    assert isinstance(meter, power.CounterMeter)
    assert meter.scope == "CPU packages and memory"
    assert [counter.read_j() for counter in meter.counters] == [4.0, 0.5]
    assert meter.counters[0].range_j == pytest.approx(262143.32885)


def test_rapl_for_root_only_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counters that only root may read are a reason, not a fault."""
    files = {"name": "package-0", "energy_uj": "1"}
    fake_sys(tmp_path, {f"class/powercap/intel-rapl:0/{k}": v for k, v in files.items()})
    real = Path.read_text

    def refuse(self: Path, *args: Any, **named: Any) -> str:
        if self.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return real(self, *args, **named)

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(UnavailableError, match="only root may read the RAPL counters"):
        power.rapl_meter(tmp_path)


# ---------------------------------------------------------------------- Jetson


def test_ina_sensors_are_volts_times_amperes(tmp_path: Path) -> None:
    """Millivolts and milliamperes become watts; what is not connected does not count."""
    folder = "bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    rails = [("VDD_GPU_SOC", 19000, 500), ("VDD_CPU_CV", 19000, 100), ("VIN_SYS_5V0", 5000, 800)]
    files = {}
    for number, (name, millivolts, milliamperes) in enumerate(rails, start=1):
        files[f"{folder}/in{number}_label"] = name
        files[f"{folder}/in{number}_input"] = str(millivolts)
        files[f"{folder}/curr{number}_input"] = str(milliamperes)
    second = folder.replace("1-0040/hwmon/hwmon3", "1-0041/hwmon/hwmon4")
    files |= {f"{second}/in1_label": "NC", f"{second}/in2_label": "VDDQ_VDD2_1V8AO"}
    files |= {f"{second}/in2_input": "1100", f"{second}/curr2_input": "900"}
    meter = power.ina_meter(fake_sys(tmp_path, files))
    assert meter.scope == "sum of rails VDD_CPU_CV + VDD_GPU_SOC + VIN_SYS_5V0"
    assert meter.mean_power_w(nothing, 0.0) == pytest.approx(9.5 + 1.9 + 4.0)


def test_tegrastats_of_an_agx_xavier() -> None:
    """Rails without a unit are milliwatts, memory is none of them, and the total is their sum."""
    rails = power.parse_tegrastats(LINES[0])
    assert rails == {"GPU": 0.463, "CPU": 0.618, "SOC": 2.936, "CV": 0.0, "VDDRQ": 0.309,
                     "SYS5V": 3.306}  # fmt: skip
    watts, scope = power.total_of(rails)
    assert watts == pytest.approx(7.632)
    assert scope == "sum of rails CPU + CV + GPU + SOC + SYS5V + VDDRQ"


def test_tegrastats_of_a_tx2() -> None:
    """The input rail holds all the others and is taken alone."""
    assert power.total_of(power.parse_tegrastats(LINES[1])) == (1.931, "input rail VDD_IN")


def test_tegrastats_with_units() -> None:
    """Newer versions write mW after each figure (synthetic line in that spelling)."""
    line = "RAM 100/1000MB GR3D_FREQ 50% VDD_GPU_SOC 4000mW/3900mW VIN_SYS_5V0 7000mW/6500mW"
    assert power.parse_tegrastats(line) == {"VDD_GPU_SOC": 4.0, "VIN_SYS_5V0": 7.0}
    assert power.parse_tegrastats("RAM 100/1000MB SWAP 0/7MB") == {}


def test_tegrastats_is_run_and_ended(tmp_path: Path) -> None:
    """The program is started, its lines are averaged, and it is not left running."""
    program = tmp_path / "tegrastats"
    program.write_text(
        "#!/bin/sh\nwhile true; do echo 'RAM 1/2MB VDD_IN 3000mW/3000mW'; sleep 0.05; done\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    meters, _ = power.find_meters(tmp_path, no_nvml, str(program))
    (meter,) = meters
    assert meter.scope == "input rail VDD_IN"
    assert meter.mean_power_w(nothing, 0.0) == 3.0


@pytest.mark.parametrize(
    ("script", "reason"),
    [("echo nothing", "names no rail"), ("sleep 60", "names no rail"), (None, "does not start")],
)
def test_a_tegrastats_that_says_nothing(tmp_path: Path, script: str | None, reason: str) -> None:
    """A program without rails, without output, or that cannot be started is a reason."""
    program = tmp_path / "tegrastats"
    if script:
        program.write_text(f"#!/bin/sh\nexec {script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(UnavailableError, match=reason):
        power.tegrastats_meter(str(program))


# ---------------------------------------------------------------------- NVML


def no_nvml() -> Any:
    """Stand in for a machine without pynvml."""
    raise ImportError("pynvml")


def fake_nvml(*, counter: bool) -> Any:
    """Return a fake pynvml, with or without an energy counter."""
    energy = iter(range(10_000, 100_000, 5_000))

    def total(handle: int) -> int:
        if not counter:
            raise RuntimeError("Not Supported")
        return next(energy)

    return SimpleNamespace(
        nvmlInit=nothing,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetTotalEnergyConsumption=total,
        nvmlDeviceGetPowerUsage=lambda handle: 123_000,
    )


def test_nvml_counts_millijoules() -> None:
    """The energy counter of the board, in millijoules, is preferred."""
    meter = power.nvml_meter(lambda: fake_nvml(counter=True))
    assert (meter.scope, meter.kind) == ("GPU board", "accelerator")
    assert isinstance(meter, power.CounterMeter)
    first, second = meter.counters[0].read_j(), meter.counters[0].read_j()
    assert second - first == 5.0


def test_nvml_without_a_counter_shows_milliwatts() -> None:
    """An older board has power only, in milliwatts."""
    meter = power.nvml_meter(lambda: fake_nvml(counter=False))
    assert meter.mean_power_w(nothing, 0.0) == 123.0


def test_missing_meters_have_their_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without sensors there is no meter and one reason for each."""
    monkeypatch.setattr(power.shutil, "which", lambda _: None)
    meters, skipped = power.find_meters(tmp_path, no_nvml)
    assert not meters
    assert {s.what for s in skipped} == {"power by RAPL", "power by INA sensors", "power by NVML"}
    assert any("pip install nvidia-ml-py" in s.why for s in skipped)


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
