"""The networks that a gate is chosen from: constants, a table of categories, regressions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from moe2opt.result import FloatArray
from moe2opt.selection.gate.calibrate import sigmoid
from moe2opt.selection.gate.features import CATEGORY_SCALE
from moe2opt.selection.gate.losses import Data
from moe2opt.selection.gate.model import Network, linear

#: Inverse strengths of the penalty on weights that are tried, strongest penalty first.
STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)

#: Prompts that the prior of a table of categories counts, most first.
PRIORS = (100.0, 10.0)

#: Shares of what a regression says beyond the table that are tried.
_SHARES = (0.5, 1.0)

#: Inverse strength of the penalty of the shared difficulty, and the size of it as a feature.
_SHARED_STRENGTH = 0.05
_SHARED_SCALE = 5.0

#: Newton steps and halvings of one at most, and the decrement at which a fit is done.
_STEPS, _HALVINGS, _DONE = 50, 30, 1e-10

#: Names of the three kinds of networks.
SINGLE, TABLE, LINEAR = "best single LLM", "category table", "linear"


def simple_networks(data: Data, categories: int) -> Iterator[tuple[str, Network]]:
    """Yield the networks that look at no text: every LLM's mean, and its means by category.

    Parameters
    ----------
    data
        What they learn from; the last `categories` inputs are one-hot.
    """
    overall = (np.nansum(data.score, axis=0) + 0.5) / (_runs(data.score) + 1.0)
    nothing = np.zeros((data.inputs.shape[1], data.models))
    yield SINGLE, linear(nothing, _log_odds(overall))
    if not categories:
        return
    member = (data.inputs[:, -categories:] > 0).astype(np.float64)
    runs, totals = member.T @ ~np.isnan(data.score), member.T @ np.nan_to_num(data.score)
    # How much harder than others a category is shows in all LLMs together.
    harder = _log_odds((totals.sum(axis=1) + 0.5) / (runs.sum(axis=1) + 1.0))
    level = _log_odds(np.array((totals.sum() + 0.5) / (runs.sum() + 1.0)))
    prior = sigmoid(_log_odds(overall) + harder[:, None] - level)
    for count in PRIORS:
        weight = nothing.copy()
        table = _log_odds((totals + count * prior) / (runs + count))
        weight[-categories:] = (table - _log_odds(overall)) / CATEGORY_SCALE
        yield f"{TABLE}, prior of {count:g} prompts", linear(weight, _log_odds(overall))


def linear_networks(data: Data, categories: int) -> Iterator[tuple[str, Network]]:
    """Yield `simple_networks`, then logistic regressions of all strengths, the simplest first.

    Each regression comes alone and halfway from the table.
    """
    table = linear(np.zeros((0, 0)), np.zeros(0))
    for name, table in simple_networks(data, categories):
        yield name, table
    shared, level = _shared(data)
    inputs = np.column_stack([data.inputs, _SHARED_SCALE * (data.inputs @ shared + level)])
    start: list[FloatArray | None] = [None] * data.models
    for strength in STRENGTHS:
        start = [logistic(inputs, data.score[:, m], strength, start[m]) for m in range(data.models)]
        fitted = np.stack([np.asarray(column) for column in start], axis=1)
        share = _SHARED_SCALE * fitted[-2]
        weight, bias = fitted[:-2] + np.outer(shared, share), fitted[-1] + level * share
        for part in _SHARES:
            mixed = linear(
                part * weight + (1 - part) * table.weight, part * bias + (1 - part) * table.bias
            )
            halfway = "" if part == 1 else f", {part:.0%} of it"
            yield f"{LINEAR}, penalty 1/{strength:g}{halfway}", mixed


def logistic(
    inputs: FloatArray, score: FloatArray, strength: float, start: FloatArray | None = None
) -> FloatArray:
    r"""Return the ``(D + 1,)`` weights and offset of a logistic regression, by Newton's method.

    It minimises :math:`C \sum_p \ell(y_p, z_p) + \|w\|^2 / 2`; a score between 0 and 1 counts as so
    much of a right and so much of a wrong answer, NaN not at all. The offset is not penalised.
    """
    seen = ~np.isnan(score)
    rows, y = np.column_stack([inputs[seen], np.ones(seen.sum())]), score[seen]
    rate = (y.sum() + 0.5) / (len(y) + 1.0)
    flat = np.zeros(rows.shape[1])
    flat[-1] = np.log(rate / (1 - rate))
    if not 0 < y.sum() < len(y):
        # Always right or always wrong (or never run): no direction to learn.
        return flat
    penalty = np.append(np.ones(inputs.shape[1]), 0.0)

    def loss(at: FloatArray) -> float:
        z = rows @ at
        own = strength * (np.logaddexp(0.0, z) - y * z).sum()
        return float(own + (penalty * at**2).sum() / 2)

    at = flat if start is None else start
    value = loss(at)
    for _ in range(_STEPS):
        chance = sigmoid(rows @ at)
        gradient = strength * (rows.T @ (chance - y)) + penalty * at
        curvature = strength * (rows.T * (chance * (1 - chance))) @ rows + np.diag(penalty)
        move = np.linalg.solve(curvature, gradient)
        decrement = float(gradient @ move)
        if decrement < _DONE:
            break
        for _ in range(_HALVINGS):
            moved = loss(at - move)
            if moved <= value - 1e-4 * decrement:
                break
            move, decrement = move / 2, decrement / 2
        else:
            break
        at, value = at - move, moved
    return at


def _shared(data: Data) -> tuple[FloatArray, float]:
    """Fit how hard a prompt is for the LLMs on average.

    LLMs agree on what is hard far more than they differ. With this as a feature of its own, hardly
    penalised, the penalty on all other weights falls on what tells the LLMs apart.
    """
    some = ~np.isnan(data.score).all(axis=1)
    fitted = logistic(data.inputs[some], np.nanmean(data.score[some], axis=1), _SHARED_STRENGTH)
    return fitted[:-1], float(fitted[-1])


def _runs(score: FloatArray) -> FloatArray:
    return np.asarray((~np.isnan(score)).sum(axis=0), dtype=np.float64)


def _log_odds(chances: FloatArray) -> FloatArray:
    inside = np.clip(chances, 1e-4, 1 - 1e-4)
    odds: FloatArray = np.log(inside) - np.log1p(-inside)
    return odds
