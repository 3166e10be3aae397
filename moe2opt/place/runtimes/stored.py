"""A model as runtimes of PyTorch load it: a folder in safetensors as it is, a GGUF file as told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from moe2opt.errors import InputError
from moe2opt.huggingface.checks import content_of
from moe2opt.huggingface.weights import Held, held_of
from moe2opt.llamacpp import LlamaModel, read_llama
from moe2opt.llamacpp.converted import is_configuration

#: Bits of a weight with its scales, by `quant_method`; other methods state theirs.
_BITS = {"fp8": 8.03, "mxfp4": 4.25, "bitsandbytes": 4.13}

#: Bits of scales and zero points of a group of weights (AWQ, GPTQ, compressed-tensors).
_BESIDE = 20


def read_stored(path: Path, runtime: str, quant: str | None = None) -> LlamaModel:
    """Read a model with the bytes that a runtime loads.

    Raises
    ------
    InputError
        When it cannot be read; for `quant`, which is a format of llama.cpp.
    """
    if quant is not None:
        raise InputError(
            f"quant: '{quant}' is a file type of llama.cpp; {runtime} reads a folder as it is"
        )
    if not is_configuration(path):
        return _of_gguf(read_llama(path), runtime)
    model, folder = read_llama(path, "BF16"), path if path.is_dir() else path.parent
    notes = [note for note in model.notes if not note.startswith("sizes are those")]
    files = sorted(folder.glob("[!.]*.safetensors"))
    if files:
        held = held_of(files, range(model.blocks, 2 * model.blocks))
        own, told = _as_held(model, held), f"sizes are those of {len(files)} safetensors files"
    else:
        bits, told = _bits(content_of(folder / "config.json"))
        own = _scaled(model, bits / 16)
    return replace(own, notes=(told, *notes))


def _of_gguf(model: LlamaModel, runtime: str) -> LlamaModel:
    if runtime == "ktransformers":
        note = "the GGUF file serves the processor; cards load the same bytes from safetensors"
        return replace(model, notes=(*model.notes, note))
    if runtime == "accelerate":
        layers = tuple(
            replace(
                layer,
                other_bytes=max(layer.other_bytes, 2 * layer.other_weights),
                experts=_resized(layer.experts, max(layer.expert_bytes, 2 * layer.expert_weights)),
            )
            for layer in model.layers
        )
        note = "transformers unpacks a GGUF file to 16 bits a weight, which is what counts here"
        return replace(model, layers=layers, notes=(*model.notes, note))
    note = (
        f"{runtime} reads GGUF experimentally, of one file: the bytes are those of this file, and "
        "a folder in safetensors with as many bits is what it is made for"
    )
    return replace(model, notes=(*model.notes, note))


def _bits(content: Mapping[str, Any]) -> tuple[float, str]:
    """Return bits of a weight as the configuration states them, and words for that."""
    packed = content.get("quantization_config")
    if not isinstance(packed, dict):
        return 16.0, "sizes are those of 16 bits a weight, as the configuration has no other"
    method = str(packed.get("quant_method", ""))
    bits = _BITS.get(method)
    if bits is None:
        groups = packed.get("config_groups")
        first: Any = next(iter(groups.values()), None) if isinstance(groups, dict) else None
        told = first.get("weights") if isinstance(first, dict) else None
        own = told if isinstance(told, dict) else packed
        number, size = own.get("bits", own.get("num_bits")), own.get("group_size") or 128
        if not isinstance(number, int) or not 0 < number <= 16 or not isinstance(size, int):
            raise InputError(
                f"config.json: quantization_config of '{method}' does not tell its bits; a folder "
                "with its *.safetensors files is measured"
            )
        bits = number + (_BESIDE / size if size > 0 else 0.0)
    return bits, f"CHECK THE SIZES: {bits:.4g} bits a weight are taken for all layers ({method})"


def _scaled(model: LlamaModel, factor: float) -> LlamaModel:
    """Return a model whose layers have a multiple of their bytes."""
    layers = tuple(
        replace(
            layer,
            other_bytes=round(layer.other_bytes * factor),
            experts=_resized(layer.experts, layer.expert_bytes * factor),
        )
        for layer in model.layers
    )
    return replace(model, layers=layers)


def _as_held(model: LlamaModel, held: Held) -> LlamaModel:
    """Return a model whose layers have the bytes of the files, dense parts in proportion."""
    outside = held.table + (model.output_bytes if held.output else 0)
    dense = held.total - sum(held.layers.values()) - outside
    usual = sum(layer.other_bytes for layer in model.layers)
    if dense <= 0 or not usual:
        raise InputError("model: its files hold nothing besides experts and the table of tokens")
    layers = tuple(
        replace(
            layer,
            other_bytes=round(layer.other_bytes * dense / usual),
            experts=_resized(layer.experts, held.layers.get(layer.index, 0.0)),
        )
        for layer in model.layers
    )
    return replace(model, layers=layers, input_bytes=round(held.table))


def _resized(experts: Mapping[str, int], size: float) -> dict[str, int]:
    """Return matrices of experts that take so many bytes together."""
    whole = sum(experts.values())
    return {name: round(own * size / whole) for name, own in experts.items()} if whole else {}
