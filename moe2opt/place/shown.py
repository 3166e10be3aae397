"""How plans show rates, what devices hold, and what another plan may gain."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from decimal import ROUND_CEILING, Context
from typing import Any

from moe2opt import present
from moe2opt.gaps import NUMERICAL_GAP
from moe2opt.place.judge import Rate
from moe2opt.place.machine import GIB
from moe2opt.result import Result
from moe2opt.view import Bar

#: How the processor and its RAM are called in plans.
RAM = "cpu"

_COLUMNS = ("weights_bytes", "context_bytes", "compute_bytes", "margin_bytes", "free_bytes")

#: A device as plans hold it: name, and bytes of weights, context, compute, margin, free.
Held = Mapping[str, Any]


def rate_words(rate: Rate) -> str:
    """Return a rate with its interval."""
    low, high = present.number(rate.low, 3), present.number(rate.high, 3)
    return f"{present.number(rate.value, 3)} ({low} to {high})"


def device_row(
    name: str, capacity: float | None, held: tuple[float, float, float], margin: float
) -> dict[str, Any]:
    """Return a device as plans hold it, of the bytes of weights, context and compute there."""
    weights, context, compute = held
    free = None if capacity is None else capacity - sum(held) - margin
    return {
        "name": name,
        "capacity_bytes": None if capacity is None else round(capacity),
        "weights_bytes": round(weights),
        "context_bytes": round(context),
        "compute_bytes": math.ceil(compute),
        "margin_bytes": math.ceil(margin),
        "free_bytes": None if free is None else math.floor(free),
    }


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


def may_lose(result: Result[Any]) -> bool:
    """Tell whether another line may be faster than that of a plan."""
    unproven = result.status == "OPTIMAL" and result.gap > NUMERICAL_GAP
    return result.status == "FEASIBLE" or unproven


def slower_words(result: Result[Any]) -> str:
    """Return by how much a plan that is not proven best may be slower than the best."""
    if not 0 < -result.bound < math.inf:
        return "How much faster another line is, is not known."
    # Two digits of the excess, or three where it is large, never rounded down.
    excess = result.objective / result.bound - 1
    up = Context(prec=2 if excess < 1 else 3, rounding=ROUND_CEILING)
    return f"No line is more than {1 + float(up.create_decimal(excess)):.6g} times as fast."
