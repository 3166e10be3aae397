"""Fit the rates of a machine to runs of ``llama-bench`` and ``llama-sweep-bench`` on it.

The seconds of a token are those that the plan's own model of speed gives, part by part: devices,
bytes in RAM, hand-overs to the processor; and of a prompt token, devices and copies from RAM. Each
part gets a factor that the runs fit, drawn to 1, so that what no run shows stays as it was.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from moe2opt.errors import InputError
from moe2opt.files import read_text
from moe2opt.llamacpp import CPU, Layout, LlamaModel
from moe2opt.llamacpp.layout import experts_in_ram, homes_of
from moe2opt.place.case import Case
from moe2opt.place.judge import Judge
from moe2opt.place.machine import expanded, machine_of
from moe2opt.place.sections import PlaceConfig, Rates
from moe2opt.profiles.fitting.robust import robust_nnls, upper_error
from moe2opt.profiles.llamabench.formats import LEAST_RATE, MOST_RATE, BenchTest, read_rows
from moe2opt.profiles.llamabench.reading import is_sparse, parse_model, scattered
from moe2opt.profiles.llamabench.sweep import is_sweep, read_sweep
from moe2opt.result import BoolArray, FloatArray

#: A file of this relative size is the model that is placed.
_SAME = 0.05

#: How far a factor may stray from 1, and how well a good run repeats.
_ANSWER_SPREAD = np.array([0.5, 1.5, 1.5])
_PROMPT_SPREAD = np.array([2.0, 1.5])
_NOISE = 0.05

#: No part is taken to be faster than this share of its seconds: runs that contradict each other.
_LEAST_FACTOR = 1e-3

#: Runs that count as much as the interval of the tables, and the least interval.
_PRIOR_RUNS, _LEAST = 3.0, math.log(1.05)


@dataclass(frozen=True, slots=True)
class Timed:
    """A run: one phase of one model.

    Attributes
    ----------
    where
        File and line.
    prompt
        Whether it read a prompt; else it answered.
    tokens, depth, ubatch
        How many, after how many, how many at once.
    seconds
        Per token.
    gpu_layers, cpu_experts, overrides
        ``-ngl`` (None: all), ``-ncmoe`` and ``-ot``.
    alone
        Whether the runtime knew no device.
    bytes, params, active_params, sparse
        Of the model, and whether it has experts; None where it is the model that is placed.
    """

    where: str
    prompt: bool
    tokens: int
    depth: int
    ubatch: int
    seconds: float
    gpu_layers: int | None
    cpu_experts: int
    overrides: str
    alone: bool = False
    bytes: float | None = None
    params: float = 0.0
    active_params: float | None = None
    sparse: bool = False


def calibrated(config: PlaceConfig, model: LlamaModel, files: Sequence[Path]) -> PlaceConfig:
    """Return a configuration with the rates of runs on its machine.

    Raises
    ------
    InputError
        When a file is foreign, or no run of them can be used; a bad row never stops the rest.
    """
    notes: list[str] = []
    runs = [run for file in files for run in _read(file, notes)]
    own = expanded(config)
    case = Case(own, model, machine_of(own))
    rows: dict[bool, list[tuple[Timed, list[float]]]] = {False: [], True: []}
    for run in runs:
        try:
            rows[run.prompt].append((run, _parts(case, run)))
        except InputError as error:
            notes.append(f"{run.where}: left out: {error}")
    if not rows[False] and not rows[True]:
        raise InputError(f"--calibrate: no run can be used: {'; '.join(notes)[:400]}")
    return config.model_copy(update=_fitted(case, rows, notes))


def noted(config: PlaceConfig, note: str) -> PlaceConfig:
    """Return a configuration whose plans say one thing more."""
    rates = config.rates.model_copy(update={"notes": (*config.rates.notes, note)})
    return config.model_copy(update={"rates": rates})


def _fitted(
    case: Case, rows: dict[bool, list[tuple[Timed, list[float]]]], notes: list[str]
) -> dict[str, object]:
    """Return the sections that change."""
    machine, told, assumed = case.machine, list[str](), list[str]()
    values: dict[str, object] = {}
    changes: dict[str, object] = {}
    device = max(machine.devices, key=lambda d: d.capacity_bytes, default=None)
    if rows[False]:
        factors, spread, seen = _fit(rows[False], _ANSWER_SPREAD, device.spread if device else 2.0)
        values |= {"answers": _short(factors[0]), "spread": _short(spread)}
        told.append(f"answers on devices take {factors[0]:.2f} of the tables' time")
        if seen[1]:
            attained = 1e-9 / (factors[1] * machine.ram_byte_s)
            values |= {
                "ram_gb_per_s": _short(attained),
                "ram_layer_us": _short(1e6 * factors[2] * machine.ram_layer_s),
            }
            told.append(f"RAM {attained:.3g} GB/s")
        else:
            assumed.append("the rate of RAM")
    else:
        assumed.append("answers")
    if rows[True]:
        spread_of = device.prompt_spread if device else 4.0
        factors, spread, seen = _fit(rows[True], _PROMPT_SPREAD, spread_of)
        values |= {"prompts": _short(factors[0]), "prompt_spread": _short(spread)}
        told.append(f"prompts take {factors[0]:.2f} of the tables' time")
        if seen[1]:
            copies = 1e-9 / (factors[1] * machine.copy_byte_s)
            changes["pcie_gb_per_s"] = _short(copies)
            told.append(f"copies go at {copies:.3g} GB/s")
        else:
            assumed.append("copies from RAM")
    else:
        assumed.append("prompts")
    counts = f"{len(rows[False])} runs of answers and {len(rows[True])} of prompts"
    first = f"fitted to {counts} on this machine: {', '.join(told)}"
    if assumed:
        first += f"; as assumed: {', '.join(assumed)}"
    return {**changes, "rates": Rates.model_validate({**values, "notes": (first, *notes)})}


def _short(value: float) -> float:
    """Return three digits: more than any run is repeatable to."""
    return float(f"{value:.3g}")


def _fit(
    rows: Sequence[tuple[Timed, list[float]]], stray: FloatArray, prior: float
) -> tuple[list[float], float, list[bool]]:
    """Return the factors of the parts, the factor of the interval, and which parts were seen."""
    columns = np.array([parts for _, parts in rows])
    target = np.array([run.seconds for run, _ in rows])

    def factors(keep: BoolArray) -> FloatArray:
        every, ones = np.ones(int(keep.sum())), np.ones(columns.shape[1])
        found = robust_nnls(columns[keep], target[keep], every, ones, stray, _NOISE)
        return np.maximum(found, _LEAST_FACTOR)

    errors = []
    for k in range(len(rows)):
        predicted = float(columns[k] @ factors(np.arange(len(rows)) != k))
        errors.append(abs(math.log(predicted / target[k])))
    # A few runs do not say how far the next one is off: the tables' interval counts as three.
    share, prior_log = len(rows) / (len(rows) + _PRIOR_RUNS), math.log(prior)
    # A run that alone shows a part cannot be predicted from the others.
    seen = min(max(upper_error(errors, 0.9), _LEAST), 2 * prior_log)
    log = share * seen + (1 - share) * prior_log
    least = 0.02 * float(target.min())
    return (
        factors(np.ones(len(rows), dtype=bool)).tolist(),
        math.exp(log),
        [bool(columns[:, k].max() > least) for k in range(columns.shape[1])],
    )


# ------------------------------------------------------------------ parts of a run


def _parts(case: Case, run: Timed) -> list[float]:
    """Return the seconds per token of each part, by the model of speed as it is."""
    if run.ubatch < 1:
        raise InputError(f"n_ubatch: {run.ubatch} tokens at once")
    if run.bytes is not None and abs(run.bytes / case.model.bytes - 1) > _SAME:
        return _of_another(case, run)
    layout = _layout(case, run)
    own = _at(case, run)
    judge = Judge(own)
    if run.prompt:
        in_ram = sum(
            (home is None) * layer.other_bytes
            + sum(part * layer.expert_bytes for device, part in experts if device is None)
            for layer, home, experts in judge.parts(layout)
        )
        is_copied = own.backend.copies and bool(judge.used(layout))
        copied = is_copied * in_ram * own.machine.copy_byte_s / run.ubatch
        return [judge.prompt_s(layout, run.ubatch) - copied, copied]
    devices = sum(s for device, s in judge.answer_parts(layout) if device is not None)
    in_ram = sum(s for device, s in judge.answer_parts(layout) if device is None)
    hops = own.machine.ram_layer_s * sum(
        device is None for _, _, experts in judge.parts(layout) for device, _ in experts
    )
    return [devices, max(in_ram - hops, 0.0), hops]


def _of_another(case: Case, run: Timed) -> list[float]:
    """Return the parts of a model of which only its sizes are known."""
    if not case.machine.devices or run.bytes is None:
        raise InputError("another model, and no device to run it on")
    if run.cpu_experts or run.overrides or (run.gpu_layers is not None and run.gpu_layers < 99):
        raise InputError("part of another model ran on the processor")
    if run.sparse and run.active_params is None:
        raise InputError("another model with experts, whose name does not say what a token uses")
    device = case.machine.devices[0]
    active = run.active_params or run.params
    moe = run.active_params is not None
    if run.prompt:
        return [2.0 * active * device.operation_s[moe], 0.0]
    size = run.bytes * active / run.params
    return [device.reading_s(size, active) + device.fixed_s + moe * device.routed_s, 0.0, 0.0]


def _layout(case: Case, run: Timed) -> Layout:
    """Return where the layers of the model that is placed were."""
    model, devices = case.model, case.machine.devices
    on_devices = run.gpu_layers if devices else 0
    if on_devices is not None and on_devices < 0:
        on_devices = None
    if run.prompt and on_devices == 0 and devices and not run.alone:
        # A device reads prompts all the same: what lies in RAM is copied to it.
        on_devices = 1
    shares = [float(case.usable_bytes(d)) for d in range(len(devices))] or [1.0]
    homes = homes_of(model.blocks, shares, on_devices)
    experts = experts_in_ram(model, run.cpu_experts) if run.cpu_experts else {}
    for rule in filter(None, re.split(r"[;,]", run.overrides)):
        pattern, _, place = rule.rpartition("=")
        if place != "CPU":
            raise InputError(f"-ot {rule}: only what stays on the CPU is understood")
        try:
            tensors = re.compile(pattern)
        except re.error as error:
            raise InputError(f"-ot {rule}: no regular expression") from error
        for layer in model.layers:
            for matrix in layer.experts:
                if tensors.search(f"blk.{layer.index}.ffn_{matrix}_exps.weight"):
                    experts = {**experts, layer.index: dict.fromkeys(layer.experts, CPU)}
    return Layout(homes, experts)


def _at(case: Case, run: Timed) -> Case:
    """Return the case with the depth and micro-batch of a run."""
    depth = run.depth + (0 if run.prompt else run.tokens // 2)
    context = case.config.context.model_copy(
        update={"tokens": max(depth, 1), "depth": depth, "parallel": 1}
    )
    return replace(case, config=case.config.model_copy(update={"context": context}))


# ------------------------------------------------------------------ files


def _read(file: Path, notes: list[str]) -> Iterable[Timed]:
    if is_sweep(read_text(file)):
        yield from _of_sweep(file, notes)
        return
    faults: list[str] = []
    for test in read_rows(file, faults):
        try:
            test.check()
            found = _of_test(test)
        except InputError as error:
            faults.append(str(error))
            continue
        if found is None:
            notes.append(f"{file}:{test.line}: left out: one rate for prompt and generation")
        else:
            yield found
    notes += [f"{fault}; left out" for fault in faults]


def _of_test(test: BenchTest) -> Timed | None:
    prompt, answer = int(test.number("n_prompt")), int(test.number("n_gen"))
    if bool(prompt) == bool(answer):
        return None
    _, _, active = parse_model(test.text("model_type"))
    for reason in scattered(test):
        raise test.fault(reason)
    layers = test.text("n_gpu_layers")
    on_processor = test.backends in ("CPU", "BLAS")
    overrides = test.text("tensor_buft_overrides")
    return Timed(
        where=f"{test.path}:{test.line}",
        prompt=bool(prompt),
        tokens=prompt or answer,
        depth=int(test.number("n_depth")) if test.text("n_depth") else 0,
        ubatch=int(test.number("n_ubatch")) if test.text("n_ubatch") else 512,
        seconds=1.0 / test.number("avg_ts"),
        gpu_layers=0 if on_processor else int(layers) if layers.lstrip("-").isdigit() else None,
        cpu_experts=int(test.number("n_cpu_moe")) if test.text("n_cpu_moe") else 0,
        overrides="" if overrides == "none" else overrides,
        alone=on_processor,
        bytes=test.number("model_size"),
        params=test.number("model_n_params"),
        active_params=None if active is None else 1e9 * float(active),
        sparse=is_sparse(test),
    )


def _of_sweep(file: Path, notes: list[str]) -> Iterator[Timed]:
    """Yield the steps of a sweep; its model is taken for the one that is placed."""
    sweep = read_sweep(file)
    notes += [f"{fault}; left out" for fault in sweep.faults]
    notes.append(f"{file}: the model of the sweep is taken for the one that is placed")
    if sweep.cpu_experts is None and not sweep.overrides:
        notes.append(f"{file}: no -ncmoe is told: all experts are taken for on the devices")
    for step in sweep.steps:
        for prompt, tokens, rate in (
            (True, step.prompt_tokens, step.prompt_tok_s),
            (False, step.answer_tokens, step.answer_tok_s),
        ):
            if tokens and rate > 0 and not LEAST_RATE <= rate <= MOST_RATE:
                where = f"{file}:{step.line}"
                notes.append(f"{where}: left out: {rate:g} tokens/s are no rate of a machine")
            elif tokens and rate > 0:
                yield Timed(
                    f"{file}:{step.line}", prompt, tokens, step.depth, sweep.ubatch or tokens,
                    1.0 / rate, sweep.gpu_layers, sweep.cpu_experts or 0, sweep.overrides,
                )  # fmt: skip
