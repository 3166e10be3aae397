"""Compiled loops of the facility engine against the sums that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe2opt.canonical import FacilityProblem
from moe2opt.solvers.facility.cut_pool import CutPool
from moe2opt.solvers.facility.heuristics import greedy_facility
from moe2opt.solvers.facility.kernels import best_of_parts, find_excluded
from moe2opt.solvers.facility.model import FacilityModel

SEEDS = st.integers(0, 2**16)


def drawn_pool(
    rng: np.random.Generator,
) -> tuple[FacilityModel, CutPool, list[np.ndarray], list[np.ndarray]]:
    """Return a model, a pool of its cuts, and blocks and thresholds of each cut."""
    clusters, size = int(rng.integers(1, 12)), int(rng.integers(1, 7))
    values = rng.integers(0, 20, size=(clusters, size)).astype(np.float64)
    problem = FacilityProblem(values, np.ones((1, size)), np.ones(1))
    model = FacilityModel(problem, simplify=False)
    clusters = len(model.best_values)
    block_of = rng.integers(0, 4, size=clusters)
    blocks = [np.flatnonzero(block_of == k) for k in np.unique(block_of)]
    pool, cuts, thresholds = CutPool(blocks), list[int](), list[np.ndarray]()
    for _ in range(3):
        level = rng.integers(0, 20, size=clusters).astype(np.float64)
        wanted = rng.random(len(blocks)) < 0.6
        pool.add(level, wanted)
        for k in np.flatnonzero(wanted):
            cuts.append(int(k))
            thresholds.append(level[blocks[k]])
    return model, pool, [blocks[k] for k in cuts], thresholds


def excess(model: FacilityModel, block: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Return per expert the sum over a block of its value above the level."""
    return np.maximum(model.values[block] - level[:, None], 0.0).sum(axis=0)


@given(seed=SEEDS)
def test_rows_of_cuts_are_what_the_formula_says(seed: int) -> None:
    """Coefficients are the excesses over a block, the constant is the sum of its thresholds."""
    model, pool, blocks, thresholds = drawn_pool(np.random.default_rng(seed))
    for start in range(len(pool) + 1):
        rows, constants = pool.rows(model, start)
        assert len(rows) == len(constants) == len(pool) - start
        for row, constant, block, level in zip(
            rows, constants, blocks[start:], thresholds[start:], strict=True
        ):
            assert row[: model.problem.size] == pytest.approx(excess(model, block, level))
            assert not row[model.problem.size :].any()
            assert constant == level.sum()


@given(seed=SEEDS)
def test_averages_and_values_of_blocks(seed: int) -> None:
    """Thresholds are averaged by the duals of a block's cuts; other blocks keep what they had."""
    rng = np.random.default_rng(seed)
    model, pool, blocks, thresholds = drawn_pool(rng)
    dual = rng.random(len(pool)) * (rng.random(len(pool)) < 0.6)
    otherwise = rng.random(len(model.best_values))
    total, weight = np.zeros_like(otherwise), np.zeros_like(otherwise)
    for share, block, level in zip(dual, blocks, thresholds, strict=True):
        total[block] += share * level
        weight[block] += share
    expected = np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), otherwise)
    assert pool.averaged(dual, otherwise) == pytest.approx(expected)

    y, level = rng.random(model.problem.size), rng.integers(0, 20, len(otherwise)).astype(float)
    places = np.split(pool.members, pool.starts[1:-1])
    worth = [level[b].sum() + excess(model, b, level[b]) @ y for b in places]
    assert pool.worth(model, level, y) == pytest.approx(np.array(worth))
    assert pool.by_block(level) == pytest.approx([level[b].sum() for b in places])


@given(seed=SEEDS)
def test_dropped_cuts_leave_the_others_as_they_were(seed: int) -> None:
    """Slack cuts are counted and dropped; the rows of the rest do not change."""
    rng = np.random.default_rng(seed)
    model, pool, _, _ = drawn_pool(rng)
    before, constants = pool.rows(model, 0)
    idle = rng.random(len(pool)) < 0.5
    pool.age(np.where(idle, 0.0, 1.0))
    assert (pool.slack_for == idle).all()
    pool.drop(idle)
    after, left = pool.rows(model, 0)
    assert (after == before[~idle]).all()
    assert (left == constants[~idle]).all()
    clusters = len(model.best_values)
    pool.add(np.arange(clusters, dtype=np.float64), np.ones(len(pool.lengths), dtype=bool))
    assert pool.rows(model, 0)[1].sum() == left.sum() + np.arange(clusters).sum()


@given(seed=SEEDS)
def test_rows_exclude_what_does_not_fit(seed: int) -> None:
    """A row broken by the forced experts is named, else the first row that each other breaks."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 7))
    rows = rng.integers(0, 5, size=(int(rng.integers(0, 4)), size)).astype(np.float64)
    limits = rng.integers(-1, 9, size=len(rows)).astype(np.float64)
    forced = rng.random(size) < 0.4
    allowed = forced | (rng.random(size) < 0.7)
    row_of = np.full(size, -1)
    broken = find_excluded(rows, limits, 1e-11, forced, allowed, row_of)
    over = rows[:, forced].sum(axis=1) > limits
    assert broken == (int(np.argmax(over)) if over.any() else -1)
    if broken < 0:
        for i in range(size):
            breaks = rows[:, forced].sum(axis=1) + rows[:, i] > limits
            wanted = allowed[i] and not forced[i] and breaks.any()
            assert row_of[i] == (int(np.argmax(breaks)) if wanted else -1)


@given(seed=SEEDS)
def test_best_profits_of_parts(seed: int) -> None:
    """The best free profit of a part and the sum of its forced ones."""
    rng = np.random.default_rng(seed)
    size, parts = int(rng.integers(1, 9)), int(rng.integers(1, 4))
    profit, part_of = rng.normal(size=size), rng.integers(0, parts, size=size)
    forced = rng.random(size) < 0.3
    allowed = forced | (rng.random(size) < 0.6)
    free_best, forced_sum = np.full(parts, -np.inf), np.full(parts, np.nan)
    best_of_parts(profit, forced, allowed, part_of, free_best, forced_sum)
    for part in range(parts):
        mine = part_of == part
        assert free_best[part] == profit[mine & allowed & ~forced].max(initial=-np.inf)
        if (mine & forced).any():
            assert forced_sum[part] == pytest.approx(profit[mine & forced].sum())
        else:
            assert np.isnan(forced_sum[part])


def slow_greedy(problem: FacilityProblem, *, per_cost: bool) -> np.ndarray:
    """Return what greedy without any tricks chooses."""
    gains = problem.weighted.T
    shares = (problem.costs / problem.limits[:, None]).sum(axis=0)
    chosen = np.zeros(problem.size, dtype=np.int64)
    while True:
        best = gains[chosen > 0].max(axis=0, initial=0.0)
        score = np.maximum(gains - best, 0.0).sum(axis=1) / (shares if per_cost else 1.0)
        for i in range(problem.size):
            trial = chosen.copy()
            trial[i] = 1
            if chosen[i] or not problem.is_feasible(trial):
                score[i] = 0.0
        if score.max() <= 0:
            return chosen
        chosen[int(np.argmax(score))] = 1


@given(seed=SEEDS)
def test_lazy_greedy_is_greedy(seed: int) -> None:
    """Gains that are not computed again would not have come first; groups are kept."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 9))
    # Different real values, so that ties do not decide.
    values = rng.random((int(rng.integers(1, 6)), size))
    costs = rng.random((2, size)) + 0.1
    groups = [np.flatnonzero(rng.random(size) < 0.3).tolist() for _ in range(2)]
    problem = FacilityProblem(values, costs, np.array([1.5, 1.2]), groups=[g for g in groups if g])
    found = greedy_facility(problem)
    expected = [slow_greedy(problem, per_cost=per_cost) for per_cost in (False, True)]
    assert found is not None
    assert problem.evaluate(found) == pytest.approx(max(map(problem.evaluate, expected)))
