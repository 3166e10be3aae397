"""What a use of an expert costs on the graph of tiers and links."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from moe2opt.placement.machine.topology import Link, Tier, Topology
from moe2opt.result import InputError


def test_cost_of_a_use_by_hand() -> None:
    """An expert is computed where moving weights, computing and moving activations is least."""
    fast = Tier("fast", "gpu", "pc", 1e9, compute_bytes_per_s=100e9, overhead_s=1e-6, power_w=100)
    slow = Tier("slow", "cpu", "pc", 1e9, compute_bytes_per_s=10e9, overhead_s=2e-6, power_w=50)
    disk = Tier("disk", "disk", "pc", 1e9)
    links = (Link("fast", "slow", 5e9, 3e-6, 1e-9), Link("slow", "disk", 1e9, 1e-4, 2e-9))
    use = Topology((fast, slow, disk), links, 0).use([1e6], hidden=1000)
    hand_over = 2 * (2000 / 5e9 + 3e-6)
    assert use.seconds[0, 0] == pytest.approx(1e6 / 100e9 + 1e-6)
    assert use.seconds[1, 0] == pytest.approx(1e6 / 10e9 + 2e-6 + hand_over)
    read = 1e6 / 1e9 + 1e-4
    assert use.seconds[2, 0] == pytest.approx(read + 1e6 / 10e9 + 2e-6 + hand_over)
    assert use.place.ravel().tolist() == [0, 1, 1]
    assert use.joules[1, 0] == pytest.approx(50 * (1e-4 + 2e-6) + 2 * 2000 * 1e-9)


def test_a_dense_part_that_needs_two_cards(build: Callable[..., Any]) -> None:
    """A dense part that one card cannot hold beside a second card names the way that splits it."""
    card = {"kind": "gpu", "capacity_gib": 0.001, "compute_gb_per_s": 100}
    ram = {"name": "ram", "kind": "cpu", "compute_gb_per_s": 10}
    links = [{"between": ["a", "b"], "gb_per_s": 5}, {"between": ["a", "ram"], "gb_per_s": 5}]
    cards = [{"name": "a", **card}, {"name": "b", **card}]
    with pytest.raises(InputError, match=r"reserved .*'b' takes experts only: `moe2opt place`"):
        build(tiers=[*cards, ram], links=links)
    with pytest.raises(InputError, match=r"\(dense part, context, margin\)$"):
        build(tiers=[cards[0], ram], links=links[1:])
