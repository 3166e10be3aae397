"""Thresholds and weights tuned on calibration sequences: exact, certified, and what replays say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from token_caches.tuning import (
    Calibration,
    calibrate,
    threshold_problem,
    tune_thresholds,
)
from token_caches.tuning_replay import (
    ReplayedGrid,
    best_thresholds,
    replayed_grid,
    tune_weights,
)

import moe2opt as mo
from moe2opt.caching.caches import prepare, steps_of
from moe2opt.caching.hobbit import classes_by_thresholds, weight_before
from moe2opt.caching.policies import POLICIES, TokenCosts, TokenSettings, replay
from moe2opt.caching.result import LOADED
from moe2opt.caching.trace import ExpertTrace
from moe2opt.canonical.selftest import find_counterexample
from moe2opt.result import InputError, Status

COSTS = TokenCosts(4.0, 0.7, 0.11, 0.3, 1.0, 0.2, 0.05, 0.1, 1.0)
KNOBS = TokenSettings(60, COSTS)


@pytest.fixture(scope="module")
def calibration(synthetic: ExpertTrace) -> Calibration:
    """Calibration on every second sequence of the synthetic trace."""
    return calibrate(synthetic.halves()[0], KNOBS)


def test_tables_are_sums_over_missing_experts(
    synthetic: ExpertTrace, calibration: Calibration
) -> None:
    """Bytes and loss at a pair of thresholds are those of the missing experts one by one."""
    trace = synthetic.halves()[0]
    left = replace(KNOBS, slots=54)  # a tenth of the memory is for low-precision copies
    missing = steps_of(prepare(trace, left), POLICIES["lru-global"].cache).outcome == LOADED
    bytes_, loss = (table.sum(axis=0) for table in calibration.tables())
    assert trace.gates is not None
    for full, low in ((0, 0), (4, 10), (12, 3), (20, 20), (7, 20)):
        t1, t2 = calibration.grid[[full, low]]
        classes = classes_by_thresholds(weight_before(trace), t1, t2)
        moved = 4.0 * (missing & (classes == 0)).sum() + 1.0 * (missing & (classes == 1)).sum()
        assert bytes_[full, low] == pytest.approx(moved / trace.tokens)
        lost = 0.1 * trace.gates[missing & (classes == 1)].sum()
        lost += 1.0 * trace.gates[missing & (classes == 2)].sum()
        assert loss[full, low] == pytest.approx(lost / trace.tokens / trace.n_layers)


def test_thresholds_trade_bytes_against_loss(calibration: Calibration) -> None:
    """In every layer bytes never fall and loss never rises with either threshold."""
    bytes_, loss = calibration.tables()
    for axis in (1, 2):
        assert (np.diff(bytes_, axis=axis) >= -1e-12).all()
        assert (np.diff(loss, axis=axis) <= 1e-12).all()


@pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
@pytest.mark.parametrize("limit", ["loss_nats", "bytes_per_token"])
def test_thresholds_are_the_best_of_the_grid(
    calibration: Calibration, limit: str, share: float
) -> None:
    """The certified optimum is the best pair of the whole grid under the limit."""
    bytes_, loss = (table.sum(axis=0) for table in calibration.tables())
    use, aim = (loss, bytes_) if limit == "loss_nats" else (bytes_, loss)
    budget = float(use.min() + share * (use.max() - use.min()))
    tuned = tune_thresholds(calibration, **{limit: budget})
    assert tuned is not None
    assert tuned.certified
    assert tuned.result.status is Status.OPTIMAL
    best = float(aim[use <= budget].min())
    found = tuned.bytes_per_token if limit == "loss_nats" else tuned.loss_nats
    kept = tuned.loss_nats if limit == "loss_nats" else tuned.bytes_per_token
    assert found == pytest.approx(best)
    assert kept <= budget + 1e-9


def test_thresholds_per_layer_are_at_least_as_good(calibration: Calibration) -> None:
    """With thresholds of its own in every layer no more bytes are needed for the same loss."""
    both = [tune_thresholds(calibration, loss_nats=0.004, per_layer=own) for own in (False, True)]
    one, many = both
    assert one is not None
    assert many is not None
    assert many.certified
    assert many.thresholds.shape == (8, 2)
    assert many.bytes_per_token <= one.bytes_per_token + 1e-9
    assert many.loss_nats <= 0.004 + 1e-9


def test_impossible_limits_have_no_thresholds(calibration: Calibration) -> None:
    """Fewer bytes than the first experts need are out of reach, for all layers and for each."""
    assert tune_thresholds(calibration, bytes_per_token=0.01) is None
    assert tune_thresholds(calibration, bytes_per_token=0.01, per_layer=True) is None


def test_the_problem_is_monotone(calibration: Calibration) -> None:
    """The package's own test of monotone oracles finds nothing wrong with the problem."""
    tables = [table.sum(axis=0) for table in calibration.tables()]
    for limits in ({"loss_nats": 0.01}, {"bytes_per_token": 20.0}):
        assert find_counterexample(threshold_problem(*tables, **limits)) is None


@pytest.fixture(scope="module")
def replays(synthetic: ExpertTrace) -> ReplayedGrid:
    """Replays of the planning half of the synthetic trace at six by six thresholds."""
    return replayed_grid(synthetic.halves()[0], KNOBS)


def test_grid_holds_replays(synthetic: ExpertTrace, replays: ReplayedGrid) -> None:
    """Every entry is what a replay at its thresholds counts, above the diagonal and below."""
    trace = synthetic.halves()[0]
    assert len(replays.to_frame()) == 21
    for full, low in ((1, 4), (3, 3), (4, 1)):
        pair = (float(replays.grid[full]), float(replays.grid[low]))
        run = replay(trace, replace(KNOBS, thresholds=pair), "hobbit-mixed")
        assert replays.bytes_per_token[full, low] == pytest.approx(run.bytes_moved / trace.tokens)
        assert replays.loss_nats[full, low] == pytest.approx(run.expected_loss_nats)
    at_end = replays.to_frame().query("T2 == 1.0")
    assert at_end["loss_nats"].is_monotonic_decreasing


@pytest.mark.parametrize("limit", ["loss_nats", "bytes_per_token"])
@pytest.mark.parametrize("spoilt", [False, True])
def test_best_thresholds_of_replays(replays: ReplayedGrid, limit: str, *, spoilt: bool) -> None:
    """The best replay under the limit is found and certified, monotone or not."""
    if spoilt:
        bytes_ = replays.bytes_per_token.copy()
        bytes_[2, 3] = bytes_.min() / 2
        replays = replace(replays, bytes_per_token=bytes_)
    use, aim = replays.loss_nats, replays.bytes_per_token
    if limit == "bytes_per_token":
        use, aim = aim, use
    budget = float(np.quantile(use, 0.4))
    found = best_thresholds(replays, **{limit: budget})
    assert found is not None
    assert found.certified
    if spoilt:
        assert not found.monotone
    value = found.bytes_per_token if limit == "loss_nats" else found.loss_nats
    assert value == pytest.approx(float(aim[use <= budget].min()))
    assert best_thresholds(replays, **{limit: -1.0}) is None


def test_weights_are_the_best_of_the_grid(synthetic: ExpertTrace) -> None:
    """No point of the grid moves fewer copies, and the table is what replays count."""
    trace = synthetic.halves()[0]
    tuned = tune_weights(trace, KNOBS, steps=3)
    assert tuned.certified
    assert len(tuned.table) == 20
    assert tuned.penalty == tuned.table[:, 4].min()
    assert sum(tuned.weights) == pytest.approx(1.0)
    again = replay(trace, replace(KNOBS, weights=tuned.weights), "hobbit-priority")
    assert again.on_demand_loads / trace.tokens == pytest.approx(tuned.penalty)
    verdict = mo.certify(
        mo.MultipleChoiceProblem(
            values=[tuned.table[:, 4].max() - tuned.table[:, 4]],
            usage=[np.zeros((20, 1))],
            budgets=np.zeros(1),
        ),
        tuned.result,
    )
    assert verdict.ok


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t, c: calibrate(t, KNOBS, grid=(0.5, 0.2)), "thresholds must rise"),
        (lambda t, c: calibrate(t, TokenSettings(60)), "must be known"),
        (
            lambda t, c: calibrate(t, replace(KNOBS, costs=replace(COSTS, drop_loss_nats=0.01))),
            "the first at most the second",
        ),
        (lambda t, c: tune_thresholds(c), "exactly one"),
        (lambda t, c: tune_thresholds(c, per_layer=True), "exactly one"),
        (lambda t, c: tune_thresholds(c, loss_nats=1.0, bytes_per_token=1.0), "exactly one"),
        (lambda t, c: replayed_grid(t, KNOBS, (0.5, 0.5)), "thresholds must rise"),
        (lambda t, c: replayed_grid(t, KNOBS, policy="lru"), "'lru' has no thresholds"),
        (lambda t, c: tune_weights(t, KNOBS, steps=0), "steps: 0"),
        (lambda t, c: tune_weights(t, KNOBS, policy="lru"), "'lru' has no weights"),
        (lambda t, c: calibrate(replace(t, gates=None), KNOBS), "has no gate weights"),
    ],
)
def test_wrong_calls_are_refused(
    synthetic: ExpertTrace, calibration: Calibration, call: Any, message: str
) -> None:
    """Every wrong call is one error that says what is wrong."""
    with pytest.raises(InputError, match=message):
        call(synthetic, calibration)
