r"""Objectives under which several experts answer a prompt: not monotone in the deployed set.

A gate masked to the deployed experts S that may serve a prompt, or to the best k of them by its
scores q, mixes their answers with the weights
:math:`w_i \propto \exp(\mathrm{logit}(q_i) / \text{temperature})`. The objective is the mean of
:math:`\sum_i w_i q_i`: the chance that an answer drawn with these weights is correct. It is no
claim about a vote, whose outcome depends on which answers agree.
"""

from __future__ import annotations

import math

import numpy as np

from moe2opt.canonical.ratio import MaskedSoftmax
from moe2opt.result import FloatArray, IntArray
from moe2opt.selection.case import Mixture, Scored
from moe2opt.selection.routing.prompts import log_odds, softmax


def mixture_oracle(mixture: Mixture, scored: Scored) -> MaskedSoftmax:
    """Return the mixed-monotone objective F(x, y) of a mixture."""
    return MaskedSoftmax(
        logits=log_odds(scored.values) / mixture.temperature,
        quality=scored.values,
        weights=scored.weights,
        k=mixture.k,
        allowed=scored.allowed,
    )


def mixture_weights(mixture: Mixture, scored: Scored, chosen: IntArray) -> FloatArray:
    """Return ``(C, S)`` weights of the chosen experts on every row; 0 where nobody may serve.

    Equal scores at the k-th place go to the lower index.
    """
    quality = scored.values[:, chosen]
    gating = np.where(scored.allowed[:, chosen], log_odds(quality) / mixture.temperature, -np.inf)
    if mixture.k is not None and mixture.k < len(chosen):
        last = np.argsort(-gating, axis=1, kind="stable")[:, mixture.k :]
        np.put_along_axis(gating, last, -np.inf, axis=1)
    return softmax(gating)


def mixture_value(mixture: Mixture, scored: Scored, chosen: IntArray) -> float:
    """Return the objective of a set, computed from the weights themselves."""
    if not len(chosen):
        return 0.0
    weights = mixture_weights(mixture, scored, chosen)
    rows = (weights * scored.values[:, chosen]).sum(axis=1)
    return math.fsum(rows * scored.weights)
