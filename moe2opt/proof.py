"""Certificates: split trees, multipliers, conflicts, and how they are written down.

With `moe2opt.result` and what reads files (`moe2opt.files`, `moe2opt.archive`) this is the lowest
layer: it imports nothing else of moe2opt.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from moe2opt import archive
from moe2opt.content import Content
from moe2opt.errors import DAMAGE
from moe2opt.errors import CertificationError as CertificationError
from moe2opt.errors import InputError as InputError
from moe2opt.errors import MoeOptError as MoeOptError
from moe2opt.files import read_json
from moe2opt.writing import write_text

#: Certificates with more records, or more numbers in their multipliers, get a file of their own.
LARGEST_IN_JSON = (50_000, 600_000)

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Multipliers(Content):
    """Dual multipliers that turn a leaf of a split tree into a closed-form bound.

    Attributes
    ----------
    cluster
        ``(C,)`` thresholds of a facility problem, empty for multiple choice.
    row
        ``(R,)`` non-negative prices of the budget rows.
    cover
        ``(H,)`` non-negative prices of the cover rows, empty where there are none.
    """

    cluster: FloatArray
    row: FloatArray
    cover: FloatArray

    def to_dict(self) -> dict[str, list[float]]:
        """Return plain lists, ready for JSON."""
        return {
            "cluster": self.cluster.tolist(),
            "row": self.row.tolist(),
            "cover": self.cover.tolist(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, list[float]]) -> Multipliers:
        """Rebuild from `to_dict`; raise ValueError for what is no list of numbers."""
        vectors = {
            key: np.asarray(data[key], dtype=np.float64) for key in ("cluster", "row", "cover")
        }
        for key, vector in vectors.items():
            if vector.ndim != 1:
                raise ValueError(f"multipliers: {key} must be a list of numbers")
        return cls(**vectors)


class PriceTable(Sequence[Multipliers]):
    """Multipliers that consist of row prices only, as one ``(m, R)`` table."""

    __slots__ = ("rows",)

    def __init__(self, rows: FloatArray) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> Multipliers: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Multipliers, ...]: ...
    def __getitem__(self, place: int | slice) -> Multipliers | tuple[Multipliers, ...]:
        if isinstance(place, slice):
            return tuple(PriceTable(self.rows[place]))
        return Multipliers(np.zeros(0), self.rows[place], np.zeros(0))


def packed(multipliers: Sequence[Multipliers]) -> tuple[IntArray, Iterator[FloatArray]]:
    """Return the ``(m, 3)`` lengths of all vectors and their entries, in pieces."""
    if isinstance(multipliers, PriceTable):
        rows = multipliers.rows
        return np.tile(np.array([0, rows.shape[1], 0]), (len(rows), 1)), iter([rows.ravel()])
    triples = [(m.cluster, m.row, m.cover) for m in multipliers]
    lengths = np.array([[len(v) for v in triple] for triple in triples], dtype=np.int64)
    return lengths.reshape(-1, 3), (v for triple in triples for v in triple)


def unpacked(lengths: IntArray, vectors: FloatArray) -> Sequence[Multipliers]:
    """Return multipliers for what `packed` returned, joined."""
    rows = int(lengths[0, 1]) if len(lengths) else 0
    if rows and (lengths == (0, rows, 0)).all():
        return PriceTable(vectors.reshape(-1, rows))
    return tuple(Multipliers(*triple) for triple in archive.triples(lengths, vectors))


#: One record of a split tree in preorder: an inner node ``("split", axis, cut)``; a reduction
#: ``("out:reason", axis, index)`` or ``("in:reason", axis, index)``, which is a split whose other
#: side (the one where `axis` is not out, or not in) is closed at once by the reason; or a leaf
#: ``(reason, index, 0)``. Reasons are those of `LEAF_REASONS`.
Record = tuple[str, int, int]

#: Leaf reasons and what each one asserts about its box.
LEAF_REASONS = {
    "budget": "the least usage of budget row `index` in the box exceeds its limit",
    "group": "group `index` has two members that the box forces in",
    "cover": "no member of cover `index` is left in the box",
    "packing": "the forced experts of type `index` do not pack into its single rows",
    "farkas": "the rows priced with multipliers `index` cannot hold together in the box",
    "corner": "the objective at the upper corner of the box is at most the claim",
    "dual": "the Lagrangian value of multipliers `index` over the box is at most the claim",
    "marginal": "value at the lower corner plus all single gains is at most the claim",
}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Relaxation(Content):
    """The least change of one budget that restores feasibility.

    Attributes
    ----------
    row
        Index of the budget row that is relaxed; all others stay.
    limit
        The smallest limit of that row for which a solution exists.
    x
        A solution that uses exactly this limit.
    tree
        Split tree proving that no solution stays strictly below `limit`.
    """

    row: int
    limit: float
    x: IntArray
    tree: Sequence[Record]
    multipliers: Sequence[Multipliers] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        return {
            "row": self.row,
            "limit": self.limit,
            "x": self.x.tolist(),
            "tree": [list(record) for record in self.tree],
            "multipliers": [m.to_dict() for m in self.multipliers],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Relaxation:
        """Rebuild from `to_dict`."""
        return cls(
            row=int(data["row"]),
            limit=float(data["limit"]),
            x=np.asarray(data["x"], dtype=np.int64),
            tree=_records(data["tree"]),
            multipliers=tuple(Multipliers.from_dict(m) for m in data["multipliers"]),
        )


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Conflict(Content):
    """Why a problem is infeasible.

    Attributes
    ----------
    rows, covers
        Budget rows and cover rows that cannot hold together (groups always hold).
    smallest
        The solver's word, which the checker does not prove: True when it found every smaller set of
        budget rows satisfiable, False when it only found that no single row can be dropped.
    relaxations
        For single budget rows, the least limit that restores feasibility.
    """

    rows: tuple[int, ...]
    covers: tuple[int, ...] = ()
    smallest: bool = False
    relaxations: tuple[Relaxation, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        return {
            "rows": list(self.rows),
            "covers": list(self.covers),
            "smallest": self.smallest,
            "relaxations": [r.to_dict() for r in self.relaxations],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Conflict:
        """Rebuild from `to_dict`."""
        return cls(
            rows=tuple(int(r) for r in data["rows"]),
            covers=tuple(int(h) for h in data["covers"]),
            smallest=bool(data["smallest"]),
            relaxations=tuple(Relaxation.from_dict(r) for r in data["relaxations"]),
        )


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Certificate(Content):
    """A split tree that proves an upper bound, an optimum or infeasibility.

    The root is the whole box of the problem. An inner node cuts its box in two along one axis; a
    leaf names the reason why nothing better than the claim lies in its box. `moe2opt.certify`
    replays it knowing only the problem.

    Attributes
    ----------
    kind
        Problem family: ``facility``, ``multiple_choice`` or ``monotone``.
    claim
        Proven upper bound on the optimum; ``-inf`` claims infeasibility.
    tree
        Records in preorder; the left child follows its parent, the right child comes after the
        whole left subtree.
    multipliers
        Multipliers that leaves refer to.
    grid_bits
        Every multiplier of a cluster is a multiple of ``2**-grid_bits``.
    chains
        Dominance chains (facility): experts listed from the weakest to the strongest, each
        pointwise at most the next one; at most one member of a chain is needed.
    types
        Interchangeable budget rows (facility): the tree speaks about the problem in which each of
        these sets is one row, see `moe2opt.canonical.merge`.
    rounded
        Budget rows and numbers of parts of rounded rows, see `moe2opt.canonical.rounding`.
    totals
        Sets of axes of a proof by counts whose sums are split, too.
    problem_hash
        Fingerprint of the problem the proof speaks about.
    conflict
        For infeasibility: which budgets clash, and what would restore feasibility.
    digest
        SHA-256 of everything above, set by `sealed`; any later change is detected.
    """

    kind: str
    claim: float
    tree: Sequence[Record]
    multipliers: Sequence[Multipliers] = ()
    grid_bits: int = 0
    chains: tuple[tuple[int, ...], ...] = ()
    types: tuple[tuple[int, ...], ...] = ()
    rounded: tuple[tuple[int, int], ...] = ()
    totals: tuple[tuple[int, ...], ...] = ()
    problem_hash: str = ""
    conflict: Conflict | None = None
    digest: str = ""

    @property
    def leaves(self) -> int:
        """Number of leaves of the tree."""
        if isinstance(self.tree, archive.Records):
            return len(self.tree) - self.tree.splits
        return sum(record[0] != "split" for record in self.tree)

    def sealed(self) -> Certificate:
        """Return a copy whose digest matches its content."""
        return replace(self, digest=self.content_digest())

    def content_digest(self) -> str:
        """Return the SHA-256 of the content, the stored digest left out."""
        digest = hashlib.sha256()
        lengths, vectors = packed(self.multipliers)
        digest.update(len(lengths).to_bytes(8, "little") + lengths.astype("<i8").tobytes())
        for vector in vectors:
            digest.update(np.ascontiguousarray(vector, dtype="<f8").tobytes())
        archive.hash_tree(self.tree, digest)
        rest = replace(self, tree=(), multipliers=(), digest="").to_dict()
        digest.update(json.dumps(rest, sort_keys=True).encode())
        return digest.hexdigest()

    @property
    def is_large(self) -> bool:
        """Whether JSON is too clumsy for the tree and its multipliers."""
        numbers = int(packed(self.multipliers)[0].sum())
        return len(self.tree) > LARGEST_IN_JSON[0] or numbers > LARGEST_IN_JSON[1]

    def save(self, path: str | Path) -> None:
        """Write the certificate as JSON; a large one also as arrays in a file beside it."""
        path = Path(path)
        write_text(path, json.dumps(self.stored(path)))

    @classmethod
    def load(cls, path: str | Path) -> Certificate:
        """Read a certificate written by `save`; raise `InputError` if it is not one."""
        path = Path(path)
        content = read_json(path)
        try:
            return cls.from_stored(content, path.parent)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def stored(self, path: Path) -> dict[str, Any]:
        """Return what a JSON file at `path` holds of the certificate.

        A large tree and its multipliers go to an NPZ file beside it (``certificate.npz`` for
        ``result.json``), which is named here with its SHA-256.
        """
        if not self.is_large:
            return self.to_dict()
        name = "certificate.npz" if path.stem == "result" else f"{path.stem}.certificate.npz"
        digest = archive.write_arrays(path.with_name(name), self.tree, *packed(self.multipliers))
        rest = replace(self, tree=(), multipliers=()).to_dict()
        return {**rest, "arrays": {"file": name, "sha256": digest}}

    @classmethod
    def from_stored(cls, data: Any, folder: Path) -> Certificate:
        """Rebuild from `stored`, reading the NPZ file in `folder` where there is one.

        Raises
        ------
        InputError
            When the content is no certificate, the file lies elsewhere, or it was changed.
        """
        if not isinstance(data, dict) or "arrays" not in data:
            return cls.from_dict(data)
        try:
            tree, lengths, entries = archive.read_named(data["arrays"], folder)
        except ValueError as error:
            raise InputError(f"certificate: {error}") from error
        return replace(cls.from_dict(data), tree=tree, multipliers=unpacked(lengths, entries))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        return {
            "kind": self.kind,
            "claim": encode_float(self.claim),
            "tree": [list(record) for record in self.tree],
            "multipliers": [m.to_dict() for m in self.multipliers],
            "grid_bits": self.grid_bits,
            "chains": [list(chain) for chain in self.chains],
            "types": [list(rows) for rows in self.types],
            "rounded": [list(pair) for pair in self.rounded],
            # Left out where there are none, so that the digests of older certificates stay.
            **({"totals": [list(axes) for axes in self.totals]} if self.totals else {}),
            "problem_hash": self.problem_hash,
            "conflict": None if self.conflict is None else self.conflict.to_dict(),
            "digest": self.digest,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Certificate:
        """Rebuild from `to_dict`; raise `InputError` when the content is not a certificate."""
        try:
            return cls(
                kind=str(data["kind"]),
                claim=float(data["claim"]),
                tree=_records(data["tree"]),
                multipliers=tuple(Multipliers.from_dict(m) for m in data["multipliers"]),
                grid_bits=int(data["grid_bits"]),
                chains=tuple(tuple(int(i) for i in chain) for chain in data["chains"]),
                types=tuple(tuple(int(r) for r in rows) for rows in data["types"]),
                rounded=tuple((int(r), int(k)) for r, k in data["rounded"]),
                totals=tuple(tuple(int(m) for m in axes) for axes in data.get("totals", ())),
                problem_hash=str(data["problem_hash"]),
                conflict=None if data["conflict"] is None else Conflict.from_dict(data["conflict"]),
                digest=str(data["digest"]),
            )
        except DAMAGE as error:
            raise InputError(f"not a certificate: {type(error).__name__}: {error}") from error


def encode_float(value: float) -> float | str:
    """Return `value`, or ``"inf"``/``"-inf"`` where JSON has no number for it."""
    return value if math.isfinite(value) else str(value)


def _records(data: list[Any]) -> tuple[Record, ...]:
    records = tuple((str(kind), int(first), int(second)) for kind, first, second in data)
    if any(max(abs(record[1]), abs(record[2])) >= 2**63 for record in records):
        raise ValueError("a field of a record has more than 64 bits")
    return records
