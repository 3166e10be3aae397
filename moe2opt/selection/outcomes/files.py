"""Files of an outcome folder: tables (Parquet, CSV) and feature vectors (NPZ, Parquet, CSV)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moe2opt.archive import read_npz
from moe2opt.result import FloatArray, InputError
from moe2opt.schema.frames import LARGEST_CELLS, read_frame
from moe2opt.selection.outcomes.text import hashed_text
from moe2opt.text import near

if TYPE_CHECKING:
    import pandas as pd

_SUFFIXES = (".parquet", ".csv")

#: Names under which the vectors of an NPZ file are looked for.
_ARRAY_NAMES = ("emb", "embeddings", "features")


def with_hint(name: str, known: Iterable[object]) -> str:
    """Return ``; did you mean '...'?`` where a known name is close."""
    close = near(name, known)
    return f"; did you mean '{close}'?" if close else ""


def find_table(folder: Path, stem: str) -> Path:
    """Return ``stem.parquet`` or ``stem.csv`` of the folder."""
    for suffix in _SUFFIXES:
        if (folder / f"{stem}{suffix}").exists():
            return folder / f"{stem}{suffix}"
    near = with_hint(f"{stem}.parquet", (path.name for path in folder.iterdir()))
    raise InputError(f"{folder}: {stem}.parquet (or {stem}.csv) is missing{near}")


def read_vectors(
    folder: Path,
    features: str | Path | None,
    ids: list[str],
    identity: str,
    prompts: pd.DataFrame,
) -> FloatArray:
    """Return ``(P, D)`` feature vectors in the order of the prompts.

    Raises
    ------
    InputError
        Naming the file, and the row at fault where there is one.
    """
    if features == "text":
        return _hashed(prompts)
    if features == "none":
        return np.zeros((len(ids), 0))
    path = Path(features) if features is not None else _embeddings(folder)
    if path.suffix in _SUFFIXES:
        return _from_table(path, ids, identity)
    vectors = _from_npz(path)
    if len(vectors) != len(ids):
        raise InputError(
            f"{path.name}: {len(vectors)} rows of vectors for {len(ids)} prompts; row k belongs to "
            "row k of the table of prompts"
        )
    _finite(path, vectors, ids)
    return vectors


def _embeddings(folder: Path) -> Path:
    found = sorted(folder.glob("embeddings*.npz"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(
            f"{folder}: embeddings*.npz is missing; give experts.features: a file of vectors, "
            "`text` to hash the words of the column 'question', or `none`"
        )
    listed = ", ".join(path.name for path in found)
    raise InputError(f"{folder}: {listed}: which one? Name it with experts.features")


def _from_npz(path: Path) -> FloatArray:
    content = read_npz(path, 8 * LARGEST_CELLS)
    name = next((n for n in _ARRAY_NAMES if n in content), None)
    if name is None:
        held = ", ".join(content) or "nothing"
        raise InputError(f"{path.name}: no array '{_ARRAY_NAMES[0]}' (it holds {held})")
    array = content[name]
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise InputError(
            f"{path.name}: {name}: {array.dtype} of shape {array.shape}; expected numbers "
            "(prompts, dimensions)"
        )
    vectors: FloatArray = array.astype(np.float64)
    return vectors


def _from_table(path: Path, ids: list[str], identity: str) -> FloatArray:
    frame = read_frame(path)
    if identity not in frame.columns:
        raise InputError(f"{path.name}: column '{identity}', which names the prompts, is missing")
    frame.index = [str(value) for value in frame[identity]]
    missing = [value for value in ids if value not in frame.index]
    if missing or not frame.index.is_unique:
        what = f"no row for prompt '{missing[0]}'" if missing else "a prompt appears twice"
        raise InputError(f"{path.name}: {what}")
    columns = frame.drop(columns=identity)
    try:
        vectors = columns.loc[ids].to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path.name}: not a table of numbers: {error}") from error
    _finite(path, vectors, ids)
    return vectors


def _finite(path: Path, vectors: FloatArray, ids: list[str]) -> None:
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        row = int(bad[0])
        raise InputError(
            f"{path.name}: row {row + 1} ('{ids[row]}') holds a missing or infinite number "
            f"({len(bad)} such rows)"
        )


def _hashed(prompts: pd.DataFrame) -> FloatArray:
    if "question" not in prompts.columns:
        raise InputError("prompts: features `text` needs a column 'question'")
    texts: list[Any] = prompts["question"].fillna("").astype(str).to_list()
    return hashed_text(texts)
