"""Which device holds what: the rules of `-ngl`, `-ts`, `-ncmoe` and `-ot`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from moe2opt.errors import InputError
from moe2opt.llamacpp.model import LlamaModel

#: The place of what stays in RAM; devices count from 0.
CPU = -1

#: The name of every matrix of experts.
ALL = "*"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything lies.

    Attributes
    ----------
    homes
        The device of each block (its attention, dense part and context), and last of the output.
    experts
        By block, the device of each matrix of its routed experts, where that is not its home;
        `ALL` stands for every matrix that is not named.
    """

    homes: tuple[int, ...]
    experts: Mapping[int, Mapping[str, int]] = field(default_factory=dict)

    def of_experts(self, block: int, matrix: str) -> int:
        """Return where a matrix of the experts of a block lies."""
        own = self.experts.get(block, {})
        return own.get(matrix, own.get(ALL, self.homes[block]))


def homes_of(
    blocks: int, shares: Sequence[float], on_devices: int | None = None
) -> tuple[int, ...]:
    """Return the devices that llama.cpp gives to the blocks and to the output.

    The last `on_devices` of the ``blocks + 1`` units go to devices, in order: the i-th of them to
    the first device whose cumulated share exceeds ``i`` of them (`llama_model::load_tensors`).

    Parameters
    ----------
    shares
        ``-ts``: one number for each device.
    on_devices
        ``-ngl``; all where it is not given.

    Raises
    ------
    InputError
        When a share is negative or all are zero.
    """
    if min(shares) < 0 or not sum(shares):
        raise InputError("shares of the devices must not be negative, and not all zero")
    units = blocks + 1
    offloaded = units if on_devices is None else min(max(on_devices, 0), units)
    total = sum(shares)
    ends = [end / total for end in accumulate(shares)]
    homes = [CPU] * (units - offloaded)
    for i in range(offloaded):
        homes.append(next((k for k, end in enumerate(ends) if end > i / offloaded), len(ends) - 1))
    return tuple(homes)


def experts_in_ram(model: LlamaModel, layers: int) -> dict[int, dict[str, int]]:
    """Return where experts lie under ``-ncmoe``: in RAM those of the first blocks."""
    return {
        layer.index: dict.fromkeys(layer.experts, CPU)
        for layer in model.layers
        if layer.index < layers and layer.experts
    }
