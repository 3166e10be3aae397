"""How to run a solver: limits, the gap that is good enough, seed and proof."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from moe2opt.result import NUMERICAL_GAP, InputError
from moe2opt.solvers.tuning import DEFAULT, Tuning

#: Values of `Options.proof`.
PROOFS = ("any", "linear")


@dataclass(frozen=True, slots=True)
class Options:
    """How to run a solver; the same for all of them.

    Attributes
    ----------
    time_limit_s, node_limit, memory_limit_bytes
        Limits; None for none. Memory is the resident size of the process.
    rel_gap
        Stop once the relative gap is at most this; up to 1e-9, whole-numbered objectives are closed
        exactly. 0 for fractions, too, as far as bounds in floating point can tell.
    seed
        Seed of everything random.
    threads
        Threads of a solver that can use several: `brb` on facility problems, `milp`.
    warm_start
        A solution to start from; ignored when infeasible.
    bound
        Bound used by `brb`: ``auto`` or one of its names.
    fixed_rows
        Rows that the question itself has: a conflict contains them, and they are never relaxed.
    proof
        ``any``, or ``linear`` for proofs that use only what the linear formulation contains, as
        `moe2opt.vipr` needs them: no dominated experts dropped, no interchangeable rows merged.
    tuning
        The tuned numbers of the engines.
    """

    time_limit_s: float | None = None
    node_limit: int | None = None
    memory_limit_bytes: int | None = None
    rel_gap: float = NUMERICAL_GAP
    seed: int = 0
    threads: int = 1
    warm_start: Any = None
    bound: str = "auto"
    fixed_rows: tuple[int, ...] = ()
    proof: str = "any"
    tuning: Tuning = DEFAULT

    def __post_init__(self) -> None:
        for name in ("time_limit_s", "node_limit", "memory_limit_bytes"):
            limit = getattr(self, name)
            if limit is not None and not limit >= 0:
                raise InputError(f"{name} = {limit} is not understood; it must be at least 0")
        if not 0 <= self.rel_gap < math.inf:
            raise InputError(f"rel_gap = {self.rel_gap} is not understood; it must be at least 0")
        if self.threads < 1:
            raise InputError(f"threads = {self.threads} is not understood; it must be at least 1")
        if self.seed < 0:
            raise InputError(f"seed = {self.seed} is not understood; it must be at least 0")
        if self.proof not in PROOFS:
            known = ", ".join(PROOFS)
            raise InputError(f"proof = {self.proof!r} is not understood; choose one of {known}")
