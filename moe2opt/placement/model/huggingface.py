"""Model shapes from Hugging Face configurations; no weight is read, dense ones are computed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from moe2opt.files import read_json
from moe2opt.placement.model.context import Context
from moe2opt.placement.model.families import (
    Family,
    dense_layers,
    family_of,
    mixers,
    shared_width,
    sparse_layers,
    window_of,
)
from moe2opt.placement.model.fields import Header
from moe2opt.placement.model.keys import Keys
from moe2opt.placement.model.shape import ModelShape
from moe2opt.placement.sections import Model
from moe2opt.result import InputError
from moe2opt.schema import FileName, Name

#: File that lists the weights of a folder, with their bytes in all.
_INDEX = "model.safetensors.index.json"

#: Share by which the weights of a configuration may differ from those of the index.
_ABOUT = 0.02

_TYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


class _Names(Header):
    """What may be shown of a configuration."""

    name_or_path: FileName | Literal[""] | None = Field(default=None, alias="_name_or_path")
    model_type: Name | None = None


def shape_of_config(path: Path, model: Model) -> ModelShape:
    """Return the shape that a Hugging Face `config.json` describes; dense weights are computed."""
    content = _content(path)
    try:
        names = _Names.of(content, path.name)
        return _shape(path, content, names, model)
    except InputError as error:
        raise InputError(f"model: {error}") from error


def _content(path: Path) -> dict[str, Any]:
    """Return the keys of a configuration, those of its text model in front."""
    if not path.is_file():
        raise InputError(f"model: no file {path.name} in '{path.parent.name}'")
    try:
        config = read_json(path)
    except InputError as error:
        raise InputError(f"model: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"model: {path.name} is not a Hugging Face configuration")
    inner = config.get("text_config")
    return {**config, **inner} if isinstance(inner, dict) else config


def _shape(path: Path, content: dict[str, Any], names: _Names, model: Model) -> ModelShape:
    keys, known = Keys(content, path.name), family_of(names.model_type)
    family = known or Family()
    layers = _needed(keys, path, "num_hidden_layers", "num_layers")
    experts = _needed(
        keys, path, "num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"
    )
    top_k = _needed(
        keys, path, "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_k",
        "moe_topk", "moe_top_k",
    )  # fmt: skip
    hidden = _needed(keys, path, "hidden_size")
    width = _needed(keys, path, "moe_intermediate_size", "intermediate_size")
    sparse = sparse_layers(keys, layers)
    dense_width = keys.first(family.dense_width, "intermediate_size") or width
    matrix, shared = family.matrices * hidden, shared_width(keys, family, width)
    mixing = list(mixers(keys, family, layers, hidden))
    table = (keys.first("vocab_size") or 0) * hidden
    tied = keys.yes("tie_word_embeddings")
    dense = sum(mixer.weights for mixer in mixing) + table * (1 if tied else 2)
    dense += dense_layers(keys, layers, sparse) * matrix * dense_width
    dense += len(sparse) * matrix * shared
    weights = dense + len(sparse) * experts * matrix * width
    notes = [
        "dense weights and context are computed from the configuration",
        *_doubts(keys, names.model_type, known, weights),
        *_against_index(path.parent, content, weights),
    ]
    return ModelShape(
        name=names.name_or_path or names.model_type or path.parent.name,
        layers=sparse,
        n_layers=layers,
        experts=experts,
        top_k=top_k,
        hidden=hidden,
        params_per_expert=float(matrix * width),
        dense_bytes=dense * model.dense_bits / 8,
        context=Context(
            values=sum(mixer.values for mixer in mixing if not mixer.window),
            window_values=sum(mixer.values for mixer in mixing if mixer.window),
            window=window_of(keys, family),
            state_values=sum(mixer.state for mixer in mixing),
            bits=model.kv_bits,
        ),
        table_bytes=0.0 if tied else table * model.dense_bits / 8,
        further_layers=keys.first("num_nextn_predict_layers") or 0,
        source=f"{path.name}",
        note="; ".join(notes),
    )


def _needed(keys: Keys, path: Path, *names: str) -> int:
    if value := keys.first(*names):
        return value
    raise InputError(f"{path.name} has no {' or '.join(names)}: not a mixture of experts?")


def _doubts(
    keys: Keys, model_type: str | None, known: Family | None, weights: int
) -> Iterator[str]:
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


def _against_index(folder: Path, content: dict[str, Any], weights: int) -> Iterator[str]:
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
