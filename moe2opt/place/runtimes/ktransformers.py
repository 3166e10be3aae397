"""ktransformers (kt-kernel with SGLang): so many experts of each layer on cards, others on CPU.

Attention, dense parts and context are on cards. ``kt-num-gpu-experts`` experts of every layer are
there, too; the processor computes the others with its own kernels, at the same time. Source:
`doc/en/kt-kernel/experts-sched-Tutorial.md` of kvcache-ai/ktransformers.
"""

from __future__ import annotations

from collections.abc import Iterator

from moe2opt.errors import InputError
from moe2opt.place.case import Case
from moe2opt.place.runtimes.base import (
    Cards,
    Setting,
    cards_of,
    prompts,
    share_of,
    shown_cards,
    sixteen_bits,
)
from moe2opt.place.runtimes.command import is_gguf, model_name, spoken

NAME = "ktransformers"

#: What the command calls the counts of experts that ktransformers itself recorded.
_COUNTED = "activation_stats.pt"


def settings(case: Case) -> Iterator[Setting]:
    """Yield every number of experts of a layer on cards, on every set of cards.

    Raises
    ------
    InputError
        For a model without experts.
    """
    if not case.model.experts:
        raise InputError("runtime: ktransformers places experts, and this model has none")
    sixteen_bits(case, NAME, "")
    if len(served := case.config.served) not in (0, case.model.experts + 1):
        raise InputError(
            f"served: {len(served)} shares; a model with {case.model.experts} experts has one more"
        )
    for cards in cards_of(case, NAME):
        for number in range(case.model.experts + 1):
            yield _setting(cards, number)


def _setting(cards: Cards, number: int) -> Setting:
    case = cards.case
    model, machine = case.model, case.machine
    held = number / model.experts
    share = case.config.served[number] if case.config.served else held
    spread, slower = cards.slowest.spread, machine.ram_spread
    seconds = fast = slow = model.output_bytes * cards.slowest.byte_s / cards.count
    fast, slow = fast / spread, slow * spread
    for layer in model.layers:
        home, here, there = cards.home_s(layer), 0.0, 0.0
        if layer.experts:
            here = share * cards.experts_s(layer)
            there = (1 - share) * (case.experts_s(layer, None) - machine.ram_layer_s)
            there += machine.ram_layer_s if number < model.experts else 0.0
        seconds += home + max(here, there)
        fast += home / spread + max(here / spread, there / slower)
        slow += home * spread + max(here * spread, there * slower)
    experts = float(sum(layer.expert_bytes for layer in model.layers))
    context = case.config.context
    away = (1 - held) * experts
    hot = {"kt-expert-placement-strategy": "frequency", "init-expert-location": _COUNTED}
    return Setting(
        options={
            **shown_cards(cards),
            "tp-size": cards.count,
            "context-length": context.tokens // context.parallel,
            "max-running-requests": context.parallel,
            "max-total-tokens": context.tokens,
            "chunked-prefill-size": case.config.batch,
            "mem-fraction-static": share_of(case, cards),
            "kt-num-gpu-experts": number,
            **(hot if case.config.served else {"kt-expert-placement-strategy": "uniform"}),
        },
        devices=cards.numbers,
        held=cards.held(cards.weights() - away),
        ram=experts,
        seconds=seconds,
        fast=fast,
        slow=slow,
        prompt_s=prompts(case, cards.prompt_s(), away),
        experts_in_ram=dict.fromkeys(
            (layer.index for layer in model.layers if layer.experts), model.experts - number
        ),
    )


def words(case: Case, setting: Setting) -> tuple[str, dict[str, str]]:
    """Return the command, and the files that it reads."""
    folder = "MODEL_IN_SAFETENSORS" if is_gguf(case) else model_name(case)
    start = ["python", "-m", "sglang.launch_server", "--model-path", folder]
    weights = {"kt-weight-path": model_name(case), "kt-method": _method(case)}
    return spoken(start, {**setting.options, **weights}), {}


def _method(case: Case) -> str:
    """Return the kernels of the processor that read weights of that size."""
    if is_gguf(case):
        return "LLAMAFILE"
    layer = next(layer for layer in case.model.layers if layer.experts)
    bits = 8 * layer.expert_bytes / max(layer.expert_weights, 1)
    return "BF16" if bits > 12 else "FP8" if bits > 6 else "RAWINT4"


def notes(case: Case, setting: Setting) -> Iterator[str]:
    """Yield what the figures of a setting assume."""
    number = setting.options["kt-num-gpu-experts"]
    served = "that share"
    if case.config.served:
        served = f"{case.config.served[number]:.0%}"
        yield (
            f"{_COUNTED} is what ktransformers records with --record-kt-gpu-expert-distribution: "
            "it places the most used experts by that file"
        )
    yield (
        f"{number} of {case.model.experts} experts of each layer are on cards and serve {served} "
        f"of its uses; the processor computes the others at the same time, reading RAM at "
        f"{case.machine.ram_words} (four published hosts attained 22 to 40 % of their peak)"
    )
    yield "RAM is counted for all experts, those on cards among them"
    yield "add --kt-cpuinfer (physical cores) and --kt-threadpool-count (sockets) of the host"
