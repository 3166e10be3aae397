"""What runs become: profile rows, comparisons, tolerances. No model is run here."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import moe2opt as mo
from moe2opt.executor.calibrate import FORMAT, cells_of, profile_from_runs
from moe2opt.executor.compare.compare import caveats
from moe2opt.executor.compare.figures import Comparison, Row, parse_tolerances
from moe2opt.executor.compare.selection import replayed
from moe2opt.executor.run.record import Held, Pass, Run, Served
from moe2opt.executor.store.layout import Layout
from moe2opt.placement.machine.rates import COLUMNS, TABLE, UNIQUE
from moe2opt.result import InputError
from moe2opt.schema.csv import read_table

HIT_S, MOVE_S, COLD_S, DENSE_S, AFTER_S = 30e-6, 400e-6, 45e-6, 700e-6, 25e-6


def fake_run(tokens: int = 40) -> Run:
    """Return a run of four uses per token, 0 to 4 of them from disk, with known costs."""
    served, token_s = [], np.zeros(tokens)
    for token in range(tokens):
        moved = token % 5
        for use in range(4):
            cold = use < moved
            times = (MOVE_S, COLD_S) if cold else (0.0, HIT_S)
            served.append(Served(token, use, 0, int(cold), 0, not cold, 8 * cold, False, *times))
        token_s[token] = DENSE_S + moved * (MOVE_S + COLD_S + AFTER_S) + (4 - moved) * HIT_S
    nothing = np.zeros((4, 1), dtype=np.int64)
    layout = Layout(
        layers=tuple(range(4)),
        kinds=("dram", "disk"),
        home=0,
        representative=nothing,
        stored=nothing == 0,
        dropped=nothing == 1,
        tier=nothing[:, :, None],
        precision=nothing[:, :, None],
        place=np.zeros((2, 1), dtype=np.int64),
        moved=np.array([[False], [True]]),
    )
    one = Pass(token_s, np.zeros((tokens, 4)), np.zeros((1, tokens - 1)), tuple(served))
    held = Held((8, 8), 100, 10, 5, None, None)
    return Run(layout, np.zeros((1, tokens), dtype=np.int64), (one, one, one), held)


INSTANCE: Any = SimpleNamespace(
    precisions=[SimpleNamespace(name="fp16")],
    expert_bytes=np.array([8.0]),
    shape=SimpleNamespace(dense_bytes=100.0),
)


def test_known_costs_are_found_again() -> None:
    """Copying, computing and the rest come out as they went in; what a copy slows is its own."""
    found = {(c.quantity, c.memory): c for c in cells_of([fake_run()], INSTANCE)}
    assert found["compute", "dram"].us == pytest.approx(1e6 * HIT_S)
    assert found["compute", "disk"].us == pytest.approx(1e6 * COLD_S)
    assert found["move", "disk"].us == pytest.approx(1e6 * (MOVE_S + AFTER_S))
    assert found["dense", ""].us == pytest.approx(1e6 * DENSE_S)
    assert found["working", ""].bytes == 5
    assert found["move", "disk"].count == 80


def test_the_rest_of_a_token_is_that_of_few_copies() -> None:
    """Beside a run without copies, what a copy adds is the difference of the runs, by copy."""
    many = fake_run()
    first = many.passes[0]
    alone = [replace(use, tier=0, hit=True, moved_bytes=0, move_s=0.0, compute_s=HIT_S)
             for use in first.served]  # fmt: skip
    fast_s = 0.5 * DENSE_S + 4 * HIT_S
    one = replace(first, token_s=np.full(len(first.token_s), fast_s), served=tuple(alone))
    none = replace(many, passes=(one, one, one))
    found = {(c.quantity, c.memory): c for c in cells_of([many, none], INSTANCE)}
    assert found["dense", ""].us == pytest.approx(0.5e6 * DENSE_S)
    assert found["move", "disk"].us == pytest.approx(1e6 * (MOVE_S + AFTER_S + 0.25 * DENSE_S))
    assert found["compute", "dram"].count == 160


def test_a_disturbed_pass_does_not_count() -> None:
    """One pass of three that takes ten times as long changes no figure."""
    run = fake_run()
    slow = Pass(
        10 * run.passes[0].token_s,
        run.passes[0].experts_s,
        run.passes[0].losses,
        tuple(
            Served(s.token, s.row, s.expert, s.tier, s.precision, s.hit, s.moved_bytes, s.early,
                   10 * s.move_s, 10 * s.compute_s)
            for s in run.passes[0].served
        ),
    )  # fmt: skip
    disturbed = Run(run.layout, run.tokens, (run.passes[0], slow, run.passes[2]), run.held)
    assert cells_of([disturbed], INSTANCE) == cells_of([run], INSTANCE)


def noisy_run(seed: int = 0) -> Run:
    """Return the run with noise on every token that is larger than what is left of it."""
    run, draw = fake_run(), np.random.default_rng(seed)
    one = run.passes[0]
    token_s = one.token_s + draw.normal(-1e-4, 5e-3, len(one.token_s))
    token_s[0] += 1.0
    served = [replace(use, compute_s=use.compute_s * draw.pareto(0.9)) for use in one.served]
    noisy = replace(one, token_s=token_s, served=tuple(served))
    return Run(run.layout, run.tokens, (noisy, noisy, noisy), run.held)


@pytest.mark.parametrize("seed", range(5))
def test_a_noisy_run_becomes_a_profile_that_can_be_read(seed: int, tmp_path: Path) -> None:
    """However noisy a run is, no figure is below 0 or outside its own quartiles."""
    cells = [asdict(cell) for cell in cells_of([noisy_run(seed)], INSTANCE)]
    profile_from_runs([record(tmp_path, cells=cells)], tmp_path / "profile", "here")
    for row in read_table(tmp_path / "profile" / TABLE, COLUMNS, unique=UNIQUE):
        assert 0 <= row["low_us"] <= row["us"] <= row["high_us"], row


def test_earlier_runs_with_crossed_quartiles_are_put_right(tmp_path: Path) -> None:
    """Of a run whose file has quartiles below 0 or beside the mean, the mean is kept."""
    dense = asdict(cells_of([fake_run()], INSTANCE)[-1])
    given = {**dense, "us": 8805.9, "low_us": -1645.8, "high_us": 338.2}
    _, (row,) = profile_from_runs([record(tmp_path, cells=[given])], tmp_path / "profile", "here")
    assert (row["low_us"], row["us"], row["high_us"]) == (0, 8805.9, 8805.9)


def test_what_may_explain_large_errors_is_told() -> None:
    """Rates that were typed and a small sample of bytes are told, and nothing without them."""
    typed: Any = SimpleNamespace(rates=None)
    measured: Any = SimpleNamespace(rates=object())
    few, even = fake_run(), fake_run()
    uses = tuple(replace(use, moved_bytes=8) for use in even.passes[0].served)
    even = replace(even, passes=(replace(even.passes[0], served=uses),))
    first, second = caveats(typed, few)
    assert "not measured" in first and "--calibrate" in first
    assert "40 tokens were run" in second and "about 11 %" in second
    assert list(caveats(measured, even)) == []


def record(folder: Path, **changes: Any) -> Path:
    """Write what `execute --out` writes, as far as a profile needs it."""
    content = {
        "format": FORMAT,
        "instance": "toy",
        "started": "2026-01-01",
        "model": {"hidden": 32, "weights": 1e5},
        "cells": [asdict(cell) for cell in cells_of([fake_run()], INSTANCE)],
        **changes,
    }
    path = folder / f"run-{len(list(folder.iterdir()))}.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_a_second_run_replaces_its_own_rows_only(tmp_path: Path) -> None:
    """Rows of other shapes and machines stay; the same figure measured again is replaced."""
    profile = tmp_path / "profile"
    profile.mkdir()
    first = record(tmp_path)
    profile_from_runs([first], profile, "here")
    profile_from_runs([first], profile, "there")
    other = record(tmp_path, model={"hidden": 64, "weights": 1e5})
    profile_from_runs([other, first], profile, "here")
    lines = (profile / "execution.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 3 * len(cells_of([fake_run()], INSTANCE))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "other"}, "is not a run"),
        ({"cells": [{"quantity": "move"}]}, "is damaged"),
        ({"model": {}}, "is damaged"),
        ({"model": {"hidden": 32, "weights": -1}}, "gives no usable profile: .*weights"),
    ],
)
def test_what_is_no_run_is_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    """A file that is no run, or a damaged one, is one error and writes nothing."""
    path = record(tmp_path, **changes)
    with pytest.raises(InputError, match=words):
        profile_from_runs([path], tmp_path / "profile", "here")
    assert not (tmp_path / "profile").exists()


def test_tolerances_are_read_in_every_form() -> None:
    """A bare number is about time; shares and percentages may be mixed."""
    assert parse_tolerances(["0.15"]) == {"time": 0.15}
    assert parse_tolerances(["time=15%, bytes=0.02", "memory=5 %"]) == {
        "time": 0.15,
        "bytes": 0.02,
        "memory": 0.05,
    }


@pytest.mark.parametrize("text", ["speed=1", "time=fast", "time=-1", "", "bytes=nan"])
def test_wrong_tolerances_are_refused(text: str) -> None:
    """An unknown figure or a number that is none is an error that repeats it."""
    with pytest.raises(InputError, match="--tolerance"):
        parse_tolerances([text])


def test_what_is_exceeded_is_told() -> None:
    """An error beyond its tolerance is told, one within is not, an unknown figure is."""
    rows = (
        Row("time", "s/token", 1.0, 1.2),
        Row("bytes", "bytes/token", 100.0, 99.0),
        Row("memory", "bytes", 10.0, None),
        Row("hit_rate", "", 0.5, 0.45),
    )
    told = Comparison(rows, (), (1.0, 1.0)).exceeded(
        {"time": 0.15, "bytes": 0.02, "memory": 1.0, "hit_rate": 0.06}
    )
    assert len(told) == 2
    assert told[0].startswith("time: off by 20.0 %") and told[1].startswith("memory")


def test_a_replayed_selection_realises_what_its_plan_says() -> None:
    """Accuracy on the test part is that of the plan's own record; joules and seconds are near."""
    instance = mo.load("tiny_gate")  # type: ignore[union-attr]
    result = mo.solve(instance)
    rows = {row.name: row for row in replayed(instance, result.x)}  # type: ignore[arg-type]
    assert rows["accuracy"].predicted == pytest.approx(result.objective)
    assert rows["accuracy"].measured == pytest.approx(result.plan.test_accuracy)  # type: ignore[union-attr]
    assert abs(rows["energy"].error or 1) < 0.2
    assert abs(rows["delay"].error or 1) < 0.2
