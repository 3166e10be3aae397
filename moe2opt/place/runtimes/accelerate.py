"""Hugging Face accelerate: a ``device_map`` from modules to cards and RAM.

Layers follow each other over the cards; experts of some layers (of a dense model, whole layers)
are in RAM and are copied to their card for every token, all of a layer's experts together, since
transformers 5 holds them in one module. That memory is not pinned, so copies run at half the rate.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from itertools import permutations

from moe2opt.huggingface.modules import FAMILIES, UNKNOWN, Family, placed_modules, trunk
from moe2opt.llamacpp import LlamaLayer, context_bytes
from moe2opt.place.case import Case
from moe2opt.place.runtimes.base import WORKSPACE, Setting, cards_of, prompts, sixteen_bits
from moe2opt.place.runtimes.command import model_name

NAME = "accelerate"

#: Seconds of a copy from memory that is not pinned, relative to one from pinned memory; and the
#: factor either way that holds both published runs (Mixtral, DeepSeek-V2-Lite on an RTX A5000).
_PAGEABLE, _COPIES = 2.0, 2.0

#: Cards up to which every order of them is tried; of more, as given and the fastest first.
_FEW = 4

_FILE = "device_map.json"


def settings(case: Case) -> Iterator[Setting]:
    """Yield every number of layers in RAM, the first ones or the last, for orders of the cards."""
    next(cards_of(case, NAME))  # says what is wrong with them
    sixteen_bits(case, NAME, "")
    count = len(case.machine.devices)
    speed = sorted(range(count), key=lambda d: case.machine.devices[d].byte_s)
    orders = permutations(range(count)) if count <= _FEW else iter([tuple(range(count)), speed])
    movable = [o for o in case.model.layers if o.experts] or list(case.model.layers)
    for order in dict.fromkeys(map(tuple, orders)):
        for number in range(len(movable) + 1):
            last = movable[len(movable) - number :]
            for moved in (movable[:number], last) if 0 < number < len(movable) else (last,):
                yield _setting(case, order, moved)


def _setting(case: Case, order: tuple[int, ...], moved: list[LlamaLayer]) -> Setting:
    """Return a setting: blocks in order fill each card before the next one."""
    model, devices, line = case.model, case.machine.devices, case.line(512)
    away = {layer.index for layer in moved}
    sparse = any(layer.experts for layer in moved)
    largest = max((o.expert_bytes if sparse else o.bytes for o in moved), default=0)
    weights, context, homes = [0.0] * len(devices), [0.0] * len(devices), {}
    places = iter(order)
    at = next(places)
    weights[at] = float(model.input_bytes + model.output_bytes)
    for layer in model.layers:
        size = float(layer.bytes)
        if layer.index in away:
            size -= layer.expert_bytes if sparse else layer.bytes
        kept = context_bytes(model, layer, line)
        room = case.usable_bytes(at) - WORKSPACE - largest
        while weights[at] + context[at] + size + kept > room:
            following = next(places, None)
            if following is None:
                break
            at, room = following, case.usable_bytes(following) - WORKSPACE - largest
        weights[at], context[at] = weights[at] + size, context[at] + kept
        homes[layer.index] = at
    used = [d for d in range(len(devices)) if weights[d]]
    seconds = {d: 0.0 for d in used}
    seconds[order[0]] += model.output_bytes * devices[order[0]].byte_s
    prompt = 0.0
    for layer in model.layers:
        own = devices[homes[layer.index]]
        seconds[homes[layer.index]] += case.home_s(layer, own)
        prompt += case.prompt_home_s(layer, own, 512)
        if layer.experts:
            seconds[homes[layer.index]] += case.experts_s(layer, own)
            prompt += case.prompt_experts_s(layer, own, 512)
    bytes_ = float(sum(o.expert_bytes if sparse else o.bytes for o in moved))
    copied = bytes_ * case.machine.copy_byte_s * _PAGEABLE
    fast = sum(s / devices[d].spread for d, s in seconds.items()) + copied / _COPIES
    slow = sum(s * devices[d].spread for d, s in seconds.items()) + copied * _COPIES
    numbers = sorted(away)
    return Setting(
        options={
            "order": list(order),
            "in RAM": f"{numbers[0]} to {numbers[-1]}" if numbers else "nothing",
        },
        devices=tuple(used),
        held=tuple(
            (weights[d], context[d], WORKSPACE + largest if d in used else 0.0)
            for d in range(len(devices))
        ),
        ram=bytes_,
        seconds=sum(seconds.values()) + copied,
        fast=fast,
        slow=slow,
        prompt_s=prompts(case, prompt, bytes_ * _PAGEABLE),
        experts_in_ram=dict.fromkeys(numbers, model.experts) if sparse else {},
        layers_in_ram=frozenset() if sparse else frozenset(numbers),
        homes=homes,
    )


def family_of(case: Case) -> Family:
    """Return how transformers names the modules of the model."""
    return next((f for f in FAMILIES if f.architecture == case.model.architecture), UNKNOWN)


def device_map(case: Case, setting: Setting) -> dict[str, int | str]:
    """Return the device of every module; a layer is taken apart only where it must be."""
    family, blocks = family_of(case), case.model.blocks
    mapping: dict[str, int | str] = dict.fromkeys(trunk(family), setting.options["order"][0])
    for layer in case.model.layers:
        k = layer.index
        home = "cpu" if k in setting.layers_in_ram else setting.homes[k]
        experts = ["cpu" if setting.experts_in_ram.get(k) else home]
        mapping |= placed_modules(family, blocks, k, home, experts)
    return mapping


def words(case: Case, setting: Setting) -> tuple[str, dict[str, str]]:
    """Return the command, and the files that it reads."""
    code = (
        "import json, transformers; model = transformers.AutoModelForCausalLM.from_pretrained("
        f"{model_name(case)!r}, dtype='auto', device_map=json.load(open({_FILE!r})))"
    )
    mapping = json.dumps(device_map(case, setting), indent=1)
    return shlex.join(["python", "-i", "-c", code]), {_FILE: f"{mapping}\n"}


def notes(case: Case, setting: Setting) -> Iterator[str]:
    """Yield what the figures of a setting assume."""
    if setting.ram:
        rate = 1e-9 / case.machine.copy_byte_s / _PAGEABLE
        yield (
            f"what is in RAM is copied to its card for every token, all experts of a layer "
            f"together, at {rate:g} GB/s (half the rate of the bus, since accelerate does not pin "
            "it: two published runs bear it out within a factor of two)"
        )
    yield "the time in which Python launches kernels is not counted"
    if family_of(case) is UNKNOWN and setting.experts_in_ram:
        yield f"'{case.model.architecture}' is of no known family: module names are assumed"
