"""Model shapes from the headers of GGUF files; no weight is read."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from moe2opt.huggingface.fields import Header
from moe2opt.llamacpp.architecture import Attention
from moe2opt.llamacpp.gguf import read_model
from moe2opt.llamacpp.model import LlamaLayer, LlamaModel, model_of
from moe2opt.placement.model.context import Context
from moe2opt.placement.model.shape import ModelShape
from moe2opt.placement.sections import Model
from moe2opt.result import InputError
from moe2opt.schema import FileName, Name


class _Names(Header):
    """What may be shown of a GGUF header."""

    name: FileName | Literal[""] | None = None
    architecture: Name


def shape_of_gguf(path: Path, model: Model) -> ModelShape:
    """Return the shape that a GGUF file, any one of several or their folder describes.

    `model` says the bits of the context.
    """
    try:
        header = read_model(path)
        shown = {key: header.fields.get(f"general.{key}") for key in ("name", "architecture")}
        name = _Names.of(shown, path.name).name or path.stem
        found = model_of(header, name)
    except InputError as error:
        told = "" if path.name in str(error) else f"{path.name}: "
        raise InputError(f"model.gguf: {told}{error}") from error
    rows = [layer for layer in found.layers if layer.experts]
    if not rows or not found.experts:
        raise InputError(f"model.gguf: {path.name} ('{found.architecture}') has no routed experts")
    if not found.top_k:
        raise InputError(
            f"model.gguf: {path.name} has no key {found.architecture}.expert_used_count"
        )
    experts = found.experts
    held = sum(layer.expert_bytes for layer in rows)
    return ModelShape(
        name=name,
        layers=tuple(layer.index for layer in rows),
        n_layers=found.blocks,
        experts=experts,
        top_k=found.top_k,
        hidden=found.hidden,
        params_per_expert=sum(layer.expert_weights for layer in rows) / len(rows) / experts,
        dense_bytes=float(found.bytes - held),
        context=_context(found, model.kv_bits),
        stored_bytes=held / len(rows) / experts,
        stored_parts=tuple(_parts(layer, experts) for layer in rows),
        table_bytes=float(found.input_bytes),
        table_in_ram=True,
        source=f"header of {path.name}",
        note="; ".join(found.notes),
    )


def _parts(layer: LlamaLayer, experts: int) -> tuple[float, float, float]:
    """Return the bytes of gate, up and down of one expert; a joint gate and up is halved."""
    both = layer.experts.get("gate_up", 0) / 2
    gate, up = (layer.experts.get(name, 0) + both for name in ("gate", "up"))
    return gate / experts, up / experts, layer.experts.get("down", 0) / experts


def _context(model: LlamaModel, bits: float) -> Context:
    windows = [x for x in model.layers if x.attention is Attention.WINDOW]
    others = [x for x in model.layers if x.attention is not Attention.WINDOW]
    full, window = (sum(x.key_values + x.value_values for x in own) for own in (others, windows))
    return Context(
        values=full,
        window_values=window,
        window=model.window,
        state_values=sum(layer.recurrent_values for layer in model.layers),
        bits=bits,
        cells=True,
    )
