"""A model as llama.cpp sees it: every layer with its kind of attention and its own bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from moe2opt.errors import InputError
from moe2opt.llamacpp.gguf import Header, Tensor, read_model

_BLOCK = re.compile(r"blk\.(\d{1,5})\.(.+)")

#: Routed experts, which `--n-cpu-moe` and the usual `-ot` move.
_EXPERTS = re.compile(r"ffn_(?P<matrix>up|down|gate|gate_up)_(?:ch)?exps\.(?:weight|bias)")

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


class Attention(StrEnum):
    """How a layer remembers: everything, a window of it, a latent of it, or not at all."""

    FULL = "full"
    WINDOW = "window"
    LATENT = "latent"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class LlamaLayer:
    """One block of a model.

    Attributes
    ----------
    index
        Its number in the file.
    attention
        What it remembers.
    key_values, value_values
        Values per token that its context holds of keys and of values.
    recurrent_values
        Values of its recurrent state per sequence.
    other_bytes
        Attention, norms, router, shared experts: everything but routed experts.
    largest_other_bytes
        The largest tensor among them.
    experts
        Bytes of the routed experts by matrix (``up``, ``down``, ``gate``, ``gate_up``, with their
        biases); empty in a dense layer.
    ffn_width
        Width of its dense feed-forward part, 0 where it has experts.
    other_weights, expert_weights
        Numbers of weights behind `other_bytes` and behind all of `experts`.
    """

    index: int
    attention: Attention
    key_values: int
    value_values: int
    recurrent_values: int
    other_bytes: int
    largest_other_bytes: int
    experts: Mapping[str, int] = field(default_factory=dict)
    ffn_width: int = 0
    other_weights: int = 0
    expert_weights: int = 0

    @property
    def expert_bytes(self) -> int:
        """Bytes of all its routed experts."""
        return sum(self.experts.values())

    @property
    def bytes(self) -> int:
        """Bytes of all its tensors."""
        return self.other_bytes + self.expert_bytes


@dataclass(frozen=True, slots=True)
class LlamaModel:
    """A model as its GGUF header describes it.

    Attributes
    ----------
    name, architecture
        As the file says.
    layers
        Its blocks in order; those that llama.cpp does not load are left out.
    blocks
        Number of all blocks, which `-ngl` and `-ts` count.
    hidden, heads, kv_heads, value_width, vocabulary
        Widths: of an activation, number of heads, of key-value heads (most of any layer), of the
        values of one head, and number of tokens.
    experts, top_k, expert_width, matrices
        Routed experts of a layer, how many serve a token, their width, and matrices of each.
    window
        Tokens that a window layer remembers; 0 without.
    latent
        Whether keys and values are kept as one latent (multi-head latent attention).
    trained_context
        Tokens of the longest context that it was made for.
    input_bytes
        Bytes of the token table, which stays in RAM.
    output_bytes
        Bytes of what follows the last layer; a tied table is held a second time there.
    notes
        What must be known of these figures.
    """

    name: str
    architecture: str
    layers: tuple[LlamaLayer, ...]
    blocks: int
    hidden: int
    heads: int
    kv_heads: int
    value_width: int
    vocabulary: int
    experts: int
    top_k: int
    expert_width: int
    matrices: int
    window: int
    latent: bool
    trained_context: int
    input_bytes: int
    output_bytes: int
    notes: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes of all tensors that are loaded, once each."""
        return self.input_bytes + self.output_bytes + sum(layer.bytes for layer in self.layers)


def read_llama(path: Path) -> LlamaModel:
    """Read a model from its GGUF file, any file of several, or their folder.

    Raises
    ------
    InputError
        When it cannot be read, or lacks what every model has.
    """
    return model_of(read_model(path), path.stem)


def model_of(header: Header, name: str = "model") -> LlamaModel:
    """Return the model that a header describes.

    Raises
    ------
    InputError
        When a key that every model has is missing or of the wrong type.
    """
    facts = _Facts(header.fields)
    kinds = _kinds(facts)
    skipped = facts.skipped
    blocks: dict[int, list[tuple[str, Tensor]]] = {k: [] for k in range(facts.blocks)}
    outside: dict[str, Tensor] = {}
    for tensor in header.tensors:
        found = _BLOCK.fullmatch(tensor.name)
        if found is None:
            outside[tensor.name] = tensor
        elif int(found[1]) >= facts.blocks:
            raise InputError(f"tensor {tensor.name} is of a block beyond block_count")
        else:
            blocks[int(found[1])].append((found[2], tensor))
    layers = tuple(
        _layer(k, blocks[k], facts, kinds[k]) for k in range(facts.blocks) if k not in skipped
    )
    table = outside.get("token_embd.weight")
    tied = "output.weight" not in outside
    width = max((len(layer.experts) for layer in layers), default=0)
    inside = sum(t.size for n, t in outside.items() if n.startswith(_INPUTS))
    after = sum(t.size for n, t in outside.items() if not n.startswith(_INPUTS))
    return LlamaModel(
        name=str(header.fields.get("general.name") or name),
        architecture=facts.architecture,
        layers=layers,
        blocks=facts.blocks,
        hidden=facts.hidden,
        heads=max(facts.per_layer("attention.head_count")),
        kv_heads=max(facts.kv_heads),
        value_width=facts.value_width,
        vocabulary=facts.number("vocab_size") or (table.weights // facts.hidden if table else 0),
        experts=facts.number("expert_count"),
        top_k=facts.number("expert_used_count"),
        expert_width=facts.number("expert_feed_forward_length"),
        matrices=2 if facts.architecture.startswith("nemotron_h") else 3 if width else 0,
        window=facts.window,
        latent=facts.latent_values is not None,
        trained_context=facts.number("context_length"),
        input_bytes=inside,
        output_bytes=after + (table.size if tied and table else 0),
        notes=tuple(_notes(facts, blocks, skipped)),
    )


#: Tensors that a token meets before the first layer.
_INPUTS = ("token_embd", "position_embd", "token_types", "per_layer_token_embd")


def _notes(
    facts: _Facts, blocks: Mapping[int, list[tuple[str, Tensor]]], skipped: Iterable[int]
) -> Iterable[str]:
    unused = sum(tensor.size for k in skipped for _, tensor in blocks[k])
    if unused:
        yield (
            f"{unused / 2**20:,.0f} MiB of blocks that predict further tokens are not loaded "
            "unless speculation is asked for"
        )
    if facts.architecture not in KNOWN:
        yield (
            f"the architecture '{facts.architecture}' is not in the list of those whose memory is "
            "known: every layer counts as full attention"
        )


class _Facts:
    """Keys of the file's own architecture, read with their types checked."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = fields
        architecture = fields.get("general.architecture")
        if not isinstance(architecture, str):
            raise InputError("the file has no key general.architecture: is it a model?")
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
        return self.number("attention.kv_lora_rank") + self.number("rope.dimension_count")

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


#: Architectures whose layers are told apart here, and plain ones that were measured.
KNOWN = {
    *_WINDOW_PERIODS, *_INTERVALS, *_BY_HEADS, *_RECURRENT, *_BOTH, *_SKIPS_NEXTN, "llama",
    "qwen2", "qwen2moe", "qwen3", "qwen3moe", "glm4", "minimax-m2", "hunyuan-moe", "ernie4_5",
    "ernie4_5-moe", "gemma", "gemma4", "dots1", "granite", "granitemoe", "mixtral", "phi3",
    "phimoe", "olmoe", "dbrx", "deepseek", "bailingmoe", "grok", "starcoder2", "command-r",
    "mistral3", "seed_oss",
}  # fmt: skip


def _kinds(facts: _Facts) -> list[tuple[Attention, bool]]:
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


def _windows(facts: _Facts) -> list[bool]:
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


def _layer(
    index: int,
    tensors: Iterable[tuple[str, Tensor]],
    facts: _Facts,
    kind: tuple[Attention, bool],
) -> LlamaLayer:
    attention, recurrent = kind
    other, largest, weights, expert_weights = 0, 0, 0, 0
    experts: dict[str, int] = {}
    for name, tensor in tensors:
        found = _EXPERTS.fullmatch(name)
        if found:
            experts[found["matrix"]] = experts.get(found["matrix"], 0) + tensor.size
            expert_weights += tensor.weights
        else:
            other += tensor.size
            weights += tensor.weights
            largest = max(largest, tensor.size)
    window, heads = attention is Attention.WINDOW, facts.kv_heads[index]
    keys, values = heads * facts.key_values(window), heads * facts.value_values(window)
    if attention is Attention.LATENT:
        keys, values = facts.latent_values or 0, 0
    elif attention is Attention.NONE:
        keys, values = 0, 0
    return LlamaLayer(
        index=index,
        attention=attention,
        key_values=keys,
        value_values=values,
        recurrent_values=facts.recurrent_values if recurrent else 0,
        other_bytes=other,
        largest_other_bytes=largest,
        experts=experts,
        ffn_width=0 if experts else facts.per_layer("feed_forward_length")[index],
        other_weights=weights,
        expert_weights=expert_weights,
    )
