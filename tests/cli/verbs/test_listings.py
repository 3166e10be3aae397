"""``moe2opt problems``, ``schema`` and ``versions``."""

from __future__ import annotations

import json
from collections.abc import Callable

from typer.testing import Result as Ran

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
