"""Comparing policies: logs, going on after a stop, the timeline, and the verb."""

from __future__ import annotations

import json
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handover import replay_handovers, staging_problem, with_servers

import moe2opt as mo
from moe2opt.replay.compare import compare
from moe2opt.replay.compiled import ReplayModel
from moe2opt.replay.policies import ReplaySettings
from moe2opt.replay.replay import model_of, start_run, starting_plan
from moe2opt.replay.traces.files import is_token_trace
from moe2opt.replay.traces.synthetic import synthetic_network, synthetic_walk
from moe2opt.replay.traces.trace import build_trace
from moe2opt.replay.world import build_world
from moe2opt.result import InputError
from moe2opt.solvers.parametric import ParametricChoice

QUICK = ReplaySettings(rel_gap=1e-2)

#: Wall-clock figures, the only ones that differ from run to run.
TIMED = ("solve_s",)


def bare(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return records without what is timed."""
    return [{k: v for k, v in record.items() if k not in TIMED} for record in records]


def run_verb(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run ``moe2opt replay`` and return its exit code."""
    from moe2opt.cli import main

    monkeypatch.setattr("sys.argv", ["moe2opt", "replay", *arguments])
    with pytest.raises(SystemExit) as raised:
        main()
    return int(raised.value.code or 0)


@pytest.mark.parametrize("policy", ["trigger", "lyapunov"])
def test_a_stopped_replay_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    """A run that is stopped and continued logs exactly what an undisturbed run logs."""
    instance, trace = mo.load("mobile_edge"), synthetic_walk(duration_s=60, dwell_s=20)
    # The package's name `compare` is the function, which hides the module of that name.
    monkeypatch.setattr(import_module("moe2opt.replay.compare"), "EVERY", 10)
    whole = compare(instance, trace, [policy], against=None, settings=QUICK).records[policy]

    class Stopped(Exception):  # noqa: N818
        pass

    def stop(name: str, done: int, total: int) -> None:
        if done == 30:
            raise Stopped

    with pytest.raises(Stopped):
        compare(instance, trace, [policy], settings=QUICK, out=tmp_path, progress=stop)
    seen: list[int] = []
    rest = compare(
        instance,
        trace,
        [policy],
        settings=QUICK,
        out=tmp_path,
        progress=lambda name, done, total: seen.append(done),
    )
    assert seen == [40, 50, 60]
    assert bare(rest.records[policy]) == bare(whole)
    lines = (tmp_path / f"steps_{policy}.jsonl").read_text("utf-8").splitlines()
    assert bare([json.loads(line) for line in lines]) == bare(whole)


@pytest.mark.parametrize("file", ["steps_static.jsonl", "checkpoint_static.npz"])
def test_a_damaged_log_is_not_continued(tmp_path: Path, file: str) -> None:
    """A log or checkpoint in which a figure was changed is begun anew, not believed."""
    instance, trace = mo.load("mobile_edge"), synthetic_network(20)
    plain = {"against": None, "settings": QUICK, "out": tmp_path}
    whole = compare(instance, trace, ["static"], **plain).records["static"]
    seen: list[int] = []
    told = {"progress": lambda name, done, total: seen.append(done)}
    compare(instance, trace, ["static"], **plain, **told)
    assert seen == []
    path = tmp_path / file
    if path.suffix == ".npz":
        with np.load(path) as stored:
            arrays = dict(stored)
        arrays["device:tier"] = arrays["device:tier"] * 0
        np.savez(path, **arrays)
    else:
        path.write_text(path.read_text("utf-8").replace('"t_s": 3.0', '"t_s": 3.5'), "utf-8")
    again = compare(instance, trace, ["static"], **plain, **told).records["static"]
    assert seen == [20]
    assert bare(again) == bare(whole)


def test_logs_of_another_run_are_not_continued(tmp_path: Path) -> None:
    """A folder with a run of other settings is refused unless replaced, and then starts anew."""
    instance, trace = mo.load("mobile_edge"), synthetic_network(20)
    compare(instance, trace, ["static"], against=None, settings=QUICK, out=tmp_path)
    seen: list[int] = []
    other = ReplaySettings(rel_gap=1e-2, reaction_s=0.7)
    told = {"progress": lambda name, done, total: seen.append(done)}
    before = (tmp_path / "steps_static.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"reaction_s 0\.2, now 0\.7\); choose another folder"):
        compare(instance, trace, ["static"], against=None, settings=other, out=tmp_path, **told)
    assert (tmp_path / "steps_static.jsonl").read_bytes() == before
    once = {"out": tmp_path, "resume": False, **told}
    compare(instance, trace, ["static"], against=None, settings=other, **once)
    (tmp_path / "checkpoint_static.npz").write_bytes(b"broken")
    compare(instance, trace, ["static"], against=None, settings=other, out=tmp_path, **told)
    compare(instance, trace, ["static"], against=None, settings=other, out=tmp_path, **told)
    assert seen == [20, 20]
    assert len((tmp_path / "steps_static.jsonl").read_text("utf-8").splitlines()) == 20


def test_the_verb_prints_json_and_writes_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One command gives every figure of every policy, a log, a summary and a picture."""
    out = tmp_path / "out"
    arguments = ["mobile_edge", "synthetic_walk", "--duration", "30", "--json", "--quiet"]
    code = run_verb(
        monkeypatch, *arguments, "--policy", "static,periodic,trigger,exact-mpc,lyapunov",
        "--against", "clairvoyant", "--out", str(out),
    )  # fmt: skip
    content = json.loads(capsys.readouterr().out)
    assert code == 0
    assert list(content["policies"]) == ["static", "periodic", "trigger", "exact-mpc", "lyapunov"]
    figures = {
        "latency_mean_s", "latency_p95_s", "latency_p99_s", "misses_per_token", "bytes_moved",
        "joules_per_token", "budget_violations", "plan_switches", "regret",
    }  # fmt: skip
    assert all(figures <= set(found) for found in content["policies"].values())
    assert content["trace"]["synthetic"] is True
    assert content == json.loads((out / "summary.json").read_text("utf-8"))
    assert len((out / "steps_trigger.jsonl").read_text("utf-8").splitlines()) == 30
    assert (out / "timeline.svg").read_text("utf-8").lstrip().startswith("<?xml")


def test_a_timeout_that_never_comes_is_written_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON has no infinite numbers: such a timeout is the text inf wherever a run is kept."""
    short = ["mobile_edge", "synthetic_walk", "--duration", "2", "--policy", "static", "--quiet"]
    words = [*short, "--against", "none", "--timeout", "inf", "--out", str(tmp_path), "--json"]
    assert run_verb(monkeypatch, *words) == 0
    told = capsys.readouterr().out
    assert json.loads(told)["settings"]["timeout_s"] == "inf"
    files = [(tmp_path / name).read_text("utf-8") for name in ("run.json", "summary.json")]
    assert "Infinity" not in "".join([told, *files])


def test_the_verb_prints_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --json there is a line per policy; a made-up trace is called synthetic."""
    code = run_verb(
        monkeypatch, "mobile_edge", "synthetic_hour", "--duration", "10", "--policy", "static"
    )
    text = capsys.readouterr()
    assert code == 0
    assert "synthetic trace synthetic_hour" in text.out
    assert "Clairvoyant bound" in text.out
    assert "static" in text.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["mobile_edge", "nowhere"], 2, "no built-in trace"),
        (["mobile_edge", "synthetic_walk", "--policy", "best"], 2, "unknown policy 'best'"),
        (["mobile_edge", "synthetic_walk", "--against", "me"], 2, "must be clairvoyant or none"),
        (["mobile_edge", "nowhere"], 2, "of experts: experts_synthetic.npz"),
        (["mobile_edge", "."], 2, ".: is a folder"),
        (["mobile_edge", "experts_synthetic", "--against", "me"], 2, "belady-global"),
        (["mobile_edge", "synthetic_walk", "--link", "x-y"], 2, "link 'x-y'"),
        (["mobile_edge", "synthetic_walk", "--step", "-1"], 2, "step_s"),
        (["mobile_edge", "synthetic_walk", "--duration", "0"], 2, "--duration"),
        (["smile_ranks", "synthetic_walk"], 2, "must be a placement"),
        (["mmlu_pro_edge", "synthetic_walk"], 2, "days need a selection with `experts"),
        (["mobile_edge", "synthetic_walk", "--set", "budgets.loss_nats=0"], 3, "no plan"),
    ],
)
def test_the_verb_explains_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    """Bad input is one line and exit code 2, no plan at the start is exit code 3."""
    assert run_verb(monkeypatch, *arguments, "--quiet") == code
    text = capsys.readouterr()
    assert words in text.err
    assert "Traceback" not in text.err
    assert text.out == ""


def test_a_folder_holds_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """More policies join a run; fewer, or other steps, are refused and --fresh leaves no trace."""
    out = tmp_path / "out"
    start = ["mobile_edge", "synthetic_walk", "--quiet", "--out", str(out)]
    short = [*start, "--duration", "5"]
    assert run_verb(monkeypatch, *short, "--policy", "static") == 0
    assert run_verb(monkeypatch, *short, "--policy", "static,trigger") == 0
    capsys.readouterr()
    assert run_verb(monkeypatch, *short, "--policy", "static") == 2
    assert "it also has trigger" in capsys.readouterr().err
    other = [*start, "--duration", "7", "--policy", "static", "--against", "none"]
    assert run_verb(monkeypatch, *other) == 2
    assert "steps 5, now 7" in capsys.readouterr().err
    assert run_verb(monkeypatch, *other, "--fresh") == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "checkpoint_static.npz", "run.json", "steps_static.jsonl", "summary.json", "timeline.svg",
    ]  # fmt: skip


def test_a_replay_of_experts_does_not_mix_with_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Experts by a name without suffix, any clairvoyant policy; a folder of theirs is theirs."""
    out = ["--out", str(tmp_path), "--quiet"]
    experts = ["gpt_oss_20b_orin", "experts_synthetic", "--policy", "lru", *out]
    assert run_verb(monkeypatch, *experts, "--against", "belady-global") == 0
    assert run_verb(monkeypatch, *experts, "--against", "none") == 0
    assert "belady" not in (tmp_path / "summary.json").read_text("utf-8")
    capsys.readouterr()
    assert run_verb(monkeypatch, "mobile_edge", "synthetic_walk", "--duration", "5", *out) == 2
    assert "holds a run with other settings" in capsys.readouterr().err


def test_an_interrupted_replay_shows_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C prints the finished policies and how to go on, with exit code 130."""
    from moe2opt.replay.policies import POLICIES

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    arguments = ["mobile_edge", "synthetic_walk", "--duration", "5", "--policy", "static,trigger"]
    with monkeypatch.context() as patch:
        patch.setitem(POLICIES, "trigger", stop)
        assert run_verb(patch, *arguments, "--quiet", "--out", str(tmp_path)) == 130
    text = capsys.readouterr()
    assert "static " in text.out
    assert "trigger " not in text.out
    assert "finished: static; run again to go on from" in text.err
    assert run_verb(monkeypatch, *arguments, "--quiet", "--out", str(tmp_path)) == 0
    assert "trigger " in capsys.readouterr().out


def test_the_first_seconds_are_that_many_steps() -> None:
    """The head of a trace lasts as long as was asked for, whatever the times of its rows."""
    uneven = build_trace("uneven", np.arange(80) * 0.97, {"mbit_per_s": np.ones(80)})
    for seconds in (1.0, 30.0, 60.0):
        assert len(uneven.head(seconds).resampled(1.0)) == seconds
        assert len(uneven.resampled(1.0).head(seconds).resampled(0.5)) == 2 * seconds
    assert uneven.head(1e6).duration_s == pytest.approx(uneven.duration_s)


def test_traces_of_tokens_are_told_apart(tmp_path: Path) -> None:
    """Experts of tokens are recognised by their suffix or their columns."""
    (tmp_path / "experts.csv").write_text("step,layer,expert\n0,0,1\n", encoding="utf-8")
    (tmp_path / "rates.csv").write_text("t_s,mbit_per_s\n0,1\n", encoding="utf-8")
    assert is_token_trace("some/experts.npz")
    assert is_token_trace("experts_synthetic")
    assert is_token_trace(str(tmp_path / "experts.csv"))
    assert not is_token_trace(str(tmp_path / "rates.csv"))
    assert not is_token_trace("synthetic_walk")


def test_staging_helps_after_a_hand_over() -> None:
    """Right after hand-overs staged experts make tokens faster; loading everything is fastest."""
    settings = ReplaySettings(rel_gap=2e-2)
    trace = with_servers(synthetic_network(60, 60.0, seed=4), stay_s=20.0)
    world = build_world(model_of(mo.load("mobile_edge"), settings), trace)
    means = {}
    for how in ("none", "top", "exact", "all"):
        done = replay_handovers(world, settings, how)
        assert done.arrivals == [20, 40]
        assert all(not record["violations"] for record in done.records)
        means[how] = float(np.nanmean(done.aftermath_s(1.0)))
    assert means["exact"] < means["none"]
    assert means["exact"] <= means["top"] * 1.02
    assert means["all"] <= means["exact"]


def test_a_longer_window_stages_no_worse() -> None:
    """The staging knapsack is worth more the longer the server can load."""
    model: ReplayModel = model_of(mo.load("mobile_edge"), QUICK)
    world = build_world(model, synthetic_network(5))
    device = start_run(world, "static", QUICK, starting_plan(world, QUICK)).device
    worth = []
    for window_s in (0.0, 1.0, 4.0, 1000.0):
        problem = staging_problem(model, device, model.nominal, 1, window_s, 60.0)
        result = ParametricChoice(problem).solve(hurried=True).result()
        assert mo.certify(problem, result).ok
        worth.append(result)
    assert all(b.bound >= a.objective for a, b in pairwise(worth))
    assert worth[0].objective < worth[-1].objective


def test_hand_overs_need_servers() -> None:
    """A trace without servers cannot be replayed with hand-overs."""
    world = build_world(model_of(mo.load("mobile_edge"), QUICK), synthetic_network(5))
    with pytest.raises(InputError, match="need a column server"):
        replay_handovers(world, QUICK)
