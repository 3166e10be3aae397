"""A model as llama.cpp sees it: every layer with its kind of attention and its own bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from moe2opt.errors import InputError
from moe2opt.llamacpp.architecture import KNOWN, Attention, Facts, kinds_of
from moe2opt.llamacpp.converted import is_configuration, read_converted
from moe2opt.llamacpp.gguf import Header, Tensor, read_model
from moe2opt.text import LONGEST_NAME, shown

_BLOCK = re.compile(r"blk\.(\d{1,5})\.(.+)")

#: Routed experts, which `--n-cpu-moe` and the usual `-ot` move.
_EXPERTS = re.compile(r"ffn_(?P<matrix>up|down|gate|gate_up)_(?:ch)?exps\.(?:weight|bias)")


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


def read_llama(path: str | Path, quant: str | None = None) -> LlamaModel:
    """Read a model from its GGUF file, any file of several, or their folder.

    Parameters
    ----------
    path
        Or ``config.json`` of a model in safetensors, or its folder.
    quant
        File type that such a model would be quantised to; see `read_converted`.

    Raises
    ------
    InputError
        When it cannot be read, or lacks what every model has; for `quant` beside a GGUF file.
    """
    path = Path(path)
    if is_configuration(path):
        header, notes = read_converted(path, quant)
        found = model_of(header, path.stem)
        return replace(found, notes=(*found.notes, *notes))
    if quant is not None:
        raise InputError(f"quant: '{path.name}' is a GGUF file, whose types are its own")
    return model_of(read_model(path), path.stem)


def model_of(header: Header, name: str = "model") -> LlamaModel:
    """Return the model that a header describes.

    Raises
    ------
    InputError
        When a key that every model has is missing or of the wrong type.
    """
    facts = Facts(header.fields)
    kinds = kinds_of(facts)
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
        name=shown(str(header.fields.get("general.name") or name))[:LONGEST_NAME],
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
    facts: Facts, blocks: Mapping[int, list[tuple[str, Tensor]]], skipped: Iterable[int]
) -> Iterable[str]:
    unused = sum(tensor.size for k in skipped for _, tensor in blocks[k])
    if unused:
        yield (
            f"{unused / 2**20:,.0f} MiB of blocks that predict further tokens are not loaded "
            "unless speculation is asked for"
        )
    empty = sum(not own for k, own in blocks.items() if k not in skipped)
    if empty:
        yield (
            f"{empty} of {len(blocks)} blocks have no tensors: is a part of the model missing? "
            "They count as layers without weights"
        )
    if facts.architecture not in KNOWN:
        yield (
            f"the architecture '{facts.architecture}' is not in the list of those whose memory is "
            "known: every layer counts as full attention"
        )


def _layer(
    index: int,
    tensors: Iterable[tuple[str, Tensor]],
    facts: Facts,
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
