"""Derive cluster tables from a user's own files (CSV or Parquet)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe2opt.archive import read_npy, read_npz
from moe2opt.canonical.validate import real_array
from moe2opt.result import FloatArray, InputError
from moe2opt.schema.frames import read_frame
from moe2opt.selection.outcomes.derive import derive_tables
from moe2opt.selection.outcomes.tables import ClusterTables, Llm

if TYPE_CHECKING:
    import pandas as pd


def derive_from_files(
    outcomes: str | Path,
    prompts: str | Path,
    embeddings: str | Path,
    output_tokens: str | Path,
    llms: str | Path,
    *,
    clusters: int = 200,
    splits: tuple[float, float, float] = (0.6, 0.2, 0.2),
    seed: int = 0,
    provenance: dict[str, Any] | None = None,
) -> ClusterTables:
    """Derive cluster tables from CSV or Parquet files (Parquet needs the extra ``parquet``).

    Parameters
    ----------
    outcomes, output_tokens
        Prompts x LLMs; the first column identifies the prompt.
    prompts
        First column identifies the prompt; also ``category`` and ``prompt_tokens``.
    embeddings
        ``.npz`` with an array ``emb``, ``.npy``, or CSV/Parquet whose first column is the prompt.
    llms
        Columns ``llm`` (or ``model``), ``params_total_b`` and optionally ``params_active_b``,
        ``open_weights`` (1/0) and ``source``.
    clusters, splits, seed, provenance
        As in `derive_tables`.
    """
    matrix, lengths, table = (_frame(Path(p)) for p in (outcomes, output_tokens, prompts))
    vectors = _vectors(Path(embeddings), matrix.index)
    for name, frame in (("output_tokens", lengths), ("prompts", table)):
        if not frame.index.equals(matrix.index):
            raise InputError(f"{name}: the first column must list the prompts of outcomes in order")
    models = _llms_of(_frame(Path(llms)), list(matrix.columns))
    return derive_tables(
        matrix,
        table,
        vectors,
        lengths,
        llms=models,
        clusters=clusters,
        splits=splits,
        seed=seed,
        provenance=provenance,
    )


def _frame(path: Path) -> pd.DataFrame:
    """Read a table whose first column is the index."""
    frame = read_frame(path)
    if frame.shape[1] < 2:
        raise InputError(f"{path}: expected a first column of names and at least one more")
    return frame.set_index(frame.columns[0])


def _vectors(path: Path, prompts: pd.Index[Any]) -> FloatArray:
    if path.suffix not in (".npz", ".npy"):
        frame = _frame(path)
        if not frame.index.equals(prompts):
            raise InputError(f"{path}: the first column must list the prompts of outcomes in order")
        return real_array("embeddings", frame.to_numpy(), 2)
    if path.suffix == ".npy":
        return real_array("embeddings", read_npy(path), 2)
    arrays = read_npz(path)
    if "emb" not in arrays:
        raise InputError(f"{path}: there is no array 'emb'")
    return real_array("embeddings", arrays["emb"], 2)


def _llms_of(frame: pd.DataFrame, columns: list[Any]) -> list[Llm]:
    if "params_total_b" not in frame.columns:
        raise InputError("llms: column 'params_total_b' is missing")
    known = frame[frame["params_total_b"].notna() & frame.index.isin(columns)]
    if known.empty:
        raise InputError("llms: no model has both params_total_b and a column in outcomes")
    rows = known.reset_index(names="llm").to_dict("records")
    return [_llm({str(key): value for key, value in row.items()}) for row in rows]


def _llm(row: dict[str, Any]) -> Llm:
    total = float(row["params_total_b"])
    active = row.get("params_active_b")
    return Llm(
        name=str(row["llm"]),
        params_total_b=total,
        params_active_b=total if active is None or active != active else float(active),
        open_weights=bool(row.get("open_weights", 1)),
        source=str(row.get("source", "not stated")),
    )
