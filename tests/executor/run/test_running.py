"""Plans run on a small random model: what comes out, what is counted, and what goes wrong."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moe2opt as mo
from moe2opt.placement.assignment import MERGE, NOWHERE, PRUNE, Assignment, plain
from moe2opt.result import InputError

torch = pytest.importorskip("torch", reason="runs a model: needs torch")
pytest.importorskip("safetensors", reason="reads a model: needs safetensors")

pytestmark = pytest.mark.slow

LAYERS, EXPERTS, TOP_K = 2, 4, 2

CONFIG = """
schema_version: 1
problem: placement
name: small
model: {safetensors: model}
precisions:
  - {name: fp32, bits_per_weight: 32, loss_nats: 0.0}
  - {name: int8, bits_per_weight: 9, loss_nats: 0.001}
tiers:
  - {name: dram, kind: cpu, capacity_gib: 0.00015, compute_gb_per_s: 1}
  - {name: disk, kind: disk}
links: [{between: [dram, disk], gb_per_s: 1, latency_us: 50}]
activation: {uniform: true}
execute: {text: text.txt, tokens: 24, sequence: 12, repeats: 2}
scenarios:
  lru: {cache: {backing: disk, hits: hypergeometric}, execute.policy: lru}
  pinned: {cache: {backing: disk, hits: static}}
  ahead: {prefetch: {accuracy: 0.5, window_us: 10}}
  mapped: {execute.tiers: {disk: mmap}}
  per_tensor: {granularity: tensor}
  crowd: {batch: 4}
  bare: {execute.text: null}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a random model, a text and a configuration."""
    from dataclasses import replace

    from tinymoe.training import initial, save, tiny_spec

    spec = replace(
        tiny_spec(), hidden=32, n_layers=LAYERS, heads=2, kv_heads=1, head_dim=16,
        experts=EXPERTS, top_k=TOP_K, expert_width=32, moe_layers=tuple(range(LAYERS)),
    )  # fmt: skip
    torch.manual_seed(3)
    save(tmp_path / "model", spec, initial(spec), {})
    (tmp_path / "text.txt").write_text("What is said twice is heard once. " * 9, encoding="utf-8")
    (tmp_path / "small.yaml").write_text(CONFIG, encoding="utf-8")
    return tmp_path


def load(folder: Path, scenario: str | None = None) -> Any:
    """Return the instance of a scenario."""
    return mo.load(folder / "small.yaml", scenario)  # type: ignore[union-attr]


def run(folder: Path, instance: Any, assignment: Assignment) -> Any:
    """Run an assignment on a few fixed tokens."""
    from moe2opt.executor.model.folder import open_folder
    from moe2opt.executor.run.run import Settings, run_plan

    model = open_folder(folder / "model")
    (folder / "scratch").mkdir(exist_ok=True)
    execute = instance.config.execute
    settings = Settings(
        repeats=2, tiers=execute.tiers, policy=execute.policy, scratch=folder / "scratch"
    )
    tokens = np.arange(24).reshape(2, 12) + 60
    return run_plan(instance, assignment, model, model.decoder(), tokens, settings)


def everywhere(tier: int, precision: int = 0, parts: int = 1) -> Assignment:
    """Return all experts in one tier and format."""
    shape = (LAYERS, EXPERTS, parts)
    return plain(np.full(shape, tier), np.full(shape, precision))


def reference(folder: Path, instance: Any, assignment: Assignment) -> np.ndarray:
    """Return the losses of the plan applied to the weights, all in memory."""
    from tinymoe.quality import planned

    from moe2opt.executor.model.folder import open_folder
    from moe2opt.executor.model.text import token_losses
    from moe2opt.executor.store.formats import format_of

    model = open_folder(folder / "model")
    formats = [format_of(p.name, p.bits_per_weight) for p in instance.precisions]
    shares = instance.activation.mixed
    decoder, experts = planned(model, model.decoder(), assignment, shares, formats)
    batch = torch.from_numpy(np.arange(24).reshape(2, 12) + 60)
    with torch.inference_mode():
        losses = token_losses(decoder.forward(batch[:, :-1], experts), batch)
    return np.asarray(losses.reshape(2, 11).numpy())


@pytest.mark.parametrize("scenario", [None, "ahead", "mapped"])
@pytest.mark.parametrize("tier", [0, 1])
@pytest.mark.parametrize("precision", [0, 1])
def test_where_experts_live_changes_no_output(
    folder: Path, scenario: str | None, tier: int, precision: int
) -> None:
    """From any memory, read early or not, the model says what it says with all in memory."""
    instance, assignment = load(folder, scenario), everywhere(tier, precision)
    done = run(folder, instance, assignment)
    expected = reference(folder, instance, assignment)
    assert done.losses == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("scenario", ["lru", "pinned"])
@pytest.mark.parametrize("slots", [0, 1, 3])
def test_a_cache_changes_no_output(folder: Path, scenario: str, slots: int) -> None:
    """With any number of slots every token gets its own experts."""
    instance = load(folder, scenario)
    precision = np.zeros((*instance.shape.size, 1), dtype=int)
    assignment = instance.mode.slotted(np.full(LAYERS, slots), precision)
    done = run(folder, instance, assignment)
    assert done.losses == pytest.approx(reference(folder, instance, assignment), abs=1e-5)
    hits = np.mean([use.hit for use in done.passes[0].served])
    assert hits == 0 if slots == 0 else 0 < hits < 1


def test_parts_may_lie_apart(folder: Path) -> None:
    """Gate in memory, up and down on disk give the same output, and two thirds of the bytes."""
    instance = load(folder, "per_tensor")
    assignment = everywhere(1, 0, parts=3)
    assignment.tier[:, :, 0] = 0
    done = run(folder, instance, assignment)
    assert done.losses == pytest.approx(reference(folder, instance, assignment), abs=1e-5)
    assert {use.moved_bytes for use in done.passes[0].served} == {2 * 32 * 32 * 4}


def test_merged_and_pruned_experts_are_run_as_planned(folder: Path) -> None:
    """A merged pair and a pruned expert give what the same plan gives applied to the weights."""
    instance, assignment = load(folder), everywhere(1)
    assignment.form[0, 1], assignment.representative[0, 1] = MERGE, 0
    assignment.form[1, 2], assignment.tier[1, 2] = PRUNE, NOWHERE
    done = run(folder, instance, assignment)
    assert done.losses == pytest.approx(reference(folder, instance, assignment), abs=1e-5)
    assert not any(use.expert == 1 and use.row == 0 for use in done.passes[0].served)
    assert not any(use.expert == 2 and use.row == 1 for use in done.passes[0].served)


def test_bytes_are_those_of_what_was_read(folder: Path) -> None:
    """Each use of an expert on disk moves its bytes, each use of one in memory none."""
    from moe2opt.executor.compare.compare import compare, predict

    instance, assignment = load(folder), everywhere(1, 1)
    assignment.tier[0] = 0
    done = run(folder, instance, assignment)
    size = instance.expert_bytes[1]
    assert all(u.moved_bytes == (0 if u.row == 0 else size) for u in done.passes[0].served)
    told = compare(predict(instance, assignment, done.layout.kinds), done, 1.0)
    assert told.row("bytes").measured == TOP_K * size
    assert told.row("bytes").error == pytest.approx(0)
    assert told.row("hit_rate").measured == 0.5
    assert told.layers[0].hit_rate.measured == 1.0
    held = EXPERTS * size + done.held.dense_bytes
    assert told.row("memory").measured == pytest.approx(
        held + done.held.context_bytes + done.held.passing_bytes
    )
    assert told.row("time").measured == pytest.approx(done.token_s.mean())


def test_a_mixture_measures_every_pair(folder: Path) -> None:
    """Running the mixture gives one figure for every pair of memory and format."""
    from moe2opt.executor.calibrate import cells_of, mixed_assignment

    instance = load(folder)
    cells = cells_of([run(folder, instance, mixed_assignment(instance))], instance)
    found = {(c.quantity, c.memory, c.precision) for c in cells}
    pairs = {(m, p) for m in ("dram", "disk") for p in ("fp32", "int8")}
    assert found == {
        *(("compute", *pair) for pair in pairs),
        *(("move", "disk", p) for p in ("fp32", "int8")),
        ("dense", "", ""),
        ("working", "", ""),
    }
    # The dense part is a rest, in which the noise of a busy machine may outweigh the figure.
    assert all(c.us > 0 for c in cells if c.quantity in ("compute", "move"))
    assert all(c.count > 0 for c in cells)


#: Less memory than the plan of the configuration as it is needs.
SMALLER = ["tiers.0.capacity_gib=0.00007"]


def arguments(
    folder: Path, *more: str, scenario: str = "", overrides: list[str] | None = None
) -> list[str]:
    """Solve once and return the arguments of `execute`."""
    target = mo.load(folder / "small.yaml", scenario or None, overrides or [])
    result = mo.solve(target, time_limit_s=5)
    result.save(folder / "result.json")
    return ["execute", str(folder / "result.json"), str(folder / "small.yaml"), *more]


def moe2opt(*arguments: str) -> tuple[int, str, str]:
    """Run the command line in this process."""
    from typer.testing import CliRunner

    from moe2opt.cli.app import app

    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.stdout, done.stderr


def test_the_command_line_closes_the_loop(folder: Path) -> None:
    """A run becomes a profile, and a plan that is solved with it is predicted with its figures."""
    out = folder / "out"
    code, stdout, stderr = moe2opt(
        *arguments(folder, "--calibrate", "--out", str(out), "--json", "--quiet")
    )
    assert (code, stderr) == (0, "")
    content = json.loads(stdout)
    assert content == json.loads((out / "execute.json").read_text(encoding="utf-8"))
    assert content["total"]["perplexity"]["measured"] > 1
    assert len(content["layers"]) == LAYERS
    assert (out / "execute.svg").is_file()
    code, stdout, _ = moe2opt(
        "profile", "--from-run", str(out / "execute.json"), "--out", str(folder / "mine"), "--json"
    )
    assert code == 0
    text = (folder / "small.yaml").read_text(encoding="utf-8")
    (folder / "small.yaml").write_text(f"{text}rates: mine\n", encoding="utf-8")
    seconds = {
        (r["quantity"], r["memory"], r["precision"]): 1e-6 * r["us"]
        for r in json.loads(stdout)["rows"]
    }
    use = load(folder).use.seconds
    assert use[0, 1] == pytest.approx(seconds["compute", "dram", "int8"])
    assert use[1, 0] == pytest.approx(
        seconds["compute", "disk", "fp32"] + seconds["move", "disk", "fp32"]
    )


def test_the_new_plan_is_run_beside_the_old_one(folder: Path) -> None:
    """An earlier plan, of other rates, is run too; a plan beside itself moves the same."""
    first = arguments(folder)
    old = folder / "old.json"
    (folder / "result.json").rename(old)
    text = (folder / "small.yaml").read_text(encoding="utf-8")
    text = text.replace("compute_gb_per_s: 1}", "compute_gb_per_s: 2}")
    (folder / "small.yaml").write_text(text, encoding="utf-8")
    given = arguments(folder, "--against", str(old), "--quiet")
    code, stdout, stderr = moe2opt(*given, "--json")
    assert (code, stderr) == (0, "")
    new, earlier = json.loads(stdout)["plans"]
    assert (new["name"], earlier["name"]) == (first[1], str(old))
    assert all(row["measured_s"] > 0 and row["perplexity"] > 1 for row in (new, earlier))
    code, stdout, _ = moe2opt(*given)
    assert code == 0
    assert "of the time of the earlier one; predicted" in stdout
    assert "no plan any more" not in stdout
    code, stdout, _ = moe2opt(*given, "--set", "tiers.0.capacity_gib=0.00007")
    assert code == 2  # the new plan was made for other data
    small = arguments(folder, "--against", str(old), "--quiet", overrides=SMALLER)
    code, stdout, _ = moe2opt(*small)
    assert code == 0
    assert "note: the earlier plan is no plan any more: " in stdout
    code, stdout, _ = moe2opt(*given[:3], "--against", given[1], "--json", "--quiet")
    same, itself = json.loads(stdout)["plans"]
    for figure in ("predicted_s", "bytes_per_token", "perplexity"):
        assert same[figure] == itself[figure]


def test_an_earlier_plan_must_be_of_the_same_model(folder: Path) -> None:
    """Tiers and formats are found by name; what the configuration lacks is one line."""
    given = arguments(folder, "--quiet", "--against")
    stored = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    other = folder / "other.json"
    for change, words in {
        "tier": "the configuration has no tier 'shelf'",
        "layers": "it places 1 layers of 4 experts, the configuration 2 of 4",
        "parts": "one places whole experts, the other their matrices apart",
        "number": "not a placement plan: assignment.tier has a number out of range",
        "none": "there is no plan to run",
    }.items():
        content = json.loads(json.dumps(stored))
        plan = content["plan"]
        if change == "tier":
            plan["home"] = "shelf"
            for tier in plan["tiers"]:
                tier["name"] = "shelf"
        elif change == "layers":
            for key in ("tier", "precision", "form", "representative"):
                plan["assignment"][key] = plan["assignment"][key][:1]
            plan["layers"], plan["uses"] = plan["layers"][:1], plan["uses"][:1]
        elif change == "parts":
            for key in ("tier", "precision"):
                table = plan["assignment"][key]
                plan["assignment"][key] = [[3 * cell for cell in row] for row in table]
        elif change == "number":
            plan["assignment"]["tier"][0][0] = [7]
        else:
            content["plan"] = None
        other.write_text(json.dumps(content), encoding="utf-8")
        code, stdout, stderr = moe2opt(*given, str(other))
        assert (code, stdout) == (2, "")
        assert words in stderr and stderr.count("\n") == 1, stderr


def test_few_copies_are_measured_beside_many(folder: Path) -> None:
    """With room for all, every expert is at home in the largest format; else in the smallest."""
    from moe2opt.executor.calibrate import resident_assignment

    held = {}
    for capacity_gib in (0.00007, 0.00011, 1):
        given = [f"tiers.0.capacity_gib={capacity_gib}"]
        instance = mo.load(folder / "small.yaml", overrides=given)
        found = resident_assignment(instance)
        assert np.ptp(found.precision) == 0
        held[capacity_gib] = (int(found.precision[0, 0, 0]), int((found.tier == 0).sum()))
    every = LAYERS * EXPERTS
    assert held[1] == (0, every)
    assert held[0.00011] == (1, every)
    assert held[0.00007][0] == 1
    assert 0 < held[0.00007][1] < every


def test_many_copies_are_measured_beside_few(folder: Path) -> None:
    """With room for all, every expert is on the slowest tier, in the largest format."""
    from moe2opt.executor.calibrate import distant_assignment

    instance = mo.load(folder / "small.yaml")
    found = distant_assignment(instance)
    slowest = int(instance.use.seconds.max(axis=1).argmax())
    assert slowest != instance.topology.home
    assert (found.tier == slowest).all()
    assert (found.precision == instance.expert_bytes.argmax()).all()


def test_a_broken_tolerance_is_exit_code_5(folder: Path) -> None:
    """A tolerance of nothing is exceeded by time, one of 100 % by bytes is not."""
    given = arguments(folder, "--tolerance", "time=0,bytes=100%", "--quiet")
    code, _, stderr = moe2opt(*given)
    assert code == 5
    assert "time" in stderr and "bytes" not in stderr


def test_a_check_finds_what_execute_would_miss(folder: Path) -> None:
    """Weights and a text that are named but not there are one error of `check`."""
    for key in ("execute.model", "execute.text"):
        code, _, stderr = moe2opt("check", str(folder / "small.yaml"), "--set", f"{key}=nowhere")
        assert code == 2
        assert f"{key}: 'nowhere' does not exist" in stderr


FAULTS = {
    "no text": ("execute.text", ["--scenario", "bare"]),
    "no such text": ("nothing.txt", ["--text", "nothing.txt"]),
    "empty text": ("empty.txt is empty", ["--text", "EMPTY"]),
    "short text": ("short has 3 tokens", ["--text", "SHORT"]),
    "no model": ("no folder 'nothing'", ["--model", "nothing"]),
    "batch": ("tokens are run one by one", ["--scenario", "crowd"]),
    "tolerance": ("unknown figure", ["--tolerance", "speed=1"]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_be_run_is_one_line(name: str, folder: Path) -> None:
    """What is missing or cannot be run is one line and exit code 2, and nothing is written."""
    words, more = FAULTS[name]
    for key, content in (("EMPTY", ""), ("SHORT", "abc")):
        path = folder / f"{key.lower()}.txt"
        path.write_text(content, encoding="utf-8")
        more = [str(path) if text == key else text for text in more]
    scenario = more[1] if more[0] == "--scenario" else ""
    given = arguments(folder, *more, "--out", str(folder / "out"), "--quiet", scenario=scenario)
    code, stdout, stderr = moe2opt(*given)
    assert (code, stdout) == (2, "")
    assert words in stderr and stderr.count("\n") == 1, stderr
    assert not (folder / "out").exists()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _spoil(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    name = sorted(n for n in tensors if ".experts.0.w1" in n)[0]
    tensors[name][0, 0] = float("nan")
    save_file(tensors, path)


def _lose(path: Path) -> None:
    from safetensors.torch import load_file

    index = {"weight_map": dict.fromkeys(load_file(path), "model-00001.safetensors")}
    (path.parent / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "words"),
    [(_cut, "is damaged"), (_spoil, "is corrupted"), (_lose, "model-00001.safetensors is missing")],
)
def test_damaged_weights_are_one_line(damage: Any, words: str, folder: Path) -> None:
    """A truncated file, a tensor of NaN and a missing shard end the run; the plan is untouched."""
    from moe2opt.executor.job import execute_plan

    given = arguments(folder, "--out", str(folder / "out"), "--quiet")
    before = (folder / "result.json").read_bytes()
    config = load(folder)
    plan = config.decode(mo.Result.load(folder / "result.json").x)
    damage(folder / "model" / "model.safetensors")
    # The shape is read from the same file, so the plan is decoded before the damage.
    with pytest.raises(InputError, match=words):
        execute_plan(config, plan)
    code, _, stderr = moe2opt(*given)
    assert code == 2 and "Traceback" not in stderr
    assert not (folder / "out").exists()
    assert (folder / "result.json").read_bytes() == before


def test_a_full_disk_ends_the_run_cleanly(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the scratch disk is full there is one message, and no file in the scratch folder."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    instance = load(folder)
    (folder / "scratch").mkdir()
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(InputError, match="the disk is full"):
        run(folder, instance, everywhere(1))
    assert not list((folder / "scratch").iterdir())


def test_without_torch_there_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torch, `execute` says what to install."""
    import sys

    given = arguments(folder, "--quiet")
    monkeypatch.setitem(sys.modules, "torch", None)
    code, _, stderr = moe2opt(*given)
    assert code == 2
    assert "pip install 'moe2opt[torch]'" in stderr and stderr.count("\n") == 1
