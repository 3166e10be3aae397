"""Growing a split tree during a search, and writing it down in preorder at the end."""

from __future__ import annotations

import math
import mmap
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Any, Protocol

import numpy as np

from moe2opt.archive import Records
from moe2opt.canonical import Problem
from moe2opt.result import Certificate, FloatArray, IntArray, Multipliers

#: Trees with more records than this stay arrays.
MOST_TUPLES = 10_000

#: A leaf reason and its index, see `moe2opt.result.LEAF_REASONS`.
Leaf = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Tightening:
    """One side of a split is pruned at once, the search goes on in the other; fixes a 0/1 axis.

    Attributes
    ----------
    axis
        Axis of the split.
    cut
        Level of the split; None on a 0/1 axis.
    keep_right
        Whether the right side (above the cut, or chosen) is the one that stays.
    leaf
        Why the other side is pruned.
    bound
        Upper bound over the other side; ``-inf`` when it holds no feasible point.
    """

    axis: int
    cut: int | None
    keep_right: bool
    leaf: Leaf
    bound: float = -math.inf


@dataclass(frozen=True, slots=True, eq=False)
class Exclusions:
    """Several 0/1 axes that are fixed to zero for one reason, like as many tightenings.

    Attributes
    ----------
    axes
        The axes, at least one.
    leaf
        Why none of them can be chosen.
    bound
        Largest upper bound over the sides pruned.
    """

    axes: IntArray
    leaf: Leaf
    bound: float


class PriceNumber(int):
    """Number of multipliers, which carries them until a leaf or a fixing uses them.

    What no record uses vanishes with the last node that could have used it.
    """

    vectors: Multipliers


#: Multipliers are kept in memory up to this size.
MOST_IN_MEMORY_BYTES = 2**28

#: Beyond it they are written in blocks of this size.
BLOCK_BYTES = 2**25


class VectorStore:
    """Takes multipliers and hands back equal ones that may live in a mapped temporary file.

    The file has no name and disappears with the process. A full block need not stay in memory: its
    pages are given back to the system, which reads them again where they are needed.
    """

    def __init__(self) -> None:
        self._in_memory = 0
        self._file: IO[bytes] | None = None
        self._mapping: mmap.mmap | None = None
        self._block: FloatArray = np.zeros(0)
        self._used = 0

    def kept(self, vectors: Multipliers) -> Multipliers:
        """Return multipliers with the same numbers."""
        parts = (vectors.cluster, vectors.row, vectors.cover)
        numbers = sum(map(len, parts))
        if self._in_memory + 8 * numbers <= MOST_IN_MEMORY_BYTES:
            self._in_memory += 8 * numbers
            return vectors
        if self._used + numbers > len(self._block):
            self._next_block(8 * numbers)
        return Multipliers(*(self._copied(part) for part in parts))

    def _copied(self, part: FloatArray) -> FloatArray:
        place = self._block[self._used : self._used + len(part)]
        place[:] = part
        self._used += len(part)
        return place

    def _next_block(self, least_bytes: int) -> None:
        """Release the full block and map a new one, of at least this size."""
        if self._mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._mapping.madvise(mmap.MADV_DONTNEED)
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the store
            weakref.finalize(self, self._file.close)
        page = mmap.ALLOCATIONGRANULARITY
        size = -(-max(BLOCK_BYTES, least_bytes) // page) * page
        start = self._file.seek(0, 2)
        self._file.truncate(start + size)
        self._mapping = mmap.mmap(self._file.fileno(), size, offset=start)
        self._block, self._used = np.frombuffer(self._mapping, np.float64), 0


class Part(Protocol):
    """A part of a tree that grew in arrays of its own.

    Attributes
    ----------
    kinds
        Names of the codes of its records; the last one stands for a position of the whole tree
        where the part goes on.
    base
        Number of its first multipliers.
    """

    kinds: tuple[str, ...]
    base: int

    @property
    def used_prices(self) -> int:
        """How many numbers of multipliers it uses."""

    def preorder(self, record: int) -> IntArray:
        """Return ``(n, 3)`` code, first and last field of the records below one of them."""

    def multipliers(self, number: int) -> Multipliers:
        """Return the multipliers of a number."""


#: Kind of a position that goes on in a part.
_PART = "part"


@dataclass(slots=True)
class SplitTree:
    """A binary tree under construction; positions are node numbers, 0 is the root.

    Attributes
    ----------
    records, children
        Record and children of each position; a record of exclusions holds all their axes.
    multipliers
        Multipliers that records use, by number.
    prices
        How many multipliers were given a number.
    store
        Keeps the multipliers, on disk once there are many.
    parts
        Parts that grew in arrays of their own.
    """

    records: list[tuple[str, Any, int] | None] = field(default_factory=lambda: [None])
    children: dict[int, tuple[int, ...]] = field(default_factory=dict)
    multipliers: dict[int, Multipliers] = field(default_factory=dict)
    prices: int = 0
    store: VectorStore = field(default_factory=VectorStore)
    parts: list[Part] = field(default_factory=list)

    def split(self, position: int, axis: int, cut: int) -> tuple[int, int]:
        """Make `position` an inner node and return the positions of its children."""
        left = len(self.records)
        self.records[position] = ("split", int(axis), int(cut))
        self.records += [None, None]
        self.children[position] = (left, left + 1)
        return left, left + 1

    def prune(self, position: int, leaf: Leaf) -> None:
        """Make `position` a leaf."""
        self._keep(leaf)
        self.records[position] = (leaf[0], int(leaf[1]), 0)

    def tighten(self, position: int, tightenings: Sequence[Tightening | Exclusions]) -> int:
        """Record tightenings one below the other; return the position that is left."""
        for step in tightenings:
            if isinstance(step, Exclusions):
                position = self._narrow(position, "out", step.leaf, step.axes)
            elif step.cut is None:
                side = "in" if step.keep_right else "out"
                position = self._narrow(position, side, step.leaf, step.axis)
            else:
                left, right = self.split(position, step.axis, step.cut)
                pruned, position = (left, right) if step.keep_right else (right, left)
                self.prune(pruned, step.leaf)
        return position

    def _narrow(self, position: int, side: str, leaf: Leaf, axes: Any) -> int:
        reason, index = leaf
        self._keep(leaf)
        self.records[position] = (f"{side}:{reason}", axes, int(index))
        self.records.append(None)
        self.children[position] = (len(self.records) - 1,)
        return len(self.records) - 1

    def hand_over(self, position: int, part: Part, record: int) -> None:
        """Let an open position go on in a part."""
        self.records[position] = (_PART, part, record)

    def new_position(self) -> int:
        """Return an open position that a part goes on at."""
        self.records.append(None)
        return len(self.records) - 1

    def add(self, part: Part) -> None:
        """Take a part that grows no more; its multipliers have the next numbers."""
        self.parts.append(part)
        self.prices += part.used_prices

    def _multipliers(self, number: int) -> Multipliers:
        if number in self.multipliers:
            return self.multipliers[number]
        return max(
            (part for part in self.parts if part.base <= number), key=lambda part: part.base
        ).multipliers(number)

    def before(self, position: int) -> SplitTree:
        """Return the tree as it was before the first split, at `position`; multipliers are shared.

        What was cut off beside that node may have a larger number than the node itself.
        """
        records = self.records[: min(self.children[position])]
        records[position] = None
        above = {k: below for k, below in self.children.items() if k < len(records)}
        del above[position]
        return replace(self, records=records, children=above)

    def price(self, cluster: FloatArray, row: FloatArray, cover: FloatArray) -> int:
        """Return a number for multipliers; they are stored once a record uses it."""
        number = PriceNumber(self.prices)
        number.vectors = Multipliers(cluster, row, cover)
        self.prices += 1
        return number

    def _keep(self, leaf: Leaf) -> None:
        """Store the multipliers that a leaf uses."""
        number = leaf[1]
        if isinstance(number, PriceNumber) and int(number) not in self.multipliers:
            self.multipliers[int(number)] = self.store.kept(number.vectors)

    def preorder(self) -> Records:
        """Return the records in preorder; every position must be pruned or split."""
        kinds: dict[str, int] = {}
        columns: tuple[list[int], list[int], list[int]] = ([], [], [])
        pieces: list[IntArray] = []
        pending: list[int | IntArray] = [0]
        while pending:
            position = pending.pop()
            if isinstance(position, np.ndarray):
                pieces += [np.array(columns, dtype=np.int64).T, position]
                columns = ([], [], [])
                continue
            record = self.records[position]
            assert record is not None
            kind, axes, index = record
            if kind == _PART:
                pending += reversed(_segments(axes, index, kinds))
                continue
            axes = axes.tolist() if isinstance(axes, np.ndarray) else [int(axes)]
            code = kinds.setdefault(kind, len(kinds))
            for column, entries in zip(columns, ([code], axes, [index]), strict=True):
                column.extend(entries if column is columns[1] else entries * len(axes))
            if position in self.children:
                pending += reversed(self.children[position])
        pieces.append(np.array(columns, dtype=np.int64).T)
        return Records(tuple(kinds), np.concatenate(pieces))

    def certificate(
        self,
        problem: Problem,
        claim: float,
        *,
        kind: str | None = None,
        rows: int = 0,
        grid_bits: int = 0,
        chains: tuple[tuple[int, ...], ...] = (),
        types: tuple[tuple[int, ...], ...] = (),
        rounded: tuple[tuple[int, int], ...] = (),
        totals: tuple[tuple[int, ...], ...] = (),
    ) -> Certificate:
        """Return the sealed certificate, with the multipliers that no leaf uses left out.

        `kind` is given when the tree splits the monotone view of the problem, and `rows` when some
        of the rows that multipliers price were added while it grew.
        """
        tree = self.preorder()
        used = _renumber(tree)
        return Certificate(
            kind=kind or problem.kind,
            claim=claim,
            tree=tree if len(tree) > MOST_TUPLES else tuple(tree),
            multipliers=tuple(_with_all_rows(self._multipliers(k), rows) for k in used),
            grid_bits=grid_bits,
            chains=chains,
            types=types,
            rounded=rounded,
            totals=totals,
            problem_hash=problem.fingerprint,
        ).sealed()


def _segments(part: Part, record: int, kinds: dict[str, int]) -> list[int | IntArray]:
    """Return the records of a part in the codes of a tree, and the positions of it in between."""
    rows = part.preorder(record)
    codes = np.array([kinds.setdefault(kind, len(kinds)) for kind in part.kinds])
    here = np.flatnonzero(rows[:, 0] == len(part.kinds) - 1)
    positions = rows[here, 1].tolist()
    rows[:, 0] = codes[rows[:, 0]]
    segments: list[int | IntArray] = []
    start = 0
    for row, position in zip(here.tolist(), positions, strict=True):
        segments += [rows[start:row], position]
        start = row + 1
    return [*segments, rows[start:]]


def _with_all_rows(multipliers: Multipliers, rows: int) -> Multipliers:
    """Give rows that were added after these multipliers a price of zero."""
    missing = rows - len(multipliers.row)
    if missing <= 0:
        return multipliers
    return replace(multipliers, row=np.pad(multipliers.row, (0, missing)))


def _renumber(tree: Records) -> list[int]:
    """Give the multipliers in use new numbers from 0 on, in place; return the old ones."""
    first = [k for k, kind in enumerate(tree.kinds) if kind in ("dual", "farkas")]
    last = [k for k, kind in enumerate(tree.kinds) if kind.endswith((":dual", ":farkas"))]
    places = [(np.isin(tree.rows[:, 0], codes), c) for codes, c in ((first, 1), (last, 2))]
    used = np.unique(np.concatenate([tree.rows[rows, column] for rows, column in places]))
    for rows, column in places:
        tree.rows[rows, column] = np.searchsorted(used, tree.rows[rows, column])
    return [int(k) for k in used]
