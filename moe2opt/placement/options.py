"""Options of the groups of a placement problem, and which of them nothing beats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from moe2opt.placement.assignment import Assignment
from moe2opt.result import FloatArray, IntArray

#: From the option taken in each group to what becomes of every expert.
Read = Callable[[IntArray], Assignment]


@dataclass(frozen=True, slots=True, eq=False)
class Options:
    """Options of one group, or of several groups alike in number of options.

    Attributes
    ----------
    metrics
        Figures of the options by metric, each ``(G, M)``; a metric left out is 0.
    held_bytes
        ``(G, M, T)`` bytes on each tier.
    domain_s
        ``(G, M, D)`` seconds by domain, None unless the plan is robust.
    """

    metrics: dict[str, FloatArray]
    held_bytes: FloatArray
    domain_s: FloatArray | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Groups and options per group."""
        groups, options, _ = self.held_bytes.shape
        return groups, options

    def metric(self, name: str) -> FloatArray:
        """Return ``(G, M)`` figures."""
        return self.metrics.get(name, np.zeros(self.size))
