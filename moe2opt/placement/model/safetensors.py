"""Model shapes from the headers of safetensors files beside their configuration."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from moe2opt.files import open_regular
from moe2opt.placement.model.huggingface import shape_of_config
from moe2opt.placement.model.shape import ModelShape
from moe2opt.placement.sections import Model
from moe2opt.result import InputError

#: Routed experts in safetensors, one tensor each or stacked per layer.
_EXPERT = re.compile(r"layers\.(\d{1,5})\.(?:\w+\.)*experts\.(?:(\d+)\.)?")
_LAYER = re.compile(r"(?:^|\.)layers\.(\d{1,5})\.")

#: Tensors beside the weights: scales, zero points, biases.
_BESIDE = re.compile(r"(scales?(_inv|_2)?|zeros|zero_point|g_idx|bias|weight_shape)$")

_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2,
          "U16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
          "F4": 0.5}  # fmt: skip

#: Types whose elements are one weight each; elements of others may hold several.
_SINGLE = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"}


@dataclass(slots=True)
class _Held:
    """Bytes by layer of routed experts, weights told by their elements, and what else there is."""

    layers: dict[int, float]
    total: float = 0.0
    weights: float = 0.0
    packed: bool = False
    unused: float = 0.0
    table: float = 0.0
    output: bool = False


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
    held = _held(files, range(base.n_layers, base.n_layers + base.further_layers))
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


def _held(files: Iterable[Path], further: range) -> _Held:
    """Return what the tensors hold; layers that predict further tokens are not loaded."""
    held = _Held(defaultdict(float))
    for name, dtype, shape in _tensors(files):
        size = math.prod(shape) * _BYTES.get(dtype, 2)
        layer = _LAYER.search(name)
        if name.startswith("mtp.") or (layer and int(layer.group(1)) in further):
            held.unused += size
            continue
        held.total += size
        held.output |= name.endswith("lm_head.weight")
        if name.endswith("embed_tokens.weight"):
            held.table += size
        found = _EXPERT.search(name)
        if found:
            held.layers[int(found.group(1))] += size
            if not _BESIDE.search(name):
                held.weights += math.prod(shape)
                held.packed |= dtype not in _SINGLE
    return held


def _notes(base: ModelShape, held: _Held, rows: tuple[int, ...], params: float) -> Iterator[str]:
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
