"""The verb ``place``: one command from a model file to a line that fits."""

from __future__ import annotations

import json
import re
import shlex
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import moe2opt as mo
from moe2opt.llamacpp.gguf import shards
from moe2opt.place import PlaceConfig
from moe2opt.place.question import named

gguf = pytest.importorskip("gguf", reason="models are read with the package gguf")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a small model of six layers with experts, headers with weights of zeros."""
    import numpy as np

    path = tmp_path_factory.mktemp("model") / "small.gguf"
    writer = gguf.GGUFWriter(path, "qwen3moe")
    writer.add_block_count(6)
    writer.add_context_length(4096)
    writer.add_embedding_length(256)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(64)
    writer.add_value_length(64)
    writer.add_expert_count(4)
    writer.add_expert_used_count(2)
    writer.add_expert_feed_forward_length(128)
    writer.add_vocab_size(512)
    for name, shape in (("token_embd", (512, 256)), ("output", (512, 256))):
        writer.add_tensor(f"{name}.weight", np.zeros(shape, np.float16))
    for k in range(6):
        writer.add_tensor(f"blk.{k}.attn_q.weight", np.zeros((256, 256), np.float16))
        for matrix, shape in (
            ("gate", (4, 128, 256)),
            ("up", (4, 128, 256)),
            ("down", (4, 256, 128)),
        ):
            writer.add_tensor(f"blk.{k}.ffn_{matrix}_exps.weight", np.zeros(shape, np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def ran(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    """Run the verb in this process; return exit code, stdout and stderr."""
    from typer.testing import CliRunner

    from moe2opt.cli.app import app

    found = CliRunner().invoke(app, ["place", *map(str, arguments)])
    del capsys
    return found.exit_code, found.stdout, found.stderr


MACHINE = ("--gpu", "0.02:300", "--ram", 8, "--margin", 0, "-c", 1024)

#: Two cards leave a question open where no search is made.
TWO_CARDS = ("--gpu", "0.012:300", "--gpu", "0.01:200", *MACHINE[2:])


def test_json_says_everything(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON holds status, proof, devices, layers, rates, rules, the line and notes."""
    code, out, _ = ran(capsys, file, *MACHINE, "--json", "--quiet")
    content = json.loads(out)
    assert code == 0
    assert (content["status"], content["gap"]) == ("OPTIMAL", 0.0) or content["gap"] < 1e-9
    assert content["certificate"]["kind"] == "checked"
    assert [device["name"] for device in content["devices"]] == ["gpu0", "cpu"]
    assert set(content["devices"][0]) == {
        *("name", "capacity_bytes", "weights_bytes", "context_bytes", "compute_bytes"),
        *("margin_bytes", "free_bytes"),
    }
    assert [layer["layer"] for layer in content["layers"]] == list(range(6))
    assert {layer["dense"] for layer in content["layers"]} <= {"gpu0", "cpu"}
    for rate in ("decode_tok_s", "prefill_tok_s"):
        assert content[rate]["low"] < content[rate]["value"] < content[rate]["high"]
    assert content["command"].startswith("llama-server -m ")
    assert content["baselines"]
    assert content["notes"]


def test_quiet_prints_the_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --quiet stdout is the line alone, ready for a shell."""
    code, out, err = ran(capsys, file, *MACHINE, "--quiet")
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    assert f"-m {file} -c 1024 -ctk f16" in out


def test_what_is_saved_is_the_same_question(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The YAML that --save writes gives the same plan, and --out a result that is verified."""
    import moe2opt as mo

    saved, out = file.parent / "saved.yaml", tmp_path / "out"
    code, told, _ = ran(capsys, file, *MACHINE, "--json", "--quiet", "--save", saved, "--out", out)
    assert code == 0
    again = mo.solve(mo.load(saved))
    assert again.plan is not None
    assert again.measure.own(again.objective) == json.loads(told)["objective"]
    from moe2opt.verify import verify

    assert verify(out / "result.json", out / "config.yaml", allow_outside=True).failures == ()


def test_no_seconds_below_zero_are_shown(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bound that the search has not yet brought above zero is said to be none."""
    cards = ("--gpu", "24:936", "--gpu", "12:360", "--gpu", "48:700", "--ram", 64)
    code, out, log = ran(capsys, file, *cards, "--time-limit", 0, "--gap", 0)
    assert code == 0
    assert "No bound above 0 is proven yet." in out
    assert "Bound 0 s per token   Gap 100.00%" in log
    assert not re.search(r"-\d[\d.e-]* s per token", out + log)


def test_what_does_not_fit_is_proven(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A machine that is too small ends with 3, the memory that lacks, and what to do."""
    code, out, _ = ran(capsys, file, "--gpu", "0.001:300", "--ram", 2.001, "--margin", 0)
    assert code == 3
    assert "GiB are lacking" in out
    assert "Each of these alone would help:\n  1 GiB more RAM\n" in out


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("--gpu", "24:x"), "--gpu '24:x': give a name, or GiB and GB/s such as 24:1008"),
        (("--gpu", "0:5"), "--gpu '0:5': give a name"),
        (("--gpu", "24GB"), "--gpu '24GB': give a name, or GiB and GB/s such as 24:1008"),
        (("--gpu", "24,12"), "--gpu '24,12': give a name"),
        (("--gpu", ":936"), "--gpu ':936': give a name"),
        (
            ("--gpu", "2x24:936"),
            "--gpu '2x24:936': give a name, or GiB and GB/s such as 24:1008; repeat --gpu for more",
        ),
        (("--gpu", "24:1e-300"), "error: --gpu: must be at least 1e-09, got 1e-300"),
        (("--ram-gb-per-s", 1e-300), "error: --ram-gb-per-s: must be at least 1e-09, got 1e-300"),
        (("--ram", "64:"), "--ram '64:': give GiB, or GiB and a kind"),
        (("--gpu", 8, "--rpc", "x"), "error: --rpc: 'x' is no HOST:PORT"),
        (("--gpu", 8, "--device-share", 0.5), "error: --device-share: it is of a memory that is"),
        (("--unified", "0.5:100"), "--unified: the device may use 0.375 GiB, and the margin is"),
        (("--parallel", 9, "-c", 8), "error: -c: 8 are less than one for each of 9 sequences"),
        (("--gpu", "RTX 409"), "did you mean 'RTX 4090'?"),
        (("-ctk", "q8_1"), "error: -ctk: expected 'f32', "),
        (("-ctk", "q8_1"), "got 'q8_1'; did you mean 'q8_0'?"),
        (("-ctk", "q3", "-ctv", "q4"), "got 'q3'\n-ctv: expected"),
        (("--gpu", 8) * 17, "--gpu: expected at most 16 item(s), got 17"),
        (("--gpu", 8, "--rpc", "a:1", "--rpc", "b:2"), "--rpc: 2 addresses for 1 devices"),
        (("--unified", "8:100", "--device-share", 2), "--device-share: must be at most 1, got 2"),
        (("--ram", "64:ddr9"), "error: --ram: 'ddr9' is no kind of RAM"),
        (("--to", "vlm"), "--to: 'vlm' is not known here; choose llama.cpp, kt"),
        (("--depth", 9000), "error: --depth: 9000 tokens do not fit into a sequence of 8192"),
        (("-ub", 512, "-ub", 512), "error: -ub: give each size once"),
        (("--ram", 1), "--ram: 1 GiB are no more than the margin of the system"),
        (("--margin", -1), "--margin"),
        (("--ram-gb-per-s", 0), "--ram-gb-per-s"),
        (("-c", 0), "--context"),
    ],
)
def test_bad_flags_are_told(
    file: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[Any, ...], fault: str
) -> None:
    """A flag that is not understood ends with 2 and says what it should be."""
    code, _, err = ran(capsys, file, *arguments)
    assert code == 2
    assert fault in err


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "holds no GGUF file; a config.json will do"),
        ("/", "'/' holds no GGUF file"),
        ("C:\\models\\m.gguf", "no such file 'C:\\models\\m.gguf'\n"),
        ("Qwen/Qwen3-0.6B", "no such file 'Qwen/Qwen3-0.6B'; of a model on a hub config.json will"),
        ("/dev/null", "'null' is not a regular file"),
    ],
)
def test_what_is_no_model_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    fault: str,
) -> None:
    """A path that holds no model ends with 2, and a name on a hub with what can be done."""
    monkeypatch.chdir(tmp_path)
    code, _, err = ran(capsys, name, *MACHINE)
    assert code == 2
    assert fault in err


def test_the_line_names_a_file_that_llama_cpp_loads(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a folder, whatever else it holds, and of any one of several files it is the first file."""
    for k in (1, 2):
        (tmp_path / f"m-{k:05d}-of-00002.gguf").symlink_to(file)
    first = tmp_path / "m-00001-of-00002.gguf"
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "config.json").write_text("{}")
    (alone / "readme.txt").write_text("no model")
    (alone / "small.gguf").symlink_to(file)
    assert shards(tmp_path / "m-00002-of-00002.gguf")[0] == first
    config = {"problem": "place", "model": "alone"}
    assert named(PlaceConfig.model_validate(config), alone).command_model == "alone/small.gguf"
    config["model"] = "./m-00002-of-00002.gguf"
    told = named(PlaceConfig.model_validate(config), tmp_path / "m-00002-of-00002.gguf")
    assert told.command_model == "m-00001-of-00002.gguf"
    code, out, _ = ran(capsys, alone, *MACHINE, "--quiet")
    assert code == 0
    assert shlex.split(out)[:3] == ["llama-server", "-m", str(alone / "small.gguf")]


def test_a_result_says_how_to_check_it(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command that is printed after --out accepts the result that was written."""
    from typer.testing import CliRunner

    from moe2opt.cli.app import app

    out = ran(capsys, file, *MACHINE, "--out", tmp_path / "a result")[1]
    command = shlex.split(out.rpartition("Check it again: moe2opt ")[2])
    found = CliRunner().invoke(app, command)
    assert (found.exit_code, ": accepted, OPTIMAL" in found.stdout) == (0, True)


def test_a_plan_that_is_not_proven_says_what_it_may_lose(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped by its limit, the verb says how much faster a line may be, and what helps."""
    code, out, _ = ran(capsys, file, *TWO_CARDS, "--time-limit", 0)
    assert (code, "Feasible (time limit)" in out) == (0, True)
    seconds, bound = map(float, re.findall(r"(?:Objective|bound) ([\d.e-]+) s", out)[:2])
    told = re.search(r"No line is more than ([\d.]+) times as fast. Next: a larger --time", out)
    assert told is not None
    assert float(told[1]) == pytest.approx(seconds / bound, rel=0.01)


def test_an_interrupt_delivers_the_plan_so_far(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the search ends with 0, the plan and its line, as it does for solve."""
    from contextlib import contextmanager

    from moe2opt import interrupts

    handling = interrupts.handling_interrupts

    @contextmanager
    def interrupted(handler: Any) -> Any:
        with handling(handler):
            signal.raise_signal(signal.SIGINT)
            yield

    monkeypatch.setattr(interrupts, "handling_interrupts", interrupted)
    code, out, err = ran(capsys, file, *TWO_CARDS)
    assert (code, "Feasible (interrupted)" in out, "llama-server -m" in out) == (0, True, True)
    assert not err.endswith("interrupted\n")


def test_where_the_problem_goes_is_asked_first(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that is not there, or the model itself, is refused by --save before any search."""
    missing, content = tmp_path / "no" / "saved.yaml", file.read_bytes()
    for save, reason in ((missing, "No such file or directory"), (file, "this file is read")):
        code, out, err = ran(capsys, file, *MACHINE, "--save", save)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: --save {save}: {reason}")
    assert file.read_bytes() == content


def test_no_model_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there, or no model, ends with 2."""
    assert ran(capsys, tmp_path / "no.gguf")[0] == 2
    (tmp_path / "text.gguf").write_text("text")
    code, _, err = ran(capsys, tmp_path / "text.gguf")
    assert (code, "text.gguf is not a GGUF file" in err) == (2, True)


def test_cards_are_read_from_their_driver() -> None:
    """Lines of nvidia-smi become devices by name; lines of another kind are passed over."""
    from moe2opt.place.detect import gpus_of

    found = gpus_of("NVIDIA GeForce RTX 4090, 24564\nNVIDIA A100-SXM4-80GB, 81920\nno devices\n")
    assert [(gpu.name, gpu.gib) for gpu in found] == [
        ("RTX 4090", 23.99),
        ("A100-SXM4-80GB", 80.0),
    ]


def test_a_mac_is_one_memory() -> None:
    """Chip and bytes of a Mac become a unified memory; other words become nothing."""
    from moe2opt.place.detect import unified_of

    found = unified_of("Apple M2 Max\n68719476736\n")
    assert found is not None
    assert (found.name, found.gib) == ("Apple M2 Max", 64.0)
    assert unified_of("Apple M2 Max\n") is None
    assert unified_of("\nx\n") is None


def test_a_configuration_is_placed_as_the_file_made_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of safetensors is planned as llama.cpp would quantise it, and again from YAML."""
    keys = json.loads((Path(__file__).parents[2] / "llamacpp/configs.json").read_text())
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(keys["qwen3-30b-a3b"]["config"]))
    file = tmp_path / "problem.yaml"
    given = ["--gpu", "12:360", "--ram", 64, "--json", "--save", file]
    code, out, _ = ran(capsys, folder, "--quant", "q4_k_m", *given)
    plan = json.loads(out)
    assert code == 0
    assert " -m own-Q4_K_M.gguf " in plan["command"]
    held = sum(device["weights_bytes"] for device in plan["devices"])
    assert held / 2**30 == pytest.approx(17.28, abs=0.005)
    assert mo.solve(mo.load(file)).plan.command == plan["command"]
    code, _, err = ran(capsys, folder, "--quant", "Q9", "--gpu", 12)
    assert code == 2 and "no file type 'Q9'" in err


def test_one_memory_for_all(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A unified memory is typed as one size; beside a card it is refused."""
    saved = file.parent / "pool.yaml"
    given = ("--unified", "4:256", "--device-share", 0.5, "--save", saved, "-c", 1024)
    code, out, err = ran(capsys, file, *given)
    assert code == 0, err
    assert "processor and device share 4 GiB, of which the device may use 2" in out
    assert "unified: {device_share: 0.5, gb_per_s: 256.0, gib: 4.0}" in saved.read_text()
    assert mo.solve(mo.load(saved)).plan is not None
    code, _, err = ran(capsys, file, *given, "--ram", 8)
    assert code == 2 and "--unified stands for --gpu and --ram" in err


@pytest.mark.parametrize("runtime", ["ktransformers", "vllm", "sglang", "accelerate"])
def test_another_runtime_is_planned_for(
    runtime: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The JSON has what every plan has, the folder verifies and holds the files that are read."""
    from typer.testing import CliRunner

    from moe2opt.cli.app import app

    machine = ("--gpu", "2:300", "--ram", 8, "--margin", 0, "-c", 1024, "--to", runtime)
    code, out, _ = ran(capsys, file, *machine, "--json", "--quiet", "--out", tmp_path)
    content = json.loads(out)
    assert (code, content["status"], content["runtime"]) == (0, "OPTIMAL", runtime)
    assert content["certificate"] == {"kind": "checked", "checked": True} | content["certificate"]
    assert content["decode_tok_s"]["low"] < content["decode_tok_s"]["high"]
    assert all((tmp_path / name).read_text() == text for name, text in content["files"].items())
    paths = [str(tmp_path / "result.json"), str(tmp_path / "config.yaml")]
    told = CliRunner().invoke(app, ["verify", *paths, "--allow-outside"])
    assert told.exit_code == 0
    code, out, _ = ran(capsys, file, *machine, "--quiet")
    assert (code, out.strip()) == (0, content["command"])


def test_runtimes_that_are_none_are_told(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown runtime and a question to llama-server about another one are refused."""
    assert "choose llama.cpp, ktransformers" in ran(capsys, file, *MACHINE, "--to", "x")[2]
    asked = ran(capsys, file, *MACHINE, "--to", "vllm", "--check", file)
    assert "--check: it asks llama-server" in asked[2]


def test_a_report_checks_the_folder_that_place_writes(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page replays the proof by the configuration beside it, once it may read the model."""
    from moe2opt.report import write_report

    assert ran(capsys, file, *MACHINE, "--quiet", "--out", tmp_path)[0] == 0
    assert write_report(tmp_path)[0].badge.title.startswith("Not checked: the configuration beside")
    assert write_report(tmp_path, allow_outside=True)[0].badge.title == "Proven optimal"


def test_a_file_that_is_not_there_is_named_with_its_folder(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The message repeats the path that was typed."""
    assert "no such file 'some/where.gguf'" in ran(capsys, "some/where.gguf", *MACHINE)[2]


def test_an_unknown_card_is_met_by_its_neighbours(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the nearest devices and how to list all, and lists no others."""
    err = ran(capsys, file, "--gpu", "RTX 4095")[2]
    assert "did you mean 'RTX 4090'? (also near: RTX 4090D" in err
    assert "moe2opt profile --devices" in err
    assert "Radeon" not in err
    from typer.testing import CliRunner

    from moe2opt.cli.app import app

    listed = CliRunner().invoke(app, ["profile", "--devices"]).stdout
    assert re.search(r"RTX 4090 +24 GiB +1008 GB/s", listed)


def test_a_model_is_read_by_the_text_of_its_path(file: Path) -> None:
    """A path may be given as text."""
    from moe2opt.llamacpp import read_llama

    assert read_llama(str(file)) == read_llama(file)


def test_a_plan_that_is_only_claimed_to_be_best_is_told_so() -> None:
    """Without a limit and without a proof, what a plan may lose and who claims more is said."""
    from moe2opt.cli.verbs.place import _next_step
    from moe2opt.present import Measure

    found = SimpleNamespace(
        limit=None, status="FEASIBLE", plan=object(), objective=-0.1023, bound=-0.1008,
        measure=Measure("minimize", "s per token", "seconds per token"),
        stats={"claimed": {"by": "HiGHS", "canonical_bound": -0.1023}},
    )  # fmt: skip
    told = " ".join(_next_step(found, (), None))  # type: ignore[arg-type]
    assert told.strip().startswith("No line is more than 1.015 times as fast; HiGHS claims 0.1023")
    assert told.endswith("a gap of 0, not proven.")


@pytest.mark.parametrize(("gap", "told"), [(0.00150001, "1.0016"), (1e-12, None)])
def test_a_plan_within_the_gap_says_what_it_may_lose(gap: float, told: str | None) -> None:
    """Where the gap that was asked ends the search, what a line may gain is said, rounded up."""
    from moe2opt.cli.verbs.place import _next_step

    found = SimpleNamespace(
        limit=None, status="OPTIMAL", plan=object(), gap=gap, bound=-0.1,
        objective=-0.1 * (1 + gap), stats={},
    )  # fmt: skip
    words = " ".join(_next_step(found, (), None))  # type: ignore[arg-type]
    assert (f"No line is more than {told} times as fast." in words) == (told is not None)
    assert ("No line" in words) == (told is not None)


def test_limits_that_grow_many_times_are_told_so() -> None:
    """A change is a share of the limit, or how many times it where it is many."""
    from moe2opt.cli.show import _change

    assert [_change(4.0, 5.0), _change(0.0, 1.0)] == ["+25.0 %", "-"]
    assert _change(1.0, 5308415.0) == "5.31e+06 times"
