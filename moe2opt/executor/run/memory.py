"""How much memory this process holds, as the system counts it."""

from __future__ import annotations

import ctypes
import gc
import re
from contextlib import suppress
from pathlib import Path

_STATUS = Path("/proc/self/status")
_IO = Path("/proc/self/io")


def anonymous_bytes() -> int | None:
    """Return the resident bytes that no file stands behind; None where the system does not tell.

    Weights read through a mapped file stay out of it until they are copied.
    """
    return _field("RssAnon")


def peak_bytes() -> int | None:
    """Return the largest resident set so far (VmHWM), mapped files included."""
    return _field("VmHWM")


def storage_bytes() -> int | None:
    """Return the bytes that this process has had read from disks; None where it is not told."""
    try:
        found = re.search(r"^read_bytes: (\d+)$", _IO.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None


def give_back() -> None:
    """Collect garbage and let the allocator return free memory to the system."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _field(name: str) -> int | None:
    try:
        text = _STATUS.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None
