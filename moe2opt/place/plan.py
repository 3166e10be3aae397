"""The plan: which device holds what, how fast that is, and the line that says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from moe2opt import present
from moe2opt.content import Content
from moe2opt.errors import DAMAGE, InputError
from moe2opt.llamacpp import ALL, CPU, DeviceMemory, Layout
from moe2opt.place.baselines import Rule, rules
from moe2opt.place.case import Case
from moe2opt.place.command import command_of
from moe2opt.place.compile import Compiled
from moe2opt.place.judge import Judge, Rate
from moe2opt.place.machine import GIB
from moe2opt.place.options import kept_matrices
from moe2opt.place.shown import RAM, device_row, memory_bars, memory_lines, rate_words
from moe2opt.result import IntArray
from moe2opt.view import View, table

if TYPE_CHECKING:
    import pandas as pd

#: Cost of what a matching must not do.
_NEVER = 1e9

ASKS = "Which device holds which layers and experts, so that a token is fastest?"


@dataclass(frozen=True, eq=False, repr=False)
class PlacePlan(Content):
    """A command line of llama.cpp with what it stands for.

    Attributes
    ----------
    name, model
        Names of the instance and of the model.
    layout
        Device of every block and of its experts.
    ubatch
        Tokens computed at once.
    devices
        Per device, and last for RAM: name and bytes of weights, context, compute, margin, free.
    layers
        One entry per loaded block: its number, and where its dense part and its experts lie; where
        some of their matrices stay with the dense part, `kept` names these.
    decode, prefill
        Tokens per second of answers and of prompts.
    baselines
        What rules in use would have given on the same machine, by the same model of speed.
    command
        The line.
    notes
        What must be known.
    """

    name: str
    model: str
    layout: Layout
    ubatch: int
    devices: tuple[dict[str, Any], ...]
    layers: tuple[dict[str, Any], ...]
    decode: Rate
    prefill: Rate
    baselines: tuple[Rule, ...]
    command: str
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        return {
            "instance": self.name,
            "model": self.model,
            "ubatch": self.ubatch,
            "homes": list(self.layout.homes),
            "devices": [dict(device) for device in self.devices],
            "layers": [dict(layer) for layer in self.layers],
            "decode_tok_s": self.decode.to_dict(),
            "prefill_tok_s": self.prefill.to_dict(),
            "baselines": [rule.to_dict() for rule in self.baselines],
            "command": self.command,
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PlacePlan:
        """Rebuild a plan from `to_dict`; raise `InputError` for anything else."""
        try:
            names = [device["name"] for device in data["devices"]]
            places = {name: k for k, name in enumerate(names[:-1])} | {RAM: CPU}
            experts = {
                layer["layer"]: {ALL: places[layer["experts"]]}
                | {name: places[layer["dense"]] for name in layer.get("kept", ())}
                for layer in data["layers"]
                if layer["experts"] not in (None, layer["dense"])
            }
            return cls(
                name=data["instance"],
                model=data["model"],
                layout=Layout(tuple(map(int, data["homes"])), experts),
                ubatch=int(data["ubatch"]),
                devices=tuple(dict(device) for device in data["devices"]),
                layers=tuple(dict(layer) for layer in data["layers"]),
                decode=Rate(**data["decode_tok_s"]),
                prefill=Rate(**data["prefill_tok_s"]),
                baselines=tuple(Rule(**rule) for rule in data["baselines"]),
                command=data["command"],
                notes=tuple(data["notes"]),
            )
        except DAMAGE as error:
            raise InputError(f"plan: not understood: {type(error).__name__}: {error}") from error

    def to_frame(self) -> pd.DataFrame:
        """Return one row per layer."""
        import pandas as pd

        return pd.DataFrame(list(self.layers))

    def summary(self) -> str:
        """Return the plan in words: speed, memory per device, rules, and the line."""
        lines = [
            f"{rate_words(self.decode)} tokens/s of answers, {rate_words(self.prefill)} of prompts "
            "(by the stated model of speed)",
            "",
            *memory_lines(self.devices),
        ]
        lines += ["", *(rule.words(self.decode.value) for rule in self.baselines)]
        lines += ["", self.command, *(f"  note: {note}" for note in self.notes)]
        return "\n".join(lines)

    def view(self) -> View:
        """Return what a page shows."""
        figures = (
            ("answers", f"{rate_words(self.decode)} tokens/s"),
            ("prompts", f"{rate_words(self.prefill)} tokens/s"),
            ("command", self.command),
        )
        runs = table("Where the layers are", ("layers", "dense part", "experts"), self._runs())
        rivals = table(
            "What rules in use give",
            ("rule", "tokens/s", "line"),
            [(r.name, present.number(r.decode_tok_s, 4), r.line or r.note) for r in self.baselines],
        )
        return View(ASKS, figures, memory_bars(self.devices), (runs, rivals), self.notes)

    def _runs(self) -> list[tuple[str, str, str]]:
        """Return runs of layers that lie alike."""
        runs: list[list[Any]] = []
        for layer in self.layers:
            kept = ", ".join(layer.get("kept", ()))
            experts = f"{layer['experts']}, but for {kept}" if kept else layer["experts"] or "none"
            own = (layer["dense"], experts)
            if runs and runs[-1][2] == own:
                runs[-1][1] = layer["layer"]
            else:
                runs.append([layer["layer"], layer["layer"], own])
        return [(f"{a}" if a == b else f"{a} to {b}", *own) for a, b, own in runs]


def plan_of(case: Case, compiled: Compiled, x: IntArray) -> PlacePlan:
    """Return the plan of a solution of the compiled problem.

    Which layers of a class keep their experts makes no difference to speed and bytes; the last of
    each device do, so that what is in RAM is a run that one option can say.
    """
    devices, blocks = case.machine.devices, case.model.blocks
    variant = compiled.variants[int(x[0])]
    cuts = [int(t) for t in x[1 : 1 + len(devices)]]
    cuts[:1] = [compiled.begins[t].block for t in cuts[:1]]
    homes = np.full(blocks, CPU)
    for d, start in enumerate(cuts):
        homes[start:] = d
    last = variant.devices[-1] if variant.devices else CPU
    layout = Layout((*map(int, homes), last), _experts(case, compiled, x, homes))
    judge = Judge(case)
    return PlacePlan(
        name=case.config.name,
        model=case.model.name,
        layout=layout,
        ubatch=variant.ubatch,
        devices=tuple(device_rows(case, layout, variant.ubatch)),
        layers=tuple(_layer_rows(case, layout)),
        decode=judge.decode_rate(layout),
        prefill=judge.prefill_rate(layout, variant.ubatch),
        baselines=tuple(rules(case)),
        command=command_of(case, layout, variant.ubatch),
        notes=tuple(_notes(case, layout)),
    )


def _experts(
    case: Case, compiled: Compiled, x: IntArray, homes: IntArray
) -> dict[int, dict[str, int]]:
    """Return where experts lie that are not with their layers."""
    count = len(case.machine.devices)
    first = 1 + count + (count if compiled.splits else 0)
    chosen = x[first:]
    chosen_splits = enumerate(compiled.splits[int(s)] for s in x[1 + count : first])
    split = {d: own for d, own in chosen_splits if own.to != d}
    order = sorted(layer.index for members in case.classes for layer in members)
    site_of = {index: compiled.sites[int(s)] for index, s in zip(order, chosen, strict=True)}
    found: dict[int, dict[str, int]] = {}
    for c, members in enumerate(case.classes):
        sites = [site_of[layer.index] for layer in members]
        away = [s.device for s in sites if s.away]
        at_home = {d: sum(s.device == d and not s.away for s in sites) for d in set(homes) - {CPU}}
        left = []
        for layer in reversed(members):
            if at_home.get(home := int(homes[layer.index]), 0):
                at_home[home] -= 1
            elif home in split and split[home].kind == c:
                own = split.pop(home)
                kept = kept_matrices(layer, own.kept)
                found[layer.index] = {m: own.to for m in layer.experts if m not in kept}
                if own.to != CPU:
                    away.remove(own.to)
            else:
                left.append(layer)
        # The last layers of a device keep their experts, those before them a part of these; of the
        # rest the first are in RAM.
        left = left[::-1]
        places = _matched([int(homes[layer.index]) for layer in left], away)
        for layer, place in zip(left, places, strict=True):
            if place != homes[layer.index]:
                found[layer.index] = dict.fromkeys(layer.experts, place)
    return found


def _matched(homes: list[int], away: list[int]) -> list[int]:
    """Return the place of each layer's experts: RAM, the first ones first, or a device not theirs.

    Rows of the problem say that there is such a matching.
    """
    slots = [*away, *[CPU] * (len(homes) - len(away))]
    cost = np.zeros((len(homes), len(slots)))
    for k, home in enumerate(homes):
        for s, place in enumerate(slots):
            in_ram = place == CPU
            cost[k, s] = k if in_ram else _NEVER * (home in (CPU, place))
    _, taken = linear_sum_assignment(cost)
    return [slots[s] for s in taken]


def device_rows(case: Case, layout: Layout, ubatch: int) -> list[dict[str, Any]]:
    """Return bytes per device and last of RAM, as ``place --json`` writes them."""
    judge, machine = Judge(case), case.machine
    *held, ram = judge.memory(layout, ubatch)
    rows = []
    for d, own in enumerate(held):
        device = machine.devices[d]
        used = d in layout.homes or any(d in m.values() for m in layout.experts.values())
        margin = judge.margin_bytes(own, d) if used else 0.0
        rows.append(device_row(device.name, device.capacity_bytes, _parts(own), margin))
    limit, system = machine.ram_bytes, 0.0
    if limit is not None and case.config.ram.gib is not None:
        system = case.config.ram.gib * GIB - limit
    if case.config.unified is not None and machine.pool_bytes is not None:
        # RAM is what the device leaves of the pool.
        system = case.config.unified.margin_gib * GIB
        taken = sum(row["capacity_bytes"] - row["free_bytes"] for row in rows)
        limit = machine.pool_bytes - taken
    rows.append(device_row(RAM, None if limit is None else limit + system, _parts(ram), system))
    return rows


def _parts(held: DeviceMemory) -> tuple[float, float, float]:
    return held.weights_bytes, held.context_bytes, held.compute_bytes


def _layer_rows(case: Case, layout: Layout) -> list[dict[str, Any]]:
    names = [device.name for device in case.machine.devices]

    def at(place: int) -> str:
        return RAM if place == CPU else names[place]

    rows = []
    for layer in case.model.layers:
        home = layout.homes[layer.index]
        places = {layout.of_experts(layer.index, matrix) for matrix in layer.experts}
        # Where a layer is split, its experts are said to be where it is not.
        experts = at(min(places - {home} or places)) if places else None
        row: dict[str, Any] = {"layer": layer.index, "dense": at(home), "experts": experts}
        if len(places) > 1:
            row["kept"] = [m for m in layer.experts if layout.of_experts(layer.index, m) == home]
        rows.append(row)
    return rows


def _notes(case: Case, layout: Layout) -> list[str]:
    notes = list(case.model.notes)
    notes += [
        f"{device.name}: a bandwidth of {device.gb_per_s:g} GB/s is assumed"
        for device, gpu in zip(case.machine.devices, case.config.gpus, strict=True)
        if gpu.name is None and gpu.gb_per_s is None
    ]
    pool = case.config.unified
    if pool is not None and pool.gib is not None:
        notes.append(
            f"processor and device share {pool.gib:g} GiB, of which the device may use "
            f"{pool.gib * pool.device_share:g}; the row of the processor is what the device leaves"
        )
    notes += case.machine.notes
    guessed = [d.name for d in case.machine.devices if not d.measured]
    if guessed:
        notes.append(
            f"no runs of {', '.join(guessed)} stand behind the speed: it follows from the bandwidth"
        )
    if any(CPU in own.values() for own in layout.experts.values()) or CPU in layout.homes:
        notes.append(
            f"decoding is taken to read RAM at {case.machine.ram_words}; a cache that follows "
            "the router can be faster than any fixed plan"
        )
    return notes
