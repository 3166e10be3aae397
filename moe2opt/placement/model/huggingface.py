"""Model shapes from Hugging Face configurations; no weight is read, dense ones are computed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from moe2opt.files import read_json
from moe2opt.placement.model.context import Context
from moe2opt.placement.model.fields import Header, LayerCount, Many, Width
from moe2opt.placement.model.shape import ModelShape
from moe2opt.placement.sections import Model
from moe2opt.result import InputError
from moe2opt.schema import FileName, Name


class _HfConfig(Header):
    """Fields of a Hugging Face `config.json`."""

    name_or_path: FileName | Literal[""] | None = Field(default=None, alias="_name_or_path")
    model_type: Name | None = None
    num_hidden_layers: LayerCount = None
    num_local_experts: Many = None
    num_experts: Many = None
    n_routed_experts: Many = None
    num_experts_per_tok: Many = None
    num_experts_per_token: Many = None
    hidden_size: Width = None
    moe_intermediate_size: Width = None
    intermediate_size: Width = None
    first_k_dense_replace: LayerCount = None
    decoder_sparse_step: LayerCount = None
    mlp_only_layers: Annotated[list[int], Field(max_length=10_000)] | None = None
    num_attention_heads: Many = None
    num_key_value_heads: Many = None
    head_dim: Many = None
    tie_word_embeddings: bool | None = None
    vocab_size: Width = None
    n_shared_experts: Many = None
    shared_expert_intermediate_size: Width = None


def shape_of_config(path: Path, model: Model) -> ModelShape:
    """Return the shape that a Hugging Face `config.json` describes; dense weights are computed."""
    config = _read_config(path)
    layers = _one_of(config, path, "num_hidden_layers")
    experts = _one_of(config, path, "num_local_experts", "num_experts", "n_routed_experts")
    top_k = _one_of(config, path, "num_experts_per_tok", "num_experts_per_token")
    hidden = _one_of(config, path, "hidden_size")
    width = _one_of(config, path, "moe_intermediate_size", "intermediate_size")
    sparse = _sparse_layers(config, layers)
    dense, cached = _dense_params(config, hidden, layers, len(sparse), width)
    return ModelShape(
        name=config.name_or_path or config.model_type or path.parent.name,
        layers=sparse,
        n_layers=layers,
        experts=experts,
        top_k=top_k,
        hidden=hidden,
        params_per_expert=3.0 * hidden * width,
        dense_bytes=dense * model.dense_bits / 8,
        context=Context(values=round(cached), bits=model.kv_bits),
        source=f"{path.name}",
        note="dense weights and context are computed from the configuration",
    )


def _read_config(path: Path) -> _HfConfig:
    if not path.is_file():
        raise InputError(f"model: no file {path.name} in '{path.parent.name}'")
    try:
        config = read_json(path)
        if not isinstance(config, dict):
            raise InputError(f"{path.name} is not a Hugging Face configuration")
        inner = config.get("text_config")
        return _HfConfig.of({**config, **inner} if isinstance(inner, dict) else config, path.name)
    except InputError as error:
        raise InputError(f"model: {error}") from error


def _one_of(config: _HfConfig, path: Path, *names: str) -> int:
    for name in names:
        if value := getattr(config, name):
            return int(value)
    raise InputError(f"model: {path.name} has no {' or '.join(names)}: not a mixture of experts?")


def _sparse_layers(config: _HfConfig, layers: int) -> tuple[int, ...]:
    step, dense = config.decoder_sparse_step or 1, set(config.mlp_only_layers or ())
    return tuple(
        layer
        for layer in range(config.first_k_dense_replace or 0, layers)
        if layer not in dense and (step == 1 or (layer + 1) % step == 0)
    )


def _dense_params(
    config: _HfConfig, hidden: int, layers: int, sparse: int, width: int
) -> tuple[float, float]:
    """Return the weights outside routed experts, and the cached entries per token."""
    heads = config.num_attention_heads or 1
    shared_heads = config.num_key_value_heads or heads
    head = config.head_dim or hidden // heads
    attention = layers * hidden * head * (2 * heads + 2 * shared_heads)
    tables = 1 if config.tie_word_embeddings else 2
    vocabulary = (config.vocab_size or 0) * hidden * tables
    forward = (layers - sparse) * 3 * hidden * (config.intermediate_size or width)
    shared = config.shared_expert_intermediate_size or (config.n_shared_experts or 0) * width
    total = attention + vocabulary + forward + sparse * 3 * hidden * shared
    return float(total), float(layers * 2 * shared_heads * head)
