"""How plans show rates, and what devices hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from moe2opt import present
from moe2opt.place.judge import Rate
from moe2opt.place.machine import GIB
from moe2opt.view import Bar

_COLUMNS = ("weights_bytes", "context_bytes", "compute_bytes", "margin_bytes", "free_bytes")

#: A device as plans hold it: name, and bytes of weights, context, compute, margin, free.
Held = Mapping[str, Any]


def rate_words(rate: Rate) -> str:
    """Return a rate with its interval."""
    low, high = present.number(rate.low, 3), present.number(rate.high, 3)
    return f"{present.number(rate.value, 3)} ({low} to {high})"


def memory_lines(devices: Iterable[Held]) -> Iterator[str]:
    """Yield a header, and the GiB of each device."""
    head = "".join(f"{key.removesuffix('_bytes'):>10}" for key in _COLUMNS)
    yield f"{'device':<24}{head}"
    for device in devices:
        yield f"{device['name']:<24}" + "".join(f"{_gib(device[key]):>10}" for key in _COLUMNS)


def memory_bars(devices: Iterable[Held]) -> tuple[Bar, ...]:
    """Return how full each device is whose size is known."""
    return tuple(
        Bar(
            device["name"],
            f"{_gib(device['capacity_bytes'] - device['free_bytes'])} GiB",
            f"{_gib(device['capacity_bytes'])} GiB",
            1 - device["free_bytes"] / device["capacity_bytes"],
        )
        for device in devices
        if device["capacity_bytes"]
    )


def _gib(size: float | None) -> str:
    return "-" if size is None else f"{size / GIB:.2f}"
