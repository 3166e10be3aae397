"""Options for llama.cpp, run over the tensor names of the GGUF naming scheme."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_plans import CPU, DISK, GPU, make_plan, tier

from moe2opt.huggingface.modules import FAMILIES
from moe2opt.placement import PlacementPlan
from moe2opt.placement.export import export
from moe2opt.placement.export.llamacpp import matched, numbers_pattern
from moe2opt.placement.figures import Assumed
from moe2opt.result import InputError

KINDS = ("gate", "up", "down")


def gguf_names(architecture: str, layers: int) -> list[str]:
    """Return every tensor name of an architecture, weights and biases."""
    gguf = pytest.importorskip("gguf", reason="the GGUF naming scheme comes from the package gguf")
    arch = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}[architecture]
    stems = [gguf.TENSOR_NAMES[kind] for kind in gguf.MODEL_TENSORS[arch]]
    found = {stem.format(bid=layer) for stem in stems for layer in range(layers)}
    return [f"{name}.{end}" for name in sorted(found) for end in ("weight", "bias")]


def parsed(text: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the words and the pairs of -ot, split as llama.cpp does: at commas, then at ``=``."""
    words = shlex.split(text)
    if "-ot" not in words:
        return words, []
    pairs = [part.split("=") for part in words[words.index("-ot") + 1].split(",")]
    assert all(len(pair) == 2 for pair in pairs)
    return words, [(pattern, buffer) for pattern, buffer in pairs]


def wanted(names: list[str], buffers: dict[tuple[int, str], str]) -> dict[str, str]:
    """Return the planned buffer of every tensor of routed experts, found without patterns."""
    found = {}
    for name in names:
        words = name.split(".")
        kind = words[2] if len(words) > 2 and words[0] == "blk" else ""
        if not kind.startswith("ffn_") or not kind.endswith(("_exps", "_chexps")):
            continue
        part = kind.removeprefix("ffn_").removesuffix("_exps").removesuffix("_chexps")
        needed = {"gate_up": ("gate", "up")}.get(part, (part,))
        of = {buffers.get((int(words[1]), p)) for p in needed if p in KINDS}
        if len(of) == 1 and (buffer := of.pop()):
            found[name] = buffer
    return found


@pytest.mark.parametrize(
    "architecture", sorted({f.architecture for f in FAMILIES if f.architecture} | {"grovemoe"})
)
@pytest.mark.parametrize("seed", range(4))
def test_patterns_match_exactly_the_planned_tensors(architecture: str, seed: int) -> None:
    """Over all tensor names of an architecture, -ot picks the planned tensors and no other."""
    rng = np.random.default_rng(seed)
    layers = 47
    where = np.broadcast_to(rng.integers(0, 3, (layers, 1, 3)), (layers, 2, 3))
    tiers = (GPU, tier("second", "gpu", 90.0), CPU)
    big = (tier("vram", "gpu", 90.0), *tiers[1:])
    (made,) = export(make_plan(where, tiers=big), "llama.cpp")
    words, pairs = parsed(made.text)
    assert words[:4] == ["-ngl", "99", "--fit", "off"]
    assert words[words.index("-ts") + 1] == "1,0"
    names = gguf_names(architecture, layers)
    buffers = {
        (layer, kind): ("", "CUDA1", "CPU")[where[layer, 0, k]]
        for layer in range(layers)
        for k, kind in enumerate(KINDS)
    }
    assert matched(names, pairs) == wanted(names, buffers)
    assert made.report.gap == 0.0


@given(st.sets(st.integers(0, 130), min_size=1))
def test_number_patterns(numbers: set[int]) -> None:
    """The alternation matches the given numbers and no others, in a safe regular expression."""
    pattern = numbers_pattern(numbers)
    assert re.fullmatch(r"[0-9|\[\]-]+", pattern)
    whole = re.compile(rf"blk\.({pattern})\.")
    assert {n for n in range(1400) if whole.search(f"blk.{n}.x")} == numbers


def test_all_on_the_gpu_needs_no_override() -> None:
    """A plan that keeps everything at home has no -ot but still switches --fit off."""
    (made,) = export(make_plan(np.zeros((2, 4))), "llama.cpp")
    assert made.text == "-ngl 99 --fit off\n"


def test_without_a_gpu_nothing_is_offloaded() -> None:
    """Where the home tier is memory of the CPU, no layer goes to a GPU."""
    (made,) = export(make_plan([[0, 1], [1, 1]], tiers=(CPU, DISK)), "llama.cpp")
    words, pairs = parsed(made.text)
    assert words[:2] == ["-ngl", "0"]
    assert {buffer for _, buffer in pairs} <= {"CPU"}


def test_single_experts_and_formats_are_said(plan: PlacementPlan) -> None:
    """The report says that single experts and formats cannot be set."""
    (made,) = export(plan, "llama.cpp")
    text = made.report.summary()
    assert "single experts cannot be placed" in text
    assert "the GGUF file must hold these formats" in text
    assert made.report.unit == "layer"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "Switch-Base-8"}, "no architecture for Switch Transformers"),
        ({"granularity": "pipeline"}, "a pipeline over devices cannot be expressed"),
        ({"home": "dram"}, "the dense part is on 'dram' although there is a GPU"),
    ],
)
def test_refusals(changes: dict[str, Any], words: str) -> None:
    """What llama.cpp cannot do is refused with its reason."""
    with pytest.raises(InputError, match=words):
        export(make_plan([[0, 1]], **changes), "llama.cpp")


@pytest.mark.parametrize(("bits", "kind"), [(16, "f16"), (8.5, "q8_0"), (4.5, "q4_0"), (8, "q5_1")])
def test_the_line_says_the_context_that_the_plan_assumes(bits: float, kind: str) -> None:
    """Length, format, attention, batches and sequences of the plan's context stand in the line."""
    plan = replace(make_plan([[0] * 4] * 2), assumed=Assumed(4096, bits, sequences=2))
    (found,) = export(plan, "llama.cpp")
    assert f"-c 4096 -ctk {kind} -ctv {kind} -fa on -ub 512 -b 2048 -np 2" in found.text
    assert any("4,096 tokens" in note for note in found.report.notes)
    assert any("8 bits; q5_1 takes less" in note for note in found.report.notes) is (bits == 8)
    assert type(plan).from_dict(plan.to_dict()).assumed == plan.assumed


def test_a_line_without_context_says_so() -> None:
    """A plan without room for a context gives no -c, and says what llama.cpp then does."""
    plan = make_plan([[0] * 4] * 2)
    (found,) = export(plan, "llama.cpp")
    assert "-c" not in found.text.split()
    assert any("model.context_tokens is 0" in note for note in found.report.notes)
    with pytest.raises(InputError, match="kv_bits: a context of 2 bits"):
        export(replace(plan, assumed=Assumed(512, 2.0)), "llama.cpp")
