"""Writing down the tree of the multiple-choice engine: root fixings in bulk, then the core."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from moe2opt.archive import Records
from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.result import Certificate, FloatArray, IntArray, PriceTable
from moe2opt.solvers.choice.model import Part
from moe2opt.solvers.choice.state import (
    CURRENT,
    DUAL,
    FARKAS,
    GROUP,
    KIND_NAMES,
    OUT_BUDGET,
    OUT_DUAL,
    POSITIONS,
    QUEUED,
    SPLIT,
    Int32Array,
    State,
    preorder,
)
from moe2opt.solvers.tree import MOST_TUPLES


@dataclass(frozen=True, slots=True, eq=False)
class CoreRecords:
    """Records of the core in preorder as arrays, and the prices that they refer to.

    Attributes
    ----------
    rows
        ``(n, 3)`` position of the kind in `KIND_NAMES`, first and last field.
    prices
        ``(P, K)`` scaled prices, only those in use.
    """

    rows: Int32Array
    prices: FloatArray


@dataclass(slots=True)
class RootTree:
    """Options excluded at the root by one set of prices, and what follows.

    Attributes
    ----------
    row_scale
        ``(K,)`` what turns scaled prices into prices of the rows.
    last
        Reason and scaled prices of the leaf below the fixings; ``core`` for a tree.
    excluded, price
        Options that the root rules out, and the scaled prices that do it.
    core
        The tree below.
    rounded
        The rounded rows, which follow the budgets.
    """

    row_scale: FloatArray
    last: tuple[str, FloatArray | None] = ("corner", None)
    excluded: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    price: FloatArray | None = None
    core: CoreRecords | None = None
    rounded: tuple[tuple[int, int], ...] = ()

    def leaf(self, reason: str, price: FloatArray | None) -> None:
        """Close the root, for now."""
        self.last = (reason, None if price is None else price.copy())

    def reduce(self, options: IntArray, price: FloatArray) -> None:
        """Exclude options at the root, instead of those before."""
        self.excluded, self.price = options, price.copy()


def core_records(part: Part, state: State) -> CoreRecords:
    """Return the tree of a core; open nodes are pruned by the prices of their parents."""
    nodes = state.queue[: state.counts[QUEUED]]
    if state.counts[CURRENT] >= 0:
        nodes = np.append(nodes, state.counts[CURRENT])
    open_positions = state.node_position[nodes]
    state.kind[open_positions] = DUAL
    state.axis[open_positions] = state.node_prices[nodes]
    order = preorder(state.child, state.kind, int(state.counts[POSITIONS]))
    kind = state.kind[order]
    axis, index = state.axis[order], state.number[order]
    reduced, priced = kind == OUT_DUAL, (kind == DUAL) | (kind == FARKAS)
    on_option = (kind == SPLIT) | reduced | (kind == OUT_BUDGET)
    used = np.zeros(len(state.prices), dtype=bool)
    used[axis[priced]] = used[index[reduced]] = True
    number = np.cumsum(used, dtype=np.int32) - 1
    axis[priced], index[reduced] = number[axis[priced]], number[index[reduced]]
    axis[on_option] = part.options[axis[on_option]]
    axis[kind == GROUP] = part.groups[axis[kind == GROUP]]
    rows = np.empty((len(order), 3), dtype=np.int32)
    rows[:, 0], rows[:, 1], rows[:, 2] = kind, axis, index
    return CoreRecords(rows, state.prices[used])


def sealed(problem: MultipleChoiceProblem, claim: float, tree: RootTree) -> Certificate:
    """Return the certificate of a finished tree."""
    records, prices = _below_root(tree) if tree.core is not None else _one_leaf(tree)
    certificate = Certificate(
        kind=problem.kind,
        claim=claim,
        tree=records,
        multipliers=PriceTable(prices * tree.row_scale),
        rounded=tree.rounded,
        problem_hash=problem.fingerprint,
    ).sealed()
    return certificate if len(records) > MOST_TUPLES else replace(certificate, tree=tuple(records))


def _one_leaf(tree: RootTree) -> tuple[Records, FloatArray]:
    reason, price = tree.last
    prices = np.zeros((0, len(tree.row_scale))) if price is None else price[None, :]
    return Records([reason], np.zeros((1, 3), dtype=np.int32)), prices


def _below_root(tree: RootTree) -> tuple[Records, FloatArray]:
    """Return the records of the root's fixings and of the core, and their prices."""
    assert tree.core is not None
    rows, prices = tree.core.rows, tree.core.prices
    if not len(tree.excluded):
        return Records(KIND_NAMES, rows), prices
    assert tree.price is not None
    root = np.zeros((len(tree.excluded), 3), dtype=np.int32)
    root[:, 0], root[:, 1] = OUT_DUAL, tree.excluded
    # The root's prices are number 0: all others move up by one.
    rows[:, 1] += (rows[:, 0] == DUAL) | (rows[:, 0] == FARKAS)
    rows[:, 2] += rows[:, 0] == OUT_DUAL
    return Records(KIND_NAMES, np.concatenate([root, rows])), np.vstack([tree.price, prices])
