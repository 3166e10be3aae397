"""Residents of a layer such that most tokens find all their experts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from moe2opt.placement.assignment import Assignment, plain
from moe2opt.placement.baselines.rules import fixed_places
from moe2opt.placement.figures import Baseline
from moe2opt.placement.machine.topology import GIB
from moe2opt.placement.mode import total
from moe2opt.placement.modes.layered import Layered, LayerMenu
from moe2opt.placement.sections import Coverage
from moe2opt.result import FloatArray, InputError, IntArray
from moe2opt.steps import step

#: Most experts of a layer whose sets of residents are all looked at.
MOST_EXPERTS = 20


@dataclass(frozen=True, slots=True, eq=False)
class Residents:
    """The best sets of each size.

    Attributes
    ----------
    covered
        ``(E + 1,)`` share of tokens covered by the best set of each size.
    experts
        That set.
    """

    covered: FloatArray
    experts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Covered(Layered):
    """The residents of every layer are the best set of their number."""

    part: ClassVar[str] = "coverage"
    by_place: ClassVar[bool] = False

    @property
    def section(self) -> Coverage:
        """The part of the configuration."""
        section = self.case.config.coverage
        assert section is not None
        return section

    @property
    def tiers(self) -> tuple[int, int]:
        """Positions of the tier of the residents, and of the others'."""
        index, own = self.case.topology.index, self.section
        return index(own.tier, "coverage.tier"), index(own.backing, "coverage.backing")

    def check(self) -> None:
        """Raise `InputError` for tokens decoded together."""
        if self.case.config.batch > 1:
            raise InputError("batch: hit rates of cache and coverage are those of single tokens")

    def baselines(self) -> Iterator[Baseline]:
        """Yield rules with fixed places."""
        yield from fixed_places(self)

    def covered_shares(self, assignment: Assignment) -> FloatArray:
        """Return the ``(L,)`` share of tokens all of whose experts are resident, by the trace."""
        trace = self.case.activation.trace
        assert trace is not None
        resident = assignment.tier[:, :, 0] == self.tiers[0]
        hit = np.stack([resident[layer][trace[:, layer]] for layer in range(len(resident))], axis=1)
        return np.asarray(hit.all(axis=2).mean(axis=0))

    def second_terms(self, assignment: Assignment, shares: FloatArray) -> list[FloatArray]:
        """Return the uses of experts, and what layers that are not covered cost besides."""
        sync = (1.0 - self.covered_shares(assignment)) * self.section.sync_us * 1e-6
        return [*super().second_terms(assignment, shares), sync]

    def uncovered(self, assignment: Assignment) -> float:
        """Return the layers per token whose experts are not all resident."""
        return total([1.0 - self.covered_shares(assignment)])

    def menus(self, layer: int) -> Iterator[LayerMenu]:
        """Yield every number of residents at each precision."""
        case = self.case
        fast, slow = self.tiers
        residents = self.residents[layer]
        numbers = np.arange(len(residents.covered))
        uses = case.uses[layer]
        kept = np.array([uses[list(chosen)].sum() for chosen in residents.experts])
        rest = uses.sum() - kept
        open_ = 1.0 - residents.covered
        saliency = float(case.activation.saliency[layer].sum())
        nothing = np.zeros(len(numbers), dtype=np.int64)
        for q, precision in enumerate(case.precisions):
            size = float(case.expert_bytes[q])
            held = np.zeros((len(numbers), len(case.topology.tiers)))
            held[:, fast] += numbers * size
            held[:, slow] += (len(uses) - numbers) * size
            seconds, moved = case.use.seconds[:, q], case.use.move_s[:, q] > 0
            metrics = {
                "seconds_per_token": kept * seconds[fast]
                + rest * seconds[slow]
                + open_ * self.section.sync_us * 1e-6,
                "uncovered_per_token": open_,
                "loads_per_token": kept * moved[fast] + rest * moved[slow],
                "loss_nats": np.full(len(numbers), saliency * precision.loss_nats),
                "memory_gib": held.sum(axis=1) / GIB,
            }
            joules = case.use.joules[:, q]
            if np.isfinite(joules[[fast, slow]]).all():
                metrics["joules_per_token"] = kept * joules[fast] + rest * joules[slow]
            yield LayerMenu(metrics, held, nothing, nothing + q, numbers[:, None])

    def read(self, menus: list[LayerMenu], x: IntArray) -> Assignment:
        """Return the residents of the chosen numbers."""
        fast, slow = self.tiers
        tier = np.full((*self.case.shape.size, 1), slow, dtype=np.int64)
        for layer, (menu, i) in enumerate(zip(menus, x, strict=True)):
            chosen = self.residents[layer].experts[menu.counts[i, 0]]
            tier[layer, list(chosen), 0] = fast
        return plain(tier, self.chosen_precision(menus, x))

    @cached_property
    def residents(self) -> tuple[Residents, ...]:
        """The best residents of every layer for every number of them, by looking at all sets.

        Raises
        ------
        InputError
            Without a trace, or with more than `MOST_EXPERTS` experts.
        """
        trace, experts = self.case.activation.trace, self.case.shape.experts
        if trace is None:
            raise InputError("coverage: needs activation.trace, the experts of each token")
        if experts > MOST_EXPERTS:
            raise InputError(
                f"coverage: {experts} experts per layer are too many (at most {MOST_EXPERTS}); the "
                "number of sets of residents doubles with each"
            )
        return tuple(exhaustive(trace[:, layer], experts) for layer in range(trace.shape[1]))


def exhaustive(tokens: IntArray, experts: int) -> Residents:
    """Return the best residents of each size for ``(tokens, k)`` experts of one layer.

    The tokens covered by a set are those whose own set is a subset: sums over subsets of all
    ``2 ** experts`` sets at once (zeta transform).
    """
    masks = np.bitwise_or.reduce(np.int64(1) << tokens.astype(np.int64), axis=1)
    covered = np.bincount(masks, minlength=2**experts).astype(np.float64)
    for e in range(experts):
        pairs = covered.reshape(-1, 2, 2**e)
        pairs[:, 1] += pairs[:, 0]
    sets = np.arange(2**experts)
    size = np.zeros(len(sets), dtype=np.int64)
    for e in range(experts):
        size += (sets >> e) & 1
    best = []
    for number in range(experts + 1):
        step()
        candidates = np.flatnonzero(size == number)
        best.append(int(candidates[np.argmax(covered[candidates])]))
    chosen = tuple(tuple(e for e in range(experts) if s >> e & 1) for s in best)
    return Residents(covered[best] / len(tokens), chosen)
