"""Model shapes from the headers of GGUF and safetensors files and from Hugging Face configurations.

No weight is read, only headers; what they claim has to have the right type and a sensible size.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from moe2opt.files import open_regular, read_json
from moe2opt.llamacpp.gguf import read_header
from moe2opt.placement.model.shape import ModelShape
from moe2opt.placement.sections import Model
from moe2opt.result import InputError
from moe2opt.schema import FileName, Name

#: Routed experts in GGUF: one tensor per layer and kind holds all of them.
_GGUF_EXPERT = re.compile(r"blk\.(\d{1,5})\.ffn_(up|down|gate|gate_up)_exps\.weight")

#: Routed experts in safetensors, one tensor each or stacked per layer.
_EXPERT = re.compile(r"layers\.(\d{1,5})\.(?:\w+\.)*experts\.(?:(\d+)\.)?")

_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2,
          "U16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}  # fmt: skip


_Width = Annotated[int, Field(ge=0, le=2**26)] | None
_Many = Annotated[int, Field(ge=0, le=2**17)] | None
_Layers = Annotated[int, Field(ge=0, le=10_000)] | None


class _Header(BaseModel):
    """Fields of a header that are understood; each may lack, and has a type and a range."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    @classmethod
    def of(cls, fields: Mapping[str, Any], name: str) -> Self:
        """Return the checked fields; raise `InputError` that names the file and the field."""
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"][:1])) or "header"
            raise InputError(f"{name}: {where}: {first['msg']}") from error


class _HfConfig(_Header):
    """Fields of a Hugging Face `config.json`."""

    name_or_path: FileName | Literal[""] | None = Field(default=None, alias="_name_or_path")
    model_type: Name | None = None
    num_hidden_layers: _Layers = None
    num_local_experts: _Many = None
    num_experts: _Many = None
    n_routed_experts: _Many = None
    num_experts_per_tok: _Many = None
    num_experts_per_token: _Many = None
    hidden_size: _Width = None
    moe_intermediate_size: _Width = None
    intermediate_size: _Width = None
    first_k_dense_replace: _Layers = None
    decoder_sparse_step: _Layers = None
    mlp_only_layers: Annotated[list[int], Field(max_length=10_000)] | None = None
    num_attention_heads: _Many = None
    num_key_value_heads: _Many = None
    head_dim: _Many = None
    tie_word_embeddings: bool | None = None
    vocab_size: _Width = None
    n_shared_experts: _Many = None
    shared_expert_intermediate_size: _Width = None


class _GgufShape(_Header):
    """Fields of a GGUF header, the name of the architecture cut off their keys."""

    name: FileName | Literal[""] | None = None
    architecture: Name | None = None
    block_count: _Layers = None
    expert_count: _Many = None
    expert_used_count: _Many = None
    embedding_length: _Width = None
    head_count: _Many = None
    head_count_kv: _Many = None
    key_length: _Width = None
    value_length: _Width = None

    @classmethod
    def of(cls, fields: Mapping[str, Any], name: str) -> Self:
        """Return the checked fields of the file's own architecture."""
        architecture = fields.get("general.architecture")
        found = {"name": fields.get("general.name"), "architecture": architecture}
        for key in ("", "attention."):
            start = f"{architecture}.{key}"
            found |= {k.removeprefix(start): v for k, v in fields.items() if k.startswith(start)}
        return super().of(found, name)


def shape_from_files(kind: str, path: Path, model: Model) -> ModelShape:
    """Return the shape of a model from its files.

    Parameters
    ----------
    kind
        ``gguf``, ``safetensors`` or ``hf``.
    path
        File or folder.
    model
        Section with the bits of the dense part and of the context.

    Raises
    ------
    InputError
        For files that are missing, truncated, foreign or without routed experts, or when the
        library that reads them is missing.
    """
    if kind == "gguf":
        return _from_gguf(path, model)
    if kind == "safetensors":
        return _from_safetensors(path, model)
    return _from_config(path if path.suffix == ".json" else path / "config.json", model)


def _from_gguf(path: Path, model: Model) -> ModelShape:
    if not path.is_file():
        raise InputError(f"model.gguf: no such file '{path.name}'")
    try:
        header = read_header(path)
        shape = _GgufShape.of(header.fields, path.name)
    except InputError as error:
        raise InputError(f"model.gguf: {error}") from error
    layers: dict[int, int] = defaultdict(int)
    params, total = 0, 0
    for tensor in header.tensors:
        total += tensor.size
        found = _GGUF_EXPERT.fullmatch(tensor.name)
        if found:
            layers[int(found.group(1))] += tensor.size
            params += tensor.weights
    if not params or not shape.expert_count:
        raise InputError(f"model.gguf: {path.name} ('{shape.architecture}') has no routed experts")
    missing = [key for key in _NEEDED if getattr(shape, key) is None]
    if missing or max(layers) >= (shape.block_count or 0):
        what = f"key {missing[0]}" if missing else f"block {max(layers)} among its block_count"
        raise InputError(f"model.gguf: {path.name} has no {what}")
    held = sum(layers.values())
    sizes = sorted(layers.values())
    uneven = sizes[0] != sizes[-1]
    return ModelShape(
        name=shape.name or path.stem,
        layers=tuple(sorted(layers)),
        n_layers=shape.block_count or 0,
        experts=shape.expert_count,
        top_k=shape.expert_used_count or 0,
        hidden=shape.embedding_length or 0,
        params_per_expert=params / len(layers) / shape.expert_count,
        dense_bytes=float(total - held),
        kv_bytes_per_token=_gguf_context(shape, model.kv_bits),
        stored_bytes=held / len(layers) / shape.expert_count,
        source=f"header of {path.name}",
        note="the layers of the file differ in size; the mean is used" if uneven else "",
    )


_NEEDED = ("block_count", "expert_used_count", "embedding_length")


def _gguf_context(shape: _GgufShape, kv_bits: float) -> float | None:
    heads = shape.head_count_kv
    if heads is None:
        return None
    width = (shape.embedding_length or 0) / (shape.head_count or 1)
    key, value = shape.key_length or width, shape.value_length or width
    return float((shape.block_count or 0) * heads * (key + value) * kv_bits / 8)


def _from_safetensors(path: Path, model: Model) -> ModelShape:
    folder = path if path.is_dir() else path.parent
    files = sorted(path.glob("[!.]*.safetensors")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"model.safetensors: no *.safetensors file in '{path.name}'")
    base = _from_config(folder / "config.json", model)
    layers: dict[int, float] = defaultdict(float)
    total, params = 0.0, 0.0
    for name, dtype, shape in _tensors(files):
        size = math.prod(shape) * _BYTES.get(dtype, 2)
        total += size
        found = _EXPERT.search(name)
        if found:
            layers[int(found.group(1))] += size
            params += math.prod(shape)
    if not params:
        raise InputError(f"model.safetensors: '{path.name}' has no routed experts")
    if max(layers) >= base.n_layers:
        raise InputError(
            f"model.safetensors: '{path.name}' has a layer {max(layers)}, config.json "
            f"{base.n_layers} layers"
        )
    held = sum(layers.values())
    return ModelShape(
        name=base.name,
        layers=tuple(sorted(layers)),
        n_layers=base.n_layers,
        experts=base.experts,
        top_k=base.top_k,
        hidden=base.hidden,
        params_per_expert=params / len(layers) / base.experts,
        dense_bytes=total - held,
        kv_bytes_per_token=base.kv_bytes_per_token,
        stored_bytes=held / len(layers) / base.experts,
        source=f"headers of {len(files)} safetensors files",
    )


def _tensors(files: Iterable[Path]) -> Iterable[tuple[str, str, tuple[int, ...]]]:
    """Yield name, type and shape of every tensor."""
    try:
        import safetensors
    except ImportError as error:
        raise InputError(
            "model.safetensors: needs the package safetensors: pip install safetensors"
        ) from error
    for file in files:
        open_regular(file).close()
        try:
            with safetensors.safe_open(file, framework="numpy") as opened:
                for name in opened.keys():  # noqa: SIM118 - not a dictionary
                    part = opened.get_slice(name)
                    yield name, str(part.get_dtype()), tuple(part.get_shape())
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise InputError(
                f"model.safetensors: {file.name} is truncated or not a safetensors file ({error})"
            ) from error


def _from_config(path: Path, model: Model) -> ModelShape:
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
        kv_bytes_per_token=cached * model.kv_bits / 8,
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
