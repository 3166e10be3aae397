r"""Estimates of what is measured: exponentially weighted means with a mean deviation.

.. math::
   \hat r_t = \alpha r_t + (1-\alpha)\,\hat r_{t-1}, \qquad
   \hat\sigma_t = \beta\,|r_t - \hat r_t| + (1-\beta)\,\hat\sigma_{t-1}, \qquad
   r^{plan}_t = \hat r_t - \kappa\,\hat\sigma_t

The formulas are our reconstruction: only the name of the estimator is known from CoMoE.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from moe2opt.result import InputError


@dataclass(slots=True)
class EwmaEstimator:
    """Follows one non-negative quantity.

    Attributes
    ----------
    alpha, beta
        Weights of a new measurement in the mean and in the deviation, above 0 and at most 1.
    kappa
        Deviations below the mean to plan with.
    mean, deviation
        The estimates; NaN before the first measurement, and 0.
    unseen
        Measurements in a row that were missing.
    """

    alpha: float = 0.5
    beta: float = 0.25
    kappa: float = 0.0
    mean: float = field(default=math.nan)
    deviation: float = 0.0
    unseen: int = 0

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"{name} = {getattr(self, name)}: it must be in (0, 1]")
        if not self.kappa >= 0:
            raise InputError(f"kappa = {self.kappa}: it must not be negative")

    def observe(self, value: float) -> None:
        """Take in a measurement; NaN, infinite or negative counts as no measurement."""
        if not (math.isfinite(value) and value >= 0):
            self.unseen += 1
            return
        self.unseen = 0
        if math.isnan(self.mean):
            self.mean = value
            return
        self.mean = self.alpha * value + (1 - self.alpha) * self.mean
        self.deviation = self.beta * abs(value - self.mean) + (1 - self.beta) * self.deviation

    @property
    def planned(self) -> float:
        """Value to plan with: the mean less some deviations, never negative; NaN if unknown."""
        return max(0.0, self.mean - self.kappa * self.deviation) if self.is_known else math.nan

    @property
    def is_known(self) -> bool:
        """Whether anything was measured yet."""
        return not math.isnan(self.mean)
