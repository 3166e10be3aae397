"""How good probabilities are: log-loss, Brier score, calibration error, accuracy when routed by."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from moe2opt.result import FloatArray

#: Bins of equal width of the calibration error.
_BINS = 15


@dataclass(frozen=True, slots=True)
class Measures:
    """Measures of probabilities against outcomes, over all outcomes that are there.

    Attributes
    ----------
    prompts
        Number of prompts.
    log_loss, brier
        Mean cross-entropy (nats) and mean squared error.
    calibration_error
        Mean distance of probability and frequency over 15 bins of equal width, weighted by size.
    routed_accuracy, best_single_accuracy
        Mean score of the LLM with the largest probability, and of the single best LLM in hindsight.
    """

    prompts: int
    log_loss: float
    brier: float
    calibration_error: float
    routed_accuracy: float
    best_single_accuracy: float

    def to_dict(self) -> dict[str, float | None]:
        """Return JSON-ready content; None for what could not be measured."""
        return {k: None if v != v else float(v) for k, v in asdict(self).items()}


def measure(chances: FloatArray, score: FloatArray) -> Measures:
    """Compare ``(P, M)`` probabilities with ``(P, M)`` scores, NaN where missing."""
    seen = ~np.isnan(score)
    q, y = chances[seen], score[seen]
    if not len(y):
        return Measures(len(score), *(float("nan"),) * 5)
    routed = score[np.arange(len(score)), chances.argmax(axis=1)]
    totals, counts = np.nansum(score, axis=0), seen.sum(axis=0)
    means = np.divide(totals, counts, out=np.zeros(len(totals)), where=counts > 0)
    return Measures(
        prompts=len(score),
        log_loss=float(-(y * np.log(q) + (1 - y) * np.log1p(-q)).mean()),
        brier=float(((q - y) ** 2).mean()),
        calibration_error=_calibration_error(q, y),
        routed_accuracy=float(np.nanmean(routed)) if (~np.isnan(routed)).any() else float("nan"),
        best_single_accuracy=float(means.max()),
    )


def _calibration_error(q: FloatArray, y: FloatArray) -> float:
    bins = np.minimum((q * _BINS).astype(np.int64), _BINS - 1)
    difference = np.bincount(bins, weights=q - y, minlength=_BINS)
    return float(np.abs(difference).sum() / len(q))
