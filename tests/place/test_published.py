"""Plans beside what people found fastest by hand, on machines of which enough is stated."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from llama_models import model

import moe2opt as mo
from moe2opt.llamacpp import LlamaModel
from moe2opt.place import PlaceConfig, PlacePlan
from moe2opt.place.question import instance_of

#: Source, geometry, bytes of the file, card, context, layers with experts in RAM, tokens/s.
FOUND = [
    ("ik_llama.cpp issue 1593", "qwen35-35b", 21e9, "RTX 5060 Ti 16GB", 65536, 14, 62.3),
    ("ik_llama.cpp issue 1593", "qwen35-35b", 25e9, "RTX 5060 Ti 16GB", 65536, 18, 49.9),
    ("ai-maestro.online", "gpt-oss-120b", 65.37e9, "RTX 3090", 4096, 25, 33.14),
]

#: Pages that state less: model, bytes, card, its size and bandwidth, context, micro-batch, format
#: of the context, layers with experts in RAM that were fastest of those tried, and what lacks.
LESS = [
    ("qwen35-35b", 21.70e9, "RTX 5090", (32, 1792), 2048, 512, "f16", "0", "context"),
    (
        "qwen35-35b",
        19.67e9,
        "RDNA4, 16 GB",
        (16, 640),
        2048,
        512,
        "f16",
        "8 of 0, 8, 16 ...",
        "name of the card, context",
    ),
    (
        "qwen35-35b",
        22.12e9,
        "RTX 5060 Ti 16GB",
        (16, 448),
        2048,
        512,
        "f16",
        "14 (`-fitt 300`)",
        "context; a part of a layer counts as one",
    ),
    ("gpt-oss-120b", 65.37e9, "RTX 3090", (24, 936), 8192, 8192, "f16", "28", "context"),
    (
        "qwen35-35b",
        22.34e9,
        "RTX 4060 Laptop",
        (8, 256),
        8192,
        2048,
        "q8_0",
        "36 (32: out of memory)",
        "what the screen takes, context",
    ),
    (
        "qwen35-35b",
        22.0e9,
        "RTX 3060",
        (12, 360),
        153600,
        512,
        "q4_0",
        "16 of 12, 16, 20",
        "size of the file, micro-batch",
    ),
    (
        "qwen35-35b",
        22.12e9,
        "RX 9070 XT",
        (16, 644),
        48640,
        512,
        "f16",
        "22, nothing else tried",
        "size of the file",
    ),
    (
        "qwen35-35b",
        18.2e9,
        "AMD, 16 GB",
        (16, 600),
        32768,
        2048,
        "q4_0",
        "16",
        "name of the card; the file holds a draft",
    ),
    (
        "qwen35-35b",
        18.2e9,
        "AMD, 16 GB",
        (16, 600),
        262144,
        512,
        "q4_0",
        "21",
        "name of the card; the file holds a draft",
    ),
    (
        "qwen35-35b",
        25.34e9,
        "RTX 4070",
        (12, 504),
        2048,
        512,
        "q8_0",
        "36, nothing else tried",
        "context",
    ),
    (
        "qwen35-35b",
        22.0e9,
        "RTX 4070, WSL2",
        (12, 504),
        2048,
        512,
        "f16",
        "all",
        "context; below 44 the driver pages",
    ),
]


def scaled(name: str, size: float) -> LlamaModel:
    """Return a model whose tensors are all larger or smaller, as in another quantisation."""
    own = model(name)
    factor = size / own.bytes
    layers = tuple(
        dataclasses.replace(
            layer,
            other_bytes=round(layer.other_bytes * factor),
            largest_other_bytes=round(layer.largest_other_bytes * factor),
            experts={matrix: round(held * factor) for matrix, held in layer.experts.items()},
        )
        for layer in own.layers
    )
    return dataclasses.replace(
        own,
        layers=layers,
        input_bytes=round(own.input_bytes * factor),
        output_bytes=round(own.output_bytes * factor),
    )


@pytest.mark.parametrize("case", FOUND, ids=lambda case: f"{case[3]} {case[2] / 1e9:g} GB")
def test_as_many_layers_in_ram_as_people_found_fastest(
    case: tuple[str, str, float, str, int, int, float], checkout: Path
) -> None:
    """Layers in RAM are within one of the fastest by hand, and its speed is inside the interval."""
    source, name, size, card, tokens, layers, rate = case
    config = PlaceConfig.model_validate(
        {
            "problem": "place", "model": "m.gguf", "gpus": [{"name": card}], "ram": {"gib": 128},
            "context": {"tokens": tokens, "depth": 0},
        }
    )  # fmt: skip
    plan: PlacePlan = mo.solve(instance_of(config, scaled(name, size))).plan
    found = sum(layer["experts"] == "cpu" for layer in plan.layers)
    assert abs(found - layers) <= 1
    assert plan.decode.low < rate < plan.decode.high
    guide = (checkout / "docs" / "guides" / "fit-a-model.md").read_text(encoding="utf-8")
    assert (
        f"| {source} | {name}, {size / 1e9:g} GB | {card} | {tokens:,} | {layers} | {found} | "
        f"{rate:g} | {plan.decode.value:.0f} ({plan.decode.low:.0f} to {plan.decode.high:.0f}) |"
    ) in guide


@pytest.mark.parametrize("case", LESS, ids=lambda case: f"{case[2]} {case[1] / 1e9:g} GB")
def test_what_is_planned_is_shown_where_less_is_stated(
    case: tuple[str, float, str, tuple[float, float], int, int, str, str, str], checkout: Path
) -> None:
    """The guide prints the layers in RAM of the plan beside those of pages that state less."""
    name, size, card, (gib, rate), tokens, ubatch, kind, found, lacks = case
    config = PlaceConfig.model_validate(
        {
            "problem": "place", "model": "m.gguf", "ubatch": [ubatch], "ram": {"gib": 128},
            "gpus": [{"gib": gib, "gb_per_s": rate}],
            "context": {"tokens": tokens, "depth": 0, "type_k": kind, "type_v": kind},
        }
    )  # fmt: skip
    plan: PlacePlan = mo.solve(instance_of(config, scaled(name, size))).plan
    planned = sum(layer["experts"] == "cpu" for layer in plan.layers)
    guide = (checkout / "docs" / "guides" / "fit-a-model.md").read_text(encoding="utf-8")
    assert (
        f"| {name}, {size / 1e9:g} GB | {card} | {tokens:,} | {ubatch} | {kind} | {found} | "
        f"{planned} | {lacks} |"
    ) in guide
