"""The GGUF file that llama.cpp's tools would make of a Hugging Face configuration.

Names and shapes are those of `convert_hf_to_gguf.py`, types those of `llama-quantize`. Nothing is
converted: only the header is made that the file would have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moe2opt.errors import InputError
from moe2opt.huggingface.checks import against_index, content_of, doubts
from moe2opt.huggingface.families import (
    Family,
    family_of,
    kinds,
    shared_width,
    sparse_layers,
    window_of,
)
from moe2opt.huggingface.keys import Keys
from moe2opt.llamacpp.filetypes import Mixture, Shaped, file_type, typed
from moe2opt.llamacpp.gguf import Header


@dataclass(frozen=True, slots=True)
class _Written:
    """How the converter writes a `model_type`.

    Attributes
    ----------
    architecture
        What the file calls it.
    norms
        Whether queries and keys have norms: of a head, of all heads, or none.
    biases
        Which of q, k, v, o have biases.
    around
        Norms besides those before attention and before the feed-forward part.
    chosen
        Whether the router has a bias for each expert.
    further
        Whether blocks that predict further tokens are written.
    """

    architecture: str
    norms: str = ""
    biases: str = ""
    around: tuple[str, ...] = ()
    chosen: bool = False
    further: bool = False


_LATENT = _Written("deepseek2", chosen=True)
_GEMMA = ("post_attention_norm", "post_ffw_norm")

#: By `model_type`; a suffix ``_text`` is cut off.
_WRITTEN = {
    "llama": _Written("llama"), "mistral": _Written("llama"), "mixtral": _Written("llama"),
    "qwen2": _Written("qwen2", biases="qkv"), "qwen2_moe": _Written("qwen2moe", biases="qkv"),
    "qwen3": _Written("qwen3", "head"), "qwen3_moe": _Written("qwen3moe", "head"),
    "qwen3_vl_moe": _Written("qwen3vlmoe", "head"),
    "qwen3_next": _Written("qwen3next", "head"), "qwen3_5_moe": _Written("qwen35moe", "head"),
    "gemma2": _Written("gemma2", around=_GEMMA), "gemma3": _Written("gemma3", "head", "", _GEMMA),
    "gpt_oss": _Written("gpt-oss", biases="qkvo"),
    "deepseek_v2": _Written("deepseek2"), "deepseek_v3": _LATENT, "kimi_k2": _LATENT,
    "glm4_moe": _Written("glm4moe", biases="qkv", chosen=True, further=True),
    "llama4": _Written("llama4"),
    "nemotron_h": _Written("nemotron_h_moe", chosen=True),
    "minimax_m2": _Written("minimax-m2", "all", chosen=True),
    "ernie4_5_moe": _Written("ernie4_5-moe", chosen=True),
    "hunyuan_v1_moe": _Written("hunyuan-moe", "head"),
    "bailing_moe": _Written("bailingmoe"), "olmoe": _Written("olmoe", "all"),
    "dots1": _Written("dots1", "head", chosen=True), "granitemoe": _Written("granitemoe"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Model:
    """What the tensors of all layers are made from."""

    keys: Keys
    family: Family
    written: _Written
    hidden: int
    layers: int
    further: int
    experts: int
    width: int
    shared: int
    kinds: tuple[str, ...]
    sparse: frozenset[int]

    @property
    def blocks(self) -> int:
        """Blocks of the file."""
        return self.layers + self.further

    @property
    def heads(self) -> int:
        """Heads of queries."""
        return self.keys.first("num_attention_heads") or 1

    @property
    def shared_heads(self) -> int:
        """Heads of keys and values."""
        return self.keys.first("num_key_value_heads", "num_attention_groups") or self.heads

    @property
    def head(self) -> int:
        """Values of a head."""
        return self.keys.first("head_dim") or self.hidden // self.heads

    @property
    def dense_width(self) -> int:
        """Width of the feed-forward part of a layer without experts."""
        return self.keys.first(self.family.dense_width, "intermediate_size") or self.width


def read_converted(path: Path, quant: str | None = None) -> tuple[Header, tuple[str, ...]]:
    """Return the header that the GGUF file made of a configuration would have, and its doubts.

    Parameters
    ----------
    path
        ``config.json`` or the folder that holds it.
    quant
        File type of `llama-quantize`, such as ``Q4_K_M``; when left out, ``MXFP4_MOE`` for a model
        that comes in it, and else ``BF16``.

    Raises
    ------
    InputError
        When a key that every model has is missing or of the wrong type.
    """
    file = path / "config.json" if path.is_dir() else path
    content = content_of(file)
    quant = file_type(quant or _own_type(content))
    model_type = str(content.get("model_type") or "")
    keys, known = Keys(content, file.name), family_of(model_type)
    name = model_type.removesuffix("_text")
    written = _WRITTEN.get(name, _Written(name.replace("_", "-") or "unknown"))
    model = _model_of(keys, known or Family(), written, file.name)
    vocabulary = _needed(keys, file.name, "vocab_size")
    tied = keys.yes("tie_word_embeddings") or name.startswith("gemma")
    shaped = [*_outside(model, vocabulary, tied=tied), *_inside(model)]
    fields = _fields(model, vocabulary)
    fields["general.name"] = file.resolve().parent.name
    heads = model.shared_heads if model.kinds[0] not in ("mamba", "none", "linear", "conv") else 0
    mixture = Mixture(
        quant,
        model.blocks,
        experts=model.experts,
        sharing=model.heads // heads if heads else 0,
        tied=tied,
        seventy=written.architecture in ("llama", "qwen2")
        and (model.layers == 80 and not model.experts),
    )
    header = Header(fields, tuple(typed(shaped, mixture)))
    weights = sum(math.prod(t.shape) for t in shaped if not _of_further(model, t.name))
    notes = [
        f"sizes are those of the file that convert_hf_to_gguf.py and llama-quantize {quant} "
        "would make",
        *doubts(keys, model_type, known if name in _WRITTEN else None, weights),
        *against_index(file.parent, content, weights),
    ]
    return header, tuple(notes)


def _own_type(content: Mapping[str, Any]) -> str:
    """Return the file type that is closest to what the folder holds."""
    packed = content.get("quantization_config")
    method = packed.get("quant_method") if isinstance(packed, dict) else None
    return "MXFP4_MOE" if method == "mxfp4" else "BF16"


def name_of(path: Path, quant: str | None) -> str:
    """Return a name of the file that a configuration would be converted to."""
    file = path / "config.json" if path.is_dir() else path
    return f"{file.resolve().parent.name}-{file_type(quant or _own_type(content_of(file)))}.gguf"


def _of_further(model: _Model, name: str) -> bool:
    return name.startswith("blk.") and int(name.split(".")[1]) >= model.layers


def _model_of(keys: Keys, family: Family, written: _Written, file: str) -> _Model:
    hidden = _needed(keys, file, "hidden_size")
    layers = _needed(keys, file, "num_hidden_layers", "num_layers")
    experts = keys.first(
        "num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"
    ) or 0  # fmt: skip
    width = keys.first("moe_intermediate_size") if experts else None
    width = width or _needed(keys, file, "intermediate_size")
    further = keys.first("num_nextn_predict_layers") or 0
    return _Model(
        keys=keys,
        family=family,
        written=written,
        hidden=hidden,
        layers=layers,
        further=further if written.further else 0,
        experts=experts,
        width=width,
        shared=shared_width(keys, family, width) if experts else 0,
        kinds=tuple(kinds(keys, family, layers)),
        sparse=frozenset(sparse_layers(keys, layers)) if experts else frozenset(),
    )


def _needed(keys: Keys, file: str, *names: str) -> int:
    if value := keys.first(*names):
        return value
    raise InputError(f"{file} has no {' or '.join(names)}")


def _fields(model: _Model, vocabulary: int) -> dict[str, Any]:
    """Return the keys of the file that memory follows from."""
    keys, name = model.keys, model.written.architecture
    attends = [kind in ("full", "window") for kind in model.kinds]
    pattern = bool(keys.text("hybrid_override_pattern"))
    own: dict[str, Any] = {
        "block_count": model.blocks,
        "context_length": keys.first("max_position_embeddings") or 0,
        "embedding_length": model.hidden,
        "feed_forward_length": model.dense_width,
        "vocab_size": vocabulary,
        "attention.head_count": model.heads,
        "attention.head_count_kv": model.shared_heads,
        "attention.key_length": model.head,
        "attention.value_length": keys.first("v_head_dim") or model.head,
        "nextn_predict_layers": model.further,
        **_latent_fields(keys),
    }
    if pattern or "conv" in model.kinds:
        own["attention.head_count_kv"] = [model.shared_heads * on for on in attends]
    if pattern:
        own["feed_forward_length"] = [
            model.width * (kind == "none") for kind in model.kinds
        ]  # fmt: skip
    if "window" in model.kinds:
        own["attention.sliding_window"] = window_of(keys, model.family)
        own["attention.sliding_window_pattern"] = [kind == "window" for kind in model.kinds]
    if model.experts:
        own["expert_count"] = model.experts
        own["expert_used_count"] = keys.first(
            "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_k",
            "moe_topk", "moe_top_k",
        ) or 1  # fmt: skip
        own["expert_feed_forward_length"] = model.width
    if {"linear", "mamba"} & set(model.kinds):
        own |= _state_fields(model)
    if "linear" in model.kinds:
        own["full_attention_interval"] = 1 + next((k for k, on in enumerate(attends) if on), 3)
    if "conv" in model.kinds:
        own["shortconv.l_cache"] = keys.first("conv_L_cache") or 3
    return {"general.architecture": name} | {f"{name}.{key}": value for key, value in own.items()}


def _latent_fields(keys: Keys) -> dict[str, int]:
    rank = keys.first("kv_lora_rank")
    if not rank:
        return {}
    rotated, plain = keys.first("qk_rope_head_dim") or 64, keys.first("qk_nope_head_dim") or 128
    return {
        "attention.head_count_kv": 1,
        "attention.kv_lora_rank": rank,
        "attention.key_length": rank + rotated,
        "attention.value_length": rank,
        "attention.key_length_mla": plain + rotated,
        "attention.value_length_mla": keys.first("v_head_dim") or 128,
        "rope.dimension_count": rotated,
    }


def _state_fields(model: _Model) -> dict[str, int]:
    keys = model.keys
    if "mamba" in model.kinds:
        inner, groups, state, kernel, _ = _mamba_sizes(keys)
    else:
        keyed, valued, kernel, state, _ = _linear_sizes(keys)
        inner, groups = valued, keyed // state
    return {
        "ssm.conv_kernel": kernel,
        "ssm.inner_size": inner,
        "ssm.group_count": groups,
        "ssm.state_size": state,
    }


def _mamba_sizes(keys: Keys) -> tuple[int, int, int, int, int]:
    """Return inner width, groups, state, kernel and heads of Mamba 2."""
    heads = keys.first("mamba_num_heads", "mamba_n_heads") or 1
    return (
        heads * (keys.first("mamba_head_dim", "mamba_d_head") or 64),
        keys.first("n_groups", "mamba_n_groups") or 8,
        keys.first("ssm_state_size", "mamba_d_state") or 128,
        keys.first("conv_kernel", "mamba_d_conv") or 4,
        heads,
    )


def _linear_sizes(keys: Keys) -> tuple[int, int, int, int, int]:
    """Return widths of keys and values, kernel, width of a key and heads of a gated delta net."""
    key = keys.first("linear_key_head_dim") or 128
    heads = keys.first("linear_num_value_heads") or 32
    keyed = (keys.first("linear_num_key_heads") or 16) * key
    valued = heads * (keys.first("linear_value_head_dim") or 128)
    return keyed, valued, keys.first("linear_conv_kernel_dim") or 4, key, heads


def _outside(model: _Model, vocabulary: int, *, tied: bool) -> Iterator[Shaped]:
    yield Shaped("token_embd.weight", (model.hidden, vocabulary))
    if not tied:
        yield Shaped("output.weight", (model.hidden, vocabulary))
    yield Shaped("output_norm.weight", (model.hidden,))


def _inside(model: _Model) -> Iterator[Shaped]:
    """Yield the tensors of all blocks."""
    made = {
        "full": _attention, "window": _attention, "linear": _linear, "mamba": _mamba,
        "conv": _convolution,
    }  # fmt: skip
    pattern = model.keys.text("hybrid_override_pattern")
    for k in range(model.blocks):
        kind = model.kinds[k] if k < model.layers else "full"
        shapes = dict(made[kind](model)) if kind in made else {}
        shapes["attn_norm.weight"] = (model.hidden,)
        if not pattern:
            shapes["ffn_norm.weight"] = (model.hidden,)
        shapes |= {f"{norm}.weight": (model.hidden,) for norm in model.written.around}
        if k in model.sparse or k >= model.layers:
            shapes |= dict(_moe(model))
        elif not pattern or pattern[k] == "-":
            shapes |= dict(_dense(model, model.dense_width, ""))
        if k >= model.layers:
            shapes |= {"nextn.eh_proj.weight": (2 * model.hidden, model.hidden)}
            shapes |= {f"nextn.{n}.weight": (model.hidden,) for n in ("enorm", "hnorm")}
        yield from (Shaped(f"blk.{k}.{name}", shape) for name, shape in sorted(shapes.items()))


_Shapes = Iterator[tuple[str, tuple[int, ...]]]


def _attention(model: _Model) -> _Shapes:
    keys, hidden = model.keys, model.hidden
    rank = keys.first("kv_lora_rank")
    if rank:
        yield from _latent(model, rank)
        return
    value = keys.first("v_head_dim") or model.head
    queries, held = model.heads * model.head, model.shared_heads * model.head
    widths = {
        "q": queries * (2 if model.family.gated else 1), "k": held,
        "v": model.shared_heads * value, "output": hidden,
    }  # fmt: skip
    for name, width in widths.items():
        row = model.heads * value if name == "output" else hidden
        yield f"attn_{name}.weight", (row, width)
        if name[0] in model.written.biases:
            yield f"attn_{name}.bias", (width,)
    if model.written.norms:
        own = (model.head, model.head) if model.written.norms == "head" else (queries, held)
        yield "attn_q_norm.weight", own[:1]
        yield "attn_k_norm.weight", own[1:]
    if model.written.architecture == "gpt-oss":
        yield "attn_sinks.weight", (model.heads,)


def _latent(model: _Model, rank: int) -> _Shapes:
    """Yield multi-head latent attention; its projection is split into keys and values."""
    keys, hidden, heads = model.keys, model.hidden, model.heads
    rotated, plain = keys.first("qk_rope_head_dim") or 64, keys.first("qk_nope_head_dim") or 128
    value, low = keys.first("v_head_dim") or 128, keys.first("q_lora_rank")
    keys.first("num_key_value_heads", "head_dim")  # say nothing here
    queries = heads * (plain + rotated)
    if low:
        yield "attn_q_a.weight", (hidden, low)
        yield "attn_q_a_norm.weight", (low,)
        yield "attn_q_b.weight", (low, queries)
    else:
        yield "attn_q.weight", (hidden, queries)
    yield "attn_kv_a_mqa.weight", (hidden, rank + rotated)
    yield "attn_kv_a_norm.weight", (rank,)
    yield "attn_k_b.weight", (plain, rank, heads)
    yield "attn_v_b.weight", (rank, value, heads)
    yield "attn_output.weight", (heads * value, hidden)


def _linear(model: _Model) -> _Shapes:
    keyed, valued, kernel, _, heads = _linear_sizes(model.keys)
    mixed = 2 * keyed + valued
    yield "attn_qkv.weight", (model.hidden, mixed)
    yield "attn_gate.weight", (model.hidden, valued)
    yield "ssm_out.weight", (valued, model.hidden)
    yield "ssm_conv1d.weight", (kernel, mixed)
    yield "ssm_a", (heads,)
    yield "ssm_dt.bias", (heads,)
    yield "ssm_norm.weight", (valued // heads,)
    if model.written.architecture == "qwen3next":
        yield "ssm_ba.weight", (model.hidden, 2 * heads)
    else:
        yield "ssm_alpha.weight", (model.hidden, heads)
        yield "ssm_beta.weight", (model.hidden, heads)


def _mamba(model: _Model) -> _Shapes:
    inner, groups, state, kernel, heads = _mamba_sizes(model.keys)
    mixed = inner + 2 * groups * state
    yield "ssm_in.weight", (model.hidden, inner + mixed + heads)
    yield "ssm_conv1d.weight", (kernel, mixed)
    yield "ssm_conv1d.bias", (mixed,)
    yield "ssm_dt.bias", (heads,)
    yield "ssm_a", (1, heads)
    yield "ssm_d", (1, heads)
    yield "ssm_norm.weight", (inner // groups, groups)
    yield "ssm_out.weight", (inner, model.hidden)


def _convolution(model: _Model) -> _Shapes:
    hidden, kernel = model.hidden, model.keys.first("conv_L_cache") or 3
    yield "shortconv.conv.weight", (kernel, hidden)
    yield "shortconv.in_proj.weight", (hidden, 3 * hidden)
    yield "shortconv.out_proj.weight", (hidden, hidden)


def _dense(model: _Model, width: int, suffix: str) -> _Shapes:
    """Yield the matrices of a feed-forward part."""
    if model.family.matrices > 2:
        yield f"ffn_gate{suffix}.weight", (model.hidden, width)
    yield f"ffn_up{suffix}.weight", (model.hidden, width)
    yield f"ffn_down{suffix}.weight", (width, model.hidden)


def _moe(model: _Model) -> _Shapes:
    yield "ffn_gate_inp.weight", (model.hidden, model.experts)
    if model.written.chosen:
        yield "exp_probs_b.bias", (model.experts,)
    for name, shape in _dense(model, model.width, "_exps"):
        yield name, (*shape, model.experts)
        if model.written.architecture == "gpt-oss":
            yield name.replace("weight", "bias"), (shape[1], model.experts)
    if model.written.architecture == "gpt-oss":
        yield "ffn_gate_inp.bias", (model.experts,)
    if model.shared:
        yield from _dense(model, model.shared, "_shexp")
        if model.written.architecture.startswith("qwen"):
            yield "ffn_gate_inp_shexp.weight", (model.hidden,)


def is_configuration(path: Path) -> bool:
    """Return whether a path is a `config.json`, or a folder with one and without GGUF files."""
    if path.suffix == ".json":
        return True
    return path.is_dir() and (path / "config.json").is_file() and not list(path.glob("*.gguf"))
