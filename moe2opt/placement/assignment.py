"""What every expert becomes and where it lives, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moe2opt.placement.experts.activation import uses_per_token
from moe2opt.result import FloatArray, IntArray

if TYPE_CHECKING:
    from moe2opt.placement.question import PlacementInstance

#: What can become of an expert; `Assignment.form` holds positions in this list.
FORMS = ("keep", "merge", "prune", "share", "distil")
KEEP, MERGE, PRUNE, SHARE, DISTIL = range(len(FORMS))

#: The tier of a pruned expert.
NOWHERE = -1


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """Tier, precision and form of every expert.

    Attributes
    ----------
    tier, precision
        ``(L, E, P)`` tier (-1 where pruned) and precision of each part of each expert; P is 1, or
        3 when gate, up and down are placed apart. A merged expert has those of its representative.
    form
        ``(L, E)`` position in `FORMS`.
    representative
        ``(L, E)`` expert that serves in its place, itself when kept.
    slots
        ``(L,)`` cache slots on the home tier, None without a cache.
    copied
        ``(L, E)`` whether an expert off the fast tier is copied there rather than computed in
        place, None without a split.
    """

    tier: IntArray
    precision: IntArray
    form: IntArray
    representative: IntArray
    slots: IntArray | None = None
    copied: IntArray | None = None

    @property
    def stored(self) -> IntArray:
        """``(L, E)`` 1 where the expert's own weights are stored."""
        own = self.representative == np.arange(self.form.shape[1])
        return np.asarray((own & (self.form != PRUNE)).astype(np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """What an assignment costs.

    Attributes
    ----------
    seconds_per_token, joules_per_token
        Dense part included; joules are NaN where a power is unknown.
    loss_nats
        Rise of the logarithm of perplexity.
    bytes_by_tier
        ``(T,)`` bytes held, dense part and context included.
    loads_per_token
        Copies of experts to the place where they are computed.
    uncovered_per_token
        Layers per token whose experts are not all resident; NaN without the part `coverage`.
    seconds_by_domain
        ``(D,)`` seconds per token in each domain.
    """

    seconds_per_token: float
    joules_per_token: float
    loss_nats: float
    bytes_by_tier: FloatArray
    loads_per_token: float
    uncovered_per_token: float
    seconds_by_domain: FloatArray

    @property
    def memory_gib(self) -> float:
        """GiB over all tiers."""
        return float(self.bytes_by_tier.sum()) / 2**30

    def value(self, metric: str) -> float:
        """Return the figure of a metric's name."""
        return float(getattr(self, metric))


def plain(tier: IntArray, precision: IntArray, **more: IntArray | None) -> Assignment:
    """Return an assignment that keeps or prunes every expert as itself."""
    form = np.where((tier == NOWHERE).all(axis=2), PRUNE, KEEP)
    own = np.tile(np.arange(tier.shape[1]), (tier.shape[0], 1))
    return Assignment(tier, precision, form, own, **more)


def served_shares(assignment: Assignment, shares: FloatArray) -> FloatArray:
    """Return the ``(L, E)`` share of tokens that each expert serves.

    A representative serves the tokens of its group. Where experts are pruned, the others of the
    layer take over in proportion to their own shares (a router without them picks the next ones).
    """
    served = np.zeros_like(shares)
    layer = np.arange(len(shares))[:, None]
    alive = np.where(assignment.form == PRUNE, 0.0, shares)
    np.add.at(served, (layer, assignment.representative), alive)
    kept = alive.sum(axis=1, keepdims=True)
    grow = np.divide(
        shares.sum(axis=1, keepdims=True), kept, out=np.ones_like(kept), where=kept > 0
    )
    return np.asarray(np.minimum(served * grow, 1.0))


def stored_bytes(instance: PlacementInstance, assignment: Assignment) -> FloatArray:
    """Return the ``(T,)`` bytes of experts held on each tier."""
    size = instance.expert_bytes[assignment.precision] / assignment.tier.shape[2]
    factor = np.where(assignment.stored == 1, 1.0, 0.0)
    if instance.config.aggregation is not None:
        residual = instance.config.aggregation.rank_share
        factor = factor + np.where(assignment.form == SHARE, residual, 0.0)
    held = np.zeros(len(instance.topology.tiers))
    alive = assignment.tier != NOWHERE
    weight = (size * factor[:, :, None])[alive]
    np.add.at(held, assignment.tier[alive], weight)
    if instance.layer_dense_bytes:
        np.add.at(held, assignment.tier[:, 0, 0], instance.layer_dense_bytes)
    if assignment.slots is not None:
        by_layer = instance.expert_bytes[assignment.precision[:, 0, 0]]
        held[instance.topology.home] += float(by_layer @ assignment.slots)
    return held


def layer_uses(
    instance: PlacementInstance, assignment: Assignment, shares: FloatArray
) -> FloatArray:
    """Return the ``(L, E)`` uses per token of each stored expert under `shares` (L, E)."""
    if instance.config.aggregation is None:
        return uses_per_token(shares, instance.config.batch)
    return uses_per_token(served_shares(assignment, shares), instance.config.batch)


def evaluate(instance: PlacementInstance, assignment: Assignment) -> Figures:
    """Return what an assignment costs, computed from the instance's own data.

    It shares no table with `compile`: the comparison of both is a test of the formulation.
    """
    from moe2opt.placement import times

    shares = instance.activation.shares
    by_domain = np.array([times.seconds(instance, assignment, part) for part in shares])
    mixed = instance.activation.mixed
    seconds = float(by_domain.max()) if instance.activation.robust else None
    held = stored_bytes(instance, assignment)
    held[instance.topology.home] += instance.home_bytes
    return Figures(
        seconds_per_token=times.seconds(instance, assignment, mixed)
        if seconds is None
        else seconds,
        joules_per_token=times.joules(instance, assignment, mixed),
        loss_nats=times.loss(instance, assignment),
        bytes_by_tier=held,
        loads_per_token=times.loads(instance, assignment, mixed),
        uncovered_per_token=times.uncovered(instance, assignment),
        seconds_by_domain=by_domain,
    )
