"""Numbers that break careless arithmetic, and budgets placed where they hurt."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from random import Random

#: Draws one non-negative number.
Palette = Callable[[], float]

_ODD = (
    *(0.0, 1.0, 2.0, 0.1, 0.2, 0.3, 0.1 + 0.2, 1 / 3, 2.5, 123456789.0, 1e6, 1e9, 1e12, 1e12 + 1),
    *(1e-9, 1e-12, 1e-300, 5e-324, 1e16, 2.0**53, 2.0**53 - 1, 2.0**53 + 2),
)
_WHOLE = (2.0**31 - 1, 2.0**31, 2.0**32, 3.0**20, 1e9, 1e9 + 1, 2e9, 1e12, 2.0**52 + 1, 2.0**53 - 1)
_BEYOND = (2.0**53, 2.0**53 + 2, 3 * 2.0**53, 1e16, 1e16 + 2, 2.0**60, 2.0**62, 2.0**63, 1e18)
_EXTREME = (0.0, 1.0, 1e200, 1e-200, 1e-300, 5e-324, 2.2250738585072014e-308, 1e150, 1e279, 8e307)


def palette(rng: Random) -> Palette:
    """Return one of the ways to draw numbers; every array of an instance gets its own."""
    few = [10.0 ** rng.uniform(-12, 16) for _ in range(3)]
    big = rng.choice((1e9, 1e12, 1e15, 1e16))
    ways: list[Palette] = [
        lambda: float(rng.randrange(6)),
        lambda: float(rng.randrange(2)),
        lambda: rng.randrange(12) / 10,
        rng.random,
        lambda: rng.choice(_ODD),
        lambda: 10.0 ** rng.uniform(-12, 16),
        lambda: rng.choice(few),
        lambda: rng.choice((0.0, big, big + rng.random(), rng.random())),
        lambda: rng.choice(_WHOLE) + rng.randrange(3),
        lambda: rng.choice(_BEYOND),
        lambda: _near(float(rng.randrange(5)), rng),
        lambda: rng.randrange(7) / 7,
    ]
    if rng.random() < 0.03:
        return lambda: rng.choice(_EXTREME)
    return rng.choice(ways)


def _near(whole: float, rng: Random) -> float:
    """Return a number next to a whole one, never a negative one."""
    steps = (
        0.0,
        math.nextafter(whole, math.inf) - whole,
        math.nextafter(whole, -math.inf) - whole,
        *(1e-9, -1e-9, 1e-10, 1e-7, -1e-12),
    )
    return max(0.0, whole + rng.choice(steps))


def rounded_sum(terms: Sequence[float]) -> float:
    """Return the sum of floats, rounded once: a rational number turned into a float."""
    try:
        return float(sum(map(Fraction, terms), Fraction(0)))
    except OverflowError:
        return math.inf


def budget(rng: Random, possible: Sequence[float], total: float) -> float:
    """Return a limit for a row, now and then an infinite one, which is none.

    Parameters
    ----------
    possible
        The terms of one possible use, which the limit may meet exactly or just miss.
    total
        The largest possible use.
    """
    hit = rounded_sum(possible)
    slack = 1e-9 * max(1.0, abs(hit))
    ways = (
        lambda: hit,
        lambda: hit,
        lambda: sum(possible),
        lambda: math.nextafter(hit, -math.inf),
        lambda: math.nextafter(hit, math.inf),
        lambda: hit - slack * rng.choice((0.5, 1.0, 1.0000001, 2.0)),
        lambda: 0.0,
        lambda: total,
        lambda: rng.random() * total,
        lambda: float(rng.randrange(10)),
        lambda: max(possible, default=0.0),
        lambda: -1.0 if rng.random() < 0.2 else -0.0,
    )
    return math.inf if rng.random() < 0.02 else float(rng.choice(ways)())
