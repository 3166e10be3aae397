"""What would help where nothing fits: the least amounts, each tried by solving."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from moe2opt.llamacpp import LlamaModel
from moe2opt.place.case import Case
from moe2opt.place.machine import GIB
from moe2opt.place.question import PlaceInstance, instance_of
from moe2opt.place.sections import PlaceConfig
from moe2opt.place.variants import variants_of

#: Tokens of context below which no conversation is worth a plan, and the step of their number.
_LEAST_CONTEXT, _CONTEXT_STEP = 1024, 1024

#: GiB that are added where a first amount fails.
_MORE_GIB = 4

#: Tells whether a plan of an instance is found.
Solvable = Callable[[PlaceInstance], bool]


def remedies(instance: PlaceInstance, solvable: Solvable) -> tuple[str, ...]:
    """Return what is needed and there in GiB, and what alone would make a plan possible."""
    case = instance.case
    lacking, need = _closest(case)
    if lacking <= 0:
        return (_other_reason(instance, solvable),)
    found = list(_helping(case, lacking, solvable))
    lines = [
        f"The model, its context and what is computed with need {need / GIB:.2f} GiB; devices and "
        f"RAM have {(need - lacking) / GIB:.2f} after their margins: {lacking / GIB:.2f} GiB are "
        "lacking.",
    ]
    if found:
        lines += ["Each of these alone would help:", *(f"  {line}" for line in found)]
    return tuple(lines)


def _other_reason(instance: PlaceInstance, solvable: Solvable) -> str:
    """Return what stands in the way where memory is enough in all."""
    config = instance.case.config
    least = config.goal.least_prefill_tok_s
    free = config.goal.model_copy(update={"least_prefill_tok_s": None})
    if least is not None and _works(solvable, config, instance.case.model, goal=free):
        return (
            f"It fits, but no line that fits reads prompts at {least:g} tokens/s: a lower "
            "--least-prefill would help."
        )
    return "Room is there in all, but no line cuts it so that every device has enough."


def lacking_bytes(case: Case) -> float:
    """Return by how much a run exceeds all memory together; 0 or less where it does not.

    No plan exists where it is positive: what lies on devices and in RAM is the whole.
    """
    return _closest(case)[0]


def _closest(case: Case) -> tuple[float, float]:
    """Return the bytes that lack and those that are needed, by the variant closest to fitting."""
    machine = case.machine
    best = (math.inf, 0.0)
    for variant in variants_of(case):
        need = case.pool_bytes(variant)
        margins = sum(machine.devices[d].margin_bytes for d in variant.devices)
        room: float = math.inf
        if machine.pool_bytes is not None:
            room = machine.pool_bytes - margins
        elif machine.ram_bytes is not None:
            room = machine.ram_bytes + sum(case.usable_bytes(d) for d in variant.devices)
        best = min(best, (need - margins - room, need - margins))
    return best


def _helping(case: Case, lacking: float, solvable: Solvable) -> Iterator[str]:
    """Yield what alone makes a plan possible, with the least amount."""
    config, model = case.config, case.model
    context = config.context
    tokens = _largest_context(case, solvable)
    if tokens is not None:
        yield f"a context of at most {tokens:,} tokens (-c {tokens}) in place of {context.tokens:,}"
    if (context.type_k, context.type_v) == ("f16", "f16"):
        smaller = context.model_copy(update={"type_k": "q8_0", "type_v": "q8_0"})
        if _works(solvable, config, model, context=smaller):
            yield "a context in eight bits (-ctk q8_0 -ctv q8_0)"
    gib = math.ceil(lacking / GIB)
    for more in (gib, gib + 1, gib + _MORE_GIB):
        changed = _with_more(config, more)
        if changed and _works(solvable, config, model, **changed):
            where = "memory" if config.unified is not None else "RAM"
            yield f"{more} GiB more {where}"
            break
    for more in (gib, gib + 1, gib + _MORE_GIB) if config.unified is None and config.gpus else ():
        own = case.machine.devices[0].capacity_bytes / GIB + more
        gpus = (config.gpus[0].model_copy(update={"gib": own}), *config.gpus[1:])
        if _works(solvable, config, model, gpus=gpus):
            yield f"a first device of {own:.4g} GiB in place of {own - more:.4g}"
            break
    left = model.bytes - lacking
    if left > 0:
        yield (
            f"a file of at most about {left / GIB:.1f} GiB in place of {model.bytes / GIB:.1f} "
            "(fewer bits per weight)"
        )


def _with_more(config: PlaceConfig, gib: int) -> dict[str, Any]:
    pool = config.unified
    if pool is not None and pool.gib is not None:
        return {"unified": pool.model_copy(update={"gib": pool.gib + gib}), "gpus": ()}
    if config.ram.gib is None:
        return {}
    return {"ram": config.ram.model_copy(update={"gib": config.ram.gib + gib})}


def _largest_context(case: Case, solvable: Solvable) -> int | None:
    """Return the largest context that fits, in whole steps; None where even the least does not."""
    config = case.config
    low, high = 0, max(config.context.tokens - 1, 0) // _CONTEXT_STEP

    def changed(steps: int) -> dict[str, Any]:
        update = {"tokens": max(steps, 1) * _CONTEXT_STEP, "depth": None}
        return {"context": config.context.model_copy(update=update)}

    while low < high:
        middle = (low + high + 1) // 2
        if lacking_bytes(_changed(config, case.model, **changed(middle)).case) <= 0:
            low = middle
        else:
            high = middle - 1
    for steps in (low, low - 1, low - 2, low // 2):
        if steps * _CONTEXT_STEP < _LEAST_CONTEXT:
            return None
        if _works(solvable, config, case.model, **changed(steps)):
            return steps * _CONTEXT_STEP
    return None


def _changed(config: PlaceConfig, model: LlamaModel, **sections: Any) -> PlaceInstance:
    return instance_of(config.model_copy(update=sections), model)


def _works(solvable: Solvable, config: PlaceConfig, model: LlamaModel, **sections: Any) -> bool:
    """Tell whether a plan exists for a changed configuration."""
    instance = _changed(config, model, **sections)
    return lacking_bytes(instance.case) <= 0 and solvable(instance)
