"""What `verify` accepts is what the solution says: any change of a stored result is rejected."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mutations_of_results import FREE, at, leaves, mutations

import moe2opt as mo
from moe2opt import verify
from moe2opt.verify import judged

#: Problem, scenario or overrides, settings, and how many changes are tried (None for all of them).
Case = tuple[str, str | dict[str, Any] | None, dict[str, Any], int | None]
QUICK: list[Case] = [
    ("tiny", None, {}, 400),
    ("tiny", "infeasible", {}, 150),
    ("tiny", "shared", {"rel_gap": 0.2}, 150),
    ("tiny", "rich", {"solver": "milp"}, 150),
    ("tiny_gate", None, {}, 150),
    ("tiny_gate", {"robust.quantile": 0.9}, {}, 60),
    ("rtdetr_depth", "two", {}, 60),
    ("smile_ranks", None, {}, 40),
    ("tinymoe", None, {"time_limit_s": 2}, 25),
]
SLOW: list[Case] = [
    ("tiny", None, {}, None),
    ("tiny", "infeasible", {}, None),
    ("tinymoe", None, {"time_limit_s": 5}, 300),
    ("adapmoe_mixtral_cache", None, {}, 1500),
    ("gpt_oss_20b_orin", None, {"time_limit_s": 10}, 300),
    ("mixtral_8x7b_4090", "per_layer", {"time_limit_s": 10}, 1500),
    ("mobile_edge", None, {"time_limit_s": 10}, 1500),
    ("three_tier_edge", None, {"time_limit_s": 10}, 300),
    ("mmlu_pro_edge", None, {"time_limit_s": 20}, 300),
    ("mmlu_pro_edge", "robust", {"time_limit_s": 20}, 120),
    ("mmlu_pro_vote", "tight", {"time_limit_s": 20}, 100),
    ("deft_round", None, {"time_limit_s": 5}, 30),
]


ROOT = Path(__file__).parents[2]

#: What a result says of its question: not judged beside a given problem, it says which one to load.
ASKED = ("provenance.scenario", "provenance.overrides")


def check(folder: Path, name: str, scenario: Any, settings: Any, most: int | None) -> int:
    """Solve, store, judge the file and its mutants; return how many mutants there were."""
    asked = {"overrides": scenario} if isinstance(scenario, dict) else {"scenario": scenario}
    target = mo.load(name, **asked)
    mo.solve(target, **settings).save(folder / "result.json")
    content = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert judged(content, folder, target).failures == ()
    count = 0
    for what, mutant in mutations(content, most, FREE + ASKED):
        count += 1
        assert not judged(mutant, folder, target).ok, f"{what} was accepted"
    return count


@pytest.mark.parametrize(("name", "scenario", "settings", "most"), QUICK)
def test_changes_are_rejected(
    tmp_path: Path, name: str, scenario: Any, settings: Any, most: int | None
) -> None:
    """A stored result is accepted as it is, and rejected with any of its leaves changed."""
    assert check(tmp_path, name, scenario, settings, most) >= 25


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scenario", "settings", "most"), SLOW)
def test_changes_of_larger_results_are_rejected(
    tmp_path: Path, name: str, scenario: Any, settings: Any, most: int | None
) -> None:
    """The same holds for the larger built-in problems, whose files need minutes."""
    assert check(tmp_path, name, scenario, settings, most) >= 25


def test_optimal_plans_are_not_called_merely_feasible() -> None:
    """A gap that rounding alone leaves open closes a plan whose value is no whole number."""
    problem = mo.FacilityProblem(values=[[0.1, 0.2]], costs=[[1, 1]], budgets=[1])
    result = mo.solve(problem, "milp")
    above = math.nextafter(result.objective, math.inf)
    content = replace(result, status=mo.Status.FEASIBLE, bound=above).to_dict()
    found = judged(content, Path(), problem)
    assert [failure.partition(":")[0] for failure in found.failures] == ["status"]


def test_the_question_that_a_result_names_is_the_one_judged(tmp_path: Path) -> None:
    """A result is rejected when the scenario or the overrides that it records are changed."""
    path = tmp_path / "result.json"
    mo.solve(mo.load("tiny", "rich", ["energy.limit_j_per_prompt=200"])).save(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert verify.verify(path, "tiny").ok
    tried = 0
    for what, mutant in mutations(content):
        # The same override twice asks the same.
        if what.startswith(ASKED) and what != "provenance.overrides added":
            path.write_text(json.dumps(mutant), encoding="utf-8")
            assert not verify.verify(path, "tiny").ok, f"{what} was accepted"
            tried += 1
    assert tried >= 10


def test_only_the_run_itself_is_free() -> None:
    """Besides the question that a result names, only what happened at the run is not judged."""
    assert set(verify.FREE) == {*FREE, *ASKED, "provenance.axes"}
    page = (ROOT / "docs" / "reference" / "certificates.md").read_text(encoding="utf-8")
    table = page.partition("## What `verify` judges")[2].partition("##")[0]
    assert [place for place in verify.FREE if f"`{place}`" not in table] == []


def test_every_leaf_is_reached() -> None:
    """The mutants change, remove and add at every place of the content."""
    content = {"a": [1, {"b": None}], "c": "x", "stats": {"t": 1.0}}
    found = {name.rsplit(" ", 1)[0] for name, _ in mutations(content)}
    assert found == {"a", "a[0]", "a[1]", "a[1].b", "c"}
    assert at(content, next(leaves(content))) == 1
