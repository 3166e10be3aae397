"""A compiled tree of facility nodes as arrays: open nodes, multipliers, records, working memory.

Arrays are few and have many columns on purpose: every array that a kernel passes on to another one
costs time to compile.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.solvers.facility.kernels import IndexArray
from moe2opt.solvers.jit import inner, no_literal, released

#: Kinds of records, see `moe2opt.result.Record`: an open one first, and last one that goes on in
#: the tree that this one is a part of.
KINDS = (
    *("open", "split", "corner", "dual", "budget", "group"),
    *("out:dual", "in:dual", "out:budget", "out:group", "elsewhere"),
)
OPEN, SPLIT, CORNER, DUAL, BUDGET, GROUP = map(no_literal, range(6))
OUT_DUAL, IN_DUAL, OUT_BUDGET, OUT_GROUP, ELSEWHERE = map(no_literal, range(6, 11))

#: Numbers as kernels pass them on.
NONE, ZERO, ONE = no_literal(-1), no_literal(0), no_literal(1)

#: Columns of `Flat.records`: first and second are the children, -1 for none.
KIND, AXIS, INDEX, FIRST, SECOND = map(no_literal, range(5))

#: Columns of `Flat.node`: depth, record, kind and index of the record that proves the bound, slot
#: of the prices to start from, what was branched on; by themselves the heap, and unused slots.
DEPTH, PLACE, PROOF, PROVEN, START, BRANCHED, HEAP, UNUSED = map(no_literal, range(8))

#: Columns of `Flat.measure`: bound; fraction that was branched on, and under which bound; first
#: length of a descent.
BOUND, SHARE, ABOVE, LENGTH = map(no_literal, range(4))

#: Columns of `Flat.use`: open nodes that use a slot of multipliers, whether a record does; unused
#: slots by themselves.
USERS, KEPT, SPARE = map(no_literal, range(3))

#: Places in `Flat.whole`: numbers of records and of open nodes; lowest slot of a node that was
#: never used, number of unused ones below, the same of multipliers; numbers of nodes examined, of
#: nodes bounded, and of nodes that rounding was thought of; the record at hand.
RECORDS, OPENED, NODE_TOP, NODE_FREE, PRICE_TOP, PRICE_FREE = map(no_literal, range(6))
EXAMINED, BOUNDED, ROUNDS, HERE = map(no_literal, range(6, 10))

#: Places in `Flat.level`: incumbent, cutoff and target as in `Search`; largest pruned bound.
OBJECTIVE, CUTOFF, TARGET, PRUNED = map(no_literal, range(4))

#: Rows of `Flat.by_expert`: opening costs, profit, constant profit; two of how far bounds fell and
#: two of how often, see `PseudoCosts`.
FIXED, PROFIT, BONUS, FALLEN, TIMES, BY_EXPERT = map(no_literal, (0, 1, 2, 3, 5, 7))

#: Rows of `Flat.by_cluster`.
COUNT, LAST, STEP, GRID, BEST, BY_CLUSTER = map(no_literal, range(6))

#: Rows of `Flat.by_row`; the last three of the rows of the problem as given.
LIMIT, ROW_STEP, PRICE, LEFT, OWN_LIMIT, OWN_LEFT, BY_ROW = map(no_literal, range(7))

#: Rows of `Flat.by_part`.
FREE_BEST, FORCED_SUM = map(no_literal, range(2))

#: Rows of `Flat.number`.
PART_OF, EVERYBODY, ROW_OF, ORDER, NUMBERS = map(no_literal, range(5))

#: Rows of `Flat.flag`; FOUND is a choice that a call ends with.
ALLOWED, FORCED, CHOSEN, FOUND, NOBODY, FLAGS = map(no_literal, range(6))


class Flat(NamedTuple):
    """The prepared problem (see `FacilityModel` and `Polisher`), and the tree.

    `state` says of each node and expert whether it is excluded (0), free (1) or forced (2);
    `threshold` and `row_price` hold multipliers by slot. For the others see the constants above.
    """

    columns: FloatArray
    ranked: FloatArray
    experts: IndexArray
    near: FloatArray
    nearest: IndexArray
    rows: FloatArray
    own_rows: FloatArray
    by_expert: FloatArray
    by_cluster: FloatArray
    by_row: FloatArray
    by_part: FloatArray
    number: IntArray
    flag: BoolArray
    state: npt.NDArray[np.int8]
    node: IntArray
    measure: FloatArray
    threshold: FloatArray
    row_price: FloatArray
    use: IntArray
    records: IndexArray
    whole: IntArray
    level: FloatArray


# ---------------------------------------------------------------------- heap


@inner
def _is_before(node: IntArray, measure: FloatArray, a: int, b: int) -> bool:
    """Tell which of two slots comes first: larger bound, then larger depth, then older."""
    if measure[a, BOUND] != measure[b, BOUND]:
        return bool(measure[a, BOUND] > measure[b, BOUND])
    if node[a, DEPTH] != node[b, DEPTH]:
        return bool(node[a, DEPTH] > node[b, DEPTH])
    return bool(node[a, PLACE] < node[b, PLACE])


@inner
def push(node: IntArray, measure: FloatArray, whole: IntArray, slot: int) -> None:
    """Put a slot into the heap."""
    k = whole[OPENED]
    whole[OPENED] += 1
    while k > 0:
        above = (k - 1) // 2
        if not _is_before(node, measure, slot, node[above, HEAP]):
            break
        node[k, HEAP] = node[above, HEAP]
        k = above
    node[k, HEAP] = slot


@inner
def pop(node: IntArray, measure: FloatArray, whole: IntArray) -> int:
    """Take the first slot out of the heap."""
    whole[OPENED] -= 1
    size = whole[OPENED]
    first, slot, k = node[0, HEAP], node[size, HEAP], 0
    while 2 * k + 1 < size:
        child = 2 * k + 1
        second = min(child + 1, size - 1)
        if _is_before(node, measure, node[second, HEAP], node[child, HEAP]):
            child = second
        if not _is_before(node, measure, node[child, HEAP], slot):
            break
        node[k, HEAP] = node[child, HEAP]
        k = child
    node[k, HEAP] = slot
    return int(first)


# ---------------------------------------------------------------------- slots


@inner
def new_node(node: IntArray, whole: IntArray) -> int:
    """Return an unused slot of a node."""
    if whole[NODE_FREE] > 0:
        whole[NODE_FREE] -= 1
        return int(node[whole[NODE_FREE], UNUSED])
    whole[NODE_TOP] += 1
    return int(whole[NODE_TOP] - 1)


@inner
def new_price(use: IntArray, whole: IntArray) -> int:
    """Return an unused slot of multipliers, which the caller uses."""
    if whole[PRICE_FREE] > 0:
        whole[PRICE_FREE] -= 1
        slot = use[whole[PRICE_FREE], SPARE]
    else:
        slot = whole[PRICE_TOP]
        whole[PRICE_TOP] += 1
    use[slot, USERS] = 1
    use[slot, KEPT] = 0
    return int(slot)


@inner
def give_up(use: IntArray, whole: IntArray, slot: int) -> None:
    """Use multipliers no longer, which may be nobody's now."""
    use[slot, USERS] -= 1
    if use[slot, USERS] == 0 and use[slot, KEPT] == 0:
        use[whole[PRICE_FREE], SPARE] = slot
        whole[PRICE_FREE] += 1


@inner
def drop(node: IntArray, use: IntArray, whole: IntArray, slot: int) -> None:
    """Give back a node and the multipliers that it used."""
    if node[slot, PROOF] == DUAL:
        give_up(use, whole, node[slot, PROVEN])
    give_up(use, whole, node[slot, START])
    node[whole[NODE_FREE], UNUSED] = slot
    whole[NODE_FREE] += 1


# ---------------------------------------------------------------------- records


@inner
def write(records: IndexArray, record: int, kind: int, axis: int, index: int, below: int) -> None:
    """Write a record that has one record below it, or -1 for none."""
    records[record, KIND] = kind
    records[record, AXIS] = axis
    records[record, INDEX] = index
    records[record, FIRST] = below
    records[record, SECOND] = -1


@inner
def leaf(records: IndexArray, use: IntArray, whole: IntArray, kind: int, index: int) -> None:
    """Make a leaf of the record at hand."""
    if kind == DUAL:
        use[index, KEPT] = 1
    write(records, whole[HERE], kind, index, ZERO, NONE)


@inner
def narrow(records: IndexArray, whole: IntArray, kind: int, axis: int, index: int) -> None:
    """Write down that one side of an expert is closed; go on with the other."""
    below = whole[RECORDS]
    whole[RECORDS] += 1
    write(records, whole[HERE], kind, axis, index, below)
    whole[HERE] = below


@released
def in_preorder(records: IndexArray, root: int, rows: IntArray) -> int:
    """Fill ``(n, 3)`` kind, first and last field of the records below `root`; return their number.

    The left child follows its parent. Cost: the records.
    """
    stack, top, count = np.zeros(64, dtype=np.int64), 1, 0
    stack[0] = root
    while top > 0:
        top -= 1
        record = stack[top]
        for field in range(3):
            rows[count, field] = records[record, field]
        count += 1
        if top + 2 > len(stack):
            more = np.zeros(2 * len(stack), dtype=np.int64)
            for k in range(top):
                more[k] = stack[k]
            stack = more
        for child in (SECOND, FIRST):
            if records[record, child] >= 0:
                stack[top] = records[record, child]
                top += 1
    return count
