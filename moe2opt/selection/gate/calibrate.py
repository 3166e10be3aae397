r"""Calibration: from logits to probabilities, fitted on prompts the gate did not learn from.

``platt`` gives all LLMs one :math:`\sigma(a z_n + b)`, or each its own :math:`a_n, b_n` drawn to
the common ones where routing gains by that beyond noise; ``temperature`` one :math:`\sigma(z_n/T)`;
``isotonic`` one non-decreasing step function, linear between its steps. But for the lines of single
LLMs, none of them changes who is rated highest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from moe2opt.result import FloatArray, InputError
from moe2opt.selection.gate.measures import routed_scores, simplest
from moe2opt.selection.gate.settings import Calibration

#: Probabilities are kept this far from 0 and 1.
_MARGIN = 1e-4

#: Strength, in prompts, of the pull of each LLM's line towards the common one. The validation part
#: is small, and offsets fitted to it alone would disturb the ranking that routing lives by.
_PULL = 100.0

#: Share of the logistic function in a step function, which keeps the order within a step.
_SLOPE = 1e-3

#: Standard errors by which lines of single LLMs must route better than the common one. They are
#: judged on the prompts that they were fitted to, so they look a little better than they are.
_BEYOND = 3.0

#: Slope and offset of a line.
Line = tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Calibrator:
    """A fitted calibration.

    Attributes
    ----------
    kind
        ``platt``, ``temperature``, ``isotonic`` or ``none``.
    slope, offset
        ``(M,)`` of ``platt``, ``(1,)`` of ``temperature`` and ``none``.
    knots, values, counts
        Steps of ``isotonic``: all abscissas and ordinates in one row, and how many each LLM has.
    """

    kind: Calibration
    slope: FloatArray
    offset: FloatArray
    knots: FloatArray
    values: FloatArray
    counts: FloatArray

    @classmethod
    def of(cls, kind: Calibration, tensors: dict[str, FloatArray]) -> Calibrator:
        """Rebuild from `tensors`."""
        if kind not in ("platt", "temperature", "isotonic", "none"):
            raise ValueError(f"calibration '{kind}' is not known")
        return cls(kind, **tensors)

    def tensors(self) -> dict[str, FloatArray]:
        """Return the arrays that `of` reads."""
        names = ("slope", "offset", "knots", "values", "counts")
        return {name: getattr(self, name) for name in names}

    def fault(self, models: int) -> str:
        """Return what keeps the arrays from serving that many LLMs; empty when nothing does."""
        if self.kind == "isotonic":
            steps = int(self.counts.sum())
            whole = len(self.counts) == models and len(self.knots) == len(self.values) == steps
            return "" if whole else f"counts: {len(self.counts)} LLMs, {steps} steps"
        for name in ("slope", "offset"):
            size = len(getattr(self, name))
            if size not in (1, models):
                return f"{name}: {size} entries for {models} LLMs"
        return ""

    def __call__(self, logits: FloatArray) -> FloatArray:
        """Return ``(P, M)`` probabilities."""
        if self.kind == "isotonic":
            chances = self._steps(logits)
        else:
            chances = sigmoid(logits * self.slope + self.offset)
        return np.clip(chances, _MARGIN, 1 - _MARGIN)

    def _steps(self, logits: FloatArray) -> FloatArray:
        ends = np.cumsum(self.counts).astype(np.int64)
        chances = np.empty_like(logits)
        for m, (first, last) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            part = slice(first, last)
            chances[:, m] = np.interp(logits[:, m], self.knots[part], self.values[part])
        # Within a step the higher logit stays the higher chance.
        return (1 - _SLOPE) * chances + _SLOPE * sigmoid(logits)


def sigmoid(values: FloatArray) -> FloatArray:
    """Return the logistic function without overflow."""
    exponential = np.exp(-np.abs(values))
    return np.where(values >= 0, 1.0, exponential) / (1.0 + exponential)


def fit_calibrator(kind: Calibration, logits: FloatArray, score: FloatArray) -> Calibrator:
    """Fit a calibration.

    Parameters
    ----------
    kind
        Which one.
    logits, score
        ``(P, M)`` of the validation prompts; NaN scores are left out.

    Raises
    ------
    InputError
        When there is no outcome to fit to.
    """
    none = np.zeros(0)
    if kind != "none" and not (~np.isnan(score)).any():
        raise InputError("gate.calibration: the validation part holds no outcome")
    if kind == "isotonic":
        return _isotonic(logits, score)
    slope, offset = np.ones(1), np.zeros(1)
    if kind == "temperature":
        slope = np.array([_line(logits.ravel(), score.ravel(), level=False)[0]])
    if kind == "platt":
        common = _line(logits.ravel(), score.ravel())
        lines = [_line(z, y, common, _PULL) for z, y in zip(logits.T, score.T, strict=True)]
        own = tuple(np.array(part) for part in zip(*lines, strict=True))
        routed = [routed_scores(logits * a + b, score, 0) for a, b in (common, own)]
        slope, offset = (np.array([part]) for part in common)
        if simplest(np.array(routed), _BEYOND):
            slope, offset = own
    return Calibrator(kind, slope, offset, none, none, none)


def _line(
    logits: FloatArray,
    score: FloatArray,
    centre: Line = (1.0, 0.0),
    pull: float = 1.0,
    *,
    level: bool = True,
) -> Line:
    """Return the slope (not negative) and offset with the least penalised cross-entropy.

    The penalty is that of a normal prior around `centre`; without `level` the offset is 0.
    """
    from scipy import optimize

    seen = ~np.isnan(score)
    z, y = logits[seen], score[seen]

    def loss(line: FloatArray) -> tuple[float, FloatArray]:
        values = line[0] * z + line[1]
        away = line - centre
        error = sigmoid(values) - y
        total = (np.logaddexp(0.0, values) - y * values).sum() + pull / 2 * (away**2).sum()
        return float(total), np.array([error @ z, error.sum()]) + pull * away

    minimize: Any = optimize.minimize
    bounds = [(0.0, None), (None, None) if level else (0.0, 0.0)]
    found = minimize(loss, np.array(centre), jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(found[0]), float(found[1])


def _isotonic(logits: FloatArray, score: FloatArray) -> Calibrator:
    from sklearn.isotonic import IsotonicRegression

    seen = ~np.isnan(score)
    fitted = IsotonicRegression(out_of_bounds="clip").fit(logits[seen], score[seen])
    models, steps = logits.shape[1], len(fitted.X_thresholds_)
    one = (np.ones(1), np.zeros(1))
    knots, values = (np.tile(part, models) for part in (fitted.X_thresholds_, fitted.y_thresholds_))
    return Calibrator("isotonic", *one, knots, values, np.full(models, float(steps)))
