"""The GGUF file that llama.cpp's tools would make of a Hugging Face configuration.

Names and shapes are those of `convert_hf_to_gguf.py`, types those of `llama-quantize`. Nothing is
converted: only the header is made that the file would have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from moe2opt.errors import InputError
from moe2opt.huggingface.checks import against_index, content_of, doubts
from moe2opt.huggingface.families import (
    EXPERTS,
    TOP_K,
    Family,
    family_of,
    kinds,
    latent_width,
    layers_of,
    pattern_of,
    shared_width,
    sparse_layers,
    window_of,
)
from moe2opt.huggingface.keys import Keys
from moe2opt.llamacpp.blocks import HfModel, Written, block_tensors, linear_sizes, mamba_sizes
from moe2opt.llamacpp.filetypes import Mixture, Shaped, file_type, typed
from moe2opt.llamacpp.gguf import Header

_LATENT = Written("deepseek2", chosen=True)
_GEMMA = ("post_attention_norm", "post_ffw_norm")

#: By `model_type`; a suffix ``_text`` is cut off.
_WRITTEN = {
    "llama": Written("llama"), "mistral": Written("llama"), "mixtral": Written("llama"),
    "qwen2": Written("qwen2", biases="qkv"), "qwen2_moe": Written("qwen2moe", biases="qkv"),
    "qwen3": Written("qwen3", "head"), "qwen3_moe": Written("qwen3moe", "head"),
    "qwen3_vl_moe": Written("qwen3vlmoe", "head"),
    "qwen3_next": Written("qwen3next", "head"),
    "qwen3_5": Written("qwen35", "head"), "qwen3_5_moe": Written("qwen35moe", "head"),
    "gemma2": Written("gemma2", around=_GEMMA), "gemma3": Written("gemma3", "head", "", _GEMMA),
    "gpt_oss": Written("gpt-oss", biases="qkvo"),
    "deepseek_v2": Written("deepseek2"), "deepseek_v3": _LATENT, "kimi_k2": _LATENT,
    "glm4_moe": Written("glm4moe", biases="qkv", chosen=True, further=True),
    "llama4": Written("llama4"),
    "nemotron_h": Written("nemotron_h_moe", chosen=True),
    "minimax_m2": Written("minimax-m2", "all", chosen=True),
    "ernie4_5_moe": Written("ernie4_5-moe", chosen=True),
    "hunyuan_v1_moe": Written("hunyuan-moe", "head"),
    "bailing_moe": Written("bailingmoe"), "olmoe": Written("olmoe", "all"),
    "dots1": Written("dots1", "head", chosen=True), "granitemoe": Written("granitemoe"),
}  # fmt: skip


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
    written = _WRITTEN.get(name, Written(name.replace("_", "-") or "unknown"))
    model = _model_of(keys, known or Family(), written, file.name)
    vocabulary = _needed(keys, file.name, "vocab_size")
    tied = keys.yes("tie_word_embeddings") or name.startswith("gemma")
    shaped = [*_outside(model, vocabulary, tied=tied), *block_tensors(model)]
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


def _of_further(model: HfModel, name: str) -> bool:
    return name.startswith("blk.") and int(name.split(".")[1]) >= model.layers


def _model_of(keys: Keys, family: Family, written: Written, file: str) -> HfModel:
    hidden = _needed(keys, file, "hidden_size")
    layers = layers_of(keys) or _needed(keys, file, "num_hidden_layers", "num_layers")
    pattern = pattern_of(keys)
    if pattern and len(pattern) < layers:
        raise InputError(
            f"{file}: hybrid_override_pattern or layers_block_type tells {len(pattern)} of "
            f"{layers} layers"
        )
    experts = keys.first(*EXPERTS) or 0
    width = keys.first("moe_intermediate_size") if experts else None
    width = width or _needed(keys, file, "intermediate_size")
    further = keys.first("num_nextn_predict_layers") or 0
    return HfModel(
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


def _fields(model: HfModel, vocabulary: int) -> dict[str, Any]:
    """Return the keys of the file that memory follows from."""
    keys, name = model.keys, model.written.architecture
    attends = [kind in ("full", "window") for kind in model.kinds]
    pattern = bool(pattern_of(keys))
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
        own["expert_used_count"] = keys.first(*TOP_K) or 1
        own["expert_feed_forward_length"] = model.width
        if latent := latent_width(keys):
            own["moe_latent_size"] = latent
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


def _state_fields(model: HfModel) -> dict[str, int]:
    keys = model.keys
    if "mamba" in model.kinds:
        inner, groups, state, kernel, _ = mamba_sizes(keys)
    else:
        keyed, valued, kernel, state, _ = linear_sizes(keys)
        inner, groups = valued, keyed // state
    return {
        "ssm.conv_kernel": kernel,
        "ssm.inner_size": inner,
        "ssm.group_count": groups,
        "ssm.state_size": state,
    }


def _outside(model: HfModel, vocabulary: int, *, tied: bool) -> Iterator[Shaped]:
    yield Shaped("token_embd.weight", (model.hidden, vocabulary))
    if not tied:
        yield Shaped("output.weight", (model.hidden, vocabulary))
    yield Shaped("output_norm.weight", (model.hidden,))


def is_configuration(path: Path) -> bool:
    """Return whether a path is a `config.json`, or a folder with one and without GGUF files."""
    if path.suffix == ".json":
        return True
    return path.is_dir() and (path / "config.json").is_file() and not list(path.glob("*.gguf"))
