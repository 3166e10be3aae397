"""What a run leaves behind: every use of an expert, seconds, losses and memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe2opt.executor.store.layout import Layout
from moe2opt.result import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Served:
    """One use of an expert.

    Attributes
    ----------
    token, row, expert
        Which token since the start, which layer with experts, which stored expert.
    tier, precision
        Of its first part.
    hit
        Whether its weights were where they are computed.
    moved_bytes
        Bytes copied for it, early copies included.
    early
        Whether the copy had been asked for before the layer began.
    move_s, compute_s
        Seconds until its weights were there, and of computing.
    """

    token: int
    row: int
    expert: int
    tier: int
    precision: int
    hit: bool
    moved_bytes: int
    early: bool
    move_s: float
    compute_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """What one pass over the S sequences of N tokens took.

    Attributes
    ----------
    token_s
        ``(S * N,)`` seconds of each token.
    experts_s
        ``(S * N, L)`` seconds of copying and computing experts, by layer.
    losses
        ``(S, N - 1)`` minus the logarithm of the probability of the next token.
    served
        Every use of an expert.
    wasted_bytes
        Bytes of early copies that nobody used.
    resident_bytes
        Largest memory of the process's own at the end of a sequence, None where it is not told.
    """

    token_s: FloatArray
    experts_s: FloatArray
    losses: FloatArray
    served: tuple[Served, ...]
    wasted_bytes: int = 0
    resident_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """Memory of a run.

    Attributes
    ----------
    experts_bytes
        Experts in DRAM and on a CUDA device, cache slots included, by tier.
    dense_bytes, context_bytes
        The rest of the model, and keys and values of a sequence.
    passing_bytes
        Buffers that copies pass through.
    grown_bytes
        Growth of this process's own memory while the plan was built and run, and the dense part,
        which was there before; None where the system does not tell. It includes what torch and
        Python take for themselves.
    peak_bytes
        Largest resident set of the process so far (VmHWM).
    """

    experts_bytes: tuple[int, ...]
    dense_bytes: int
    context_bytes: int
    passing_bytes: int
    grown_bytes: int | None
    peak_bytes: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A plan as it was run.

    Attributes
    ----------
    layout
        How it was run.
    tokens
        ``(S, N)``.
    passes
        The repeats.
    held
        Memory.
    storage_bytes
        Bytes that the process had read from disks per pass, None where the system does not tell.
    joules_per_token
        From a power meter, None without one.
    notes
        What must be known about the figures.
    """

    layout: Layout
    tokens: IntArray
    passes: tuple[Pass, ...]
    held: Held
    storage_bytes: int | None = None
    joules_per_token: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def token_s(self) -> FloatArray:
        """``(S * N,)`` seconds of each token: the median of its passes."""
        return np.asarray(np.median([p.token_s for p in self.passes], axis=0))

    @property
    def layer_s(self) -> FloatArray:
        """``(L,)`` mean seconds per token of the experts of each layer."""
        return np.asarray(np.median([p.experts_s for p in self.passes], axis=0).mean(axis=0))

    @property
    def losses(self) -> FloatArray:
        """``(S, N - 1)`` loss in nats of each token but the first."""
        return self.passes[0].losses
