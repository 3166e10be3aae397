"""Architectures of llama.cpp: which layers attend, to what, and which keep a state."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from moe2opt.errors import InputError

#: Of how many layers one attends to everything, the others to a window; where `dense_first` the
#: first of them, else the last (`llama_hparams::set_swa_pattern`).
_WINDOW_PERIODS = {
    "gemma2": 2, "gemma3": 6, "gemma3n": 5, "gemma-embedding": 6, "gpt-oss": 2, "cohere2": 4,
    "cohere2moe": 4, "llama4": 4, "olmo2": 4, "exaone4": 4, "exaone-moe": 4, "afmoe": 4,
    "smallthinker": 4, "plamo3": 8,
}  # fmt: skip
_DENSE_FIRST = {"smallthinker"}

#: Tokens of a chunk where the file does not say (`llama4`, whose chunks count as windows).
_CHUNKS = {"llama4": 8192}

#: Architectures whose every n-th layer attends; the others are recurrent.
_INTERVALS = {"qwen3next": 4, "qwen35": 4, "qwen35moe": 4}

#: Architectures in which a layer without key-value heads is recurrent, unless it has no mixer.
_BY_HEADS = {
    "nemotron_h", "nemotron_h_moe", "jamba", "lfm2", "lfm2moe", "granitehybrid", "kimi-linear",
    "plamo2",
}  # fmt: skip

#: Architectures whose layers all hold a recurrent state; falcon-h1 attends in all of them, too.
_RECURRENT = {"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"}
_BOTH = {"falcon-h1"}

#: Architectures whose files hold blocks for predicting further tokens, which are not loaded.
_SKIPS_NEXTN = {"glm4moe", "glm-dsa", "deepseek2", "bailingmoe2", "exaone-moe", "mimo2", "step35"}

#: What the name of an architecture consists of.
_ARCHITECTURE = re.compile(r"[\w.+-]{1,64}")


class Attention(StrEnum):
    """How a layer remembers: everything, a window of it, a latent of it, or not at all."""

    FULL = "full"
    WINDOW = "window"
    LATENT = "latent"
    NONE = "none"


#: Architectures whose layers are told apart here, and plain ones that were measured.
KNOWN = {
    *_WINDOW_PERIODS, *_INTERVALS, *_BY_HEADS, *_RECURRENT, *_BOTH, *_SKIPS_NEXTN, "llama",
    "qwen2", "qwen2moe", "qwen3", "qwen3moe", "glm4", "minimax-m2", "hunyuan-moe", "ernie4_5",
    "ernie4_5-moe", "gemma", "gemma4", "dots1", "granite", "granitemoe", "mixtral", "phi3",
    "phimoe", "olmoe", "dbrx", "deepseek", "bailingmoe", "grok", "starcoder2", "command-r",
    "mistral3", "seed_oss",
}  # fmt: skip


class Facts:
    """Keys of the file's own architecture, read with their types checked."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = fields
        architecture = fields.get("general.architecture")
        if not isinstance(architecture, str):
            raise InputError("the file has no key general.architecture: is it a model?")
        if not _ARCHITECTURE.fullmatch(architecture):
            raise InputError(f"general.architecture is {architecture!r:.40}, not a name")
        self.architecture = architecture
        self.blocks = self._needed("block_count")
        self.hidden = self._needed("embedding_length")
        if not 1 <= self.blocks <= 10_000:
            raise InputError(f"{architecture}.block_count is {self.blocks}")

    def number(self, key: str, default: int = 0) -> int:
        """Return a whole number; of an array the largest."""
        value = self.fields.get(f"{self.architecture}.{key}", default)
        if isinstance(value, list) and value:
            value = max(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**40:
            raise InputError(f"{self.architecture}.{key} is {value!r:.40}, not a whole number")
        return value

    def per_layer(self, key: str, default: int = 0) -> list[int]:
        """Return one whole number for each block."""
        value = self.fields.get(f"{self.architecture}.{key}")
        if not isinstance(value, list):
            return [self.number(key, default)] * self.blocks
        if len(value) < self.blocks or not all(
            isinstance(v, int) and 0 <= v < 2**40 for v in value
        ):
            raise InputError(
                f"{self.architecture}.{key} holds {len(value)} numbers for {self.blocks} blocks"
            )
        return [int(v) for v in value[: self.blocks]]

    def _needed(self, key: str) -> int:
        if f"{self.architecture}.{key}" not in self.fields:
            raise InputError(f"the file has no key {self.architecture}.{key}")
        return self.number(key)

    @property
    def skipped(self) -> range:
        """Blocks for predicting further tokens, the last ones."""
        count = self.number("nextn_predict_layers")
        if self.architecture not in _SKIPS_NEXTN and not self.architecture.startswith("qwen35"):
            count = 0
        return range(self.blocks - min(count, self.blocks), self.blocks)

    @property
    def kv_heads(self) -> list[int]:
        """Key-value heads of each block; as many as heads where the file says nothing."""
        return self.per_layer("attention.head_count_kv", self.number("attention.head_count"))

    @property
    def _head(self) -> int:
        return self.hidden // max(self.number("attention.head_count"), 1)

    def key_values(self, window: bool) -> int:
        """Return values of a key head in a window layer or another."""
        own = self.number("attention.key_length", self._head)
        return self.number("attention.key_length_swa", own) if window else own

    def value_values(self, window: bool) -> int:
        """Return values of a value head in a window layer or another."""
        own = self.number("attention.value_length", self._head)
        return self.number("attention.value_length_swa", own) if window else own

    @property
    def value_width(self) -> int:
        """Values of one head in the result of attention."""
        if self.latent_values is not None:
            return self.number("attention.value_length_mla")
        return self.number("attention.value_length", self._head)

    @property
    def latent_values(self) -> int | None:
        """Values per token of a latent context, None where keys and values are kept."""
        if f"{self.architecture}.attention.key_length_mla" not in self.fields:
            return None
        rank = self.number("attention.kv_lora_rank")
        rotated = max(self.number("attention.key_length", rank) - rank, 0)
        return rank + self.number("rope.dimension_count", rotated)

    @property
    def window(self) -> int:
        """Tokens of the window, 0 without."""
        return self.number("attention.sliding_window", _CHUNKS.get(self.architecture, 0))

    @property
    def recurrent_values(self) -> int:
        """Values of a recurrent state per sequence (`llama_hparams::n_embd_r`, `n_embd_s`)."""
        inner, state = self.number("ssm.inner_size"), self.number("ssm.state_size")
        kept = max(self.number("ssm.conv_kernel") - 1, 0)
        if self.architecture in ("lfm2", "lfm2moe"):
            return self.hidden * max(self.number("shortconv.l_cache") - 1, 0)
        if self.architecture == "kimi-linear":
            head = self.number("kda.head_dim")
            heads = max(self.per_layer("attention.head_count"))
            return 3 * kept * heads * head + head * head * heads
        if self.architecture in _RECURRENT and "rwkv" in self.architecture:
            head = self.number("wkv.head_size")
            return self.hidden * (self.number("token_shift_count", 2) + head)
        groups = self.number("ssm.group_count")
        return kept * (inner + 2 * groups * state) + state * inner


def kinds_of(facts: Facts) -> list[tuple[Attention, bool]]:
    """Return for each block how it attends and whether it holds a recurrent state."""
    name, heads = facts.architecture, facts.kv_heads
    full = Attention.LATENT if facts.latent_values is not None else Attention.FULL
    if name in _RECURRENT:
        return [(Attention.NONE, True)] * facts.blocks
    if name in _BOTH:
        return [(full, True)] * facts.blocks
    if name in _INTERVALS:
        every = facts.number("full_attention_interval", _INTERVALS[name]) or 1
        attends = [(k + 1) % every == 0 for k in range(facts.blocks)]
        return [(full, False) if a else (Attention.NONE, True) for a in attends]
    if name in _BY_HEADS:
        widths = facts.per_layer("feed_forward_length")
        mixerless = name.startswith("nemotron_h")
        return [
            (full, False) if heads[k] else (Attention.NONE, not (mixerless and widths[k]))
            for k in range(facts.blocks)
        ]
    window = _windows(facts)
    shared = facts.number("attention.shared_kv_layers")
    own = facts.blocks - shared
    return [
        (Attention.NONE if k >= own else Attention.WINDOW if window[k] else full, False)
        for k in range(facts.blocks)
    ]


def _windows(facts: Facts) -> list[bool]:
    """Return which blocks remember a window only."""
    name = facts.architecture
    if not facts.window:
        return [False] * facts.blocks
    told = facts.fields.get(f"{name}.attention.sliding_window_pattern")
    if isinstance(told, list):
        if len(told) < facts.blocks:
            raise InputError(
                f"{name}.attention.sliding_window_pattern holds {len(told)} entries for "
                f"{facts.blocks} blocks"
            )
        return [bool(t) for t in told[: facts.blocks]]
    period = told if isinstance(told, int) and told > 0 else _WINDOW_PERIODS.get(name, 0)
    if not period:
        return [False] * facts.blocks
    open_at = 0 if name in _DENSE_FIRST else period - 1
    return [k % period != open_at for k in range(facts.blocks)]
