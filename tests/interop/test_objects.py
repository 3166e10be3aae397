"""Public objects travel, compare and show themselves as objects of Python do."""

from __future__ import annotations

import copy
import math
import pickle
import subprocess
import sys
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

import moe2opt as mo
from moe2opt.canonical import find_counterexample
from moe2opt.content import same

#: One built-in problem of each kind of instance.
BUILTINS = ("selection/tiny", "placement/tinymoe")

#: What `objects` holds of each problem.
PARTS = ("", " result", " proof", " verdict")

NO_ROOM = mo.FacilityProblem(values=[[3, 0, 2]], costs=[[4, 2, 1]], budgets=[1], covers=[[0, 1]])


def rising(points: Any) -> Any:
    """Sum coordinates; pickle finds this function by its name."""
    return points.sum(axis=1)


def bounded(points: Any) -> Any:
    """Limit a product; pickle finds this function by its name."""
    return points[:, 0] * points[:, 1] - 3.0


def problems() -> dict[str, Any]:
    """Return one problem of each kind, the same at every call."""
    return {
        "facility": mo.FacilityProblem([[3, 0, 2], [0, 4, 3]], [[2, 2, 1]], [3], weights=[1, 2]),
        "choice": mo.MultipleChoiceProblem([[0, 5], [0, 4, 6]], [[[0], [3]], [[0], [2], [4]]], [5]),
        "monotone": mo.MonotoneProblem([0, 0], [3, 3], rising, [bounded]),
    }


@cache
def objects() -> dict[str, Any]:
    """Return what people hold in their hands: problems, instances, results, plans, proofs."""
    found: dict[str, Any] = {}
    targets = {**problems(), "infeasible": NO_ROOM, **{name: mo.load(name) for name in BUILTINS}}
    for name, target in targets.items():
        result = mo.solve(target)
        found |= {name: target, f"{name} result": result, f"{name} proof": result.certificate}
        found[f"{name} verdict"] = mo.certify(target, result)
        if result.plan is not None:
            found |= {f"{name} plan": result.plan, f"{name} source": target.source}
    found["front"] = mo.pareto(mo.load("selection/tiny"), x="memory_gib[slow]", points=3)
    found["conflict"] = found["infeasible proof"].conflict
    return found


NAMES = (
    *(f"{name}{part}" for name in (*problems(), "infeasible", *BUILTINS) for part in PARTS),
    *(f"{name}{part}" for name in BUILTINS for part in (" plan", " source")),
    *("front", "conflict"),
)


@pytest.mark.parametrize("name", NAMES)
def test_copies_are_equal(name: str) -> None:
    """A pickled and a deep copy equal the original, also by hash."""
    original = objects()[name]
    for again in (pickle.loads(pickle.dumps(original)), copy.deepcopy(original)):
        assert type(again) is type(original)
        assert again == original
        assert hash(again) == hash(original)


@pytest.mark.parametrize("name", NAMES)
def test_representations_are_short(name: str) -> None:
    """What a prompt shows of an object is one short line that says what it is."""
    text = repr(objects()[name])
    assert text.startswith(type(objects()[name]).__name__)
    assert len(text) < 300
    assert "\n" not in text


def test_comparing_never_raises() -> None:
    """Any two objects can be compared, and different ones differ."""
    everything = [*objects().values(), None, 3, "text", np.arange(3), {"a": np.arange(3)}]
    for k, a in enumerate(everything[: len(NAMES)]):
        for m, b in enumerate(everything):
            assert bool(np.any(a == b)) is (k == m), (a, b)


def test_problems_are_equal_when_their_data_are() -> None:
    """Equal data make equal problems and equal keys of a dictionary; another budget does not."""
    first, second = problems(), problems()
    assert first == second
    assert {problem: name for name, problem in first.items()} == {
        problem: name for name, problem in second.items()
    }
    assert first["facility"] != first["facility"].with_budgets([4])
    assert first["monotone"] != replace(first["monotone"], objective=lambda x: rising(x))


def test_results_are_equal_when_their_claims_are() -> None:
    """A second run gives an equal result; another objective makes a different one."""
    for problem in problems().values():
        result = mo.solve(problem)
        assert mo.solve(problem) == result
        assert replace(result, bound=math.inf, status=mo.Status.FEASIBLE) != result


def test_a_saved_result_equals_the_original(tmp_path: Path) -> None:
    """A result read back equals the one that was written, its plan being a dictionary now."""
    result = objects()["selection/tiny result"]
    result.save(tmp_path / "result.json")
    again = mo.Result.load(tmp_path / "result.json")
    assert isinstance(again.plan, dict)
    assert again == result
    assert replace(again, plan={**again.plan, "instance": "other"}) != result


def test_copies_of_problems_are_read_only() -> None:
    """Nothing can be written into the arrays of a copy, as into those of the original."""
    again = pickle.loads(pickle.dumps(problems()["facility"]))
    assert not again.values.flags.writeable
    assert not copy.deepcopy(again).costs.flags.writeable


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        (math.nan, math.nan, True),
        ([1.0, math.nan], np.array([1.0, math.nan]), True),
        (np.array(["a"]), np.array(["a"]), True),
        (np.arange(3), np.arange(4), False),
        ({"a": np.arange(2)}, {"a": [0, 1]}, True),
        ({"a": 1}, {"b": 1}, False),
        ("ab", ["a", "b"], False),
        (np.array([None]), np.array([{}]), False),
    ],
)
def test_same_content(a: Any, b: Any, equal: bool) -> None:
    """Content is compared through arrays and containers, and NaN equals NaN."""
    assert same(a, b) is equal
    assert same(b, a) is equal


class Cells(HTMLParser):
    """Collects the tags and texts of a table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        """Note a tag."""
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.texts.append(data)


def test_notebooks_show_escaped_tables() -> None:
    """A notebook shows a result and its plan as tables; text of a file never becomes a tag."""
    result = objects()["selection/tiny result"]
    cells = Cells(result._repr_html_())
    assert {"OPTIMAL", "Result"} <= set(cells.texts)
    assert "server" in cells.texts
    experts = [replace(e, llm="<script>x</script>") for e in result.plan.experts]
    nasty = replace(result.plan, instance="<img src=x>\x1b[2J", experts=tuple(experts))
    for shown in (nasty, replace(result, plan=nasty)):
        text = shown._repr_html_()
        assert Cells(text).tags.isdisjoint({"script", "img"})
        assert "\x1b" not in text


def test_a_result_is_a_warm_start() -> None:
    """The result of one run starts another one; one without a solution changes nothing."""
    problem = problems()["facility"]
    result = mo.solve(problem, "greedy")
    again = mo.solve(problem, warm_start=result, node_limit=0)
    assert any(event.source == "U" for event in again.log)
    assert again.objective >= result.objective
    empty = mo.solve(NO_ROOM)
    assert mo.solve(problem, warm_start=empty) == mo.solve(problem)


def solves_with_the_module() -> float:
    """Solve with the package as a global name, as people write it."""
    problem = mo.FacilityProblem([[3, 0, 2]], [[2, 2, 1]], [2])
    result = mo.solve(problem)
    assert mo.certify(problem, result).ok
    return float(result.objective)


def test_functions_that_use_the_package_travel() -> None:
    """A function that names the package is packed by value and runs in a fresh process."""
    held = mo

    def with_a_closure() -> float:
        return held.solve(problem).objective + (find_counterexample(rise) is None)

    problem, rise = problems()["facility"], mo.MonotoneProblem([0], [3], lambda x: 2.0 * x[:, 0])
    code = "import sys, pickle; print(pickle.load(sys.stdin.buffer)())"
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        packed = [cloudpickle.dumps(f) for f in (solves_with_the_module, with_a_closure)]
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    for pack, expected in zip(packed, ("3.0", "11.0"), strict=True):
        ran = subprocess.run(
            [sys.executable, "-c", code], input=pack, capture_output=True, check=False
        )
        assert ran.stdout.decode().split() == [expected], ran.stderr.decode()


def test_the_package_is_copied_as_a_module() -> None:
    """Pickle and copy hand back the very package, in which `solve` stays a function."""
    assert pickle.loads(pickle.dumps(mo)) is mo
    assert copy.deepcopy(mo) is mo
    assert callable(mo.solve)
    assert callable(mo.certify)
