"""Text as tokens: read, cut into sequences, and the loss of what a model predicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from moe2opt.archive import read_npy
from moe2opt.executor.model.folder import ModelFolder
from moe2opt.files import read_bytes
from moe2opt.result import InputError, IntArray

#: Sequences that pass the model together.
_BATCH = 32


def read_texts(folder: ModelFolder, files: list[Path]) -> dict[str, Tensor]:
    """Return the tokens of text files (or ``.npy`` files of tokens) by their stems.

    Raises
    ------
    InputError
        For files that cannot be read, or two with one stem.
    """
    found: dict[str, Tensor] = {}
    for path in files:
        if path.stem in found:
            raise InputError(f"text: two files are named {path.stem}")
        try:
            content = read_bytes(path)
            ids = read_npy(path) if path.suffix == ".npy" else None
        except InputError as error:
            raise InputError(f"text: {error}") from error
        if ids is None:
            found[path.stem] = tokens_of(folder, content)
            continue
        if ids.dtype.kind not in "iu" or ids.ndim != 1 or not len(ids) or ids.min() < 0:
            raise InputError(f"text: {path.name}: a vector of token ids ≥ 0 is expected")
        found[path.stem] = torch.from_numpy(ids.astype(np.int64))
    return found


def tokens_of(folder: ModelFolder, text: bytes) -> Tensor:
    """Return the tokens of a text: by ``tokenizer.json``, or bytes where config.json says so.

    Raises
    ------
    InputError
        When the folder has neither, or the library `tokenizers` is missing.
    """
    if folder.config.get("tokenizer") == "bytes":
        return byte_tokens(text)
    path = folder.path / "tokenizer.json"
    if not path.is_file():
        raise InputError(
            f"{folder.path.name}: there is no tokenizer.json; copy it there, or give tokens (.npy)"
        )
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise InputError(
            f"{path.name}: reading it needs the package tokenizers: pip install tokenizers"
        ) from error
    try:
        tokenizer: Any = Tokenizer.from_file(str(path))
        return torch.tensor(tokenizer.encode(text.decode()).ids, dtype=torch.int64)
    except UnicodeDecodeError as error:
        raise InputError(f"text: is not UTF-8: {error}") from error
    except Exception as error:  # the library raises plain Exception
        raise InputError(f"{path.name}: cannot be read: {error}") from error


def byte_tokens(text: bytes) -> Tensor:
    """Return the ``(T,)`` tokens of a text for models whose tokens are bytes."""
    return torch.frombuffer(bytearray(text), dtype=torch.uint8).long()


def windows(tokens: Tensor, context: int, most: int | None = None) -> Tensor:
    """Return consecutive ``(N, context + 1)`` windows of ``(T,)`` tokens, each token judged once.

    Raises
    ------
    InputError
        When there are too few tokens for one window.
    """
    number = (len(tokens) - 1) // context
    if number < 1:
        raise InputError(f"text: {len(tokens)} tokens are too few; {context + 1} are needed")
    return tokens[: number * context + 1].unfold(0, context + 1, context)[:most]


def batches(rows: Tensor) -> Iterator[Tensor]:
    """Yield the windows of a domain, some at a time."""
    for start in range(0, len(rows), _BATCH):
        yield rows[start : start + _BATCH]


def token_losses(logits: Tensor, batch: Tensor) -> Tensor:
    """Return the loss of every token of a ``(B, T + 1)`` batch after the first."""
    flat = logits.reshape(-1, logits.shape[-1])
    return cross_entropy(flat, batch[:, 1:].reshape(-1), reduction="none")


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
    files = sorted(path.glob("[!.]*.txt")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"text: there is no .txt file in {path.name}")
    for file in files:
        if file.is_file() and not file.stat().st_size:
            raise InputError(f"text: {file.name} is empty")
    texts = read_texts(model, files)
    named = {name: (weights or {}).get(name, 0.0) for name in texts}
    if sum(named.values()) <= 0:
        named = dict.fromkeys(texts, 1.0)
    found = []
    for name, number in _shared_out(named, max(1, tokens // length)).items():
        ids = texts[name].numpy()
        if len(ids) < number * length:
            raise InputError(
                f"text: {name} has {len(ids)} tokens; {number} sequences of {length} need "
                f"{number * length} (--tokens takes fewer)"
            )
        starts = np.linspace(0, len(ids) - length, number).astype(np.int64)
        found += [ids[start : start + length] for start in starts]
    return np.stack(found)


def _shared_out(weights: Mapping[str, float], rows: int) -> dict[str, int]:
    """Return rows in proportion to the weights: whole parts first, then the largest remainders."""
    total = sum(weights.values())
    exact = {name: rows * weight / total for name, weight in weights.items()}
    found = {name: int(share) for name, share in exact.items()}
    order = sorted(exact, key=lambda name: found[name] - exact[name])
    for name in order[: rows - sum(found.values())]:
        found[name] += 1
    return found
