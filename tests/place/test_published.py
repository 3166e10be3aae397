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
