"""How transformers calls the parts of a model: by family, and by the name of its architecture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """Names of a family of models.

    Attributes
    ----------
    name
        The family; empty when the model's name is not known.
    starts
        How names of its models start, in lower case without punctuation.
    architecture
        Name of the architecture in GGUF, empty where llama.cpp has none.
    encoder_decoder
        Whether experts are in an encoder and a decoder, each expert a module of its own.
    beside, mixers
        Modules of a layer beside its experts, within and before the feed-forward part.
    """

    name: str
    starts: tuple[str, ...]
    architecture: str
    encoder_decoder: bool = False
    beside: tuple[str, ...] = ("gate",)
    mixers: tuple[str, ...] = ("self_attn",)


_SHARED = ("gate", "shared_experts")
_GATED = ("gate", "shared_expert", "shared_expert_gate")
_MIXED = ("self_attn", "linear_attn")

FAMILIES = (
    Family("Mixtral", ("mixtral",), "llama"),
    Family("Qwen3-Next", ("qwen3next",), "qwen3next", False, _GATED, _MIXED),
    Family("Qwen3.5-MoE", ("qwen35",), "qwen35moe", False, _GATED, _MIXED),
    Family("Qwen3-MoE", ("qwen3",), "qwen3moe"),
    Family("Qwen2-MoE", ("qwen2", "qwen15"), "qwen2moe", False, _GATED),
    Family("OLMoE", ("olmoe",), "olmoe"),
    Family("gpt-oss", ("gptoss",), "gpt-oss", False, ("router",)),
    Family("GLM-5", ("glm5",), "glm-dsa", False, _SHARED),
    Family("GLM-4-MoE", ("glm4",), "glm4moe", False, _SHARED),
    Family("DeepSeek", ("deepseek",), "deepseek2", False, _SHARED),
    Family("Switch Transformers", ("switch",), "", encoder_decoder=True),
)
UNKNOWN = Family("", (), "?", False, ("router", *dict.fromkeys((*_SHARED, *_GATED))), _MIXED)


def family_named(name: str) -> Family:
    """Return the family of a model's name, `UNKNOWN` when that says nothing."""
    plain = "".join(c for c in name.lower() if c.isalnum())
    matching = (f for f in FAMILIES if plain.startswith(f.starts))
    return next(matching, UNKNOWN)


def block_of(family: Family, layers: int, layer: int) -> str:
    """Return the module of a layer; Switch Transformers number the encoder's blocks first."""
    if not family.encoder_decoder:
        return f"model.layers.{layer}"
    half = layers // 2
    return f"encoder.block.{layer}" if layer < half else f"decoder.block.{layer - half}"


def expert_module(family: Family, layers: int, layer: int) -> str:
    """Return the module of the routed experts of a layer, as transformers 5 calls it."""
    block = block_of(family, layers, layer)
    if not family.encoder_decoder:
        return f"{block}.mlp.experts"
    return f"{block}.layer.{1 if block.startswith('encoder') else 2}.mlp.experts"


def dense_modules(family: Family, layers: int, layer: int) -> list[str]:
    """Return the modules of a layer with experts other than the experts."""
    block = block_of(family, layers, layer)
    if family.encoder_decoder:
        part = expert_module(family, layers, layer).removesuffix(".mlp.experts")
        before = range(int(part[-1]))
        return [*(f"{block}.layer.{k}" for k in before), f"{part}.mlp.router", f"{part}.layer_norm"]
    norms = ("input_layernorm", "post_attention_layernorm")
    names = [*family.mixers, *norms, *(f"mlp.{name}" for name in family.beside)]
    return [f"{block}.{name}" for name in names]


def placed_modules(
    family: Family, layers: int, layer: int, dense: int | str, experts: Sequence[int | str]
) -> dict[str, int | str]:
    """Return the device of every module of a layer, which is taken apart only where it must be.

    Parameters
    ----------
    dense
        Device of what is no expert.
    experts
        Devices of the experts; where they are one module, the first one counts.
    """
    if set(experts) <= {dense}:
        return {block_of(family, layers, layer): dense}
    found = dict.fromkeys(dense_modules(family, layers, layer), dense)
    module = expert_module(family, layers, layer)
    if family.encoder_decoder:
        return found | {f"{module}.expert_{e}": device for e, device in enumerate(experts)}
    return found | {module: experts[0]}


def trunk(family: Family) -> list[str]:
    """Return the modules outside the layers."""
    if not family.encoder_decoder:
        return ["model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"]
    ends = [
        f"{s}.{m}" for s in ("encoder", "decoder") for m in ("embed_tokens", "final_layer_norm")
    ]
    return ["shared", *ends, "lm_head"]
