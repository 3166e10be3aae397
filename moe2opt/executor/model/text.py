"""Held-out text as sequences of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from moe2opt.executor.model.folder import ModelFolder
from moe2opt.executor.model.routing import read_texts
from moe2opt.result import InputError, IntArray


def sequences(
    path: Path,
    model: ModelFolder,
    tokens: int,
    length: int,
    weights: Mapping[str, float] | None = None,
) -> IntArray:
    """Return ``(S, length)`` tokens of a text, spread evenly over it.

    Parameters
    ----------
    path
        A text file (or ``.npy`` with tokens), or a folder of ``.txt`` files named by domain.
    model
        Its folder says how text becomes tokens.
    tokens
        About how many in all; at least one sequence.
    length
        Of a sequence.
    weights
        Weight of each domain of a folder; all alike where none of them is named.

    Raises
    ------
    InputError
        For an unreadable or too short text, or when nothing can tokenise it.
    """
    texts = _texts(path, model)
    named = {name: (weights or {}).get(name, 0.0) for name in texts}
    if sum(named.values()) <= 0:
        named = dict.fromkeys(texts, 1.0)
    rows = max(1, tokens // length)
    return np.concatenate(
        [
            _windows(texts[name], number, length, name)
            for name, number in _shared_out(named, rows).items()
            if number
        ]
    )


def _texts(path: Path, model: ModelFolder) -> dict[str, IntArray]:
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"text: there is no .txt file in {path.name}")
    for file in files:
        if file.is_file() and not file.stat().st_size:
            raise InputError(f"text: {file.name} is empty")
    found = read_texts(model, files)
    return {name: np.asarray(ids.numpy(), dtype=np.int64) for name, ids in found.items()}


def _shared_out(weights: Mapping[str, float], rows: int) -> dict[str, int]:
    """Return rows in proportion to the weights: whole parts first, then the largest remainders."""
    total = sum(weights.values())
    exact = {name: rows * weight / total for name, weight in weights.items()}
    found = {name: int(share) for name, share in exact.items()}
    order = sorted(exact, key=lambda name: found[name] - exact[name])
    for name in order[: rows - sum(found.values())]:
        found[name] += 1
    return found


def _windows(ids: IntArray, number: int, length: int, name: str) -> IntArray:
    if len(ids) < number * length:
        raise InputError(
            f"text: {name} has {len(ids)} tokens; {number} sequences of {length} need "
            f"{number * length} (--tokens takes fewer)"
        )
    starts = np.linspace(0, len(ids) - length, number).astype(np.int64)
    return np.stack([ids[start : start + length] for start in starts])
