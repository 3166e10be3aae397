"""Selections from day to day: the stream, what policies know and pay, and the bound over them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import moe2opt as mo
from moe2opt.canonical import FacilityProblem
from moe2opt.cli import app
from moe2opt.replay.days import Day, DaysSettings, compare_days, read_days
from moe2opt.replay.days import policies as deciding
from moe2opt.replay.days.policies import HINDSIGHT, POLICIES, PRIOR, Knowledge, loading
from moe2opt.replay.days.world import World
from moe2opt.result import InputError, Limit, Status
from moe2opt.selection.question import GatedInstance

LLMS = ["ada", "bea", "cyd"]


@pytest.fixture(scope="module")
def real() -> GatedInstance:
    """Return the built-in selection with measured outcomes."""
    instance = mo.load("mmlu_pro_days")
    assert isinstance(instance, GatedInstance)
    return instance


@pytest.fixture(scope="module")
def days(real: GatedInstance, checkout: Path) -> tuple[Day, ...]:
    """Return its stream."""
    path = checkout / "problems" / "days" / "mmlu_pro_days.csv"
    return read_days(path, [llm.name for llm in real.tables.llms])


def stream(folder: Path, text: str) -> tuple[Day, ...]:
    """Return the days of a table."""
    path = folder / "days.csv"
    path.write_text(text)
    return read_days(path, LLMS)


def test_a_stream_carries_over_what_it_does_not_say(tmp_path: Path) -> None:
    """Empty cells leave LLMs and keys as they were."""
    found = stream(tmp_path, "day,add,remove,energy.limit_j_per_prompt\n"
                             "0,ada;bea,,100\n1,,,\n2,cyd,ada,80\n")  # fmt: skip
    assert [day.offered for day in found] == [("ada", "bea"), ("ada", "bea"), ("bea", "cyd")]
    assert [day.come for day in found] == [(), (), ("cyd",)]
    limits = [day.overrides[0] for day in found]
    assert limits == [f"energy.limit_j_per_prompt={n}" for n in (100, 100, 80)]


def test_without_a_column_for_them_all_llms_are_there(tmp_path: Path) -> None:
    """Prices alone may change."""
    assert stream(tmp_path, "day\n0\n1\n")[1] == Day(tuple(LLMS), (), ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("day,add\n1,ada\n", ":2: day: 1, expected 0"),
        ("day,add\n0,ada\n2,\n", ":3: day: 2, expected 1"),
        ("day,add\n0,adda\n", ":2: add: there is no LLM 'adda' to deploy; did you mean 'ada'?"),
        ("day,add\n0,ada\n1,ada\n", ":3: add: 'ada' is there already"),
        ("day,add,remove\n0,ada,bea\n", ":2: remove: 'bea' is not there"),
        ("day,remove\n0,ada;bea;cyd\n", ":2: no LLM is there"),
        ("day,add\n", "0 days; expected 1 to 10,000"),
        ("day,add\nx,ada\n", "day: 'x' is not"),
        ("add\nada\n", "day"),
    ],
)
def test_faults_of_a_stream_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    """A wrong table is refused with its file and line."""
    with pytest.raises(InputError) as caught:
        stream(tmp_path, text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"history": 0.0}, "history: 0 is no share between 0 and 1"),
        ({"trial": 0}, "trial: 0 prompts"),
        ({"feedback": "some"}, "feedback: 'some'; expected answers or all"),
        ({"load_gib_per_s": 0.0}, "load_gib_per_s: 0; expected more than 0"),
        ({"day_s": float("inf")}, "day_s: inf; expected more than 0"),
        ({"seed": -1}, "seed: -1; expected 0 or more"),
    ],
)
def test_faults_of_settings_are_told(fault: dict[str, object], message: str) -> None:
    """Settings out of range are refused by name."""
    with pytest.raises(InputError, match=message):
        DaysSettings(**fault)  # type: ignore[arg-type]


def test_beliefs_lean_on_the_overall_mean() -> None:
    """A belief is a mean that starts at the LLM's mean over all categories; a bound is above it."""
    known = Knowledge(np.zeros((2, 1)), np.zeros((2, 1)))
    assert known.means.tolist() == [[0.5], [0.5]]
    known.learn(np.array([0, 0, 1]), np.zeros(3, dtype=np.int64), np.array([1.0, 1.0, np.nan]))
    total = 3 / 4
    assert known.means[0, 0] == pytest.approx((2 + PRIOR * total) / (2 + PRIOR))
    assert known.means[1, 0] == pytest.approx(total)
    assert (known.upper > known.means).all()


def test_no_policy_exceeds_the_clairvoyant_bound(
    real: GatedInstance, days: tuple[Day, ...]
) -> None:
    """On every day, whatever is heard of, and hindsight is the best of all by far."""
    settings = DaysSettings(load_gib_per_s=0.001, seed=1)
    found = compare_days(real, days, settings=settings)
    assert found.bounds is not None
    for name, own in found.records.items():
        for record, bound in zip(own, found.bounds, strict=True):
            assert record["accuracy"] <= bound + 1e-9, name
            assert record["proven"] or name == "static"
    sums = found.summaries()
    assert list(sums) == list(POLICIES)
    rest = max(row["accuracy"] for name, row in sums.items() if name != HINDSIGHT)
    assert sums[HINDSIGHT]["accuracy"] > rest


def test_deployments_keep_the_budgets_of_their_day(
    real: GatedInstance, days: tuple[Day, ...]
) -> None:
    """Every set is feasible for that day's own configuration, and holds only what is there."""
    found = compare_days(real, days, ["static", "exact"], against=None)
    world = World(real, days, DaysSettings())
    for own in found.records.values():
        for day, stage, record in zip(days, world.stages, own, strict=True):
            labels = [expert.label for expert in stage.instance.experts]
            x = np.array([int(label in record["experts"]) for label in labels])
            assert x.sum() == len(record["experts"])
            assert stage.base.is_feasible(x)
            assert all(stage.keys[i][0] in day.offered for i in np.flatnonzero(x))


def test_loading_takes_prompts_and_thrift_avoids_it(
    real: GatedInstance, days: tuple[Day, ...]
) -> None:
    """What loads slowly loses prompts, and charging for it loads less."""
    slow = DaysSettings(load_gib_per_s=0.0002, feedback="all")
    quick = DaysSettings(feedback="all")
    fast = compare_days(real, days, ["exact"], against=None, settings=quick).summaries()["exact"]
    found = compare_days(real, days, ["exact", "thrifty"], against=None, settings=slow)
    exact, thrifty = (found.summaries()[name] for name in ("exact", "thrifty"))
    assert thrifty["loaded_gib"] < exact["loaded_gib"]
    assert exact["loaded_gib"] == fast["loaded_gib"]
    assert exact["accuracy"] < fast["accuracy"]
    stage = World(real, days, slow).stages[0]
    gib = stage.instance.experts[0].memory_gib
    assert loading(World(real, days, slow), stage)[0] == pytest.approx(gib / 0.0002 / 86400)


def test_two_days_by_hand(tmp_path: Path, real: GatedInstance) -> None:
    """One LLM, then another that costs less than the budget: counts, scores and loads add up."""
    first, second = "Phi-3-mini-4k-instruct", "mathstral-7B"
    path = tmp_path / "two.csv"
    path.write_text(f"day,add,remove\n0,{first},\n1,{second},{first}\n")
    two = read_days(path, [llm.name for llm in real.tables.llms])
    found = compare_days(real, two, ["exact"], settings=DaysSettings(history=0.5))
    world = World(real, two, DaysSettings(history=0.5))
    for day, name in enumerate((first, second)):
        record = found.records["exact"][day]
        column = world.outcomes.names.index(name)
        right = world.score[world.parts[day + 1], column]
        stage = world.stages[day]
        (expert,) = [e for e in stage.instance.experts if e.label in record["experts"]]
        assert expert.llm == name
        lost = expert.memory_gib / 86400 if day else 0.0  # nothing was there that could stand in
        expected = right.mean() * expert.quality_factor * (1 - lost)
        assert record["accuracy"] == pytest.approx(expected, abs=1e-12)
        assert record["loaded_gib"] == pytest.approx(expert.memory_gib)


def test_what_answers_and_servers_cost_is_told(tmp_path: Path) -> None:
    """Electricity is paid by the joule, the used server by the hour; prices change with the day."""
    money = {"currency": "eur", "per_kwh": 0.3}
    rent = {"servers.0.money_per_hour": 2.0, "servers.1.money_per_hour": 3.0}
    bought = mo.load("mmlu_pro_days", overrides={"money": money} | rent)
    path = tmp_path / "days.csv"
    path.write_text("day,add,money.per_kwh\n0,Phi-3-mini-4k-instruct,\n1,,0.6\n")
    found = compare_days(
        bought, read_days(path, [llm.name for llm in bought.tables.llms]), ["exact"]
    )
    records, sums = found.records["exact"], found.summaries()["exact"]
    for record, price in zip(records, (0.3, 0.6), strict=True):
        kwh = record["energy_j_per_prompt"] / 3.6e6
        assert record["money_per_prompt"] == pytest.approx(kwh * price)
        used = [
            rent
            for host, rent in (("orin", 2.0), ("rtx", 3.0))
            if any(host in own for own in record["experts"])
        ]
        assert record["money_per_hour"] == sum(used) > 0
    weights = [record["prompts"] for record in records]
    paid = np.average([record["money_per_prompt"] for record in records], weights=weights)
    assert sums["money_per_prompt"] == pytest.approx(paid)
    assert found.to_dict()["currency"] == "eur"


def test_a_replay_is_the_same_every_time(real: GatedInstance, days: tuple[Day, ...]) -> None:
    """Equal seeds give equal records, another seed other days."""
    once, again = (compare_days(real, days[:3], ["exact"], against=None) for _ in range(2))
    assert once.records == again.records
    other = compare_days(real, days[:3], ["exact"], against=None, settings=DaysSettings(seed=5))
    assert other.records != once.records


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: replace(d, overrides=("energy.limit_j_per_prompt=none",)), "day 1: "),
        (lambda d: replace(d, overrides=("queue.prompts_per_s=1", "queue.wait_limit_s=1")),
         "day 1: replay: days follow sums over experts only, not queue"),
        (lambda d: replace(d, overrides=("objective=vote",)),
         "day 1: replay: days follow sums over experts only, not objective 'vote'"),
        (lambda d: replace(d, overrides=("money.worth_of_correct=0.1",)),
         "day 1: money.worth_of_correct: policies follow accuracy"),
    ],
)  # fmt: skip
def test_what_a_day_may_not_change_is_told(
    real: GatedInstance, days: tuple[Day, ...], change: Callable[[Day], Day], message: str
) -> None:
    """Keys that are wrong, or lead beyond sums, are refused with the day."""
    with pytest.raises(InputError, match=message):
        compare_days(real, [days[0], change(days[1])], ["exact"])


def test_the_verb_prints_writes_and_refuses(tmp_path: Path) -> None:
    """A table on stdout, tables in the folder, 3 without a plan, 2 for flags of traces."""
    run = CliRunner().invoke
    short = tmp_path / "short.csv"
    short.write_text("day,energy.limit_j_per_prompt\n0,500\n1,200\n2,\n")
    words = ["replay", "mmlu_pro_days", str(short), "--policy", "static,exact"]
    ran = run(app, [*words, "--out", str(tmp_path / "out"), "--quiet"])
    assert ran.exit_code == 0, ran.stderr
    assert "3 days, 534 prompts a day, 8 LLMs" in ran.stdout
    assert "no policy that routes by category can exceed it" in ran.stdout
    table = pd.read_csv(tmp_path / "out" / "days.csv")
    assert len(table) == 6
    assert (table.accuracy <= table.bound_of_all + 1e-9).all()
    told = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert set(told["policies"]) == {"static", "exact"}
    as_json = json.loads(run(app, [*words, "--json", "--quiet"]).stdout)
    assert as_json["policies"] == told["policies"]
    (tmp_path / "poor.csv").write_text("day,energy.limit_j_per_prompt\n0,500\n1,1\n")
    poor = run(app, ["replay", "mmlu_pro_days", str(tmp_path / "poor.csv"), "--quiet"])
    assert (poor.exit_code, poor.stderr) == (3, "day 1: no deployment keeps the budgets\n")
    wrong = run(app, [*words, "--step", "2"])
    assert wrong.exit_code == 2
    assert "--step: is for traces of a placement" in wrong.stderr
    placed = run(app, ["replay", "mobile_edge", "synthetic_walk", "--feedback", "all"])
    assert "--feedback: is for days of a selection" in placed.stderr
    unknown = run(app, ["replay", "mmlu_pro_days", "mmlu_pro_days", "--policy", "lucky"])
    assert "unknown policy 'lucky'; choose from static, exact, thrifty" in unknown.stderr


def test_an_interrupted_day_is_no_day_without_a_plan(
    real: GatedInstance, days: tuple[Day, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search that Ctrl-C ended counts for nothing; the policies before it are kept."""
    calls = iter(range(9))

    def ended(problem: FacilityProblem) -> mo.Result:
        found = mo.solve(problem)
        late = next(calls) == 4
        return replace(found, x=None, status=Status.NO_SOLUTION, objective=-np.inf,
                       limit=Limit.INTERRUPTED) if late else found  # fmt: skip

    monkeypatch.setattr(deciding, "solve", ended)
    found = compare_days(real, days[:3], ["exact", "hindsight"], against=None)
    assert found.interrupted
    assert list(found.records) == ["exact"]
