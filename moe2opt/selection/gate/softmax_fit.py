"""The softmax head without torch: L-BFGS, the penalty chosen on the validation part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from moe2opt.result import FloatArray
from moe2opt.selection.gate.losses import Data, softmax_loss
from moe2opt.selection.gate.measures import routed_scores, simplest
from moe2opt.selection.gate.model import Network, linear, log_sum_exp
from moe2opt.selection.gate.settings import GateSettings

#: Inverse strengths of the penalty on weights that are tried.
STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)

_ITERATIONS = 300

Step = Callable[[str], None]


def fit_softmax(
    train: Data, validation: Data, settings: GateSettings, on_step: Step
) -> tuple[Network, dict[str, Any]]:
    """Fit a linear network for each strength and keep one of them by the validation part.

    Strengths are compared by what routing with them scores; the strongest penalty that is not
    worse than the best by more than one standard error is kept.

    Returns
    -------
    network, record
        The network, and the validation loss and routed score of each strength.
    """
    networks, losses, routed = [], [], []
    for strength in STRENGTHS:
        networks.append(_softmax(train, strength))
        logits = networks[-1](validation.inputs)
        losses.append(softmax_loss(logits, validation.score))
        routed.append(routed_scores(logits, validation.score, settings.seed))
        on_step(f"penalty 1/{strength:g}: validation loss {losses[-1]:.4f}")
    chosen = simplest(np.array(routed))
    return networks[chosen], {
        "strength": STRENGTHS[chosen],
        "validation_loss": {f"{s:g}": v for s, v in zip(STRENGTHS, losses, strict=True)},
        "routed_score": {f"{s:g}": float(v.mean()) for s, v in zip(STRENGTHS, routed, strict=True)},
    }


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
