"""Instances: generators repeat, readers read, suites hold what they promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moe2opt.bench.cases import MissingDataError, build_case
from moe2opt.bench.generated import structured, uniform
from moe2opt.bench.orlib import assignments, knapsacks, multiple_choice, p_median, warehouses
from moe2opt.bench.placement import placement
from moe2opt.bench.run import Plan
from moe2opt.bench.suites import SUITES, cases_of
from moe2opt.canonical import FacilityProblem, save_problem
from moe2opt.result import InputError


@pytest.mark.parametrize("make", [structured, uniform])
def test_generators_repeat(make: object) -> None:
    """The same arguments give the same problem, another seed another one."""
    first, again, other = (make(12, 30, 0.3, seed) for seed in (1, 1, 2))  # type: ignore[operator]
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.is_integral
    assert first.values.shape == (30, 12)
    assert (first.budgets == np.floor(0.3 * first.costs.sum(axis=1))).all()


def test_structured_costs_grow_with_quality() -> None:
    """Experts that cost more of the first budget are better on average: size drives both."""
    problem = structured(200, 300, 0.1, 0)
    assert np.corrcoef(problem.costs[0], problem.values.mean(axis=0))[0, 1] > 0.3


def test_suites_have_the_promised_instances() -> None:
    """Five sizes per generated suite and seed, 36 catalogue instances, twenty p-medians."""
    assert len(cases_of("selection-structured", 3)) == 15
    assert len(cases_of("selection-uniform", 1)) == 5
    assert len(cases_of("selection-real", 1)) == 36
    assert sum(case.name.startswith("pmed") for case in cases_of("orlib", 1)) == 20
    for name in SUITES:
        names = [case.name for case in cases_of(name, 2)]
        assert len(names) == len(set(names))


def test_unknown_names_are_refused() -> None:
    """Suites, recipes, peers and patterns that do not exist are input errors."""
    with pytest.raises(InputError, match="no suite"):
        cases_of("selection-imaginary", 1)
    with pytest.raises(InputError, match="unknown recipe"):
        build_case("magic", {}, None)
    with pytest.raises(InputError, match="unknown peer"):
        Plan(("orlib",), ("no-such-peer",))
    with pytest.raises(InputError, match="no case matches"):
        Plan(("orlib",), ("brb",), only=("nothing*",)).cases()


@pytest.mark.parametrize("name", ["orlib", "placement-real"])
def test_missing_data_are_named(name: str, tmp_path: Path) -> None:
    """A recipe without its data says which file is missing."""
    case = cases_of(name, 1)[0]
    for data in (None, tmp_path):
        with pytest.raises(MissingDataError, match="data folder"):
            build_case(case.recipe, case.arguments, data)


def test_patterns_add_up() -> None:
    """Each of several patterns keeps the instances that it matches."""
    found = Plan(("orlib",), ("brb",), only=("pmed1", "cap71*")).cases()
    assert {case.name[:4] for case in found} == {"pmed", "cap7"}


def test_seeds_of_generated_instances_seed_the_solver() -> None:
    """A generated instance runs once, with its own seed; a fixed one with every seed."""
    generated = Plan(("selection-uniform",), ("brb",), seeds=2, most_cells=10_000).jobs()
    assert [(job.case.name, job.seed) for job in generated] == [
        ("uniform-50x200-s0", 0),
        ("uniform-50x200-s1", 1),
    ]
    fixed = Plan(("orlib",), ("brb",), seeds=2, only=("pmed1",)).jobs()
    assert [job.seed for job in fixed] == [0, 1]


def test_problem_files_are_cases(tmp_path: Path) -> None:
    """A problem file can be benchmarked like a suite."""
    path = tmp_path / "tiny.json"
    problem = FacilityProblem(np.eye(2), np.ones((1, 2)), np.array([1.0]))
    save_problem(problem, path)
    (case,) = cases_of(str(path), 1)
    assert case.name == "tiny"
    built = build_case(case.recipe, case.arguments, None).problem
    assert built.fingerprint == problem.fingerprint  # type: ignore[union-attr]


def test_knapsack_reader(tmp_path: Path) -> None:
    """Items become groups {skip, take}, rows become budgets."""
    path = tmp_path / "mknap.txt"
    path.write_text("1  2 1 7   5 7  3 4  5")
    (problem,) = knapsacks(path)
    assert problem.evaluate([0, 1]) == 7.0
    assert not problem.is_feasible([1, 1])


def test_assignment_reader(tmp_path: Path) -> None:
    """Jobs become groups, agents become options with a budget each."""
    path = tmp_path / "gap.txt"
    path.write_text("1  2 2   9 1  2 8   3 3  4 4   3 4")
    (problem,) = assignments(path)
    assert problem.evaluate([0, 1]) == 17.0
    assert problem.is_feasible([0, 1])
    assert not problem.is_feasible([0, 0])


def test_multiple_choice_reader(tmp_path: Path) -> None:
    """Classes become groups, in the order of the file."""
    path = tmp_path / "mmkp.txt"
    path.write_text("2 2 1  5   1  3 1  4 2   2  6 3  9 5")
    problem = multiple_choice(path)
    assert problem.evaluate([0, 1]) == 12.0
    assert problem.usage_of([0, 1]).tolist() == [6.0]


def test_p_median_reader(tmp_path: Path) -> None:
    """Distances are shortest paths, and the last of repeated edges counts."""
    path = tmp_path / "pmed.txt"
    path.write_text("3 3 1  1 2 9  1 2 2  2 3 2")
    problem, constant = p_median(path)
    costs = [constant - problem.evaluate(x) for x in np.eye(3, dtype=int)]
    assert costs == [6.0, 4.0, 6.0]


def test_warehouse_reader(tmp_path: Path) -> None:
    """The objective of a choice is the dearest supply minus its cost."""
    path = tmp_path / "cap.txt"
    path.write_text("2 2  capacity 5  capacity 7   1 10 20   1 30 4")
    problem, constant = warehouses(path)
    assert constant == 50.0
    assert constant - problem.evaluate([1, 0]) == 45.0
    assert constant - problem.evaluate([1, 1]) == 26.0


def test_published_values_fit(shared_data: Path) -> None:
    """Published optima are translated into the objective of the canonical problem."""
    built = build_case("orlib", {"family": "pmed", "instance": "pmed1"}, shared_data)
    assert built.known == 24081.0
    built = build_case("orlib", {"family": "mknap", "instance": "mknap1-1"}, shared_data)
    assert (built.known, built.is_optimum) == (3800.0, True)


def test_catalogue_of_the_built_in_tables() -> None:
    """24 LLMs x 3 precisions x 4 servers, a memory row per server and one for energy."""
    arguments = {"prompts": None, "servers": 4, "energy": "tight"}
    problem = build_case("catalogue", arguments, None).problem
    assert isinstance(problem, FacilityProblem)
    assert (problem.size, problem.clusters, len(problem.budgets)) == (24 * 3 * 4, 200, 5)


def test_single_prompts_are_unseen(shared_data: Path) -> None:
    """Single prompts become clusters of their own, each with scores in [0, 1]."""
    pytest.importorskip("pyarrow")
    arguments = {"prompts": 50, "servers": 2, "energy": "none"}
    problem = build_case("catalogue", arguments, shared_data).problem
    assert isinstance(problem, FacilityProblem)
    assert (problem.clusters, problem.size) == (50, 144)
    assert problem.weighted.sum() > 0


def test_placement_prefers_fast_tiers_for_busy_experts() -> None:
    """An expert saves the more time the busier it is; budgets are shares of the total."""
    problem = placement(np.array([3.0, 1.0]), np.array([1.0, 1.0]), 0.5, 0.5, 0.1)
    assert problem.size == 2
    assert (problem.values[0] == 3.0 * problem.values[1]).all()
    assert problem.values[0][0] == problem.values[0][:12:4].max()
    assert problem.is_feasible([0, 4])
    assert not problem.is_feasible([0, 0])
