"""What a replay of tokens counted, and the table that compares several."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from moe2opt.result import FloatArray, IntArray

#: What can become of one expert of one token: columns of `TokenReplay.outcomes`.
OUTCOMES = ("hit", "low_hit", "late", "late_low", "loaded", "loaded_low", "skipped", "dropped")
HIT, LOW_HIT, LATE, LATE_LOW, LOADED, LOADED_LOW, SKIPPED, DROPPED = range(8)


@dataclass(frozen=True, slots=True, eq=False)
class TokenReplay:
    """One policy on one trace.

    Attributes
    ----------
    policy
        Name of the policy.
    trace
        Name of the trace.
    tokens
        Tokens replayed.
    outcomes
        ``(L, 8)`` experts by layer and outcome, columns as in `OUTCOMES`: resident in full or at
        low precision, still on their way when wanted (in full or low), copied on demand (in full
        or low), skipped on a miss, and never wanted (gated out).
    prefetched
        ``(L, 3)`` copies started ahead in full and at low precision, and those of both that were
        overwritten or left without ever being used.
    bytes_moved
        Bytes of all copies.
    expected_loss_nats
        Mean rise of the logarithm of perplexity per token; NaN when the costs do not tell.
    low_weight, dropped_weight
        Mean share of a token's gate weight served at low precision, and not served; NaN without
        gate weights.
    seconds
        ``(tokens,)`` seconds of each token.
    note
        What must be known about the figures.
    """

    policy: str
    trace: str
    tokens: int
    outcomes: IntArray
    prefetched: IntArray
    bytes_moved: float
    expected_loss_nats: float
    low_weight: float
    dropped_weight: float
    seconds: FloatArray
    note: str = ""

    @property
    def totals(self) -> dict[str, int]:
        """Experts by outcome."""
        return dict(zip(OUTCOMES, self.outcomes.sum(axis=0).tolist(), strict=True))

    @property
    def wanted(self) -> int:
        """Experts that the policy wanted: all but those gated out."""
        return int(self.outcomes[:, :DROPPED].sum())

    @property
    def hits(self) -> int:
        """Experts that were there when wanted, at whatever precision."""
        return int(self.outcomes[:, [HIT, LOW_HIT]].sum())

    @property
    def misses(self) -> int:
        """Experts that were wanted and not there."""
        return self.wanted - self.hits

    @property
    def on_demand_loads(self) -> int:
        """Copies that a token had to wait for from their beginning."""
        return int(self.outcomes[:, [LOADED, LOADED_LOW]].sum())

    @property
    def prefetches(self) -> int:
        """Copies started ahead."""
        return int(self.prefetched[:, :2].sum())

    @property
    def late_prefetches(self) -> int:
        """Experts whose copy was under way when they were wanted."""
        return int(self.outcomes[:, [LATE, LATE_LOW]].sum())

    @property
    def hit_rate(self) -> float:
        """Share of the wanted experts that were there."""
        return self.hits / self.wanted if self.wanted else math.nan

    def layer_hit_rates(self) -> FloatArray:
        """Return the ``(L,)`` hit rates; NaN where nothing was wanted."""
        wanted = self.outcomes[:, :DROPPED].sum(axis=1)
        hits = self.outcomes[:, [HIT, LOW_HIT]].sum(axis=1)
        return np.where(wanted > 0, hits / np.maximum(wanted, 1), np.nan)

    def row(self) -> dict[str, Any]:
        """Return the figures as one row of the comparison."""
        per_token = 1.0 / max(1, self.tokens)
        seconds = self.seconds if len(self.seconds) else np.array([math.nan])
        return {
            "policy": self.policy,
            "hit_rate": self.hit_rate,
            "hits": self.hits,
            "misses": self.misses,
            "on_demand_loads": self.on_demand_loads,
            "prefetches": self.prefetches,
            "late_prefetches": self.late_prefetches,
            "wasted_prefetches": int(self.prefetched[:, 2].sum()),
            "skipped": self.totals["skipped"],
            "dropped": self.totals["dropped"],
            "bytes_per_token": self.bytes_moved * per_token,
            "expected_loss_nats": self.expected_loss_nats,
            "s_per_token_mean": float(seconds.mean()),
            "s_per_token_p95": float(np.quantile(seconds, 0.95)),
            "s_per_token_p99": float(np.quantile(seconds, 0.99)),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON-ready values; NaN becomes None."""
        row = {**self.row(), "note": self.note}
        return {
            k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()
        }

    def to_frame(self) -> pd.DataFrame:
        """Return one row per layer."""
        frame = pd.DataFrame(self.outcomes, columns=list(OUTCOMES))
        frame.insert(0, "layer", np.arange(len(frame)))
        frame["prefetched"] = self.prefetched[:, :2].sum(axis=1)
        frame["wasted_prefetches"] = self.prefetched[:, 2]
        return frame.assign(hit_rate=self.layer_hit_rates())


@dataclass(frozen=True, slots=True)
class TokenComparison:
    """Policies on the same trace, memory and link.

    Attributes
    ----------
    trace
        One line about the trace.
    replays
        One per policy, in the order asked for.
    against
        Replay of the clairvoyant policy; None when none was asked for.
    notes
        What must be known about the figures.
    """

    trace: str
    replays: tuple[TokenReplay, ...]
    against: TokenReplay | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def every(self) -> tuple[TokenReplay, ...]:
        """The replays, the clairvoyant one last unless it was asked for anyway."""
        against = self.against
        if against is None or any(replay.policy == against.policy for replay in self.replays):
            return self.replays
        return (*self.replays, against)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per policy, with `regret` in seconds per token against the clairvoyant.

        A policy that prefetches, lowers precision or leaves experts out can be faster than a
        clairvoyant cache that does none of that; its regret is then negative.
        """
        rows = [replay.row() for replay in self.every]
        best = math.nan if self.against is None else float(self.against.seconds.mean())
        for row in rows:
            row["regret"] = row["s_per_token_mean"] / best - 1 if best else math.nan
        return rows

    def to_frame(self) -> pd.DataFrame:
        """Return the rows, indexed by policy."""
        return pd.DataFrame(self.rows()).set_index("policy")

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON-ready values."""
        regrets = [row["regret"] for row in self.rows()]
        rows = [
            {**replay.to_dict(), "regret": regret if math.isfinite(regret) else None}
            for replay, regret in zip(self.every, regrets, strict=True)
        ]
        against = None if self.against is None else self.against.policy
        return {"trace": self.trace, "against": against, "policies": rows, "notes": [*self.notes]}

    def summary(self) -> str:
        """Return a table for the screen."""
        names = ("hits %", "MB/token", "loss", "ms mean", "p95", "p99", "regret %")
        widths = (7, 9, 8, 8, 8, 8, 9)
        head = [f"{name:>{width}}" for name, width in zip(names, widths, strict=True)]
        lines = [self.trace, " ".join([f"{'policy':22}", *head])]
        for row in self.rows():
            lines.append(_line(row))
        return "\n".join([*lines, *self.notes])


def _line(row: dict[str, Any]) -> str:
    times = [f"{1e3 * row[f's_per_token_{k}']:8.2f}" for k in ("mean", "p95", "p99")]
    loss, regret = row["expected_loss_nats"], row["regret"]
    return " ".join(
        [
            f"{row['policy']:22} {100 * row['hit_rate']:7.2f} {row['bytes_per_token'] / 1e6:9.2f}",
            f"{loss:8.4f}" if math.isfinite(loss) else f"{'-':>8}",
            *times,
            f"{100 * regret:+9.1f}" if math.isfinite(regret) else f"{'-':>9}",
        ]
    )
