"""Slots of a layer in front of a tier that holds every expert: who stays, who goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Policy = Literal["lru", "lfu", "pinned"]

POLICIES: tuple[Policy, ...] = ("lru", "lfu", "pinned")


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a token finds.

    Attributes
    ----------
    hits
        Experts and the slots they are in.
    misses
        Experts to be copied, each with the slot that takes it; None where it only passes through.
    """

    hits: tuple[tuple[int, int], ...]
    misses: tuple[tuple[int, int | None], ...]


class SlotCache:
    """The slots of one layer.

    Parameters
    ----------
    slots
        How many.
    policy
        Who goes: the one used longest ago (``lru``), the one used least often (``lfu``), nobody
        (``pinned``).
    pinned
        Experts that are there from the start, for ``pinned``.

    Notes
    -----
    All experts of a token are looked up before any of them is brought in, and they count as used in
    the order of their rank: the rule of `moe2opt.placement.experts.hits.lru_hit_rates`.
    """

    def __init__(self, slots: int, policy: Policy, pinned: Sequence[int] = ()) -> None:
        self.slots, self.policy = slots, policy
        self._place: dict[int, int] = {}
        self._count: dict[int, int] = {}
        self._pinned = tuple(pinned)[:slots]
        self.clear()

    def clear(self) -> None:
        """Start a new sequence: empty, or with the pinned experts."""
        self._place = {expert: slot for slot, expert in enumerate(self._pinned)}
        self._count = {}

    def look_up(self, experts: Sequence[int]) -> Lookup:
        """Return what is there, and bring in the rest; `experts` in order of rank.

        Hits must be served before misses are brought in: a miss may take the slot of a hit.
        """
        before = dict(self._place)
        if self.policy != "pinned":
            for expert in experts:
                self._touch(expert)
            self._settle(before)
        hits = tuple((e, before[e]) for e in experts if e in before)
        return Lookup(hits, tuple((e, self._place.get(e)) for e in experts if e not in before))

    def _touch(self, expert: int) -> None:
        """Make an expert the last one used; dictionaries keep the order of their entries."""
        self._count[expert] = self._count.get(expert, 0) + 1
        if self._place.pop(expert, None) is None and len(self._place) >= self.slots:
            if not self._place:
                return
            gone = next(iter(self._place))
            if self.policy == "lfu":
                gone = min(self._place, key=lambda held: self._count.get(held, 0))
            del self._place[gone]
        self._place[expert] = -1

    def _settle(self, before: dict[int, int]) -> None:
        """Leave those that were here where they are, and give the empty slots to the others."""
        kept = {before[e] for e in self._place if e in before}
        empty = (slot for slot in range(self.slots) if slot not in kept)
        for expert in self._place:
            self._place[expert] = before[expert] if expert in before else next(empty)
