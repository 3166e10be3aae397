"""Model shapes from the headers of GGUF and safetensors files and from Hugging Face configurations.

No weight is read: GGUF files are mapped into memory and only their tables looked at, of safetensors
files only the header is parsed.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from moe2opt.files import read_json
from moe2opt.placement.sections import Model
from moe2opt.placement.shape import ModelShape
from moe2opt.result import InputError

#: Routed experts in GGUF: one tensor per layer and kind holds all of them.
_GGUF_EXPERT = re.compile(r"blk\.(\d+)\.ffn_(up|down|gate|gate_up)_exps\.weight")

#: Routed experts in safetensors, one tensor each or stacked per layer.
_EXPERT = re.compile(r"layers\.(\d+)\.(?:\w+\.)*experts\.(?:(\d+)\.)?")

_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2,
          "U16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}  # fmt: skip


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
    reader = _gguf_reader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    arch = fields.get("general.architecture")
    layers: dict[int, int] = defaultdict(int)
    params, total = 0, 0
    for tensor in reader.tensors:
        total += int(tensor.n_bytes)
        found = _GGUF_EXPERT.fullmatch(tensor.name)
        if found:
            layers[int(found.group(1))] += int(tensor.n_bytes)
            params += int(tensor.n_elements)
    experts = int(fields.get(f"{arch}.expert_count") or 0)
    if not layers or not experts:
        raise InputError(f"model.gguf: {path.name} ('{arch}') has no routed experts")
    held = sum(layers.values())
    sizes = sorted(layers.values())
    uneven = sizes[0] != sizes[-1]
    return ModelShape(
        name=str(fields.get("general.name") or path.stem),
        layers=tuple(sorted(layers)),
        n_layers=int(fields[f"{arch}.block_count"]),
        experts=experts,
        top_k=int(fields[f"{arch}.expert_used_count"]),
        hidden=int(fields[f"{arch}.embedding_length"]),
        params_per_expert=params / len(layers) / experts,
        dense_bytes=float(total - held),
        kv_bytes_per_token=_gguf_context(fields, str(arch), model.kv_bits),
        stored_bytes=held / len(layers) / experts,
        source=f"header of {path.name}",
        note="the layers of the file differ in size; the mean is used" if uneven else "",
    )


def _gguf_reader(path: Path) -> Any:
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise InputError("model.gguf: needs the package gguf: pip install gguf") from error
    if not path.is_file():
        raise InputError(f"model.gguf: no such file '{path.name}'")
    with path.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise InputError(f"model.gguf: {path.name} is not a GGUF file")
    try:
        return GGUFReader(path, "r")
    except Exception as error:  # the library raises whatever numpy does on missing bytes
        raise InputError(
            f"model.gguf: {path.name} is truncated or damaged ({type(error).__name__}: {error})"
        ) from error


def _gguf_context(fields: Mapping[str, Any], arch: str, kv_bits: float) -> float | None:
    heads = fields.get(f"{arch}.attention.head_count_kv")
    if not isinstance(heads, int):
        return None
    width = fields.get(f"{arch}.embedding_length", 0)
    queries = fields.get(f"{arch}.attention.head_count") or 1
    key = fields.get(f"{arch}.attention.key_length") or width / queries
    value = fields.get(f"{arch}.attention.value_length") or width / queries
    return float(fields[f"{arch}.block_count"] * heads * (key + value) * kv_bits / 8)


def _from_safetensors(path: Path, model: Model) -> ModelShape:
    folder = path if path.is_dir() else path.parent
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
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
    if not layers:
        raise InputError(f"model.safetensors: '{path.name}' has no routed experts")
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
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise InputError(
            "model.safetensors: needs the package safetensors: pip install safetensors"
        ) from error
    for file in files:
        try:
            with safe_open(file, framework="numpy") as opened:
                for name in opened.keys():  # noqa: SIM118 - not a dictionary
                    part = opened.get_slice(name)
                    yield name, str(part.get_dtype()), tuple(part.get_shape())
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"model.safetensors: {file.name} is truncated or not a safetensors file ({error})"
            ) from error


def _from_config(path: Path, model: Model) -> ModelShape:
    """Return the shape that a Hugging Face `config.json` describes; dense weights are computed."""
    config = _read_config(path)
    layers = _number(config, path, "num_hidden_layers")
    experts = _number(config, path, "num_local_experts", "num_experts", "n_routed_experts")
    top_k = _number(config, path, "num_experts_per_tok", "num_experts_per_token")
    hidden = _number(config, path, "hidden_size")
    width = _number(config, path, "moe_intermediate_size", "intermediate_size")
    sparse = _sparse_layers(config, layers)
    dense, cached = _dense_params(config, hidden, layers, len(sparse), width)
    return ModelShape(
        name=str(config.get("_name_or_path") or config.get("model_type") or path.parent.name),
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


def _read_config(path: Path) -> dict[str, Any]:
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


def _number(config: Mapping[str, Any], path: Path, *names: str) -> int:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    raise InputError(f"model: {path.name} has no {' or '.join(names)}: not a mixture of experts?")


def _sparse_layers(config: Mapping[str, Any], layers: int) -> tuple[int, ...]:
    first = int(config.get("first_k_dense_replace") or 0)
    step = int(config.get("decoder_sparse_step") or 1)
    dense = set(config.get("mlp_only_layers") or ())
    return tuple(
        layer
        for layer in range(first, layers)
        if layer not in dense and (step == 1 or (layer + 1) % step == 0)
    )


def _dense_params(
    config: Mapping[str, Any], hidden: int, layers: int, sparse: int, width: int
) -> tuple[float, float]:
    """Return the weights outside routed experts, and the cached entries per token."""
    heads = int(config.get("num_attention_heads") or 1)
    shared_heads = int(config.get("num_key_value_heads") or heads)
    head = int(config.get("head_dim") or hidden // heads)
    attention = layers * hidden * head * (2 * heads + 2 * shared_heads)
    tables = 1 if config.get("tie_word_embeddings") else 2
    vocabulary = int(config.get("vocab_size") or 0) * hidden * tables
    plain = int(config.get("intermediate_size") or width)
    forward = (layers - sparse) * 3 * hidden * plain
    shared = int(config.get("n_shared_experts") or 0) * width
    shared = int(config.get("shared_expert_intermediate_size") or shared)
    total = attention + vocabulary + forward + sparse * 3 * hidden * shared
    return float(total), float(layers * 2 * shared_heads * head)
