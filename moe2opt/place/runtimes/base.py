"""What runtimes of PyTorch have in common: cards that share evenly, and what one setting takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from moe2opt.errors import InputError
from moe2opt.llamacpp import LlamaLayer, context_bytes
from moe2opt.place.case import Case
from moe2opt.place.machine import GIB, HOP_S, Device

#: Bytes of each card for activations and captured graphs: an assumption, none of them logs it.
WORKSPACE = GIB

#: Cards up to which every set of them is tried; of more, the first ones.
_FEW = 4


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """One way to run a model, with what it takes.

    Attributes
    ----------
    options
        What is set, in the runtime's own words; tells settings of a runtime apart.
    devices
        Numbers of the cards in use.
    held
        ``(D,)`` bytes of each device besides its margin: weights, context, compute.
    ram
        Bytes in RAM.
    seconds, fast, slow
        Per answered token: predicted, and the ends between which a run lies nine times in ten.
    prompt_s
        Per token of a prompt.
    experts_in_ram
        By layer, how many of its experts are in RAM; whole layers are in `layers_in_ram`.
    layers_in_ram
        Blocks of which everything is in RAM.
    homes
        Device of each block; the first one in use where cards share every block.
    notes
        What must be known of it.
    """

    options: dict[str, Any]
    devices: tuple[int, ...]
    held: tuple[tuple[float, float, float], ...]
    ram: float
    seconds: float
    fast: float
    slow: float
    prompt_s: float
    experts_in_ram: dict[int, int] = field(default_factory=dict)
    layers_in_ram: frozenset[int] = frozenset()
    homes: dict[int, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cards:
    """Cards that hold and compute an equal share of every tensor (tensor parallelism).

    Attributes
    ----------
    numbers
        Of the devices.
    slowest
        The one that the others wait for.
    """

    case: Case
    numbers: tuple[int, ...]
    slowest: Device

    @property
    def count(self) -> int:
        """Number of cards."""
        return len(self.numbers)

    def context(self) -> float:
        """Return bytes of the context on each card; latent ones and few heads are on each."""
        model, line = self.case.model, self.case.line(512)
        shared = model.latent or model.kv_heads % self.count
        whole = sum(context_bytes(model, layer, line) for layer in model.layers)
        return whole if shared else whole / self.count

    def home_s(self, layer: LlamaLayer) -> float:
        """Return seconds per answered token of a layer's attention and dense part."""
        fixed = self.slowest.fixed_s / len(self.case.model.layers)
        own = (self.case.home_s(layer, self.slowest) - fixed) / self.count + fixed
        return own + (2 * HOP_S if self.count > 1 else 0.0)

    def experts_s(self, layer: LlamaLayer) -> float:
        """Return seconds per answered token of a layer's experts, all of them on the cards."""
        return self.case.experts_s(layer, self.slowest) / self.count if layer.experts else 0.0

    def answer_s(self) -> float:
        """Return seconds per answered token with everything on the cards."""
        model = self.case.model
        layers = sum(self.home_s(layer) + self.experts_s(layer) for layer in model.layers)
        return layers + model.output_bytes * self.slowest.byte_s / self.count

    def prompt_s(self) -> float:
        """Return seconds per token of a prompt with everything on the cards."""
        case = self.case
        homes = sum(case.prompt_home_s(layer, self.slowest, 512) for layer in case.model.layers)
        experts = sum(
            case.prompt_experts_s(layer, self.slowest, 512)
            for layer in case.model.layers
            if layer.experts
        )
        return (homes + experts) / self.count

    def weights(self) -> float:
        """Return bytes of all weights, the table of tokens among them."""
        model = self.case.model
        return float(model.bytes)

    def held(self, weights: float, extra: float = 0.0) -> tuple[tuple[float, float, float], ...]:
        """Return what every device holds where `weights` lie on the cards in all."""
        own = (weights / self.count, self.context(), WORKSPACE + extra / self.count)
        return tuple(
            own if d in self.numbers else (0.0, 0.0, 0.0)
            for d in range(len(self.case.machine.devices))
        )


def cards_of(case: Case, runtime: str) -> Iterator[Cards]:
    """Yield the sets of cards that may share: one, or a power of two that divides the heads.

    Raises
    ------
    InputError
        Where there is no card, or they are behind other machines.
    """
    devices = case.machine.devices
    if not devices:
        raise InputError(f"runtime: {runtime} computes on cards: give --gpu")
    if case.config.rpc:
        raise InputError(f"rpc: {runtime} has no such servers: its cards are in one machine")
    for size in (1, 2, 4, 8, 16):
        if size > len(devices) or case.model.heads % size:
            break
        few = len(devices) <= _FEW
        sets = combinations(range(len(devices)), size) if few else [tuple(range(size))]
        for numbers in sets:
            slowest = max((devices[d] for d in numbers), key=lambda own: own.byte_s)
            yield Cards(case, tuple(numbers), slowest)


def sixteen_bits(case: Case, runtime: str, instead: str) -> None:
    """Raise `InputError` where the context is not kept in 16 bits."""
    context = case.config.context
    for flag, kind in (("type_k", context.type_k), ("type_v", context.type_v)):
        if kind not in ("f16", "bf16"):
            raise InputError(
                f"context.{flag}: {runtime} has no context in {kind}: it keeps 16 bits{instead}"
            )


def prompts(case: Case, base: float, copied: float) -> float:
    """Return seconds per token of a prompt where each batch of it copies so many bytes."""
    return base + copied * case.machine.copy_byte_s / case.config.batch


def shown_cards(cards: Cards) -> dict[str, str]:
    """Return the variable that names the cards in use, where some are not."""
    if cards.count == len(cards.case.machine.devices):
        return {}
    return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, cards.numbers))}


def share_of(case: Case, cards: Cards) -> float:
    """Return the share of its memory that a card's runtime may take, its margin left."""
    devices = [case.machine.devices[d] for d in cards.numbers]
    least = min(1 - own.margin_bytes / own.capacity_bytes for own in devices)
    return int(least * 1000) / 1000
