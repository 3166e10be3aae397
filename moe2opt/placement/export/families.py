"""How runtimes call the parts of a model: by family, recognised from the model's name."""

from __future__ import annotations

from dataclasses import dataclass

from moe2opt.placement.plan import PlacementPlan
from moe2opt.result import InputError


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


def family_of(plan: PlacementPlan) -> Family:
    """Return the family of a plan's model, `UNKNOWN` when its name says nothing."""
    name = "".join(c for c in plan.model.lower() if c.isalnum())
    matching = (f for f in FAMILIES if name.startswith(f.starts))
    return next(matching, UNKNOWN)


def block_of(family: Family, plan: PlacementPlan, layer: int) -> str:
    """Return the module of a layer; Switch Transformers number the encoder's blocks first."""
    if not family.encoder_decoder:
        return f"model.layers.{layer}"
    half = plan.n_layers // 2
    return f"encoder.block.{layer}" if layer < half else f"decoder.block.{layer - half}"


def expert_module(family: Family, plan: PlacementPlan, layer: int) -> str:
    """Return the module of the routed experts of a layer, as transformers 5 calls it."""
    block = block_of(family, plan, layer)
    if not family.encoder_decoder:
        return f"{block}.mlp.experts"
    return f"{block}.layer.{1 if block.startswith('encoder') else 2}.mlp.experts"


def dense_modules(family: Family, plan: PlacementPlan, layer: int) -> list[str]:
    """Return the modules of a layer with experts other than the experts."""
    block = block_of(family, plan, layer)
    if family.encoder_decoder:
        part = expert_module(family, plan, layer).removesuffix(".mlp.experts")
        before = range(int(part[-1]))
        return [*(f"{block}.layer.{k}" for k in before), f"{part}.mlp.router", f"{part}.layer_norm"]
    norms = ("input_layernorm", "post_attention_layernorm")
    names = [*family.mixers, *norms, *(f"mlp.{name}" for name in family.beside)]
    return [f"{block}.{name}" for name in names]


def trunk(family: Family) -> list[str]:
    """Return the modules outside the layers."""
    if not family.encoder_decoder:
        return ["model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"]
    ends = [
        f"{s}.{m}" for s in ("encoder", "decoder") for m in ("embed_tokens", "final_layer_norm")
    ]
    return ["shared", *ends, "lm_head"]


def causal_only(family: Family, runtime: str) -> None:
    """Raise `InputError` for an encoder with a decoder."""
    if family.encoder_decoder:
        raise InputError(f"--to {runtime}: it does not run {family.name}")


def layer_words(rows: list[int]) -> str:
    """Return layer numbers as ranges: ``0-3, 7``."""
    runs: list[list[int]] = []
    for number in sorted(rows):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
