"""Model shapes from the headers of safetensors files beside their configuration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from moe2opt.huggingface.weights import Held, held_of
from moe2opt.placement.model.huggingface import shape_of_config
from moe2opt.placement.model.shape import ModelShape
from moe2opt.placement.sections import Model
from moe2opt.result import InputError


def shape_of_safetensors(path: Path, model: Model) -> ModelShape:
    """Return the shape that the files of a folder, or one file, describe.

    Sizes are those of the tensors; how many weights they hold follows from their elements, or from
    the configuration where an element holds several (AWQ, GPTQ, MXFP4, NVFP4).
    """
    folder = path if path.is_dir() else path.parent
    files = sorted(path.glob("[!.]*.safetensors")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"model.safetensors: no *.safetensors file in '{path.name}'")
    base = shape_of_config(folder / "config.json", model)
    try:
        held = held_of(files, range(base.n_layers, base.n_layers + base.further_layers))
    except InputError as error:
        raise InputError(f"model.safetensors: {error}") from error
    layers = held.layers
    if not layers:
        raise InputError(f"model.safetensors: '{path.name}' has no routed experts")
    if max(layers) >= base.n_layers:
        raise InputError(
            f"model.safetensors: '{path.name}' has a layer {max(layers)}, config.json "
            f"{base.n_layers} layers"
        )
    rows = tuple(sorted(layers))
    mean = sum(layers.values()) / len(layers) / base.experts
    params = base.params_per_expert if held.packed else held.weights / len(layers) / base.experts
    thirds = [layers[row] / base.experts / 3 for row in rows]
    return replace(
        base,
        layers=rows,
        params_per_expert=params,
        dense_bytes=held.total - sum(layers.values()),
        stored_bytes=mean,
        stored_parts=tuple((x, x, x) for x in thirds) if len(set(thirds)) > 1 else (),
        table_bytes=held.table if held.output else 0.0,
        source=f"headers of {len(files)} safetensors files",
        note="; ".join(_notes(base, held, rows, params)),
    )


def _notes(base: ModelShape, held: Held, rows: tuple[int, ...], params: float) -> Iterator[str]:
    """Yield what contradicts the configuration, and what is left out."""
    if base.note.count("CHECK"):
        yield base.note
    if rows != base.layers:
        yield (
            f"CHECK THE SIZES: the files have {len(rows)} layers with experts, config.json speaks "
            f"of {len(base.layers)}"
        )
    if abs(params / base.params_per_expert - 1) > 1e-6:
        yield (
            f"CHECK THE SIZES: an expert of the files has {params:.6g} weights, config.json speaks "
            f"of {base.params_per_expert:.6g}"
        )
    if held.unused:
        yield (
            f"{held.unused / 2**30:.3g} GiB of layers that predict further tokens are not loaded"
        )
