"""Fit the rate at which experts in RAM are read to published hosts, and leave each source out.

Usage, from the checkout::

    python docs/studies/offload_hosts.py

prints what `moe2opt.profiles.ram` holds as constants, and the table of the page on RAM, which
`profile_pages.py` writes. The time of a token is that of the device without the experts in RAM, the
bytes of those over an effective rate, and a hand-over for each layer.
"""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moe2opt.profiles import predict
from moe2opt.profiles.ram import (
    COPIED_SPREAD,
    HOP_S,
    SHARE_OF_PEAK,
    SPREAD,
    peak_gb_per_s,
    ram_rate,
)

#: Rate at which experts in RAM are copied to a card for a batch of a prompt, as a plan assumes.
COPIED_BYTES_PER_S = 20e9

#: Log error and log of the factor of an interval, by row.
Pairs = list[tuple[float, float]]

TABLE = Path(__file__).resolve().parents[2] / "problems" / "profiles" / "offload_hosts.csv"


@dataclass(frozen=True)
class Host:
    """One published rate.

    Attributes
    ----------
    source, device, ram, model
        Names; `ram` is empty where nobody says.
    layers
        Layers whose experts are in RAM.
    expert_bytes
        What a token reads of them.
    device_s, measured_s
        Seconds of a token on the device without them (predicted), and in all (measured).
    device_spread
        Factor either way of the interval of the former.
    prompt_s, prompt_measured_s, prompt_spread
        Seconds of a prompt token with copies of the experts in RAM (predicted), as measured (NaN
        where nobody says), and the factor either way of the interval.
    """

    source: str
    device: str
    ram: str
    model: str
    layers: int
    expert_bytes: float
    device_s: float
    measured_s: float
    device_spread: float
    prompt_s: float
    prompt_measured_s: float
    prompt_spread: float

    @property
    def bytes_per_s(self) -> float:
        """Effective rate that explains the measurement."""
        rest = self.measured_s - self.device_s - self.layers * HOP_S
        return self.expert_bytes / rest if rest > 0 else math.inf

    def predicted_s(self, bytes_per_s: float) -> float:
        """Return the seconds of a token at an effective rate."""
        return self.device_s + self.expert_bytes / bytes_per_s + self.layers * HOP_S


def hosts() -> list[Host]:
    """Return the published rates with experts in RAM."""
    return [host for host in published() if host.layers]


def published() -> list[Host]:
    """Return every row of the table, those with everything on the device included."""
    with TABLE.open(encoding="utf-8", newline="") as stream:
        return [_host(row) for row in csv.DictReader(stream)]


def _host(row: dict[str, str]) -> Host:
    number = {k: float(v) for k, v in row.items() if v and k.endswith(("_b", "_gb", "_tokens"))}
    share = int(row["moe_layers_cpu"]) / int(row["moe_layers"])
    per_weight = number["weights_gb"] / number["params_b"]
    active = number["active_params_b"] - share * number["expert_active_params_b"]
    about: dict[str, Any] = {"quantity": "s_per_token", "params_b": number["params_b"]}
    size = number["weights_gb"] * 1e9
    whole = predict(
        row["device"], size, row["quant"], active_params_b=max(active, 0.1), output_tokens=128,
        context_tokens=number["context_tokens"], prompt_tokens=0, **about,
    )  # fmt: skip
    prompt = predict(
        row["device"], size, row["quant"], "prefill", active_params_b=number["active_params_b"],
        prompt_tokens=float(row["ubatch"]), context_tokens=number["context_tokens"], **about,
    )  # fmt: skip
    outside_b = number["active_params_b"] - number["expert_active_params_b"]
    copied = share * (number["params_b"] - outside_b) * per_weight * 1e9
    told = row["prefill_tokens_per_s"]
    return Host(
        row["source"], row["device"], row["ram"], row["model"], int(row["moe_layers_cpu"]),
        share * number["expert_active_params_b"] * per_weight * 1e9, whole.value,
        1 / float(row["decode_tokens_per_s"]), whole.upper / whole.value,
        prompt.value + copied / COPIED_BYTES_PER_S / float(row["ubatch"]),
        1 / float(told) if told else math.nan,
        max(prompt.upper / prompt.value, COPIED_SPREAD if copied else 1.0),
    )  # fmt: skip


def by_source(rows: Sequence[Host]) -> dict[str, list[Host]]:
    """Return the rows of each source."""
    found: dict[str, list[Host]] = {}
    for row in rows:
        found.setdefault(row.source, []).append(row)
    return found


def share_of_peak(rows: Sequence[Host]) -> float:
    """Return the median over sources of the share of the peak that is attained."""
    known = by_source([row for row in rows if row.ram])
    return statistics.median(
        statistics.median(r.bytes_per_s / (peak_gb_per_s(r.ram) * 1e9) for r in own)
        for own in known.values()
    )


def left_out() -> dict[str, list[float]]:
    """Return log(predicted / measured) of the seconds in RAM of each source, fitted without it."""
    rows = hosts()
    found: dict[str, list[float]] = {}
    for source, own in by_source(rows).items():
        share = share_of_peak([row for row in rows if row.source != source])
        found[source] = [
            math.log(row.predicted_s(_rate(row, share)) / row.measured_s) for row in own
        ]
    return found


def _rate(row: Host, share: float) -> float:
    return share / SHARE_OF_PEAK * ram_rate(row.ram or None).bytes_per_s


def spread_of(misses: dict[str, list[float]]) -> float:
    """Return the factor that nine in ten of the sources stay within."""
    errors = sorted(statistics.median(map(abs, own)) for own in misses.values())
    return math.exp(errors[math.ceil(0.9 * len(errors)) - 1])


def page() -> str:
    """Return the table of the page."""
    misses, rows = left_out(), by_source(hosts())
    lines = [
        "| source | RAM | rows | attained, GB/s | share of peak | median error | inside |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for source, own in rows.items():
        errors = [abs(miss) for miss in misses[source]]
        rate = statistics.median(row.bytes_per_s for row in own) / 1e9
        kind = own[0].ram or "not stated"
        share = f"{100 * rate / peak_gb_per_s(own[0].ram):.0f} %" if own[0].ram else "-"
        inside = sum(error <= math.log(SPREAD) for error in errors) / len(errors)
        lines.append(
            f"| {source.removeprefix('github:')} | {kind} | {len(own)} | {rate:.0f} | {share} | "
            f"{100 * math.expm1(statistics.median(errors)):.0f} % | {100 * inside:.0f} % |"
        )
    return "\n".join(lines)


def speeds() -> str:
    """Return the table of speeds by source: decoding and prompts, their errors and intervals.

    Intervals are those of a prediction; of decoding, the part on the device and the part in RAM
    have their own factors, as in `predict_offload`.
    """
    lines = [
        "| source | decode rows | median error | inside | factor | prompt rows | median error | "
        "inside | factor |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    rows = by_source(published())
    for source, own in rows.items():
        lines.append(f"| {source.removeprefix('github:')} | {_speeds_of(own)} |")
    lines.append(f"| all {len(rows)} | {_speeds_of(published())} |")
    middle = " | ".join(_middle(list(rows.values()), about) for about in (_decode, _prompt))
    return "\n".join([*lines, f"| every source alike | {middle} |"])


def _speeds_of(rows: Sequence[Host]) -> str:
    return " | ".join(_told(about(rows)) for about in (_decode, _prompt))


def _decode(rows: Sequence[Host]) -> Pairs:
    return [interval(row) for row in rows]


def _prompt(rows: Sequence[Host]) -> Pairs:
    return [
        (math.log(row.prompt_s / row.prompt_measured_s), math.log(row.prompt_spread))
        for row in rows
        if not math.isnan(row.prompt_measured_s)
    ]


def _middle(sources: Sequence[Sequence[Host]], about: Callable[..., Pairs]) -> str:
    """Return the median error of a source and the mean share inside, every source alike."""
    told = [pairs for own in sources if (pairs := about(own))]
    errors = [statistics.median(abs(miss) for miss, _ in pairs) for pairs in told]
    inside = statistics.mean(
        statistics.mean(abs(miss) <= width for miss, width in pairs) for pairs in told
    )
    error = math.expm1(statistics.median(errors))
    return f"{len(told)} sources | {100 * error:.0f} % | {100 * inside:.0f} % | -"


def interval(row: Host) -> tuple[float, float]:
    """Return the log error of decoding, and the log of the factor on the side that it is on."""
    rate = ram_rate(row.ram or None).bytes_per_s
    own = row.predicted_s(rate)
    miss = math.log(own / row.measured_s)
    in_ram = own - row.device_s
    low = row.device_s / row.device_spread + in_ram / SPREAD
    high = row.device_s * row.device_spread + in_ram * SPREAD
    return miss, math.log(own / low) if miss > 0 else math.log(high / own)


def _told(pairs: Sequence[tuple[float, float]]) -> str:
    if not pairs:
        return "0 | - | - | -"
    misses = [abs(miss) for miss, _ in pairs]
    inside = sum(abs(miss) <= width for miss, width in pairs) / len(pairs)
    factor = math.exp(statistics.median(width for _, width in pairs))
    return (
        f"{len(pairs)} | {100 * math.expm1(statistics.median(misses)):.0f} % | "
        f"{100 * inside:.0f} % | {factor:.2f}"
    )


def main() -> None:
    """Print constants and table."""
    print(f"share of the peak {share_of_peak(hosts()):.3f} (constant {SHARE_OF_PEAK})")
    print(f"spread {spread_of(left_out()):.2f} (constant {SPREAD})\n")
    print(page())


if __name__ == "__main__":
    main()
