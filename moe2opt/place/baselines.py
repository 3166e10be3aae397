"""Rules in use, on the same machine, judged by the same model of speed and bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from moe2opt import present
from moe2opt.llamacpp import Layout, homes_of
from moe2opt.llamacpp.fit import fitted, shares_of
from moe2opt.llamacpp.layout import experts_in_ram
from moe2opt.place.case import Case
from moe2opt.place.command import options_of, settings_of
from moe2opt.place.judge import Judge

MIB = 2**20

#: Times that ``--fit`` is told to keep more, as what a device needs depends on what it is given.
_ROUNDS = 3

#: What ``--fit`` keeps free on every device unless told (``-fitt``).
FIT_MARGIN = 1024 * MIB


@dataclass(frozen=True, slots=True)
class Rule:
    """What a rule gives.

    Attributes
    ----------
    name
        The rule.
    decode_tok_s, prefill_tok_s
        Tokens per second of answers and prompts; None when nothing of its kind fits.
    line
        Its options.
    note
        Why there is none.
    """

    name: str
    decode_tok_s: float | None
    prefill_tok_s: float | None
    line: str = ""
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        return asdict(self)

    def words(self, ours: float) -> str:
        """Return one line beside a plan of so many tokens per second."""
        if self.decode_tok_s is None:
            return f"{self.name}: {self.note}"
        beside = ours / self.decode_tok_s
        told = "as fast" if abs(beside - 1) < 1e-3 else f"the plan is {beside:.2f} times as fast"
        return f"{self.name}: {present.number(self.decode_tok_s, 3)} tokens/s ({told})"


def rules(case: Case) -> Iterator[Rule]:
    """Yield what each rule in use gives.

    All keep for computing what the plan keeps, its margins, and the smallest micro-batch.
    """
    if not case.machine.devices:
        return
    judge, ubatch = Judge(case), min(case.config.ubatch)
    yield _of_fit(case)
    for name, layout in _by_hand(case):
        if layout is None:
            yield Rule(name, None, None, note="no such line fits")
            continue
        rate, prompt = judge.decode_rate(layout).value, judge.prefill_rate(layout, ubatch).value
        yield Rule(name, rate, prompt, " ".join(options_of(case, layout, ubatch)))


def layouts(case: Case) -> Iterator[Layout]:
    """Yield what rules in use set; that of ``--fit`` may not fit."""
    if case.machine.devices:
        yield _fitted(case)[0]
        yield from (layout for _, layout in _by_hand(case) if layout is not None)


def _by_hand(case: Case) -> Iterator[tuple[str, Layout | None]]:
    """Yield rules with the first of their layouts that fits."""
    judge, ubatch = Judge(case), min(case.config.ubatch)
    for name, tried in (
        ("-ncmoe by hand", _fewest_experts_in_ram(case)),
        ("whole layers (-ngl)", _most_whole_layers(case)),
    ):
        yield name, next((layout for layout in tried if judge.has_room(layout, ubatch)), None)


def _fitted(case: Case) -> tuple[Layout, list[str]]:
    """Return what ``--fit on`` sets; told to keep more free where a plan keeps more, and how."""
    judge, ubatch = Judge(case), min(case.config.ubatch)
    devices = case.machine.devices
    free = [device.capacity_bytes for device in devices]
    margins, told = [FIT_MARGIN] * len(devices), list[str]()
    layout = fitted(case.model, case.line(ubatch), free, margins, case.backend)
    for _ in range(_ROUNDS):
        if judge.has_room(layout, ubatch):
            break
        # A plan keeps its margin, and for computing what its devices need at most.
        held = judge.memory(layout, ubatch)
        margins = [
            max(margin, _up(device.margin_bytes + judge.kept_bytes(layout, ubatch, d) - own))
            for d, (device, margin, own) in enumerate(
                zip(devices, margins, [h.compute_bytes for h in held[:-1]], strict=True)
            )
        ]
        layout = fitted(case.model, case.line(ubatch), free, margins, case.backend)
        told = ["-fitt", ",".join(str(margin // MIB) for margin in margins)]
    return layout, told


def _of_fit(case: Case) -> Rule:
    judge, ubatch = Judge(case), min(case.config.ubatch)
    layout, told = _fitted(case)
    line = " ".join([*settings_of(case, ubatch), "--fit", "on", *told])
    if faults := judge.faults(layout, ubatch):
        return Rule("--fit", None, None, line, f"what it sets does not fit: {faults[0]}")
    rate, prompt = judge.decode_rate(layout).value, judge.prefill_rate(layout, ubatch).value
    return Rule("--fit", rate, prompt, line, _spread(layout, len(case.machine.devices)))


def _up(size: float) -> int:
    """Return bytes rounded up to whole MiB, with one to spare."""
    return int(-(-size // MIB) + 1) * MIB


def _spread(layout: Layout, devices: int) -> str:
    """Return what a layout gives to each device, in the runtime's own words."""
    held = [f"{n} layers ({part} overflowing)" for n, part in shares_of(layout, devices)]
    return "sets " + ", ".join(held)


def _shares(case: Case) -> list[int]:
    """Return the shares that llama.cpp takes where none are given: free memory."""
    return [case.usable_bytes(d) for d in range(len(case.machine.devices))]


def _fewest_experts_in_ram(case: Case) -> Iterator[Layout]:
    """Yield layouts with all layers on devices and experts of ever more first blocks in RAM."""
    homes = homes_of(case.model.blocks, _shares(case))
    for count in range(case.model.blocks + 1):
        yield Layout(homes, experts_in_ram(case.model, count))


def _most_whole_layers(case: Case) -> Iterator[Layout]:
    """Yield layouts with ever fewer last layers, experts included, on devices."""
    for count in range(case.model.blocks + 1, -1, -1):
        homes = homes_of(case.model.blocks, _shares(case), count)
        yield Layout(homes, {})
