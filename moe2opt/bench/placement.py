"""Placement of the experts of GLM-5.2: 3 tiers x 4 precisions each, 3 budgets.

Routing shares and saliencies are the published statistics of 75 layers x 256 experts. Everything
else is a declared model, not a measurement: an expert of `PARAMS` weights, tiers with the read
rates of a GPU, of host memory and of an SSD, and a loss proportional to the share of saliency
times the squared rounding error of a precision. It serves to time solvers, not to plan.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moe2opt.bench.cases import Built, data_file
from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.result import FloatArray

#: Experts of GLM-5.2 that the statistics cover, and how many of a layer's serve one token.
LAYERS, EXPERTS, TOP_K = 75, 256, 8

#: Assumed weights of one expert.
PARAMS = 37.7e6

#: Assumed read rates of the tiers in GB/s: GPU memory, host memory, SSD.
TIERS_GB_PER_S = (1000.0, 60.0, 6.0)

#: Bits per weight on offer, and the relative squared error that rounding to them costs.
BITS = (16.0, 8.5, 4.8, 2.6)
ERROR = (0.0, 2.0**-14, 2.0**-7, 2.0**-3)

#: Level -> shares of the total 16-bit size in the first and second tier, and of the largest loss.
#: ``scarce`` and ``ample`` go beyond ``tight`` and ``loose``; ``faithful`` allows next to no loss;
#: ``uneven`` has a small first and a large second tier.
LEVELS = {
    "tight": (0.04, 0.12, 0.10),
    "medium": (0.10, 0.30, 0.05),
    "loose": (0.25, 0.50, 0.02),
    "scarce": (0.01, 0.03, 0.30),
    "ample": (0.50, 0.90, 0.005),
    "faithful": (0.10, 0.30, 0.00001),
    "uneven": (0.02, 0.60, 0.05),
}


def build_placement(arguments: dict[str, Any], data: Path | None) -> Built:
    """Follow the recipe ``placement``: arguments are ``layers`` (a count) and ``level``."""
    path = data_file(data, "moe_traces", "glm52", "glm52_expert_stats.parquet")
    share, saliency = _statistics(path, arguments["layers"])
    problem = placement(share, saliency, *LEVELS[arguments["level"]])
    return Built(problem, note="tiers, sizes and losses are assumed; shares are measured")


def placement(
    share: FloatArray, saliency: FloatArray, first: float, second: float, loss: float
) -> MultipleChoiceProblem:
    """Return the problem: most microseconds saved per token against the slowest tier at 16 bits.

    Parameters
    ----------
    share
        ``(G,)`` selections per token of each expert.
    saliency
        ``(G,)`` importance of each expert.
    first, second
        Capacity of the two fast tiers as a share of the size of all experts at 16 bits.
    loss
        Loss allowed, as a share of the loss of the coarsest precision everywhere.
    """
    bits = np.array(BITS)
    megabytes = PARAMS * bits / 8 / 1e6
    seconds = megabytes[None, :] / 1e3 / np.array(TIERS_GB_PER_S)[:, None]
    saved_us = (seconds[-1, 0] - seconds).reshape(-1) * 1e6
    held = np.zeros((len(TIERS_GB_PER_S), len(bits), 2))
    held[0, :, 0] = held[1, :, 1] = megabytes
    size = held.reshape(-1, 2)
    error = np.tile(np.array(ERROR), len(TIERS_GB_PER_S))
    importance = saliency / saliency.sum()
    usage = [np.column_stack([size, s * error]) for s in importance]
    whole = len(share) * megabytes[0]
    budgets = np.array([first * whole, second * whole, loss * max(ERROR)])
    return MultipleChoiceProblem([s * saved_us for s in share], usage, budgets)


def _statistics(path: Path, layers: int) -> tuple[FloatArray, FloatArray]:
    """Return selections per token and saliency of every expert of the first `layers` layers."""
    table = pd.read_parquet(path)
    table = table[table["domain"] == "all"].sort_values(["layer", "expert"])
    count = table["cnt"].to_numpy(dtype=np.float64)[: layers * EXPERTS]
    saliency = table["sal"].to_numpy(dtype=np.float64)[: layers * EXPERTS]
    return TOP_K * layers * count / count.sum(), saliency
