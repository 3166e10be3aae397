"""What a run may claim: statuses, limits, results, certificates and the errors of the package.

This is the lowest layer: it imports nothing of moe2opt, and everything else speaks its words.
"""

from __future__ import annotations

import enum
import hashlib
import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: Relative slack within which a bound on non-integer data counts as closed.
NUMERICAL_GAP = 1e-9

#: Denominators of relative gaps never fall below this.
_SMALLEST_SCALE = 1e-10


class MoeOptError(Exception):
    """Base of every error that moe2opt raises on purpose."""


class InputError(MoeOptError, ValueError):
    """The input is wrong; the message names the array, key or position at fault."""


class CertificationError(MoeOptError):
    """A result or its certificate was rejected by the checker."""


@enum.unique
class Status(enum.StrEnum):
    """What a run established."""

    OPTIMAL = "OPTIMAL"
    """A plan exists and the gap is within the tolerance."""
    FEASIBLE = "FEASIBLE"
    """A plan exists; better ones are not excluded."""
    INFEASIBLE = "INFEASIBLE"
    """Proven: no plan meets the budgets."""
    NO_SOLUTION = "NO_SOLUTION"
    """The run stopped before it found a plan; nothing is proven about existence."""
    ERROR = "ERROR"
    """The run failed; only sweeps and benchmarks report this, `solve` raises."""


@enum.unique
class Limit(enum.StrEnum):
    """Why a run stopped before its natural end."""

    TIME = "TIME"
    NODES = "NODES"
    MEMORY = "MEMORY"
    INTERRUPTED = "INTERRUPTED"


def relative_gap(objective: float, bound: float) -> float:
    """Return ``(bound - objective) / max(|objective|, 1e-10)``, never NaN.

    Parameters
    ----------
    objective
        Value of the incumbent (maximisation); ``-inf`` or NaN when there is none.
    bound
        Proven upper bound; ``inf`` when nothing is proven.
    """
    if not math.isfinite(objective) or not math.isfinite(bound):
        return math.inf
    return max(0.0, bound - objective) / max(abs(objective), _SMALLEST_SCALE)


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """One line of a solver's log.

    Attributes
    ----------
    time_s
        Seconds since the solver started.
    nodes, open_nodes
        Nodes examined and nodes waiting.
    bound, objective
        Best proven upper bound and best known value at that moment.
    source
        ``H`` heuristic, ``B`` branching, ``R`` reduction, ``L`` relaxation, ``M`` milp,
        ``U`` user's warm start, ``P`` polyblock, ``E`` enumeration, blank for a clock tick.
    """

    time_s: float
    nodes: int
    open_nodes: int
    bound: float
    objective: float
    source: str = " "


@dataclass(frozen=True, slots=True, eq=False)
class Multipliers:
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
        """Rebuild from `to_dict`."""
        return cls(
            *(np.asarray(data[key], dtype=np.float64) for key in ("cluster", "row", "cover"))
        )


#: One record of a split tree in preorder: an inner node ``("split", axis, cut)``, or a leaf
#: ``(reason, index)`` with reason in `LEAF_REASONS`.
Record = tuple[str, int, int]

#: Leaf reasons and what each one asserts about its box.
LEAF_REASONS = {
    "budget": "the least usage of budget row `index` in the box exceeds its limit",
    "group": "group `index` has two members that the box forces in",
    "cover": "no member of cover `index` is left in the box",
    "farkas": "the rows priced with multipliers `index` cannot hold together in the box",
    "corner": "the objective at the upper corner of the box is at most the claim",
    "dual": "the Lagrangian value of multipliers `index` over the box is at most the claim",
    "marginal": "value at the lower corner plus all single gains is at most the claim",
}


@dataclass(frozen=True, slots=True)
class Relaxation:
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
    tree: tuple[Record, ...]
    multipliers: tuple[Multipliers, ...] = ()

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


@dataclass(frozen=True, slots=True)
class Conflict:
    """Why a problem is infeasible.

    Attributes
    ----------
    rows, covers
        Budget rows and cover rows that cannot hold together (groups always hold).
    smallest
        True when every smaller set of budget rows was shown to be satisfiable; False when the
        set is only minimal (no member can be dropped) or the search for it met a limit.
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


@dataclass(frozen=True, slots=True)
class Certificate:
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
    problem_hash
        Fingerprint of the problem the proof speaks about.
    conflict
        For infeasibility: which budgets clash, and what would restore feasibility.
    digest
        SHA-256 of everything above, set by `sealed`; any later change is detected.
    """

    kind: str
    claim: float
    tree: tuple[Record, ...]
    multipliers: tuple[Multipliers, ...] = ()
    grid_bits: int = 0
    chains: tuple[tuple[int, ...], ...] = ()
    problem_hash: str = ""
    conflict: Conflict | None = None
    digest: str = ""

    @property
    def leaves(self) -> int:
        """Number of leaves of the tree."""
        return sum(record[0] != "split" for record in self.tree)

    def sealed(self) -> Certificate:
        """Return a copy whose digest matches its content."""
        return replace(self, digest=self.content_digest())

    def content_digest(self) -> str:
        """Return the SHA-256 of the content, the stored digest left out."""
        content = {key: value for key, value in self.to_dict().items() if key != "digest"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        return {
            "kind": self.kind,
            "claim": encode_float(self.claim),
            "tree": [list(record) for record in self.tree],
            "multipliers": [m.to_dict() for m in self.multipliers],
            "grid_bits": self.grid_bits,
            "chains": [list(chain) for chain in self.chains],
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
                problem_hash=str(data["problem_hash"]),
                conflict=None if data["conflict"] is None else Conflict.from_dict(data["conflict"]),
                digest=str(data["digest"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"not a certificate: {type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class Result:
    """Outcome of `moe2opt.solve`.

    Attributes
    ----------
    status, limit
        What was established, and which limit stopped the run (None if none did).
    x
        ``(n,)`` best solution in the variables of the canonical problem, None without one.
    objective
        Its value, recomputed by the problem; ``-inf`` without a solution.
    bound
        Best proven upper bound; ``inf`` if nothing is proven, ``-inf`` if infeasible.
    certificate
        Proof of `bound`, None when the solver gives none.
    solver
        Name of the solver that ran.
    rel_gap
        The relative gap that was asked for.
    stats
        Counters and seconds per phase.
    log
        Progress events, oldest first.
    plan
        Decoded solution when an instance was solved, else None.
    provenance
        Versions, machine, hashes and seed: enough to run it again.
    """

    status: Status
    limit: Limit | None
    x: IntArray | None
    objective: float
    bound: float
    certificate: Certificate | None = None
    solver: str = ""
    rel_gap: float = 0.0
    stats: dict[str, Any] = field(default_factory=dict)
    log: tuple[ProgressEvent, ...] = ()
    plan: Any = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        has_solution = self.status in (Status.OPTIMAL, Status.FEASIBLE)
        if has_solution != (self.x is not None):
            raise ValueError(f"status {self.status} and the presence of a solution disagree")
        if math.isnan(self.bound) or math.isnan(self.objective):
            raise ValueError("objective and bound must be numbers")
        if self.status is Status.OPTIMAL and self.gap > max(self.rel_gap, NUMERICAL_GAP) * 1.01:
            raise ValueError(f"OPTIMAL with a gap of {self.gap:.3g}")

    @property
    def gap(self) -> float:
        """Relative gap ``(bound - objective) / max(|objective|, 1e-10)``; ``inf`` if undefined."""
        return relative_gap(self.objective, self.bound)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content; infinite numbers become the strings ``inf`` and ``-inf``."""
        plan = self.plan.to_dict() if hasattr(self.plan, "to_dict") else self.plan
        return {
            "status": str(self.status),
            "limit": None if self.limit is None else str(self.limit),
            "sense": "maximize",
            "objective": encode_float(self.objective),
            "bound": encode_float(self.bound),
            "gap": encode_float(self.gap),
            "solver": self.solver,
            "rel_gap": self.rel_gap,
            "x": None if self.x is None else self.x.tolist(),
            "plan": plan,
            "certificate": None if self.certificate is None else self.certificate.to_dict(),
            "stats": self.stats,
            "provenance": self.provenance,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Result:
        """Rebuild from `to_dict`; the plan stays a plain dictionary."""
        try:
            certificate = data["certificate"]
            return cls(
                status=Status(data["status"]),
                limit=None if data["limit"] is None else Limit(data["limit"]),
                x=None if data["x"] is None else np.asarray(data["x"], dtype=np.int64),
                objective=float(data["objective"]),
                bound=float(data["bound"]),
                certificate=None if certificate is None else Certificate.from_dict(certificate),
                solver=str(data["solver"]),
                rel_gap=float(data["rel_gap"]),
                stats=dict(data["stats"]),
                plan=data["plan"],
                provenance=dict(data["provenance"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"not a result: {type(error).__name__}: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write the result as JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Result:
        """Read a result written by `save`; raise `InputError` naming the file if it is not one."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(data, dict):
                raise InputError("not a result: the file does not hold a JSON object")
            return cls.from_dict(data)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not JSON: {error}") from error
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def __str__(self) -> str:
        limit = "" if self.limit is None else f" ({self.limit.lower()} limit)"
        return (
            f"{self.status}{limit}  objective {self.objective:.6g}  bound {self.bound:.6g}"
            f"  gap {self.gap:.3%}  solver {self.solver}"
        )


def encode_float(value: float) -> float | str:
    """Return `value`, or ``"inf"``/``"-inf"`` where JSON has no number for it."""
    return value if math.isfinite(value) else str(value)


def _records(data: list[Any]) -> tuple[Record, ...]:
    return tuple((str(kind), int(first), int(second)) for kind, first, second in data)
