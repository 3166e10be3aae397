"""Copies of the next layer's experts that overlap with computing the present one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from moe2opt.placement.assignment import Assignment
from moe2opt.placement.mode import each
from moe2opt.placement.modes.tiers import Tiers
from moe2opt.result import FloatArray


@dataclass(frozen=True, eq=False)
class Prefetched(Tiers):
    """Numbers per tier, where copies hide behind computing."""

    part: ClassVar[str] = "prefetch"
    beside: ClassVar[frozenset[str]] = frozenset({"aggregation", "lots"})

    def waiting_s(self, copies_s: FloatArray) -> FloatArray:
        """Return the seconds of a layer's copies that computing does not hide.

        With accuracy a and window W, the missed part (1 - a) X waits in the open; of the predicted
        part (and of as many wrong copies, if they occupy the link) what exceeds W does.
        """
        prefetch = self.case.config.prefetch
        assert prefetch is not None
        wasted = 1.0 - prefetch.accuracy if prefetch.wasted else 0.0
        early = (prefetch.accuracy + wasted) * copies_s - prefetch.window_us * 1e-6
        return np.asarray((1.0 - prefetch.accuracy) * copies_s + np.maximum(early, 0.0))

    def second_terms(self, assignment: Assignment, shares: FloatArray) -> list[FloatArray]:
        """Return computing and hand-over of the experts, and the layers' waiting for copies."""
        uses, use = self.uses(assignment, shares), self.case.use_scaled
        copies = (uses * each(assignment, use.move_s)).sum(axis=1)
        return [uses * each(assignment, use.compute_s + use.hand_over_s), self.waiting_s(copies)]
