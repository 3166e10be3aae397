"""What `pareto --check` accepts is what the proofs and solutions say, to the letter."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from mutations_of_results import mutations

import moe2opt as mo
from moe2opt.pareto import Front, Grid, grid, verify
from moe2opt.result import InputError

#: Settings and versions of the run; counters of each point are left alone by name.
FREE = ("provenance.settings", "provenance.versions")


def failures_of(content: Any, found: Front | Grid, target: Any) -> list[str]:
    """Judge the content of a file beside the results of `found`; unreadable content is a fault."""
    try:
        read = type(found).from_dict(content)
        return verify(replace(read, results=found.results), target, content)
    except InputError as error:
        return [str(error)]


def stored(found: Front | Grid) -> dict[str, Any]:
    """Return the content of the file of a front or grid."""
    content: dict[str, Any] = json.loads(json.dumps(found.to_dict()))
    return content


@pytest.fixture(scope="module")
def tiny() -> Any:
    """Return the built-in problem."""
    return mo.load("tiny")


@pytest.fixture(scope="module")
def front(tiny: Any) -> Front:
    """Return its exact front over the energy budget."""
    return mo.pareto(tiny, x="energy_j_per_prompt", points=None)


def test_changed_fronts_are_rejected(tiny: Any, front: Front) -> None:
    """An exact front is accepted as it is, and rejected with any leaf of its file changed."""
    content = stored(front)
    assert failures_of(content, front, tiny) == []
    for what, mutant in mutations(content, 120, FREE):
        if ".nodes" not in what:
            assert failures_of(mutant, front, tiny), f"{what} was accepted"


def test_changed_grids_are_rejected(tiny: Any) -> None:
    """So is a grid over a row and a key."""
    found = grid(tiny, {"energy_j_per_prompt": [60, 126], "delay.limit_s": [5, 10]})
    content = stored(found)
    assert failures_of(content, found, tiny) == []
    for what, mutant in mutations(content, 60, FREE):
        if ".nodes" not in what:
            assert failures_of(mutant, found, tiny), f"{what} was accepted"


def test_no_point_may_be_missing_or_twice(tiny: Any, front: Front) -> None:
    """A point left out, with its axis value, or repeated is told, at either end and in between."""
    for k in (0, len(front) // 2, len(front) - 1):
        for change in (lambda p, k=k: p[:k] + p[k + 1 :], lambda p, k=k: p[: k + 1] + p[k:]):
            content = stored(front)
            content["points"] = change(content["points"])
            content["x"]["values"] = [point["budgets"][0] for point in content["points"]]
            for number, point in enumerate(content["points"]):
                point["index"] = [number]
            assert failures_of(content, front, tiny)


def test_a_sampled_front_is_not_complete(tiny: Any) -> None:
    """A front of some points that calls itself complete is rejected."""
    found = mo.pareto(tiny, x="energy_j_per_prompt", points=3)
    assert not found.complete
    assert verify(found, tiny) == []
    told = verify(replace(found, complete=True), tiny)
    assert any("another plan is not excluded" in failure for failure in told)
