"""What ends a run early, and how those who work in small steps hear of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from moe2opt.result import Limit

#: Asked now and then by what takes long; True to stop with what there is.
Stop = Callable[[], bool]


@dataclass(slots=True)
class Interrupt:
    """A flag that Ctrl-C raises and every solver polls."""

    raised: bool = False


class LimitReachedError(Exception):
    """A limit was hit in the middle of a step, which is then given up."""

    def __init__(self, limit: Limit) -> None:
        super().__init__(limit)
        self.limit = limit


def never() -> bool:
    """Tell a heuristic that runs without limits to go on."""
    return False


def resident_bytes() -> int:
    """Return the resident memory of this process (its peak where the current size is unknown)."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource  # not on every system

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
