"""Pages and code agree: what is generated is current, and what is listed is complete."""

from __future__ import annotations

import inspect
import re
from importlib import import_module

import pytest
from api_page import PARTS, public_names
from pages.reading import CHECKOUT, DOCS, NOTEBOOKS, PAGES, blocks
from reference_pages import PAGES as GENERATED

import moe2opt as mo
from moe2opt.cli.exits import Exit
from moe2opt.result import LEAF_REASONS
from moe2opt.solvers import SOLVERS


def text_of(page: str) -> str:
    """Return a page of the documentation."""
    return (DOCS / page).read_text(encoding="utf-8")


def with_torch() -> None:
    """Skip a test that looks at public names of the executor where they cannot be imported."""
    for package in ("torch", "safetensors"):
        pytest.importorskip(package, reason=f"imports the executor: needs {package}")


@pytest.mark.parametrize("page", GENERATED)
def test_generated_pages_are_current(page: str) -> None:
    """The generated pages are what ``docs/studies/reference_pages.py`` writes from the code."""
    if page == "reference/api.md":
        with_torch()
    assert text_of(page) == GENERATED[page](), "make pages"


def test_yaml_excerpts_are_from_the_instance() -> None:
    """The YAML on the selection page stands, line by line, in the file that the page names."""
    excerpts = blocks(DOCS / "guides" / "selection.md", "yaml")
    file = (CHECKOUT / "problems/selection/tiny.yaml").read_text(encoding="utf-8")
    assert excerpts
    assert all(excerpt in file for excerpt in excerpts)


def test_api_page_names_everything_public() -> None:
    """Every public name of the package has its row and its entry on the API page, as ``mo.`` is."""
    page = text_of("reference/api.md")
    names = [name for name in mo.__all__ if name != "__version__"]
    assert re.findall(r"<moe2opt\.(\w+)>`", page) != []
    assert sorted(re.findall(r"<moe2opt\.(\w+)>`", page)) == names
    assert set(re.findall(r"^\.\. auto\w+:: moe2opt\.(\w+)$", page, re.M)) >= set(names)


def test_everything_public_is_documented() -> None:
    """Every public name of the public packages is on the API page, with a docstring if it can."""
    with_torch()
    page = text_of("reference/api.md")
    named = {path.rsplit(".", 1)[1] for path in re.findall(r"^\.\. auto\w+:: (\S+)$", page, re.M)}
    for part in PARTS:
        for name in part.names or public_names(part.package):
            value = getattr(import_module(part.package), name)
            assert name in named, f"{part.package}.{name}"
            if inspect.isclass(value) or inspect.isroutine(value):
                assert inspect.getdoc(value), f"{part.package}.{name}"


def test_every_public_package_is_on_the_page() -> None:
    """A package that makes names public is a part of the API page, or known to be internal."""
    internal = {
        "archive",
        "bench",
        "cli",
        "content",
        "differences",
        "errors",
        "files",
        "gaps",
        "heartbeat",
        "huggingface",
        "interrupts",
        "library",
        "plugins",
        "beside",
        "progress",
        "proof",
        "provenance",
        "steps",
        "questions",
        "schema",
        "stored",
        "text",
        "vipr",
        "writing",
    }
    parts = {part.package.split(".")[1] for part in PARTS}
    found = {path.stem for path in (CHECKOUT / "moe2opt").iterdir() if path.stem.isidentifier()}
    found -= {"__init__", "__pycache__", "py", "problems"}
    assert found - internal - {"solvers"} <= parts


def test_every_page_is_in_the_contents() -> None:
    """Every page and notebook stands once in the tables of contents, the front page in none."""
    listed = [
        (page.parent / entry).resolve().relative_to(DOCS).as_posix()
        for page in PAGES
        for block in blocks(page, "toctree")
        for entry in block.splitlines()
        if entry[:1] not in (":", "")
    ]
    pages = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.glob("**/*.md")}
    notebooks = {f"notebooks/{path.stem}" for path in NOTEBOOKS}
    assert sorted(listed) == sorted((pages - {"index"}) | notebooks)


def test_solver_page_names_every_solver() -> None:
    """Every solver has its row in the table of the solver page."""
    page = text_of("background/solvers.md")
    rows = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    assert [name for name in SOLVERS if f"`{name}`" not in rows] == []


def test_solver_page_names_every_bound() -> None:
    """Every bound of `brb` has its row in the table of the solver page."""
    from moe2opt.solvers.choice import relaxation as choice_bound
    from moe2opt.solvers.facility import relaxation as facility_bound
    from moe2opt.solvers.monotone import relaxation as corner_bound

    page = text_of("background/solvers.md")
    families = {
        "facility": facility_bound,
        "multiple choice": choice_bound,
        "monotone": corner_bound,
    }
    for family, module in families.items():
        rows = [line for line in page.splitlines() if line.startswith(f"| {family} | `")]
        named = [name for name in module.BOUNDS if any(f"`{name}`" in row for row in rows)]
        assert set(named) | {"auto"} == set(module.BOUNDS)


def test_certificate_page_names_every_reason() -> None:
    """Every leaf reason has its row in the table of the certificate page."""
    page = text_of("reference/certificates.md").partition("## Leaf reasons")[2]
    assert set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE)) == set(LEAF_REASONS)


def test_exit_codes_are_documented() -> None:
    """The quickstart lists exactly the exit codes that the command line uses."""
    page = text_of("start/quickstart.md")
    listed = re.findall(r"^\| (\d+) \|", page, re.MULTILINE)
    assert [int(code) for code in listed] == sorted(code.value for code in Exit)
