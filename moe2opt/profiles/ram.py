"""RAM by kind, and the rate at which decoding reads experts there.

A kind is ``ddr5-6000`` (two channels) or ``ddr4-3200x8`` (eight): transfers per second in 1e6,
times 8 bytes, times channels is the peak. Decoding attains `SHARE_OF_PEAK` of it, or
`SHARE_OF_RATE` of a rate that was measured, and every layer costs a hand-over of `HOP_S`. Source:
the published hosts of ``offload_hosts.csv``, fitted and cross-validated by source in
``docs/studies/offload_hosts.py``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from moe2opt.errors import InputError

#: Medians over published hosts, every source alike.
SHARE_OF_PEAK, SHARE_OF_RATE, HOP_S = 0.44, 0.85, 5e-5

#: Where nothing is known: two channels of DDR5-5600.
ASSUMED = "ddr5-5600"

#: Factor either way of the seconds in RAM: a source that was left out is inside nine times in ten.
SPREAD = 2.0

#: Factor either way of a prompt with experts in RAM: over published hosts, copies to a card run at
#: 8 to 37 GB/s (slots, drivers, pages that are locked or not) but for one host.
COPIED_SPREAD = 2.5

_KIND = re.compile(r"(?:lp)?ddr[345]x?-(\d{3,5})(?:x(\d{1,2}))?")


@dataclass(frozen=True, slots=True)
class RamRate:
    """How fast experts in RAM are read for one token.

    Attributes
    ----------
    bytes_per_s
        What decoding attains.
    words
        Where that comes from.
    """

    bytes_per_s: float
    words: str


def peak_gb_per_s(kind: str) -> float:
    """Return the peak of a kind of RAM in 1e9 bytes per second.

    Raises
    ------
    InputError
        For what is no kind of RAM.

    Examples
    --------
    >>> peak_gb_per_s("ddr5-6000"), peak_gb_per_s("ddr4-3200x8")
    (96.0, 204.8)
    """
    found = _KIND.fullmatch(kind.strip().lower())
    channels = int(found[2] or 2) if found else 0
    if found is None or channels == 0 or int(found[1]) == 0:
        raise InputError(
            f"'{kind}' is no kind of RAM such as ddr5-6000 (two channels) or ddr4-3200x8 (eight)"
        )
    return int(found[1]) * 8 * channels / 1000


def ram_rate(kind: str | None = None, gb_per_s: float | None = None) -> RamRate:
    """Return the rate of a kind of RAM, of a measured rate, or of the usual RAM.

    Parameters
    ----------
    kind
        Such as ``ddr5-6000``.
    gb_per_s
        Rate at which RAM was seen to be read, in 1e9 bytes per second; counts more than a kind.
    """
    if gb_per_s is not None:
        words = f"{SHARE_OF_RATE:.0%} of the {gb_per_s:g} GB/s at which it is read"
        return RamRate(SHARE_OF_RATE * gb_per_s * 1e9, words)
    peak = peak_gb_per_s(kind or ASSUMED)
    told = kind if kind else f"{ASSUMED} in two channels, an assumption"
    return RamRate(SHARE_OF_PEAK * peak * 1e9, f"{SHARE_OF_PEAK:.0%} of {peak:g} GB/s ({told})")
