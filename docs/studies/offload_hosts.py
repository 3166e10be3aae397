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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moe2opt.profiles import predict
from moe2opt.profiles.ram import HOP_S, SHARE_OF_PEAK, SPREAD, peak_gb_per_s, ram_rate

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
    """

    source: str
    device: str
    ram: str
    model: str
    layers: int
    expert_bytes: float
    device_s: float
    measured_s: float

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
    with TABLE.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [_host(row) for row in rows if int(row["moe_layers_cpu"])]


def _host(row: dict[str, str]) -> Host:
    number = {k: float(v) for k, v in row.items() if v and k.endswith(("_b", "_gb", "_tokens"))}
    share = int(row["moe_layers_cpu"]) / int(row["moe_layers"])
    per_weight = number["weights_gb"] / number["params_b"]
    active = number["active_params_b"] - share * number["expert_active_params_b"]
    whole = predict(
        row["device"], number["weights_gb"] * 1e9, row["quant"], quantity="s_per_token",
        params_b=number["params_b"], active_params_b=max(active, 0.1),
        context_tokens=number["context_tokens"], prompt_tokens=0, output_tokens=128,
    ).value  # fmt: skip
    return Host(
        row["source"], row["device"], row["ram"], row["model"], int(row["moe_layers_cpu"]),
        share * number["expert_active_params_b"] * per_weight * 1e9, whole,
        1 / float(row["decode_tokens_per_s"]),
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


def main() -> None:
    """Print constants and table."""
    print(f"share of the peak {share_of_peak(hosts()):.3f} (constant {SHARE_OF_PEAK})")
    print(f"spread {spread_of(left_out()):.2f} (constant {SPREAD})\n")
    print(page())


if __name__ == "__main__":
    main()
