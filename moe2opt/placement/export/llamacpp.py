"""llama.cpp: options that place the expert tensors of each layer.

``-ot`` takes pairs of a regular expression and a buffer type, separated by commas; the first that
is found in a tensor's name decides. One tensor holds all experts of a layer, so that a piece is a
layer or one of its three tensors. ``--fit off`` keeps llama.cpp from choosing by itself, and the
context is the one that the plan made room for: without ``-c`` it would be the model's longest.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from itertools import groupby

import numpy as np

from moe2opt.llamacpp import CACHE_BYTES, Line
from moe2opt.placement.assignment import Assignment
from moe2opt.placement.export.base import Export
from moe2opt.placement.export.families import family_of, layer_words
from moe2opt.placement.export.judge import Judge
from moe2opt.placement.export.project import Runtime, best, home_of
from moe2opt.placement.export.reporting import report
from moe2opt.placement.modes.units import TENSORS
from moe2opt.placement.plan import PlacementPlan
from moe2opt.result import InputError

RUNTIME = Runtime("llama.cpp", ("gpu", "cpu", "disk"), "tensor", "unit")

#: Kinds of tensors whose names a pattern must tell apart from those of routed experts.
OTHERS = ("ffn_gate_inp.weight", "ffn_up_shexp.weight", "ffn_down.weight", "attn_q.weight")


def export(judge: Judge) -> tuple[Export, ...]:
    """Return the options for a plan."""
    plan = judge.plan
    family = family_of(plan)
    if not family.architecture:
        raise InputError(f"--to llama.cpp: it has no architecture for {family.name}")
    _check_home(plan)
    assignment = best(judge, RUNTIME)
    pairs = overrides(plan, assignment)
    names = [*expert_names(plan), *other_names(plan)]
    if matched(names, pairs) != planned(plan, assignment):
        raise RuntimeError("the patterns of -ot do not match what is planned")
    text = options(plan, pairs)
    validated = (
        f"every pattern of -ot was run over {len(names)} tensor names of {plan.n_layers} layers "
        "and matches exactly the planned tensors",
    )
    found = report(judge, RUNTIME, assignment, notes=_notes(plan, assignment), validated=validated)
    extras = {"overrides": [list(pair) for pair in pairs]}
    return (
        Export("llama.cpp", "", f"{text}\n", f"llama-server -m MODEL.gguf {text}", found, extras),
    )


def _check_home(plan: PlacementPlan) -> None:
    kinds = [tier.kind for tier in plan.tiers]
    if "gpu" in kinds and kinds[home_of(plan)] != "gpu":
        raise InputError(
            f"--to llama.cpp: the dense part is on '{plan.home}' although there is a GPU; such a "
            "plan cannot be expressed"
        )


def options(plan: PlacementPlan, pairs: Sequence[tuple[str, str]]) -> str:
    """Return the options as typed in a shell."""
    gpus = _gpus(plan)
    words = ["-ngl", "99" if gpus else "0", "--fit", "off"]
    if len(gpus) > 1:
        main = ",".join("1" if t == home_of(plan) else "0" for t in gpus)
        words += ["-ts", main]
    if pairs:
        words += ["-ot", ",".join(f"{pattern}={buffer}" for pattern, buffer in pairs)]
    words += _context(plan)
    return " ".join(shlex.quote(word) for word in words)


def _context(plan: PlacementPlan) -> list[str]:
    """Return what the plan's room for a context assumes, nothing where it made none."""
    assumed = plan.assumed
    if not assumed.context_tokens:
        return []
    kind, each = _cache_type(assumed.kv_bits), Line(context_tokens=assumed.context_tokens)
    return [
        *("-c", str(assumed.context_tokens), "-ctk", kind, "-ctv", kind, "-fa", "on"),
        *("-ub", str(each.ubatch), "-b", str(each.batch), "-np", str(assumed.sequences)),
    ]


def _cache_type(bits: float) -> str:
    """Return the widest format of the context that has at most so many bits."""
    fitting = [name for name, size in CACHE_BYTES.items() if 8 * size <= bits]
    if not fitting:
        least = min(CACHE_BYTES, key=CACHE_BYTES.__getitem__)
        raise InputError(
            f"--to llama.cpp: model.kv_bits: a context of {bits:g} bits; the narrowest format is "
            f"{least} ({8 * CACHE_BYTES[least]:g} bits)"
        )
    return max(fitting, key=CACHE_BYTES.__getitem__)


def _gpus(plan: PlacementPlan) -> list[int]:
    device = plan.tiers[home_of(plan)].device
    return [t for t, tier in enumerate(plan.tiers) if tier.kind == "gpu" and tier.device == device]


def buffer_of(plan: PlacementPlan, tier: int) -> str:
    """Return the buffer type of a tier; empty for the home tier, which needs no override."""
    if tier == home_of(plan):
        return ""
    gpus = _gpus(plan)
    return f"CUDA{gpus.index(tier)}" if tier in gpus else "CPU"


def overrides(plan: PlacementPlan, assignment: Assignment) -> list[tuple[str, str]]:
    """Return pairs of pattern and buffer type, one for each set of tensors that go together."""
    by_kind: dict[tuple[str, str], list[int]] = {}
    for row, layer in enumerate(plan.layers):
        for parts, buffer in _layer_buffers(plan, assignment, row).items():
            by_kind.setdefault((parts, buffer), []).append(layer)
    return [
        (rf"blk\.({numbers_pattern(layers)})\.ffn_({parts})_(ch|)exps", buffer)
        for (parts, buffer), layers in by_kind.items()
    ]


def _layer_buffers(plan: PlacementPlan, assignment: Assignment, row: int) -> dict[str, str]:
    """Return the buffer of each alternation of tensor kinds of a layer that needs one."""
    tiers = assignment.tier[row, 0]
    each = np.broadcast_to(tiers, (len(TENSORS),)).tolist()
    buffers: dict[str, list[str]] = {}
    for part, tier in zip(TENSORS, each, strict=True):
        if buffer := buffer_of(plan, tier):
            buffers.setdefault(buffer, []).append(part)
    both = ("gate", "up")
    return {
        "|".join([*parts, *(["gate_up"] if set(both) <= set(parts) else [])]): buffer
        for buffer, parts in buffers.items()
    }


def numbers_pattern(numbers: Iterable[int]) -> str:
    """Return an alternation that matches exactly these numbers between two dots.

    Only what Python and ECMAScript share, and no comma, which would end the pattern.

    >>> numbers_pattern([0, 1, 2, 3, 9, 20, 21, 22, 35])
    '[0-3]|9|2[0-2]|35'
    """
    found = []
    for tens, group in groupby(sorted(set(numbers)), key=lambda n: n // 10):
        prefix = str(tens) if tens else ""
        for a, b in _runs([n % 10 for n in group]):
            if b - a >= 2:
                found.append(f"{prefix}[{a}-{b}]")
            else:
                found += [f"{prefix}{d}" for d in range(a, b + 1)]
    return "|".join(found)


def _runs(digits: list[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for digit in digits:
        if runs and digit == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], digit)
        else:
            runs.append((digit, digit))
    return runs


def expert_names(plan: PlacementPlan) -> list[str]:
    """Return the names of the tensors of routed experts in the naming scheme of GGUF."""
    return [f"blk.{layer}.ffn_{part}_exps.weight" for layer in plan.layers for part in TENSORS]


def other_names(plan: PlacementPlan) -> list[str]:
    """Return names of tensors that no pattern may match."""
    return [f"blk.{layer}.{other}" for layer in range(plan.n_layers) for other in OTHERS]


def planned(plan: PlacementPlan, assignment: Assignment) -> dict[str, str]:
    """Return the buffer type of every tensor of experts that is not on the home tier."""
    tiers = np.broadcast_to(assignment.tier[:, 0, :], (len(plan.layers), len(TENSORS)))
    buffers = [buffer_of(plan, t) for t in tiers.ravel().tolist()]
    return {n: b for n, b in zip(expert_names(plan), buffers, strict=True) if b}


def matched(names: Iterable[str], pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the buffer type that llama.cpp gives each name: the first pattern found in it."""
    compiled = [(re.compile(pattern), buffer) for pattern, buffer in pairs]
    found = {}
    for name in names:
        first = next((buffer for pattern, buffer in compiled if pattern.search(name)), None)
        if first is not None:
            found[name] = first
    return found


def _notes(plan: PlacementPlan, assignment: Assignment) -> list[str]:
    notes = [
        "llama.cpp keeps all experts of a layer in one tensor of each kind: single experts cannot "
        "be placed"
    ]
    assumed = plan.assumed
    if assumed.context_tokens:
        notes.append(
            f"room for {assumed.context_tokens:,} tokens of context is part of the plan, compute "
            "buffers of llama.cpp are not: margin_gib of a GPU must hold them (`moe2opt place` "
            "counts them by device)"
        )
        kind = _cache_type(assumed.kv_bits)
        if 8 * CACHE_BYTES[kind] < assumed.kv_bits:
            notes.append(f"it has no context of {assumed.kv_bits:g} bits; {kind} takes less")
    else:
        notes.append(
            "the plan makes no room for a context (model.context_tokens is 0): without -c "
            "llama.cpp reserves the longest that the model knows, which may not fit"
        )
    if len(plan.precisions) > 1:
        formats = _formats(plan, assignment)
        notes.append(f"the GGUF file must hold these formats, which -ot does not set: {formats}")
    elsewhere = {plan.tiers[t].name: plan.tiers[t].kind for t in np.unique(assignment.tier)}
    disks = [name for name, kind in elsewhere.items() if kind == "disk"]
    if disks:
        notes.append(
            f"{', '.join(disks)} and memory of the CPU are one mapped file to llama.cpp: the "
            "system decides which pages stay in memory, and the CPU computes"
        )
    if len(_gpus(plan)) > 1:
        notes.append("the numbering CUDA0, CUDA1 follows the order of the tiers; not run here")
    if not family_of(plan).name:
        notes.append(f"'{plan.model}' is of no known family: the usual tensor names are assumed")
    return notes


def _formats(plan: PlacementPlan, assignment: Assignment) -> str:
    by_format: dict[str, list[int]] = {}
    for row, layer in enumerate(plan.layers):
        names = [plan.precisions[q].name for q in assignment.precision[row, 0].tolist()]
        same = len(set(names)) == 1
        pairs = zip(TENSORS, names, strict=False)
        word = names[0] if same else "/".join(f"{part} {name}" for part, name in pairs)
        by_format.setdefault(word, []).append(layer)
    return "; ".join(f"{word} in layers {layer_words(rows)}" for word, rows in by_format.items())
