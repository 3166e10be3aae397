"""Model shapes from Hugging Face configurations; no weight is read, dense ones are computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from moe2opt.huggingface.checks import against_index, content_of, doubts
from moe2opt.huggingface.families import (
    EXPERTS,
    TOP_K,
    Family,
    dense_layers,
    family_of,
    latent_width,
    layers_of,
    mixers,
    shared_width,
    sparse_layers,
    window_of,
)
from moe2opt.huggingface.fields import Header
from moe2opt.huggingface.keys import Keys
from moe2opt.placement.model.context import Context
from moe2opt.placement.model.shape import ModelShape
from moe2opt.placement.sections import Model
from moe2opt.result import InputError
from moe2opt.schema import FileName, Name


class _Names(Header):
    """What may be shown of a configuration."""

    name_or_path: FileName | Literal[""] | None = Field(default=None, alias="_name_or_path")
    model_type: Name | None = None


def shape_of_config(path: Path, model: Model) -> ModelShape:
    """Return the shape that a Hugging Face `config.json` describes; dense weights are computed."""
    try:
        content = content_of(path)
        names = _Names.of(content, path.name)
        return _shape(path, content, names, model)
    except InputError as error:
        raise InputError(f"model: {error}") from error


def _shape(path: Path, content: dict[str, Any], names: _Names, model: Model) -> ModelShape:
    keys, known = Keys(content, path.name), family_of(names.model_type)
    family = known or Family()
    layers = layers_of(keys) or _needed(keys, path, "num_hidden_layers", "num_layers")
    experts = _needed(keys, path, *EXPERTS)
    top_k = _needed(keys, path, *TOP_K)
    hidden = _needed(keys, path, "hidden_size")
    width = _needed(keys, path, "moe_intermediate_size", "intermediate_size")
    sparse = sparse_layers(keys, layers)
    dense_width = keys.first(*family.dense_widths) or width
    matrix, shared = family.matrices * hidden, shared_width(keys, family, width)
    mixing, window = list(mixers(keys, family, layers, hidden)), window_of(keys, family)
    table = (keys.first("vocab_size") or 0) * hidden
    tied = keys.yes("tie_word_embeddings")
    dense = sum(mixer.weights for mixer in mixing) + table * (1 if tied else 2)
    dense += dense_layers(keys, layers, sparse) * matrix * dense_width
    latent = latent_width(keys)
    dense += len(sparse) * (matrix * shared + 2 * hidden * latent)
    each = family.matrices * (latent or hidden) * width
    weights = dense + len(sparse) * experts * each
    notes = [
        "dense weights and context are computed from the configuration",
        *doubts(keys, names.model_type, known, weights),
        *against_index(path.parent, content, weights),
    ]
    return ModelShape(
        name=names.name_or_path or names.model_type or path.parent.name,
        layers=sparse,
        n_layers=layers,
        experts=experts,
        top_k=top_k,
        hidden=hidden,
        params_per_expert=float(each),
        dense_bytes=dense * model.dense_bits / 8,
        context=Context(
            values=sum(mixer.values for mixer in mixing if not mixer.window),
            window_values=sum(mixer.values if mixer.window else mixer.recent for mixer in mixing),
            window=window,
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
