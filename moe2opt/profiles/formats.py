"""Weight formats: bits per weight by name, the class of a format, and the engine it implies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from moe2opt.result import InputError
from moe2opt.schema.csv import Row

#: Classes of weights with the least bits per weight that each one holds.
CLASSES = {"16-bit": 15.0, "8-bit": 7.2, "4-bit": 2.5, "2-bit": 1.3, "1-bit": 0.0}

#: Engines that are told apart, by a word of their name, the first match counting.
_ENGINES = {
    "transformers": "eager",
    "bitsandbytes": "eager",
    "eager": "eager",
    "exl": "ExLlama",
    "mlc": "MLC",
    "vulkan": "llama.cpp Vulkan",
    "llama": "llama.cpp",
    "lm studio": "llama.cpp",
    "vllm": "vLLM",
    "sglang": "vLLM",
    "tensorrt": "TensorRT",
}

#: The engine whose time per token is the reference of all others.
REFERENCE = "llama.cpp"
#: The same through Vulkan, whose kernels attain less of a card's matrix units.
VULKAN = "llama.cpp Vulkan"
OTHER = "other"
EAGER = "eager"

#: Bits that scales and offsets add to a llama.cpp type of unknown exact size.
_GGUF_EXTRA_BITS = 0.6

_PATTERNS = (
    (re.compile(r"^(?:B?F|FP)(\d+)$"), 0.0),
    (re.compile(r"^W(\d+)A\d+$"), 0.0),
    (re.compile(r"^(?:U?INT|NF|MXFP|NVFP)-?(\d+)"), 0.25),
    (re.compile(r"^(\d+(?:\.\d+)?)[ _-]?(?:BITS?|BPW)$"), 0.25),
    (re.compile(r"^(?:EXL\d)[ _-]?(\d+(?:\.\d+)?)"), 0.0),
    (re.compile(r"^(?:UD-)?I?Q(\d)(?:_|$)"), _GGUF_EXTRA_BITS),
    (re.compile(r"^TQ(\d)(?:_|$)"), 0.06),
)


@dataclass(frozen=True, slots=True)
class Format:
    """A weight format.

    Attributes
    ----------
    name
        As it was asked for.
    bits_per_weight
        Effective bits, scales included.
    engine
        The engine class that runs it by default.
    known
        Whether the bits come from the table or the caller rather than from the name.
    """

    name: str
    bits_per_weight: float
    engine: str
    known: bool

    @property
    def weight_class(self) -> str:
        """Name of its class in `CLASSES`."""
        return weight_class(self.bits_per_weight)


def weight_class(bits_per_weight: float) -> str:
    """Return the class of weights of a number of bits."""
    return next(name for name, least in CLASSES.items() if bits_per_weight >= least)


def engine_class(engine: str | None) -> str | None:
    """Return the class of an engine from its name; None when no engine is named."""
    if engine is None:
        return None
    words = engine.lower()
    return next((kind for word, kind in _ENGINES.items() if word in words), OTHER)


def find_format(name: str, rows: Sequence[Row], bits_per_weight: float | None = None) -> Format:
    """Return the format of a name; bits that are not in the table follow from the name.

    Parameters
    ----------
    name
        Such as ``Q4_K_M``, ``BF16``, ``AWQ-INT4``, ``4-bit``; case does not matter.
    rows
        Rows of ``formats.csv``.
    bits_per_weight
        Effective bits, where the caller knows them.

    Raises
    ------
    InputError
        When neither the table nor the name says how many bits a weight has.
    """
    key = _key(name)
    row = next((row for row in rows if _key(row["quant"]) == key), None)
    engine = engine_class(row["engine"]) if row else None
    if engine is None:
        engine = REFERENCE if re.match(r"(UD-)?I?T?Q\d", key) else OTHER
    if bits_per_weight is not None:
        return Format(name, bits_per_weight, engine, True)
    if row is not None:
        return Format(name, float(row["bits_per_weight"]), engine, True)
    return Format(name, _bits_by_name(name, key, rows), engine, False)


def _key(name: str) -> str:
    """Return a name without case, GGUF prefixes and what stands in brackets."""
    key = name.strip().upper().replace("GGUF", "").strip(" -_")
    return {"F16": "FP16", "F32": "FP32", "INT8 (BNB)": "INT8 (BITSANDBYTES)"}.get(key, key)


def _bits_by_name(name: str, key: str, rows: Sequence[Row]) -> float:
    for pattern, extra in _PATTERNS:
        found = pattern.match(key)
        if found and 1 <= float(found[1]) <= 64:
            bits = float(found[1])
            return bits + (extra if bits < 16 else 0.0)
    known = [row["quant"] for row in rows]
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else "; give bits_per_weight"
    raise InputError(
        f"precision: '{name}' is not in formats.csv and its name does not say how many bits a "
        f"weight has{hint}"
    )
