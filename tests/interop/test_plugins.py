"""Other packages add solvers, questions and backends by entry points."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import moe2opt

CODE = """
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np

import moe2opt as mo
from moe2opt.canonical import Question
from moe2opt.schema import Section
from moe2opt.solvers import SolverInfo
from moe2opt.solvers.base import Outcome

FIRST = SolverInfo("other", "added", "first", (mo.FacilityProblem, mo.MultipleChoiceProblem),
                   False, False, "the first option")
GONE = SolverInfo("gone", "added.nowhere", "first", (mo.FacilityProblem,), False, False, "")


def first(problem, search):
    search.offer(np.zeros(problem.size, dtype=np.int64), "H")
    return Outcome(bound=np.inf)


class MugConfig(Section):
    problem: Literal["mugs"]
    name: str
    sizes: tuple[float, ...]
    shelf: float


class Mugs:
    def __init__(self, config):
        self.name, self.config = config.name, config
        self._problem = mo.MultipleChoiceProblem(
            [[0, s] for s in config.sizes], [[0, s] for s in config.sizes], config.shelf)

    def problem(self):
        return self._problem

    def decode(self, x):
        return [int(k) for k in x]

    def evaluate(self, plan):
        return float(sum(s for s, k in zip(self.config.sizes, plan) if k))

    def check(self, plan):
        return []

    def row_names(self):
        return ["cm"]

    def cover_names(self):
        return []

    def describe(self):
        return f"{len(self.config.sizes)} mugs"


def build(config, folder, *, allow_outside=False):
    return Mugs(config)


MUGS = Question(name="mugs", config=MugConfig, build=build)


NAME = "odd"


def threads(workers, scheduler):
    return ThreadPoolExecutor(workers)


def none(workers, scheduler):
    return workers
"""

ENTRIES = """
[moe2opt.solvers]
first = added:FIRST
gone = added:GONE
broken = added.missing:FIRST
wrong = added:first
brb = added:GONE

[moe2opt.questions]
mugs = added:MUGS
lost = added:nowhere
other = added:MUGS
crash = crash:MUGS

[moe2opt.backends]
threads = added:threads
none = added:none
odd = added:NAME
"""

FILE = "schema_version: 1\nproblem: mugs\nname: shelf\nsizes: [3, 4, 5]\nshelf: 8\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install a package with entry points in a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "added.py").write_text(CODE)
    (folder / "crash.py").write_text("raise SystemExit('stop here\\nand there')\n")
    info = folder / "added-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: added\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    (folder / "mugs.yaml").write_text(FILE)
    for name in ("lost", "crash", "other"):
        (folder / f"{name}.yaml").write_text(FILE.replace("mugs", name))
    return folder


def run(place: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run Python where the package is installed."""
    paths = [str(place), str(Path(moe2opt.__file__).parents[1])]
    where = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=place, env=where, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def test_solvers_and_questions_are_found(place: Path) -> None:
    """A solver and a question of another package work as ours do; ours keep their names."""
    code = """
import json, sys
import moe2opt as mo
before = "added" in sys.modules
shelf = mo.load("mugs.yaml", overrides=["shelf=9"])
results = [mo.solve(shelf, solver) for solver in ("first", "brb", "auto")]
print(json.dumps([before, shelf.name, [(r.solver, r.objective) for r in results],
                  mo.certify(shelf, results[1]).kind]))
"""
    ran = run(place, code)
    assert ran.returncode == 0, ran.stderr
    found = [["first", 0.0], ["brb", 9.0], ["brb", 9.0]]
    assert json.loads(ran.stdout) == [False, "shelf", found, "checked"]


def test_sweeps_run_on_a_backend_of_another_package(place: Path, tmp_path: Path) -> None:
    """A sweep on the backend of another package has the rows of one in this process."""
    code = f"""
import json
import moe2opt as mo
over = {{"shelf": [3, 7, 12]}}
found = [mo.sweep("mugs.yaml", over, out="{tmp_path}/" + name, backend=name)
         for name in ("serial", "threads")]
print(json.dumps([[row["objective"] for row in sweep.rows] for sweep in found]))
"""
    ran = run(place, code)
    assert json.loads(ran.stdout) == [[3.0, 7.0, 12.0]] * 2, ran.stderr


def test_the_command_line_finds_them(place: Path) -> None:
    """The command line and the JSON Schema know the question of another package."""
    main = "import sys; from moe2opt.cli import main; sys.argv[1:] = {}; main()"
    ran = run(place, main.format(["solve", "mugs.yaml", "--json"]))
    assert json.loads(ran.stdout)["plan"] == [1, 0, 1], ran.stderr
    entries = place / "added-1.0.dist-info" / "entry_points.txt"
    code = "from moe2opt.config import json_schema; print(list(json_schema()['$defs']))"
    entries.write_text(re.sub("(?m)^(crash|lost|other) =", "#", ENTRIES))
    try:
        assert "MugsFile" in run(place, code).stdout
    finally:
        entries.write_text(ENTRIES)


BROKEN = [
    ("mo.solve(p, 'broken')",
     "moe2opt.solvers: 'broken' (added.missing:FIRST) of the package added cannot be loaded: "
     "ModuleNotFoundError: No module named 'added.missing'; 'added' is not a package"),
    ("mo.solve(p, 'wrong')",
     "moe2opt.solvers: 'wrong' (added:first) of the package added is a function, not a SolverInfo"),
    ("mo.solve(p, 'gone')", "solver 'gone' needs added.nowhere, which is missing"),
    ("mo.solve(p, 'frist')",
     "unknown solver 'frist'; choose from auto, brb, polyblock, milp, enumerate, greedy, "
     "local_search, random, broken, first, gone, wrong; did you mean 'first'?"),
    ("mo.sweep('tiny', out='x', backend='none', workers=2)",
     "backend 'none' gives no Executor but int"),
    ("mo.sweep('tiny', out='x', backend='odd')",
     "backend 'odd': TypeError: 'str' object is not callable"),
    ("mo.sweep('tiny', out='x', backend='thread')",
     "backend 'thread' is not understood; one of serial, process, dask, none, odd, threads; did "
     "you mean 'threads'?"),
    ("mo.load('crash.yaml')",
     "moe2opt.questions: 'crash' (crash:MUGS) of the package added cannot be loaded: SystemExit: "
     "stop here"),
    ("mo.load('lost.yaml')",
     "moe2opt.questions: 'lost' (added:nowhere) of the package added cannot be loaded: "
     "AttributeError: module 'added' has no attribute 'nowhere'"),
    ("mo.load('other.yaml')", "the question 'other' calls itself 'mugs'"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), BROKEN, ids=[call for call, _ in BROKEN])
def test_a_broken_part_is_named(place: Path, call: str, message: str) -> None:
    """A part that cannot be loaded ends in one line that names it; nothing else is affected."""
    code = f"""
import moe2opt as mo
p = mo.FacilityProblem([[1.0]], [[1.0]], [1.0])
assert mo.solve(p).objective == 1.0
try:
    {call}
except mo.InputError as error:
    print(error)
"""
    ran = run(place, code)
    assert ran.stdout == f"{message}\n", ran.stderr
