"""``moe2opt problems``, ``init``, ``schema`` and ``versions``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result as Ran

import moe2opt as mo
from moe2opt.library import builtins, copy_to

Run = Callable[..., Ran]


def test_problems_are_listed(moe2opt: Run) -> None:
    """Every built-in problem is listed with its scenarios."""
    text = moe2opt("problems").stdout
    assert "selection/mmlu_pro_edge" in text
    assert "Solve one: moe2opt solve" in text
    found = json.loads(moe2opt("problems", "--json").stdout)["problems"]
    tiny = next(entry for entry in found if entry["name"] == "selection/tiny")
    assert tiny["scenarios"] == ["rich", "shared", "infeasible"]
    assert tiny["description"].startswith("Synthetic:")


def test_schema_is_json(moe2opt: Run) -> None:
    """`schema` prints the JSON Schema of the whole file, one alternative per question."""
    schema = json.loads(moe2opt("schema").stdout)
    files = schema["$defs"]
    for file, own in (("SelectionFile", "servers"), ("PlacementFile", "tiers")):
        assert {"schema_version", "problem", "solver", "scenarios", own} <= set(
            files[file]["properties"]
        )


def test_versions(moe2opt: Run) -> None:
    """`versions` names moe2opt, Python and the platform, as text and as JSON."""
    text = moe2opt("versions").stdout
    found = json.loads(moe2opt("versions", "--json").stdout)
    assert all(f"{name:10} {version}" in text for name, version in found.items())
    assert {"moe2opt", "python", "numpy", "platform"} <= set(found)


@pytest.mark.parametrize("name", ["tiny", "tinymoe", "mobile_edge", "deft_round", "teal_blocks"])
def test_a_copy_is_the_built_in_problem(moe2opt: Run, tmp_path: Path, name: str) -> None:
    """`init` copies all that a problem needs: the copy compiles to the same canonical problem."""
    found = json.loads(moe2opt("init", name, str(tmp_path / "own"), "--json").stdout)
    own = Path(found["config"])
    assert own == tmp_path / "own" / f"{name}.yaml"
    assert all(Path(path).exists() for path in found["files"])
    assert mo.load(own).problem().fingerprint == mo.load(name).problem().fingerprint
    assert json.loads((tmp_path / "own" / "config.schema.json").read_text())["$defs"]
    assert "$schema=config.schema.json" in own.read_text().splitlines()[0]


def test_every_built_in_problem_can_be_copied(tmp_path: Path) -> None:
    """No problem names a file that stays behind: each copy has all folders that it speaks of."""
    for builtin in builtins():
        first, *rest = copy_to(builtin.name, tmp_path / builtin.name)
        assert first.name == builtin.path.name
        beside = {path.name for path in builtin.path.parent.iterdir() if path.is_dir()}
        spoken = {name for name in beside if f"{name}/" in first.read_text()}
        assert spoken <= {path.name for path in rest}


def test_a_copy_replaces_nothing(moe2opt: Run, tmp_path: Path) -> None:
    """A second copy, an unknown name, a file and a folder that cannot be made end with 2."""
    assert moe2opt("init", "tiny", str(tmp_path)).exit_code == 0
    before = (tmp_path / "tiny.yaml").read_text()
    ran = moe2opt("init", "tiny", str(tmp_path))
    assert (ran.exit_code, (tmp_path / "tiny.yaml").read_text()) == (2, before)
    assert "tiny.yaml is there already; choose another folder" in ran.stderr
    for name, folder, fault in (
        ("tny", "x", "did you mean 'tiny'?"),
        (str(tmp_path / "tiny.yaml"), "x", "is a file, not a built-in problem"),
        ("tiny", "tiny.yaml", "File exists"),
    ):
        ran = moe2opt("init", name, str(tmp_path / folder))
        assert (ran.exit_code, fault in ran.stderr) == (2, True), ran.stderr
