"""What this machine has: its devices and its RAM, where nothing is typed."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess

from moe2opt.place.sections import Gpu, Ram, Unified

_QUERY = ("--query-gpu=name,memory.total", "--format=csv,noheader,nounits")


def detected_gpus() -> list[Gpu]:
    """Return the NVIDIA cards that ``nvidia-smi`` lists; none where there is no such program."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        told = subprocess.run(
            [program, *_QUERY], capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return list(gpus_of(told))


def detected_unified() -> Unified | None:
    """Return the memory of a Mac with a chip of Apple's, which processor and device share."""
    if platform.system() != "Darwin" or platform.machine() != "arm64":
        return None
    try:
        told = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string", "hw.memsize"],
            capture_output=True, text=True, timeout=20, check=True,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return unified_of(told)


def unified_of(told: str) -> Unified | None:
    """Return the memory that two lines name: the chip, and its bytes."""
    lines = told.split("\n")
    if len(lines) < 2 or not lines[0].strip() or not lines[1].strip().isdigit():
        return None
    return Unified(name=lines[0].strip(), gib=round(int(lines[1]) / 2**30, 2))


def gpus_of(told: str) -> list[Gpu]:
    """Return the devices that lines ``name, MiB`` name; others are passed over."""
    found = []
    for line in told.splitlines():
        name, _, mib = line.rpartition(",")
        if name.strip() and mib.strip().isdigit():
            short = name.strip().removeprefix("NVIDIA ").removeprefix("GeForce ")
            found.append(Gpu(name=short, gib=round(int(mib) / 1024, 2)))
    return found


def detected_ram() -> Ram:
    """Return the RAM of this machine; without a limit where the system does not say."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return Ram()
    return Ram(gib=round(size / 2**30, 2)) if size > 0 else Ram()
