"""The pages are executed: code blocks run, links lead somewhere, commands and keys are real."""

from __future__ import annotations

import doctest
import re
import shlex
from collections.abc import Iterator
from importlib import import_module, util
from pathlib import Path
from typing import Any

import pytest
from pages.reading import CHECKOUT, PAGES, blocks, name_of

#: Languages of blocks: run, compared with what is printed, or only shown.
LANGUAGES = {
    "python",
    "console",
    "bash",
    "yaml",
    "text",
    "json",
    "",
    "{eval-rst}",
    "{code-block}",
    "{toctree}",
    "{math}",
}


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


def links(page: Path) -> list[tuple[str, str]]:
    """Return file and heading of every relative link and picture of a page."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?[^)]*\)", text)
    return [(file, part) for file, part in found if "://" not in file and "@" not in file]


def anchors(page: Path) -> set[str]:
    """Return what the headings of a page are called in links."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link and picture of a page exists in the checkout, and so does its heading."""
    targets = [((page.parent / file) if file else page, part) for file, part in links(page)]
    assert [str(target) for target, _ in targets if not target.exists()] == []
    assert [part for target, part in targets if part and part not in anchors(target)] == []


@pytest.mark.parametrize("page", [*PAGES, CHECKOUT / ".ci/run"], ids=name_of)
def test_named_files_exist(page: Path) -> None:
    """Every file or folder of the checkout that a page names is there; a star stands for many."""
    folders = r"(?<![\w/.:-])(?:docs|moe2opt|notebooks|problems|tests)/"
    named = re.findall(rf"{folders}[\w./*-]*[\w*]", page.read_text(encoding="utf-8"))
    assert [path for path in named if not any(CHECKOUT.glob(path))] == []


def shell_lines(path: Path) -> Iterator[str]:
    """Yield the commands of the bash blocks of a page, continued lines joined, comments cut."""
    for block in blocks(path, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            if command := re.sub(r"(^|\s)#.*", "", line).strip():
                yield command


def parsed(command: str) -> None:
    """Parse the arguments of a command as the program does, without running it."""
    from typer.main import get_command

    from moe2opt.cli.app import app

    group: Any = get_command(app)
    arguments = shlex.split(command)[1:]
    while hasattr(group, "commands"):
        group = group.commands[arguments.pop(0)]
    group.make_context(command, arguments)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_of_a_kind_that_is_checked(page: Path) -> None:
    """Commands that are too long to run here have verbs and options that exist; no odd blocks."""
    fences = re.findall(r"^ *```(\S*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(fences) <= LANGUAGES
    for command in shell_lines(page):
        program, *rest = shlex.split(command)
        if program == "moe2opt":
            parsed(command)
        elif rest[:1] and rest[0].startswith("docs/studies/"):
            assert (CHECKOUT / rest[0]).is_file()


#: Tables whose keys are the user's own names; the last ones where columns of a CSV are named.
FREE = ("scenarios", "overrides", "limit_s", "fixed")
COLUMNS = ("budgets", "costs", "weights", "where")


def keys_of(value: Any, free: tuple[str, ...] = FREE) -> Iterator[str]:
    """Yield the keys of nested mappings, those of free tables such as scenarios left out."""
    if isinstance(value, dict):
        if value.get("problem") in ("levels", "portfolio"):
            free = FREE + COLUMNS
        for key, entry in value.items():
            yield str(key)
            if key not in free:
                yield from keys_of(entry, free)
    elif isinstance(value, list):
        for entry in value:
            yield from keys_of(entry, free)


def known_keys() -> set[str]:
    """Return every key that some section of some kind of file has."""
    from moe2opt.config import json_schema

    schemas = [json_schema()]
    for module, name in (("moe2opt.fleet", "FleetFile"), ("moe2opt.sweep", "SweepFile")):
        if util.find_spec(module) is not None:
            schemas.append(getattr(import_module(module), name).model_json_schema())
    parts = [s for schema in schemas for s in (schema, *schema.get("$defs", {}).values())]
    return {key for part in parts for key in part.get("properties", {})}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_yaml_blocks_have_known_keys(page: Path) -> None:
    """A block of YAML is YAML without duplicate keys, and its keys are those of the schema."""
    from moe2opt.schema.reader import read_text

    for block in blocks(page, "yaml"):
        document = read_text(block, page.name)
        assert not document.complaints
        assert set(keys_of(document.data)) <= known_keys()


def test_wrong_commands_are_noticed() -> None:
    """A verb or an option that does not exist would fail the test above."""
    parsed("moe2opt solve tiny --out results")
    with pytest.raises(KeyError):
        parsed("moe2opt slove tiny")
    with pytest.raises(Exception, match="No such option"):
        parsed("moe2opt solve tiny --outt results")
