"""Model shapes from the headers of GGUF files; no weight is read."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from moe2opt.llamacpp.gguf import read_header
from moe2opt.placement.model.fields import Header, LayerCount, Many, Width
from moe2opt.placement.model.shape import ModelShape
from moe2opt.placement.sections import Model
from moe2opt.result import InputError
from moe2opt.schema import FileName, Name

#: Routed experts in GGUF: one tensor per layer and kind holds all of them.
_GGUF_EXPERT = re.compile(r"blk\.(\d{1,5})\.ffn_(up|down|gate|gate_up)_exps\.weight")

_NEEDED = ("block_count", "expert_used_count", "embedding_length")


class _GgufShape(Header):
    """Fields of a GGUF header, the name of the architecture cut off their keys."""

    name: FileName | Literal[""] | None = None
    architecture: Name | None = None
    block_count: LayerCount = None
    expert_count: Many = None
    expert_used_count: Many = None
    embedding_length: Width = None
    head_count: Many = None
    head_count_kv: Many = None
    key_length: Width = None
    value_length: Width = None

    @classmethod
    def of(cls, fields: Mapping[str, Any], name: str) -> Self:
        """Return the checked fields of the file's own architecture."""
        architecture = fields.get("general.architecture")
        found = {"name": fields.get("general.name"), "architecture": architecture}
        for key in ("", "attention."):
            start = f"{architecture}.{key}"
            found |= {k.removeprefix(start): v for k, v in fields.items() if k.startswith(start)}
        return super().of(found, name)


def shape_of_gguf(path: Path, model: Model) -> ModelShape:
    """Return the shape that a GGUF file describes; `model` says the bits of the context."""
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


def _gguf_context(shape: _GgufShape, kv_bits: float) -> float | None:
    heads = shape.head_count_kv
    if heads is None:
        return None
    width = (shape.embedding_length or 0) / (shape.head_count or 1)
    key, value = shape.key_length or width, shape.value_length or width
    return float((shape.block_count or 0) * heads * (key + value) * kv_bits / 8)
