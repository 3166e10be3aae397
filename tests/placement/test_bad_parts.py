"""One clear message for tiers, models and parts that do not go together."""

from __future__ import annotations

from typing import Any

import pytest

from moe2opt.result import InputError

TIERS = [
    {"name": "fast", "kind": "gpu", "capacity_gib": 1, "compute_gb_per_s": 100},
    {"name": "slow", "kind": "cpu"},
]
LINK = {"between": ["fast", "slow"], "gb_per_s": 8}

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "reserved": (
        {"tiers": [{**TIERS[0], "capacity_gib": 0.001}, TIERS[1]], "links": [LINK]},
        r"tiers\.0\.capacity_gib: fast has 0\.00 GiB, but 0\.00 GiB are reserved",
    ),
    "unknown tier": (
        {"tiers": TIERS, "links": [{**LINK, "between": ["fast", "slwo"]}]},
        r"links\.0\.between: unknown tier 'slwo' \(tiers: fast, slow\)",
    ),
    "unknown home": ({"tiers": TIERS, "links": [LINK], "home": "gpu"}, "home: unknown tier 'gpu'"),
    "disconnected": ({"tiers": TIERS, "links": []}, "tier 'slow' is not connected"),
    "nothing computes": ({"tiers": [TIERS[1]], "links": []}, "nothing computes on any tier"),
    "too large": (
        {
            "tiers": [{**TIERS[0], "capacity_gib": 0.00385}, {**TIERS[1], "capacity_gib": 0.0002}],
            "links": [LINK],
        },
        "fits no tier; the largest has",
    ),
    "unknown model": ({"model": {"table": "tyo", "models": "models.csv"}}, "no model 'tyo'"),
    "unknown format": ({"precisions": [{"name": "q9"}]}, r"precisions\.0\.name: 'q9' is not in"),
    "no power": (
        {"tiers": TIERS, "links": [LINK], "objective": "joules_per_token"},
        "tier 'fast' has no power_w",
    ),
    "keep": (
        {"aggregation": {"keep": [1]}},
        r"aggregation\.keep\.0: 1 is outside 2\.\.6",
    ),
    "two parts": (
        {"cache": {"backing": "slow"}, "pattern": {"kind": "first"}},
        "pattern: cannot be combined with cache",
    ),
    "budget on objective": ({"budgets": {"seconds_per_token": 1}}, "it is the objective"),
    "robust": ({"activation": {"zipf": 1, "robust": True}}, "has a single domain"),
    "robust loss": (
        {"activation": {"zipf": 1, "robust": True}, "objective": "loss_nats", "budgets": {}},
        "needs the objective seconds_per_token",
    ),
    "batch": ({"batch": 2, "cache": {"backing": "slow"}}, "are those of single tokens"),
    "no hits": ({"cache": {"backing": "slow", "hits": "published"}}, "'published' need a table"),
    "no trace": ({"cache": {"backing": "slow", "hits": "lru"}}, "'lru' need a table, or an"),
    "slots": (
        {"cache": {"backing": "slow", "least": 5, "most": 2}},
        r"cache\.least: 5 slots, but a layer has 2 at most",
    ),
    "prune": (
        {"granularity": "layer", "prune": {"loss_nats": 1}},
        "prune: needs the granularity expert",
    ),
    "no context": ({"model": {"table": "nokv", "context_tokens": 5}}, "no model 'nokv'"),
    "outside": ({"activation": {"counts": "../x.csv"}}, "leaves the folder"),
    "coverage": ({"coverage": {"tier": "fast", "backing": "slow"}}, "needs activation.trace"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str, build: Any) -> None:
    """Each fault is one `InputError` that names the key and what to do."""
    changes, message = BAD[case]
    with pytest.raises(InputError, match=message):
        build(**changes).problem()
