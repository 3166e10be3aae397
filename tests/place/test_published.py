"""Plans beside what people found fastest by hand, on machines of which enough is stated."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

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


@dataclasses.dataclass(frozen=True)
class Page:
    """A run that a page found fastest by hand, without stating all that decides it.

    Attributes
    ----------
    model, size, card, gib, gb_per_s
        Geometry, bytes of the file, and the card.
    tokens, ubatch, kind
        Context, micro-batch and format of the context: stated, or taken as usual.
    found, layers
        What the page says, and the layers with experts in RAM that it stands for, if any.
    lacks
        What is not stated.
    change, words
        The one assumption with which the plan is within one layer, as settings and in words.
    """

    model: str
    size: float
    card: str
    gib: float
    gb_per_s: float
    tokens: int
    ubatch: int
    kind: str
    found: str
    layers: int | None
    lacks: str
    change: dict[str, Any]
    words: str


#: Pages that state less.
LESS = [
    Page("gpt-oss-120b", 65.37e9, "RTX 3090", 24, 936, 4096, ub, "f16", str(n), n,
         "format of the context, what else is on the card", change, words)
    for ub, n, change, words in (
        (256, 25, {}, "as it is"),
        (512, 26, {"margin_gib": 2.0}, "1.25 GiB more on the card"),
        (2048, 25, {}, "as it is"),
        (4096, 26, {"margin_gib": 2.0}, "1.25 GiB more on the card"),
    )
] + [
    Page("gpt-oss-120b", 65.37e9, "RTX 3090", 24, 936, 8192, 8192, "f16", "28", 28,
         "build", {"margin_gib": 5.25}, "4.5 GiB more: a build that keeps all logits of a batch"),
    Page("qwen35-35b", 21.7e9, "RTX 5090", 32, 1792, 2048, 512, "f16", "0", 0,
         "context", {}, "as it is"),
    Page("qwen35-35b", 19.67e9, "RDNA4, 16 GB", 16, 640, 2048, 512, "f16", "8 of 0, 8, 16 ...", 8,
         "name of the card, context", {}, "as it is"),
    Page("qwen35-35b", 22.12e9, "RTX 5060 Ti 16GB", 16, 448, 2048, 512, "f16",
         "14 (`-fitt 300`, parts count)", 14, "what else is on the card",
         {"margin_gib": 1.0}, "0.25 GiB more on the card"),
    Page("qwen35-35b", 25e9, "RTX 5060 Ti 16GB", 16, 448, 65536, 512, "f16", "20 (b8125)", 20,
         "format of the context", {}, "as it is"),
    Page("qwen35-35b", 21e9, "RTX 5060 Ti 16GB", 16, 448, 16384, 512, "f16",
         "14 (b8125; 14 at 64k, too)", 14, "whether it was sought for 16k",
         {"tokens": 65536}, "kept from 64k"),
    Page("qwen35-35b", 15e9, "RTX 5060 Ti 16GB", 16, 448, 10240, 512, "f16", "2", 2,
         "size of the file to 1 GB, what else is on the card",
         {"size": 16.1e9, "margin_gib": 1.0}, "15 GiB rather than GB, 0.25 GiB more"),
    Page("qwen35-35b", 15e9, "RTX 5060 Ti 16GB", 16, 448, 196608, 512, "f16", "0", 0,
         "format of the context", {"kind": "q4_0"}, "q4_0"),
    Page("qwen35-35b", 22.34e9, "RTX 4060 Laptop", 8, 256, 8192, 2048, "q8_0",
         "33 to 36 (32: out of memory)", 33, "what the screen takes, context",
         {"margin_gib": 1.25}, "0.5 GiB more on the card"),
    Page("qwen35-35b", 22e9, "RTX 3060", 12, 360, 153600, 512, "q4_0", "16 of 12, 16, 20", 16,
         "size of the file, micro-batch", {"size": 17.5e9}, "a file of 17.5 GB"),
    Page("qwen35-35b", 22.34e9, "RTX 3060", 12, 360, 2048, 512, "f16", "34", 34,
         "context", {"tokens": 262144}, "no `-c`: the model's own 262,144 tokens"),
    Page("qwen35-35b", 22.12e9, "RX 9070 XT", 16, 644, 48531, 512, "q8_0",
         "22, nothing else tried", 22, "what else is on the card",
         {"margin_gib": 4.5}, "3.75 GiB more, or 22 was not the best"),
] + [
    Page("qwen35-35b", 18.2e9, "AMD, 16 GB", 16, 600, tokens, ub, "q4_0", str(n), n,
         "name of the card; the file holds a draft",
         {"margin_gib": 4.5}, "3.75 GiB more on the card: draft, logits, screen")
    for tokens, ub, n in ((32768, 2048, 16), (65536, 2048, 16), (131072, 2048, 18),
                          (262144, 512, 21))
] + [
    Page("qwen35-35b", 25.34e9, "RTX 4070", 12, 504, 2048, 512, "q8_0",
         "36, nothing else tried", 36, "context",
         {"margin_gib": 6.75}, "6 GiB more, or 36 was not the best"),
    Page("qwen35-35b", 22e9, "RTX 4070, WSL2", 12, 504, 2048, 512, "f16",
         "48 (44: a fifth slower)", None, "context",
         {}, "nothing: of 40 layers both put all in RAM"),
]  # fmt: skip


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


def planned(page: Page, **change: Any) -> int:
    """Return the layers with experts in RAM of the plan for a page."""
    page = dataclasses.replace(page, **{k: v for k, v in change.items() if k != "margin_gib"})
    config = PlaceConfig.model_validate(
        {
            "problem": "place", "model": "m.gguf", "ubatch": [page.ubatch], "ram": {"gib": 128},
            "gpus": [{"gib": page.gib, "gb_per_s": page.gb_per_s}],
            "margin_gib": change.get("margin_gib", 0.75),
            "context": {"tokens": page.tokens, "depth": 0, "type_k": page.kind,
                        "type_v": page.kind},
        }
    )  # fmt: skip
    plan: PlacePlan = mo.solve(instance_of(config, scaled(page.model, page.size))).plan
    return sum(layer["experts"] == "cpu" for layer in plan.layers)


@pytest.mark.parametrize(
    "page", LESS, ids=lambda page: f"{page.card} {page.size / 1e9:g} GB {page.tokens} {page.ubatch}"
)
def test_one_assumption_explains_what_pages_found(page: Page, checkout: Path) -> None:
    """Where less is stated, one assumption brings the plan within one layer, as the guide says."""
    own = planned(page)
    if page.layers is not None:
        assert abs(planned(page, **page.change) - page.layers) <= 1
        assert bool(page.change) == (abs(own - page.layers) > 1)
    guide = (checkout / "docs" / "guides" / "fit-a-model.md").read_text(encoding="utf-8")
    assert line_of(page, own) in guide


def line_of(page: Page, own: int) -> str:
    """Return the row of the guide."""
    model, *others = f"{page.model}, {page.size / 1e9:g} GB", page.card, f"{page.tokens:,}"
    found = [str(page.ubatch), page.kind, page.found, str(own), page.lacks, page.words]
    return f"| {' | '.join([model, *others, *found])} |"


@pytest.mark.parametrize("page", LESS[5:8], ids=lambda page: page.card)
def test_the_margin_decides_little(page: Page) -> None:
    """A margin of 0.3 GiB in place of 0.75 brings one more layer at most onto a card."""
    assert 0 <= planned(page) - planned(page, margin_gib=0.3) <= 1
