"""The documentation is executed: code blocks run, links lead somewhere, commands are real."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
PAGES = [
    CHECKOUT / "README.md",
    CHECKOUT / "CONTRIBUTING.md",
    *sorted(CHECKOUT.glob("docs/**/*.md")),
]

COMMANDS = (
    "python -m venv .venv && .venv/bin/pip install -q -c constraints.txt . "
    "&& .venv/bin/moe2opt solve mmlu_pro_edge",
    'python -m venv .venv && .venv/bin/pip install -q -c constraints.txt -e ".[test]" '
    "&& .venv/bin/pytest -q",
)


def name_of(path: Path) -> str:
    """Return the path of a page inside the checkout."""
    return str(path.relative_to(CHECKOUT))


def blocks(path: Path, language: str) -> list[str]:
    """Return the fenced code blocks of a page in one language."""
    fence = re.compile(rf"^```\{{?{language}\}}?[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return fence.findall(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_blocks_run(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python blocks of a page run from top to bottom, and show the output that they print."""
    monkeypatch.chdir(CHECKOUT)
    names: dict[str, object] = {}
    for number, block in enumerate(blocks(page, "python"), start=1):
        title = f"{name_of(page)} block {number}"
        if ">>>" not in block:
            exec(compile(block, title, "exec"), names)
            continue
        flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
        example = doctest.DocTestParser().get_doctest(block, names, title, title, 0)
        report: list[str] = []
        outcome = doctest.DocTestRunner(optionflags=flags).run(
            example, out=report.append, clear_globs=False
        )
        assert outcome.failed == 0, "".join(report)
        names = example.globs


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link and picture of a page exists in the checkout."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    local = [target for target in targets if "://" not in target and "@" not in target]
    missing = [target for target in local if not (page.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_the_tested_ones(command: str) -> None:
    """The commands that the README tells the reader to run are run by continuous integration."""
    assert command in (CHECKOUT / "README.md").read_text(encoding="utf-8")
    assert command in (CHECKOUT / ".ci/run").read_text(encoding="utf-8")


def test_citation_names_the_version() -> None:
    """The version in pyproject.toml and the one to cite agree."""
    declared = re.search(r'^version = "(.+)"', (CHECKOUT / "pyproject.toml").read_text(), re.M)
    cited = re.findall(r"^ *version: (.+)$", (CHECKOUT / "CITATION.cff").read_text(), re.M)
    assert declared is not None
    assert set(cited) == {declared[1]}
