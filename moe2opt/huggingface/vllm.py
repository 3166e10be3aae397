"""How vLLM can be told to keep weights elsewhere: in one of two patterns of whole layers.

``uva`` leaves parameters in memory of the processor, in the order of modules, until so many GiB are
reached: the first layers. ``prefetch`` does that with the last layers of every group, and copies
them ahead. Source: `vllm/config/offload.py`, `vllm/model_executor/offloader/{uva,prefetch}.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Layers that ``prefetch`` copies ahead, each with room on the card beside the one in use.
AHEAD = 1

#: Share of a layer that is left out of the limit, so that the last layer is still begun.
_LESS = 0.1


@dataclass(frozen=True, slots=True)
class Pattern:
    """Layers that are elsewhere, and what says so.

    Attributes
    ----------
    moved
        Numbers of the layers whose experts (of a dense model, everything) are elsewhere.
    options
        As vLLM's engine calls them.
    """

    moved: tuple[int, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def backend(self) -> str:
        """``uva``, ``prefetch``, or nothing."""
        return str(self.options.get("offload_backend", ""))


def patterns(gib: Mapping[int, float], blocks: int, *, sparse: bool = True) -> Iterator[Pattern]:
    """Yield every pattern once, the first one without anything elsewhere.

    Parameters
    ----------
    gib
        GiB of each card that the layers which may be elsewhere take, by number, in order.
    blocks
        Number of all layers.
    sparse
        Whether these have experts, which alone are elsewhere then.
    """
    named = ["experts"] if sparse else []
    yield Pattern()
    total, order = 0.0, tuple(gib)
    for number, layer in enumerate(order, 1):
        total += gib[layer]
        limit = round(total - _LESS * gib[layer], 6)
        options = {"offload_backend": "uva", "cpu_offload_gb": limit}
        yield Pattern(order[:number], options | ({"cpu_offload_params": named} if named else {}))
    seen: set[tuple[int, ...]] = {()}
    for size in range(1, blocks + 1):
        for number in range(1, size + 1):
            moved = tuple(layer for layer in order if layer % size >= size - number)
            if moved not in seen:
                seen.add(moved)
                options = {
                    "offload_backend": "prefetch",
                    "offload_group_size": size,
                    "offload_num_in_group": number,
                    "offload_prefetch_step": AHEAD,
                }
                yield Pattern(moved, options | ({"offload_params": named} if named else {}))
