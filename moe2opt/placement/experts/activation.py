"""How often experts are used: counts, traces, domains, and synthetic laws that say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moe2opt.archive import read_npz
from moe2opt.result import FloatArray, InputError, IntArray
from moe2opt.schema.frames import read_frame


@dataclass(frozen=True, eq=False)
class Activation:
    """Use of the experts of a model.

    Attributes
    ----------
    domains
        Names of the D input domains.
    weights
        ``(D,)`` weights of the domains, summing to 1.
    shares
        ``(D, L, E)`` probability that a token uses an expert; a layer's shares sum to top-k.
    saliency
        ``(L, E)`` share of each expert in the importance of all experts, summing to 1.
    trace
        ``(tokens, L, k)`` experts of each token, None without a trace.
    starts
        Positions in the trace where a sequence begins.
    robust
        Whether the worst domain counts instead of the mixture.
    resolution
        Relative step of the values of the worst case.
    note
        Origin, in words.
    synthetic
        Whether nothing of it was measured.
    """

    domains: tuple[str, ...]
    weights: FloatArray
    shares: FloatArray
    saliency: FloatArray
    trace: IntArray | None = None
    starts: IntArray | None = None
    robust: bool = False
    resolution: float = 1e-3
    note: str = ""
    synthetic: bool = False

    @property
    def mixed(self) -> FloatArray:
        """``(L, E)`` use of each expert over the mixture of domains."""
        return np.asarray(np.tensordot(self.weights, self.shares, axes=1))


def uses_per_token(shares: FloatArray, batch: int) -> FloatArray:
    """Return how often an expert is read per token when `batch` tokens are decoded together.

    Tokens choose independently, so an expert is read with probability ``1 - (1 - p)^B`` per step;
    for equal shares the sum over a layer is the expected union ``N (1 - (1 - k/N)^B)`` over B.
    """
    if batch == 1:
        return shares
    return np.asarray(-np.expm1(batch * np.log1p(-np.minimum(shares, 1 - 1e-15))) / batch)


def from_counts(
    path: Path,
    layers: tuple[int, ...],
    experts: int,
    top_k: int,
    wanted: Mapping[str, float] | None,
) -> Activation:
    """Read a table of selections: layer, expert, count and optionally domain, saliency.

    Raises
    ------
    InputError
        For an unreadable table, unknown layers, experts outside ``0..experts-1``, or a layer
        without counts.
    """
    table = _read_frame(path)
    rows = _layer_rows(path, table["layer"].to_numpy(), layers)
    expert = _whole(path, "expert", table["expert"].to_numpy())
    _inside(path, expert, experts)
    names = table["domain"].astype(str) if "domain" in table else None
    labels = ["all"] if names is None else sorted(set(names) - {"all"}) or ["all"]
    domain = np.zeros(len(table), dtype=np.int64)
    if names is not None:
        place = {name: d for d, name in enumerate(labels)}
        domain = np.array([place.get(name, -1) for name in names], dtype=np.int64)
    counts = np.zeros((len(labels), len(layers), experts))
    kept = domain >= 0
    np.add.at(counts, (domain[kept], rows[kept], expert[kept]), _real(path, "count", table)[kept])
    _no_empty_layer(path, counts, labels, layers)
    saliency = _saliency(path, table, rows, expert, counts, kept)
    tokens = counts.sum(axis=(1, 2))
    weights = _domain_weights(labels, tokens, wanted)
    return Activation(
        domains=tuple(labels),
        weights=weights,
        shares=np.minimum(top_k * counts / counts.sum(axis=2, keepdims=True), 1.0),
        saliency=saliency,
        note=f"activation: counts of {path.name}",
    )


def from_trace(path: Path, layers: int, experts: int, top_k: int) -> Activation:
    """Read the experts of each token from an NPZ file (array `experts`, optionally `starts`).

    Raises
    ------
    InputError
        For an unreadable file, a wrong shape, or expert ids outside ``0..experts-1``.
    """
    try:
        arrays = read_npz(path)
    except InputError as error:
        raise InputError(f"activation.trace: {error}") from error
    if "experts" not in arrays:
        raise InputError(f"activation.trace: {path.name} has no array 'experts'")
    trace = arrays["experts"]
    if trace.dtype.kind not in "iu" or trace.ndim != 3 or trace.shape[1:] != (layers, top_k):
        raise InputError(
            f"activation.trace: {path.name}: experts has dtype {trace.dtype} and shape "
            f"{trace.shape}; integers of shape (tokens, {layers}, {top_k}) are expected"
        )
    if not len(trace):
        raise InputError(f"activation.trace: {path.name}: the trace has no token")
    trace = trace.astype(np.int64)
    bad = (trace < 0) | (trace >= experts)
    if bad.any():
        token, layer, rank = (int(i) for i in np.argwhere(bad)[0])
        raise InputError(
            f"activation.trace: {path.name}: experts[{token}, {layer}, {rank}] is "
            f"{trace[token, layer, rank]}; the model has experts 0..{experts - 1}"
        )
    starts = np.asarray(arrays.get("starts", np.zeros(1, dtype=np.int64)))
    if starts.dtype.kind not in "iu" or starts.ndim != 1:
        raise InputError(f"activation.trace: {path.name}: starts must be a list of whole numbers")
    starts = starts.astype(np.int64)
    shares = trace_shares(trace, experts)[None]
    return Activation(
        domains=("all",),
        weights=np.ones(1),
        shares=shares,
        saliency=shares[0] / shares[0].sum(),
        trace=trace,
        starts=starts,
        note=f"activation: trace of {len(trace)} tokens, {path.name}; saliency = use",
    )


def trace_shares(trace: IntArray, experts: int) -> FloatArray:
    """Return the ``(L, E)`` share of tokens that use each expert of a ``(tokens, L, k)`` trace."""
    return np.stack(
        [
            np.bincount(trace[:, layer].ravel(), minlength=experts) / len(trace)
            for layer in range(trace.shape[1])
        ]
    )


def _domain_weights(
    labels: list[str], tokens: FloatArray, wanted: Mapping[str, float] | None
) -> FloatArray:
    if wanted is None:
        return np.asarray(tokens / tokens.sum())
    for name in wanted:
        if name not in labels:
            raise InputError(
                f"activation.domains: unknown domain '{name}' (domains: {', '.join(labels)})"
            )
    weights = np.array([wanted.get(name, 0.0) for name in labels])
    return np.asarray(weights / weights.sum())


def _saliency(
    path: Path, table: Any, rows: IntArray, expert: IntArray, counts: FloatArray, kept: Any
) -> FloatArray:
    if "saliency" not in table:
        total = counts.sum(axis=0)
        return np.asarray(total / total.sum())
    saliency = np.zeros(counts.shape[1:])
    np.add.at(saliency, (rows[kept], expert[kept]), _real(path, "saliency", table)[kept])
    if not saliency.sum():
        raise InputError(f"activation.counts: {path.name}: every saliency is 0")
    return np.asarray(saliency / saliency.sum())


def _read_frame(path: Path) -> Any:
    try:
        table = read_frame(path)
    except InputError as error:
        raise InputError(f"activation.counts: {error}") from error
    for name in ("layer", "expert", "count"):
        if name not in table:
            raise InputError(f"activation.counts: {path.name} has no column '{name}'")
    return table


def _whole(path: Path, name: str, column: Any) -> IntArray:
    values = np.asarray(column)
    if values.dtype.kind not in "iu":
        raise InputError(f"activation.counts: {path.name}: column '{name}' must hold integers")
    return values.astype(np.int64)


def _real(path: Path, name: str, table: Any) -> FloatArray:
    values = np.asarray(table[name])
    if values.dtype.kind not in "iuf" or not (np.isfinite(values) & (values >= 0)).all():
        raise InputError(
            f"activation.counts: {path.name}: column '{name}' must hold finite numbers ≥ 0"
        )
    return values.astype(np.float64)


def _layer_rows(path: Path, column: Any, layers: tuple[int, ...]) -> IntArray:
    numbers = _whole(path, "layer", column)
    place = {number: row for row, number in enumerate(layers)}
    unknown = [n for n in np.unique(numbers).tolist() if n not in place]
    if unknown:
        raise InputError(
            f"activation.counts: {path.name}: layer {unknown[0]} has no experts in the model "
            f"(its {len(layers)} such layers run from {layers[0]} to {layers[-1]})"
        )
    return np.array([place[n] for n in numbers.tolist()], dtype=np.int64)


def _inside(path: Path, expert: IntArray, experts: int) -> None:
    bad = (expert < 0) | (expert >= experts)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"activation.counts: {path.name}: row {row + 1} has expert {expert[row]}; the model "
            f"has experts 0..{experts - 1}"
        )


def _no_empty_layer(
    path: Path, counts: FloatArray, labels: list[str], layers: tuple[int, ...]
) -> None:
    empty = np.argwhere(counts.sum(axis=2) == 0)
    if len(empty):
        d, row = empty[0]
        where = "" if labels == ["all"] else f" in domain '{labels[d]}'"
        raise InputError(
            f"activation.counts: {path.name}: layer {layers[row]} has no counts{where}"
        )
