"""What the README promises: its commands, its example, and the version to cite."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages.reading import CHECKOUT, REFERENCE, blocks, commands

COMMANDS = (
    "python -m venv .venv && .venv/bin/pip install -q -c constraints.txt . "
    "&& .venv/bin/moe2opt solve mmlu_pro_edge",
    'python -m venv .venv && .venv/bin/pip install -q -c constraints.txt -e ".[test]" '
    "&& .venv/bin/pytest -q",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_the_tested_ones(command: str) -> None:
    """The commands that the README tells the reader to run are run by continuous integration."""
    assert command in (CHECKOUT / "README.md").read_text(encoding="utf-8")
    assert command in (CHECKOUT / ".ci/run").read_text(encoding="utf-8")


def test_readme_shows_a_certified_optimum() -> None:
    """The run shown in the README is a proven optimum, and the one on record."""
    shown = dict(commands(CHECKOUT / "README.md"))["moe2opt solve mmlu_pro_edge"]
    record = REFERENCE["scenarios"][0]
    assert record["status"] == "OPTIMAL"
    assert f"Objective {record['objective']:.6g}, bound {record['bound']:.6g}, gap 0.00%" in shown
    assert f"checked (proves {record['bound']:.6g})" in shown


@pytest.mark.slow
def test_the_example_passes_a_strict_type_checker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Python example of the README has no fault of types, as a reader's own mypy sees it."""
    api = pytest.importorskip("mypy.api", reason="mypy is not installed")
    monkeypatch.chdir(CHECKOUT)
    example = tmp_path / "example.py"
    example.write_text("\n".join(blocks(CHECKOUT / "README.md", "python")), encoding="utf-8")
    said, faults, code = api.run(["--strict", "--cache-dir", str(tmp_path), str(example)])
    assert code == 0, said + faults


def test_citation_names_the_version() -> None:
    """The version in pyproject.toml and the one to cite agree."""
    declared = re.search(r'^version = "(.+)"', (CHECKOUT / "pyproject.toml").read_text(), re.M)
    cited = re.findall(r"^ *version: (.+)$", (CHECKOUT / "CITATION.cff").read_text(), re.M)
    assert declared is not None
    assert set(cited) == {declared[1]}
