"""Open nodes by bound and by age; trees that run out of room grow depth first."""

from __future__ import annotations

import numpy as np
import pytest
from solving import run

import moe2opt as mo
from moe2opt.result import Limit
from moe2opt.solvers import base
from moe2opt.solvers.frontier import OpenNodes
from moe2opt.solvers.relaxation import OpenNode
from moe2opt.solvers.tuning import TreeTuning, Tuning


def test_nodes_are_taken_by_bound_or_by_age() -> None:
    """Whatever was taken from one order is gone from the other, and the bound is the largest."""
    rng = np.random.default_rng(2)
    nodes, left = OpenNodes([]), []
    for step in range(3000):
        if not left or rng.random() < 0.55:
            node = OpenNode.of(
                float(rng.integers(0, 50)), int(rng.integers(0, 9)), step, None, ("", 0)
            )
            nodes.add(node)
            left.append(node)
        elif rng.random() < 0.5:
            assert nodes.best() is min(left, key=lambda node: node.key)
            left.remove(min(left, key=lambda node: node.key))
        else:
            assert nodes.newest() is left.pop()
        assert len(nodes) == len(left)
        assert nodes.bound == max((node.bound for node in left), default=-np.inf)
    assert {node.position for node in nodes} == {node.position for node in left}


def test_a_node_may_come_back() -> None:
    """A node whose examination a limit ended is open again, beside what it left behind."""
    nodes = OpenNodes([OpenNode.of(1.0, 0, k, None, ("", 0)) for k in range(8)])
    for take in (nodes.newest, nodes.best, nodes.newest):
        nodes.add(take())
        assert len(nodes) == 8
    assert sorted(node.position for node in nodes) == list(range(8))


def many() -> mo.MonotoneProblem:
    """Return a series system as oracles, whose tree has hundreds of open nodes."""
    rng = np.random.default_rng(8)
    works, cost = rng.uniform(0.6, 0.95, 12), rng.integers(1, 10, 12)
    return mo.MonotoneProblem(
        [1] * 12,
        [5] * 12,
        lambda x: np.prod(1 - (1 - works) ** x, axis=1),
        [lambda x: x @ cost - 2.0 * cost.sum()],
    )


def test_a_tree_without_room_goes_on_depth_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """With memory for a third of its open nodes a tree ends with the same proof."""
    open_now, most = [0], [0]
    add, taken = OpenNodes.add, OpenNodes._taken

    def adding(nodes: OpenNodes, node: OpenNode) -> None:
        open_now[0] += 1
        most[0] = max(most[0], open_now[0])
        add(nodes, node)

    def taking(nodes: OpenNodes, entry: list[object]) -> OpenNode:
        open_now[0] -= 1
        return taken(nodes, entry)

    monkeypatch.setattr(OpenNodes, "add", adding)
    monkeypatch.setattr(OpenNodes, "_taken", taking)
    monkeypatch.setattr(base, "resident_bytes", lambda: 1000 + 100 * open_now[0])
    problem, free = many(), Tuning(tree=TreeTuning(write_bytes=0))
    usual = run(problem, "brb", tuning=free)
    room = most[0] // 3
    assert room > 20
    open_now[0] = most[0] = 0
    result = run(problem, "brb", tuning=free, memory_limit_bytes=1000 + 100 * room)
    assert most[0] < room
    assert (result.status, result.objective) == (mo.Status.OPTIMAL, usual.objective)
    assert mo.certify(problem, result).kind == "checked"
    # Where even that is not enough, the run ends with what it has proven.
    open_now[0] = 0
    stopped = run(problem, "brb", tuning=free, memory_limit_bytes=1000 + 100 * 2)
    assert stopped.limit is Limit.MEMORY
    assert stopped.bound >= usual.objective
    assert mo.certify(problem, stopped).ok


def test_a_point_between_rows_from_both_sides_is_found_at_once() -> None:
    """Where three rows leave a narrow window, repairs find a point before the first node."""
    for seed in range(1, 5):
        rng = np.random.default_rng([seed, 12])
        worth, inside = rng.uniform(1, 9, 12), rng.integers(0, 4, 12)
        rows = rng.integers(20, 90, (3, 12)).astype(float)
        ends = rows @ inside
        problem = mo.MonotoneProblem(
            [0] * 12,
            [3] * 12,
            lambda x, worth=worth: (1 - np.exp(-x / 2)) @ worth,
            [lambda x, k=k, a=rows, b=ends: x @ a[k] - b[k] - 8 for k in range(3)],
            [lambda x, k=k, a=rows, b=ends: x @ a[k] - b[k] + 8 for k in range(3)],
        )
        assert mo.solve(problem, node_limit=1).x is not None
        assert mo.solve(problem, "greedy").x is not None
