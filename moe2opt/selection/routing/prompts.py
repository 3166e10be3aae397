"""Routing of single prompts: mask to the deployed experts, then top-k, then softmax.

Masking comes first: a weight set to zero after the softmax would leave the others too small.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe2opt.result import BoolArray, FloatArray, InputError, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Routing:
    """Who answers each of P prompts.

    Attributes
    ----------
    experts
        ``(P, k)`` experts from the highest score down; -1 where there are fewer than k.
    weights
        ``(P, k)`` weights that sum to 1; 0 beside -1.
    """

    experts: IntArray
    weights: FloatArray

    @property
    def first(self) -> IntArray:
        """``(P,)`` expert with the highest score, -1 where nobody answers."""
        return self.experts[:, 0]


def route(
    scores: FloatArray,
    chosen: IntArray,
    *,
    allowed: BoolArray | None = None,
    costs: FloatArray | None = None,
    logits: FloatArray | None = None,
    k: int = 1,
) -> Routing:
    """Route every prompt to the k best of the chosen experts.

    Parameters
    ----------
    scores
        ``(P, N)`` estimated probabilities of a correct answer.
    chosen
        Deployed experts.
    allowed
        ``(P, N)`` whether an expert may answer the prompt (it meets the deadline); default all.
    costs
        ``(N,)`` or ``(P, N)``: equal scores go to the lower cost, then to the lower index.
    logits
        ``(P, N)`` gating values whose softmax gives the weights; default the log-odds of the
        scores.
    k
        How many experts answer; all the chosen ones when there are fewer.

    Raises
    ------
    InputError
        When k is below 1 or nothing is chosen.
    """
    chosen = np.asarray(chosen, dtype=np.int64)
    if k < 1 or not len(chosen):
        raise InputError(f"routing: k = {k} of {len(chosen)} deployed experts")
    part = scores[:, chosen]
    open_to = np.ones(part.shape, dtype=bool) if allowed is None else allowed[:, chosen]
    price = np.zeros(part.shape)
    if costs is not None:
        price = np.broadcast_to(costs, scores.shape)[:, chosen]
    masked = np.where(open_to, part, -np.inf)
    order = np.lexsort((np.broadcast_to(chosen, part.shape), price, -masked))[:, :k]
    kept = np.take_along_axis(open_to, order, axis=1)
    gating = log_odds(part) if logits is None else logits[:, chosen]
    values = np.where(kept, np.take_along_axis(gating, order, axis=1), -np.inf)
    return Routing(np.where(kept, chosen[order], -1), softmax(values))


def log_odds(chances: FloatArray) -> FloatArray:
    """Return ``log(q / (1 - q))``, kept finite."""
    inside = np.clip(chances, 1e-9, 1 - 1e-9)
    odds: FloatArray = np.log(inside) - np.log1p(-inside)
    return odds


def vote(answers: IntArray, routing: Routing) -> IntArray:
    """Return the ``(P,)`` expert whose answer wins the weighted vote, -1 where nobody answers.

    Parameters
    ----------
    answers
        ``(P, N)`` number of the answer that each expert gives, negative where it gives none.
    routing
        Who votes, and with which weight. A tie goes to the answer of the higher-rated expert.
    """
    prompts = np.arange(len(answers))[:, None]
    given = np.where(routing.experts >= 0, answers[prompts, np.maximum(routing.experts, 0)], -1)
    same = (given[:, :, None] == given[:, None, :]) & (given >= 0)[:, None, :]
    support = np.where(given >= 0, (same * routing.weights[:, None, :]).sum(axis=2), -1.0)
    # A rounded sum must not break a tie that is exact on paper.
    winner = np.argmax(np.round(support, 12), axis=1)
    winners: IntArray = routing.experts[np.arange(len(answers)), winner]
    return winners


def pooled(probabilities: FloatArray, routing: Routing) -> FloatArray:
    """Return the ``(P, A)`` weighted mean of the routed experts' answer probabilities.

    Parameters
    ----------
    probabilities
        ``(P, N, A)`` probability that each expert gives to each of A options.
    routing
        Who takes part, and with which weight.
    """
    prompts = np.arange(len(probabilities))[:, None]
    asked = probabilities[prompts, np.maximum(routing.experts, 0)]
    mixture: FloatArray = (asked * routing.weights[:, :, None]).sum(axis=1)
    return mixture


def majority_score(score: FloatArray, routing: Routing) -> FloatArray:
    """Return ``(P,)`` 1 where correct answers hold more than half of the weight, else 0.

    For use where the answers themselves are unknown: exact for two options, otherwise a lower
    bound, since wrong answers that differ from each other may lose to fewer correct ones. NaN
    where no routed expert was run.
    """
    prompts = np.arange(len(score))[:, None]
    right = np.where(routing.experts >= 0, score[prompts, np.maximum(routing.experts, 0)], np.nan)
    known = ~np.isnan(right)
    weight = np.where(known, routing.weights, 0.0)
    total = weight.sum(axis=1)
    share = (weight * np.nan_to_num(right)).sum(axis=1)
    won = (share > total / 2 * (1 + 1e-12)).astype(np.float64)
    return np.where(total > 0, won, np.nan)


def softmax(values: FloatArray) -> FloatArray:
    """Return weights along the rows that sum to 1; 0 for ``-inf``, and where all of them are."""
    top = values.max(axis=1, keepdims=True, initial=-np.inf)
    raised = np.exp(values - np.where(np.isfinite(top), top, 0.0))
    total = raised.sum(axis=1, keepdims=True)
    weights: FloatArray = np.divide(raised, total, out=np.zeros_like(raised), where=total > 0)
    return weights
