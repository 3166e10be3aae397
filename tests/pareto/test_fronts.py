"""Fronts and grids are exact, certified, and the same for equal runs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import all_points, choice_problems, facility_problems

import moe2opt as mo
from moe2opt.canonical import FacilityProblem, MultipleChoiceProblem
from moe2opt.library import builtins
from moe2opt.pareto import Axis, Front, Grid, grid, save_results, surface, verify, with_results
from moe2opt.pareto.family import Family
from moe2opt.pareto.indicators import is_nondominated
from moe2opt.result import InputError

QUICK = ("tiny", "mixtral_8x7b_4090")
EVERY = [
    pytest.param(b.stem, marks=() if b.stem in QUICK else pytest.mark.slow) for b in builtins()
]


def outcomes(problem: Any, row: int) -> list[tuple[float, float]]:
    """Return use of a row and objective of every solution that keeps all other rows."""
    free = problem.with_budgets(
        [1e18 if k == row else b for k, b in enumerate(problem.budgets.tolist())]
    )
    return [
        (float(free.usage_of(x)[row]), free.evaluate(x))
        for x in all_points(free)
        if free.is_feasible(x)
    ]


def staircase(pairs: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the pairs that no other one beats, cheapest first."""
    found: list[tuple[float, float]] = []
    for cost, worth in sorted(pairs, key=lambda pair: (pair[0], -pair[1])):
        if not found or worth > found[-1][1]:
            found.append((cost, worth))
    return found


def test_front_of_large_whole_numbers_is_complete() -> None:
    """Steps of a row of whole numbers are found where halves of it would have a slack."""
    problem = MultipleChoiceProblem(
        values=[[0, 1, 2], [-3, 0]],
        usage=[[[2000000001], [2.0**53], [2.0**53 - 1]], [[0], [2147483649]]],
        budgets=[8],
    )
    front = mo.pareto(problem, x="budgets[0]", points=None)
    assert front.complete
    assert [(p.budget, p.objective) for p in front] == staircase(outcomes(problem, 0))


def test_front_without_a_known_bottom_is_not_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the least budget with a plan was not found, nobody is told that nothing lies below."""
    monkeypatch.setattr("moe2opt.solvers.infeasibility._HALVINGS", 0)
    problem = FacilityProblem(values=[[1, 2]], costs=[[3, 4]], budgets=[9], covers=[[0, 1]])
    front = mo.pareto(problem, x="budgets[0]", points=None)
    assert [p.budget for p in front] == [4.0]
    assert not front.complete


def reduced(problem: Any) -> Any:
    """Return a small part of a problem with budgets in proportion."""
    rng = np.random.default_rng(7)
    if isinstance(problem, FacilityProblem):
        kept = np.sort(rng.choice(problem.size, min(9, problem.size), replace=False))
        costs = problem.costs[:, kept]
        return FacilityProblem(
            problem.values[:, kept], costs, 0.6 * costs.sum(axis=1), problem.weights
        )
    assert isinstance(problem, MultipleChoiceProblem)
    groups = rng.choice(problem.size, min(5, problem.size), replace=False)
    values, usage = [], []
    for g in groups:
        options = rng.choice(len(problem.values[g]), min(4, len(problem.values[g])), replace=False)
        values.append(problem.values[g][options])
        usage.append(problem.usage[g][options])
    return MultipleChoiceProblem(values, usage, 0.7 * sum(u.max(axis=0) for u in usage))


@settings(max_examples=20)
@given(facility_problems())
def test_complete_front_equals_enumeration(problem: Any) -> None:
    """The complete front of a small facility problem is the staircase of all its solutions."""
    if not len(problem.budgets):
        return
    front = mo.pareto(problem, x="budgets[0]", points=None)
    expected = staircase(outcomes(problem, 0))
    found = [(p.budget, p.objective) for p in front if p.has_plan]
    assert found == expected
    assert front.certified


@settings(max_examples=15)
@given(choice_problems())
def test_complete_choice_front_equals_enumeration(problem: Any) -> None:
    """The complete front of a small choice problem is the staircase of all its solutions."""
    if not len(problem.budgets):
        return
    front = mo.pareto(problem, x="budgets[0]", points=None)
    assert [(p.budget, p.objective) for p in front if p.has_plan] == staircase(outcomes(problem, 0))
    assert front.certified


@settings(max_examples=10)
@given(facility_problems())
def test_grid_equals_enumeration(problem: Any) -> None:
    """Every cell of a grid over two budgets is the optimum found by enumeration, certified."""
    if len(problem.budgets) < 2:
        return
    axes = {f"budgets[{k}]": [0, 3, 7, 12] for k in range(2)}
    found = grid(problem, axes)
    for cell in found:
        own = problem.with_budgets([*cell.budgets, *problem.budgets[2:].tolist()])
        values = [own.evaluate(x) for x in all_points(own) if own.is_feasible(x)]
        assert cell.objective == max(values, default=-math.inf)
    assert found.certified
    assert verify(found, problem) == []


@settings(max_examples=10)
@given(facility_problems(experts=5, clusters=4))
def test_surface_equals_enumeration(problem: Any) -> None:
    """The three-objective front of a small problem holds exactly what no solution beats."""
    if len(problem.budgets) < 2:
        return
    found = surface(problem, "budgets[0]", "budgets[1]")
    free = problem.with_budgets([1e18, 1e18, *problem.budgets[2:].tolist()])
    points = [x for x in all_points(free) if free.is_feasible(x)]
    table = np.array([[*free.usage_of(x)[:2], -free.evaluate(x)] for x in points]).reshape(-1, 3)
    expected = {tuple(row) for row in table[is_nondominated(table)].tolist()}
    assert {(*p.budgets, -p.objective) for p in found.points} == expected
    assert found.complete and found.certified


@pytest.mark.parametrize("name", EVERY)
def test_front_of_reduced_builtin_equals_enumeration(name: str) -> None:
    """The front over every row of a part of each built-in problem is that of enumeration."""
    instance: Any = mo.load(name)
    whole = instance.problem()
    if whole.kind == "monotone":
        pytest.skip("oracles of a whole problem have no part of it")
    problem = reduced(whole)
    for row in range(len(problem.budgets)):
        front = mo.pareto(problem, x=f"budgets[{row}]", points=None)
        assert front.certified
        budgets, worth = front.budgets, front.objectives
        for cost, value in staircase(outcomes(problem, row)):
            reach = worth[budgets <= cost + 2e-6 * max(1.0, abs(cost))].max(initial=-math.inf)
            assert reach >= value - 1e-8 * abs(value)
        for point in front:
            if point.x is not None:
                x = np.array(point.x)
                assert problem.evaluate(x) == point.objective
                assert float(problem.usage_of(x)[row]) <= point.budget


def test_sampled_front_lies_on_the_complete_one() -> None:
    """A front of few points holds points of the complete front, and more where the curve bends."""
    instance = mo.load("tiny")
    complete = mo.pareto(instance, x="energy_j_per_prompt", points=None)
    few = mo.pareto(instance, x="energy_j_per_prompt", points=4)
    steps = {(p.budget, p.objective) for p in complete}
    assert {(p.budget, p.objective) for p in few} <= steps
    assert complete.complete and not few.complete
    assert len(few) == 4


def test_equal_runs_give_equal_bytes(tmp_path: Path) -> None:
    """Front, table and grid of the same instance and seed are the same files, byte for byte."""
    for run in ("a", "b"):
        instance = mo.load("tiny")
        mo.pareto(instance, x="energy_j_per_prompt", seed=3).save(tmp_path / f"front-{run}.json")
        axes = {"energy_j_per_prompt": [60, 130], "delay.limit_s": [1, 2]}
        grid(instance, axes, seed=3).save(tmp_path / f"grid-{run}.json")
    for kind in ("front", "grid"):
        first, second = (tmp_path / f"{kind}-{run}.json" for run in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()


def test_fronts_survive_storage(tmp_path: Path) -> None:
    """What was saved is what is loaded, and it can be checked again without solving."""
    instance = mo.load("tiny")
    front = mo.pareto(instance, x="energy_j_per_prompt")
    front.save(tmp_path / "front.json")
    save_results(front, tmp_path / "results")
    loaded = Front.load(tmp_path / "front.json")
    assert loaded == front
    assert verify(with_results(loaded, tmp_path / "results"), instance) == []
    found = grid(instance, {"energy_j_per_prompt": [60, 130, 200], "delay.limit_s": [1, 2]})
    found.save(tmp_path / "grid.json")
    assert Grid.load(tmp_path / "grid.json") == found
    assert len(found.results) < len(found)


@pytest.mark.parametrize(
    ("field", "value"),
    [("objective", 0.9), ("bound", 0.1), ("x", [1, 1, 1, 1, 1, 1]), ("proof", 0)],
)
def test_changed_points_are_rejected(field: str, value: Any) -> None:
    """A point whose value, bound, plan or proof was changed is found by the check."""
    instance = mo.load("tiny")
    front = mo.pareto(instance, x="energy_j_per_prompt", points=None)
    content = json.loads(json.dumps(front.to_dict()))
    worst = max(
        range(len(front)), key=lambda k: front.results[front.points[k].proof].bound != value and -k
    )
    content["points"][worst][field] = value if field != "proof" else 1
    if field in ("objective", "bound"):
        content["points"][worst]["canonical"][field] = value
    changed = Front.from_dict(content)
    object.__setattr__(changed, "results", front.results)
    assert verify(changed, instance)


def test_keys_of_the_configuration_are_axes() -> None:
    """A key that is no budget row varies the file's value, cell by cell."""
    instance = mo.load("tiny")
    found = grid(instance, {"delay.limit_s": [0.9, 1, 2], "energy.limit_j_per_prompt": [60, 130]})
    for cell in found:
        delay, energy = cell.budgets
        overrides = {"delay.limit_s": delay, "energy.limit_j_per_prompt": energy}
        alone = mo.solve(mo.load("tiny", overrides=overrides))
        assert cell.objective == pytest.approx(alone.objective, rel=1e-12)
        assert cell.certified


def test_gated_instances_have_fronts() -> None:
    """A selection with a trained gate has a certified front over its energy."""
    front = mo.pareto(mo.load("tiny_gate"), x="energy_j_per_prompt", points=5)
    assert front.certified
    assert np.all(np.diff(front.objectives) > 0)


def test_infeasible_budgets_are_proven() -> None:
    """Below the least budget with a plan a listed budget is a certified, infeasible point."""
    front = mo.pareto(mo.load("tiny"), x="energy_j_per_prompt", budgets=[1, 130])
    assert [point.status for point in front] == ["INFEASIBLE", "OPTIMAL"]
    assert front.certified


def test_rows_and_keys_are_told_when_a_name_is_wrong() -> None:
    """An unknown name, a repeated axis and a missing range are errors that say what there is."""
    instance = mo.load("tiny")
    with pytest.raises(InputError, match="did you mean 'energy_j_per_prompt'"):
        mo.pareto(instance, x="energy_j_per_promt")
    with pytest.raises(InputError, match="give a range"):
        mo.pareto(instance, x="delay.limit_s", high=3)
    with pytest.raises(InputError, match="named twice"):
        Family(instance, ("delay.limit_s", "delay.limit_s"))
    with pytest.raises(InputError, match="finite"):
        grid(instance, {"energy_j_per_prompt": [math.nan]})
    monotone: Any = instance.problem().as_monotone()
    with pytest.raises(InputError, match="no budget rows"):
        mo.pareto(monotone, x="budgets[0]")


def test_axis_sorts_its_budgets() -> None:
    """Budgets of an axis are ascending and distinct whatever order they are given in."""
    family = Family(mo.load("tiny"), ("energy_j_per_prompt",))
    axis = family.axis("energy_j_per_prompt", [3, 1, 3, 2])
    assert axis == Axis("energy_j_per_prompt", "row", (1.0, 2.0, 3.0))
