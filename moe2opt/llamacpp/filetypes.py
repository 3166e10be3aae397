"""Types of tensors that `llama-quantize` writes for a file type such as Q4_K_M.

A file type names a mixture: which type a tensor gets follows from its role, its layer, and the
model's heads and experts. Source: `llama_tensor_get_type_impl` and `tensor_type_fallback` of
llama.cpp (src/llama-quant.cpp), with an importance matrix for IQ3_XXS and smaller, which want one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from moe2opt.errors import InputError
from moe2opt.llamacpp.gguf import Tensor, type_sizes

#: Type that most tensors of a file type have.
FILE_TYPES = {
    "F32": "F32", "F16": "F16", "BF16": "BF16", "Q8_0": "Q8_0", "Q6_K": "Q6_K",
    "Q5_K_M": "Q5_K", "Q5_K_S": "Q5_K", "Q5_1": "Q5_1", "Q5_0": "Q5_0",
    "Q4_K_M": "Q4_K", "Q4_K_S": "Q4_K", "Q4_1": "Q4_1", "Q4_0": "Q4_0", "IQ4_NL": "IQ4_NL",
    "IQ4_XS": "IQ4_XS", "MXFP4_MOE": "MXFP4", "Q3_K_L": "Q3_K", "Q3_K_M": "Q3_K",
    "Q3_K_S": "Q3_K", "IQ3_M": "IQ3_S", "IQ3_S": "IQ3_S", "IQ3_XS": "IQ3_S",
    "IQ3_XXS": "IQ3_XXS", "Q2_K": "Q2_K", "Q2_K_S": "Q2_K", "IQ2_M": "IQ2_S", "IQ2_S": "IQ2_XS",
    "IQ2_XS": "IQ2_XS", "IQ2_XXS": "IQ2_XXS", "IQ1_M": "IQ1_M", "IQ1_S": "IQ1_S",
}  # fmt: skip

#: Other names of file types.
ALIASES = {"Q5_K": "Q5_K_M", "Q4_K": "Q4_K_M", "Q3_K": "Q3_K_M", "MXFP4": "MXFP4_MOE"}

_SMALL = {"IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ1_S", "IQ1_M"}

#: What a tensor gets whose rows are no multiple of the blocks of its type.
_FALLBACK = {
    **dict.fromkeys(
        ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"
    ),
    "Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0",
}  # fmt: skip

#: Roles by what a name contains, the first that fits; those of values are more sensitive.
_ROLES = {
    "attn_qkv.weight": "qkv", "attn_kv_b.weight": "kv_b", "attn_v.weight": "v",
    "attn_k.weight": "k", "attn_q.weight": "q", "attn_output.weight": "o",
    "ffn_up": "up", "ffn_gate": "gate", "ffn_down": "down",
}  # fmt: skip
_VALUES = {"qkv", "kv_b", "v"}

#: Tensors of two axes that are never quantised.
_KEPT = ("ffn_gate_inp.weight", "ssm_conv1d", "shortconv.conv.weight", "per_layer_model_proj")


@dataclass(frozen=True, slots=True)
class Shaped:
    """A tensor before it has a type: its name, and its axes, that of a row first."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Mixture:
    """What the types of a file depend on besides names and shapes.

    Attributes
    ----------
    file_type
        A key of `FILE_TYPES`.
    blocks
        Number of blocks of the model.
    experts
        Routed experts of a layer.
    sharing
        Heads of queries to a head of keys in the first layer, rounded down.
    tied
        Whether the token table is the output, too.
    seventy
        Whether llama.cpp takes it for a 70B model of many layers and shared heads.
    """

    file_type: str
    blocks: int
    experts: int = 0
    sharing: int = 1
    tied: bool = False
    seventy: bool = False


def file_type(name: str) -> str:
    """Return the name of a file type as `llama-quantize` spells it.

    Raises
    ------
    InputError
        For one that is not known.
    """
    found = ALIASES.get(name.upper(), name.upper())
    if found not in FILE_TYPES:
        known = ", ".join(FILE_TYPES)
        raise InputError(f"no file type '{name:.40}'; known are {known}")
    return found


def typed(tensors: Sequence[Shaped], mixture: Mixture) -> Iterator[Tensor]:
    """Yield the tensors as a file of that type holds them.

    Parameters
    ----------
    tensors
        In the order of their layers, which counts for some types.
    """
    sizes = {label: (block, size) for block, size, label in type_sizes().values()}
    seen: Counter[str] = Counter()
    values = sum(_role(tensor.name) in _VALUES for tensor in tensors)
    for tensor in tensors:
        kind = _type_of(tensor, mixture, values, seen)
        if tensor.shape[0] % sizes[kind][0]:
            kind = _FALLBACK.get(kind, "F16")
            kind = "F16" if tensor.shape[0] % sizes[kind][0] else kind
        weights = math.prod(tensor.shape)
        block, size = sizes[kind]
        yield Tensor(tensor.name, weights, weights * size // block, kind)


def _role(name: str) -> str:
    return next((role for part, role in _ROLES.items() if part in name), "other")


def _type_of(tensor: Shaped, mixture: Mixture, values: int, seen: Counter[str]) -> str:
    """Return the type by role; `seen` counts the tensors of a role so far."""
    name, base = tensor.name, FILE_TYPES[mixture.file_type]
    kept = any(part in name for part in _KEPT) or not name.endswith("weight")
    if len(tensor.shape) < 2 or kept or "_norm.weight" in name:
        return "F32"
    if base in ("F32", "F16", "BF16"):
        return base
    if name == "output.weight" or (mixture.tied and name == "token_embd.weight"):
        return _output(tensor, mixture, base)
    if base == "MXFP4":
        return "MXFP4" if len(tensor.shape) > 2 else "Q8_0"
    if name == "token_embd.weight":
        return _table(mixture.file_type, base)
    role = _role(name)
    counted = "v" if role in _VALUES else role
    place = seen[counted]
    seen[counted] += 1
    if mixture.file_type in _SMALL:
        return _small(role, place, mixture, base)
    if role in ("down", "up", "gate") and mixture.experts > 1:
        place = int(name.split(".")[1])
    if role in _VALUES:
        return _values(role, place, values, mixture, base)
    return _others(role, place, mixture, base)


def _output(tensor: Shaped, mixture: Mixture, base: str) -> str:
    if base in ("MXFP4", "Q8_0") or tensor.shape[0] % {"Q4_0": 32, "IQ4_NL": 32}.get(base, 256):
        return "Q8_0"
    return "Q5_K" if mixture.file_type in _SMALL | {"IQ3_XXS"} else "Q6_K"


def _table(name: str, base: str) -> str:
    if name in ("IQ2_XXS", "IQ2_XS", "IQ1_S", "IQ1_M"):
        return "Q2_K"
    return "IQ3_S" if name in ("IQ2_S", "IQ2_M", "IQ3_XXS") else base


def _small(role: str, place: int, mixture: Mixture, base: str) -> str:
    """Return types of files of about two bits, which want an importance matrix."""
    better = "IQ3_S" if mixture.file_type in ("IQ2_S", "IQ2_M") else "Q2_K"
    if role in _VALUES:
        return "Q4_K" if mixture.sharing >= 4 or mixture.experts >= 4 else better
    if role == "k" and mixture.experts == 8:
        return "Q4_K"
    if role == "down" and place < mixture.blocks // 8:
        return better
    if role == "o" and mixture.experts == 8:
        return "Q5_K"
    if role == "o" and mixture.file_type in ("IQ1_S", "IQ1_M"):
        return "IQ2_XXS"
    return "IQ3_S" if role == "o" and better == "IQ3_S" else base


def _more(place: int, count: int) -> bool:
    """Return whether a layer is among those of more bits: the ends, and every third between."""
    return place < count // 8 or place >= 7 * count // 8 or (place - count // 8) % 3 == 2


def _values(role: str, place: int, count: int, mixture: Mixture, base: str) -> str:
    name, shared = mixture.file_type, mixture.sharing >= 4
    kind = base
    if name in ("Q2_K", "Q2_K_S", "IQ3_XS", "IQ3_S", "IQ3_XXS") and shared:
        kind = "Q4_K"
    elif name == "Q2_K":
        kind = "Q3_K"
    elif name == "IQ3_M":
        kind = "Q4_K"
    elif name == "Q3_K_M":
        kind = "Q5_K" if place < 2 else "Q4_K"
    elif name == "Q3_K_L" or (name in ("IQ4_NL", "IQ4_XS") and shared):
        kind = "Q5_K"
    elif name in ("Q4_K_M", "Q5_K_M") and _more(place, count):
        kind = "Q6_K"
    elif name == "Q4_K_S" and place < 4:
        kind = "Q5_K"
    if mixture.seventy and kind in ("Q3_K", "Q4_K"):
        kind = "Q5_K"
    return "Q8_0" if mixture.experts == 8 else kind


#: What the output of attention gets, with other than eight experts.
_ATTENDED = {"Q2_K": "Q3_K", "IQ3_XXS": "IQ3_S", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K",
             "IQ3_M": "Q4_K"}  # fmt: skip
_OF_EIGHT = {"Q2_K", "IQ3_XS", "IQ3_XXS", "Q3_K_S", "Q3_K_M", "IQ4_NL", "Q4_K_S", "Q4_K_M",
             "IQ3_S", "IQ3_M", "IQ4_XS"}  # fmt: skip


def _others(role: str, place: int, mixture: Mixture, base: str) -> str:
    name, blocks = mixture.file_type, mixture.blocks
    if role in ("k", "q"):
        if role == "k" and mixture.experts == 8:
            return "Q8_0"
        return {"IQ3_XS": "IQ3_XXS", "IQ3_XXS": "IQ2_S"}.get(name, base)
    if role == "o":
        if mixture.experts == 8:
            return "Q5_K" if name in _OF_EIGHT else base
        return _ATTENDED.get(name, base)
    if role in ("gate", "up"):
        inner = blocks // 8 <= place < 7 * blocks // 8
        return "IQ3_XXS" if name == "IQ3_XS" and inner else base
    return _down(place, mixture, base) if role == "down" else base


def _down(place: int, mixture: Mixture, base: str) -> str:
    name, first = mixture.file_type, place < mixture.blocks // 8
    more = _more(place, mixture.blocks)
    if name == "Q3_K_M":
        return "Q5_K" if place < mixture.blocks // 16 else "Q4_K"
    if name == "IQ3_M" and (first or (mixture.experts == 8 and more)):
        return "Q4_K"
    if name in ("Q4_K_M", "Q5_K_M"):
        return "Q6_K" if more else base
    if first and name in ("IQ4_NL", "IQ4_XS", "Q4_K_S"):
        return "Q5_K"
    if first and name == "Q2_K_S":
        return "Q4_K"
    return {"Q2_K": "Q3_K", "Q3_K_L": "Q5_K"}.get(name, base)
