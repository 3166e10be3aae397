"""Model shapes from the headers of safetensors files beside their configuration."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from moe2opt.files import open_regular
from moe2opt.placement.model.huggingface import shape_of_config
from moe2opt.placement.model.shape import ModelShape
from moe2opt.placement.sections import Model
from moe2opt.result import InputError

#: Routed experts in safetensors, one tensor each or stacked per layer.
_EXPERT = re.compile(r"layers\.(\d{1,5})\.(?:\w+\.)*experts\.(?:(\d+)\.)?")

_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2,
          "U16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}  # fmt: skip


def shape_of_safetensors(path: Path, model: Model) -> ModelShape:
    """Return the shape that the files of a folder, or one file, describe."""
    folder = path if path.is_dir() else path.parent
    files = sorted(path.glob("[!.]*.safetensors")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"model.safetensors: no *.safetensors file in '{path.name}'")
    base = shape_of_config(folder / "config.json", model)
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
        context=base.context,
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
