"""How often experts are used: what that says of a plan, and what each runtime can do with it.

llama.cpp keeps all routed experts of a matrix of a layer in one tensor, so a device holds all of
them or none, and every token reads as many experts in every layer: which ones are hot moves no
byte. ktransformers places single experts, so that the most used ones on cards serve more uses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from moe2opt.errors import InputError
from moe2opt.llamacpp import LlamaModel
from moe2opt.result import FloatArray
from moe2opt.schema.csv import COUNT, Column, read_table
from moe2opt.schema.frames import read_frame

#: Most uses of an expert: beyond what anybody counts, and far from what sums could overflow at.
_MOST_USES = 1e15

_COLUMNS: dict[str, Column] = {
    "layer": COUNT,
    "expert": COUNT,
    "count": Column("number", least=0, most=_MOST_USES),
}

#: What `llama-imatrix` calls the tokens that it counted for each expert of a matrix.
_IMATRIX = re.compile(r"blk\.(\d{1,5})\.ffn_(?:up|gate|down|gate_up)_exps\.weight\.counts")


def used_experts(path: Path, model: LlamaModel) -> dict[int, FloatArray]:
    """Return the ``(E,)`` uses of the experts of each layer that a file counts.

    Parameters
    ----------
    path
        A table of layer, expert and count (CSV or Parquet), or the importance matrix that
        `llama-imatrix` writes as GGUF.

    Raises
    ------
    InputError
        Naming file and row, where a layer or an expert is not of the model, or nothing was used.
    """
    known = {layer.index for layer in model.layers if layer.experts}
    if not known:
        raise InputError(f"--activation: {model.name} has no routed experts")
    used: dict[int, FloatArray] = {}
    for where, layer, expert, count in _rows(path):
        if layer not in known:
            raise InputError(f"{where}: layer {layer} has no experts in the model")
        if expert >= model.experts:
            raise InputError(f"{where}: expert {expert}; the model has {model.experts}")
        used.setdefault(layer, np.zeros(model.experts))[expert] = count
    if not used or min(own.sum() for own in used.values()) <= 0:
        raise InputError(f"{path}: a layer without any use says nothing")
    return used


def _rows(path: Path) -> Iterator[tuple[str, int, int, float]]:
    """Yield where a count stands, its layer, its expert, and the count."""
    if path.suffix == ".gguf":
        yield from _of_imatrix(path)
    elif path.suffix in (".dat", ".imatrix"):
        raise InputError(
            f"{path}: an importance matrix of the old format keeps no counts of experts; "
            "llama-imatrix writes GGUF (-o FILE.gguf), which does"
        )
    elif path.suffix == ".parquet":
        yield from _of_frame(path)
    else:
        table = read_table(path, _COLUMNS, unique=("layer", "expert"))
        for number, row in enumerate(table, start=2):
            own = int(row["layer"]), int(row["expert"]), float(row["count"])
            yield f"{path}:{number}", *own


def _of_frame(path: Path) -> Iterator[tuple[str, int, int, float]]:
    frame = read_frame(path)
    for name in _COLUMNS:
        if name not in frame:
            raise InputError(f"{path}: has no column '{name}'")
        if frame[name].dtype.kind not in ("iu" if name != "count" else "iuf"):
            raise InputError(f"{path}: column '{name}' must hold numbers")
    if frame.duplicated(["layer", "expert"]).any():
        raise InputError(f"{path}: an expert of a layer has two rows")
    if not frame["count"].between(0, _MOST_USES).all():
        raise InputError(f"{path}: column 'count' must be within 0..{_MOST_USES:g} everywhere")
    layers, experts, counts = (frame[name].to_numpy().tolist() for name in _COLUMNS)
    for layer, expert, count in zip(layers, experts, counts, strict=True):
        yield str(path), int(layer), int(expert), float(count)


def _of_imatrix(path: Path) -> Iterator[tuple[str, int, int, float]]:
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise InputError("--activation: needs the package gguf: pip install gguf") from error
    if not path.is_file():
        raise InputError(f"no such file '{path}'")
    try:
        tensors = GGUFReader(path).tensors
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise InputError(f"{path}: truncated or no GGUF file ({error})") from error
    seen: set[int] = set()
    for tensor in tensors:
        found = _IMATRIX.fullmatch(tensor.name)
        # The matrices of a layer are used together: the first one counts.
        if found is None or (layer := int(found[1])) in seen:
            continue
        seen.add(layer)
        for expert, count in enumerate(np.asarray(tensor.data, dtype=np.float64).ravel().tolist()):
            if not 0 <= count < np.inf:
                raise InputError(f"{path}: {tensor.name}: {count} is no number of tokens")
            yield f"{path}: {tensor.name}", layer, expert, count
    if not seen:
        raise InputError(f"{path}: counts no experts: llama-imatrix writes them for such a model")


def served_shares(used: Mapping[int, FloatArray]) -> FloatArray:
    """Return the ``(E + 1,)`` share of the uses that the n most used experts of a layer serve."""
    ranked = np.array([np.sort(own)[::-1] / own.sum() for own in used.values()])
    shares: FloatArray = np.concatenate([[0.0], np.cumsum(ranked.mean(axis=0))])
    return np.asarray(np.minimum(shares, 1.0))


def activation_note(used: Mapping[int, FloatArray], model: LlamaModel, runtime: str) -> str:
    """Return what counts mean for a plan, in words."""
    half = max(model.experts // 2, 1)
    known = sum(bool(layer.experts) for layer in model.layers)
    told = (
        f"the {half} most used experts of a layer serve {served_shares(used)[half]:.0%} of its "
        f"uses ({len(used)} of {known} layers counted)"
    )
    if runtime == "ktransformers":
        return f"{told}: the most used ones are on cards"
    return (
        f"{told}, but {runtime} places the experts of a layer together and every token reads as "
        "many in every layer: the counts change nothing of this plan; an engine that places single "
        "experts can use them (--to ktransformers)"
    )
