"""What routing by prices trades: the scores and costs of all experts on some prompts."""

from __future__ import annotations

import numpy as np

from moe2opt.result import FloatArray, IntArray
from moe2opt.selection.gated import GatedCase
from moe2opt.selection.routing.prices import Market


def market_of(instance: GatedCase, prompts: IntArray) -> Market:
    """Return scores, expected joules and expected seconds of all experts on some prompts."""
    category = instance.outcomes.category_of[prompts]
    return Market(
        values=instance.expert_scores[prompts],
        costs=np.stack([instance.energy_j[category], instance.delay_s[category]]),
        limits=np.full(2, np.inf),
        allowed=instance.may_serve[prompts],
    )


def limited(market: Market, limits: FloatArray) -> Market:
    """Return the market with the finite ones of the budgets for joules and seconds."""
    kept = np.flatnonzero(np.isfinite(limits))
    return Market(market.values, market.costs[kept], limits[kept], market.allowed)
