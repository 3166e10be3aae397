"""Logarithms with proven bounds: additions, products and quotients of whole numbers alone.

A float is ``m * 2**e`` with ``m`` in [1/2, 1), so that its logarithm is
``e ln 2 - 2 artanh((1 - m) / (1 + m))`` with ``ln 2 = 2 artanh(1/3)``. Every term of the series is
rounded down for a lower bound and up for an upper one; no library's logarithm is asked.
"""

from __future__ import annotations

import math
from functools import cache

#: Binary digits after the point in which the series is summed, and terms of it. With arguments up
#: to 1/3 what is left out is below the last digit.
_DIGITS, _TERMS = 112, 40

_MANTISSA = 2**53


def log_bounds(value: float, bits: int) -> tuple[int, int]:
    """Return whole numbers below and above ``2**bits`` times the natural logarithm.

    Parameters
    ----------
    value
        A positive finite float.
    bits
        At most 100; up to there the two bounds differ by 2 at most.
    """
    fraction, exponent = math.frexp(value)
    mantissa = int(fraction * _MANTISSA)
    below, above = _artanh(_MANTISSA - mantissa, _MANTISSA + mantissa)
    least, most = sorted(2 * exponent * bound for bound in _artanh(1, 3))
    low, high = least - 2 * above, most - 2 * below
    shift = _DIGITS - bits
    return low >> shift, -(-high >> shift)


@cache
def _artanh(numerator: int, denominator: int) -> tuple[int, int]:
    """Return bounds of ``2**_DIGITS artanh(numerator / denominator)``, which is at most 1/3."""
    term = (numerator << _DIGITS) // denominator
    square = (numerator**2 << _DIGITS) // denominator**2
    low = high = 0
    above, square_above = term + 1, square + 1
    for k in range(1, 2 * _TERMS, 2):
        low += term // k
        high += -(-above // k)
        term = term * square >> _DIGITS
        above = -(-above * square_above >> _DIGITS)
    # The rest is at most the next term times 1 + 1/9 + 1/81 + ...
    return low, high + 2 * above
