"""Growing a split tree during a search, and writing it down in preorder at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from moe2opt.canonical import Problem
from moe2opt.result import Certificate, FloatArray, Multipliers, Record

#: A leaf reason and its index, see `moe2opt.result.LEAF_REASONS`.
Leaf = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Step:
    """A reduction: one side of a split is closed at once, the search goes on in the other.

    Attributes
    ----------
    axis, cut
        The split.
    keep_right
        Whether the right side (above the cut, or chosen) is the one that stays.
    leaf
        Why the other side is closed.
    bound
        Upper bound over the other side; ``-inf`` when it holds no feasible point.
    """

    axis: int
    cut: int
    keep_right: bool
    leaf: Leaf
    bound: float = -math.inf


@dataclass(slots=True)
class SplitTree:
    """A binary tree under construction; positions are node numbers, 0 is the root."""

    records: list[Record | None] = field(default_factory=lambda: [None])
    children: dict[int, tuple[int, int]] = field(default_factory=dict)
    multipliers: list[Multipliers] = field(default_factory=list)

    def split(self, position: int, axis: int, cut: int) -> tuple[int, int]:
        """Make `position` an inner node and return the positions of its children."""
        left = len(self.records)
        self.records[position] = ("split", int(axis), int(cut))
        self.records += [None, None]
        self.children[position] = (left, left + 1)
        return left, left + 1

    def close(self, position: int, leaf: Leaf) -> None:
        """Make `position` a leaf."""
        self.records[position] = (leaf[0], int(leaf[1]), 0)

    def reduce(self, position: int, steps: list[Step]) -> int:
        """Record reductions one below the other; return the position that is left."""
        for step in steps:
            left, right = self.split(position, step.axis, step.cut)
            closed, position = (left, right) if step.keep_right else (right, left)
            self.close(closed, step.leaf)
        return position

    def price(self, cluster: FloatArray, row: FloatArray, cover: FloatArray) -> int:
        """Store multipliers and return their index."""
        self.multipliers.append(Multipliers(cluster, row, cover))
        return len(self.multipliers) - 1

    def preorder(self) -> tuple[Record, ...]:
        """Return the records in preorder; every position must be closed or split."""
        order, pending = [], [0]
        while pending:
            position = pending.pop()
            record = self.records[position]
            assert record is not None
            order.append(record)
            if position in self.children:
                left, right = self.children[position]
                pending += [right, left]
        return tuple(order)

    def certificate(
        self,
        problem: Problem,
        claim: float,
        *,
        kind: str | None = None,
        grid_bits: int = 0,
        chains: tuple[tuple[int, ...], ...] = (),
    ) -> Certificate:
        """Return the sealed certificate, with the multipliers that no leaf uses left out.

        `kind` is given when the tree splits the monotone view of the problem.
        """
        tree = self.preorder()
        used = sorted({r[1] for r in tree if r[0] in ("dual", "farkas")})
        number = {old: new for new, old in enumerate(used)}
        return Certificate(
            kind=kind or problem.kind,
            claim=claim,
            tree=tuple((r[0], number[r[1]], 0) if r[0] in ("dual", "farkas") else r for r in tree),
            multipliers=tuple(self.multipliers[k] for k in used),
            grid_bits=grid_bits,
            chains=chains,
            problem_hash=problem.fingerprint,
        ).sealed()
