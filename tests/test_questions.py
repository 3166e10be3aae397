"""Which question a stored plan and a stored result answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import moe2opt as mo
from moe2opt.questions import question_of, question_of_plan
from moe2opt.verify import verify

BUILTINS = {"tiny": "selection", "tiny_gate": "selection", "three_tier_edge": "placement"}


@pytest.mark.parametrize(("name", "question"), BUILTINS.items())
def test_exactly_one_question_reads_a_plan(name: str, question: str) -> None:
    """The plan of a result that names no question is read by its own question, and by no other."""
    instance = mo.load(name)
    plan = json.loads(json.dumps(mo.solve(instance).plan.to_dict()))
    own = question_of(instance)
    assert own is not None
    assert own.name == question
    assert question_of_plan(plan) is own
    assert question_of_plan({"levels": {"a": 1}}) is None
    assert question_of_plan({}) is None


def test_results_of_earlier_versions_name_no_question(tmp_path: Path) -> None:
    """A result without the name of its question verifies; one with another name does not."""
    path = tmp_path / "result.json"
    mo.solve(mo.load("tiny")).save(path)
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["provenance"].pop("question") == "selection"
    path.write_text(json.dumps(data), encoding="utf-8")
    assert verify(path, "tiny").ok
    data["provenance"]["question"] = "placement"
    path.write_text(json.dumps(data), encoding="utf-8")
    assert "provenance.question" in " ".join(verify(path, "tiny").failures)


def test_a_variant_of_an_instance_is_not_the_file(tmp_path: Path) -> None:
    """An instance changed in code carries no source, so no file is named for its results."""
    from dataclasses import replace

    tiny = mo.load("tiny", overrides={"solver.seed": 5})
    assert tiny.source.solver.seed == 5
    other = replace(tiny, name="other")
    assert other.source is None
    assert "file" not in mo.solve(other).provenance
    assert other != tiny
