"""What every expert becomes and where it lives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe2opt.result import FloatArray, IntArray

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
