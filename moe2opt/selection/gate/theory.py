r"""What is true, and what is false, about training a gate once and masking it to a subset.

**False in general.** For answer-level ensembles :math:`p_S(y) = \sum_{n \in S} w_n p_n(y)` with
renormalised weights and log loss, the optimum of the full set need not be optimal on a subset, and
with fixed parameters a larger set may be worse (`COUNTEREXAMPLE`).

**True.** For expert-level targets :math:`t`, the masked cross-entropy
:math:`L_A(S, g) = t_S\,\mathrm{CE}(t^S, \mathrm{softmax}_S\, g)` loses on every subset at most what
it loses on the full set, because by the chain rule of relative entropy the full excess is the sum
of the excess on S and of further non-negative terms (`excess_loss`). For scores
with :math:`|\hat q_n - q_n| \le \delta`, routing by :math:`\hat q` loses at most :math:`2\delta`
on every subset (`routing_regret`).

Which of these the paper on MoE² proves is not known to us; the statements and proofs are our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe2opt.result import FloatArray

_ROUNDS = 20_000


@dataclass(frozen=True, slots=True)
class Pool:
    """Experts that answer one prompt with distributions over its labels.

    Attributes
    ----------
    labels
        Probability of each label.
    experts
        Distribution of each expert over the labels.
    """

    labels: tuple[float, ...]
    experts: tuple[tuple[float, ...], ...]


#: Three experts on one prompt. The best weights of the full set, masked to {0, 1}, are not the best
#: there; and with those weights expert 1 makes {0} worse.
COUNTEREXAMPLE = Pool((0.5, 0.3, 0.2), ((0.6, 0.3, 0.1), (0.2, 0.7, 0.1), (0.55, 0.05, 0.4)))


def pooled_loss(pool: Pool, weights: FloatArray, subset: Sequence[int]) -> float:
    """Return the expected log loss of the linear pool, the weights renormalised on the subset."""
    part = np.asarray(weights, dtype=np.float64)[list(subset)]
    mixture = (part / part.sum()) @ np.array(pool.experts)[list(subset)]
    return float(-(np.array(pool.labels) * np.log(mixture)).sum())


def best_weights(pool: Pool, subset: Sequence[int]) -> FloatArray:
    """Return the weights with the least pooled loss on the subset, 0 outside it.

    The problem is concave; multiplicative updates (expectation-maximisation) converge to its
    optimum from the inside.
    """
    part = np.array(pool.experts)[list(subset)]
    weights = np.full(len(part), 1 / len(part))
    for _ in range(_ROUNDS):
        weights = weights * (part @ (np.array(pool.labels) / (weights @ part)))
    full = np.zeros(len(pool.experts))
    full[list(subset)] = weights
    return full


def excess_loss(targets: FloatArray, logits: FloatArray, subset: Sequence[int]) -> FloatArray:
    r"""Return :math:`L_A(S, g) - \min_g L_A(S, g)` of every prompt.

    Parameters
    ----------
    targets
        ``(P, M)`` positive distributions over the experts.
    logits
        ``(P, M)`` gating values.
    subset
        Experts that the softmax is masked to.
    """
    kept = list(subset)
    part, values = targets[:, kept], logits[:, kept]
    total = part.sum(axis=1)
    shares = part / total[:, None]
    top = values.max(axis=1, keepdims=True)
    log_p = values - top - np.log(np.exp(values - top).sum(axis=1, keepdims=True))
    divergence: FloatArray = (shares * (np.log(shares) - log_p)).sum(axis=1)
    excess: FloatArray = total * divergence
    return excess


def routing_regret(chances: FloatArray, estimates: FloatArray, subset: Sequence[int]) -> FloatArray:
    """Return what routing by `estimates` within the subset loses on every prompt.

    Parameters
    ----------
    chances, estimates
        ``(P, M)`` true and estimated probabilities of a correct answer.
    subset
        Deployed experts.
    """
    kept = np.array(list(subset))
    picked = kept[estimates[:, kept].argmax(axis=1)]
    regret: FloatArray = chances[:, kept].max(axis=1) - chances[np.arange(len(chances)), picked]
    return regret


def routed_value(chances: FloatArray, logits: FloatArray, subset: Sequence[int]) -> FloatArray:
    """Return each prompt's expected quality when the softmax masked to the subset draws the expert.

    For an expert j outside S that gets the share p of S and j together, the value changes by
    ``p (q_j - value on S)``: it falls whenever j is worse than what S achieves.
    """
    kept = list(subset)
    values = logits[:, kept]
    raised = np.exp(values - values.max(axis=1, keepdims=True))
    weights = raised / raised.sum(axis=1, keepdims=True)
    value: FloatArray = (weights * chances[:, kept]).sum(axis=1)
    return value
