"""How good probabilities are: log-loss, Brier score, calibration error, score when routed by."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from moe2opt.result import BoolArray, FloatArray

#: Bins of equal width of the calibration error.
_BINS = 15

#: Random deployments over which a routed score is averaged.
_DEPLOYMENTS = 30


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


def measure(chances: FloatArray, score: FloatArray, tried: BoolArray | None = None) -> Measures:
    """Compare ``(P, M)`` probabilities with ``(P, M)`` scores, NaN where missing.

    No prompt is routed to an LLM that was never `tried` (P, M) in its category.
    """
    seen = ~np.isnan(score)
    q, y = chances[seen], score[seen]
    if not len(y):
        return Measures(len(score), *(float("nan"),) * 5)
    able = chances if tried is None else np.where(tried, chances, -1.0)
    routed = score[np.arange(len(score)), able.argmax(axis=1)]
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


def routed_scores(logits: FloatArray, score: FloatArray, seed: int) -> FloatArray:
    """Return the ``(P,)`` mean score of routed answers, half of it over random deployments.

    Nobody knows yet which LLMs will be deployed: a third of them each time, and all of them.
    """
    rng = np.random.default_rng(seed)
    models, prompts = logits.shape[1], np.arange(len(logits))
    size = max(1, min(models, max(2, models // 3)))
    total = np.zeros(len(logits))
    sets = [rng.choice(models, size, replace=False) for _ in range(_DEPLOYMENTS)]
    weights = [0.5 / _DEPLOYMENTS] * _DEPLOYMENTS + [0.5]
    for chosen, weight in zip([*sets, np.arange(models)], weights, strict=True):
        masked = np.where(np.isnan(score[:, chosen]), -np.inf, logits[:, chosen])
        total += weight * np.nan_to_num(score[prompts, chosen[masked.argmax(axis=1)]])
    return total


def simplest(routed: FloatArray, errors: float = 1.0) -> int:
    """Return the first row whose mean is within so many standard errors of the best row's.

    Parameters
    ----------
    routed
        ``(strengths, P)`` scores, strongest penalty first; the standard error is the paired one.
    """
    best = routed[int(routed.mean(axis=1).argmax())]
    short = best - routed
    error = short.std(axis=1) / np.sqrt(max(1, routed.shape[1]))
    return int(np.argmax(short.mean(axis=1) <= errors * error))
