"""vLLM: nothing elsewhere, experts of the first layers, or the last layers of every group.

Of a dense model whole layers are elsewhere. What ``uva`` leaves in pinned memory of the processor
the card reads there whenever it is used; ``prefetch`` copies whole layers ahead, all of their
experts whichever the router chose.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moe2opt.huggingface.vllm import AHEAD, Pattern, patterns
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

#: Factor either way around the rate of the bus.
_BUS = 1.5


def settings(case: Case) -> Iterator[Setting]:
    """Yield every setting on every set of cards."""
    sixteen_bits(case, NAME, ", or fp8 (--kv-cache-dtype), which llama.cpp has not")
    sparse = [layer for layer in case.model.layers if layer.experts]
    sizes = {
        layer.index: layer.expert_bytes if sparse else layer.other_bytes
        for layer in sparse or case.model.layers
    }
    for cards in cards_of(case, NAME):
        gib = {k: size / GIB / cards.count for k, size in sizes.items()}
        base, prompt = cards.answer_s(), cards.prompt_s()
        for pattern in patterns(gib, case.model.blocks, sparse=bool(sparse)):
            yield _setting(cards, pattern, [sizes[k] for k in pattern.moved], base, prompt)


def _options(cards: Cards, own: dict[str, Any]) -> dict[str, Any]:
    case = cards.case
    context = case.config.context
    return {
        **shown_cards(cards),
        "tensor-parallel-size": cards.count,
        "max-model-len": context.tokens // context.parallel,
        "max-num-seqs": context.parallel,
        "max-num-batched-tokens": max(case.config.batch, context.parallel),
        "gpu-memory-utilization": share_of(case, cards),
        **{
            key.replace("_", "-"): " ".join(value) if isinstance(value, list) else value
            for key, value in own.items()
        },
    }


def _setting(
    cards: Cards, pattern: Pattern, sizes: list[int], base: float, prompt: float
) -> Setting:
    """Return what a pattern takes, where everything on the cards takes so long a token."""
    case, spread, away = cards.case, cards.slowest.spread, set(pattern.moved)
    moved = [layer for layer in case.model.layers if layer.index in away]
    sparse, size = any(layer.experts for layer in moved), float(sum(sizes))
    # Every card reads its share over its own link.
    copied = size * case.machine.copy_byte_s / cards.count
    prompt_copied = prompts(case, 0.0, size / cards.count)
    seconds, fast, slow, prompt_s, ahead = base, base / spread, base * spread, prompt, 0.0
    if pattern.backend == "uva":
        used = copied * case.model.top_k / case.model.experts if sparse else copied
        on_card = sum(cards.experts_s(o) if sparse else cards.home_s(o) for o in moved)
        rest = base - on_card
        seconds = rest + max(used, on_card)
        fast = rest / spread + max(used / _BUS, on_card / spread)
        slow = rest * spread + max(_BUS * copied, on_card * spread)
        prompt_s = prompt + prompt_copied
    elif pattern.backend == "prefetch":
        # Copies run while other layers compute.
        seconds, fast = max(base, copied), max(base / spread, copied / _BUS)
        slow = base * spread + _BUS * copied
        prompt_s, ahead = max(prompt, prompt_copied), float(AHEAD * max(sizes))
    return Setting(
        options=_options(cards, pattern.options),
        devices=cards.numbers,
        held=cards.held(cards.weights() - size, ahead),
        ram=size,
        seconds=seconds,
        fast=fast,
        slow=slow,
        prompt_s=prompt_s,
        experts_in_ram=dict.fromkeys(pattern.moved, case.model.experts) if sparse else {},
        layers_in_ram=frozenset() if sparse else frozenset(pattern.moved),
    )


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
