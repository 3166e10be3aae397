"""Families of mixture-of-experts models in Hugging Face format: options and names of tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from moe2opt.result import InputError

FAMILIES = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Shape and options of a model.

    Attributes
    ----------
    family
        Its ``model_type``.
    vocabulary, hidden, n_layers, heads, kv_heads, head_dim
        Sizes.
    experts, top_k, expert_width
        Experts of a layer, experts per token, inner width of an expert.
    moe_layers
        Numbers of the layers with experts.
    dense_width, shared_width
        Inner width of layers without experts; of the shared expert, 0 for none.
    renormalise
        Whether the weights of the chosen experts are scaled to sum to 1.
    norm_eps, rope_theta
        Constants.
    qkv_bias, attention_bias
        Whether queries, keys and values have biases; whether the output has one too.
    qk_norm, norm_by_head
        Whether queries and keys are normed, and whether each head for itself.
    clip, window
        Bound of queries, keys and values; tokens that attention looks back. None for none.
    tied
        Whether the head is the embedding.
    """

    family: str
    vocabulary: int
    hidden: int
    n_layers: int
    heads: int
    kv_heads: int
    head_dim: int
    experts: int
    top_k: int
    expert_width: int
    moe_layers: tuple[int, ...]
    dense_width: int = 0
    shared_width: int = 0
    renormalise: bool = True
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    qkv_bias: bool = False
    attention_bias: bool = False
    qk_norm: bool = False
    norm_by_head: bool = False
    clip: float | None = None
    window: int | None = None
    tied: bool = False

    @property
    def expert_weights(self) -> int:
        """Weights of one expert."""
        return 3 * self.hidden * self.expert_width


#: What stands for an option that a configuration leaves out.
_THETA: dict[str, float] = {"mixtral": 1e6}
_EPS = {"mixtral": 1e-5, "qwen2_moe": 1e-6, "qwen3_moe": 1e-6, "olmoe": 1e-5}


def read_spec(config: Mapping[str, Any], where: str) -> ModelSpec:
    """Return the model of a ``config.json``; `where` names the file in errors.

    Raises
    ------
    InputError
        For another family, missing or wrong entries, or options that the decoder does not run.
    """
    get = _Getter(config, where)
    family = config.get("model_type")
    if family not in FAMILIES:
        raise InputError(
            f"{where}: model_type is {family!r}; the executor runs {', '.join(FAMILIES)}"
        )
    _refuse(config, where)
    heads, hidden, layers = get("num_attention_heads"), get("hidden_size"), get("num_hidden_layers")
    mixtral, qwen = family == "mixtral", family.startswith("qwen")
    own_width = mixtral or family == "olmoe"
    window = config.get("sliding_window") if mixtral or config.get("use_sliding_window") else None
    bias = bool(config.get("attention_bias", False)) and not mixtral
    spec = ModelSpec(
        family=family,
        vocabulary=get("vocab_size"),
        hidden=hidden,
        n_layers=layers,
        heads=heads,
        kv_heads=get("num_key_value_heads", heads),
        head_dim=get("head_dim", hidden // heads),
        experts=get(*_first(config, "num_local_experts", "num_experts")),
        top_k=get("num_experts_per_tok"),
        expert_width=get("intermediate_size" if own_width else "moe_intermediate_size"),
        moe_layers=_moe_layers(config, layers, qwen),
        dense_width=get("intermediate_size") if qwen else 0,
        shared_width=get("shared_expert_intermediate_size") if family == "qwen2_moe" else 0,
        renormalise=mixtral or bool(config.get("norm_topk_prob", False)),
        norm_eps=float(config.get("rms_norm_eps") or _EPS[family]),
        rope_theta=_theta(config, family, where),
        qkv_bias=bias or (family == "qwen2_moe" and bool(config.get("qkv_bias", True))),
        attention_bias=bias,
        qk_norm=family in ("qwen3_moe", "olmoe"),
        norm_by_head=family == "qwen3_moe",
        clip=config.get("clip_qkv") if family == "olmoe" else None,
        window=window or None,
        tied=bool(config.get("tie_word_embeddings", False)),
    )
    _check(spec, where)
    return spec


class _Getter:
    """Reads whole positive numbers of a configuration."""

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        self._config, self._where = config, where

    def __call__(self, name: str, default: int | None = None) -> int:
        """Return an entry, `default` where it is null or missing."""
        value = self._config.get(name)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{self._where}: {name} is {value!r}; a whole number ≥ 1 is expected")
        return value


def _first(config: Mapping[str, Any], *names: str) -> tuple[str]:
    return (next((name for name in names if config.get(name) is not None), names[-1]),)


def _refuse(config: Mapping[str, Any], where: str) -> None:
    """Raise for options that change the result and are not implemented."""
    if config.get("hidden_act", "silu") != "silu":
        raise InputError(f"{where}: hidden_act is {config['hidden_act']!r}; only silu is run")
    if config.get("quantization_config"):
        raise InputError(f"{where}: quantised checkpoints are not read; give the original weights")
    if config.get("use_sliding_window") and config.get("sliding_window"):
        raise InputError(f"{where}: use_sliding_window differs by layer and is not run")


def _theta(config: Mapping[str, Any], family: str, where: str) -> float:
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise InputError(f"{where}: rotary scaling {kind!r} is not run, only 'default'")
    value = rope.get("rope_theta") or config.get("rope_theta") or _THETA.get(family, 1e4)
    return float(value)


def _moe_layers(config: Mapping[str, Any], layers: int, qwen: bool) -> tuple[int, ...]:
    if not qwen:
        return tuple(range(layers))
    step = config.get("decoder_sparse_step") or 1
    dense = set(config.get("mlp_only_layers") or ())
    return tuple(n for n in range(layers) if n not in dense and (n + 1) % step == 0)


def _check(spec: ModelSpec, where: str) -> None:
    if not spec.moe_layers:
        raise InputError(f"{where}: no layer has experts")
    if spec.top_k > spec.experts:
        raise InputError(f"{where}: {spec.top_k} experts per token, but a layer has {spec.experts}")
    if spec.heads % spec.kv_heads:
        raise InputError(
            f"{where}: {spec.heads} attention heads cannot share {spec.kv_heads} key-value heads"
        )


def expert_names(spec: ModelSpec, layer: int, expert: int) -> dict[str, str]:
    """Return the tensors of an expert by part (gate, up, down)."""
    if spec.family == "mixtral":
        stem = f"model.layers.{layer}.block_sparse_moe.experts.{expert}."
        return {"gate": f"{stem}w1.weight", "up": f"{stem}w3.weight", "down": f"{stem}w2.weight"}
    return _feed_forward(f"model.layers.{layer}.mlp.experts.{expert}.")


def routed_names(spec: ModelSpec) -> set[str]:
    """Return the tensors of all routed experts."""
    return {
        name
        for layer in spec.moe_layers
        for expert in range(spec.experts)
        for name in expert_names(spec, layer, expert).values()
    }


def layer_names(spec: ModelSpec, layer: int) -> dict[str, str]:
    """Return the tensors of a layer that are no feed-forward matrices, by short name."""
    stem = f"model.layers.{layer}."
    found = {
        "input_norm": f"{stem}input_layernorm.weight",
        "post_norm": f"{stem}post_attention_layernorm.weight",
    }
    found |= {name: f"{stem}self_attn.{name}_proj.weight" for name in "qkvo"}
    if spec.qkv_bias:
        found |= {f"{name}_bias": f"{stem}self_attn.{name}_proj.bias" for name in "qkv"}
    if spec.attention_bias:
        found["o_bias"] = f"{stem}self_attn.o_proj.bias"
    if spec.qk_norm:
        found |= {f"{name}_norm": f"{stem}self_attn.{name}_norm.weight" for name in "qk"}
    if layer in spec.moe_layers:
        block = "block_sparse_moe" if spec.family == "mixtral" else "mlp"
        found["router"] = f"{stem}{block}.gate.weight"
        if spec.shared_width:
            found["shared_gate"] = f"{stem}mlp.shared_expert_gate.weight"
    return found


def dense_names(spec: ModelSpec, layer: int) -> dict[str, str]:
    """Return the feed-forward matrices that every token of a layer passes; empty for none."""
    stem = f"model.layers.{layer}.mlp."
    if layer not in spec.moe_layers:
        return _feed_forward(stem)
    return _feed_forward(f"{stem}shared_expert.") if spec.shared_width else {}


def top_names(spec: ModelSpec) -> dict[str, str]:
    """Return embedding, last norm and head."""
    head = "model.embed_tokens.weight" if spec.tied else "lm_head.weight"
    return {"embedding": "model.embed_tokens.weight", "norm": "model.norm.weight", "head": head}


def _feed_forward(stem: str) -> dict[str, str]:
    return {part: f"{stem}{part}_proj.weight" for part in ("gate", "up", "down")}


def expected_shapes(spec: ModelSpec) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the name and shape of every tensor of a model."""
    d, wide = spec.hidden, spec.heads * spec.head_dim
    narrow = spec.kv_heads * spec.head_dim
    sizes = {"q": wide, "k": narrow, "v": narrow}
    shapes: dict[str, tuple[int, ...]] = {"input_norm": (d,), "post_norm": (d,), "o": (d, wide)}
    shapes |= {name: (size, d) for name, size in sizes.items()}
    shapes |= {f"{name}_bias": (size,) for name, size in sizes.items()} | {"o_bias": (d,)}
    shapes |= {
        f"{n}_norm": ((spec.head_dim,) if spec.norm_by_head else (sizes[n],)) for n in ("q", "k")
    }
    shapes |= {"router": (spec.experts, d), "shared_gate": (1, d)}
    top = {"embedding": (spec.vocabulary, d), "norm": (d,), "head": (spec.vocabulary, d)}
    yield from {name: top[key] for key, name in top_names(spec).items()}.items()
    for layer in range(spec.n_layers):
        yield from ((name, shapes[key]) for key, name in layer_names(spec, layer).items())
        routed = layer in spec.moe_layers
        width = spec.shared_width if routed else spec.dense_width
        yield from _matrix_shapes(dense_names(spec, layer), d, width)
        for expert in range(spec.experts if routed else 0):
            yield from _matrix_shapes(expert_names(spec, layer, expert), d, spec.expert_width)


def _matrix_shapes(
    names: Mapping[str, str], d: int, width: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    return ((name, (d, width) if part == "down" else (width, d)) for part, name in names.items())
