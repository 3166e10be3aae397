"""The shape of the package: layers, lazy imports, sizes of files and functions."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "moe2opt"
SOURCES = sorted(PACKAGE.rglob("*.py"))

#: Slow to import, hence only imported by the functions that need them.
HEAVY = (
    *("highspy", "matplotlib", "networkx", "numba", "pandas", "pyomo", "scipy", "sklearn", "torch"),
)

MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 60


def python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `code` in a new interpreter."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_imports_run_downward(checkout: Path) -> None:
    """Every contract about layers in pyproject.toml holds."""
    code = (
        "import sys; from importlinter.cli import lint_imports_command as lint; "
        "sys.argv = ['lint-imports', '--no-cache']; lint()"
    )
    done = python(code, checkout)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "code",
    ["import moe2opt", "import moe2opt.cli", "import moe2opt.certify"],
)
def test_imports_are_light(code: str, checkout: Path) -> None:
    """Importing the package, its command line or its checker loads no heavy library."""
    done = python(f"{code}; import sys; print([m for m in {HEAVY} if m in sys.modules])", checkout)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_help_is_light(checkout: Path) -> None:
    """`moe2opt --help` answers without loading a heavy library."""
    code = (
        "import sys; sys.argv = ['moe2opt', '--help']\n"
        "from moe2opt.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('loaded', [m for m in {HEAVY} if m in sys.modules])"
    )
    done = python(code, checkout)
    assert "loaded []" in done.stdout, done.stdout + done.stderr


def test_checker_loads_no_solver(checkout: Path) -> None:
    """The checker runs in a process that has never loaded a solver."""
    code = (
        "import sys, moe2opt.certify; "
        "print([m for m in sys.modules if m.startswith('moe2opt.solvers')])"
    )
    assert python(code, checkout).stdout.strip() == "[]"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_are_short(path: Path) -> None:
    """No file exceeds 400 lines and no function body 60, so that one sitting reads each."""
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES_OF_A_FILE
    long = {name: lines for name, lines in functions(text) if lines > MOST_LINES_OF_A_FUNCTION}
    assert not long


def functions(source: str) -> Iterator[tuple[str, int]]:
    """Yield every function with the number of lines of its body, the docstring left out."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if body:
                yield node.name, (body[-1].end_lineno or 0) - body[0].lineno + 1


#: Modules and functions that run what a data file says.
EXECUTORS = {"eval", "exec", "pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_is_unpickled(path: Path) -> None:
    """No module of the package can execute what a data file says."""
    used = set(executors(ast.parse(path.read_text(encoding="utf-8"))))
    assert not used


def executors(tree: ast.AST) -> Iterator[str]:
    """Yield every use of something in `EXECUTORS`, and every array load that allows pickles."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from EXECUTORS.intersection(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module in EXECUTORS:
            yield str(node.module)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield from EXECUTORS.intersection([node.func.id])
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            allowed = not (isinstance(node.value, ast.Constant) and node.value.value is False)
            yield from ["allow_pickle"] * allowed


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from joblib import load", "eval(x)", "np.load(p, allow_pickle=flag)"],
)
def test_executors_are_recognised(source: str) -> None:
    """The search for code execution finds every form that it looks for."""
    assert list(executors(ast.parse(source)))
