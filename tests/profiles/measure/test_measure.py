"""Measuring this machine: sums are right, files vanish, sensors are read, bad places are told."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from moe2opt.profiles import read_profiles
from moe2opt.profiles.measure import (
    Effort,
    Figure,
    Measurement,
    Options,
    Skipped,
    arithmetic,
    disk,
    machine,
    measure_machine,
    memory,
    write_measurement,
)
from moe2opt.profiles.measure.accelerator import find_accelerators, measure_accelerator
from moe2opt.profiles.measure.figures import (
    Device,
    UnavailableError,
    figure,
    rates,
    seconds_of,
)
from moe2opt.profiles.measure.session import FULL, QUICK, Hardware
from moe2opt.result import InputError

#: As little as a session can do.
TINY = Effort("tiny", 0.0, 3, 3, 64 * 2**20, 32 * 2**20, 60.0)


# ---------------------------------------------------------------------- figures


def ticking(*steps: float) -> Callable[[], float]:
    """Return a clock that moves on by these seconds, one after the other, then by the last."""
    times, now = iter(steps), 0.0

    def clock() -> float:
        nonlocal now
        now += next(times, steps[-1])
        return now

    return clock


def test_figures_hold_median_and_quartiles() -> None:
    """A figure tells the median, the quartiles and the number of its repeats."""
    found = figure("d", "q", "GB/s", [4.0, 1.0, 2.0, 3.0, 5.0], "how")
    assert (found.median, found.low, found.high, found.repeats) == (3.0, 2.0, 4.0, 5)
    assert found.spread == pytest.approx(2 / 3)
    assert found.to_dict()["interquartile_range"] == 2.0


def test_repeats_stop_when_the_time_is_used_up() -> None:
    """After the first call, which does not count, repeats end with the time of the figure."""
    effort = Effort("e", 4.5, 1, 100, 0, 0, 0.0)
    calls: list[int] = []
    durations = seconds_of(lambda: calls.append(0), effort, ticking(1.0))
    assert durations == [1.0] * 2
    assert len(calls) == 1 + len(durations)


@pytest.mark.parametrize(("seconds", "repeats"), [(0.0, 3), (1e9, 7)])
def test_repeats_have_their_limits(seconds: float, repeats: int) -> None:
    """However long a repeat takes, there are at least `least` and at most `most`."""
    effort = Effort("e", seconds, 3, 7, 0, 0, 0.0)
    assert len(seconds_of(lambda: None, effort, ticking(1.0))) == repeats


def test_rates_are_amount_over_time() -> None:
    """Two gigabytes in half a second are 4 GB/s."""
    assert rates([0.5, 1.0], 2e9) == [4.0, 2.0]


# ---------------------------------------------------------------------- memory


def test_a_sweep_reads_every_byte_once() -> None:
    """The sum over random blocks is the sum over the buffer, for every block size."""
    from concurrent.futures import ThreadPoolExecutor

    size = 2 * max(memory.BLOCKS_BYTES) // 8
    source = np.arange(size, dtype=np.float64)
    with ThreadPoolExecutor(2) as pool:
        for block in memory.BLOCKS_BYTES:
            sweep = memory._Sweep(pool, 2, memory._read_kernel(), source, source, block)
            assert sweep() == pytest.approx(size * (size - 1) / 2, rel=1e-12)
            assert sweep.total_bytes == source.nbytes


def test_a_sweep_copies_every_byte() -> None:
    """After a sweep of copies the target is the source."""
    from concurrent.futures import ThreadPoolExecutor

    source = np.arange(2 * max(memory.BLOCKS_BYTES) // 8, dtype=np.float64)
    target = np.zeros_like(source)
    with ThreadPoolExecutor(3) as pool:
        memory._Sweep(pool, 3, memory._copy_kernel(), source, target, memory.BLOCKS_BYTES[0])()
    assert np.array_equal(source, target)


def test_memory_stays_within_what_is_free() -> None:
    """The buffers take at most a quarter of the free memory, and are refused when that is small."""
    gib = 2**30
    assert memory.buffer_bytes(FULL, 100 * gib) == FULL.buffer_bytes
    for free in (gib, 3 * gib + 12345):
        assert 2 * memory.buffer_bytes(FULL, free) <= free / 4
    with pytest.raises(UnavailableError, match="only 100 MiB of memory are free"):
        memory.buffer_bytes(FULL, 100 * 2**20)


# ---------------------------------------------------------------------- disk


def test_disk_figures_have_both_units(tmp_path: Path) -> None:
    """Every block size has a bandwidth in GB/s and a latency in us that belong together."""
    found = [f for f in disk.measure_disk("d", tmp_path, TINY) if isinstance(f, Figure)]
    by_name = {f.quantity: f for f in found}
    for block in disk.BLOCKS_BYTES:
        speed, latency = by_name[f"disk_read@{block}"], by_name[f"disk_latency@{block}"]
        assert (speed.unit, latency.unit) == ("GB/s", "us")
        assert speed.median == pytest.approx(block / latency.median / 1e3)
    assert by_name[f"disk_read_{disk.READERS}_readers@1048576"].median > 0


def test_the_file_has_no_name_while_it_is_read(tmp_path: Path) -> None:
    """The folder is empty as soon as the file is open, so that nothing can leave it behind."""
    with disk.random_file(tmp_path, 2**20) as file:
        assert list(tmp_path.iterdir()) == []
        assert os.fstat(file.descriptor).st_size == 2**20


def test_nothing_is_left_after_an_interruption(tmp_path: Path) -> None:
    """Ctrl-C while reading closes the file and leaves the folder empty."""
    with pytest.raises(KeyboardInterrupt), disk.random_file(tmp_path, 2**20) as file:
        raise KeyboardInterrupt
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file.descriptor)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fills up the file goes and one sentence says so."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with (
        pytest.raises(UnavailableError, match="the disk is full"),
        disk.random_file(tmp_path, 4096),
    ):
        pytest.fail("the file was opened")
    assert list(tmp_path.iterdir()) == []


def test_little_space_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file takes at most half of the space that may be taken."""
    free = 200 * 2**20
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert disk._file_bytes(tmp_path, FULL) == 64 * 2**20
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=free // 2))
    with pytest.raises(UnavailableError, match="has 36 MiB to spare, 64 MiB are needed"):
        disk._file_bytes(tmp_path, FULL)


def test_without_direct_reads_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where O_DIRECT is refused, the cache is asked to forget, and the figures tell."""
    real, forgotten = os.open, list[int]()

    def refuse(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(path, flags, *more, **named)

    monkeypatch.setattr(disk.os, "open", refuse)
    monkeypatch.setattr(disk.os, "posix_fadvise", lambda *call: forgotten.append(call[2]))
    found = list(disk.measure_disk("d", tmp_path, TINY))
    (notice,) = [f for f in found if isinstance(f, Skipped)]
    assert notice.why.startswith("no O_DIRECT on ")
    assert all("posix_fadvise" in f.method for f in found if isinstance(f, Figure))
    assert set(disk.BLOCKS_BYTES) <= set(forgotten)


def test_file_systems_are_told_apart(tmp_path: Path) -> None:
    """The longest mount point that holds a folder decides; spaces are escaped in the list."""
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/a / ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n/dev/b /run/my\\040disk xfs rw 0 0\n",
        encoding="utf-8",
    )
    kinds = [
        disk.file_system(Path(p), mounts) for p in ("/home/x", "/run/y", "/run/my disk/z", "/runs")
    ]
    assert kinds == ["ext4", "tmpfs", "xfs", "ext4"]
    assert disk.file_system(Path("/"), tmp_path / "none") == "unknown"


@pytest.mark.parametrize(
    ("place", "message"),
    [("none", "not a folder"), ("file", "not a folder"), ("/proc", "cannot create a file")],
)
def test_bad_folders_for_the_disk(tmp_path: Path, place: str, message: str) -> None:
    """A folder that does not exist, is a file, or cannot be written is told before measuring."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=message):
        disk.check_folder(tmp_path / place)


def test_memory_is_not_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder on tmpfs is refused when it was named, and left out when it is the default."""
    monkeypatch.setattr(disk, "file_system", lambda _: "tmpfs")
    with pytest.raises(InputError, match="lies in memory"):
        disk.check_folder(tmp_path)
    with pytest.raises(UnavailableError, match="lies in memory"):
        list(disk.measure_disk("d", tmp_path, TINY))


# ---------------------------------------------------------------------- arithmetic


def libraries() -> list[Any]:
    """Return numpy, and torch where it is installed."""
    torch = arithmetic.find_torch()
    return [arithmetic.Numpy(), *([] if torch is None else [arithmetic.Torch(torch)])]


@pytest.mark.parametrize("library", libraries(), ids=lambda library: type(library).__name__)
def test_libraries_compute_what_they_say(library: Any) -> None:
    """Products and gated layers have the values that the formulas give, in every precision."""
    hidden, inner = arithmetic.HIDDEN, arithmetic.INNER
    gate = 0.01 * 0.01 * hidden
    expected = gate / (1 + np.exp(-gate)) * (0.01 * 0.02 * hidden) * 0.01 * inner
    for precision in library.precisions:
        tolerance = 1e-3 if precision == "fp32" else 0.05
        product = np.array(library.product(64, precision)().tolist())
        assert product == pytest.approx(np.full((64, 64), 0.5 * 0.25 * 64), rel=tolerance)
        call = library.experts(2, 3, precision)
        for _ in range(3):
            out = np.array(call().tolist())
            assert out.shape == (3, hidden)
            assert out == pytest.approx(np.full_like(out, expected), rel=tolerance)


@pytest.mark.parametrize("library", libraries(), ids=lambda library: type(library).__name__)
def test_arithmetic_has_three_figures_per_precision(library: Any) -> None:
    """Each precision gives a product, an expert of one token (bytes) and of many (operations)."""
    found = list(arithmetic.measure_arithmetic("d", library, TINY, 2**30))
    assert [(f.quantity, f.unit) for f in found] == [
        row
        for p in library.precisions
        for row in (
            (f"matmul_{p}", "TFLOP/s"),
            (f"expert_ffn_{p}_1_token", "GB/s"),
            (f"expert_ffn_{p}_256_tokens", "TFLOP/s"),
        )
    ]
    assert all(f.median > 0 for f in found)


def test_the_product_is_large_enough_and_fits() -> None:
    """The size grows until a product takes long enough or memory ends."""
    asked: list[int] = []

    class Silent(arithmetic.Numpy):
        def product(self, size: int, precision: str) -> Callable[[], object]:
            asked.append(size)
            return lambda: None

    for room, slow, last in ((2**30, 0.0, 4096), (16 * 2**20, 0.0, 1024), (2**30, 1.0, 256)):
        asked.clear()
        size, _ = arithmetic.sized_product(Silent(), "fp32", room, ticking(slow))
        assert (size, asked[-1]) == (last, last)


# ---------------------------------------------------------------------- accelerator


class FakeAccelerator:
    """A device whose transfers and reads only count their bytes; it has numpy's arithmetic."""

    def __init__(self) -> None:
        self.name, self.memory_bytes = "Fake GPU", 24 * 2**30
        self.library = arithmetic.Numpy()
        self.moved: dict[str, list[int]] = {"h2d": [], "d2h": [], "read": []}

    def transfer(self, size: int, direction: str) -> Callable[[], object]:
        """Count a transfer."""
        return lambda: self.moved[direction].append(size)

    def read(self, size: int) -> Callable[[], object]:
        """Count a read."""
        return lambda: self.moved["read"].append(size)


def test_accelerators_move_every_block_both_ways() -> None:
    """Both directions are timed for every block, and the memory within an eighth of its size."""
    fake = FakeAccelerator()
    found = [f.quantity for f in measure_accelerator("d", fake, TINY)]
    blocks = (64 * 2**10, 2**20, 16 * 2**20, 64 * 2**20)
    assert {f"pcie_{way}@{b}" for way in ("h2d", "d2h") for b in blocks} <= set(found)
    assert {"pcie_h2d", "pcie_d2h", "vram_read", "matmul_fp32"} <= set(found)
    assert set(fake.moved["h2d"]) == set(fake.moved["d2h"]) == set(blocks)
    assert max(fake.moved["read"]) <= fake.memory_bytes // 8


def fake_torch(log: list[str]) -> Any:
    """Return something with the part of torch that CUDA measurements use, on numpy arrays."""

    class Tensor(np.ndarray[Any, Any]):
        def copy_(self, other: Any, *, non_blocking: bool) -> None:
            log.append(f"copy {self.nbytes} {non_blocking}")

    def make(size: int, dtype: Any, pin_memory: bool = False, device: str = "cpu") -> Any:
        log.append(f"make {size} {'pinned' if pin_memory else device}")
        return np.zeros(size, dtype=dtype).view(Tensor)

    cuda = SimpleNamespace(
        is_available=lambda: True,
        synchronize=lambda: log.append("wait"),
        get_device_properties=lambda _: SimpleNamespace(name="Fake RTX", total_memory=8 * 2**30),
    )
    return SimpleNamespace(
        cuda=cuda, zeros=make, ones=make, uint8=np.uint8, float32=np.float32, __version__="0"
    )


def test_transfers_use_locked_memory_and_wait() -> None:
    """A transfer goes between page-locked memory and the device, and is waited for."""
    log: list[str] = []
    (cuda,) = find_accelerators(fake_torch(log))
    assert (cuda.name, cuda.memory_bytes) == ("Fake RTX", 8 * 2**30)
    cuda.transfer(4096, "h2d")()
    assert log == ["make 4096 pinned", "make 4096 cuda", "copy 4096 True", "wait"]


def test_without_cuda_there_is_no_accelerator() -> None:
    """No torch, or a torch without CUDA, means no accelerator."""
    blind = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False))
    assert find_accelerators(None) == find_accelerators(blind) == []


# ---------------------------------------------------------------------- session


def hardware(*accelerators: Any, meters: tuple[Any, ...] = ()) -> Hardware:
    """Return this machine's processor with other parts put in."""
    return Hardware(arithmetic.Numpy(), accelerators, meters, (Skipped("power", "test"),))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measurement:
    """Return what a tiny session found with a fake accelerator and fake meters."""
    watts = SimpleNamespace(
        name="fake meter", scope="fake scope", kind="host", mean_power_w=lambda *_: 7.5
    )
    board = SimpleNamespace(
        name="fake board", scope="GPU board", kind="accelerator", mean_power_w=lambda *_: 70.0
    )
    options = Options(TINY, "box", tmp_path_factory.mktemp("disk"))
    return measure_machine(options, hardware=hardware(FakeAccelerator(), meters=(watts, board)))


def test_a_session_names_host_and_accelerator(measured: Measurement) -> None:
    """With an accelerator the name is its own, and the host is told apart by a word."""
    assert [(d.name, d.kind) for d in measured.devices] == [
        ("box host", "host"),
        ("box", "accelerator"),
    ]
    for name, device in (("dram_read", "box host"), ("disk_read@4096", "box host"),
                         ("vram_read", "box"), ("pcie_h2d", "box"), ("matmul_fp32", "box"),
                         ("matmul_fp32", "box host")):  # fmt: skip
        assert measured.find(name, device) is not None


def test_power_belongs_to_its_device(measured: Measurement) -> None:
    """Idle and both loads are measured by each meter on its device, with its scope."""
    for device, watts, scope in (("box host", 7.5, "fake scope"), ("box", 70.0, "GPU board")):
        for name in ("power_idle", "power_memory_read", "power_matmul_fp32"):
            found = measured.find(name, device)
            assert found is not None
            assert (found.median, found.unit) == (watts, "W")
            assert f"scope: {scope}," in found.method


def test_progress_runs_to_the_end(tmp_path: Path) -> None:
    """The share of the session never falls, starts at 0 and ends at 1."""
    seen: list[float] = []
    options = Options(TINY, disk=tmp_path)
    measure_machine(options, lambda _, share: seen.append(share), hardware())
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0.0, 1.0)


def test_steps_that_cannot_be_done_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step without memory or space is left out with its reason; the others go on."""

    def nothing(*_: object) -> Iterator[Figure]:
        raise MemoryError
        yield

    def no_space(*_: object) -> Iterator[Figure]:
        raise UnavailableError("no space")
        yield

    monkeypatch.setattr(arithmetic, "measure_arithmetic", nothing)
    monkeypatch.setattr(disk, "measure_disk", no_space)
    found = measure_machine(Options(TINY, disk=tmp_path), hardware=hardware())
    reasons = {s.what: s.why for s in found.skipped}
    assert reasons["arithmetic"] == "there is not enough memory"
    assert reasons["disk"] == "no space"
    assert found.find("dram_read", found.devices[0].name) is not None


def test_drivers_that_fail_are_a_reason(tmp_path: Path) -> None:
    """What a driver throws becomes the reason for leaving out the accelerator."""
    fake = FakeAccelerator()
    fake.read = lambda size: (_ for _ in ()).throw(RuntimeError("CUDA error: lost\nmore"))  # type: ignore[method-assign,assignment]
    found = measure_machine(Options(TINY, "box", tmp_path), hardware=hardware(fake))
    assert Skipped("accelerator box", "CUDA error: lost") in found.skipped


def test_late_steps_are_left_out(tmp_path: Path) -> None:
    """After the time of a session no further step starts."""
    hasty = Effort("hasty", 0.0, 3, 3, 64 * 2**20, 32 * 2**20, -1.0)
    found = measure_machine(Options(hasty, disk=tmp_path), hardware=hardware())
    assert not found.figures
    assert all("had taken" in s.why for s in found.skipped if s.what != "power")


@pytest.mark.parametrize("effort", [FULL, QUICK])
def test_efforts_are_bounded(effort: Effort) -> None:
    """No session starts a step after 90 s, takes more than 1 GiB twice, or 1 GiB of disk."""
    assert effort.limit_s <= 90
    assert effort.buffer_bytes <= 2**30
    assert effort.file_bytes <= 2**30


def test_the_machine_is_described_without_names_of_people() -> None:
    """The description holds hardware and system, no host name and no user."""
    told = json.dumps([machine.describe(), machine.versions()])
    assert set(machine.describe()) == {
        "processor", "architecture", "cores_used", "cores", "memory_bytes", "largest_cache_bytes",
        "frequency_governor", "virtual_machine", "system",
    }  # fmt: skip
    assert "numpy" in told


def test_machines_are_read_from_their_files(tmp_path: Path) -> None:
    """Board, memory, the container's limit and caches come from the system's own files."""
    cache = tmp_path / "sys/devices/system/cpu/cpu0/cache"
    for path, text in (
        ("proc/device-tree/model", "NVIDIA Jetson AGX Orin Developer Kit\0"),
        ("proc/meminfo", "MemTotal:       64349440 kB\nMemAvailable:   50000000 kB\n"),
        ("sys/fs/cgroup/memory.max", "1000000000\n"),
        ("sys/fs/cgroup/memory.current", "400000000\n"),
        (str(cache / "index2/size"), "256K\n"),
        (str(cache / "index3/size"), "4M\n"),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    assert machine.processor_name(tmp_path) == "NVIDIA Jetson AGX Orin Developer Kit"
    assert machine.memory_bytes(tmp_path) == 64349440 * 1024
    assert machine.available_bytes(tmp_path) == 600000000
    assert machine.cache_bytes(tmp_path) == 4 * 2**20


# ---------------------------------------------------------------------- writing


def test_written_profiles_are_read_back(measured: Measurement, tmp_path: Path) -> None:
    """The tables hold the measured figures in their units, and the reader accepts them."""
    write_measurement(measured, tmp_path)
    profiles = read_profiles(tmp_path)
    rows = {row["device"]: row for row in profiles.devices}
    host, gpu = rows["box host"], rows["box"]
    assert host["bandwidth_basis"] == gpu["bandwidth_basis"] == "measured"
    dram = measured.find("dram_read", "box host")
    assert dram is not None
    assert host["memory_bandwidth_gb_per_s"] == pytest.approx(dram.median, rel=1e-4)
    assert gpu["memory_gib"] == 24
    assert (host["idle_power_w"], host["power_limit_scope"]) == (7.5, "fake scope")
    assert (host["grade"], host["source"]) == ("A", "measured")


def test_machine_json_tells_method_and_spread(measured: Measurement, tmp_path: Path) -> None:
    """Every figure has median, quartiles, repeats and method; versions and date are there."""
    write_measurement(measured, tmp_path)
    told = json.loads((tmp_path / "machine.json").read_text("utf-8"))
    assert len(told["figures"]) == len(measured.figures)
    for entry in told["figures"]:
        assert entry["method"]
        assert entry["lower_quartile"] <= entry["median"] <= entry["upper_quartile"]
        assert entry["repeats"] >= 1
    assert told["versions"]["moe2opt"]
    assert told["started"].endswith("+00:00")
    assert {"what": "power", "why": "test"} in told["skipped"]


def test_measuring_again_replaces_only_its_own(measured: Measurement, tmp_path: Path) -> None:
    """A second measurement replaces the rows of its devices and leaves others in place."""
    write_measurement(measured, tmp_path)
    other = Measurement(
        (Device("other", 2**33),), (figure("other", "dram_read", "GB/s", [5.0], "m"),), (), {}, {},
        "now", 0.0,
    )  # fmt: skip
    write_measurement(other, tmp_path)
    first = (tmp_path / "devices.csv").read_text("utf-8")
    write_measurement(other, tmp_path)
    assert (tmp_path / "devices.csv").read_text("utf-8") == first
    assert [line.split(",")[0] for line in first.splitlines()] == [
        "device", "box host", "box", "other",
    ]  # fmt: skip


def test_a_device_without_bandwidth_is_not_written(tmp_path: Path) -> None:
    """Without a memory bandwidth there is no row; the reason is in the message."""
    empty = Measurement(
        (Device("d", 2**33),), (), (Skipped("memory", "too small"),), {}, {}, "now", 0.0
    )
    with pytest.raises(InputError, match="its memory bandwidth was not measured; too small"):
        write_measurement(empty, tmp_path)


def test_folders_that_cannot_be_written(measured: Measurement, tmp_path: Path) -> None:
    """A file in the way and a folder of the system have one clear message."""
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/moe2opt")):
        with pytest.raises(InputError, match=r"--out .*: cannot write: "):
            write_measurement(measured, place)


def test_half_a_file_is_never_left(
    measured: Measurement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When moving the finished file fails, the old one stays and nothing else is there."""
    write_measurement(measured, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match="Read-only file system"):
        write_measurement(measured, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_threads_end_with_the_session(tmp_path: Path) -> None:
    """No thread outlives a session."""
    before = threading.active_count()
    measure_machine(Options(TINY, disk=tmp_path), hardware=hardware())
    assert threading.active_count() == before
