"""AdapMoE's sensitivity-based gating: leave out experts whose weight is small.

In the published code (PKU-SEC-Lab/AdapMoE, 2cfe8df; k = 2) the second expert of a token is dropped
where ``sensitivity * weight ** 2 < tau``. For more experts the rule here is ours: from the last
rank on, experts are dropped while the squared total weight of the dropped ones stays below that.
With k = 2 both are the same.
"""

from __future__ import annotations

import numpy as np

from moe2opt.caching.hobbit import FULL, UNWANTED
from moe2opt.caching.settings import TokenSettings
from moe2opt.caching.trace import ByteArray, ExpertTrace
from moe2opt.result import BoolArray, FloatArray, InputError


def gated_out(gates: FloatArray, tau: float, sensitivity: FloatArray) -> BoolArray:
    """Tell which experts are left out; never the first.

    Parameters
    ----------
    gates
        ``(tokens, L, k)`` weights of sum 1, falling along k.
    tau
        Threshold.
    sensitivity
        ``(L,)`` sensitivities of the layers.
    """
    tail = np.cumsum(gates[:, :, ::-1], axis=2)[:, :, ::-1]
    out = sensitivity[None, :, None] * tail**2 < tau
    out[:, :, 0] = False
    return np.asarray(out)


def dropped_by_gate(
    trace: ExpertTrace, settings: TokenSettings, classes: ByteArray | None = None
) -> ByteArray:
    """Return `classes` (all in full when None) with what the gate leaves out marked unwanted.

    Raises
    ------
    InputError
        When the trace has no gate weights.
    """
    if trace.gates is None:
        raise InputError(f"{trace.name} has no gate weights")
    weights = settings.sensitivity
    sensitivity = np.ones(trace.n_layers) if weights is None else np.array(weights)
    kept = np.full(trace.experts.shape, FULL, dtype=np.uint8) if classes is None else classes.copy()
    kept[gated_out(trace.gates, settings.tau, sensitivity)] = UNWANTED
    return kept
