"""Run plans that span the front, and hold time, bytes and memory against their prediction.

    python docs/studies/execute_bench.py prepare WORK [--model FOLDER]
    python docs/studies/execute_bench.py calibrate WORK
    python docs/studies/execute_bench.py plan WORK
    python docs/studies/execute_bench.py count WORK
    python docs/studies/execute_bench.py time WORK          (several times: each is one round)
    python docs/studies/execute_bench.py table WORK

WORK is a folder on the disk that is to be measured. Without ``--model`` the model has SYNTHETIC
weights and the expert sizes of Switch-Base. ``calibrate`` and ``time`` want a quiet machine and, as
a process that waits for a disk is woken late by a busy one, real-time priority (``chrt -f 1``).
Machines are noisy: every round runs all plans and rules in another order on the same few sequences,
the next round on the next ones, and calibrates once more; figures are medians of the rounds. What
has the same memory, and so is compared, runs within seconds of one another. ``count`` wants many
tokens but no certain disk: ``--scratch /dev/shm`` makes it quick.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

import moe2opt as mo
from moe2opt.executor import calibrate
from moe2opt.executor.compare.compare import compare, predict
from moe2opt.executor.job import plain_instance
from moe2opt.executor.model.folder import open_folder
from moe2opt.executor.model.routing import record_routing
from moe2opt.executor.model.text import read_texts, sequences
from moe2opt.executor.run.run import Settings, run_plan, shapes_of
from moe2opt.executor.store.bank import Bank
from moe2opt.placement.assignment import Assignment
from moe2opt.placement.baselines.rules import baseline_assignments
from moe2opt.placement.modes.cache import Cached

FORMATS = (("fp16", 16.0, 0.0), ("int8", 8.25, 0.001), ("int4", 4.25, 0.02))

#: Shares of the fp16 experts that DRAM may hold, for small and for large experts, and losses that
#: are allowed. A few much used experts make up most of the time of the large ones.
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
LARGE_SHARES = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.14, 0.2, 0.3, 0.5)
LOSSES = (0.0, 0.0005, 0.004)

#: Different tokens of the model with drawn weights, and how many are drawn.
VOCABULARY, DRAWN = 4096, 65536

#: Weights from which an expert counts as large.
LARGE = 1e6

#: Tokens of a sequence, of a timed round, of the count of bytes and of the calibration, with small
#: and with large experts.
SEQUENCE, TIMED, COUNTED, CALIBRATION = (64, 64), (128, 128), (7680, 8192), (320, 192)


def large(model: Any) -> bool:
    """Tell whether the experts are large."""
    return bool(model.spec.expert_weights > LARGE)


def config_text(work: Path, model: Any, share: float, loss: float, *, rates: bool) -> str:
    """Return the YAML of one budget; the file lies in WORK."""
    experts = 2 * model.spec.expert_weights * model.spec.experts * len(model.spec.moe_layers)
    dense = json.loads((work / "dense.json").read_text())["bytes"]
    # Room for the context and for the buffers that copies pass through.
    capacity = (share * experts + dense + 2.2 * 2 * model.spec.expert_weights) / 2**30
    formats = ", ".join(
        f"{{name: {n}, bits_per_weight: {b}, loss_nats: {x}}}" for n, b, x in FORMATS
    )
    return f"""
schema_version: 1
problem: placement
name: bench
synthetic: [losses of the formats]
model: {{safetensors: model, context_tokens: {SEQUENCE[large(model)]}, kv_bits: 32}}
precisions: [{formats}]
tiers:
  - {{name: dram, kind: cpu, capacity_gib: {capacity!r}, compute_gb_per_s: 15}}
  - {{name: disk, kind: disk}}
links: [{{between: [dram, disk], gb_per_s: 1, latency_us: 100}}]
activation: {{counts: counts.csv}}
budgets: {{loss_nats: {loss}}}
{"rates: profile" if rates else ""}
"""


def instance_of(work: Path, model: Any, share: float, loss: float, *, rates: bool = True) -> Any:
    """Return the instance of one budget."""
    path = work / f"bench-{os.getpid()}.yaml"
    path.write_text(config_text(work, model, share, loss, rates=rates), encoding="utf-8")
    try:
        return mo.load(path, allow_outside=True)
    finally:
        path.unlink()


def prepare(work: Path, source: Path | None, text: Path | None) -> None:
    """Bring model, texts, counts and the expected dense bytes into WORK."""
    from tinymoe.synthetic import switch_base, write

    work.mkdir(parents=True, exist_ok=True)
    folder = work / "model"
    if source is not None:
        folder.symlink_to(source.resolve())
    elif not folder.exists():
        write(switch_base(experts=64, max_bytes=2 * 2**30, vocabulary=VOCABULARY), folder)
    model = open_folder(folder)
    for name, seed in (("calibration", 1), ("heldout", 2)):
        if text is None:
            draws = np.random.default_rng(seed).integers(0, VOCABULARY, DRAWN)
            np.save(work / f"{name}.npy", draws)
    texts = _texts(work, text, "calibration")
    routing = record_routing(model, read_texts(model, texts), SEQUENCE[large(model)])
    routing.counts().to_csv(work / "counts.csv", index=False)
    (work / "dense.json").write_text(
        json.dumps({"bytes": model.dense_bytes, "text": str(text or "")})
    )
    print(
        f"{model.spec.n_layers} layers x {model.spec.experts} experts of "
        f"{2 * model.spec.expert_weights / 1e6:.2f} MB in fp16"
    )


def _texts(work: Path, text: Path | None, part: str) -> list[Path]:
    if text is None:
        return [work / f"{part}.npy"]
    return sorted((text / part).glob("*.txt"))


def tokens_of(work: Path, model: Any, part: str, number: int) -> Any:
    """Return sequences of a part of the text."""
    text = json.loads((work / "dense.json").read_text())["text"]
    path = Path(text) / part if text else work / f"{part}.npy"
    return sequences(path, model, number, SEQUENCE[large(model)])


class Bench:
    """The model with a bank of all its experts in all formats."""

    def __init__(self, work: Path, scratch: Path | None = None) -> None:
        self.work, self.model = work, open_folder(work / "model")
        self.decoder = self.model.decoder()
        self.bank = Bank(scratch or work)
        spec = self.model.spec
        shapes = shapes_of(instance_of(work, self.model, 1.0, 0.02, rates=False), spec)
        for row, layer in enumerate(spec.moe_layers):
            for expert in range(spec.experts):
                weights = self.model.expert_weights(layer, expert)
                for q in range(len(FORMATS)):
                    self.bank.put((row, expert, q, 0), shapes.packed(weights, q, 0))
        self.bank.settle()

    def run(self, instance: Any, assignment: Any, tokens: Any, repeats: int = 1) -> Any:
        """Run one plan."""
        settings = Settings(repeats=repeats, energy=False)
        return run_plan(
            instance, assignment, self.model, self.decoder, tokens, settings, bank=self.bank
        )


def do_calibrate(work: Path, bench: Bench | None = None) -> None:
    """Run a mixture of tiers and formats, few copies and many, and write the profile."""
    bench = bench or Bench(work)
    instance, roomy = (
        plain_instance(instance_of(work, bench.model, share, 0.02, rates=False))
        for share in (0.6, 1.0)
    )
    tokens = tokens_of(work, bench.model, "calibration", CALIBRATION[large(bench.model)])
    runs = [
        bench.run(instance, calibrate.mixed_assignment(instance), tokens, 3),
        bench.run(roomy, calibrate.resident_assignment(roomy), tokens, 3),
        bench.run(roomy, calibrate.distant_assignment(roomy), tokens),
    ]
    target = work / "calibrations.json"
    cells = json.loads(target.read_text()) if target.exists() else []
    cells.append(calibrate.to_json(calibrate.cells_of(runs, instance)))
    target.write_text(json.dumps(cells))
    write_profile(work, instance, cells)


def write_profile(work: Path, instance: Any, found: list[Any]) -> None:
    """Write the medians of all calibrations as the profile."""
    middle = [
        {**rows[0], "us": float(np.median([row["us"] for row in rows]))}
        for rows in zip(*found, strict=True)
    ]
    for row in middle:
        row["low_us"], row["high_us"] = (
            min(row["low_us"], row["us"]),
            max(row["high_us"], row["us"]),
        )
    content = {
        "format": calibrate.FORMAT,
        "instance": "bench",
        "started": time.strftime("%Y-%m-%d"),
        "model": {"hidden": instance.shape.hidden, "weights": instance.shape.params_per_expert},
        "cells": middle,
    }
    (work / "calibration.json").write_text(json.dumps(content))
    shutil.rmtree(work / "profile", ignore_errors=True)
    calibrate.profile_from_runs([work / "calibration.json"], work / "profile", "bench")
    words = (
        f"{row['quantity']} {row['memory']} {row['precision']} {row['us']:.1f}" for row in middle
    )
    print(f"{len(found)} calibrations; us: {', '.join(words)}", flush=True)


def do_plan(work: Path) -> None:
    """Solve every budget; keep the plan and what simple rules do with the same memory and loss."""
    model = open_folder(work / "model")
    found = []
    for loss in LOSSES:
        for share in LARGE_SHARES if large(model) else SHARES:
            instance = instance_of(work, model, share, loss)
            result = mo.solve(instance, time_limit_s=4, rel_gap=2e-3)
            if result.plan is None:
                continue
            a = result.plan.assignment
            rules = {"optimal": a} | dict(baseline_assignments(instance.mode))
            rules["LFU residents per layer"] = even_residents(instance)
            entry = {"share": share, "loss": loss, "gap": result.gap, "rules": {}}
            for name, rule in rules.items():
                entry["rules"][name] = {
                    "tier": rule.tier.tolist(),
                    "precision": rule.precision.tolist(),
                    "slots": None,
                }
            slots = lru_slots(instance)
            entry["rules"]["LRU cache per layer"] = {"slots": slots.tolist()}
            found.append(entry)
            print(
                f"share {share}, loss {loss}: {result.plan.seconds_per_token * 1e3:.3f} ms, "
                f"{result.status}, {len(rules)} rules",
                flush=True,
            )
    (work / "plans.json").write_text(json.dumps(found))


def even_residents(instance: Any) -> Assignment:
    """Return the most used experts of every layer in DRAM, the same number in each, in fp16."""
    slots = lru_slots(instance)[0]
    rank = np.argsort(np.argsort(-instance.uses, axis=1, kind="stable"), axis=1)
    tier = np.where(rank < slots, 0, 1)[:, :, None]
    from moe2opt.placement.assignment import plain

    return plain(tier.astype(np.int64), np.zeros_like(tier, dtype=np.int64))


def lru_slots(instance: Any) -> Any:
    """Return how many fp16 experts of each layer fit DRAM."""
    layers, experts = instance.shape.size
    free = instance.topology.tiers[0].free_bytes
    number = min(experts, int(free / (layers * instance.expert_bytes[0]) + 1e-9))
    return np.full(layers, number, dtype=np.int64)


def runs_of(work: Path, model: Any) -> dict[str, tuple[Any, Any]]:
    """Return instance and assignment of every different thing to run, by name."""
    found: dict[str, tuple[Any, Any]] = {}
    for entry in json.loads((work / "plans.json").read_text()):
        instance = instance_of(work, model, entry["share"], entry["loss"])
        for name, rule in entry["rules"].items():
            key = f"{entry['share']}|{entry['loss']}|{name}"
            if rule["slots"] is not None:
                cached = _with_cache(instance)
                slots = np.array(rule["slots"])
                quality = np.zeros((*cached.shape.size, 1), dtype=np.int64)
                found[key] = (cached, Cached(cached).slotted(slots, quality))
            else:
                from moe2opt.placement.assignment import plain

                found[key] = (instance, plain(np.array(rule["tier"]), np.array(rule["precision"])))
    return found


def _with_cache(instance: Any) -> Any:
    from dataclasses import replace

    from moe2opt.placement.sections import Cache

    config = instance.config.model_copy(update={"cache": Cache(backing="disk")})
    return replace(instance, config=config)


def _signature(assignment: Any) -> str:
    import hashlib

    parts = [assignment.tier.tobytes(), assignment.precision.tobytes()]
    parts.append(b"" if assignment.slots is None else assignment.slots.tobytes())
    return hashlib.sha256(b"|".join(parts)).hexdigest()[:16]


def different_runs(work: Path, model: Any, *, only_plans: bool) -> dict[str, tuple[Any, Any]]:
    """Return instance and assignment of everything to run, by signature; equal ones once."""
    found: dict[str, tuple[Any, Any]] = {}
    for name, (instance, assignment) in runs_of(work, model).items():
        if not only_plans or name.endswith("|optimal"):
            found.setdefault(_signature(assignment), (instance, assignment))
    return found


def do_count(work: Path, seconds: float, scratch: Path | None) -> None:
    """Count the bytes of every plan on many tokens, as far as the time goes."""
    start, bench, target = time.perf_counter(), Bench(work, scratch), work / "counts.json"
    tokens = tokens_of(work, bench.model, "heldout", COUNTED[large(bench.model)])
    done = json.loads(target.read_text()) if target.exists() else {}
    for key, (instance, assignment) in different_runs(work, bench.model, only_plans=True).items():
        if key in done or time.perf_counter() - start > seconds:
            continue
        row = compare(predict(instance, assignment), bench.run(instance, assignment, tokens), None)
        done[key] = {r.name: [r.predicted, r.measured] for r in row.total}
        target.write_text(json.dumps(done))
    print(f"bytes of {len(done)} plans counted")


def by_memory(everything: dict[str, tuple[Any, Any]]) -> list[list[str]]:
    """Return the keys of what has the same memory, one list for each size."""
    found: dict[float, list[str]] = {}
    for key, (instance, _) in everything.items():
        found.setdefault(instance.topology.tiers[0].free_bytes, []).append(key)
    return list(found.values())


def shuffled(groups: list[list[str]], seed: int) -> list[str]:
    """Return the groups one after the other in a random order, each in a random order itself."""
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(groups)).tolist()
    return [key for number in order for key in draw.permutation(groups[number]).tolist()]


def do_time(work: Path, seconds: float, scratch: Path | None) -> None:
    """Time everything once a round, in another order and on other sequences, while time is left."""
    start, bench, target = time.perf_counter(), Bench(work, scratch), work / "times.json"
    each = max(1, TIMED[large(bench.model)] // SEQUENCE[large(bench.model)])
    tokens = tokens_of(work, bench.model, "heldout", COUNTED[large(bench.model)])
    rounds = json.loads(target.read_text()) if target.exists() else []
    everything = different_runs(work, bench.model, only_plans=False)
    groups = by_memory(everything)
    while time.perf_counter() - start < seconds:
        first = len(rounds) * each % (len(tokens) - each + 1)
        found: dict[str, Any] = {}
        for key in shuffled(groups, len(rounds)):
            instance, assignment = everything[key]
            run = bench.run(instance, assignment, tokens[first : first + each])
            row = compare(predict(instance, assignment), run, None)
            found[key] = {r.name: [r.predicted, r.measured] for r in row.total}
        rounds.append(found)
        target.write_text(json.dumps(rounds))
        do_calibrate(work, bench)
    print(f"{len(everything)} different assignments, {len(rounds)} rounds")


def do_table(work: Path) -> None:
    """Print what the rounds say."""
    from scipy.stats import spearmanr

    model = open_folder(work / "model")
    rounds = json.loads((work / "times.json").read_text())
    target = work / "counts.json"
    counts = json.loads(target.read_text()) if target.exists() else {}
    runs = runs_of(work, model)
    optimal, seen = [], set()
    print("memory  loss    predicted  measured  error   bytes error  held    grown")
    for name, (instance, assignment) in runs.items():
        key = _signature(assignment)
        if not name.endswith("|optimal") or key in seen:
            continue
        seen.add(key)
        share, loss, _ = name.split("|")
        token_s = float(np.median([r[key]["time"][1] for r in rounds]))
        predicted = predict(instance, assignment).token_s
        last = rounds[-1][key]
        moved = counts[key]["bytes"] if key in counts else (np.nan, np.nan)
        errors = [
            _off(predicted, token_s),
            _off(*moved),
            _off(*last["memory"]),
            _off(*last["grown"]),
        ]
        optimal.append((predicted, token_s, *errors))
        words = " ".join(f"{100 * error:+9.2f} %" for error in errors)
        print(f"{share:7} {loss:7} {1e3 * predicted:9.3f} {1e3 * token_s:9.3f} {words}")
    table = np.array(optimal)
    middle = 100 * np.nanmedian(np.abs(table[:, 2:]), axis=0)
    rank = spearmanr(table[:, 0], table[:, 1]).statistic
    print(
        f"\n{len(table)} different plans, {len(rounds)} rounds; median |error|: time "
        f"{middle[0]:.1f} %, bytes {middle[1]:.2f} % ({np.isfinite(table[:, 3]).sum()} plans), "
        f"held {middle[2]:.2f} %, grown {middle[3]:.2f} %; largest time error "
        f"{100 * np.abs(table[:, 2]).max():.1f} %; rank correlation {rank:.4f}"
    )
    _baselines(runs, rounds)


def _off(predicted: float, measured: float) -> float:
    return measured / predicted - 1 if predicted else (0.0 if not measured else np.inf)


def _baselines(runs: dict[str, Any], rounds: list[dict[str, Any]]) -> None:
    """Print in how many budgets the optimal plan is as fast as every rule, and by how much."""
    from scipy.stats import binomtest

    budgets: dict[str, dict[str, Any]] = {}
    for name, (_, assignment) in runs.items():
        share, loss, rule = name.split("|")
        budgets.setdefault(f"{share} {loss}", {})[rule] = _signature(assignment)
    wins, total, level, worst = 0, 0, 0, []
    for budget, rules in budgets.items():
        own = rules.pop("optimal")
        ratios = {n: _ratio(rounds, k, own) for n, k in rules.items() if k != own}
        if not ratios:
            continue
        total += 1
        name = min(ratios, key=lambda n: ratios[n][0])
        wins += ratios[name][0] >= 1
        level += all(high >= 1 for _, _, high in ratios.values())
        worst.append(ratios[name][0])
        print(
            f"  {budget:12} best rule {name}: {ratios[name][0]:.3f} of the plan's time "
            f"[{ratios[name][1]:.3f}, {ratios[name][2]:.3f}]"
        )
    if not total:
        return
    for number, words in (
        (wins, "is at least as fast as every rule"),
        (level, "is not slower than any rule beyond the interval"),
    ):
        low, high = binomtest(number, total).proportion_ci(method="wilson")
        print(
            f"the plan {words} in {number} of {total} budgets ({100 * number / total:.0f} %, 95 % "
            f"interval {100 * low:.0f} to {100 * high:.0f} %)"
        )
    print(f"median over the budgets: the best rule takes {np.median(worst):.3f} of the plan's time")


def _ratio(rounds: list[dict[str, Any]], rule: str, plan: str) -> tuple[float, float, float]:
    """Return time of the rule over that of the plan, with a 95 % bootstrap interval over rounds."""
    logs = np.log([r[rule]["time"][1] / r[plan]["time"][1] for r in rounds])
    draws = np.random.default_rng(0).integers(0, len(logs), (1000, len(logs)))
    low, high = np.percentile(np.median(logs[draws], axis=1), (2.5, 97.5))
    return float(np.exp(np.median(logs))), float(np.exp(low)), float(np.exp(high))


def main() -> None:
    """Run one step."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("prepare", "calibrate", "plan", "count", "time", "table"))
    parser.add_argument("work", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--text", type=Path, help="folder with calibration/ and heldout/ texts")
    parser.add_argument("--seconds", type=float, default=200.0, help="of count and time")
    parser.add_argument(
        "--scratch", type=Path, help="folder of the experts' file; WORK if not given"
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)
    steps = {
        "prepare": lambda: prepare(asked.work, asked.model, asked.text),
        "calibrate": lambda: do_calibrate(asked.work),
        "plan": lambda: do_plan(asked.work),
        "count": lambda: do_count(asked.work, asked.seconds, asked.scratch),
        "time": lambda: do_time(asked.work, asked.seconds, asked.scratch),
        "table": lambda: do_table(asked.work),
    }
    steps[asked.step]()


if __name__ == "__main__":
    main()
