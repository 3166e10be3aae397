"""Routers that are trained without any selection: nearest neighbours and ridge regression."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from moe2opt.result import FloatArray, IntArray
from moe2opt.selection.gate.measures import routed_scores
from moe2opt.selection.question import GatedInstance

#: Neighbours, and penalties of the ridge regression, that are tried on the validation part.
NEIGHBOURS = (10, 30, 100)
PENALTIES = (1e2, 1e3, 1e4, 1e5)

#: Learns from inputs and scores, and returns the scores of other inputs.
_Fit = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]


def trained_routers(instance: GatedInstance, prompts: IntArray) -> dict[str, FloatArray]:
    """Return ``(P, N)`` scores of both routers by their names; rows besides `prompts` are 0.

    Their parameter is chosen on the validation part by what routing over random deployments
    scores there; then they learn on the training and validation parts.
    """
    learn, check = (instance.split.members(name) for name in ("train", "validation"))
    pool = instance.pool
    inputs = instance.gate.features(pool.vectors, pool.category)
    # A score that is missing counts as the LLM's mean in the category.
    means = pool.category_means(pool.score, learn)[pool.category_of]
    score = np.where(np.isnan(pool.score), means, pool.score)
    both = np.concatenate([learn, check])
    found = {}
    for name, fits in (
        ("nearest-neighbour router", [_neighbours(k) for k in NEIGHBOURS]),
        ("ridge router", [_ridge(penalty) for penalty in PENALTIES]),
    ):
        tried = [
            routed_scores(fit(inputs[learn], score[learn], inputs[check]), pool.score[check], 0)
            for fit in fits
        ]
        fit = fits[int(np.argmax([values.mean() for values in tried]))]
        chances = np.zeros(score.shape)
        chances[prompts] = fit(inputs[both], score[both], inputs[prompts])
        found[name] = np.clip(chances, 0.0, 1.0)[:, instance.model_of] * instance.factors
    return found


def _neighbours(k: int) -> _Fit:
    def fit(inputs: FloatArray, score: FloatArray, asked: FloatArray) -> FloatArray:
        from sklearn.neighbors import KNeighborsRegressor

        model = KNeighborsRegressor(min(k, len(inputs)), algorithm="brute")
        return np.asarray(model.fit(inputs, score).predict(asked)).reshape(len(asked), -1)

    return fit


def _ridge(penalty: float) -> _Fit:
    def fit(inputs: FloatArray, score: FloatArray, asked: FloatArray) -> FloatArray:
        from sklearn.linear_model import Ridge

        return np.asarray(Ridge(penalty).fit(inputs, score).predict(asked)).reshape(len(asked), -1)

    return fit
