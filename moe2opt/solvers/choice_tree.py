"""Writing down the tree of the multiple-choice engine: root reductions in bulk, then the core."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.result import Certificate, FloatArray, IntArray, Multipliers, Record

if TYPE_CHECKING:
    from moe2opt.solvers.choice_model import Part
    from moe2opt.solvers.choice_state import State


@dataclass(frozen=True, slots=True, eq=False)
class CoreRecords:
    """Records of the core in preorder as arrays, and the prices that they refer to.

    Attributes
    ----------
    kind, axis, index
        Fields of the records; kinds are positions in `KIND_NAMES`.
    prices
        ``(P, K)`` scaled prices, only those in use.
    """

    kind: IntArray
    axis: IntArray
    index: IntArray
    prices: FloatArray


@dataclass(slots=True)
class RootTree:
    """Options excluded at the root by one set of prices, and what follows.

    Attributes
    ----------
    row_scale
        ``(K,)`` what turns scaled prices into prices of the rows.
    last
        Reason and scaled prices of the leaf below the reductions; ``core`` for a tree.
    excluded, price
        Options that the root rules out, and the scaled prices that do it.
    core
        The tree below.
    """

    row_scale: FloatArray
    last: tuple[str, FloatArray | None] = ("corner", None)
    excluded: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    price: FloatArray | None = None
    core: CoreRecords | None = None

    def leaf(self, reason: str, price: FloatArray | None) -> None:
        """Close the root, for now."""
        self.last = (reason, None if price is None else price.copy())

    def reduce(self, options: IntArray, price: FloatArray) -> None:
        """Exclude options at the root, instead of those before."""
        self.excluded, self.price = options, price.copy()


def core_records(part: Part, state: State) -> CoreRecords:
    """Return the tree of a core; open nodes are closed by the prices of their parents."""
    from moe2opt.solvers.choice_state import (
        CURRENT,
        DUAL,
        FARKAS,
        GROUP,
        OUT_BUDGET,
        OUT_DUAL,
        POSITIONS,
        QUEUED,
        SPLIT,
        preorder,
    )

    nodes = state.queue[: state.counts[QUEUED]]
    if state.counts[CURRENT] >= 0:
        nodes = np.append(nodes, state.counts[CURRENT])
    open_positions = state.node_position[nodes]
    state.kind[open_positions] = DUAL
    state.axis[open_positions] = state.node_prices[nodes]
    order = preorder(state.child, state.kind, int(state.counts[POSITIONS]))
    kind = state.kind[order].astype(np.int64)
    axis, index = state.axis[order].astype(np.int64), state.number[order].astype(np.int64)
    on_option = (kind == SPLIT) | (kind == OUT_DUAL) | (kind == OUT_BUDGET)
    priced_leaf = (kind == DUAL) | (kind == FARKAS)
    used, number = np.unique(
        np.concatenate([axis[priced_leaf], index[kind == OUT_DUAL]]), return_inverse=True
    )
    axis[priced_leaf] = number[: priced_leaf.sum()]
    index[kind == OUT_DUAL] = number[priced_leaf.sum() :]
    axis[on_option] = part.options[axis[on_option]]
    axis[kind == GROUP] = part.groups[axis[kind == GROUP]]
    return CoreRecords(kind, axis, index, state.prices[used])


def sealed(problem: MultipleChoiceProblem, claim: float, tree: RootTree) -> Certificate:
    """Return the certificate of a finished tree."""
    prices: list[FloatArray] = []
    records: list[Record] = []
    if tree.core is not None:
        if len(tree.excluded):
            assert tree.price is not None
            prices.append(tree.price)
            records = [("out:dual", option, 0) for option in tree.excluded.tolist()]
        records += _named(tree.core, len(prices))
        prices += list(tree.core.prices)
    else:
        reason, price = tree.last
        records = [(reason, 0, 0)]
        prices = [] if price is None else [price]
    nothing = np.zeros(0)
    return Certificate(
        kind=problem.kind,
        claim=claim,
        tree=tuple(records),
        multipliers=tuple(Multipliers(nothing, p * tree.row_scale, nothing) for p in prices),
        problem_hash=problem.fingerprint,
    ).sealed()


def _named(core: CoreRecords, offset: int) -> list[Record]:
    """Return records as tuples, with the numbers of their prices moved up by `offset`."""
    from moe2opt.solvers.choice_state import DUAL, FARKAS, KIND_NAMES, OUT_DUAL

    leaf = (core.kind == DUAL) | (core.kind == FARKAS)
    axis = core.axis + np.where(leaf, offset, 0)
    index = core.index + np.where(core.kind == OUT_DUAL, offset, 0)
    names = [KIND_NAMES[k] for k in core.kind.tolist()]
    return list(zip(names, axis.tolist(), index.tolist(), strict=True))
