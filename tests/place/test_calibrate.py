"""Rates of a machine from runs of llama-bench and llama-sweep-bench on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from llama_models import model

from moe2opt.errors import InputError
from moe2opt.llamacpp import Layout
from moe2opt.llamacpp.layout import experts_in_ram
from moe2opt.place import PlaceConfig
from moe2opt.place.calibrate import calibrated
from moe2opt.place.case import Case
from moe2opt.place.judge import Judge
from moe2opt.place.machine import machine_of

MODEL = model("qwen3-30b-a3b")


def config(**sections: Any) -> PlaceConfig:
    """Return a machine with one card and RAM of which only the kind is known."""
    content = {
        "problem": "place", "model": "m.gguf", "gpus": [{"gib": 24, "gb_per_s": 936}],
        "ram": {"gib": 64, "kind": "ddr5-5600"}, "context": {"tokens": 128, "depth": 64},
    }  # fmt: skip
    return PlaceConfig.model_validate(content | sections)


#: What a machine really does, unlike the tables say.
TRUTH = {"answers": 1.4, "prompts": 0.7, "ram_gb_per_s": 25.0, "ram_layer_us": 80.0}


def rows() -> list[dict[str, Any]]:
    """Return tests of llama-bench on such a machine, with experts of some layers in RAM."""
    true = config(rates=TRUTH, pcie_gb_per_s=11.0)
    judge = Judge(Case(true, MODEL, machine_of(true)))
    found = []
    for count in (0, 12, 24, 36, 48):
        layout = Layout((0,) * (MODEL.blocks + 1), experts_in_ram(MODEL, count))
        about = {
            "model_type": "qwen3moe 30B.A3B Q4_K - Medium", "model_size": MODEL.bytes,
            "model_n_params": 30.53e9, "n_gpu_layers": 99, "n_cpu_moe": count, "n_ubatch": 512,
            "backends": "CUDA", "gpu_info": "a card", "stddev_ts": 0.1,
        }  # fmt: skip
        found.append({**about, "n_prompt": 0, "n_gen": 128, "avg_ts": 1 / judge.answer_s(layout)})
        rate = 1 / judge.prompt_s(layout, 512)
        found.append({**about, "n_prompt": 512, "n_gen": 0, "avg_ts": rate})
    return found


def test_rates_of_a_machine_are_recovered(tmp_path: Path) -> None:
    """Runs with experts in RAM tell device, RAM and copies apart, and the interval narrows."""
    file = tmp_path / "bench.json"
    file.write_text(json.dumps(rows()), encoding="utf-8")
    found = calibrated(config(), MODEL, [file])
    assert found.rates.answers == pytest.approx(1.4, rel=0.1)
    assert found.rates.ram_gb_per_s == pytest.approx(25, rel=0.1)
    assert found.rates.prompts == pytest.approx(0.7, rel=0.1)
    assert found.pcie_gb_per_s == pytest.approx(11, rel=0.1)
    assert found.rates.notes[0].startswith("fitted to 5 runs of answers and 5 of prompts")
    before, after = (machine_of(c).devices[0] for c in (config(), found))
    assert 1 < after.spread < before.spread
    assert 1 < after.prompt_spread < before.prompt_spread
    assert machine_of(config()).copied_spread > machine_of(found).copied_spread == 1


@pytest.mark.parametrize(("backends", "copied"), [("CUDA", True), ("CPU", False)])
def test_prompts_of_no_layers_on_devices_show_copies(
    tmp_path: Path, backends: str, copied: bool
) -> None:
    """With -ngl 0 a device reads prompts from what is copied to it; without one nothing is."""
    row = rows()[1] | {"n_gpu_layers": 0, "backends": backends, "avg_ts": 300.0}
    file = tmp_path / "bench.json"
    file.write_text(json.dumps([row]), encoding="utf-8")
    told = calibrated(config(), MODEL, [file]).rates.notes[0]
    assert ("copies go at" in told) == copied


def test_what_no_run_shows_stays_assumed(tmp_path: Path) -> None:
    """Without experts in RAM the rates of RAM and copies stay as they were, and a note says so."""
    file = tmp_path / "bench.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows()[:2]), encoding="utf-8")
    found = calibrated(config(), MODEL, [file])
    assert found.rates.ram_gb_per_s is None
    assert found.pcie_gb_per_s == config().pcie_gb_per_s
    assert "as assumed: the rate of RAM, copies from RAM" in found.rates.notes[0]
    assert machine_of(found).ram_byte_s == machine_of(config()).ram_byte_s


@pytest.mark.parametrize("form", ["jsonl", "csv", "json"])
def test_a_bad_row_never_stops_the_rest(tmp_path: Path, form: str) -> None:
    """A row that is cut off, scatters or lacks a field is named, and the others are fitted."""
    good = rows()[:4]
    bad = good[0] | {"avg_ts": "fast"}
    wild = good[0] | {"stddev_ts": 1e3}
    file = tmp_path / f"bench.{form}"
    if form == "csv":
        names = ["build_commit", *good[0]]
        lines = [",".join(str({"build_commit": "a", **row}[n]) for n in names)
                 for row in (good[0], bad, wild, *good[1:])]  # fmt: skip
        file.write_text("\n".join([",".join(names), lines[0], "a,b", *lines[1:]]), "utf-8")
    elif form == "jsonl":
        lines = [json.dumps(row) for row in (good[0], bad, wild, *good[1:])]
        file.write_text("\n".join([lines[0], "{cut", *lines[1:]]), encoding="utf-8")
    else:
        file.write_text(json.dumps([bad, wild, *good])[:-1], encoding="utf-8")
    found = calibrated(config(), MODEL, [file])
    assert "fitted to 2 runs of answers and 2 of prompts" in found.rates.notes[0]
    assert len(found.rates.notes) == 4
    assert sum("left out" in note for note in found.rates.notes) == 3


@pytest.mark.parametrize("rate", [1e-300, 1e300])
def test_a_rate_of_no_machine_is_named(tmp_path: Path, rate: float) -> None:
    """A rate beyond any machine is left out with its file, line and value."""
    good = rows()[:4]
    file = tmp_path / "bench.jsonl"
    lines = [json.dumps(row) for row in (good[0] | {"avg_ts": rate, "stddev_ts": 0}, *good)]
    file.write_text("\n".join(lines), encoding="utf-8")
    found = calibrated(config(), MODEL, [file])
    told = f"{file}:1: avg_ts: {rate} tokens/s are no rate of a machine"
    assert any(note.startswith(told) for note in found.rates.notes)
    assert "fitted to 2 runs of answers and 2 of prompts" in found.rates.notes[0]


def test_runs_that_contradict_each_other_are_fitted(tmp_path: Path) -> None:
    """Impossible rates leave factors above 0, and a prompt read by no tokens at once is no run."""
    _, prompt, *_, answer, _ = rows()
    wild = [
        answer | {"avg_ts": 1e6, "stddev_ts": 0.0},
        answer | {"avg_ts": 1e2, "backends": "CPU"},
        prompt | {"n_ubatch": 0},
    ]
    file = tmp_path / "bench.json"
    file.write_text(json.dumps(wild), encoding="utf-8")
    found = calibrated(config(), MODEL, [file]).rates
    assert found.answers > 0 and found.ram_gb_per_s is not None
    assert "fitted to 2 runs of answers and 0 of prompts" in found.notes[0]
    assert any("n_ubatch: 0 tokens at once" in note for note in found.notes)


SWEEP = """llama-sweep-bench -m q.gguf -ngl 99 -ncmoe 20 -ub 2048
main: n_kv_max = 8192, n_batch = 2048, n_ubatch = 2048, flash_attn = 1, n_gpu_layers = 99

|    PP |     TG |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |
|-------|--------|--------|----------|----------|----------|----------|
|  2048 |    128 |      0 |    0.551 |  3714.16 |    1.221 |    54.83 |
|  2048 |    128 |   2048 |    0.561 |  3651.98 |    1.233 |      bad |
|  2048 |    128 |   6144 |    0.586 |  3494.69 |    1.251 |    52.34 |
"""


def test_a_sweep_is_read(tmp_path: Path) -> None:
    """A sweep tells two rates a line, its micro-batch and what was in RAM; bad lines are named."""
    file = tmp_path / "sweep.txt"
    file.write_text(SWEEP, encoding="utf-8")
    found = calibrated(config(), MODEL, [file])
    assert "fitted to 2 runs of answers and 2 of prompts" in found.rates.notes[0]
    assert any(":7: this line of llama-sweep-bench cannot be read" in n for n in found.rates.notes)
    assert found.rates.ram_gb_per_s is not None
    file.write_text(
        '{"n_kv_max": 8192, "n_ubatch": 512, "n_gpu_layers": 99, "pp": 512, "tg": 128, "n_kv": 0, '
        '"t_pp": 0.5, "speed_pp": 1000.0, "t_tg": 1.2, "speed_tg": 100.0 }\n',
        encoding="utf-8",
    )
    notes = calibrated(config(), MODEL, [file]).rates.notes
    assert any("no -ncmoe is told" in note for note in notes)


def test_files_of_old_builds_and_other_models_count(tmp_path: Path) -> None:
    """Booleans instead of backends are understood, and a dense model tells the device's rate."""
    old = {
        "cuda": True, "metal": False, "cpu_info": "i9", "gpu_info": "a card", "n_gpu_layers": 99,
        "model_type": "llama 7B mostly Q4_0", "model_size": 3825065984,
        "model_n_params": 6738415616, "n_prompt": 0, "n_gen": 128, "avg_ts": 131.0,
    }  # fmt: skip
    sparse = old | {"model_type": "gpt-oss ?B F16", "model_size": 13776000000}
    file = tmp_path / "old.json"
    file.write_text(json.dumps([old, sparse]), encoding="utf-8")
    found = calibrated(config(), MODEL, [file])
    assert "fitted to 1 runs of answers" in found.rates.notes[0]
    assert any("whose name does not say what a token uses" in n for n in found.rates.notes)


def test_nothing_to_fit_is_an_error(tmp_path: Path) -> None:
    """Files without a usable run are refused, with the first reasons."""
    file = tmp_path / "bench.json"
    file.write_text(json.dumps([rows()[0] | {"n_prompt": 512}]), encoding="utf-8")
    with pytest.raises(InputError, match=r"no run can be used: .*one rate for prompt"):
        calibrated(config(), MODEL, [file])
    file.write_text("tokens per second: 12\n", encoding="utf-8")
    with pytest.raises(InputError, match="not output of llama-bench"):
        calibrated(config(), MODEL, [file])
