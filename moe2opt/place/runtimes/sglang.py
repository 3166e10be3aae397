"""SGLang: everything on cards, or the first layers in RAM, which are copied in every step.

``cpu-offload-gb`` moves parameters in the order of modules until so many GiB of each card are
reached, attention and experts alike; a layer with some of them is copied before it computes, all
experts whichever the router chose. Source: `sglang/srt/utils/offloader.py` (OffloaderV1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moe2opt.place.case import Case
from moe2opt.place.machine import GIB
from moe2opt.place.runtimes.base import (
    Cards,
    Setting,
    cards_of,
    prompts,
    share_of,
    shown_cards,
    sixteen_bits,
)
from moe2opt.place.runtimes.command import model_name, spoken

NAME = "sglang"

#: Share of a layer that is left out of the limit, so that the last layer is still begun.
_LESS = 0.001


def settings(case: Case) -> Iterator[Setting]:
    """Yield every number of first layers in RAM, on every set of cards."""
    sixteen_bits(case, NAME, ", or fp8 (--kv-cache-dtype), which llama.cpp has not")
    for cards in cards_of(case, NAME):
        base, spread = cards.answer_s(), cards.slowest.spread
        moved, largest, last = 0.0, 0.0, 0.0
        for number in range(len(case.model.layers) + 1):
            if number:
                last = float(case.model.layers[number - 1].bytes)
                moved, largest = moved + last, max(largest, last)
            copied = moved * case.machine.copy_byte_s / cards.count
            own = {"cpu-offload-gb": _gib(moved - _LESS * last, cards)} if number else {}
            yield Setting(
                options=_options(cards, own),
                devices=cards.numbers,
                held=cards.held(cards.weights() - moved, largest),
                ram=moved,
                seconds=base + copied,
                fast=base / spread + copied / 1.5,
                slow=base * spread + 1.5 * copied,
                prompt_s=prompts(case, cards.prompt_s(), moved / cards.count),
                layers_in_ram=frozenset(layer.index for layer in case.model.layers[:number]),
            )


def _gib(size: float, cards: Cards) -> float:
    return round(size / GIB / cards.count, 4)


def _options(cards: Cards, own: dict[str, Any]) -> dict[str, Any]:
    case = cards.case
    context = case.config.context
    return {
        **shown_cards(cards),
        "tp-size": cards.count,
        "context-length": context.tokens // context.parallel,
        "max-running-requests": context.parallel,
        "max-total-tokens": context.tokens,
        "chunked-prefill-size": case.config.batch,
        "mem-fraction-static": share_of(case, cards),
        **own,
    }


def words(case: Case, setting: Setting) -> tuple[str, dict[str, str]]:
    """Return the command, and the files that it reads."""
    start = ["python", "-m", "sglang.launch_server", "--model-path", model_name(case)]
    return spoken(start, setting.options), {}


def notes(case: Case, setting: Setting) -> Iterator[str]:
    """Yield what the figures of a setting assume."""
    if setting.layers_in_ram:
        yield (
            f"the first {len(setting.layers_in_ram)} layers are copied whole at "
            f"{1e-9 / case.machine.copy_byte_s:g} GB/s in every step, whichever experts are used: "
            "SGLang has no placement of experts in RAM by itself (ktransformers adds it)"
        )
    yield "SGLang computes on cards only"
