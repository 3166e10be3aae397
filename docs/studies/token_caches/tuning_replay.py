"""HOBBIT's thresholds and weights from replays of calibration sequences, one per point of a grid.

Bytes and loss of replays are measured, not modelled: low-precision copies take room and hit,
skipped experts do not come in. Where the measured tables are monotone in both thresholds the best
pair is a monotone problem, else a choice among the points; both are certified. The weights of the
priority are not monotone in anything: the certificate says no more than that no point of the grid
is better.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from moe2opt.caching.caches import prepare
from moe2opt.caching.policies import POLICIES, replay, replay_prepared
from moe2opt.caching.settings import TokenSettings
from moe2opt.caching.trace import ExpertTrace
from moe2opt.canonical import MonotoneProblem, MultipleChoiceProblem
from moe2opt.certify import certify
from moe2opt.result import FloatArray, InputError, Result
from moe2opt.solve import solve
from token_caches.tuning import gain_and_use, rising, threshold_problem

if TYPE_CHECKING:
    import pandas as pd

GRID = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class ReplayedGrid:
    """Replays of one policy at every pair of thresholds.

    Attributes
    ----------
    grid
        ``(G,)`` thresholds.
    bytes_per_token, loss_nats, seconds, hit_rate
        ``(G, G)`` by position of T1 and T2; where T1 > T2 nothing is loaded at low precision, as
        with T2 = T1.
    """

    grid: FloatArray
    bytes_per_token: FloatArray
    loss_nats: FloatArray
    seconds: FloatArray
    hit_rate: FloatArray

    @property
    def is_monotone(self) -> bool:
        """Whether bytes never fall and loss never rises with either threshold."""
        bytes_, loss = self.bytes_per_token, self.loss_nats
        slack = 1e-9 * max(1.0, float(bytes_.max()))
        return all(
            bool((np.diff(bytes_, axis=axis) >= -slack).all())
            and bool((np.diff(loss, axis=axis) <= 1e-9).all())
            for axis in (0, 1)
        )

    def to_frame(self) -> pd.DataFrame:
        """Return one row per pair with T1 ≤ T2."""
        import pandas as pd

        full, low = np.triu_indices(len(self.grid))
        return pd.DataFrame(
            {
                "T1": self.grid[full],
                "T2": self.grid[low],
                "bytes_per_token": self.bytes_per_token[full, low],
                "loss_nats": self.loss_nats[full, low],
                "s_per_token": self.seconds[full, low],
                "hit_rate": self.hit_rate[full, low],
            }
        )


def replayed_grid(
    trace: ExpertTrace,
    settings: TokenSettings,
    grid: Sequence[float] = GRID,
    *,
    policy: str = "hobbit-mixed",
) -> ReplayedGrid:
    """Replay a policy with mixed-precision misses at every pair of thresholds.

    Raises
    ------
    InputError
        For a grid that does not rise, or a policy without thresholds.
    """
    points = rising(grid)
    if not POLICIES[policy].mixed:
        raise InputError(f"policy: '{policy}' has no thresholds")
    tables = np.zeros((4, len(points), len(points)))
    for full, low in zip(*np.triu_indices(len(points)), strict=True):
        pair = (float(points[full]), float(points[low]))
        run = replay_prepared(prepare(trace, replace(settings, thresholds=pair)), policy)
        figures = (
            run.bytes_moved / trace.tokens,
            run.expected_loss_nats,
            float(run.seconds.mean()),
            run.hit_rate,
        )
        tables[:, full, low] = figures
        if full == low:
            tables[:, full, :low] = np.array(figures)[:, None]
    return ReplayedGrid(points, *tables)


@dataclass(frozen=True, slots=True, eq=False)
class ReplayedThresholds:
    """The best pair of a grid of replays.

    Attributes
    ----------
    thresholds
        T1 and T2.
    bytes_per_token, loss_nats
        Of the replay at this pair.
    monotone
        Whether the tables were monotone, so that the problem solved was the monotone one.
    result, certified
        What the solver claims, and whether the checker verified it.
    """

    thresholds: tuple[float, float]
    bytes_per_token: float
    loss_nats: float
    monotone: bool
    result: Result
    certified: bool


def best_thresholds(
    replays: ReplayedGrid, *, loss_nats: float | None = None, bytes_per_token: float | None = None
) -> ReplayedThresholds | None:
    """Return the pair with the fewest bytes, or the least loss, under a limit on the other.

    None when no pair of the grid meets the limit.

    Raises
    ------
    InputError
        Unless exactly one limit is given.
    """
    bytes_, loss = replays.bytes_per_token, replays.loss_nats
    last = len(replays.grid) - 1
    problem: MonotoneProblem | MultipleChoiceProblem
    problem = threshold_problem(bytes_, loss, loss_nats=loss_nats, bytes_per_token=bytes_per_token)
    monotone = replays.is_monotone
    if not monotone:
        gain, use, budget = gain_and_use(bytes_, loss, loss_nats, bytes_per_token)
        problem = MultipleChoiceProblem(
            values=[(gain - gain.min()).ravel()],
            usage=[use.reshape(-1, 1)],
            budgets=np.array([budget]),
        )
    result = solve(problem)
    if result.x is None:
        return None
    if monotone:
        place = np.asarray(result.x)
        full, low = (last - place if loss_nats is not None else place).tolist()
    else:
        full, low = divmod(int(result.x[0]), last + 1)
    return ReplayedThresholds(
        thresholds=(float(replays.grid[full]), float(replays.grid[low])),
        bytes_per_token=float(bytes_[full, low]),
        loss_nats=float(loss[full, low]),
        monotone=monotone,
        result=result,
        certified=certify(problem, result).ok,
    )


@dataclass(frozen=True, slots=True, eq=False)
class TunedWeights:
    """Weights of the priority and what the calibration says of them.

    Attributes
    ----------
    weights
        Of last use, uses, high-precision uses, and distance in layers; sum 1.
    penalty
        Copies per token in units of a full one.
    table
        ``(P, 5)`` every point tried: its weights and its penalty.
    result, certified
        What the solver claims of the table, and whether the checker verified it.
    """

    weights: tuple[float, float, float, float]
    penalty: float
    table: FloatArray
    result: Result
    certified: bool


def tune_weights(
    trace: ExpertTrace, settings: TokenSettings, *, steps: int = 4, policy: str = "hobbit-priority"
) -> TunedWeights:
    """Replay every point of a grid on the simplex and return the best.

    Parameters
    ----------
    trace
        Calibration sequences.
    settings
        Slots and costs; its weights are not used.
    steps
        Steps of the grid along an edge.
    policy
        A policy with HOBBIT's priority.
    """
    if steps < 1:
        raise InputError(f"steps: {steps} is not positive")
    if POLICIES[policy].cache.rule != "priority":
        raise InputError(f"policy: '{policy}' has no weights")
    rows = []
    for weights in _simplex(steps):
        bytes_ = replay(trace, replace(settings, weights=weights), policy).bytes_moved
        rows.append([*weights, bytes_ / settings.costs.expert_bytes / trace.tokens])
    table = np.array(rows)
    saved = table[:, 4].max() - table[:, 4]
    problem = MultipleChoiceProblem(
        values=[saved], usage=[np.zeros((len(saved), 1))], budgets=np.zeros(1)
    )
    result = solve(problem)
    assert result.x is not None
    best = table[int(result.x[0])]
    chosen = tuple(float(weight) for weight in best[:4])
    return TunedWeights(chosen, float(best[4]), table, result, certify(problem, result).ok)  # type: ignore[arg-type]


def _simplex(steps: int) -> Iterator[tuple[float, float, float, float]]:
    for a, b, c in itertools.product(range(steps + 1), repeat=3):
        if a + b + c <= steps:
            yield a / steps, b / steps, c / steps, (steps - a - b - c) / steps
