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
    model = case.config.command_model or case.config.model
    return shlex.join(
        ["llama-server", *rpc_options(case), "-m", model, *options_of(case, layout, ubatch)]
    )


def rpc_options(case: Case) -> list[str]:
    """Return how devices behind servers are named; it goes first."""
    return ["--rpc", ",".join(case.config.rpc)] if case.config.rpc else []


def options_of(case: Case, layout: Layout, ubatch: int) -> list[str]:
    """Return the options that say settings and layout."""
    line = case.line(ubatch)
    offloaded = sum(home != CPU for home in layout.homes)
    options = [
        *("-c", str(line.context_tokens), "-ctk", line.type_k, "-ctv", line.type_v),
        *("-fa", "on" if line.flash_attention else "off"),
        *("-ub", str(line.ubatch), "-b", str(line.batch), "-np", str(line.sequences)),
        *("-ngl", str(offloaded)),
    ]
    if len(case.machine.devices) > 1 and offloaded:
        held = Counter(layout.homes)
        options += ["-ts", ",".join(str(held[d]) for d in range(len(case.machine.devices)))]
    if case.machine.devices and not offloaded:
        options += ["--device", "none"]
    return [*options, *_expert_options(case, layout), "--fit", "off"]


def _buffer(case: Case, device: int) -> str:
    """Return what `-ot` calls the memory of a device."""
    config = case.config
    if config.rpc:
        return config.gpus[device].buffer or f"RPC0[{config.rpc[device]}]"
    return config.gpus[device].buffer or f"{config.backend}{device}"


def _expert_options(case: Case, layout: Layout) -> list[str]:
    """Return how experts are said: `-ncmoe` for a run from the first block on, else `-ot`."""
    if not layout.experts:
        return []
    last = max(layout.experts)
    # Experts of blocks in RAM are there anyway.
    in_ram = {k for k, home in enumerate(layout.homes[:-1]) if home == CPU}
    said = experts_in_ram(case.model, last + 1)
    if {k: v for k, v in said.items() if k not in in_ram} == layout.experts:
        return ["-ncmoe", str(last + 1)]
    options = []
    for place in sorted({p for own in layout.experts.values() for p in own.values()}):
        blocks = sorted(k for k, own in layout.experts.items() if place in own.values())
        target = "CPU" if place == CPU else _buffer(case, place)
        options += ["-ot", rf"blk\.({'|'.join(map(str, blocks))}){_TENSORS}={target}"]
    return options
