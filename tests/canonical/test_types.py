"""Interchangeable rows: merging loses nothing, and packing decides what merging forgets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from solving import run
from strategies import brute_force

from moe2opt.canonical import FacilityProblem, interchangeable_rows, merge, pack
from moe2opt.certify import certify
from moe2opt.result import InputError, Status


def servers(seed: int, copies: int, *, groups: bool = False) -> FacilityProblem:
    """Return a problem with two LLMs in two sizes on `copies` identical servers, and energy."""
    rng = np.random.default_rng(seed)
    kinds = 4
    quality = rng.integers(0, 9, size=(5, kinds))
    size = rng.integers(2, 7, size=kinds)
    energy = rng.integers(1, 5, size=kinds)
    values = np.tile(quality, copies)
    memory = np.kron(np.eye(copies), size)
    costs = np.vstack([memory, np.tile(energy, copies)])
    pairs = [[s * kinds + k, s * kinds + k + 1] for s in range(copies) for k in (0, 2)]
    budgets = [*([8] * copies), int(rng.integers(3, 12))]
    return FacilityProblem(values, costs, budgets, groups=pairs if groups else None)


@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_identical_servers_are_merged_and_proven(seed: int, groups: bool) -> None:
    """With identical servers merged, the optimum is that of enumeration and the proof holds."""
    problem = servers(seed, 3, groups=groups)
    assert interchangeable_rows(problem) == ((0, 1, 2),)
    result = run(problem, "brb")
    assert result.status is Status.OPTIMAL
    assert result.objective == brute_force(problem)
    assert result.certificate.types == ((0, 1, 2),)
    verdict = certify(problem, result)
    assert verdict.ok, verdict.failures


def test_merged_problem_bounds_the_original() -> None:
    """The image of every feasible choice is feasible in the merged problem and worth the same."""
    problem = servers(3, 2)
    merged = merge(problem, interchangeable_rows(problem))
    image_of = {original: i for i, c in enumerate(merged.copies) for original in c}
    for x in itertools.product([0, 1], repeat=problem.size):
        if problem.is_feasible(x) and np.sum(x) <= 4:
            image = np.zeros(merged.problem.size, dtype=np.int64)
            image[[image_of[int(i)] for i in np.flatnonzero(x)]] = 1
            assert merged.problem.evaluate(image) == problem.evaluate(x)
            assert merged.problem.is_feasible(image)


@pytest.mark.parametrize(
    ("sizes", "bins", "limit", "rivals", "fits"),
    [
        ([5, 4, 3], 2, 7, [], True),
        ([5, 4, 4], 2, 7, [], False),
        ([2, 2], 1, 4, [], True),
        ([2, 2], 1, 4, [{0, 1}], False),
        ([2, 2], 2, 4, [{0, 1}], True),
        ([], 1, 1, [], True),
        ([3], 2, 2, [], False),
    ],
)
def test_packing(
    sizes: list[float], bins: int, limit: float, rivals: list[set[int]], fits: bool
) -> None:
    """A packing is found exactly when one exists, and it respects limits and rivals."""
    places = pack(sizes, bins, limit, rivals)
    assert (places is not None) == fits
    for b in range(bins if places is not None else 0):
        held = {k for k, place in enumerate(places) if place == b}
        assert sum(sizes[k] for k in held) <= limit
        assert all(len(held & rival) <= 1 for rival in rivals)


def test_a_hopeless_packing_search_gives_up() -> None:
    """A packing search that would take too long says so instead of guessing."""
    with pytest.raises(OverflowError, match="gave up"):
        pack([7 + (k % 5) for k in range(40)], 12, 29.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budgets": [8, 9, 5]}, "different limits"),
        ({"costs": [[2, 3, 0, 0], [0, 0, 2, 4], [1, 1, 1, 1]]}, "no identical copy"),
        ({"costs": [[2, 3, 0, 0], [0, 0, 2, 0], [1, 1, 1, 1]]}, "different experts"),
        ({"costs": [[2, 3, 1, 0], [0, 0, 2, 3], [1, 1, 1, 1]]}, "two rows of a type"),
        ({"covers": [[0, 1, 2]]}, "only some copies"),
        ({"groups": [[0, 3]]}, "treats the copies of an expert differently"),
        ({"groups": [[0, 1]]}, "some rows of a type only"),
    ],
)
def test_rows_that_differ_are_not_merged(change: dict[str, object], message: str) -> None:
    """Rows that no permutation of the experts exchanges are refused, by name of the reason."""
    data: dict[str, object] = {
        "values": [[1, 2, 1, 2], [3, 1, 3, 1]],
        "costs": [[2, 3, 0, 0], [0, 0, 2, 3], [1, 1, 1, 1]],
        "budgets": [8, 8, 5],
    }
    assert merge(FacilityProblem(**data), [(0, 1)]).problem.size == 2
    problem = FacilityProblem(**(data | change))
    with pytest.raises(InputError, match=message):
        merge(problem, [(0, 1)])
    assert (0, 1) not in interchangeable_rows(problem)


def test_types_must_name_rows_once() -> None:
    """Rows that do not exist or come twice are refused."""
    problem = servers(0, 2)
    for types in ([(0, 7)], [(0, 0)]):
        with pytest.raises(InputError, match="does not exist or appears twice"):
            merge(problem, types)
