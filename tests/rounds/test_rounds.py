"""Plans of the question ``rounds`` are the best there are, by oracles that know no solver."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from round_files import drawn, four_layers, three_blocks, three_senders, written
from typer.testing import CliRunner

import moe2opt as mo
from moe2opt.cli.app import app
from moe2opt.errors import InputError
from moe2opt.rounds import RoundPlan
from moe2opt.rounds.baselines import polynomial
from moe2opt.rounds.judge import Assignment, Verdict, judge

KINDS = ("assign_blocks", "pipeline", "quantised_upload")


def solved(instance: Any, **settings: Any) -> mo.Result[Any]:
    """Return a result whose proof is checked."""
    result = mo.solve(instance, **settings)
    verdict = mo.certify(instance, result)
    assert (verdict.kind, verdict.failures) == ("checked", ())
    return result


def enumerated(instance: Any) -> float:
    """Return the least objective of all combinations of options, infinite without a round."""
    case, best = instance.case, math.inf
    for options in itertools.product(*(options for _, options in case.groups)):
        working = [o for o in options if o.device is not None]
        if sum(o.blocks for o in working) <= case.config.radio.blocks:
            found = judge(case, map(Assignment.of, working))
            if not found.faults:
                best = min(best, found.objective)
    return best


# ---------------------------------------------------------------------- answers known beforehand


def test_three_blocks_on_four_devices(tmp_path: Path) -> None:
    """The soonest round and its resource blocks are those of the reference, whose plan is one."""
    instance: Any = mo.load(three_blocks(tmp_path))
    result = solved(instance)
    plan = result.plan
    assert f"{plan.time_s:.9f}" == "17.193705688"
    assert result.bound == pytest.approx(-17.193705688235763, rel=1e-9)
    given = {own.device: own.resource_blocks for own in plan.assignments}
    assert given == {"one": 3, "two": 3, "three": 4}
    # Which of the first two devices takes which of the first two blocks makes no difference.
    first, second, third = plan.assignments
    order = sorted((first, second), key=lambda own: own.device)
    stated = [changed(own, block=k) for own, k in zip(order, "12", strict=True)]
    found = judge(instance.case, [*stated, third])
    assert (found.time_s, found.faults) == (plan.time_s, ())


def test_nothing_attains_the_next_smaller_time(tmp_path: Path) -> None:
    """A deadline before the soonest end is refuted, and the least one that helps is named."""
    case = mo.load(three_blocks(tmp_path)).case  # type: ignore[union-attr]
    times = sorted({o.seconds for _, options in case.groups for o in options})
    before = max(time for time in times if time < 17.1937)
    assert f"{before:.9f}" == "16.703253334"
    goal = {"energy": 1, "deadline_s": 17.1937}
    instance = mo.load(three_blocks(tmp_path, objective=goal))
    result = solved(instance)
    assert result.status is mo.Status.INFEASIBLE
    row = instance.row_names().index("time_s")  # type: ignore[union-attr]
    conflict = result.certificate.conflict  # type: ignore[union-attr]
    assert conflict is not None
    least = {relaxation.row: relaxation.limit for relaxation in conflict.relaxations}
    assert least[row] == pytest.approx(17.193705688235763, rel=1e-9)
    # Blocks of the band would help as well; what makes a round a round is no limit to be raised.
    assert {instance.row_names()[k] for k in least} == {"time_s", "resource_blocks"}  # type: ignore[union-attr]
    assert set(instance.fixed_rows) < set(conflict.rows)  # type: ignore[union-attr]


def test_a_conflict_lists_limits_of_the_user_only(tmp_path: Path) -> None:
    """Of an impossible deadline the command line names the deadline and the band, nothing else."""
    path = three_blocks(tmp_path, objective={"energy": 1, "deadline_s": 16})
    run = CliRunner().invoke(app, ["solve", str(path), "--json", "--quiet"])
    assert run.exit_code == 3
    conflict = json.loads(run.stdout)["certificate"]["conflict"]
    assert conflict["budgets"] == ["resource_blocks", "time_s"]
    assert conflict["relaxations"].keys() == {"resource_blocks", "time_s"}


@pytest.mark.slow
def test_the_least_deadline_is_the_soonest_end() -> None:
    """For 14 devices and 12 blocks the refuted deadline has the matching's time as its least."""
    instance: Any = mo.load("deft_round", "unlimited", {"objective.deadline_s": 9.5})
    result = solved(instance)
    assert result.status is mo.Status.INFEASIBLE
    options = polynomial(mo.load("deft_round", "unlimited").case)  # type: ignore[union-attr]
    assert options is not None
    row = instance.row_names().index("time_s")
    least = {r.row: r.limit for r in result.certificate.conflict.relaxations}  # type: ignore[union-attr]
    assert least[row] == max(option.seconds for option in options)


def test_fronts_are_those_of_enumeration(tmp_path: Path) -> None:
    """Each point of a front over the resource blocks is the best of all rounds with as many."""
    instance = drawn(tmp_path, "quantised_upload", 0, objective={"time": 1, "energy": 0.5})
    front = mo.pareto(instance, x="resource_blocks", points=None, high=6)
    assert [point.budget for point in front] == [4, 5, 6]
    for point in front:
        radio = {"radio.bandwidth_hz": 180e3 * point.budget}
        assert -point.objective == pytest.approx(
            enumerated(mo.load(tmp_path / "round.yaml", overrides=radio)), rel=1e-9
        )


def test_four_layers_on_three_devices(tmp_path: Path) -> None:
    """The soonest pipeline, its parts and its resource blocks are those of the reference."""
    plan = solved(mo.load(four_layers(tmp_path))).plan
    assert f"{plan.time_s:.9f}" == "18.003354232"
    assert plan.micro_batches == 4
    assert [(own.layers, own.resource_blocks) for own in plan.assignments] == [(2, 3), (2, 3)]


def test_bits_of_three_senders_equal_enumeration(tmp_path: Path) -> None:
    """Of 110,592 rounds the one of least weighted sum is found."""
    instance: Any = mo.load(three_senders(tmp_path))
    case, tables = instance.case, []
    for device in case.devices:
        options = [
            case.option(device, item, power, blocks)
            for item in case.items_of(device)
            for power in case.config.radio.power_w
            for blocks in case.grants
        ]
        assert len(options) == 48
        tables.append(np.array([(o.seconds, o.energy_j, o.blocks, o.error) for o in options]))
    a, b, c = tables[0][:, None, None], tables[1][None, :, None], tables[2][None, None, :]
    total = a + b + c
    time = np.maximum(np.maximum(a[..., 0], b[..., 0]), c[..., 0])
    fits = (total[..., 2] <= 8) & (total[..., 3] <= 15.0**-2 * (1 + 1e-9))
    best = np.where(fits, time + 2 * total[..., 1], np.inf).min()
    plan = solved(instance).plan
    assert plan.objective == pytest.approx(best, rel=1e-12)


# ---------------------------------------------------------------------- oracles on drawn rounds


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "sections",
    [
        {"objective": {"time": 1}, "limits": {"energy_j": 15}},
        {"objective": {"time": 1, "energy": 0.5}},
        {"objective": {"energy": 1, "deadline_s": 25}},
    ],
    ids=["energy row", "weighted sum", "deadline"],
)
def test_drawn_rounds_equal_enumeration(kind: str, sections: Any, tmp_path: Path) -> None:
    """Every goal of every kind of work is what all combinations say, or that there is none."""
    for seed in range(3):
        instance = drawn(tmp_path, kind, seed, **sections)
        if math.prod(len(options) for _, options in instance.case.groups) > 20_000:
            continue
        best, result = enumerated(instance), solved(instance)
        if math.isinf(best):
            assert result.status is mo.Status.INFEASIBLE
        else:
            assert result.plan.objective == pytest.approx(best, rel=1e-9)
            assert -result.bound == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize(
    "seeds", [range(8), pytest.param(range(8, 208), marks=pytest.mark.slow)], ids=["few", "many"]
)
@pytest.mark.parametrize("kind", KINDS[:2])
def test_polynomial_methods_agree(kind: str, seeds: range, tmp_path: Path) -> None:
    """Without a row of joules, matchings and the dynamic programme find the same least time."""
    for seed in seeds:
        instance = drawn(tmp_path, kind, seed)
        options, result = polynomial(instance.case), solved(instance)
        if options is None:
            assert result.status is mo.Status.INFEASIBLE
        else:
            oracle = judge(instance.case, map(Assignment.of, options))
            assert oracle.faults == ()
            assert result.plan.time_s == pytest.approx(oracle.time_s, rel=1e-12)
            assert any("polynomial" in note for note in result.plan.notes)


# ---------------------------------------------------------------------- what a plan says


@pytest.mark.parametrize("write", [three_blocks, four_layers, three_senders])
def test_no_rule_beats_the_plan(write: Any, tmp_path: Path) -> None:
    """Rules in use cost at least as much, and what the plan says can be read back."""
    plan = solved(mo.load(write(tmp_path))).plan
    costs = [rival.value for rival in plan.baselines if rival.gain is not None]
    assert costs
    assert min(costs) >= plan.objective * (1 - 1e-12)
    assert RoundPlan.from_dict(plan.to_dict()) == plan
    with pytest.raises(InputError, match="not a plan of rounds: assignments"):
        RoundPlan.from_dict(plan.to_dict() | {"assignments": 3})
    assert len(plan.to_frame()) == len(plan.assignments)
    assert plan.view().tables[0].rows


def test_a_chart_shows_when_devices_compute_and_send(tmp_path: Path) -> None:
    """Cells cover what each device takes; in a pipeline each starts a turn later."""
    plan = solved(mo.load(three_blocks(tmp_path))).plan
    chart = plan.view().map
    assert chart.names == tuple(own.device for own in plan.assignments)
    for own, row in zip(plan.assignments, chart.rows, strict=True):
        per_cell = plan.time_s / len(row)
        assert abs(row.count(0) * per_cell - own.compute_s) <= per_cell
        assert abs(row.count(1) * per_cell - own.upload_s) <= per_cell
    plan = solved(mo.load(four_layers(tmp_path))).plan
    first, second = plan.view().map.rows
    turn = len(first) / (plan.micro_batches + 1)
    assert first[0] == 0 and second.index(0) == pytest.approx(turn, abs=1)
    assert first[-1] == -1 and second[: int(turn)] == (-1,) * int(turn)
    assert [1 in row for row in (first, second)] == [True, True]


@pytest.mark.parametrize(
    ("write", "change", "fault"),
    [
        (three_blocks, lambda own: own[:2], "not every block is trained once"),
        (three_blocks, lambda own: [*own, own[0]], "takes part 2 times"),
        (three_blocks, lambda own: [changed(own[0], resource_blocks=8), *own[1:]], "resource_b"),
        (three_blocks, lambda own: [changed(own[0], device="five"), *own[1:]], "no device 'five'"),
        (three_blocks, lambda own: [changed(own[0], power_w=9.0), *own[1:]], "no such power"),
        (three_blocks, lambda own: [changed(own[0], block="9"), *own[1:]], "no such work"),
        (four_layers, lambda own: own[:1], "2 of 4 layers"),
        (four_layers, lambda own: [changed(own[0], layers=3), own[1]], "d0 lacks memory"),
        (three_senders, lambda own: own[:2], "not every device takes part"),
        (three_senders, lambda own: [changed(o, bits=2) for o in own], "quantisation_error"),
    ],
)
def test_damaged_plans_are_found(write: Any, change: Any, fault: str, tmp_path: Path) -> None:
    """Plans are judged by their own assignments: what they break is named."""
    instance: Any = mo.load(write(tmp_path))
    plan = mo.solve(instance).plan
    found: Verdict = judge(instance.case, change(list(plan.assignments)))
    assert fault in "; ".join(found.faults)


def changed(own: Assignment, **figures: Any) -> Assignment:
    """Return an assignment with other figures."""
    return Assignment(**{name: getattr(own, name) for name in own.__slots__} | figures)


def test_measured_throughputs_take_the_place_of_path_loss(tmp_path: Path) -> None:
    """In a slot of a trace, a device sends at its rate times its share of the blocks."""
    devices = [{"name": "a", "gflop_per_s": 100}, {"name": "b", "gflop_per_s": 100}]
    (tmp_path / "rates.csv").write_text("device,slot,mbps\na,0,1\nb,0,1\na,1,10\nb,1,30\n")
    radio = {"bandwidth_hz": 720e3, "throughputs": {"table": "rates.csv", "slot": 1}}
    work = {"kind": "quantised_upload", "gflop": 100, "values": 1e7, "bits": [3]}
    sections = {"objective": {"time": 1}, "radio": radio, "work": work}
    plan = solved(mo.load(written(tmp_path, devices, **sections))).plan
    assert [own.resource_blocks for own in plan.assignments] == [3, 1]
    assert plan.time_s == pytest.approx(1 + 3e7 / 10e6 * 4 / 3)


def test_queues_weigh_joules(tmp_path: Path) -> None:
    """The joules of a device count as often in the objective as its queue says."""
    instance = drawn(tmp_path, "quantised_upload", 1, objective={"time": 3, "energy": 2})
    plan = solved(instance).plan
    queues = {device.name: device.queue for device in instance.case.devices}
    queued = math.fsum(queues[own.device] * own.energy_j for own in plan.assignments)
    assert plan.objective == pytest.approx(3 * plan.time_s + 2 * queued, rel=1e-12)
    assert instance.measure.unit == ""


@pytest.mark.parametrize(
    ("name", "gap"), [("deft_round", 5e-3), ("collapipe_round", 5e-4), ("sflam_round", 5e-4)]
)
@pytest.mark.slow
def test_built_in_rounds_are_certified(name: str, gap: float) -> None:
    """The synthetic rounds of the systems are certified to their gap, and beat the rules in use."""
    result = solved(mo.load(name), rel_gap=gap)
    assert result.gap <= gap
    rules = [rule for rule in result.plan.baselines if "polynomial" not in rule.name]
    assert rules and all(rule.gain is None or rule.gain > 0 for rule in rules)
    assert any("synthetic" in note for note in result.plan.notes)


def test_a_single_layer_is_one(tmp_path: Path) -> None:
    """What a device holds is told in the number that it has."""
    plan = solved(mo.load(four_layers(tmp_path))).plan
    one = dataclasses.replace(plan.assignments[0], layers=1)
    told = dataclasses.replace(plan, assignments=(one, plan.assignments[1])).summary()
    assert "1 layer " in told
    assert "2 layers" in told
