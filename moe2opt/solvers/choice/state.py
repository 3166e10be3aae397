"""Flat arrays for the tree of a multiple-choice search: positions, open nodes, prices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from moe2opt.result import FloatArray, IntArray
from moe2opt.solvers.choice.vertex import Core, FlagArray, Vertex, store_row
from moe2opt.solvers.jit import entry, inner, no_literal

Int32Array = npt.NDArray[np.int32]

#: Kinds of positions, in the order of `KIND_NAMES`.
OPEN, SPLIT, OUT_DUAL, OUT_BUDGET, DUAL, FARKAS, BUDGET, GROUP, CORNER = map(no_literal, range(9))

KIND_NAMES = (
    "open", "split", "out:dual", "out:budget", "dual", "farkas", "budget", "group", "corner",
)  # fmt: skip

#: Why the search came back.
DONE, PAUSED, FULL, CANDIDATE, SINGLE = range(5)

#: Places in `State.counts`.
POSITIONS, PRICES, QUEUED, FREED, CURRENT, NODES, REFUSED = range(7)


class State(NamedTuple):
    """Tree, open nodes and candidate; arrays change in place.

    Attributes
    ----------
    parent, child, kind, axis, number
        Per position: parent, first child, kind, and the fields of its record.
    prices
        ``(P, K)`` prices that records refer to.
    node_bound, node_depth, node_position, node_prices, node_gap, node_first, node_partner
        Open nodes: bound, depth, position, prices that prove the bound, distance of the bound to
        the cutoff when options were last excluded, hyperplanes.
    queue, freed
        Heap of open nodes by falling bound, and unused node numbers.
    counts
        Counters, see the constants of this module.
    pruned
        ``(1,)`` largest bound of everything pruned so far.
    candidate
        ``(G,)`` options found by rounding.
    box
        ``(M,)`` options allowed in the node at hand.
    least, left
        ``(G, K)`` and ``(K,)`` room to work.
    """

    parent: Int32Array
    child: Int32Array
    kind: FlagArray
    axis: Int32Array
    number: Int32Array
    prices: FloatArray
    node_bound: FloatArray
    node_depth: IntArray
    node_position: IntArray
    node_prices: IntArray
    node_gap: FloatArray
    node_first: IntArray
    node_partner: IntArray
    queue: Int32Array
    freed: Int32Array
    counts: IntArray
    pruned: FloatArray
    candidate: IntArray
    box: FlagArray
    least: FloatArray
    left: FloatArray


def new_state(core: Core, at: Vertex, bound: float) -> State:
    """Return a tree whose root is open, with `bound` proven by the prices of the vertex."""
    options, rows = core.costs.shape
    groups = len(core.starts) - 1
    positions, nodes, prices = 4 * options + 4096, 1024, 1024
    state = State(
        parent=np.full(positions, -1, np.int32),
        child=np.full(positions, -1, np.int32),
        kind=np.zeros(positions, np.uint8),
        axis=np.zeros(positions, np.int32),
        number=np.zeros(positions, np.int32),
        prices=np.zeros((prices, rows)),
        node_bound=np.zeros(nodes),
        node_depth=np.zeros(nodes, np.int64),
        node_position=np.zeros(nodes, np.int64),
        node_prices=np.zeros(nodes, np.int64),
        node_gap=np.full(nodes, np.inf),
        node_first=np.zeros((nodes, rows), np.int64),
        node_partner=np.zeros((nodes, rows), np.int64),
        queue=np.zeros(nodes, np.int32),
        freed=np.arange(nodes - 1, -1, -1, dtype=np.int32),
        counts=np.zeros(7, np.int64),
        pruned=np.full(1, -np.inf),
        candidate=np.zeros(groups, np.int64),
        box=np.ones(options, np.uint8),
        least=np.zeros((groups, rows)),
        left=np.zeros(rows),
    )
    state.prices[0] = at.price
    state.counts[:] = (1, 1, 0, nodes - 1, 0, 0, -1)
    state.node_bound[0] = bound
    state.node_first[0], state.node_partner[0] = at.first, at.partner
    return state


def grown(state: State, options: int) -> State:
    """Return the state with room for more positions, prices and nodes."""
    positions, prices, _, freed = (int(c) for c in state.counts[:4])
    room = state._asdict()
    if positions + 4 * options + 64 > len(state.parent):
        for name in ("parent", "child", "kind", "axis", "number"):
            room[name] = _doubled(room[name], options * 4)
        room["parent"][positions:] = -1
        room["child"][positions:] = -1
    if prices + 2 > len(state.prices):
        room["prices"] = _doubled(state.prices)
    if freed < 3:
        nodes = len(state.node_bound)
        for name in room:
            if name.startswith("node_") or name == "queue":
                room[name] = _doubled(room[name])
        fresh = np.arange(2 * nodes - 1, nodes - 1, -1, dtype=np.int32)
        room["freed"] = np.concatenate([fresh, state.freed[:freed], np.zeros(nodes, np.int32)])
        state.counts[FREED] = nodes + freed
    return State(**room)


def _doubled(array: npt.NDArray[np.generic], more: int = 0) -> npt.NDArray[np.generic]:
    larger = np.zeros((2 * len(array) + more, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger


@inner
def _push(state: State, node: int) -> None:
    """Add an open node to the queue: largest bound first, deeper first among equals."""
    place = state.counts[QUEUED]
    state.counts[QUEUED] += 1
    while place:
        above = (place - 1) // 2
        if not _before(state, node, state.queue[above]):
            break
        state.queue[place] = state.queue[above]
        place = above
    state.queue[place] = node


@inner
def _before(state: State, a: int, b: int) -> bool:
    if state.node_bound[a] != state.node_bound[b]:
        return bool(state.node_bound[a] > state.node_bound[b])
    return bool(state.node_depth[a] > state.node_depth[b])


@inner
def pop(state: State) -> int:
    """Take the first open node from the queue."""
    top = state.queue[0]
    state.counts[QUEUED] -= 1
    count = state.counts[QUEUED]
    node = state.queue[count]
    place = 0
    while True:
        below = 2 * place + 1
        if below >= count:
            break
        if below + 1 < count and _before(state, state.queue[below + 1], state.queue[below]):
            below += 1
        if not _before(state, state.queue[below], node):
            break
        state.queue[place] = state.queue[below]
        place = below
    state.queue[place] = node
    return int(top)


def prune_node(state: State, node: int, kind: int, index: int, bound: float) -> None:
    """Turn the current node into a leaf."""
    position = state.node_position[node]
    state.kind[position], state.axis[position], state.number[position] = kind, index, 0
    state.pruned[0] = max(state.pruned[0], bound)
    state.freed[state.counts[FREED]] = node
    state.counts[FREED] += 1
    state.counts[CURRENT] = -1


#: The same for other kernels.
prune = inner(prune_node)


@inner
def _child(state: State, position: int) -> int:
    """Append an open position below `position`."""
    below = state.counts[POSITIONS]
    state.counts[POSITIONS] += 1
    state.parent[below] = position
    state.kind[below] = OPEN
    if state.child[position] < 0:
        state.child[position] = below
    return int(below)


@inner
def exclude(state: State, node: int, kind: int, option: int, index: int) -> None:
    """Record that an option is out, and go on below."""
    position = state.node_position[node]
    state.kind[position], state.axis[position], state.number[position] = kind, option, index
    state.node_position[node] = _child(state, position)
    state.box[option] = 0


@inner
def restore(core: Core, state: State, node: int) -> None:
    """Rebuild the box of a node from its path to the root."""
    for o in range(len(state.box)):
        state.box[o] = 1
    below = state.node_position[node]
    while below:
        above = state.parent[below]
        option = state.axis[above]
        if state.kind[above] == SPLIT and below != state.child[above]:
            g = core.group_of[option]
            for o in range(core.starts[g], core.starts[g + 1]):
                if o != option:
                    state.box[o] = 0
        else:
            state.box[option] = 0
        below = above


@inner
def store_price(state: State, price: FloatArray) -> int:
    """Store prices and return their number."""
    number = state.counts[PRICES]
    state.counts[PRICES] += 1
    store_row(state.prices, number, price)
    return int(number)


@inner
def split(state: State, at: Vertex, node: int, option: int, out_first: bool) -> None:
    """Split the current node; go on with one half and queue the other."""
    position = state.node_position[node]
    state.kind[position], state.axis[position], state.number[position] = SPLIT, option, 0
    left, right = _child(state, position), _child(state, position)
    state.counts[FREED] -= 1
    other = state.freed[state.counts[FREED]]
    state.node_depth[node] += 1
    store_row(state.node_first, node, at.first)
    store_row(state.node_partner, node, at.partner)
    state.node_bound[other] = state.node_bound[node]
    state.node_depth[other] = state.node_depth[node]
    state.node_prices[other] = state.node_prices[node]
    state.node_gap[other] = state.node_gap[node]
    store_row(state.node_first, other, at.first)
    store_row(state.node_partner, other, at.partner)
    state.node_position[node] = left if out_first else right
    state.node_position[other] = right if out_first else left
    _push(state, other)


@entry
def preorder(child: Int32Array, kind: FlagArray, positions: int) -> Int32Array:
    """Return the positions of a finished tree in preorder."""
    order = np.empty(positions, np.int32)
    stack = np.empty(positions + 1, np.int32)
    stack[0], height, count = 0, 1, 0
    while height:
        height -= 1
        position = stack[height]
        order[count] = position
        count += 1
        if child[position] >= 0:
            if kind[position] == SPLIT:
                stack[height] = child[position] + 1
                height += 1
            stack[height] = child[position]
            height += 1
    return order[:count]
