"""Offline optimum: what a cache could have done that knew the whole trace.

Between two uses of an expert in a row it is either kept, and the second use is a hit, or not. A
cache of s slots can keep any set of such intervals of which at most s overlap anywhere. With equal
sizes and equal savings the farthest next use is the one to drop (Belady 1966): `belady_hits`. With
equal sizes and savings that differ it is a minimum-cost flow: `optimal_savings`. With sizes that
differ it is an integer program: `optimal_packing`. A copy that is not worth keeping is not kept
(bypass); all three may use that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from moe2opt.result import BoolArray, FloatArray, InputError, IntArray

if TYPE_CHECKING:
    from moe2opt.caching.trace import ExpertTrace


@dataclass(frozen=True, slots=True, eq=False)
class Intervals:
    """Times between two uses of an expert.

    Attributes
    ----------
    begin, end
        ``(I,)`` steps of the use before and of the next use.
    item
        ``(I,)`` layer times experts plus expert.
    place
        ``(I,)`` flat position of the next use in ``(tokens, L, k)``.
    steps
        Number of steps.
    """

    begin: IntArray
    end: IntArray
    item: IntArray
    place: IntArray
    steps: int


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """An optimum.

    Attributes
    ----------
    savings
        Total savings of the kept intervals.
    bound
        Proven upper bound of the savings.
    kept
        ``(I,)`` which intervals are kept.
    """

    savings: float
    bound: float
    kept: BoolArray


def intervals_of(
    trace: ExpertTrace, *, layer: int | None = None, between: str = "kept"
) -> Intervals:
    """Return the intervals of a trace, of one layer or of all.

    Parameters
    ----------
    trace
        Sequences.
    layer
        Position of the layer; None for all, with ``token * L + layer`` as steps.
    between
        ``empty`` for no interval across sequences.
    """
    experts = trace.experts if layer is None else trace.experts[:, [layer]]
    tokens, layers, top_k = experts.shape
    item = (np.arange(layers)[None, :, None] * trace.n_experts + experts).ravel().astype(np.int64)
    step = np.repeat(np.arange(tokens * layers), top_k)
    sequence = np.repeat(np.cumsum(trace.fresh), layers * top_k)
    order = np.lexsort((step, item))
    same = item[order][1:] == item[order][:-1]
    if between == "empty":
        same &= sequence[order][1:] == sequence[order][:-1]
    before, after = order[:-1][same], order[1:][same]
    return Intervals(step[before], step[after], item[after], after, tokens * layers)


def belady_hits(intervals: Intervals, slots: int) -> int:
    """Return the most intervals of which at most `slots` overlap (equal sizes and savings).

    Intervals are taken by their ends; one is kept when a slot is free from its beginning on. The
    slot that became free last is used. This is another algorithm than the replay's clairvoyant
    cache and gives the same number.
    """
    import bisect

    free = [0] * slots
    kept = 0
    for k in np.argsort(intervals.end, kind="stable"):
        at = bisect.bisect_right(free, int(intervals.begin[k])) - 1
        if at >= 0:
            free.pop(at)
            bisect.insort(free, int(intervals.end[k]))
            kept += 1
    return kept


def optimal_savings(
    intervals: Intervals,
    slots: int,
    savings: FloatArray | None = None,
    *,
    method: Literal["highs", "networkx"] = "highs",
) -> Kept:
    """Return the best set of intervals of equal sizes by minimum-cost flow.

    The slots flow from the first step to the last, each either idle or along an interval.

    Parameters
    ----------
    intervals
        What can be kept.
    slots
        Slots of the cache.
    savings
        ``(I,)`` what each interval saves (seconds, bytes); 1 each when None.
    method
        ``highs``: the linear program of the flow, whose vertices are whole. ``networkx``: network
        simplex, for small cases; savings are rounded to 1e-6 of the largest.

    Raises
    ------
    InputError
        For savings that are negative or not finite.
    """
    worth = _savings(intervals, savings)
    if not len(worth) or not slots:
        return Kept(0.0, 0.0, np.zeros(len(worth), dtype=bool))
    solve = _flow_highs if method == "highs" else _flow_networkx
    kept, bound = solve(intervals, slots, worth)
    return Kept(float(worth[kept].sum()), bound, kept)


def _savings(intervals: Intervals, savings: FloatArray | None) -> FloatArray:
    worth = np.ones(len(intervals.begin)) if savings is None else np.asarray(savings, np.float64)
    if worth.shape != intervals.begin.shape:
        raise InputError(f"savings: shape {worth.shape} for {len(intervals.begin)} intervals")
    if not (np.isfinite(worth) & (worth >= 0)).all():
        at = int(np.argmin(np.isfinite(worth) & (worth >= 0)))
        raise InputError(f"savings[{at}] is {worth[at]}, no finite number ≥ 0")
    return worth


def _compressed(intervals: Intervals) -> tuple[IntArray, IntArray, int]:
    """Return begin and end by their rank among all such steps, and how many there are."""
    nodes = np.unique(np.concatenate([intervals.begin, intervals.end]))
    return (
        np.searchsorted(nodes, intervals.begin),
        np.searchsorted(nodes, intervals.end),
        len(nodes),
    )


def _flow_highs(intervals: Intervals, slots: int, worth: FloatArray) -> tuple[BoolArray, float]:
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    begin, end, nodes = _compressed(intervals)
    many = len(worth)
    idle = np.arange(nodes - 1)
    tail, head = np.concatenate([begin, idle]), np.concatenate([end, idle + 1])
    arcs = np.arange(many + nodes - 1)
    signs = np.concatenate([np.ones(len(arcs)), -np.ones(len(arcs))])
    rows = np.concatenate([tail, head])
    balance = coo_array((signs, (rows, np.tile(arcs, 2))), shape=(nodes, len(arcs))).tocsr()
    supply = np.zeros(nodes)
    supply[0], supply[-1] = slots, -slots
    upper = np.concatenate([np.ones(many), np.full(nodes - 1, float(slots))])
    cost = np.concatenate([-worth, np.zeros(nodes - 1)])
    # No variable is declared whole: the vertices of a flow are.
    done = milp(
        cost, constraints=LinearConstraint(balance, supply, supply), bounds=Bounds(0, upper)
    )
    if done.x is None:
        raise InputError(f"the flow was not solved: {done.message}")
    kept: Any = done.x[:many] > 0.5
    return kept, float(-done.fun)


def _flow_networkx(intervals: Intervals, slots: int, worth: FloatArray) -> tuple[BoolArray, float]:
    import networkx as nx

    begin, end, nodes = _compressed(intervals)
    unit = float(worth.max()) * 1e-6 or 1.0
    graph = nx.MultiDiGraph()
    graph.add_node(0, demand=-slots)
    graph.add_node(nodes - 1, demand=slots)
    for node in range(nodes - 1):
        graph.add_edge(node, node + 1, key="idle", capacity=slots, weight=0)
    for k, value in enumerate(worth):
        weight = -round(float(value) / unit)
        graph.add_edge(int(begin[k]), int(end[k]), key=k, capacity=1, weight=weight)
    cost, flow = nx.network_simplex(graph)
    kept = np.zeros(len(worth), dtype=bool)
    for ends in flow.values():
        for keys in ends.values():
            for key, amount in keys.items():
                if key != "idle" and amount:
                    kept[key] = True
    return kept, float(-cost * unit + 0.5 * unit * len(worth))


def optimal_packing(
    intervals: Intervals,
    capacity: float,
    sizes: FloatArray,
    savings: FloatArray | None = None,
    *,
    time_limit_s: float = 60.0,
) -> Kept:
    """Return the best set of intervals of different sizes, by HiGHS as an integer program.

    Parameters
    ----------
    intervals
        What can be kept.
    capacity
        Size of the cache.
    sizes
        ``(I,)`` size of what each interval keeps.
    savings
        As in `optimal_savings`.
    time_limit_s
        After this the best set so far and its bound come back.

    Raises
    ------
    InputError
        For sizes or savings that are negative or not finite.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    worth = _savings(intervals, savings)
    size = _savings(intervals, sizes)
    fits = size <= capacity
    if not fits.any():
        return Kept(0.0, 0.0, np.zeros(len(worth), dtype=bool))
    load = _overlaps(intervals, size)
    done = milp(
        -worth,
        constraints=LinearConstraint(load, -np.inf, capacity),
        integrality=np.ones(len(worth), dtype=np.int64),
        bounds=Bounds(0, fits.astype(np.float64)),
        options={"time_limit": time_limit_s},
    )
    bound = float(worth.sum()) if done.mip_dual_bound is None else float(-done.mip_dual_bound)
    if done.x is None:
        return Kept(0.0, bound, np.zeros(len(worth), dtype=bool))
    kept: Any = done.x > 0.5
    return Kept(float(worth[kept].sum()), bound, kept)


def _overlaps(intervals: Intervals, size: FloatArray) -> Any:
    """Return the matrix of sizes held between steps; only where some interval begins."""
    from scipy.sparse import coo_array

    begin, end, _ = _compressed(intervals)
    lengths = end - begin
    column = np.repeat(np.arange(len(begin)), lengths)
    offset = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    row = begin[column] + offset
    matrix = coo_array((size[column], (row, column))).tocsr()
    return matrix[np.unique(begin)]
