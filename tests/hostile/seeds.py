"""Sound files of every kind that people hand us, and the command that reads each."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import save_file
from typer.testing import CliRunner

import moe2opt as mo
from moe2opt.archive import read_arrays, triples, write_arrays
from moe2opt.caching.trace_reading import read_trace as read_experts
from moe2opt.canonical import load_problem
from moe2opt.cli import app
from moe2opt.cli.exits import Exit
from moe2opt.errors import InputError
from moe2opt.fleet import load_fleet, verify_fleet
from moe2opt.pareto import Front
from moe2opt.placement import PlacementPlan
from moe2opt.profiles.llamabench.formats import read_tests
from moe2opt.proof import Multipliers, packed
from moe2opt.replay.journal import Journal
from moe2opt.replay.traces.files import open_trace
from moe2opt.report.replays import read_replay
from moe2opt.selection.gate.calibrate import Calibrator
from moe2opt.selection.gate.features import FeatureMap
from moe2opt.selection.gate.model import Gate, linear, load_gate
from moe2opt.selection.outcomes.folder import read_outcome_folder

PLACEMENT = """\
schema_version: 1
problem: placement
name: p
model: {table: toy, models: models.csv, dense_bits: 16}
precisions:
  - {name: q8, bits_per_weight: 8, loss_nats: 0}
  - {name: q4, bits_per_weight: 4, loss_nats: 0.01}
tiers:
  - {name: gpu, kind: gpu, capacity_gib: 0.0002, compute_gb_per_s: 100}
  - {name: ram, kind: cpu, capacity_gib: 1, compute_gb_per_s: 10, overhead_us: 3}
  - {name: disk, kind: disk}
links:
  - {between: [gpu, ram], gb_per_s: 8, latency_us: 5}
  - {between: [ram, disk], gb_per_s: 1.5, latency_us: 80}
activation: {counts: counts.csv}
budgets: {loss_nats: 0.5}
scenarios:
  traced: {activation.counts: null, activation.trace: trace.npz}
  cached: {activation.counts: null, activation.trace: trace.npz, cache: {backing: ram, hits: lru}}
  table: {cache: {backing: ram, hits: lru, table: hits.csv}}
  law: {activation.counts: null, activation.law: law.csv}
  merged: {aggregation: {keep: [2, 3], distances: distances.npz}}
  hf: {model: {table: null, models: null, hf: hf}, activation: {counts: null, uniform: true}}
  st:
    model: {table: null, models: null, safetensors: st}
    activation: {counts: null, uniform: true}
  gguf:
    model: {table: null, models: null, gguf: m.gguf}
    activation: {counts: null, uniform: true}
"""

FLEET = """\
fleet: 1
name: f
row: energy_j_per_prompt
limit: 300
sites:
  - {name: a, config: tiny, count: 2, rate: {low: 1, high: 2}, vary: {use: 0.1}}
  - {name: b, config: tiny, scenario: rich, count: 1, overrides: {context_gib: 0}}
"""

CONFIG = {
    "model_type": "mixtral", "num_hidden_layers": 2, "num_local_experts": 4, "hidden_size": 64,
    "num_experts_per_tok": 2, "intermediate_size": 128, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 100, "tie_word_embeddings": False,
    "mlp_only_layers": [], "text_config": {"head_dim": 16},
}  # fmt: skip


@dataclass(frozen=True)
class Seed:
    """A file and what reads it.

    Attributes
    ----------
    file
        Path below the folder of seeds.
    words
        Command lines that read it, one of which is run for each damage.
    """

    file: str
    words: tuple[str, ...]


REPLAY = "replay placement.yaml network.csv --link gpu-ram --policy static --quiet --out replayed"

SEEDS = (
    Seed("selection/tiny.yaml", ("check selection/tiny.yaml", "solve selection/tiny.yaml")),
    Seed("selection/tiny_tables/llms.csv", ("check selection/tiny.yaml",)),
    Seed("selection/tiny_tables/clusters.csv", ("solve selection/tiny.yaml --scenario shared",)),
    Seed("selection/tiny_tables/outcomes.csv", ("check selection/tiny.yaml",)),
    Seed("selection/tiny_tables/provenance.json", ("check selection/tiny.yaml",)),
    Seed("selection/tiny_profiles/devices.csv", ("solve selection/tiny.yaml",)),
    Seed("selection/tiny_profiles/precisions.csv", ("check selection/tiny.yaml",)),
    Seed("placement.yaml", ("check placement.yaml", "solve placement.yaml --time-limit 2")),
    Seed("models.csv", ("check placement.yaml",)),
    Seed("counts.csv", ("check placement.yaml", "solve placement.yaml --time-limit 2")),
    Seed("law.csv", ("check placement.yaml --scenario law",)),
    Seed("hits.csv", ("check placement.yaml --scenario table",)),
    Seed(
        "trace.npz",
        (
            "check placement.yaml --scenario traced",
            "check placement.yaml --scenario cached",
            "replay placement.yaml trace.npz --quiet",
        ),
    ),
    Seed("distances.npz", ("check placement.yaml --scenario merged",)),
    Seed("hf/config.json", ("check placement.yaml --scenario hf",)),
    Seed("st/model.safetensors", ("check placement.yaml --scenario st",)),
    Seed("m.gguf", ("check placement.yaml --scenario gguf",)),
    Seed("facility.json", ("solve facility.json --quiet", "check facility.json")),
    Seed("facility.npz", ("solve facility.npz --quiet", "check facility.npz")),
    Seed("choice.json", ("solve choice.json --quiet", "check choice.json")),
    Seed("choice.npz", ("solve choice.npz --quiet",)),
    Seed(
        "out/result.json",
        (
            "verify out/result.json selection/tiny.yaml",
            "export out/result.json --to litellm",
            "export out/result.json --to litellm --config selection/tiny.yaml",
            "report out",
            "certificate out/result.json selection/tiny.yaml --to vipr --out c.vipr",
        ),
    ),
    Seed("out/log.jsonl", ("report out",)),
    Seed("out/config.yaml", ("report out",)),
    Seed(
        "placed/result.json",
        (
            "verify placed/result.json placement.yaml",
            "export placed/result.json --to llama.cpp",
            "export placed/result.json --to ktransformers",
            "export placed/result.json --to accelerate",
            "export placed/result.json --to vllm",
            "export placed/result.json --to adapmoe",
            "export placed/result.json --to json --config placement.yaml",
            "report placed",
        ),
    ),
    Seed(
        "front/front.json",
        ("pareto selection/tiny.yaml --x energy_j_per_prompt --check --out front", "report front"),
    ),
    Seed("fleet.yaml", ("fleet fleet.yaml --backend serial --quiet",)),
    Seed(
        "fleeted/fleet.json",
        ("fleet fleet.yaml --check --out fleeted", "fleet fleet.yaml --check --json --out fleeted"),
    ),
    Seed("fleeted/sites.csv", ("fleet fleet.yaml --check --out fleeted",)),
    Seed("fleeted/proofs.jsonl.gz", ("fleet fleet.yaml --check --out fleeted",)),
    Seed("replayed/run.json", (REPLAY, "report replayed")),
    Seed("replayed/summary.json", (REPLAY, "report replayed")),
    Seed("replayed/steps_static.jsonl", (REPLAY, "report replayed")),
    Seed("replayed/checkpoint_static.npz", (REPLAY,)),
    Seed(
        "network.parquet",
        ("replay placement.yaml network.parquet::walk --link gpu-ram --quiet",),
    ),
    Seed("experts.parquet", ("replay placement.yaml experts.parquet --quiet",)),
    Seed("network.csv", ("replay placement.yaml network.csv --link gpu-ram --quiet",)),
    Seed("bench.json", ("profile --import bench.json",)),
    Seed("bench.md", ("profile --import bench.md --device box",)),
)


def _loaded(scenario: str | None = None) -> Callable[[Path], Any]:
    """Return what loads the placement, whichever of its files was damaged, and decodes a plan."""

    def read(path: Path) -> None:
        folder = next(p for p in path.parents if (p / "placement.yaml").exists())
        _decoded(mo.load(folder / "placement.yaml", scenario))

    return read


def _selection(path: Path) -> None:
    folder = next(p for p in path.parents if (p / "tiny.yaml").exists())
    _decoded(mo.load(folder / "tiny.yaml"))


def _decoded(target: Any) -> None:
    """Go on as far as a command would: compile, decode a plan, show it."""
    result = mo.solve(target, solver="greedy")
    if result.plan is not None:
        result.plan.summary()
        result.plan.to_frame()


def _whole_result(path: Path) -> None:
    result = mo.Result.load(path)
    str(result)
    if isinstance(result.plan, dict) and "assignment" in result.plan:
        PlacementPlan.from_dict(result.plan).summary()


def _scored(path: Path) -> None:
    gate = load_gate(path.parent)
    gate.scores(np.zeros((2, len(gate.features.mean))), np.array(["tides", "none"]))


def _archived(path: Path) -> None:
    if path.suffix == ".json":
        mo.Certificate.load(path)
        return
    try:
        records, lengths, entries = read_arrays(path)
    except ValueError as error:  # what names the file makes a message of it
        raise InputError(str(error)) from error
    list(records)
    list(triples(lengths, entries))


def _fleet(path: Path) -> None:
    folder = path.parent.parent
    for failure in verify_fleet(path.parent, load_fleet(folder / "fleet.yaml")):
        str(failure)


def _replayed(path: Path) -> None:
    read_replay(path.parent)


def _continued(path: Path) -> None:
    key = json.loads((path.parent / "run.json").read_text())["key"]
    if Journal(path.parent, "static", key).earlier()[1] is None:
        raise InputError("the run begins anew")


def _outcomes(path: Path) -> None:
    read_outcome_folder(path.parent)


#: Files of a folder of outcomes.
OUTCOMES = (
    "prompts.parquet",
    "correct.parquet",
    "output_tokens.csv",
    "embeddings_x.npz",
    "models.csv",
)

#: Files, and what reads each in this process.
READERS: list[tuple[str, Callable[[Path], Any]]] = [
    ("selection/tiny.yaml", _selection),
    ("selection/tiny_tables/llms.csv", _selection),
    ("selection/tiny_tables/clusters.csv", _selection),
    ("selection/tiny_tables/outcomes.csv", _selection),
    ("selection/tiny_tables/provenance.json", _selection),
    ("selection/tiny_profiles/devices.csv", _selection),
    ("selection/tiny_profiles/precisions.csv", _selection),
    ("placement.yaml", _loaded()),
    ("models.csv", _loaded()),
    ("counts.csv", _loaded()),
    ("law.csv", _loaded("law")),
    ("hits.csv", _loaded("table")),
    ("trace.npz", _loaded("cached")),
    ("distances.npz", _loaded("merged")),
    ("hf/config.json", _loaded("hf")),
    ("m.gguf", _loaded("gguf")),
    ("facility.json", load_problem),
    ("facility.npz", load_problem),
    ("choice.json", load_problem),
    ("choice.npz", load_problem),
    ("out/result.json", _whole_result),
    ("placed/result.json", _whole_result),
    ("front/front.json", Front.load),
    ("trace.npz", read_experts),
    ("network.csv", open_trace),
    ("bench.json", read_tests),
    ("bench.md", read_tests),
    ("fleet.yaml", load_fleet),
    ("st/model.safetensors", _loaded("st")),
    ("gate/gate.safetensors", _scored),
    ("gate/gate.json", _scored),
    ("archive/proof.npz", _archived),
    ("archive/proof.json", _archived),
    ("fleeted/fleet.json", _fleet),
    ("fleeted/sites.csv", _fleet),
    ("fleeted/proofs.jsonl.gz", _fleet),
    ("replayed/summary.json", _replayed),
    ("replayed/steps_static.jsonl", _replayed),
    ("replayed/checkpoint_static.npz", _continued),
    ("experts.parquet", read_experts),
    ("network.parquet", open_trace),
    *((f"outcomes/{name}", _outcomes) for name in OUTCOMES),
]


def plant(folder: Path, problems: Path, fixtures: Path) -> None:
    """Write all seeds into a folder."""
    shutil.copytree(problems / "selection", folder / "selection", ignore=_only_tiny)
    (folder / "placement.yaml").write_text(PLACEMENT)
    (folder / "fleet.yaml").write_text(FLEET)
    _gguf(folder / "m.gguf")
    for write in (_tables, _arrays, _problems, _frames, _safetensors, _gate, _archive):
        write(folder)
    shutil.copy(fixtures / "rtx4080.json", folder / "bench.json")
    shutil.copy(fixtures / "depth.md", folder / "bench.md")
    tiny: Any = mo.load(folder / "selection/tiny.yaml")
    placed: Any = mo.load(folder / "placement.yaml")
    for name, target in (("out", tiny), ("placed", placed)):
        (folder / name).mkdir()
        mo.solve(target, seed=0).save(folder / name / "result.json")
        (folder / name / "config.yaml").write_text(target.source.effective_yaml())
    event = {
        "time_s": 0.1,
        "nodes": 1,
        "open_nodes": 0,
        "bound": 1.0,
        "objective": 0.5,
        "source": "H",
    }
    (folder / "out/log.jsonl").write_text(2 * (json.dumps(event) + "\n"))
    fleet = str(folder / "fleet.yaml")
    placement, network = str(folder / "placement.yaml"), str(folder / "network.csv")
    _run("fleet", fleet, "--backend", "serial", "--out", str(folder / "fleeted"))
    options = ["--link", "gpu-ram", "--policy", "static", "--out", str(folder / "replayed")]
    _run("replay", placement, network, *options)
    config, out = str(folder / "selection/tiny.yaml"), str(folder / "front")
    _run("pareto", config, "--x", "energy_j_per_prompt", "--points", "3", "--out", out)


def _run(*words: str) -> None:
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code in (Exit.OK, Exit.TOO_WEAK), ran.stderr


def _only_tiny(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name.startswith("mmlu") or name == "tiny_outcomes"]


def _tables(folder: Path) -> None:
    (folder / "models.csv").write_text(
        "model,n_layers,first_moe_layer,moe_step,experts,top_k,hidden,expert_ffn,"
        "params_per_expert_m,dense_params_b,kv_entries_per_token,source,note\n"
        "toy,3,1,1,4,2,64,128,0.024576,0.00001,32,invented,synthetic\n"
    )
    rows = [f"{layer},{e},{10 * (e + layer)}" for layer in (1, 2) for e in range(4)]
    (folder / "counts.csv").write_text("\n".join(["layer,expert,count", *rows, ""]))
    (folder / "law.csv").write_text(
        "layer,use_sigma,saliency_slope,saliency_sigma,saliency_share\n1,1,0.5,0.2,0.5\n2,1,0.4,0.3,0.5\n"
    )
    hits = [f"{layer},{s},{s / 4}" for layer in (1, 2) for s in range(5)]
    (folder / "hits.csv").write_text("\n".join(["layer,slots,hit_rate", *hits, ""]))
    steps = "".join(f"{k},0.{8 + k % 2},0.{3 + k % 2}\n" for k in range(5))
    (folder / "network.csv").write_text(f"# name: walk\nt_s,memory_share[gpu],load[gpu]\n{steps}")


def _arrays(folder: Path) -> None:
    rng = np.random.default_rng(0)
    draws = np.argsort(rng.random((20, 2, 4)), axis=2)[:, :, :2]
    np.savez(folder / "trace.npz", experts=draws, starts=np.array([0, 10]))
    points = rng.random((2, 4, 3))
    apart = np.linalg.norm(points[:, :, None] - points[:, None], axis=3)
    np.savez(folder / "distances.npz", distances=apart)
    (folder / "hf").mkdir()
    (folder / "hf/config.json").write_text(json.dumps(CONFIG))


def _frames(folder: Path) -> None:
    """Write Parquet tables: traces of a network and of experts, and a folder of outcomes."""
    steps = [{"trace": "walk", "t_s": float(k), "mbit_per_s": 8.0 + k % 2} for k in range(5)]
    pd.DataFrame(steps).to_parquet(folder / "network.parquet")
    drawn = np.load(folder / "trace.npz")["experts"]
    uses = [
        {"sequence": token // 10, "step": token, "layer": layer + 1, "expert": int(expert)}
        for token, layers in enumerate(drawn)
        for layer, chosen in enumerate(layers)
        for expert in chosen
    ]
    pd.DataFrame(uses).to_parquet(folder / "experts.parquet")
    (folder / "outcomes").mkdir()
    prompts, llms = [f"q{k}" for k in range(6)], ["m0", "m1"]
    base = pd.DataFrame({"prompt_id": prompts})
    about = base.assign(question="why?", category=3 * ["a", "b"], prompt_tokens=9)
    about.to_parquet(folder / "outcomes/prompts.parquet")
    right = base.assign(m0=3 * [0, 1], m1=1.0)
    right.to_parquet(folder / "outcomes/correct.parquet")
    base.assign(m0=5, m1=7).to_csv(folder / "outcomes/output_tokens.csv", index=False)
    about_llms = {"model": llms, "open_weights": 1, "params_total_b": [1.0, 7.5]}
    pd.DataFrame(about_llms).to_csv(folder / "outcomes/models.csv", index=False)
    np.savez(folder / "outcomes/embeddings_x.npz", emb=np.arange(12.0).reshape(6, 2))


def _safetensors(folder: Path) -> None:
    (folder / "st").mkdir()
    shutil.copy(folder / "hf/config.json", folder / "st")
    tensors = {"model.embed_tokens.weight": np.zeros((10, 8), np.float16)}
    for layer, expert, part in product(range(2), range(4), ("w1", "w2", "w3")):
        name = f"model.layers.{layer}.block_sparse_moe.experts.{expert}.{part}.weight"
        tensors[name] = np.zeros((16, 8), np.float16)
    save_file(tensors, folder / "st/model.safetensors")


def _gate(folder: Path) -> None:
    features = FeatureMap(np.zeros(2), np.ones(2), ("tides",))
    line, none = np.array([1.0]), np.zeros(0)
    calibrator = Calibrator("platt", line, 0 * line, none, none, none)
    network = linear(np.arange(6.0).reshape(3, 2), np.zeros(2))
    Gate(("m0", "m1"), "sigmoid", features, network, calibrator, {}).save(folder / "gate")


def _archive(folder: Path) -> None:
    (folder / "archive").mkdir()
    tree = [("split", 0, 1), ("bound", 0, 0), ("infeasible", 1, 0)]
    vector = np.array([0.25, 0.5])
    lengths, entries = packed((Multipliers(vector, vector, vector[:0]),))
    write_arrays(folder / "archive/proof.npz", tree, lengths, entries)
    proof = mo.solve(mo.load(folder / "selection/tiny.yaml"), seed=0).certificate
    assert proof is not None
    proof.save(folder / "archive/proof.json")


def _problems(folder: Path) -> None:
    facility = mo.FacilityProblem([[1, 3, 2], [2, 1, 4]], [[1, 2, 3]], [4], [0.5, 0.5], [[0, 1]])
    usage = [[[1], [2]], [[2], [0]]]
    choice = mo.MultipleChoiceProblem([[1, 3], [2, 1]], usage, [3])
    for problem, stem in ((facility, "facility"), (choice, "choice")):
        for suffix in (".json", ".npz"):
            mo.save_problem(problem, folder / f"{stem}{suffix}")


def _gguf(path: Path) -> None:
    """Write a GGUF file of two layers of four tiny experts, without its library."""

    def text(word: str) -> bytes:
        return struct.pack("<Q", len(word)) + word.encode()

    numbers = {"block_count": 2, "embedding_length": 8, "attention.head_count": 2,
               "attention.head_count_kv": 1, "expert_count": 4, "expert_used_count": 2}  # fmt: skip
    keys = [text("general.architecture") + struct.pack("<I", 8) + text("llama")]
    keys += [text(f"llama.{k}") + struct.pack("<II", 4, v) for k, v in numbers.items()]
    tokens = struct.pack("<IIQ", 9, 8, 3) + b"".join(map(text, "abc"))
    keys.append(text("tokenizer.ggml.tokens") + tokens)
    names = [f"blk.{b}.ffn_{kind}_exps.weight" for b in (0, 1) for kind in ("gate", "up", "down")]
    size = 4 * 16 * 8
    tensors = [
        text(name) + struct.pack("<IQQQIQ", 3, 8, 16, 4, 0, k * size * 4)
        for k, name in enumerate([*names, "output.weight"])
    ]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys + tensors)
    path.write_bytes(head + bytes(-len(head) % 32) + bytes(4 * size * len(tensors)))
