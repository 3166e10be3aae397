"""Type checkers can follow the public names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import moe2opt

#: What people write: built-in problems, own arrays, an instance of their own.
SCRIPT = """
from dataclasses import dataclass

import moe2opt as mo


def shown(result: mo.Result, instance: mo.Instance) -> str:
    if result.plan is None:
        return f"{instance.name}: {result.status}"
    rows = len(result.plan.to_frame())
    return f"{instance.name}: {rows} rows, {result.plan.summary()[:20]}"


@dataclass(frozen=True)
class Level:
    name: str


class Levels:
    name = "levels"
    options = mo.MultipleChoiceProblem(values=[[0, 5]], usage=[[1, 2]], budgets=2)

    def problem(self) -> mo.Problem:
        return self.options

    def decode(self, x: object) -> Level:
        return Level("low" if list(x) == [0] else "high")  # type: ignore[call-overload]

    def evaluate(self, plan: Level) -> float:
        return 5.0 if plan.name == "high" else 0.0

    def check(self, plan: Level) -> list[str]:
        return []

    def row_names(self) -> list[str]:
        return ["gib"]

    def cover_names(self) -> list[str]:
        return []

    def describe(self) -> str:
        return "two levels"


loaded = mo.load("selection/tiny", scenario=None, overrides=None)
result = mo.solve(loaded, time_limit_s=60, threads=1)
verdict = mo.certify(loaded, result)
print(shown(result, loaded), verdict.ok, loaded.row_names())

own = mo.solve(Levels())
assert own.plan is not None
print(own.plan.name, mo.certify(Levels(), own).kind)

problem = mo.FacilityProblem(values=[[3, 0, 2]], costs=[1, 1, 2], budgets=2, groups=[[0, 1]])
again = mo.solve(problem, warm_start=mo.solve(problem, "greedy"))
box = mo.MonotoneProblem([0], [3], lambda x: x[:, 0], [lambda x: x.sum(axis=1) - 2])
print(again.objective, mo.solve(box).x, [point.gap for point in mo.pareto(loaded, points=2, x="energy_j_per_prompt")])
"""  # noqa: E501

#: (a line that is wrong, what a type checker says of it)
FAULTS = [
    ("result.plan.summary()", 'Item "None" of "Plan | None" has no attribute "summary"'),
    ("own.plan.level", '"Level" has no attribute "level"'),
    ("mo.solve(loaded, time_limit_s='5')", 'incompatible type "str"; expected "float | None"'),
    ("mo.solve('selection/tiny')", 'has incompatible type "str"'),
    ("verdict.okay", '"Verdict" has no attribute "okay"'),
]


def checked(path: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run mypy over a script that uses this package."""
    path.write_text(text)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(path.parent), str(path)]
    package = Path(moe2opt.__file__).parent
    where = {**os.environ, "MYPYPATH": str(package.parent)}
    return subprocess.run(command, env=where, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_mypy_follows_a_script(tmp_path: Path) -> None:
    """A script that uses the public names passes mypy --strict, and its slips are found."""
    pytest.importorskip("mypy")
    done = checked(tmp_path / "script.py", SCRIPT)
    assert done.returncode == 0, done.stdout
    done = checked(tmp_path / "script.py", SCRIPT + "\n".join(line for line, _ in FAULTS))
    assert [said for _, said in FAULTS if said not in done.stdout] == [], done.stdout


def test_the_script_runs(tmp_path: Path) -> None:
    """The script that type checkers follow does what it says, and the package says it is typed."""
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    assert first.startswith("tiny: ")
    assert second == "high checked"
    assert third.startswith("3.0 [2] [")
    assert (Path(moe2opt.__file__).parent / "py.typed").is_file()
