"""Training data and losses of the two heads; outcomes that are missing are masked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from moe2opt.result import FloatArray
from moe2opt.selection.gate.model import log_sum_exp

#: Scores are divided by this before the softmax that makes them a target distribution.
TARGET_TEMPERATURE = 0.5


@dataclass(frozen=True, eq=False)
class Data:
    """Inputs and outcomes of one part of the prompts.

    Attributes
    ----------
    inputs
        ``(P, D)``.
    score
        ``(P, M)``, NaN where the LLM was not run.
    """

    inputs: FloatArray
    score: FloatArray

    @property
    def models(self) -> int:
        """Number of LLMs."""
        return int(self.score.shape[1])

    @cached_property
    def targets(self) -> FloatArray:
        """``(P, M)`` target distribution of the softmax head."""
        return softmax_targets(self.score)


def softmax_targets(score: FloatArray) -> FloatArray:
    r"""Return :math:`t_n \propto e^{\text{score}_n / 0.5}` over the LLMs that were run.

    The targets are strictly positive there, which is what the conditional-softmax theorem asks
    for (`moe2opt.selection.gate.theory`). A prompt without outcomes has targets of 0.
    """
    seen = ~np.isnan(score)
    raised = np.where(seen, np.exp(np.nan_to_num(score) / TARGET_TEMPERATURE), 0.0)
    total = raised.sum(axis=1, keepdims=True)
    targets: FloatArray = np.divide(raised, total, out=np.zeros_like(raised), where=total > 0)
    return targets


def sigmoid_loss(logits: FloatArray, score: FloatArray) -> float:
    """Return the mean binary cross-entropy over the outcomes that are there."""
    seen = ~np.isnan(score)
    z, y = logits[seen], score[seen]
    return float((np.logaddexp(0.0, z) - y * z).mean()) if len(y) else 0.0


def softmax_loss(logits: FloatArray, score: FloatArray) -> float:
    """Return the mean cross-entropy to the targets, each prompt over the LLMs that were run."""
    seen = ~np.isnan(score)
    some = seen.any(axis=1)
    masked = np.where(seen[some], logits[some], -np.inf)
    if not len(masked):
        return 0.0
    log_p = np.where(seen[some], masked - log_sum_exp(masked), 0.0)
    return float(-(softmax_targets(score[some]) * log_p).sum(axis=1).mean())
