"""The line that says a layout to llama.cpp."""

from __future__ import annotations

import shlex
from collections import Counter

from moe2opt.llamacpp import CPU, Layout
from moe2opt.llamacpp.layout import experts_in_ram
from moe2opt.place.case import Case

#: Names of the experts' tensors, as `--n-cpu-moe` matches them.
_TENSORS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps\."


def command_of(case: Case, layout: Layout, ubatch: int) -> str:
    """Return a line of ``llama-server`` that states everything that the layout assumes."""
    return shlex.join(
        [
            "llama-server",
            *rpc_options(case),
            *model_options(case),
            *options_of(case, layout, ubatch),
        ]
    )


def model_options(case: Case) -> list[str]:
    """Return how the file is said; a name that begins with a dash would be read as an option."""
    model = case.config.command_model or case.config.model
    return ["-m", f"./{model}" if model.startswith("-") else model]


def rpc_options(case: Case) -> list[str]:
    """Return how devices behind servers are named; it goes first."""
    return ["--rpc", ",".join(case.config.rpc)] if case.config.rpc else []


def options_of(case: Case, layout: Layout, ubatch: int) -> list[str]:
    """Return the options that say settings and layout."""
    offloaded = sum(home != CPU for home in layout.homes)
    options = [*settings_of(case, ubatch), "-ngl", str(offloaded)]
    if len(case.machine.devices) > 1 and offloaded:
        held = Counter(layout.homes)
        options += ["-ts", ",".join(str(held[d]) for d in range(len(case.machine.devices)))]
    if not offloaded:
        # Else a device would be given buffers, and what is copied to it for prompts.
        options += ["--device", "none"]
    return [*options, *_expert_options(case, layout), "--fit", "off"]


def settings_of(case: Case, ubatch: int) -> list[str]:
    """Return the options that say how much is remembered, and how much is computed at once."""
    line = case.line(ubatch)
    return [
        *("-c", str(line.context_tokens), "-ctk", line.type_k, "-ctv", line.type_v),
        *("-fa", "on" if line.flash_attention else "off"),
        *("-ub", str(line.ubatch), "-b", str(line.batch), "-np", str(line.sequences)),
    ]


def _buffer(case: Case, device: int) -> str:
    """Return what `-ot` calls the memory of a device."""
    config = case.config
    if config.rpc:
        return config.gpus[device].buffer or f"RPC0[{config.rpc[device]}]"
    return config.gpus[device].buffer or f"{config.backend}{device}"


def _expert_options(case: Case, layout: Layout) -> list[str]:
    """Return how experts are said: `-ncmoe` for a run from the first block on, else `-ot`."""
    whole: dict[int, int] = {}
    split: list[tuple[int, dict[int, list[str]]]] = []
    for layer in case.model.layers:
        places: dict[int, list[str]] = {}
        for matrix in layer.experts:
            places.setdefault(layout.of_experts(layer.index, matrix), []).append(matrix)
        if len(places) > 1:
            places.pop(layout.homes[layer.index], None)
            split.append((layer.index, places))
        elif places and layout.homes[layer.index] not in places:
            whole[layer.index] = next(iter(places))
    options = _whole_options(case, layout, whole)
    for block, places in split:
        for place, matrices in sorted(places.items()):
            target = "CPU" if place == CPU else _buffer(case, place)
            tensors = rf"\.ffn_({'|'.join(sorted(matrices))})_(ch|)exps\."
            options += ["-ot", rf"blk\.{block}{tensors}={target}"]
    return options


def _whole_options(case: Case, layout: Layout, places: dict[int, int]) -> list[str]:
    """Return how experts of whole layers are said."""
    if not places:
        return []
    last = max(places)
    # Experts of blocks in RAM are there anyway.
    in_ram = {k for k, home in enumerate(layout.homes[:-1]) if home == CPU}
    said = set(experts_in_ram(case.model, last + 1)) - in_ram
    if said == set(places) and set(places.values()) == {CPU}:
        return ["-ncmoe", str(last + 1)]
    options = []
    for place in sorted(set(places.values())):
        blocks = sorted(k for k, own in places.items() if own == place)
        target = "CPU" if place == CPU else _buffer(case, place)
        options += ["-ot", rf"blk\.({'|'.join(map(str, blocks))}){_TENSORS}={target}"]
    return options
