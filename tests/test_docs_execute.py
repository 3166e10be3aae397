"""What the pages show is what the program does: console blocks, generated pages, notebooks."""

from __future__ import annotations

import doctest
import inspect
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from importlib import import_module, util
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import moe2opt as mo
from moe2opt.cli.exits import Exit
from moe2opt.result import LEAF_REASONS
from moe2opt.solvers import SOLVERS

CHECKOUT = Path(__file__).resolve().parents[1]
DOCS = CHECKOUT / "docs"
NOTEBOOKS = sorted((CHECKOUT / "notebooks").glob("*.py"))
LARGEST_PICTURE_BYTES = 150_000

REFERENCE = json.loads((CHECKOUT / "problems/reference/mmlu_pro_edge.json").read_text("utf-8"))


def script(name: str) -> ModuleType:
    """Import a script of ``docs/studies``."""
    spec = util.spec_from_file_location(name, DOCS / "studies" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---------------------------------------------------------------------- console blocks


@dataclass
class Screen:
    """What a command prints: stdout alone, and both streams in the order of printing."""

    stdout: list[str] = field(default_factory=list)
    merged: list[str] = field(default_factory=list)

    def streams(self) -> tuple[io.TextIOBase, io.TextIOBase]:
        """Return the streams that stand in for stdout and stderr."""
        return _Stream(self.stdout, self.merged), _Stream(self.merged)


class _Stream(io.StringIO):
    def __init__(self, *targets: list[str]) -> None:
        super().__init__()
        self.targets = targets

    def write(self, text: str) -> int:
        for target in self.targets:
            target.append(text)
        return len(text)


def commands(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the commands in the console blocks of a page with the output shown below each."""
    text = path.read_text(encoding="utf-8")
    for block in re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            yield command, expected


def comparable(text: str) -> str:
    """Drop what may differ between machines: the progress table, durations, sizes of trees."""
    lines = [line.rstrip() for line in text.splitlines() if " | " not in line]
    lines = [re.sub(r"\b\d+\.\d s\b", "T s", line) for line in lines]
    lines = [re.sub(r"\b\d+ (leaf|leaves|nodes)\b", r"N \1", line) for line in lines]
    return "\n".join(line for line in lines if line)


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Run a command of a console block inside this process."""
    from moe2opt.cli import main

    program, *arguments = shlex.split(command)
    assert program == "moe2opt", f"only moe2opt is run here: {command}"
    screen = Screen()
    stdout, stderr = screen.streams()
    monkeypatch.setattr(sys, "argv", ["moe2opt", *arguments])
    with redirect_stdout(stdout), redirect_stderr(stderr), pytest.raises(SystemExit):
        main()
    return screen


PAGES_WITH_COMMANDS = [
    page
    for page in (CHECKOUT / "README.md", *sorted(DOCS.glob("**/*.md")))
    if any(True for _ in commands(page))
]


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS, ids=lambda p: str(p.relative_to(CHECKOUT)))
def test_commands_print_what_the_page_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command of a page prints what is shown below it, dots standing for what was cut."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    rules = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    for command, expected in commands(page):
        screen = run(command, monkeypatch)
        seen = ["".join(screen.stdout), "".join(screen.merged)]
        wanted = comparable(expected) + "\n"
        fits = [
            doctest.OutputChecker().check_output(wanted, comparable(s) + "\n", rules) for s in seen
        ]
        assert any(fits), f"$ {command}\n{seen[1]}"


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
    "{toctree}",
    "{math}",
}

PAGES = (CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *sorted(DOCS.glob("**/*.md")))


def shell_lines(path: Path) -> Iterator[str]:
    """Yield the commands of the bash blocks of a page, continued lines joined, comments cut."""
    text = path.read_text(encoding="utf-8")
    for block in re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
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


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(CHECKOUT)))
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


def keys_of(value: Any) -> Iterator[str]:
    """Yield the keys of nested mappings, those of free tables such as scenarios left out."""
    if isinstance(value, dict):
        for key, entry in value.items():
            yield str(key)
            if key not in ("scenarios", "overrides", "limit_s"):
                yield from keys_of(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from keys_of(entry)


def known_keys() -> set[str]:
    """Return every key that some section of some kind of file has."""
    from moe2opt.config import json_schema

    schemas = [json_schema()]
    for module, name in (("moe2opt.fleet", "FleetFile"), ("moe2opt.sweep", "SweepFile")):
        if util.find_spec(module) is not None:
            schemas.append(getattr(import_module(module), name).model_json_schema())
    parts = [s for schema in schemas for s in (schema, *schema.get("$defs", {}).values())]
    return {key for part in parts for key in part.get("properties", {})}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(CHECKOUT)))
def test_yaml_blocks_have_known_keys(page: Path) -> None:
    """A block of YAML is YAML without duplicate keys, and its keys are those of the schema."""
    from moe2opt.schema.reader import read_text

    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
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


def test_readme_shows_a_certified_optimum() -> None:
    """The run shown in the README is a proven optimum, and the one on record."""
    shown = dict(commands(CHECKOUT / "README.md"))["moe2opt solve mmlu_pro_edge"]
    record = REFERENCE["scenarios"][0]
    assert record["status"] == "OPTIMAL"
    assert f"Objective {record['objective']:.6g}, bound {record['bound']:.6g}, gap 0.00%" in shown
    assert f"checked (proves {record['bound']:.6g})" in shown


# ---------------------------------------------------------------------- pages and code agree


@pytest.mark.parametrize("name", ["cli.md", "config.md"])
def test_generated_pages_are_current(name: str) -> None:
    """The reference pages are what ``docs/studies/reference_pages.py`` writes from the code."""
    page = script("reference_pages").PAGES[name]()
    assert (DOCS / "reference" / name).read_text(encoding="utf-8") == page


def test_api_page_is_current() -> None:
    """The API page is what ``docs/studies/api_page.py`` writes from what packages make public."""
    assert (DOCS / "reference" / "api.md").read_text(encoding="utf-8") == script(
        "api_page"
    ).api_page()


def test_yaml_excerpts_are_from_the_instance() -> None:
    """The YAML on the selection page stands, line by line, in the file that the page names."""
    text = (DOCS / "guides" / "selection.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    file = (CHECKOUT / "problems/selection/tiny.yaml").read_text(encoding="utf-8")
    assert blocks
    assert all(block in file for block in blocks)


def test_api_page_names_everything_public() -> None:
    """Every public name of the package is on the API page."""
    page = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    missing = [name for name in mo.__all__ if not re.search(rf"\b{name}\b", page)]
    assert not missing


def test_everything_public_is_documented() -> None:
    """Every public name of the public packages is on the API page, with a docstring if it can."""
    api = script("api_page")
    page = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    named = {path.rsplit(".", 1)[1] for path in re.findall(r"^\.\. auto\w+:: (\S+)$", page, re.M)}
    for part in api.PARTS:
        if util.find_spec(part.package) is None:
            continue
        for name in part.names or api.public_names(part.package):
            value = getattr(import_module(part.package), name)
            assert name in named, f"{part.package}.{name}"
            if inspect.isclass(value) or inspect.isroutine(value):
                assert inspect.getdoc(value), f"{part.package}.{name}"


def test_every_public_package_is_on_the_page() -> None:
    """A package that makes names public is a part of the API page, or known to be internal."""
    api = script("api_page")
    internal = {
        "archive",
        "bench",
        "cli",
        "content",
        "differences",
        "errors",
        "files",
        "interrupts",
        "library",
        "plugins",
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
    parts = {part.package.split(".")[1] for part in api.PARTS}
    found = {path.stem for path in (CHECKOUT / "moe2opt").iterdir() if path.stem.isidentifier()}
    found -= {"__init__", "__pycache__", "py", "problems"}
    assert found - internal - {"solvers"} <= parts


def test_every_page_is_in_the_contents() -> None:
    """Every page and notebook stands once in the tables of contents, the front page in none."""
    listed = [
        (page.parent / entry).resolve().relative_to(DOCS).as_posix()
        for page in PAGES
        for block in re.findall(
            r"^```\{toctree\}\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE
        )
        for entry in block.splitlines()
        if entry[:1] not in (":", "")
    ]
    pages = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.glob("**/*.md")}
    notebooks = {f"notebooks/{path.stem}" for path in NOTEBOOKS}
    assert sorted(listed) == sorted((pages - {"index"}) | notebooks)


def test_solver_page_names_every_solver() -> None:
    """Every solver has its row in the table of the solver page."""
    page = (DOCS / "background" / "solvers.md").read_text(encoding="utf-8")
    rows = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    assert [name for name in SOLVERS if f"`{name}`" not in rows] == []


def test_solver_page_names_every_bound() -> None:
    """Every bound of `brb` has its row in the table of the solver page."""
    from moe2opt.solvers.choice import bound as choice_bound
    from moe2opt.solvers.facility import bound as facility_bound
    from moe2opt.solvers.monotone import bound as corner_bound

    page = (DOCS / "background" / "solvers.md").read_text(encoding="utf-8")
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
    page = (DOCS / "reference" / "certificates.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE)) == set(LEAF_REASONS)


def test_exit_codes_are_documented() -> None:
    """The quickstart lists exactly the exit codes that the command line uses."""
    page = (DOCS / "start" / "quickstart.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (\d+) \|", page, re.MULTILINE)
    assert [int(code) for code in listed] == sorted(code.value for code in Exit)


# ---------------------------------------------------------------------- certified results


@pytest.mark.parametrize("record", REFERENCE["scenarios"], ids=lambda r: str(r["scenario"]))
def test_scenarios_give_the_certified_results_on_record(record: dict[str, Any]) -> None:
    """Solved again, every scenario of the built-in instance gives the recorded status and value."""
    instance = mo.load(REFERENCE["instance"], record["scenario"])
    result = mo.solve(instance)
    verdict = mo.certify(instance, result)
    assert verdict.ok, verdict.failures
    assert (result.status, verdict.kind) == (record["status"], record["certificate"]["kind"])
    assert result.objective == pytest.approx(float(record["objective"]), rel=1e-8)


def test_figure_shows_certified_points_only() -> None:
    """Every point behind the figure was certified, optimal or proven infeasible."""
    runs = REFERENCE["energy_budget"] + REFERENCE["energy_budget_one_expert"]
    assert {run["certificate"]["kind"] for run in runs} == {"checked"}
    assert {run["status"] for run in runs} == {"OPTIMAL", "INFEASIBLE"}
    assert max(run["gap"] for run in runs if run["status"] == "OPTIMAL") <= 1e-9


def test_more_energy_never_hurts_on_record() -> None:
    """Recorded optima do not fall when the energy budget grows or more experts are allowed."""
    many = [float(run["objective"]) for run in REFERENCE["energy_budget"]]
    one = [float(run["objective"]) for run in REFERENCE["energy_budget_one_expert"]]
    tolerance = 1e-8
    assert all(b >= a - tolerance for a, b in pairwise(many))
    assert all(b >= a - tolerance for a, b in pairwise(one))
    assert all(m >= o - tolerance for m, o in zip(many, one, strict=True))


def test_pictures_are_small() -> None:
    """No picture of the documentation is larger than 150 kB."""
    pictures = [path for kind in ("svg", "png") for path in DOCS.glob(f"**/*.{kind}")]
    assert pictures
    assert all(path.stat().st_size <= LARGEST_PICTURE_BYTES for path in pictures)


# ---------------------------------------------------------------------- notebooks


def stored(source: Path) -> dict[str, Any]:
    """Return the committed notebook beside a percent script."""
    content: dict[str, Any] = json.loads(source.with_suffix(".ipynb").read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_and_script_are_a_pair(source: Path) -> None:
    """The committed notebook has the cells of the script beside it."""
    import jupytext

    cells = [(cell.cell_type, cell.source) for cell in jupytext.read(source).cells]
    found = [(cell["cell_type"], "".join(cell["source"])) for cell in stored(source)["cells"]]
    assert found == cells


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_has_its_outputs(source: Path) -> None:
    """The committed notebook ran from top to bottom without an error; its pictures are small."""
    cells = [cell for cell in stored(source)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert all(output["output_type"] != "error" for output in outputs)
    pictures = ["".join(data) for o in outputs for data in o.get("data", {}).values()]
    assert max(map(len, pictures)) <= LARGEST_PICTURE_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(source: Path) -> None:
    """The notebook runs in a new kernel, and its closing assertions hold."""
    notebook = str(source.with_suffix(".ipynb"))
    command = [sys.executable, "-m", "pytest", "-q", "--nbmake", "--nbmake-timeout=600", notebook]
    options = ["-o", "addopts=", "-p", "no:cacheprovider", "-W", "ignore"]
    environment = {**os.environ, "MOE2OPT_SMOKE": "1", "PYTEST_ADDOPTS": ""}
    done = subprocess.run(
        [*command, *options],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_pages_build_without_a_warning(tmp_path: Path) -> None:
    """Sphinx builds the pages with warnings as errors."""
    pytest.importorskip("myst_nb", reason="the extra `docs` is not installed")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
