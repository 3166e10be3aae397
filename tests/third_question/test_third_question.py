"""A third question, as its page writes it, goes through everything; nothing here knows it."""

from __future__ import annotations

import doctest
import io
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from third_question.conftest import PAGE, Run

import moe2opt as mo

pytestmark = pytest.mark.usefixtures("drafts")

COMMANDS = re.compile(r"^```\{code-block\} console\n(.*?)^```", re.DOTALL | re.MULTILINE)

NAME = "drafts/tiny"


def comparable(text: str) -> str:
    """Drop the progress table and what differs between machines: durations, sizes of trees."""
    lines = [line.rstrip() for line in text.splitlines() if " | " not in line]
    return "\n".join(re.sub(r"\b\d+ (leaf|leaves)\b", r"N \1", line) for line in lines if line)


@pytest.mark.slow
def test_the_commands_of_the_page_print_what_it_shows(site: Path, run: Run, tmp_path: Path) -> None:
    """Every command of the page, each in a process of its own, prints what stands below it."""
    shutil.copy(site / "fleet.yaml", tmp_path)
    seen = []
    for block in COMMANDS.findall(PAGE.read_text(encoding="utf-8")):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            program, *words = shlex.split(command)
            done = run(tmp_path, *words)
            seen.append(words[0])
            assert program == "moe2opt"
            assert done.returncode == (3 if "starved" in words else 0), done.stderr
            printed = comparable(done.stdout or done.stderr) + "\n"
            wanted = comparable(expected) + "\n"
            rules = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            assert doctest.OutputChecker().check_output(wanted, printed, rules), printed
    verbs = {"check", "solve", "verify", "export", "report", "certificate", "pareto", "sweep"}
    assert set(seen) == verbs | {"fleet", "execute"}


def test_the_page_holds_the_whole_package(site: Path) -> None:
    """The files of the page are those of its table, the entry point and one built-in problem."""
    files = [path for path in site.rglob("*.*") if path.is_file() and "-1.0" not in str(path)]
    names = {path.relative_to(site).as_posix() for path in files if path.suffix != ".pyc"}
    names_of = ("sections", "case", "plan", "question", "simulate")
    modules = {f"drafts/{name}.py" for name in names_of}
    assert names - modules == {
        "pyproject.toml", "fleet.yaml", "drafts/problems/tiny.yaml", "drafts/problems/tiny.csv",
    }  # fmt: skip


def test_solved_proven_and_judged_alike_by_every_solver() -> None:
    """Solvers agree, the checker accepts, and a plan that breaks a budget is told so."""
    tiny: Any = mo.load(NAME)
    results = [mo.solve(tiny, solver) for solver in ("auto", "enumerate", "milp")]
    assert len({round(result.objective, 12) for result in results}) == 1
    assert mo.certify(tiny, results[0]).kind == "checked"
    tight: Any = mo.load(NAME, "cramped")
    assert tight.check(results[0].plan) == ["memory_gib: 2.7 is more than 1.5"]
    assert tight.evaluate(results[0].plan) == pytest.approx(results[0].objective)


def test_a_loaded_instance_is_the_questions_own() -> None:
    """`load` returns the class of the package, which carries its file."""
    from drafts.case import DraftsInstance

    tiny: Any = mo.load(NAME, "cramped", {"solver.seed": 3})
    assert type(tiny) is DraftsInstance
    assert (tiny.source.question, tiny.source.scenario) == ("drafts", "cramped")
    assert tiny.source.solver.seed == 3
    assert tiny.source.effective["budgets"]["memory_gib"] == 1.5
    assert (tiny.name, tiny.source.name) == ("tiny_drafts", "tiny_drafts-cramped")


def test_a_report_of_the_folder_alone_shows_the_plan(tmp_path: Path, run: Run) -> None:
    """A page made from stored files has words, plan, figures, budgets and notes of the question."""
    from moe2opt.report import make_report

    assert run(tmp_path, "solve", NAME, "--out", "solved").returncode == 0
    report = make_report(tmp_path / "solved")
    assert report.badge.title == "Proven optimal"
    for words in (
        "Which draft model does each served model get, so that a token takes least time?",
        "Three served models share 3 GiB", "Size: 3 models, 43 choices of draft and length.",
        "<caption>Drafts</caption>", "code-half-b", "0.02224 s per token",
        "memory (GiB)", "2.7 of 3", "energy (J per token)", "6.973 of 12",
        "all figures are invented",
    ):  # fmt: skip
        assert words in report.html, words
    (tmp_path / "solved" / "config.yaml").unlink()
    data = json.loads((tmp_path / "solved" / "result.json").read_text(encoding="utf-8"))
    del data["provenance"]["question"], data["provenance"]["file"]
    (tmp_path / "solved" / "result.json").write_text(json.dumps(data), encoding="utf-8")
    assert "<caption>Drafts</caption>" in make_report(tmp_path / "solved").html


def test_fronts_and_their_explorer_show_its_plans(tmp_path: Path) -> None:
    """A grid over its two budgets is proven, and the explorer shows the table of drafts."""
    from moe2opt.report import make_report
    from moe2opt.report.gridding import add_grid, default_axes, flags_of

    tiny: Any = mo.load(NAME)
    mo.solve(tiny).save(tmp_path / "result.json")
    assert flags_of(tiny) == "--grid"
    axes = default_axes(tiny, 3)
    assert list(axes) == ["memory_gib", "joules_per_token"]
    assert add_grid(tmp_path, tiny, axes).certified
    report = make_report(tmp_path)
    assert report.explorer
    assert '"header": ["model", "draft", "tokens"' in report.html
    assert mo.pareto(tiny, x="memory_gib", points=None).complete


def test_exports_name_the_formats_of_the_question(tmp_path: Path, run: Run) -> None:
    """An unknown format is refused with the formats that there are; JSON holds the text."""
    mo.solve(mo.load(NAME)).save(tmp_path / "result.json")
    wrong = run(tmp_path, "export", "result.json", "--to", "litellm")
    assert wrong.returncode == 2
    assert wrong.stderr == (
        "error: result.json: the plan answers 'drafts'; it cannot be exported to litellm, only to "
        "vllm\n"
    )
    done = run(tmp_path, "export", "result.json", "--to", "vllm", "--json", "--out", "run.sh")
    content = json.loads(done.stdout)
    assert (content["file"], content["notes"]) == ("run.sh", ["all figures are invented"])
    assert content["text"] == (tmp_path / "run.sh").read_text(encoding="utf-8")


def test_schema_and_problems_name_it(tmp_path: Path, run: Run) -> None:
    """`schema` has its sections with their descriptions, `problems` its built-in problem."""
    schema = json.loads(run(tmp_path, "schema").stdout)
    assert schema["discriminator"]["mapping"]["drafts"] == "#/$defs/DraftsFile"
    served = schema["$defs"]["Served"]["properties"]
    assert served["pass_j"]["description"] == "Joules of one pass."
    found = json.loads(run(tmp_path, "problems", "--json").stdout)["problems"]
    assert [p["scenarios"] for p in found if p["name"] == NAME] == [["cramped", "starved"]]


def test_a_bare_name_stays_ours() -> None:
    """`tiny` means our problem although the package has one of that name, too."""
    assert mo.load("tiny").source.question == "selection"
    assert mo.load("selection/tiny").source == mo.load("tiny").source


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"table": "../tiny.csv"}, "table: '../tiny.csv' leaves the folder"),
        ({"table": "none.csv"}, "none.csv"),
        ({"budgets.memory_gb": 3}, "did you mean 'memory_gib'?"),
        ({"served.0.pass_s": -1}, "served.chat-70b.pass_s|served.0.pass_s"),
    ],
)
def test_bad_input_reads_as_everywhere(overrides: dict[str, Any], message: str) -> None:
    """Faults of keys, values and files of the question are told in the words of all others."""
    with pytest.raises(mo.InputError, match=re.escape(message) if "|" not in message else message):
        mo.load(NAME, overrides=overrides)


def test_its_proof_is_written_for_other_checkers() -> None:
    """The certificate becomes a VIPR file that proves the optimum."""
    from moe2opt.vipr import write_vipr

    tiny: Any = mo.load(NAME)
    result = mo.solve(tiny, proof="linear")
    text = io.StringIO()
    assert write_vipr(tiny.problem(), result, text).derivations > 0
    assert text.getvalue().startswith("% moe2opt: strong linear formulation")
