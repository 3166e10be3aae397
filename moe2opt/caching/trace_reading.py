"""Read traces of experts from NPZ, CSV and Parquet files; every fault is one clear error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from moe2opt.archive import read_npz
from moe2opt.caching.trace import ExpertTrace
from moe2opt.library import roots
from moe2opt.result import InputError, IntArray
from moe2opt.schema.frames import read_frame
from moe2opt.text import fault_of_name

#: Columns of a table: one row per token, layer and expert.
REQUIRED = ("step", "layer", "expert")
OPTIONAL = ("sequence", "rank", "gate")

#: Largest whole number that a column may hold.
_MOST = 2**53


def read_trace(
    path: Path | str,
    *,
    n_experts: int | None = None,
    index: Path | str | None = None,
    repetition: bool = True,
) -> ExpertTrace:
    """Read a trace of experts.

    Parameters
    ----------
    path
        File, or the name of a built-in one (``experts_synthetic.npz``).
        ``.npz`` with `experts` ``(tokens, L, k)`` in rank order, and optionally `gates` (or
        `probs`) of the same shape, `starts`, `layers`, `n_experts`, `name`, `source`, `synthetic`.
        ``.csv`` or ``.parquet`` with the columns step (token, counted within the sequence from any
        number), layer, expert, and optionally sequence, rank and gate. Without `sequence`, one
        begins wherever the step falls. Without `rank`, experts are ranked by gate, else by the
        order of their rows.
    n_experts
        Experts per layer; without it the file tells, or the largest number plus 1 is taken.
    index
        Table (CSV or Parquet) of the sequences of an NPZ file: columns offset, tokens, and
        optionally repetition. Only these are kept.
    repetition
        Whether sequences that the index marks as repetitive are kept.

    Raises
    ------
    InputError
        For a file that cannot be read, wrong numbers, gaps in steps or layers, numbers of experts
        that differ between tokens, and what `ExpertTrace` refuses.
    """
    path = _located(Path(path))
    if path.suffix == ".npz":
        return _from_npz(path, n_experts, None if index is None else Path(index), repetition)
    if index is not None:
        raise InputError(f"index: {path.name} is a table and names its own sequences")
    if path.suffix in (".csv", ".parquet"):
        return _from_table(path, n_experts)
    raise InputError(f"{path.name}: traces of experts are .npz, .csv or .parquet files")


def _located(path: Path) -> Path:
    """Return the file itself, else the built-in trace of this name, else the path as it is."""
    if path.is_file() or len(path.parts) != 1:
        return path
    places = [root / "traces" / path.name for root in roots()]
    return next((place for place in places if place.is_file()), path)


def _from_npz(
    path: Path, n_experts: int | None, index: Path | None, repetition: bool
) -> ExpertTrace:
    arrays = read_npz(path)
    if "experts" not in arrays:
        raise InputError(f"{path.name} has no array 'experts'")
    experts = arrays["experts"]
    gates = arrays.get("gates", arrays.get("probs"))
    if gates is not None:
        experts, gates = _ranked(path, experts, gates)
    if n_experts is None:
        n_experts = _number(path, "n_experts", arrays, _largest(experts) + 1)
    trace = ExpertTrace(
        experts=experts,
        n_experts=n_experts,
        starts=arrays.get("starts", np.zeros(1, dtype=np.int64)),
        gates=gates,
        layers=_layers(path, arrays),
        name=_text(path, "name", arrays, path.stem),
        source=_text(path, "source", arrays, ""),
        synthetic=bool(_number(path, "synthetic", arrays, 0)),
    )
    return trace if index is None else _indexed(trace, index, repetition)


def _ranked(path: Path, experts: Any, gates: Any) -> Any:
    """Return experts and gates with the largest gate first."""
    if gates.shape != experts.shape or gates.dtype.kind not in "iuf" or not gates.size:
        raise InputError(
            f"{path.name}: gates has dtype {gates.dtype} and shape {gates.shape}; numbers of shape "
            f"{experts.shape} are expected"
        )
    order = np.argsort(-gates.astype(np.float64), axis=-1, kind="stable")
    return np.take_along_axis(experts, order, -1), np.take_along_axis(gates, order, -1)


def _largest(experts: Any) -> int:
    return int(experts.max()) if experts.size and experts.dtype.kind in "iu" else 0


def _number(path: Path, name: str, arrays: dict[str, Any], default: int) -> int:
    value = np.asarray(arrays.get(name, default))
    if value.size != 1 or value.dtype.kind not in "iub":
        raise InputError(f"{path.name}: {name} must be one whole number")
    return int(value.reshape(()))


def _text(path: Path, name: str, arrays: dict[str, Any], default: str) -> str:
    text = str(arrays.get(name, default))
    if text and (fault := fault_of_name(text)):
        raise InputError(f"{path.name}: {name}: {fault}")
    return text


def _layers(path: Path, arrays: dict[str, Any]) -> tuple[int, ...]:
    layers = np.asarray(arrays.get("layers", np.zeros(0, dtype=np.int64)))
    if layers.ndim != 1 or layers.dtype.kind not in "iu":
        raise InputError(f"{path.name}: layers must be a list of whole numbers")
    return tuple(int(layer) for layer in layers)


def _indexed(trace: ExpertTrace, index: Path, repetition: bool) -> ExpertTrace:
    """Return the sequences that a table of offsets and tokens names."""
    table = read_frame(index)
    for name in ("offset", "tokens"):
        if name not in table:
            raise InputError(f"{index.name} has no column '{name}'")
    if not repetition:
        if "repetition" not in table:
            raise InputError(f"{index.name} has no column 'repetition'")
        table = table[~table["repetition"].astype(bool)]
    offset = _whole(index, table, "offset")
    tokens = _whole(index, table, "tokens")
    bad = (offset < 0) | (tokens < 1) | (offset + tokens > trace.tokens)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"{index.name}: row {row + 1}: {tokens[row]} tokens from {offset[row]} on; the trace "
            f"has {trace.tokens}"
        )
    if not len(offset):
        raise InputError(f"{index.name} names no sequence")
    rows = np.concatenate([np.arange(o, o + n) for o, n in zip(offset, tokens, strict=True)])
    gates = None if trace.gates is None else trace.gates[rows]
    starts = np.cumsum([0, *tokens[:-1]])
    return replace(trace, experts=trace.experts[rows], starts=starts, gates=gates)


def _from_table(path: Path, n_experts: int | None) -> ExpertTrace:
    table = read_frame(path)
    for name in REQUIRED:
        if name not in table:
            raise InputError(f"{path.name} has no column '{name}'")
    unknown = [str(name) for name in table if name not in (*REQUIRED, *OPTIONAL)]
    if unknown:
        known = ", ".join((*REQUIRED, *OPTIONAL))
        raise InputError(f"{path.name}: unknown column '{unknown[0]}' (columns: {known})")
    if not len(table):
        raise InputError(f"{path.name} has no rows")
    columns = {str(name): _whole(path, table, str(name)) for name in table if name != "gate"}
    step = columns["step"]
    sequence = columns.get("sequence", np.cumsum(np.diff(step, prepend=step[0]) < 0))
    gate = _reals(path, table["gate"]) if "gate" in table else None
    second = np.zeros(len(table)) if gate is None else -gate
    order = np.lexsort((columns.get("rank", second), columns["layer"], step, sequence))
    columns = {name: values[order] for name, values in columns.items()}
    shape, layers = _regular(path, sequence[order], columns["step"], columns["layer"])
    largest = int(columns["expert"].max())
    if largest > 32767 or columns["expert"].min() < 0:
        bad = columns["expert"].min() if columns["expert"].min() < 0 else largest
        raise InputError(f"{path.name}: expert {bad} is not between 0 and 32767")
    tokens = sequence[order].reshape(shape)[:, 0, 0]
    starts = np.flatnonzero(np.diff(tokens, prepend=tokens[0] - 1))
    return ExpertTrace(
        experts=columns["expert"].reshape(shape),
        n_experts=largest + 1 if n_experts is None else n_experts,
        starts=starts,
        gates=None if gate is None else gate[order].reshape(shape),
        layers=layers,
        name=path.stem,
    )


def _regular(
    path: Path, sequence: IntArray, step: IntArray, layer: IntArray
) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """Return (tokens, L, k) and the layers of rows sorted by sequence, step and layer."""
    layers = tuple(int(number) for number in np.unique(layer))
    new = np.ones(len(step), dtype=bool)
    changes = [np.diff(values) != 0 for values in (sequence, step, layer)]
    new[1:] = np.logical_or.reduce(changes)
    first = np.flatnonzero(new)
    counts = np.diff(np.append(first, len(step)))
    top_k = int(np.bincount(counts).argmax())

    def where(at: int) -> str:
        row = first[at]
        return f"{path.name}: sequence {sequence[row]}, step {step[row]}, layer {layer[row]}"

    if (counts != top_k).any():
        at = int(np.argmax(counts != top_k))
        raise InputError(f"{where(at)} has {counts[at]} experts; most have {top_k}")
    expected = np.resize(np.array(layers), len(first))
    if len(first) % len(layers) or (layer[first] != expected).any():
        wrong = layer[first] != expected
        at = int(np.argmax(wrong)) if wrong.any() else len(first) - 1
        raise InputError(f"{where(at)}: layer {expected[at]} is missing there or before")
    token = first[:: len(layers)]
    gap = (np.diff(step[token]) != 1) & (np.diff(sequence[token]) == 0)
    if gap.any():
        row = token[int(np.argmax(gap))]
        raise InputError(f"{path.name}: sequence {sequence[row]}: step {step[row] + 1} is missing")
    return (len(token), len(layers), top_k), layers


def _whole(path: Path, table: Any, name: str) -> IntArray:
    values = _reals(path, table[name])
    bad = (values != np.round(values)) | (np.abs(values) > _MOST)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"{path.name}: row {row + 1}: {name} is {values[row]:g}, no whole number")
    return values.astype(np.int64)


def _reals(path: Path, column: Any) -> npt.NDArray[np.float64]:
    values = np.asarray(pd.to_numeric(column, errors="coerce"), dtype=np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"{path.name}: row {row + 1}: {column.name} is '{column.iloc[row]}', no finite number"
        )
    return values
