"""Stored content is compared leaf by leaf, whatever it holds."""

from __future__ import annotations

import pytest

from moe2opt.differences import differences


@pytest.mark.parametrize("huge", [10**399, -(10**399)])
def test_integers_beyond_every_float_differ(huge: int) -> None:
    """A whole number that no float can hold is a difference, not an error."""
    for stored, rebuilt in ((huge, 0.5), (0.5, huge)):
        (line,) = differences({"a": stored}, {"a": rebuilt})
        assert line.startswith("a: stored ")
