"""When to plan again: on a change that is large enough and not too soon after the last plan."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from moe2opt.result import InputError


@dataclass(slots=True)
class ReplanTrigger:
    r"""Fires when a value leaves the band around the one planned with.

    Attributes
    ----------
    theta
        Relative change that counts: up to a factor of ``1 + theta``, down by the same factor.
    min_interval_s
        Seconds that a plan is kept at least.
    floor
        Values below this are all alike; keeps noise near zero from firing.
    planned_with, planned_at_s
        Value and time of the last plan; NaN and ``-inf`` before the first.
    """

    theta: float = 0.3
    min_interval_s: float = 2.0
    floor: float = 1e-9
    planned_with: float = field(default=math.nan)
    planned_at_s: float = field(default=-math.inf)

    def __post_init__(self) -> None:
        if not self.theta >= 0 or not self.min_interval_s >= 0:
            raise InputError("trigger: theta and the minimum interval must not be negative")

    def fires(self, now_s: float, value: float) -> bool:
        """Tell whether to plan again; NaN never fires, the first value always does."""
        if math.isnan(value) or now_s - self.planned_at_s < self.min_interval_s:
            return False
        if math.isnan(self.planned_with):
            return True
        old, new = max(self.planned_with, self.floor), max(value, self.floor)
        return max(old / new, new / old) > 1 + self.theta

    def planned(self, now_s: float, value: float) -> None:
        """Note that a plan was made with this value."""
        self.planned_at_s, self.planned_with = now_s, value
