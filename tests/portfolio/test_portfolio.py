"""Plans of the question ``portfolio`` are the best of the table, and say what rules give."""

from __future__ import annotations

import itertools
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import level_files
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from level_files import solved
from mutations_of_results import FREE, mutations
from typer.testing import CliRunner

import moe2opt as mo
from moe2opt.cli.app import app
from moe2opt.errors import InputError
from moe2opt.portfolio import Case, Cell, PortfolioInstance, PortfolioPlan
from moe2opt.portfolio.baselines import by_worth, greedy
from moe2opt.portfolio.judge import faults, serving, total
from moe2opt.present import Measure
from moe2opt.verify import judged

TABLE = """\
device,variant,ap,ap_se,latency_ms
phone,small,30,1,2
phone,large,50,1,9
watch,small,28,1,6
car,small,32,1,1
car,large,55,1,4
car,wide,54,3,3
"""
YAML = """\
schema_version: 1
problem: portfolio
name: fleet
table: t.csv
class: device
candidate: variant
value: ap
where: {latency_ms: 8}
costs: {variants: 1}
budgets: {variants: 2}
"""


def written(folder: Path, yaml: str = YAML, **tables: str) -> Path:
    """Return a configuration on disk beside its tables; the one of the devices is ``t``."""
    return level_files.written(folder, yaml, **({"t": TABLE} | tables))


@pytest.mark.parametrize(
    ("scenario", "value", "rule", "kept"),
    [
        ("mixed_one", "30.086", "30.086", {"yolov7/w8a8"}),
        ("mixed", "35.779", "34.207", {"yolov6/w8a16", "yolov8_det/w8a8"}),
        ("mixed_three", "36.921", "36.493", None),
        (None, "35.779", "34.207", {"yolov6/w8a16", "yolov8_det/w8a8"}),
    ],
)
def test_detectors_for_a_fleet_are_those_of_the_reference(
    scenario: str | None, value: str, rule: str, kept: set[str] | None
) -> None:
    """Exact and greedy choices of detectors within 5 ms, with one label set the same."""
    result = solved(mo.load("detectors_for_fleet", scenario))
    assert f"{result.objective:.3f}" == value
    assert kept is None or set(result.plan.kept) == kept
    assert f"{result.plan.baselines[0].value:.3f}" == rule
    nobody = "Dragonwing Q-6690 MTP"
    assert nobody not in result.plan.serves
    assert [nobody in note for note in result.plan.notes if "it counts 0" in note] == [True]


def on_a_line(weights: dict[int, float], count: int) -> float:
    """Return the least mean level with so many levels, by a dynamic programme."""

    @cache
    def least(below: int, left: int) -> float:
        """Return the work of needs above `below`, whose last level is the largest."""
        if below == 32:
            return 0.0
        if left == 0:
            return math.inf
        return min(
            level * math.fsum(w for k, w in weights.items() if below < k <= level)
            + least(level, left - 1)
            for level in range(below + 1, 33)
        )

    return least(3, count)


@pytest.mark.parametrize(
    ("scenario", "count", "mean"), [(None, 3, "14.6697"), ("four", 4, "13.72"), ("six", 6, "12.91")]
)
def test_operating_points_are_those_of_the_dynamic_programme(
    scenario: str | None, count: int, mean: str
) -> None:
    """Levels that serve nested needs on a line are as a dynamic programme finds them."""
    target = mo.load("prism_operating_points", scenario)
    result = solved(target)
    weights = {int(name.split()[1]): share for name, share in target.case.weights.items()}
    active = 32 - result.objective
    assert active == pytest.approx(on_a_line(weights, count), rel=1e-12)
    assert f"{active:.{len(mean) - 3}f}" == mean
    if scenario is None:
        assert result.plan.kept == ("level 12", "level 17", "level 32")
        even = total(target.case, serving(target.case, ("level 13", "level 23", "level 32")))
        assert f"{32 - even:.3f}" == "16.086"


@pytest.mark.parametrize(
    ("scenario", "gain", "sorted_gain"),
    [(None, "12.40", "9.50"), ("four", "31.80", "29.55"), ("large_six", "26.96", "26.02")],
)
def test_experts_that_help_other_tasks_too_are_shipped(
    scenario: str | None, gain: str, sorted_gain: str
) -> None:
    """Points over the pre-trained model, which is always there; sorting by own gain has fewer."""
    target = mo.load("ewemoe_experts", scenario)
    plan = solved(target).plan
    base = total(target.case, serving(target.case, ("pre-trained",)))
    greedy, _, own_gain = plan.baselines
    assert f"{plan.total - base:.2f}" == gain
    assert own_gain.value - base == pytest.approx(float(sorted_gain), abs=0.0051)
    assert greedy.verdict == "as good here"


def test_one_checkpoint_of_rtdetr_serves_nearly_all_depths() -> None:
    """The checkpoint of 6 layers alone is 0.11 AP below the best two."""
    one, two = (solved(mo.load("rtdetr_depth", name)) for name in (None, "two"))
    assert one.plan.kept == ("trained with 6",)
    assert (f"{one.objective:.4f}", f"{two.objective:.4f}") == ("52.1000", "52.2143")


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a few classes and candidates with small whole numbers."""
    count = draw(st.integers(1, 5))
    names = tuple(f"i{k}" for k in range(count))
    figure = st.integers(0, 9).map(float)
    every = draw(st.booleans())
    row = st.lists(figure | st.none(), min_size=count, max_size=count)
    if every:
        row = row.filter(lambda figures: figures.count(None) < count)
    drawn = draw(st.lists(row, min_size=1, max_size=4))
    return Case(
        name="drawn",
        column="candidate",
        weights={f"c{c}": draw(st.integers(0, 4)) / 8 for c in range(len(drawn))},
        candidates=names,
        cells={
            f"c{c}": {
                n: Cell(v, None) for n, v in zip(names, figures, strict=True) if v is not None
            }
            for c, figures in enumerate(drawn)
        },
        costs={"cost": {name: float(draw(st.integers(1, 4))) for name in names}},
        limits={"cost": float(draw(st.integers(0, 12)))},
        base=(),
        every=every,
        measure=Measure("maximize", "", "value"),
        rivals={"greedy": None, "sorted": None},
    )


@settings(max_examples=60, deadline=None)
@given(cases())
def test_plans_are_those_of_enumeration(case: Case) -> None:
    """The plan is as good as the best of all sets within the limits, or there is none."""
    sets = [
        kept
        for size in range(len(case.candidates) + 1)
        for kept in itertools.combinations(case.candidates, size)
    ]
    totals = [total(case, serving(case, kept)) for kept in sets if not faults(case, kept)]
    instance = PortfolioInstance(case)
    result = mo.solve(instance)
    if not totals:
        assert result.status is mo.Status.INFEASIBLE
        return
    assert result.plan is not None and result.plan.total == max(totals)
    assert instance.check(result.plan) == []
    for rule in (greedy, by_worth):
        assert not [fault for fault in faults(case, rule(case)) if fault.startswith("cost")]
    assert all(rival.gain is None or rival.gain >= 0 for rival in result.plan.baselines)


def test_limits_may_differ_by_class_and_costs_by_candidate(tmp_path: Path) -> None:
    """A slower watch is served where its own limit allows it, and a bundle has a size."""
    yaml = YAML.replace("latency_ms: 8", "latency_ms: limits.csv")
    yaml = yaml.replace("costs: {variants: 1}", "costs: {size_mb: size.csv}")
    yaml = yaml.replace("budgets: {variants: 2}", "budgets: {size_mb: 12}")
    limits = "device,latency_ms\nphone,10\nwatch,5\ncar,4\n"
    sizes = "variant,size_mb\nsmall,4\nlarge,9\nwide,8\n"
    plan = solved(mo.load(written(tmp_path, yaml, limits=limits, size=sizes))).plan
    assert plan.kept == ("large",) and plan.serves == {"phone": "large", "car": "large"}
    assert plan.total == pytest.approx(105 / 3)
    assert any("serves watch: it counts 0" in note for note in plan.notes)


def test_limits_in_another_unit_are_suspected(tmp_path: Path) -> None:
    """Where seconds for milliseconds leave no row, the plan is empty and asks about units."""
    plan = solved(
        mo.load(written(tmp_path, YAML.replace("latency_ms: 8", "latency_ms: 0.008")))
    ).plan
    assert (plan.kept, plan.total) == ((), 0.0)
    assert [note for note in plan.notes if "do their units agree?" in note]


def test_weights_are_shares_and_a_base_costs_nothing(tmp_path: Path) -> None:
    """A base candidate is kept besides what the budget pays, weights are divided by their sum."""
    yaml = YAML.replace("class: device", "class: {column: device, weights: w.csv}")
    yaml = yaml.replace("variants: 2", "variants: 1") + "base: [small]\nevery_class_served: true\n"
    target = mo.load(written(tmp_path, yaml, w="device,weight\nphone,2\nwatch,2\ncar,4\n"))
    result = solved(target)
    assert result.plan.kept == ("small", "large")
    assert result.objective == pytest.approx(0.25 * 30 + 0.25 * 28 + 0.5 * 55)
    assert len(target.cover_names()) == len(target.problem().covers) == 4


def test_a_gain_within_noise_says_so(tmp_path: Path) -> None:
    """Only classes that others serve count, and a gain that noise explains is called that."""
    yaml = YAML + "baselines: [plan: mine.csv]\n"
    plan = solved(mo.load(written(tmp_path, yaml, mine="variant\nsmall\nwide\n"))).plan
    (rival,) = plan.baselines
    assert rival.gain == pytest.approx(1 / 3)
    assert rival.standard_error == pytest.approx(math.hypot(1, 3) / 3)
    assert "the gain over mine is no larger than noise makes it" in plan.notes


def test_json_exports_and_reading_back(tmp_path: Path) -> None:
    """`solve --json` has kept and serves, exports hold the same, and a plan survives JSON."""
    config = written(tmp_path)
    run = CliRunner().invoke(app, ["solve", str(config), "--json", "--quiet"])
    plan = json.loads(run.stdout)["plan"]
    assert plan["kept"] == ["small", "large"]
    assert plan["serves"] == {"phone": "small", "watch": "small", "car": "large"}
    again = PortfolioPlan.from_dict(plan)
    assert again.to_dict() == json.loads(json.dumps(again.to_dict())) | again.to_dict()
    target = mo.load(config)
    assert target.check(again) == []
    wrong = PortfolioPlan.from_dict(plan | {"kept": ["small", "large", "wide"]})
    assert target.check(wrong) == ["variants: 3 is more than 2"]
    with pytest.raises(InputError, match="not a plan of a portfolio"):
        PortfolioPlan.from_dict({"kept": []})
    runs: list[list[Any]] = [
        ["solve", config, "--out", tmp_path / "out", "--quiet"],
        ["export", tmp_path / "out/result.json", "--to", "json", "--out", tmp_path / "e.json"],
        ["export", tmp_path / "out/result.json", "--to", "csv", "--out", tmp_path / "e.csv"],
        ["pareto", config, "--x", "variants", "--points", "3", "--quiet"],
        ["sweep", config, "--over", "budgets.variants=1,2", "--out", tmp_path / "s", "--quiet"],
        ["report", tmp_path / "out", "--quiet"],
    ]
    for command in runs:
        done = CliRunner().invoke(app, list(map(str, command)))
        assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "e.json").read_text())["serves"] == plan["serves"]
    assert (tmp_path / "e.csv").read_text() == "variant\nsmall\nlarge\n"
    assert "Who serves whom, and who could" in (tmp_path / "out" / "report.html").read_text()


def test_changes_of_a_stored_result_are_rejected(tmp_path: Path) -> None:
    """A stored result is accepted as it is, and rejected with any of its leaves changed."""
    target = mo.load(written(tmp_path))
    mo.solve(target).save(tmp_path / "result.json")
    content = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert judged(content, tmp_path, target).failures == ()
    free = (*FREE, "provenance.scenario", "provenance.overrides")
    changed = list(mutations(content, 150, free))
    accepted = [what for what, mutant in changed if judged(mutant, tmp_path, target).ok]
    assert len(changed) >= 100 and accepted == []


def test_classes_that_cannot_all_be_served_are_infeasible(tmp_path: Path) -> None:
    """Where one variant alone can serve the watch and does not fit, that is proven."""
    yaml = YAML + "every_class_served: true\n"
    yaml = yaml.replace("variants: 1", "size_mb: s.csv").replace("variants: 2", "size_mb: 3")
    sizes = "variant,size_mb\nsmall,4\nlarge,1\nwide,1\n"
    result = mo.solve(mo.load(written(tmp_path, yaml, s=sizes)))
    assert result.status is mo.Status.INFEASIBLE


#: What stands there, what is written instead (in the configuration or the table), the message.
BAD: list[tuple[str, str, str]] = [
    ("value: ap", "value: map", "value.column: t.csv has no column 'map'; did you mean 'ap'?"),
    ("value: ap", "value: {column: ap, sense: min}", "value.sense: unknown key"),
    ("class: device", "class: devise", "class: t.csv has no column 'devise'"),
    ("class: device", "classes: device", "classes: unknown key"),
    ("class: device", "class: {column: device, weights: {phone: 1}}",
     "class.weights: nothing is said of watch, car"),
    ("class: device", "class: {column: device, weights: {phone: 1, watch: 1, car: 1, van: 1}}",
     "class.weights: the table has no 'van'"),
    ("class: device", "class: {column: device, weights: {phone: 0, watch: 0, car: 0}}",
     "class.weights: no class has any weight"),
    ("candidate: variant", "candidate: device", "candidate: 'device' is the column of the classes"),
    ("latency_ms: 8", "latency: 8", "its unit is missing: did you mean 'latency_ms'?"),
    ("latency_ms: 8", "latency_ms: .inf", "where.latency_ms"),
    ("latency_ms: 8", "latency_ms: few.csv", "where.latency_ms: nothing is said of watch, car"),
    ("latency_ms: 8}", "latency_ms: 5}\nevery_class_served: true",
     "every_class_served: no candidate can serve watch"),
    ("costs: {variants: 1}", "costs: {variants: -1}", "costs.variants"),
    ("costs: {variants: 1}", "costs: {variant: 1}", "say nothing of it"),
    ("costs: {variants: 1}", "costs: {variants: few.csv}", "costs.variants: few.csv needs"),
    ("budgets: {variants: 2}", "budgets: {}", "budgets: "),
    ("budgets: {variants: 2}", "budgets: {variants: .nan}", "budgets.variants: "),
    ("budgets: {variants: 2}", "budgets: {variants: 2}\nbase: [tiny]",
     "base.0: 'tiny' is no candidate of the table"),
    ("budgets: {variants: 2}", "budgets: {variants: 2}\nbaselines: [plan: odd.csv]",
     "odd.csv: 'tiny' is no candidate of the table"),
    ("budgets: {variants: 2}", "budgets: {variants: 2}\nbaselines: [greedy, greedy]",
     "baselines.1: 'greedy' is there twice"),
    ("table: t.csv", "table: ../t.csv", "table: '../t.csv' leaves the folder"),
    ("table: t.csv", "table: none.csv", "none.csv: No such file"),
    ("candidate: variant\n", "", "candidate: required key is missing"),
    ("phone,small,30", "phone,small,", "t.csv:2: ap: the cell is empty"),
    ("phone,small,30", "phone,small,high", "t.csv:2: ap: 'high' is not a number"),
    ("phone,small,30", "phone,small", "t.csv:2: 4 cells, the header has 5"),
    (TABLE, "", "t.csv:1: the file is empty; expected a header"),
    (TABLE, TABLE.replace(",", ";"), "t.csv:1: cells are separated by semicolons"),
    ("budgets: {variants: 2}", "budgets: {variants: 2}\nbase: small",
     "base: expected a list, got 'small'"),
    ("class: device", "class:", "class: expected text or a section"),
    ("class: device", "class: {column: device, weights: {phone: 60 %, watch: 1, car: 1}}",
     "class.weights.phone: expected a number, got '60 %'"),
    ("latency_ms: 8", "latency_ms: 8 ms", "where.latency_ms: 8 ms: No such file"),
    ("costs: {variants: 1}", "costs: {variants: size.csv}",
     "costs.variants: nothing is said of large, wide"),
    ("phone,small,30", "phone,small,-30", "t.csv:2: ap: -30 is outside 0..inf"),
    ("phone,small,30", "phone,small,nan", "t.csv:2: ap: nan is not finite"),
    ("phone,large,50", "phone,small,50", "t.csv:3: device, variant: 'phone, small' repeats line 2"),
    ("phone,small,30", ",small,30", "t.csv:2: device: the cell is empty"),
    (TABLE, "device,variant,ap,latency_ms\n", "table: t.csv has no rows"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), BAD)
def test_bad_input_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    """A fault of configuration or tables is one line that names key, file and line, or column."""
    texts = {"few": "device,latency_ms\nphone,8\n", "odd": "variant\ntiny\n"}
    texts["size"] = "variant,variants\nsmall,1\n"
    config = written(tmp_path, YAML.replace(old, new, 1), t=TABLE.replace(old, new, 1), **texts)
    with pytest.raises(InputError) as error:
        mo.load(config)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "seeds", [range(8), pytest.param(range(8, 208), marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_levels_on_a_line_are_those_of_the_dynamic_programme(seeds: range, tmp_path: Path) -> None:
    """Drawn needs, levels with drawn gaps and any number kept: the plan is the oracle's."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        most = int(rng.integers(5, 13))
        smaller = rng.choice(np.arange(1, most), int(rng.integers(2, most - 1)), replace=False)
        levels = [*sorted(smaller.tolist()), most]
        needs = {k: float(rng.integers(0, 10)) for k in range(1, most + 1)} | {most: 1.0}
        count = int(rng.integers(1, len(levels) + 1))
        rows = [f"{k},{level},{most - level}" for k in needs for level in levels if k <= level]
        weights = [f"{k},{weight}" for k, weight in needs.items()]
        yaml = f"""\
schema_version: 1
problem: portfolio
name: line
table: t.csv
class: {{column: need, weights: w.csv}}
candidate: level
value: saved
costs: {{levels: 1}}
budgets: {{levels: {count}}}
every_class_served: true
"""
        path = written(
            tmp_path, yaml, t="need,level,saved\n" + "\n".join(rows),
            w="need,weight\n" + "\n".join(weights),
        )  # fmt: skip
        result = solved(mo.load(path))
        least = served_on_a_line(needs, levels, count)
        assert result.objective == pytest.approx(most - least / sum(needs.values()), rel=1e-12)


def served_on_a_line(needs: dict[int, float], levels: list[int], count: int) -> float:
    """Return the least work of serving every need with so many levels, by a dynamic programme."""
    best = {0: 0.0}  # the largest level that is kept to the work of all needs up to it
    for _ in range(count):
        grown = dict(best)
        for below, work in best.items():
            for level in (one for one in levels if one > below):
                own = level * math.fsum(w for need, w in needs.items() if below < need <= level)
                grown[level] = min(grown.get(level, math.inf), work + own)
        best = grown
    return best[levels[-1]]
