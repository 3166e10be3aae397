"""How the laws draw their instances: few in the quick suite, thousands in the slow one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from zlib import crc32

import pytest
from draws import share_of
from hypothesis import given, seed, settings
from strategies import choice_problems, facility_problems, monotone_problems, problems

FAMILIES = {
    "facility": facility_problems(),
    "choice": choice_problems(),
    "monotone": monotone_problems(),
    "any": problems(),
}

FAMILY = pytest.mark.parametrize("family", ["facility", "choice", "monotone"])
LINEAR_FAMILY = pytest.mark.parametrize("family", ["facility", "choice"])


def examples(quick: int, slow: int, shards: int = 1) -> Any:
    """Parametrise a law by count and shard: one quick draw, and `shards` slow ones."""
    count = max(quick, share_of(slow) // shards)
    parts = [
        pytest.param(count, shard, marks=pytest.mark.slow, id=f"slow{shard}")
        for shard in range(1, shards + 1)
    ]
    return pytest.mark.parametrize(("count", "shard"), [pytest.param(quick, 0, id="quick"), *parts])


def for_all(strategy: Any, count: int, shard: int, law: Callable[..., None]) -> None:
    """Check `law` on `count` draws; fixed draws unless the profile asks for new ones."""

    @settings(max_examples=count)
    @given(strategy)
    def holds(drawn: Any) -> None:
        law(*drawn) if isinstance(drawn, tuple) else law(drawn)

    if settings.default is not None and settings.default.derandomize:
        holds = seed(crc32(f"{law.__qualname__} {shard}".encode()))(holds)
    holds()
