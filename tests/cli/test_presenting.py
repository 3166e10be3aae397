"""One presenter: sense, unit and digits are the same on the terminal, in JSON and on the page."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import moe2opt as mo
from moe2opt import progress
from moe2opt.cli.app import app
from moe2opt.cli.show import _values
from moe2opt.present import PLAIN, Measure, number
from moe2opt.result import ProgressEvent, Result, Status
from moe2opt.verify import judged

SECONDS = Measure("minimize", "s per token", "time")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a solved placement, which minimises seconds."""
    out = tmp_path_factory.mktemp("placed")
    words = ["solve", "tinymoe", "--gap", "0.05", "--quiet", "--out", str(out)]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 0, ran.stderr
    (out / "stdout").write_text(ran.stdout, encoding="utf-8")
    return out


def test_minimisation_is_shown_as_one(folder: Path) -> None:
    """The terminal shows a cost as a positive figure with its unit, and so does `verify`."""
    content = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    shown = f"{number(content['objective'], 4)} s per token"
    text = (folder / "stdout").read_text(encoding="utf-8")
    assert f"Objective {shown}, bound " in text
    assert "Objective -" not in text
    ran = CliRunner().invoke(app, ["verify", str(folder / "result.json"), "tinymoe"])
    assert f"costs {shown}" in ran.stdout
    assert "no plan costs less than" in ran.stdout


def test_verdicts_and_judgements_show_own_values(folder: Path) -> None:
    """The `repr` of a verdict and of a judgement shows a cost positive and with its unit."""
    content = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    shown = f"objective {number(content['objective'], 4)} s per token"
    target = mo.load("tinymoe")
    verdict = mo.certify(target, Result.load(folder / "result.json"))
    assert verdict.measure == SECONDS
    assert shown.replace(" ", "=", 1) in repr(verdict)
    judgement = judged(content, folder, target)
    assert shown in repr(judgement)
    assert "-0." not in repr(verdict) + repr(judgement)
    assert "failures" not in repr(judgement)


def test_json_has_the_questions_own_values(folder: Path) -> None:
    """JSON names sense and unit; the maximised values have a name of their own."""
    content = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert (content["sense"], content["unit"]) == ("minimize", "s per token")
    assert content["objective"] == pytest.approx(content["plan"]["objective_value"], rel=1e-12)
    assert content["objective"] >= content["bound"] > 0
    own = {"objective": -content["objective"], "bound": -content["bound"]}
    assert content["canonical"] == own
    result = Result.load(folder / "result.json")
    assert (result.objective, result.value) == (own["objective"], content["objective"])
    assert result.value_bound == content["bound"]


def test_log_has_the_questions_own_values(folder: Path) -> None:
    """The JSON log has own values, and the reader turns them back."""
    from moe2opt.report import read_log

    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    last = json.loads(lines[-1])
    assert (last["sense"], last["objective"] > 0) == ("minimize", True)
    assert read_log(folder / "log.jsonl")[-1].objective == -last["objective"]


def test_page_has_the_same_words(folder: Path) -> None:
    """The page shows the figure of the terminal."""
    from moe2opt.report import make_report

    content = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    html = make_report(folder).html
    assert f"time {number(content['objective'], 4)} s per token" in html
    assert "no plan costs less than" in html


def test_table_of_progress_follows_the_sense() -> None:
    """BestBound and BestSol of a minimisation are positive, and what is not known is a dash."""
    event = ProgressEvent(1.0, 3, 1, -0.1, -0.110939, "H")
    assert progress.row(event, SECONDS).split()[5:7] == ["0.1", "0.110939"]
    unknown = ProgressEvent(1.0, 3, 1, math.inf, -math.inf)
    assert progress.row(unknown, SECONDS).split()[4:6] == ["-", "-"]


def test_older_files_are_read_and_judged(folder: Path) -> None:
    """A file of format 1 holds canonical values; it is accepted, and judged like any other."""
    content = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    old = {k: v for k, v in content.items() if k not in ("format", "unit", "quantity", "canonical")}
    old |= {"sense": "maximize", **content["canonical"]}
    target = mo.load("tinymoe")
    assert judged(old, folder, target).failures == ()
    assert Result.from_dict(old).objective == -content["objective"]
    assert not judged(old | {"bound": old["bound"] / 2}, folder, target).ok


@pytest.mark.parametrize(
    "damage", [{"sense": "less"}, {"format": 3}, {"unit": 7}, {"quantity": None}]
)
def test_senses_that_make_no_sense_are_refused(folder: Path, damage: dict[str, Any]) -> None:
    """A file whose sense, unit or format is not understood is an input error."""
    content = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    with pytest.raises(mo.InputError, match="not a result"):
        Result.from_dict(content | damage, folder)


def test_a_question_declares_its_measure_once() -> None:
    """An instance with the attribute `measure` has its values shown and written in it."""
    problem = mo.MultipleChoiceProblem([[-3.0, -1.5]], [[[0.0], [1.0]]], [1.0])

    class Toy:
        name, measure = "toy", Measure("minimize", "apples")

        def problem(self) -> Any:
            return problem

        def decode(self, x: Any) -> dict[str, Any]:
            return {"option": int(x[0])}

        def evaluate(self, plan: Any) -> float:
            return float(problem.flat_values[plan["option"]])

        def check(self, plan: Any) -> list[str]:
            return []

        def row_names(self) -> list[str]:
            return ["row"]

        def cover_names(self) -> list[str]:
            return []

        def describe(self) -> str:
            return ""

    result = mo.solve(Toy())  # type: ignore[arg-type]
    assert "1.5 apples" in str(result)
    assert "1.5 apples" in repr(result)
    content = result.to_dict()
    assert (content["objective"], content["unit"]) == (1.5, "apples")
    assert content["canonical"]["objective"] == result.objective == -1.5


def test_a_bound_below_all_values_is_not_shown() -> None:
    """A bound below what no value is below shows as that, with its gap; a missing one as before."""
    seconds = Measure("minimize", "s", "time", least=0.0)
    weak = ProgressEvent(0.0, 1, 1, 0.25, -1.0)
    assert progress.row(weak, seconds).split()[4:7:2] == ["0", "100.00%"]
    assert progress.row(weak, SECONDS).split()[4:7:2] == ["-0.25", "125.00%"]
    assert seconds.limit_words(0.25) == "no plan costs less than 0 s"
    assert [seconds.shown(-0.5), seconds.shown(math.inf)] == [0.5, -math.inf]
    result = Result(Status.FEASIBLE, None, np.zeros(1, dtype=np.int64), -1.0, 0.25, measure=seconds)
    assert _values(result) == "Objective 1 s. No bound above 0 is proven yet."
    assert "Bound 0 s   Gap 100.00%" in progress.report(result)
    closed = Result(Status.OPTIMAL, None, np.zeros(1, dtype=np.int64), 0.0, 0.0, measure=seconds)
    assert _values(closed) == "Objective 0 s, bound 0 s, gap 0.00%."


def test_numbers_have_one_format() -> None:
    """Digits as asked, whole numbers in full, a dash for what does not exist."""
    shown = [number(v, 4) for v in (0.110939, 1161.2, 123456.0, 20.0, 1.5e-7, math.inf, None)]
    assert shown == ["0.1109", "1161", "123456", "20", "1.5e-07", "-", "-"]
    assert PLAIN.text(0.473647) == "0.473647"
    nothing = Result(Status.NO_SOLUTION, None, None, -math.inf, math.inf, measure=SECONDS)
    assert nothing.to_dict()["objective"] == "inf"
    assert np.isinf(nothing.value)
