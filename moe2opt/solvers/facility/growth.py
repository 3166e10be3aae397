"""Compiled parts of a tree: their arrays, how nodes enter and leave them, and the calls between.

The loop itself is in `loop.py`.
"""

from __future__ import annotations

import mmap
import tempfile
import weakref
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from moe2opt.result import FloatArray, IntArray, Multipliers
from moe2opt.solvers.base import Search
from moe2opt.solvers.facility import flat, loop
from moe2opt.solvers.facility.descent import Pace
from moe2opt.solvers.facility.flat import Flat
from moe2opt.solvers.facility.lagrangian import LagrangianBound
from moe2opt.solvers.facility.model import MARGIN, Bounded, FacilityModel, Price, Subset
from moe2opt.solvers.facility.polish import Polisher
from moe2opt.solvers.facility.rounding import Rules
from moe2opt.solvers.relaxation import OpenNode
from moe2opt.solvers.tree import MOST_IN_MEMORY_BYTES, Leaf, PriceNumber, SplitTree

#: Seconds of compiled work between two looks at the limits, about.
_PAUSE_S = 0.05

#: Nodes between two such looks at most.
_MOST_NODES = 100_000

#: Slots of nodes and of prices at the start, and records per expert.
_SLOTS, _RECORDS = 64, 16

#: What one enlargement of the table of multipliers adds at most.
_STEP_BYTES = 2**28

#: Records of a compiled part that take as long to write down as one of `SplitTree`.
_RECORDS_PER_RECORD = 8

#: Columns of `Flat` that grow with the nodes.
_OF_NODES = ("state", "node", "measure")


class Part:
    """A compiled part of a tree.

    Attributes
    ----------
    flat
        Its arrays.
    base
        Number of its first multipliers in the tree that it is a part of.
    """

    kinds: tuple[str, ...] = flat.KINDS

    def __init__(self, problem: Flat, model: FacilityModel) -> None:
        self.model, self.flat, self.base = model, problem, 0
        self._file: Any = None

    def used(self, place: int) -> int:
        """Return one of the counters in `Flat.whole`."""
        return int(self.flat.whole[place])

    @property
    def used_prices(self) -> int:
        """Number of slots of multipliers that were used."""
        return self.used(flat.PRICE_TOP)

    @property
    def bound(self) -> float:
        """The bound that the part proves while nodes are open, with what was pruned before."""
        first = self.flat.node[0, flat.HEAP]
        return float(max(self.flat.measure[first, flat.BOUND], self.flat.level[flat.PRUNED]))

    def make_room(self) -> None:
        """Enlarge every array that may be too small for one more node."""
        f = self.flat
        if self.used(flat.NODE_TOP) + 2 > len(f.node):
            f = f._replace(**{name: _longer(getattr(f, name)) for name in _OF_NODES})
        if self.used(flat.RECORDS) + 3 * self.model.problem.size + 8 > len(f.records):
            f = f._replace(records=_longer(f.records))
        self.flat = f
        if self.used(flat.PRICE_TOP) + 2 > len(f.use):
            self._make_room_for_prices()

    def _make_room_for_prices(self) -> None:
        """Enlarge the multipliers, whose thresholds live in a nameless file once they are many.

        Mapping the file anew also gives its pages back to the system.
        """
        f = self.flat
        slots, kinds = f.threshold.shape
        more = slots + max(2, min(slots, _STEP_BYTES // (8 * max(1, kinds))))
        size = 8 * more * kinds
        if size <= MOST_IN_MEMORY_BYTES:
            threshold = _longer(f.threshold, more)
        else:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the part
                weakref.finalize(self, self._file.close)
                self._file.write(f.threshold.data)
                self._file.flush()
            self._file.truncate(size)
            mapping = mmap.mmap(self._file.fileno(), size)
            threshold = np.frombuffer(mapping, np.float64).reshape(more, kinds)
        row_price, use = _longer(f.row_price, more), _longer(f.use, more)
        self.flat = f._replace(threshold=threshold, row_price=row_price, use=use)

    def new_price(self, cluster: FloatArray, row: FloatArray) -> int:
        """Return a slot for multipliers of kinds and rows; nobody uses it yet."""
        self.make_room()
        f, slot = self.flat, self.used_prices
        f.whole[flat.PRICE_TOP] += 1
        f.threshold[slot], f.row_price[slot], f.use[slot] = cluster, 0.0, 0
        f.row_price[slot, : len(row)] = row
        return slot

    # ------------------------------------------------------------------ what the tree asks

    def preorder(self, record: int) -> IntArray:
        """Return ``(n, 3)`` code of `kinds`, first and last field of the records below one."""
        rows = np.empty((max(1, self.used(flat.RECORDS)), 3), dtype=np.int64)
        rows = rows[: flat.in_preorder(self.flat.records, record, rows)]
        rows[rows[:, 0] == flat.DUAL, 1] += self.base
        rows[(rows[:, 0] == flat.OUT_DUAL) | (rows[:, 0] == flat.IN_DUAL), 2] += self.base
        return rows

    def multipliers(self, number: int) -> Multipliers:
        """Return the multipliers of this number."""
        slot = number - self.base
        cluster = self.model.kinds.each(self.flat.threshold[slot])
        return Multipliers(cluster, self.flat.row_price[slot], np.zeros(0))


def _longer(array: Any, length: int | None = None) -> Any:
    """Return a copy with room for as much again."""
    longer = np.empty((length or 2 * len(array), *array.shape[1:]), dtype=array.dtype)
    longer[: len(array)] = array
    return longer


class Paced(Protocol):
    """Who decides whether nodes are bounded cheaply, and notes how many were."""

    def is_cheap(self) -> bool:
        """Tell whether the next node is bounded by subgradient steps alone."""

    def allowance(self) -> int:
        """Return after how many such nodes that is decided again."""

    def took(self, count: int, search: Search) -> None:
        """Take note of so many such nodes."""


class Growth:
    """Lets the cheap nodes of a tree grow in compiled code, with budgets and cliques only."""

    def __init__(self, model: FacilityModel, cheap: LagrangianBound, polisher: Polisher) -> None:
        self.model, self.cheap, self.polisher = model, cheap, polisher
        #: Covers need prices of their own, and interchangeable rows a search for a packing.
        self.fits = not (len(model.covers) or model.merged.types)
        self.rounds = 0

    def grow(
        self,
        nodes: Sequence[OpenNode],
        pruned: float,
        tree: SplitTree,
        experience: Sequence[FloatArray],
        pace: Paced,
        search: Search,
    ) -> tuple[list[OpenNode], float]:
        """Let the tree grow from open nodes while nodes are cheap and no limit is hit.

        Parameters
        ----------
        nodes, pruned
            Open nodes, and the largest pruned bound.
        tree
            Their tree, which gets one more part.
        experience
            Two ``(2, N)`` tables of `PseudoCosts`, changed.
        pace
            Says how long nodes stay cheap.
        search
            Is kept informed.

        Returns
        -------
        tuple
            Both of the first, as they are then.
        """
        part = Part(self.flat(), self.model)
        f = part.flat
        both = f.by_expert[flat.FALLEN : flat.BY_EXPERT]
        both[:] = np.concatenate(experience)
        f.level[flat.PRUNED], f.whole[flat.ROUNDS] = pruned, self.rounds
        self._enter(part, nodes, tree)
        self._work(part, len(tree.records), pace, search)
        self.rounds = part.used(flat.ROUNDS)
        experience[0][:], experience[1][:] = both[:2], both[2:]
        left = self._leave(part, tree)
        tree.add(part)
        return left, float(f.level[flat.PRUNED])

    def flat(self) -> Flat:
        """Return the problem as the model is now, and an empty tree."""
        model, problem, own = self.model, self.model.problem, self.polisher
        size, kinds, rows = problem.size, len(model.best_values), len(model.limits)
        by_expert = np.zeros((flat.BY_EXPERT, size))
        by_expert[flat.FIXED] = problem.fixed
        by_cluster = np.zeros((flat.BY_CLUSTER, kinds))
        by_cluster[flat.COUNT], by_cluster[flat.LAST] = model.kinds.count, model.last
        by_cluster[flat.STEP] = self.cheap.cluster_step
        by_row = np.zeros((flat.BY_ROW, max(rows, len(own.limits))))
        by_row[flat.LIMIT, :rows], by_row[flat.OWN_LIMIT, : len(own.limits)] = (
            model.limits,
            own.limits,
        )
        by_row[flat.ROW_STEP, : len(problem.limits)] = self.cheap.row_step
        number = np.zeros((flat.NUMBERS, size), dtype=np.int64)
        number[flat.PART_OF], number[flat.EVERYBODY] = model.part_of, np.arange(size)
        return Flat(
            columns=model.columns,
            ranked=model.ranked,
            experts=model.experts,
            near=model.near,
            nearest=model.nearest,
            rows=np.array(model.rows),
            own_rows=np.array(own.rows),
            by_expert=by_expert,
            by_cluster=by_cluster,
            by_row=by_row,
            by_part=np.zeros((2, len(model.parts))),
            number=number,
            flag=np.zeros((flat.FLAGS, size), dtype=bool),
            state=np.empty((_SLOTS, size), dtype=np.int8),
            node=np.empty((_SLOTS, 8), dtype=np.int64),
            measure=np.empty((_SLOTS, 4)),
            threshold=np.empty((_SLOTS, kinds)),
            row_price=np.empty((_SLOTS, rows)),
            use=np.empty((_SLOTS, 3), dtype=np.int64),
            records=np.empty((_RECORDS * (size + 1), 5), dtype=np.int32),
            whole=np.zeros(10, dtype=np.int64),
            level=np.zeros(4),
        )

    def rules(self, integral: bool) -> Rules:
        """Return the numbers that the loop goes by."""
        model, tuning = self.model, self.model.tuning
        budgets, rows = len(model.problem.limits), len(model.limits)
        return Rules(
            budgets=budgets,
            sure=budgets + len(model.cliques),
            rows=rows,
            own=len(self.polisher.limits),
            few=tuning.few,
            steps=tuning.steps,
            first_nodes=tuning.first_nodes,
            round_first=tuning.round_first,
            round_every=tuning.round_every,
            integral=integral,
            opening=bool(model.problem.fixed.any()),
            scale=2.0**model.bits,
            error=model.relative_error,
            margin=MARGIN,
            length=tuning.length,
            gentlest=tuning.gentlest,
            trust=tuning.trust,
            smallest_gain=self.polisher.smallest_gain,
        )

    def _work(self, part: Part, written: int, pace: Paced, search: Search) -> None:
        """Call the loop until it is done, with a look at the limits now and then."""
        rules, steps = self.rules(search.problem.is_integral), Pace.of(self.model.tuning)
        whole, level, chunk = part.flat.whole, part.flat.level, 1
        while whole[flat.OPENED] and pace.is_cheap():
            search.open_nodes = part.used(flat.OPENED)
            search.reserve(written + part.used(flat.RECORDS) // _RECORDS_PER_RECORD)
            search.improve_bound(part.bound)
            search.tick()
            if search.limit_reached() is not None:
                return
            level[: flat.PRUNED] = search.objective, search.cutoff, search.target
            examined, bounded = part.used(flat.EXAMINED), part.used(flat.BOUNDED)
            most, began = search.options.node_limit, search.time_s
            now = chunk if most is None else min(chunk, most - search.nodes)
            event = loop.grow(part.flat, rules, steps, examined + now, bounded + pace.allowance())
            search.nodes += part.used(flat.EXAMINED) - examined
            if whole[flat.OPENED]:
                search.improve_bound(part.bound)
            pace.took(part.used(flat.BOUNDED) - bounded, search)
            if event == loop.FULL:
                part.make_room()
            elif event in (loop.POINT, loop.ROUNDED):
                self._offer(part, event == loop.POINT, search)
            else:
                wanted = chunk * _PAUSE_S / max(1e-6, search.time_s - began)
                chunk = int(min(max(1.0, wanted), 4.0 * chunk, _MOST_NODES))

    def _offer(self, part: Part, is_point: bool, search: Search) -> None:
        """Offer a choice; write down why a single point is no solution where it is none."""
        problem, f = self.model.problem, part.flat
        chosen = f.flag[flat.FOUND]
        over = problem.usage_of(chosen) > problem.limits
        if is_point and over.any():
            record = f.records[f.whole[flat.HERE]]
            record[flat.KIND], record[flat.AXIS] = flat.BUDGET, int(np.argmax(over))
            return
        search.offer(chosen, "B" if is_point else "L")
        if is_point:
            value = search.rounded(problem.evaluate(chosen))
            f.level[flat.PRUNED] = max(f.level[flat.PRUNED], value)

    # ------------------------------------------------------------------ into a part and out of it

    def _enter(self, part: Part, nodes: Sequence[OpenNode], tree: SplitTree) -> None:
        """Make slots of open nodes, whose records go on in the part."""
        slots: dict[int, int] = {}
        for slot, node in enumerate(sorted(nodes)):  # what is sorted is a heap
            parent: Bounded | None = node.box.parent
            assert parent is not None, "only nodes below the root enter"
            if id(parent) not in slots:
                slots[id(parent)] = part.new_price(parent.price.cluster, parent.price.row)
            start, (reason, index) = slots[id(parent)], node.proof
            if isinstance(index, PriceNumber):
                if id(index) not in slots:
                    vectors = index.vectors
                    slots[id(index)] = part.new_price(self._of_kinds(vectors), vectors.row)
                index = slots[id(index)]
                part.flat.use[index, flat.USERS] += 1
            part.flat.use[start, flat.USERS] += 1
            part.make_room()
            f, record = part.flat, part.used(flat.RECORDS)
            f.state[slot] = node.box.allowed.astype(np.int8) + node.box.forced
            branch = node.box.branch if parent.fractional is not None else -1
            row = (-node.key[1], record, flat.KINDS.index(reason), index, start, branch, slot, 0)
            f.node[slot] = row
            share = 0.0 if parent.fractional is None else parent.fractional[branch]
            length = min(self.model.tuning.length, node.box.length)
            f.measure[slot] = node.bound, np.clip(share, 0.05, 0.95), parent.price.value, length
            f.records[record] = flat.OPEN, 0, 0, -1, -1
            f.whole[[flat.RECORDS, flat.OPENED, flat.NODE_TOP]] += 1
            tree.hand_over(node.position, part, record)

    def _of_kinds(self, vectors: Multipliers) -> FloatArray:
        """Return the thresholds of kinds for those of clusters."""
        first = self.model.kinds.first
        return vectors.cluster[first] if len(first) < len(vectors.cluster) else vectors.cluster

    def _leave(self, part: Part, tree: SplitTree) -> list[OpenNode]:
        """Return the open nodes of a part, whose records go on in the tree."""
        part.base, f, left = tree.prices, part.flat, []
        parents: dict[tuple[int, int], Bounded] = {}
        for slot in f.node[: part.used(flat.OPENED), flat.HEAP].tolist():
            depth, record, kind, index, start, axis = f.node[slot, : flat.HEAP].tolist()
            bound, share, above, length = f.measure[slot].tolist()
            position = tree.new_position()
            f.records[record] = flat.ELSEWHERE, position, 0, -1, -1
            if (start, axis) not in parents:
                none = np.zeros(0)
                price = Price(f.threshold[start], f.row_price[start], none, above, none)
                fractional = np.full(f.state.shape[1], share) if axis >= 0 else None
                parents[start, axis] = Bounded(price, fractional, cheap=True)
            state = f.state[slot]
            box = Subset(state > 1, state > 0, parents[start, axis], axis, length)
            proof: Leaf = (flat.KINDS[kind], index)
            if kind == flat.DUAL:
                number = PriceNumber(part.base + index)
                number.vectors = part.multipliers(number)
                proof = (proof[0], number)
            left.append(OpenNode.of(bound, depth, position, box, proof))
        return left
