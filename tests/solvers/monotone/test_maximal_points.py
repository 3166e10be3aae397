"""Splits at maximal feasible points, the memory of oracles, and exchanges."""

import sys
from dataclasses import replace

import numpy as np
from solving import run

import moe2opt as mo
from moe2opt.bench.monotone import series
from moe2opt.bench.redundancy import network
from moe2opt.solvers.base import Options, Search
from moe2opt.solvers.monotone import memory
from moe2opt.solvers.monotone.heuristics import improving_monotone
from moe2opt.solvers.monotone.memory import remembering
from moe2opt.solvers.monotone.relaxation import maximal_feasible
from moe2opt.solvers.tuning import DEFAULT


def as_oracles(problem):
    """Return a problem of parts as plain functions, of which nothing is known."""
    return mo.MonotoneProblem(
        problem.lower,
        problem.upper,
        objective=lambda x: problem.objective(x),
        constraints=[lambda x, g=g: g(x) for g in problem.constraints],
    )


def test_no_step_up_from_a_maximal_point_is_feasible():
    """Every coordinate of a maximal feasible point is at its upper end or breaks a row."""
    problem = as_oracles(series(8, seed=1))
    point = maximal_feasible(problem, problem.lower, problem.upper, Search(problem, Options()))
    assert problem.is_feasible(point)
    for axis in np.flatnonzero(point < problem.upper):
        above = point.copy()
        above[axis] += 1
        assert not problem.is_feasible(above)


def test_maximal_points_prove_the_same_with_fewer_nodes():
    """On a series system both ways to split agree, and the points need at most a quarter."""
    problem = as_oracles(series(8, seed=0))
    middle = replace(DEFAULT, monotone=replace(DEFAULT.monotone, fine_bits=0))
    found = [run(problem, "brb", tuning=tuning) for tuning in (DEFAULT, middle)]
    assert [mo.certify(problem, r).kind for r in found] == ["checked", "checked"]
    assert found[0].objective == found[1].objective
    assert 4 * found[0].stats["nodes"] <= found[1].stats["nodes"]


def test_alternatives_of_a_reverse_row_are_split_first():
    """Networks need half the nodes where "one of two is there" is split before anything else."""
    problem = network("bridge-3")
    never = replace(DEFAULT, monotone=replace(DEFAULT.monotone, parts=0))
    for solver in ("brb", "polyblock"):
        found = [run(problem, solver, tuning=tuning) for tuning in (DEFAULT, never)]
        assert [mo.certify(problem, r).kind for r in found] == ["checked", "checked"]
        assert found[0].objective == found[1].objective
        assert 3 * found[0].stats["nodes"] <= 2 * found[1].stats["nodes"]


def test_a_split_of_a_reverse_row_leaves_no_part_that_breaks_it_unseen():
    """On drawn problems with rows from both sides the value is that of enumeration."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        gain, cost = rng.integers(1, 9, (2, 6))
        need = rng.integers(0, 3, (3, 6))
        problem = mo.MonotoneProblem(
            [0] * 6,
            [2] * 6,
            lambda x, gain=gain: np.sqrt(x) @ gain,
            constraints=[lambda x, cost=cost: x @ cost - 1.2 * cost.sum()],
            reverse_constraints=[lambda x, row=row: x @ row - row.sum() * 0.9 for row in need],
        )
        best = run(problem, "enumerate")
        for solver in ("brb", "polyblock"):
            result = run(problem, solver)
            assert mo.certify(problem, result).ok and result.status == best.status
            assert np.isclose(result.objective, best.objective, rtol=1e-9)


def test_oracles_are_asked_once_about_a_point():
    """No oracle is asked a second time about a point that its memory has room for."""
    asked = []

    def value(points):
        asked.extend(map(tuple, points.tolist()))
        return np.log1p(points).sum(axis=1)

    problem = mo.MonotoneProblem(
        [0] * 4, [6] * 4, value, constraints=[lambda x: x @ np.array([3, 4, 5, 7]) - 30]
    )
    asked.clear()
    known = remembering(problem)
    result = run(known, "brb")
    assert result.status == mo.Status.OPTIMAL and result.stats["nodes"] > 5
    assert len(asked) == len(set(asked)) > 0


def test_a_limit_of_memory_leaves_three_quarters_to_the_tree():
    """Answers of oracles take a third of a quarter of the room for each question at most."""
    problem, room = as_oracles(series(8, seed=0)), 2**18
    known = remembering(problem, room)
    points = np.random.default_rng(0).integers(1, 7, (4000, 8))
    for batch in np.split(points, 40):
        assert np.array_equal(known.constraint_values(batch), problem.constraint_values(batch))
    kept = known._above.known
    assert 0 < sum(map(sys.getsizeof, (*kept, *kept.values()))) + sys.getsizeof(kept) <= room / 12


def test_a_full_memory_forgets_and_answers_the_same(monkeypatch):
    """With room for a few answers only, values are still those of the oracles, batch by batch."""
    monkeypatch.setattr(memory, "MOST_BYTES", 3000)
    problem = mo.MonotoneProblem(
        [0, 0], [9, 9], lambda x: x[:, 0] * x[:, 1], constraints=[lambda x: x.sum(axis=1) - 9]
    )
    known, rng = remembering(problem), np.random.default_rng(0)
    for _ in range(40):
        points = rng.integers(0, 10, (7, 2))
        assert known.objective_values(points).tolist() == (points[:, 0] * points[:, 1]).tolist()
        assert known.constraint_values(points)[:, 0].tolist() == (points.sum(axis=1) - 9).tolist()


def test_one_is_exchanged_for_two():
    """Local search leaves a point where only one unit for two others is better, and the reverse."""
    for gains, costs in (([5, 3, 3], [4, 2, 2]), ([7, 3, 3], [4, 2, 2])):
        problem = mo.MonotoneProblem(
            [0] * 3,
            [1] * 3,
            lambda x, gains=gains: x @ np.array(gains),
            constraints=[lambda x, costs=costs: x @ np.array(costs) - 4],
        )
        for start in ([1, 0, 0], [0, 1, 1]):
            *_, best = [np.array(start), *improving_monotone(problem, np.array(start))]
            assert problem.evaluate(best) == max(gains[0], gains[1] + gains[2])
