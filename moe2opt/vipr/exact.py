"""Exact numbers: limits as the comparison of rounded sums means them, and shorter multipliers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from moe2opt.certify.exact import Dyadic
from moe2opt.result import FloatArray


def exact_limits(costs: FloatArray, limits: FloatArray) -> list[Fraction]:
    """Return limits such that an exact sum meets them if and only if its rounded value fits.

    A budget is compared with the correctly rounded sum, which also accepts sums up to half a unit
    in the last place above the limit (that half itself if it rounds down, to the even neighbour).
    """
    return [_exact_limit(row, float(limit)) for row, limit in zip(costs, limits, strict=True)]


def _exact_limit(row: FloatArray, limit: float) -> Fraction:
    step = Fraction(1, 2 ** Dyadic.of(row).shift)
    middle = (Fraction(limit) + Fraction(math.nextafter(limit, math.inf))) / 2
    rounds_down = float(middle) == limit
    return (math.floor(middle / step) if rounds_down else math.ceil(middle / step) - 1) * step


def shortened(values: FloatArray, bits: int | None) -> FloatArray:
    """Return floats rounded to `bits` significant binary digits."""
    if bits is None:
        return values
    mantissa, exponent = np.frexp(values)
    rounded: FloatArray = np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits)
    return rounded


def unit(size: int, index: int) -> FloatArray:
    """Return a unit vector; an index outside raises IndexError."""
    if not 0 <= index < size:
        raise IndexError(index)
    vector = np.zeros(size)
    vector[index] = 1.0
    return vector


def as_fractions(values: Sequence[float] | FloatArray) -> list[Fraction]:
    """Return floats exactly."""
    return [Fraction(float(v)) for v in values]
