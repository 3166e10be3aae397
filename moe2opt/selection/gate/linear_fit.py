"""A linear gate without torch: scikit-learn's logistic regression, and L-BFGS for the softmax.

The regularisation is what early stopping is to a network: it is chosen on the validation part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from moe2opt.result import FloatArray, InputError
from moe2opt.selection.gate.losses import Data, sigmoid_loss, softmax_loss
from moe2opt.selection.gate.model import Network, linear, log_sum_exp
from moe2opt.selection.gate.settings import GateSettings

#: Inverse strengths of the penalty on weights that are tried.
STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)

#: Inverse strength of the penalty of the shared difficulty, and the size of it as a feature.
_SHARED_STRENGTH = 0.05
_SHARED_SCALE = 5.0

#: Random deployments over which a routed score is averaged.
_DEPLOYMENTS = 30

_ITERATIONS = 300

Step = Callable[[str], None]


def fit_linear(
    train: Data, validation: Data, settings: GateSettings, on_step: Step
) -> tuple[Network, dict[str, Any]]:
    """Fit a linear network for each strength and keep one of them by the validation part.

    The log-loss is mostly about how hard a prompt is, routing only about which LLM is better at it.
    So strengths are compared by what routing with them scores, and the strongest penalty that is
    not worse than the best by more than one standard error is kept.

    Returns
    -------
    network, record
        The network, and the validation loss and routed score of each strength.
    """
    loss_of = sigmoid_loss if settings.head == "sigmoid" else softmax_loss
    fit = _logistic if settings.head == "sigmoid" else _softmax
    networks, losses, routed = [], [], []
    for strength in STRENGTHS:
        networks.append(fit(train, strength))
        logits = networks[-1](validation.inputs)
        losses.append(loss_of(logits, validation.score))
        routed.append(routed_scores(logits, validation.score, settings.seed))
        on_step(f"penalty 1/{strength:g}: validation loss {losses[-1]:.4f}")
    chosen = simplest(np.array(routed))
    return networks[chosen], {
        "strength": STRENGTHS[chosen],
        "validation_loss": {f"{s:g}": v for s, v in zip(STRENGTHS, losses, strict=True)},
        "routed_score": {f"{s:g}": float(v.mean()) for s, v in zip(STRENGTHS, routed, strict=True)},
    }


def routed_scores(logits: FloatArray, score: FloatArray, seed: int) -> FloatArray:
    """Return the ``(P,)`` mean score of routed answers over random deployments.

    A third of the LLMs is deployed each time, since nobody knows yet which ones will be.
    """
    rng = np.random.default_rng(seed)
    models, prompts = logits.shape[1], np.arange(len(logits))
    size = max(1, min(models, max(2, models // 3)))
    total = np.zeros(len(logits))
    for _ in range(_DEPLOYMENTS):
        chosen = rng.choice(models, size, replace=False)
        masked = np.where(np.isnan(score[:, chosen]), -np.inf, logits[:, chosen])
        total += np.nan_to_num(score[prompts, chosen[masked.argmax(axis=1)]])
    return total / _DEPLOYMENTS


def simplest(routed: FloatArray) -> int:
    """Return the first row whose mean is within one standard error of the best row's.

    Parameters
    ----------
    routed
        ``(strengths, P)`` scores, strongest penalty first; the standard error is the paired one.
    """
    best = routed[int(routed.mean(axis=1).argmax())]
    short = best - routed
    error = short.std(axis=1) / np.sqrt(max(1, routed.shape[1]))
    return int(np.argmax(short.mean(axis=1) <= error))


def _logistic(train: Data, strength: float) -> Network:
    """Fit every LLM on the prompts it was run on, with the shared difficulty as a feature."""
    shared, level = _shared(train)
    inputs = np.column_stack([train.inputs, _SHARED_SCALE * (train.inputs @ shared + level)])
    columns = [_one(inputs, train.score[:, m], strength) for m in range(train.models)]
    weight = np.stack([w for w, _ in columns], axis=1)
    bias = np.array([b for _, b in columns])
    share = _SHARED_SCALE * weight[-1]
    return linear(weight[:-1] + np.outer(shared, share), bias + level * share)


def _shared(train: Data) -> tuple[FloatArray, float]:
    """Fit how hard a prompt is for the LLMs on average.

    LLMs agree on what is hard far more than they differ. With this as a feature of its own, hardly
    penalised, the penalty on all other weights falls on what tells the LLMs apart.
    """
    some = ~np.isnan(train.score).all(axis=1)
    means = np.nanmean(train.score[some], axis=1)
    return _one(train.inputs[some], means, _SHARED_STRENGTH)


def _one(inputs: FloatArray, score: FloatArray, strength: float) -> tuple[FloatArray, float]:
    try:
        from sklearn.linear_model import LogisticRegression
    except ModuleNotFoundError as error:
        raise InputError("gate.backend: scikit-learn is missing (pip install it)") from error
    seen = ~np.isnan(score)
    x, y = inputs[seen], score[seen]
    rate = (y.sum() + 0.5) / (len(y) + 1.0)
    if not 0 < y.sum() < len(y):
        # Always right or always wrong (or never run): no direction to learn.
        return np.zeros(inputs.shape[1]), float(np.log(rate / (1 - rate)))
    # A score between 0 and 1 counts as so much of a right and so much of a wrong answer.
    right, wrong = y > 0, y < 1
    model = LogisticRegression(C=strength, solver="newton-cholesky", max_iter=_ITERATIONS)
    model.fit(
        np.concatenate([x[right], x[wrong]]),
        np.repeat([1, 0], [right.sum(), wrong.sum()]),
        sample_weight=np.concatenate([y[right], 1 - y[wrong]]),
    )
    return model.coef_[0], float(model.intercept_[0])


def _softmax(train: Data, strength: float) -> Network:
    """Fit all LLMs together; the LLMs that were not run on a prompt are masked from its softmax."""
    from scipy import optimize

    targets, seen, rows = train.targets, ~np.isnan(train.score), train.inputs
    size, models = rows.shape[1], train.models
    shift = np.where(seen, 0.0, -np.inf)

    def loss(flat: FloatArray) -> tuple[float, FloatArray]:
        weight = flat.reshape(size + 1, models)
        logits = rows @ weight[:-1] + weight[-1] + shift
        log_p = logits - log_sum_exp(logits)
        total = -(targets * np.where(seen, log_p, 0.0)).sum()
        total += (weight[:-1] ** 2).sum() / (2 * strength)
        error = np.exp(log_p) - targets
        gradient = np.vstack([rows.T @ error + weight[:-1] / strength, error.sum(axis=0)])
        return float(total), gradient.ravel()

    minimize: Any = optimize.minimize
    options = {"maxiter": _ITERATIONS}
    start = np.zeros((size + 1) * models)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    weight = found.reshape(size + 1, models)
    return linear(weight[:-1], weight[-1])
