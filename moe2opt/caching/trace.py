"""Traces of experts: which experts served each token in each layer, in sequences."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from moe2opt.result import BoolArray, FloatArray, InputError, IntArray
from moe2opt.writing import replacing

#: Expert numbers, kept small because there are tokens x layers x k of them.
IdArray = npt.NDArray[np.int16]
ByteArray = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class ExpertTrace:
    """The experts of every token, layer by layer.

    Parameters
    ----------
    experts
        ``(tokens, L, k)`` expert numbers, the most important first.
    n_experts
        Experts per layer.
    starts
        ``(S,)`` positions where sequences begin, rising from 0.
    gates
        ``(tokens, L, k)`` gate weights, falling along k; normalised to sum 1. None when unknown.
    layers
        ``(L,)`` numbers of the layers as the model counts them.
    name, source, synthetic
        What it is, where it comes from, and whether it was made up.

    Raises
    ------
    InputError
        For a wrong shape, an expert outside ``0..n_experts-1``, an expert twice in one token and
        layer, starts that do not rise from 0, or gates that are NaN, negative or out of order.
    """

    experts: npt.NDArray[Any]
    n_experts: int
    starts: IntArray
    gates: FloatArray | None = None
    layers: tuple[int, ...] = ()
    name: str = "trace"
    source: str = ""
    synthetic: bool = False

    def __post_init__(self) -> None:
        experts = checked_experts(self.name, np.asarray(self.experts), self.n_experts)
        starts = checked_starts(self.name, np.asarray(self.starts), len(experts))
        object.__setattr__(self, "experts", experts)
        object.__setattr__(self, "starts", starts)
        if self.gates is not None:
            gates = checked_gates(self.name, np.asarray(self.gates), experts.shape)
            object.__setattr__(self, "gates", gates)
        layers = tuple(self.layers) or tuple(range(experts.shape[1]))
        if len(layers) != experts.shape[1]:
            raise InputError(
                f"{self.name}: layers names {len(layers)} layers, experts has {experts.shape[1]}"
            )
        object.__setattr__(self, "layers", layers)

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return len(self.experts)

    @property
    def n_layers(self) -> int:
        """Number of layers L."""
        return int(self.experts.shape[1])

    @property
    def top_k(self) -> int:
        """Experts per token and layer."""
        return int(self.experts.shape[2])

    @property
    def sequences(self) -> int:
        """Number of sequences."""
        return len(self.starts)

    @property
    def fresh(self) -> BoolArray:
        """``(tokens,)`` whether a sequence begins."""
        fresh = np.zeros(self.tokens, dtype=bool)
        fresh[self.starts] = True
        return fresh

    def shares(self) -> FloatArray:
        """Return the ``(L, E)`` share of the tokens that use each expert."""
        columns = np.arange(self.n_layers)[None, :, None] * self.n_experts + self.experts
        counts = np.bincount(columns.ravel(), minlength=self.n_layers * self.n_experts)
        return np.asarray(counts.reshape(self.n_layers, self.n_experts) / self.tokens)

    def take(self, sequences: Any) -> ExpertTrace:
        """Return the trace of some sequences (positions, or a slice or mask over them)."""
        chosen = np.atleast_1d(np.arange(self.sequences)[sequences])
        if not len(chosen):
            raise InputError(f"{self.name}: no sequence is left")
        ends = np.append(self.starts[1:], self.tokens)
        lengths = (ends - self.starts)[chosen]
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        rows = np.concatenate([np.arange(self.starts[s], ends[s]) for s in chosen])
        gates = None if self.gates is None else self.gates[rows]
        return replace(self, experts=self.experts[rows], starts=starts, gates=gates)

    def halves(self) -> tuple[ExpertTrace, ExpertTrace]:
        """Return every second sequence from the first on, to learn from, and the others, to test.

        Raises
        ------
        InputError
            When there is only one sequence.
        """
        if self.sequences < 2:
            raise InputError(f"{self.name}: one sequence cannot be split in two halves")
        return self.take(slice(0, None, 2)), self.take(slice(1, None, 2))

    def describe(self) -> str:
        """Return one line that says what it is, and that it is synthetic where it is."""
        made_up = "SYNTHETIC, " if self.synthetic else ""
        return (
            f"{self.name}: {made_up}{self.sequences} sequences, {self.tokens} tokens, "
            f"{self.n_layers} layers x {self.n_experts} experts, top-{self.top_k}"
            f"{'' if self.gates is None else ', gate weights'}"
        )

    def to_frame(self) -> pd.DataFrame:
        """Return one row per token, layer and expert, as `read_trace` reads them."""
        tokens, layers, top_k = self.experts.shape
        number = np.cumsum(self.fresh) - 1
        step = np.arange(tokens) - self.starts[number]
        frame = pd.DataFrame(
            {
                "sequence": np.repeat(number, layers * top_k),
                "step": np.repeat(step, layers * top_k),
                "layer": np.tile(np.repeat(self.layers, top_k), tokens),
                "expert": self.experts.ravel(),
            }
        )
        return frame if self.gates is None else frame.assign(gate=self.gates.ravel())

    def save(self, path: Path) -> None:
        """Write an NPZ file that `read_trace` reads back."""
        arrays: dict[str, Any] = {
            "experts": self.experts.astype(np.uint8 if self.n_experts <= 256 else np.int16),
            "n_experts": self.n_experts,
            "starts": self.starts,
            "layers": np.array(self.layers),
            "name": self.name,
            "source": self.source,
            "synthetic": self.synthetic,
        }
        if self.gates is not None:
            arrays["gates"] = self.gates.astype(np.float16)
        with replacing(path) as beside:
            np.savez_compressed(beside, **arrays)


def checked_experts(name: str, experts: npt.NDArray[Any], n_experts: int) -> IdArray:
    """Return expert numbers after every check; `name` is named in errors."""
    if experts.dtype.kind not in "iu" or experts.ndim != 3:
        raise InputError(
            f"{name}: experts has dtype {experts.dtype} and shape {experts.shape}; integers of "
            "shape (tokens, layers, k) are expected"
        )
    if not experts.size:
        raise InputError(f"{name}: experts is empty, shape {experts.shape}")
    if not 1 <= n_experts <= 32767:
        raise InputError(f"{name}: n_experts is {n_experts}; 1..32767 are possible")
    _first(
        (experts < 0) | (experts >= n_experts),
        experts,
        f"{name}: experts",
        f"the experts of a layer are 0..{n_experts - 1}",
    )
    small = np.ascontiguousarray(experts, dtype=np.int16)
    ordered = np.sort(small, axis=2)
    twice = (ordered[:, :, 1:] == ordered[:, :, :-1]).any(axis=2)
    if twice.any():
        token, layer = (int(i) for i in np.argwhere(twice)[0])
        raise InputError(
            f"{name}: experts[{token}, {layer}] is {small[token, layer].tolist()}: an expert is "
            "named twice"
        )
    return small


def _first(bad: BoolArray, values: npt.NDArray[Any], what: str, rule: str) -> None:
    if bad.any():
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InputError(f"{what}[{', '.join(map(str, at))}] is {values[at]}; {rule}")


def checked_starts(name: str, starts: npt.NDArray[Any], tokens: int) -> IntArray:
    """Return the starts of sequences after every check."""
    if starts.dtype.kind not in "iu" or starts.ndim != 1 or not len(starts):
        raise InputError(f"{name}: starts must be a list of integers, got {starts.dtype} values")
    starts = starts.astype(np.int64)
    if starts[0] != 0:
        raise InputError(f"{name}: starts[0] is {starts[0]}; the first sequence begins at 0")
    falls = np.diff(starts) <= 0
    if falls.any():
        at = int(np.argmax(falls)) + 1
        raise InputError(f"{name}: starts[{at}] is {starts[at]}, not above {starts[at - 1]}")
    if starts[-1] >= tokens:
        raise InputError(
            f"{name}: starts[{len(starts) - 1}] is {starts[-1]}, behind the last of {tokens} tokens"
        )
    return starts


def checked_gates(name: str, gates: npt.NDArray[Any], shape: tuple[int, ...]) -> FloatArray:
    """Return gate weights of sum 1 after every check."""
    if gates.shape != shape or gates.dtype.kind not in "iuf":
        raise InputError(
            f"{name}: gates has dtype {gates.dtype} and shape {gates.shape}; numbers of shape "
            f"{shape} are expected"
        )
    gates = gates.astype(np.float64)
    rule = "gate weights are finite numbers ≥ 0"
    _first(~(np.isfinite(gates) & (gates >= 0)), gates, f"{name}: gates", rule)
    rises = np.diff(gates, axis=2) > 0
    _first(rises, gates[:, :, :-1], f"{name}: gates", "less than the weight of the next rank")
    total = gates.sum(axis=2, keepdims=True)
    _first(total == 0, total, f"{name}: sum of gates", "some expert needs a weight")
    return np.asarray(gates / total)
