"""vLLM: nothing elsewhere, experts of the first layers, or the last layers of every group.

``uva`` leaves parameters in pinned memory of the processor, in the order of modules until
``cpu_offload_gb`` of each card are reached; the card reads them there whenever they are used.
``prefetch`` copies whole layers ahead, all of their experts whichever the router chose.
Source: `vllm/config/offload.py`, `vllm/model_executor/offloader/{uva,prefetch}.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moe2opt.llamacpp import LlamaLayer
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

NAME = "vllm"

#: Layers that ``prefetch`` copies ahead, each with room on the card.
_AHEAD = 1

#: Share of a layer that is left out of the limit, so that the last layer is still begun.
_LESS = 0.1


def settings(case: Case) -> Iterator[Setting]:
    """Yield every setting on every set of cards."""
    sixteen_bits(case, NAME, ", or fp8 (--kv-cache-dtype), which llama.cpp has not")
    for cards in cards_of(case, NAME):
        yield _nothing(cards)
        yield from _first(cards)
        yield from _groups(cards)


def _options(cards: Cards, **own: Any) -> dict[str, Any]:
    case = cards.case
    context = case.config.context
    return {
        **shown_cards(cards),
        "tensor-parallel-size": cards.count,
        "max-model-len": context.tokens // context.parallel,
        "max-num-seqs": context.parallel,
        "max-num-batched-tokens": max(case.config.batch, context.parallel),
        "gpu-memory-utilization": share_of(case, cards),
        **{key.replace("_", "-"): value for key, value in own.items()},
    }


def _nothing(cards: Cards) -> Setting:
    seconds, spread = cards.answer_s(), cards.slowest.spread
    return Setting(
        options=_options(cards),
        devices=cards.numbers,
        held=cards.held(cards.weights()),
        ram=0.0,
        seconds=seconds,
        fast=seconds / spread,
        slow=seconds * spread,
        prompt_s=cards.prompt_s(),
    )


def _first(cards: Cards) -> Iterator[Setting]:
    """Yield the experts of the first layers, or all of the first layers of a dense model."""
    case = cards.case
    moved = [layer for layer in case.model.layers if layer.experts] or list(case.model.layers)
    sparse = bool(moved[0].experts)
    base, spread = cards.answer_s(), cards.slowest.spread
    share = case.model.top_k / case.model.experts if sparse else 1.0
    bytes_, on_card = 0.0, 0.0
    for number, layer in enumerate(moved, 1):
        size = float(layer.expert_bytes if sparse else layer.other_bytes)
        on_card += cards.experts_s(layer) if sparse else cards.home_s(layer)
        bytes_ += size
        # Every card reads its share over its own link.
        used = bytes_ * share * case.machine.copy_byte_s / cards.count
        whole = bytes_ * case.machine.copy_byte_s / cards.count
        rest = base - on_card
        yield Setting(
            options=_options(
                cards,
                offload_backend="uva",
                cpu_offload_gb=round((bytes_ - _LESS * size) / GIB / cards.count, 4),
                **({"cpu_offload_params": "experts"} if sparse else {}),
            ),
            devices=cards.numbers,
            held=cards.held(cards.weights() - bytes_),
            ram=bytes_,
            seconds=rest + max(used, on_card),
            fast=rest / spread + max(used / 1.5, on_card / spread),
            slow=rest * spread + max(1.5 * whole, on_card * spread),
            prompt_s=prompts(case, cards.prompt_s(), bytes_ / cards.count),
            experts_in_ram=dict.fromkeys(_numbers(moved[:number]), case.model.experts),
            layers_in_ram=frozenset() if sparse else frozenset(_numbers(moved[:number])),
        )


def _groups(cards: Cards) -> Iterator[Setting]:
    """Yield the last layers of every group, each set of layers once."""
    case = cards.case
    layers = case.model.layers
    sparse = any(layer.experts for layer in layers)
    base, spread, prompt = cards.answer_s(), cards.slowest.spread, cards.prompt_s()
    seen: set[tuple[int, ...]] = set()
    for size in range(1, len(layers) + 1):
        for number in range(1, size + 1):
            moved = [
                layer
                for k, layer in enumerate(layers)
                if k % size >= size - number and (layer.experts or not sparse)
            ]
            key = _numbers(moved)
            if not moved or key in seen:
                continue
            seen.add(key)
            sizes = [float(o.expert_bytes if sparse else o.other_bytes) for o in moved]
            copied = sum(sizes) * case.machine.copy_byte_s / cards.count
            # Copies run while other layers compute.
            yield Setting(
                options=_options(
                    cards,
                    offload_backend="prefetch",
                    offload_group_size=size,
                    offload_num_in_group=number,
                    offload_prefetch_step=_AHEAD,
                    **({"offload_params": "experts"} if sparse else {}),
                ),
                devices=cards.numbers,
                held=cards.held(cards.weights() - sum(sizes), _AHEAD * max(sizes)),
                ram=sum(sizes),
                seconds=max(base, copied),
                fast=max(base / spread, copied / 1.5),
                slow=base * spread + 1.5 * copied,
                prompt_s=max(prompt, prompts(case, 0.0, sum(sizes) / cards.count)),
                experts_in_ram=dict.fromkeys(key, case.model.experts) if sparse else {},
                layers_in_ram=frozenset() if sparse else frozenset(key),
            )


def _numbers(layers: list[LlamaLayer]) -> tuple[int, ...]:
    return tuple(layer.index for layer in layers)


def words(case: Case, setting: Setting) -> tuple[str, dict[str, str]]:
    """Return the command, and the files that it reads."""
    return spoken(["vllm", "serve", model_name(case)], setting.options), {}


def notes(case: Case, setting: Setting) -> Iterator[str]:
    """Yield what the figures of a setting assume."""
    backend = setting.options.get("offload-backend")
    rate = 1e-9 / case.machine.copy_byte_s
    if backend == "uva":
        yield (
            f"experts in RAM are read over the bus at {rate:g} GB/s in every step, those of a "
            "token by the prediction, all of them at the slow end: two published runs (Mixtral "
            "and DeepSeek-V2-Lite, RTX A5000) lie between"
        )
    elif backend == "prefetch":
        yield (
            f"layers elsewhere are copied whole at {rate:g} GB/s in every step, whichever experts "
            "are used, while others compute"
        )
    yield "vLLM computes on cards only; it takes a card's whole share for the context"
