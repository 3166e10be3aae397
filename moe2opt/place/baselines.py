"""Rules in use, on the same machine, judged by the same model of speed and bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from moe2opt import present
from moe2opt.llamacpp import Layout, homes_of
from moe2opt.llamacpp.layout import experts_in_ram
from moe2opt.place.case import Case
from moe2opt.place.command import options_of
from moe2opt.place.judge import Judge


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
    yield _first(case, "-ncmoe by hand", _fewest_experts_in_ram(case))
    yield _first(case, "whole layers (-ngl)", _most_whole_layers(case))


def _first(case: Case, name: str, layouts: Iterator[Layout]) -> Rule:
    judge, ubatch = Judge(case), min(case.config.ubatch)
    for layout in layouts:
        if judge.has_room(layout, ubatch):
            rate = judge.decode_rate(layout).value
            prompt = judge.prefill_rate(layout, ubatch).value
            return Rule(name, rate, prompt, " ".join(options_of(case, layout, ubatch)))
    return Rule(name, None, None, note="no such line fits")


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
