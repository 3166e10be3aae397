"""What this machine is: processor, memory, system, versions. No host name, no user name."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

_ROOT = Path("/")

#: Memory assumed where the system does not tell.
_UNKNOWN_MEMORY = 2 * 2**30


def processor_name(root: Path = _ROOT) -> str:
    """Return the name of the board (Jetson, Raspberry Pi) or of the processor."""
    board = _text(root / "proc/device-tree/model")
    if board:
        return board
    found = re.search(r"^model name\s*:\s*(.+)$", _text(root / "proc/cpuinfo"), re.MULTILINE)
    name = found[1] if found else platform.processor() or platform.machine() or "unknown processor"
    return " ".join(name.split())


def cores() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes(root: Path = _ROOT) -> int:
    """Return the size of the main memory."""
    return _meminfo(root, "MemTotal") or _physical_bytes() or _UNKNOWN_MEMORY


def available_bytes(root: Path = _ROOT) -> int:
    """Return the memory that may be taken now: what is free, within the limit of the container."""
    free = _meminfo(root, "MemAvailable") or memory_bytes(root) // 2
    limit = _text(root / "sys/fs/cgroup/memory.max")
    used = _text(root / "sys/fs/cgroup/memory.current")
    if limit.isdigit() and used.isdigit():
        free = min(free, max(int(limit) - int(used), 0))
    return free


def cache_bytes(root: Path = _ROOT) -> int:
    """Return the size of the largest cache, 0 when it is not known."""
    texts = [
        _text(path) for path in (root / "sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    ]
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    sizes = [re.fullmatch(r"(\d+)([KMG])", text) for text in texts]
    return max((int(size[1]) * units[size[2]] for size in sizes if size), default=0)


def describe(root: Path = _ROOT) -> dict[str, Any]:
    """Return hardware and system in words."""
    return {
        "processor": processor_name(root),
        "architecture": platform.machine(),
        "cores_used": cores(),
        "cores": os.cpu_count(),
        "memory_bytes": memory_bytes(root),
        "largest_cache_bytes": cache_bytes(root),
        "frequency_governor": _text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
        or "not stated",
        "virtual_machine": "hypervisor" in _text(root / "proc/cpuinfo"),
        "system": f"{platform.system()} {platform.release()}",
    }


def versions() -> dict[str, str]:
    """Return the versions of what takes part in measuring."""
    found = {"python": platform.python_version()}
    for name in ("moe2opt", "numpy", "numba", "torch"):
        try:
            found[name] = version_of(name)
        except PackageNotFoundError:
            continue
    return found


def _meminfo(root: Path, key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB$", _text(root / "proc/meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _physical_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0


def _text(path: Path) -> str:
    """Return the content of a small system file, empty when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""
