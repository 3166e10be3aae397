"""The figure of plan and baselines, read back from its SVG, and the tables for papers."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import moe2opt as mo
from moe2opt.cli.app import app
from moe2opt.pareto.judging import judged
from moe2opt.plotting import save
from moe2opt.plotting.quality import quality_figure
from moe2opt.result import InputError
from moe2opt.selection.evaluation.grid_report import TWO_SIDED, GridEvaluation
from moe2opt.selection.evaluation.realised import evaluate_on_test
from moe2opt.selection.evaluation.report import Evaluation
from moe2opt.selection.evaluation.tables import latex, paper_table, write_table

SVG = "{http://www.w3.org/2000/svg}"
BUDGETS = [60.0, 150.0, 300.0]


@cache
def one_axis() -> GridEvaluation:
    """Return a grid over three energy budgets."""
    return judged(mo.load("tiny_gate"), {"energy_j_per_prompt": BUDGETS})[1]


@cache
def two_axes() -> GridEvaluation:
    """Return a grid over energy and deadline."""
    tiny = mo.load("tiny_gate", overrides=["delay.limit_s=20"])
    return judged(tiny, {"energy_j_per_prompt": BUDGETS[:2], "delay.limit_s": [2.0, 20.0]})[1]


@cache
def no_grid() -> Evaluation:
    """Return the table at the file's own budgets."""
    return evaluate_on_test(mo.load("tiny_gate"), mo.solve, replicates=50)


def drawn(figure: Any, path: Path) -> ET.Element:
    """Save a figure as SVG and parse it."""
    return ET.parse(save(figure, path)).getroot()


def looks(root: ET.Element) -> dict[str, set[str]]:
    """Return by policy how its line and markers are drawn, without the colours: as in grey."""
    found: dict[str, set[str]] = {}
    for group in root.iter(f"{SVG}g"):
        name = group.get("id", "")
        if name.startswith("policy "):
            styles = []
            for path in group.iter(f"{SVG}path"):
                dashes = re.search(r"stroke-dasharray: [\d., ]+", path.get("style", ""))
                within = path.get("d", "") if path.get("clip-path") is None else ""
                styles.append(f"{dashes.group() if dashes else 'solid'} {within}")
            found.setdefault(name.removeprefix("policy "), set()).add(" | ".join(styles))
    return found


def test_figure_has_every_policy_apart_in_grey(tmp_path: Path) -> None:
    """Plan and baselines have a line each, and no two look the same without their colours."""
    done = one_axis()
    root = drawn(quality_figure(done), tmp_path / "a.svg")
    found = looks(root)
    assert set(found) == {"moe2", *(tally.policy for tally in done.tallies()[:-1])}
    assert len({frozenset(styles) for styles in found.values()}) == len(found)
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {*found, "budget: energy (J per prompt)", "test accuracy (%)"} <= set(texts)


def test_points_stand_apart_in_grey_too(tmp_path: Path) -> None:
    """Without a grid every policy is a marker of its own."""
    found = looks(drawn(quality_figure(no_grid()), tmp_path / "a.svg"))
    assert set(found) == {row.policy for row in no_grid().rows}
    assert len({frozenset(styles) for styles in found.values()}) == len(found)


def lines(ax: Any) -> dict[str, Any]:
    """Return the error bars of an axes by name."""
    return {str(bars.get_label()).strip(): bars for bars in ax.containers}


def test_figure_draws_the_numbers_with_paired_intervals() -> None:
    """Heights are accuracies; bars are 1.96 errors, of baselines those of the difference."""
    done = one_axis()
    (ax,) = [ax for ax in quality_figure(done).axes if ax.axison]
    for name, bars in lines(ax).items():
        x, y = bars.lines[0].get_data()
        own = [c if name == "moe2" else next(r for r in c.rivals if r.policy == name)
               for c in done.cells]  # fmt: skip
        assert list(y) == pytest.approx([100 * o.accuracy for o in own])
        assert list(x) == pytest.approx(BUDGETS, rel=0.06)
        errors = [o.accuracy_error if name == "moe2" else o.error for o in own]
        ends = [segment[:, 1] for segment in bars.lines[2][0].get_segments()]
        assert [end[1] - end[0] for end in ends] == pytest.approx(
            [200 * TWO_SIDED * error for error in errors]
        )


def test_measures_and_second_axis_make_panels() -> None:
    """Each measure of one axis, and each budget of a second axis, has a panel."""
    figure = quality_figure(one_axis(), against=["energy_j_per_prompt", "delay_s"])
    names = [ax.get_xlabel() for ax in figure.axes if ax.axison]
    assert names == ["used: energy (J per prompt)", "used: delay (s)"]
    used = lines(figure.axes[0])["moe2"].lines[0].get_data()[0]
    assert list(used) == pytest.approx([c.energy_j_per_prompt for c in one_axis().cells], rel=0.01)
    shown = quality_figure(two_axes(), policies=["best single LLM"])
    assert [set(lines(ax)) for ax in shown.axes] == [{"moe2", "best single LLM"}] * 2
    assert [ax.get_title(loc="left")[-3:] for ax in shown.axes] == [": 2", " 20"]


def test_money_is_a_measure_like_energy() -> None:
    """With a price of electricity, all policies pay for their joules, in tables and figures."""
    priced = mo.load("tiny_gate", overrides=["money.per_kwh=0.3"])
    _, done = judged(priced, {"energy_j_per_prompt": [60.0, 150.0]})
    for own in (*done.cells, *(rival for cell in done.cells for rival in cell.rivals)):
        assert own.money_per_prompt == pytest.approx(own.energy_j_per_prompt * 0.3 / 3.6e6)
    (ax,) = [ax for ax in quality_figure(done, against=["money_per_prompt"]).axes if ax.axison]
    used = lines(ax)["moe2"].lines[0].get_data()[0]
    assert list(used) == pytest.approx([c.money_per_prompt for c in done.cells], rel=0.01)
    table = evaluate_on_test(priced, mo.solve, replicates=10)
    assert "money" in table.summary().splitlines()[2]
    for row in table.rows:
        assert row.money_per_prompt is not None
        assert row.money_per_prompt.mean == pytest.approx(
            (row.energy_j_per_prompt.mean or 0.0) * 0.3 / 3.6e6
        )
    own = table.row("moe2").money_per_prompt
    assert own is not None
    line = next(x for x in latex(paper_table(table), "").split("\n") if x.startswith("moe2 &"))
    assert line.endswith(f"${own.mean:.3g}$ \\\\")
    free = no_grid()
    assert all(row.money_per_prompt is None for row in free.rows)
    assert "money" not in free.summary().splitlines()[2]


def test_what_is_not_there_is_refused() -> None:
    """Unknown policies and measures, and too many panels, are input errors."""
    with pytest.raises(InputError, match=r"'best singel LLM' is not among.*did you mean"):
        quality_figure(one_axis(), policies=["best singel LLM"])
    with pytest.raises(InputError, match="money_per_prompt is not known here"):
        quality_figure(one_axis(), against=["money_per_prompt"])
    with pytest.raises(InputError, match="8 panels"):
        quality_figure(two_axes(), against=["budget", "delay_s"] * 2)


def test_table_of_a_grid_has_quality_and_verdicts() -> None:
    """The table repeats accuracies by budget, paired intervals over all cells, and verdicts."""
    table = paper_table(one_axis()).set_index("policy")
    for cell in one_axis().cells:
        column = f"energy_j_per_prompt={cell.budgets[0]:g}"
        assert table.loc["moe2", column] == 100 * cell.accuracy
    for tally in one_axis().tallies()[:-1]:
        row = table.loc[tally.policy]
        assert row["to_plan"] == 100 * tally.mean
        level = row["to_plan_low"] <= 0 <= row["to_plan_high"]
        assert (row["verdict"] == "level") == level


def test_table_without_a_grid() -> None:
    """Each row has the intervals of its policy; who is level is told by the interval."""
    table = paper_table(no_grid(), ["best single LLM", "category table"]).set_index("policy")
    assert list(table.index) == ["moe2", "best single LLM", "category table"]
    own = no_grid().row("best single LLM")
    assert own.against_plan.low is not None
    assert table.loc["best single LLM", "to_plan_low"] == 100 * own.against_plan.low
    assert table.loc["moe2", "verdict"] == ""


def test_latex_has_the_rows_of_the_csv(tmp_path: Path) -> None:
    """The LaTeX has a line for each policy, numbers rounded, and escapes what LaTeX would read."""
    table = paper_table(no_grid())
    table.loc[0, "policy"] = "a_b & 50 %"
    write_table(tmp_path / "t.csv", table, "about")
    assert pd.read_csv(tmp_path / "t.csv")["accuracy"].tolist() == table["accuracy"].tolist()
    text = latex(table, "what\nis shown")
    body = text.partition("\\midrule")[2].partition("\\bottomrule")[0].strip().splitlines()
    assert len(body) == len(table)
    assert body[0].startswith(r"a\_b \& 50 \% & ")
    first = table.iloc[2]
    wanted = f"${first['accuracy']:.1f}$ [${first['accuracy_low']:.1f}$, "
    assert wanted in body[2]
    assert all(line.count("&") - line.count("\\&") == body[1].count("&") for line in body)
    assert text.startswith("% what is shown\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--figure", "a.gif"], "a.gif: a figure is written as svg, png, pdf"),
        (["--table", "a.xlsx"], "a.xlsx: a table is written as csv, tex"),
        (["--against", "delay_s"], "--against: goes with --figure"),
        (["--policy", "ridge router"], "--policy: goes with --figure or --table"),
        (["--figure", "a.svg", "--against", "budget"], "--against budget: goes with --grid"),
        (["--figure", "a.svg", "--against", "delay"], "did you mean 'delay_s'"),
        (["--figure", "no/such/a.svg"], "--figure no/such/a.svg: No such file or directory"),
        (["--figure", "a.svg", "--grid", "a.b=1,2", "--grid", "b.c=1,2", "--grid", "c.d=1,2"],
         "--figure: shows grids of one axis or two, not of 3"),
    ],
)  # fmt: skip
def test_bad_flags_are_told_before_the_work(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Endings, measures and flags that do not fit are refused with exit code 2."""
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(app, ["evaluate", "tiny_gate", *words])
    assert ran.exit_code == 2
    assert message in ran.stderr
    assert not list(tmp_path.iterdir())


def test_command_writes_figures_and_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`evaluate --grid` draws and writes every file that is asked for, by its ending."""
    monkeypatch.chdir(tmp_path)
    words = ["evaluate", "tiny_gate", "--quiet", "--grid", "energy_j_per_prompt=60,150"]
    for name in ("q.pdf", "q.svg", "q.png"):
        words += ["--figure", name]
    ran = CliRunner().invoke(app, [*words, "--table", "q.tex", "--table", "q.csv"])
    assert ran.exit_code == 0, ran.stderr
    heads = {p.suffix: p.read_bytes()[:5] for p in tmp_path.iterdir()}
    assert heads[".pdf"] == b"%PDF-"
    assert heads[".png"] == b"\x89PNG\r"
    assert "moe2" in looks(ET.parse("q.svg").getroot())
    assert pd.read_csv("q.csv")["cells"].eq(2).all()
    assert Path("q.tex").read_text().count("\\\\") == len(pd.read_csv("q.csv")) + 1
