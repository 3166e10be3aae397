"""A `config.json` as it is read, and what speaks against the sizes that follow from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from moe2opt.errors import InputError
from moe2opt.files import read_json
from moe2opt.huggingface.families import Family
from moe2opt.huggingface.keys import Keys

#: File that lists the weights of a folder, with their bytes in all.
_INDEX = "model.safetensors.index.json"

#: Share by which the weights of a configuration may differ from those of the index.
_ABOUT = 0.02

_TYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def content_of(path: Path) -> dict[str, Any]:
    """Return the keys of a configuration, those of its text model in front.

    Raises
    ------
    InputError
        When it is missing or no configuration.
    """
    if not path.is_file():
        raise InputError(f"no file {path.name} in '{path.parent.name}'")
    config = read_json(path, finite=False)  # transformers writes `time_step_limit: [0, Infinity]`
    if not isinstance(config, dict):
        raise InputError(f"{path.name} is not a Hugging Face configuration")
    inner = config.get("text_config")
    return {**config, **inner} if isinstance(inner, dict) else config


def doubts(keys: Keys, model_type: str | None, known: Family | None, weights: int) -> Iterator[str]:
    """Yield what speaks against the computed sizes."""
    if known is None:
        yield (
            f"CHECK THE SIZES: model_type '{model_type or ''}' is not among the known families, so "
            f"that {weights / 1e9:.4g}e9 weights are a guess from the usual keys"
        )
    if unread := keys.unread():
        yield (
            f"CHECK THE SIZES: keys that speak of sizes are not read: {', '.join(unread[:8])}"
            f"{' ...' if unread[8:] else ''} ({weights / 1e9:.4g}e9 weights are counted)"
        )


def against_index(folder: Path, content: Mapping[str, Any], weights: int) -> Iterator[str]:
    """Yield by how much the index of the weights contradicts their computed number."""
    if not (folder / _INDEX).is_file() or content.get("quantization_config"):
        return
    index = read_json(folder / _INDEX)
    about = index.get("metadata") if isinstance(index, dict) else None
    total = about.get("total_size") if isinstance(about, dict) else None
    size = _TYPE_BYTES.get(str(content.get("torch_dtype") or content.get("dtype")), 2)
    if not isinstance(total, int | float) or isinstance(total, bool) or not total > 0:
        return
    told = total / size
    if abs(weights / told - 1) > _ABOUT:
        yield (
            f"CHECK THE SIZES: {_INDEX} holds {told / 1e9:.4g}e9 weights of {8 * size} bits, the "
            f"configuration gives {weights / 1e9:.4g}e9"
        )
