"""HOBBIT's rule for misses (arXiv 2411.01433, eq. 2): full precision, low precision, or skip.

The importance of an expert is judged by the gate weight of the experts before it: nothing for the
first, which is always wanted in full; the more weight the others carry already, the less precise it
may be. The rule is asked on a miss only: a resident serves whatever its class, the copy in full
before the low one. (That a full copy serves every class, and that a skipped expert counts as not
used, is ours.)
"""

from __future__ import annotations

import numpy as np

from moe2opt.caching.settings import TokenSettings
from moe2opt.caching.trace import ByteArray, ExpertTrace
from moe2opt.result import FloatArray, InputError

#: Classes of a wanted expert, and of one that is not wanted at all.
FULL, LOW, SKIP, UNWANTED = range(4)

#: Sums of weights within this of a threshold count as equal to it.
_SLACK = 1e-9


def weight_before(trace: ExpertTrace) -> FloatArray:
    """Return the ``(tokens, L, k)`` gate weight of the experts before each in rank (eq. 2).

    Raises
    ------
    InputError
        When the trace has no gate weights.
    """
    if trace.gates is None:
        raise InputError(f"{trace.name} has no gate weights")
    before = np.zeros(trace.gates.shape)
    np.cumsum(trace.gates[:, :, :-1], axis=2, out=before[:, :, 1:])
    return before


def classes_by_thresholds(before: FloatArray, full: float, low: float) -> ByteArray:
    """Return the classes: in full up to T1 = `full`, low precision up to T2 = `low`, else skip.

    Both thresholds can only add: with T1 > T2 nothing is loaded at low precision, and what is
    behind T1 is skipped.
    """
    classes = np.full(before.shape, SKIP, dtype=np.uint8)
    classes[before <= low + _SLACK] = LOW
    classes[before <= full + _SLACK] = FULL
    classes[..., 0] = FULL
    return classes


def importance_classes(trace: ExpertTrace, settings: TokenSettings) -> ByteArray:
    """Return the ``(tokens, L, k)`` classes of a trace under the settings' thresholds."""
    return classes_by_thresholds(weight_before(trace), *settings.thresholds)


def class_shares(classes: ByteArray) -> dict[str, float]:
    """Return the share of wanted experts in full, at low precision, and skipped if missing."""
    counts = np.bincount(classes.ravel(), minlength=4)[:3]
    names = ("full", "low", "skip")
    return dict(zip(names, (counts / max(1, counts.sum())).tolist(), strict=True))
