"""HOBBIT's thresholds from one replay of calibration sequences, exactly.

Which experts are missing is taken from one replay in full precision with the slots that the
low-precision copies leave, and held fixed. Then bytes rise and loss falls with either threshold, so
that both thresholds are a monotone problem over a grid; thresholds per layer are a multiple-choice
problem. Both come back with a certificate. What fixed misses leave out (hits of low-precision
copies, experts that do not come in because they were skipped) is in `token_caches.tuning_replay`,
which replays every pair of thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from moe2opt.caching.caches import prepare, steps_of
from moe2opt.caching.hobbit import weight_before
from moe2opt.caching.policies import POLICIES
from moe2opt.caching.result import LOADED
from moe2opt.caching.settings import TokenCosts, TokenSettings
from moe2opt.caching.trace import ExpertTrace
from moe2opt.canonical import MonotoneProblem, MultipleChoiceProblem
from moe2opt.certify import certify
from moe2opt.result import FloatArray, InputError, IntArray, Result
from moe2opt.solve import solve

#: Grid of thresholds: nothing but the first expert at the lower end, everything at the upper.
GRID = tuple(round(0.05 * step, 2) for step in range(21))


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What missing experts would cost by threshold.

    Attributes
    ----------
    grid
        ``(G,)`` rising thresholds.
    count, weight
        ``(L, G)`` missing experts per token, and their gate weight, up to each threshold.
    total
        ``(L,)`` gate weight of all missing experts per token.
    costs
        Bytes and losses.
    """

    grid: FloatArray
    count: FloatArray
    weight: FloatArray
    total: FloatArray
    costs: TokenCosts

    def tables(self) -> tuple[FloatArray, FloatArray]:
        """Return ``(L, G, G)`` bytes per token and loss by position of T1 and T2 on the grid."""
        full = np.arange(len(self.grid))[:, None]
        either = np.maximum(full, full.T)
        full = np.broadcast_to(full, either.shape)
        costs, layers = self.costs, len(self.count)
        many = self.count[:, full], self.count[:, either]
        much = self.weight[:, full], self.weight[:, either]
        bytes_ = costs.expert_bytes * many[0] + costs.low_bytes * (many[1] - many[0])
        loss = costs.low_loss_nats * (much[1] - much[0])
        loss += costs.drop_loss_nats * (self.total[:, None, None] - much[1])
        return bytes_, loss / layers


@dataclass(frozen=True, slots=True, eq=False)
class TunedThresholds:
    """Thresholds and what the calibration says of them.

    Attributes
    ----------
    thresholds
        ``(1 or L, 2)`` T1 and T2, for all layers or for each.
    bytes_per_token, loss_nats
        Bytes of copies on demand, expected loss.
    result, certified
        What the solver claims, and whether the checker verified it.
    """

    thresholds: FloatArray
    bytes_per_token: float
    loss_nats: float
    result: Result
    certified: bool


def rising(grid: Sequence[float]) -> FloatArray:
    """Return a grid of thresholds as an array; `InputError` when they do not rise."""
    points = np.asarray(grid, dtype=np.float64)
    if points.ndim != 1 or not len(points) or (np.diff(points) <= 0).any():
        raise InputError("grid: thresholds must rise")
    return points


def gain_and_use(
    bytes_: FloatArray, loss: FloatArray, loss_nats: float | None, bytes_per_token: float | None
) -> tuple[FloatArray, FloatArray, float]:
    """Return what to maximise, what is limited, and its limit; exactly one limit must be given."""
    if loss_nats is not None and bytes_per_token is None:
        return -bytes_, loss, loss_nats
    if bytes_per_token is not None and loss_nats is None:
        return -loss, bytes_, bytes_per_token
    raise InputError("give exactly one of loss_nats and bytes_per_token")


def calibrate(
    trace: ExpertTrace,
    settings: TokenSettings,
    *,
    policy: str = "lru-global",
    grid: Sequence[float] = GRID,
) -> Calibration:
    """Replay calibration sequences once and sort the missing experts by importance.

    Raises
    ------
    InputError
        Without gate weights or known losses, for a grid that does not rise, or when a skipped
        expert would cost less than one at low precision.
    """
    points = rising(grid)
    costs = settings.costs
    if not costs.low_loss_nats <= costs.drop_loss_nats:
        raise InputError(
            "costs: low_loss_nats and drop_loss_nats must be known, the first at most the second "
            f"(they are {costs.low_loss_nats} and {costs.drop_loss_nats})"
        )
    before = weight_before(trace)
    gates = trace.gates
    assert gates is not None
    full = settings.slots - round(settings.slots * settings.low_slots_share)
    left = replace(settings, slots=full)
    steps = steps_of(prepare(trace, left), POLICIES[policy].cache)
    before[:, :, 0] = -1.0  # the first expert is always wanted in full
    missing = steps.outcome == LOADED
    at = np.searchsorted(points, before - 1e-9)
    count = np.zeros((trace.n_layers, len(points) + 1))
    weight = np.zeros_like(count)
    layer = np.broadcast_to(np.arange(trace.n_layers)[None, :, None], at.shape)
    np.add.at(count, (layer[missing], at[missing]), 1.0)
    np.add.at(weight, (layer[missing], at[missing]), gates[missing])
    count, weight = np.cumsum(count, axis=1), np.cumsum(weight, axis=1)
    per_token = 1.0 / trace.tokens
    total = weight[:, -1] * per_token
    return Calibration(points, count[:, :-1] * per_token, weight[:, :-1] * per_token, total, costs)


def threshold_problem(
    bytes_: FloatArray,
    loss: FloatArray,
    *,
    loss_nats: float | None = None,
    bytes_per_token: float | None = None,
) -> MonotoneProblem:
    """Return the monotone problem of both thresholds, one limit given.

    With a limit on the loss the variables count steps down from the end of the grid and the
    objective is bytes saved; with a limit on bytes they count steps up and the objective is loss
    avoided.

    Parameters
    ----------
    bytes_, loss
        ``(G, G)`` by position of T1 and T2 on the grid: bytes never fall along either axis, loss
        never rises.
    loss_nats, bytes_per_token
        The limit.

    Raises
    ------
    InputError
        Unless exactly one limit is given.
    """
    gain, use, limit = gain_and_use(bytes_, loss, loss_nats, bytes_per_token)
    last, turn = len(bytes_) - 1, loss_nats is not None
    worst = last if turn else 0
    gain = gain - gain[worst, worst]

    def at(points: IntArray) -> tuple[IntArray, IntArray]:
        place = last - points if turn else points
        return place[:, 0], place[:, 1]

    return MonotoneProblem(
        lower=np.zeros(2, dtype=np.int64),
        upper=np.full(2, last, dtype=np.int64),
        objective=lambda points: gain[at(points)],
        constraints=[lambda points: use[at(points)] - limit],
    )


def tune_thresholds(
    calibration: Calibration,
    *,
    loss_nats: float | None = None,
    bytes_per_token: float | None = None,
    per_layer: bool = False,
    time_limit_s: float | None = None,
) -> TunedThresholds | None:
    """Return the best thresholds under a limit on the loss or on the bytes; None if none meets it.

    Parameters
    ----------
    calibration
        What missing experts cost.
    loss_nats, bytes_per_token
        The limit; exactly one.
    per_layer
        Thresholds of their own for every layer (a multiple-choice problem).
    time_limit_s
        Of the solver.
    """
    if per_layer:
        return _tune_layers(calibration, loss_nats, bytes_per_token, time_limit_s)
    bytes_, loss = (table.sum(axis=0) for table in calibration.tables())
    problem = threshold_problem(bytes_, loss, loss_nats=loss_nats, bytes_per_token=bytes_per_token)
    result = solve(problem, time_limit_s=time_limit_s)
    if result.x is None:
        return None
    last = len(calibration.grid) - 1
    place = np.asarray(result.x)[None, :]
    place = last - place if loss_nats is not None else place
    return _tuned(calibration, place, result, certify(problem, result).ok)


def _tune_layers(
    calibration: Calibration,
    loss_nats: float | None,
    bytes_per_token: float | None,
    time_limit_s: float | None,
) -> TunedThresholds | None:
    gain, use, budget = gain_and_use(*calibration.tables(), loss_nats, bytes_per_token)
    layers, points = len(gain), len(calibration.grid)
    gains = gain.reshape(layers, -1)
    gains = gains - gains.min(axis=1, keepdims=True)
    uses = use.reshape(layers, -1, 1)
    kept = [_undominated(gains[layer], uses[layer, :, 0]) for layer in range(layers)]
    problem = MultipleChoiceProblem(
        values=[gains[layer][kept[layer]] for layer in range(layers)],
        usage=[uses[layer][kept[layer]] for layer in range(layers)],
        budgets=np.array([budget]),
    )
    result = solve(problem, time_limit_s=time_limit_s)
    if result.x is None:
        return None
    chosen = [kept[layer][int(option)] for layer, option in enumerate(result.x)]
    place = np.stack(np.unravel_index(np.array(chosen), (points, points)), axis=1)
    return _tuned(calibration, place, result, certify(problem, result).ok)


def _undominated(gain: FloatArray, use: FloatArray) -> IntArray:
    """Return the options that no other one equals or beats in both."""
    order = np.lexsort((-gain, use))
    best = np.maximum.accumulate(np.concatenate([[-np.inf], gain[order]]))[:-1]
    return np.asarray(order[gain[order] > best])


def _tuned(
    calibration: Calibration, place: IntArray, result: Result, certified: bool
) -> TunedThresholds:
    bytes_, loss = calibration.tables()
    layer = np.arange(len(bytes_))
    full, low = (np.broadcast_to(place[:, k], layer.shape) for k in range(2))
    return TunedThresholds(
        thresholds=calibration.grid[place],
        bytes_per_token=float(bytes_[layer, full, low].sum()),
        loss_nats=float(loss[layer, full, low].sum()),
        result=result,
        certified=certified,
    )
