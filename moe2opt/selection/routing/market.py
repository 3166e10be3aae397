"""What routing by prices trades: the scores and costs of all experts on some prompts."""

from __future__ import annotations

import numpy as np

from moe2opt.result import FloatArray, IntArray
from moe2opt.selection.gated import GatedCase
from moe2opt.selection.routing.prices import Market


def market_of(instance: GatedCase, prompts: IntArray) -> Market:
    """Return scores of all experts on some prompts, and their expected joules, seconds, money."""
    category = instance.outcomes.category_of[prompts]
    money = np.zeros_like(instance.energy_j) if instance.price is None else instance.price
    return Market(
        values=instance.expert_scores[prompts],
        costs=np.stack([m[category] for m in (instance.energy_j, instance.delay_s, money)]),
        limits=np.full(3, np.inf),
        allowed=instance.may_serve[prompts],
    )


def limited(market: Market, limits: FloatArray) -> Market:
    """Return the market with the finite ones of the budgets for joules, seconds and money."""
    kept = np.flatnonzero(np.isfinite(limits))
    return Market(market.values, market.costs[kept], limits[kept], market.allowed)
