"""What the files of a folder in safetensors hold, by layer: only their headers are read."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from moe2opt.errors import InputError
from moe2opt.files import open_regular

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
class Held:
    """What tensors hold.

    Attributes
    ----------
    layers
        Bytes of routed experts by layer.
    total
        Bytes of all tensors that are loaded.
    weights, packed
        Weights of routed experts as their elements tell, and whether an element holds several.
    unused
        Bytes of layers that predict further tokens.
    table, output
        Bytes of the table of tokens, and whether the output has a tensor of its own.
    """

    layers: dict[int, float]
    total: float = 0.0
    weights: float = 0.0
    packed: bool = False
    unused: float = 0.0
    table: float = 0.0
    output: bool = False


def held_of(files: Iterable[Path], further: range) -> Held:
    """Return what the tensors hold; layers that predict further tokens are not loaded.

    Raises
    ------
    InputError
        When a file is no safetensors file, or the package that reads them is missing.
    """
    held = Held(defaultdict(float))
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


def _tensors(files: Iterable[Path]) -> Iterable[tuple[str, str, tuple[int, ...]]]:
    """Yield name, type and shape of every tensor."""
    try:
        import safetensors
    except ImportError as error:
        raise InputError("needs the package safetensors: pip install safetensors") from error
    for file in files:
        open_regular(file).close()
        try:
            with safetensors.safe_open(file, framework="numpy") as opened:
                for name in opened.keys():  # noqa: SIM118 - not a dictionary
                    part = opened.get_slice(name)
                    yield name, str(part.get_dtype()), tuple(part.get_shape())
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise InputError(
                f"{file.name} is truncated or not a safetensors file ({error})"
            ) from error
