"""What a treatment of a layer says of itself, and what holds where it says nothing.

A mode is one way to treat the experts of a layer: each by itself, as numbers per tier, behind a
cache. Its file in `modes` says which options there are and what an assignment costs under it;
`compile`, `judge`, the plan, the rules and the exports ask only what stands here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from moe2opt.placement.assignment import NOWHERE, PRUNE, Assignment, plain
from moe2opt.placement.case import Case
from moe2opt.placement.experts.activation import uses_per_token
from moe2opt.placement.figures import Baseline
from moe2opt.placement.options import Options, Read
from moe2opt.placement.sections import PlacementConfig
from moe2opt.result import FloatArray, IntArray


def layer_sums(terms: list[FloatArray]) -> FloatArray:
    """Return ``(L,)`` sums of terms with L rows each."""
    return np.asarray(sum(term.reshape(len(term), -1).sum(axis=1) for term in terms))


def total(terms: list[FloatArray]) -> float:
    """Return the sum of all entries of all terms, rounded once."""
    return math.fsum(np.concatenate([term.ravel() for term in terms]).tolist())


@dataclass(frozen=True, eq=False)
class Mode(ABC):
    """A treatment of the layers of one case.

    A mode says its options and its rules. Without further words costs of uses add up, each at the
    cost of its tier and precision; a mode overrides the terms that it treats otherwise. A term is
    an array whose first axis are the layers.

    Attributes
    ----------
    case
        What is treated.
    part
        Section of the configuration that asks for it, empty for none.
    beside
        Other parts that go with it.
    by_place
        Whether tier, precision and form of the experts alone decide what an assignment costs.
    """

    case: Case

    part: ClassVar[str] = ""
    beside: ClassVar[frozenset[str]] = frozenset()
    by_place: ClassVar[bool] = True

    @classmethod
    def asked(cls, config: PlacementConfig) -> bool:
        """Tell whether a configuration asks for this mode: by its part."""
        return cls.part in config.parts

    @property
    def granularity(self) -> str:
        """What is placed as one piece."""
        return self.case.config.granularity

    @abstractmethod
    def options(self) -> tuple[list[Options], Read]:
        """Return the options of all groups, and how to read a choice."""

    @abstractmethod
    def baselines(self) -> Iterator[Baseline]:
        """Yield what simple rules achieve."""

    def check(self) -> None:  # noqa: B027 - most modes refuse nothing
        """Raise `InputError` for a configuration that the mode cannot treat."""

    def misplaced(self, assignment: Assignment) -> list[str]:
        """Return in words which experts lie where the mode's part does not allow them."""
        return []

    def placed(self, tier: IntArray, precision: IntArray) -> Assignment:
        """Return experts that stay where they are; `tier` and `precision` are ``(L, E, 1)``."""
        return plain(tier, precision)

    def uses(self, assignment: Assignment, shares: FloatArray) -> FloatArray:
        """Return ``(L, E)`` uses per token of each stored expert under shares ``(L, E)``."""
        return uses_per_token(shares, self.case.config.batch)

    def second_terms(self, assignment: Assignment, shares: FloatArray) -> list[FloatArray]:
        """Return seconds per token of the experts."""
        use = self.case.use_scaled.seconds
        return [self.uses(assignment, shares) * each(assignment, use, self.case.pruned_use_s)]

    def joules_each(self, assignment: Assignment) -> FloatArray:
        """Return the ``(L, E)`` joules of one use of each expert."""
        return each(assignment, self.case.use_scaled.joules, self.case.pruned_use_j)

    def joule_terms(self, assignment: Assignment, shares: FloatArray) -> list[FloatArray]:
        """Return joules per token of the experts; an unused expert of unknown power costs none."""
        uses = self.uses(assignment, shares)
        return [np.where(uses > 0, uses * self.joules_each(assignment), 0.0)]

    def load_terms(self, assignment: Assignment, shares: FloatArray) -> list[FloatArray]:
        """Return copies per token."""
        moved = (each(assignment, self.case.use_scaled.move_s) > 0).astype(np.float64)
        return [self.uses(assignment, shares) * moved]

    def loss_terms(self, assignment: Assignment) -> list[FloatArray]:
        """Return the losses of rounding weights, and of pruning."""
        saliency = self.case.activation.saliency
        kept = (assignment.form != PRUNE).astype(np.float64)
        rounding = np.array([p.loss_nats for p in self.case.precisions])[assignment.precision]
        return [
            saliency * kept * rounding.mean(axis=2),
            (saliency * self.case.prune_loss_nats)[assignment.form == PRUNE],
        ]

    def stored_share(self, assignment: Assignment) -> FloatArray:
        """Return the ``(L, E)`` share of an expert's bytes that is stored for each."""
        return assignment.stored.astype(np.float64)

    def seconds(self, assignment: Assignment, shares: FloatArray) -> float:
        """Return the seconds per token, dense part included."""
        return self.case.dense_s + total(self.second_terms(assignment, shares))

    def joules(self, assignment: Assignment, shares: FloatArray) -> float:
        """Return the joules per token, dense part included."""
        return self.case.dense_j + total(self.joule_terms(assignment, shares))

    def loads(self, assignment: Assignment, shares: FloatArray) -> float:
        """Return the copies of experts per token."""
        return total(self.load_terms(assignment, shares))

    def layer_seconds(self, assignment: Assignment, shares: FloatArray) -> FloatArray:
        """Return the ``(L,)`` seconds per token of the experts of each layer."""
        return layer_sums(self.second_terms(assignment, shares))

    def layer_loads(self, assignment: Assignment, shares: FloatArray) -> FloatArray:
        """Return the ``(L,)`` copies of experts per token of each layer."""
        return layer_sums(self.load_terms(assignment, shares))

    def uncovered(self, assignment: Assignment) -> float:
        """Return the layers per token whose experts are not all resident, NaN if not modelled."""
        return math.nan

    def loss(self, assignment: Assignment) -> float:
        """Return the rise of the logarithm of perplexity; contributions add up (an assumption)."""
        return total(self.loss_terms(assignment))

    def held_bytes(self, assignment: Assignment) -> FloatArray:
        """Return the ``(T,)`` bytes of experts on each tier."""
        case = self.case
        tier, precision, at = _parts(assignment, case.scale.shape[1])
        size = case.expert_bytes[precision] / tier.shape[2] * case.scale[(*at, precision)]
        held = np.zeros(len(case.topology.tiers))
        alive = tier != NOWHERE
        weight = (size * self.stored_share(assignment)[:, :, None])[alive]
        np.add.at(held, tier[alive], weight)
        return held


def each(assignment: Assignment, table: FloatArray, pruned: float = 0.0) -> FloatArray:
    """Return the ``(L, E)`` entries of a ``(L, P, T, Q)`` table, parts averaged."""
    tier, precision, at = _parts(assignment, table.shape[1])
    entries = np.where(tier == NOWHERE, pruned, table[(*at, np.maximum(tier, 0), precision)])
    return np.asarray(entries.mean(axis=2))


def _parts(
    assignment: Assignment, parts: int
) -> tuple[IntArray, IntArray, tuple[IntArray, IntArray]]:
    """Return ``(L, E, P)`` tiers and precisions of at least `parts` parts, and rows of a table.

    The last are the layer and the part of each entry in a table of ``(L, parts, ...)``.
    """
    layers, experts, own = assignment.tier.shape
    shape = layers, experts, max(own, parts)
    tier, precision = (np.broadcast_to(t, shape) for t in (assignment.tier, assignment.precision))
    return tier, precision, (np.arange(layers)[:, None, None], np.arange(shape[2]) % parts)
