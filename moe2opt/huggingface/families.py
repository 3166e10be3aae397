"""Families of models as their `config.json` describes them: what differs from one to another.

One entry a family of `model_type`, and what a family says of its layers in words of its own: which
hold experts, how each mixes tokens, how wide its dense part is. Sources: the configuration and
modelling files of transformers, and of the models' own repositories.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from moe2opt.huggingface.keys import Keys

#: Words of `layer_types` (and letters of a pattern) for what mixes the tokens of a layer.
_FULL = {"full_attention", "attention", "full", "*", "hybrid"}
_WINDOW = {"sliding_attention", "chunked_attention", "sliding", "local"}
_LINEAR = {"linear_attention", "linear", "mamba", "mamba2", "recurrent", "M"}

#: Keys of the number of routed experts of a layer, and of how many serve a token.
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
TOP_K = (
    "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts", "moe_k",
    "moe_topk", "moe_top_k",
)  # fmt: skip

#: Letters of a pattern for words of `layers_block_type`: mamba, attention, experts, dense part.
_LETTERS = {"mamba": "M", "attention": "*", "moe": "E", "mlp": "-"}


@dataclass(frozen=True, slots=True)
class Mixer:
    """What mixes the tokens of one layer.

    Attributes
    ----------
    weights
        Weights of its projections.
    values
        Values per token that it remembers: keys and values, or their latent.
    window
        Whether it remembers only a window.
    state
        Values that it keeps whatever the number of tokens.
    recent
        Values per token of a window that it remembers beside `values` of everything.
    """

    weights: int
    values: int = 0
    window: bool = False
    state: int = 0
    recent: int = 0


@dataclass(frozen=True, slots=True)
class Family:
    """How models of one `model_type` read their configuration.

    Attributes
    ----------
    matrices
        Matrices of an expert, and of any other feed-forward part.
    dense_width
        Key of the width of a layer without experts.
    shared
        Shared experts of a layer with experts that no key names.
    window_every
        Of how many layers one remembers everything where `layer_types` is missing; 0 for all.
    linear_every
        Of how many layers one attends where neither `layer_types` nor an interval is told.
    chunk
        Tokens of the window where no key tells.
    gated
        Whether queries come with a gate of their size.
    beside
        Key of the width of a dense part that layers with experts have, too.
    """

    matrices: int = 3
    dense_width: str = "dense_intermediate_size"
    shared: int = 0
    window_every: int = 0
    linear_every: int = 0
    chunk: int = 0
    gated: bool = False
    beside: str = ""

    @property
    def dense_widths(self) -> tuple[str, ...]:
        """Keys of the width of a layer without experts, the first that is told counts."""
        return self.dense_width, "intermediate_size"


_PLAIN = Family()

#: Families by `model_type`; a suffix ``_text`` is cut off.
FAMILIES: dict[str, Family] = {
    **dict.fromkeys(
        (
            *("mixtral", "phimoe", "olmoe", "flex_olmo", "granitemoe", "granitemoeshared"),
            *("qwen2_moe", "qwen3_moe", "qwen3_vl_moe", "dots1"),
            *("deepseek", "deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "glm4_moe"),
            *("glm4_moe_lite", "glm4v_moe", "glm_moe_dsa", "ernie4_5_moe", "hunyuan_v1_moe"),
            *("bailing_moe", "bailing_moe_v2", "minimax_m2", "exaone_moe", "jamba", "lfm2_moe"),
            *("granitemoehybrid", "mimo_v2_flash", "deepseek_v4", "kimi_linear"),
            *("llama", "mistral", "qwen2", "qwen3"),  # dense ones
        ),
        _PLAIN,
    ),
    "gemma2": Family(window_every=2),
    "gemma3": Family(window_every=6),
    "gemma4": Family(window_every=6, beside="intermediate_size"),
    "gpt_oss": Family(window_every=2),
    "llama4": Family(dense_width="intermediate_size_mlp", shared=1, window_every=4, chunk=8192),
    "qwen3_next": Family(linear_every=4, gated=True),
    **dict.fromkeys(("qwen3_5", "qwen3_5_moe"), Family(linear_every=4, gated=True)),
    "nemotron_h": Family(matrices=2),
    "afmoe": Family(window_every=4, gated=True),
}  # fmt: skip


def family_of(model_type: str | None) -> Family | None:
    """Return the family of a `model_type`, None for one that is not known."""
    return FAMILIES.get((model_type or "").removesuffix("_text"))


def pattern_of(keys: Keys) -> str:
    """Return a letter a layer where each is one part only: ``M*E-``, ``?`` for another word."""
    words = keys.words("layers_block_type")
    if {"moe", "mlp"} & set(words):
        return "".join(_LETTERS.get(word, "?") for word in words)
    return keys.text("hybrid_override_pattern")


def layers_of(keys: Keys) -> int | None:
    """Return the number of layers."""
    return keys.first("num_hidden_layers", "num_layers") or len(pattern_of(keys)) or None


def sparse_layers(keys: Keys, layers: int) -> tuple[int, ...]:
    """Return the layers that hold experts, by whichever rule the configuration states."""
    pattern = pattern_of(keys)
    if pattern:
        return tuple(k for k, letter in enumerate(pattern[:layers]) if letter == "E")
    words = keys.words("mlp_layer_types")
    if words:
        return tuple(k for k, word in enumerate(words[:layers]) if word == "sparse")
    named = keys.numbers("moe_layers") or keys.listed("moe_layers_enum")
    if named:
        return tuple(sorted(k for k in set(named) if 0 <= k < layers))
    every = keys.numbers("moe_layer_freq") or keys.flags("is_moe_layer")
    if len(every) > 1:
        return tuple(k for k, on in enumerate(every[:layers]) if on)
    return tuple(k for k in range(layers) if _is_sparse(keys, k, layers))


def _is_sparse(keys: Keys, layer: int, layers: int) -> bool:
    start = keys.first("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index") or 0
    last = keys.first("moe_layer_end_index")
    end = layers if last is None or last < 0 else last + 1
    # `step` counts layers from 1, `interval` from 0, `period` from an offset.
    step = keys.first("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_interval") or 1
    interval = (*keys.numbers("moe_layer_freq"), 1)[0] or 1
    period, offset = keys.first("expert_layer_period") or 1, keys.first("expert_layer_offset") or 0
    return (
        start <= layer < end
        and layer not in keys.numbers("mlp_only_layers")
        and (layer + 1) % step == 0
        and layer % interval == 0
        and layer % period == offset % period
    )


def dense_layers(keys: Keys, layers: int, sparse: Sequence[int]) -> int:
    """Return the number of layers with a feed-forward part of their own and no experts."""
    pattern = pattern_of(keys)
    return pattern[:layers].count("-") if pattern else layers - len(sparse)


def shared_width(keys: Keys, family: Family, width: int) -> int:
    """Return the width of all shared experts of a layer, or of its dense part, together."""
    if family.beside:
        return keys.first(family.beside) or 0
    told = keys.first(
        "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size",
        "share_expert_dim", "shared_intermediate_size",
    )  # fmt: skip
    count = keys.first(
        "n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts"
    )
    if told is not None:
        return told
    return (family.shared if count is None else count) * width


def latent_width(keys: Keys) -> int:
    """Return the width of what experts compute on where it is not that of the layer, else 0."""
    return keys.first("moe_latent_size", "routed_expert_hidden_size") or 0


def mixers(keys: Keys, family: Family, layers: int, hidden: int) -> Iterator[Mixer]:
    """Yield what mixes the tokens of each layer."""
    ratios = keys.numbers("compress_ratios")
    if ratios:
        kept_of = {ratio: _compressed(keys, hidden, ratio) for ratio in set(ratios)}
        yield from (kept_of[ratio] for ratio in ratios[:layers])
        return
    made: dict[str, Callable[[], Mixer]] = {
        "full": lambda: _attention(keys, family, hidden),
        "window": lambda: _attention(keys, family, hidden, window=True),
        "linear": lambda: _linear(keys, hidden),
        "mamba": lambda: _mamba(keys, hidden),
        "conv": lambda: _convolution(keys, hidden),
        "none": lambda: Mixer(0),
    }
    kept: dict[str, Mixer] = {}
    for kind in kinds(keys, family, layers):
        if kind not in kept:
            kept[kind] = made[kind]()
        yield kept[kind]


def window_of(keys: Keys, family: Family) -> int:
    """Return the tokens of a window."""
    return keys.first("sliding_window", "attention_chunk_size") or family.chunk


def kinds(keys: Keys, family: Family, layers: int) -> Iterator[str]:
    """Yield the kind of mixer of each layer: full, window, linear, mamba, conv or none."""
    pattern = pattern_of(keys)
    if pattern:
        words: Sequence[str] = pattern
    else:
        words = keys.words("layer_types") or keys.words("layers_block_type")
    mamba = "mamba" if keys.first("mamba_num_heads", "mamba_n_heads") else "linear"
    window = bool(window_of(keys, family))
    words = words or list(_numbered(keys, layers))
    period, offset = keys.first("attn_layer_period"), keys.first("attn_layer_offset") or 0
    every = keys.first("global_attn_every_n_layers") or family.window_every
    for k in range(layers):
        if k < len(words):
            word = words[k]
            if word in _WINDOW:
                yield "window" if window else "full"
            elif word in _LINEAR:
                yield mamba if word in ("M", "mamba", "mamba2") else "linear"
            elif word == "conv":
                yield "conv"
            else:
                yield "full" if word in _FULL or not pattern else "none"
            continue
        interval = keys.first("full_attention_interval") or family.linear_every
        if period:
            yield "full" if k % period == offset % period else "mamba"
        elif interval:
            yield "full" if (k + 1) % interval == 0 else "linear"
        else:
            last = every and (k + 1) % every == 0
            yield "window" if every and window and not last else "full"


def _numbered(keys: Keys, layers: int) -> Iterator[str]:
    """Yield the kind of each layer where numbers tell it: MiMo by ones, Kimi by layers from 1."""
    for near in keys.numbers("hybrid_layer_pattern"):
        yield "sliding_attention" if near else "full_attention"
    full = set(keys.section("linear_attn_config").numbers("full_attn_layers"))
    for k in range(layers) if full else ():
        yield "full_attention" if k + 1 in full else "linear_attention"


def _attention(keys: Keys, family: Family, hidden: int, *, window: bool = False) -> Mixer:
    """Return attention with heads; those of a window, or of everything, may have own sizes."""

    def told(name: str) -> int | None:
        return keys.first(f"{'swa' if window else 'global'}_{name}", name)

    heads = told("num_attention_heads") or 1
    rank = keys.first("kv_lora_rank")
    if rank:
        return _latent(keys, hidden, heads, rank)
    own = None if window else keys.first("num_global_key_value_heads")
    shared = own or told("num_key_value_heads") or keys.first("num_attention_groups") or heads
    head = told("head_dim") or keys.first("attention_head_dim") or hidden // heads
    value = told("v_head_dim") or head
    query = heads * head * (2 if family.gated else 1)
    made = 0 if keys.yes("attention_k_eq_v") and not window else value  # values that are keys
    weights = hidden * (query + heads * value + shared * (head + made))
    return Mixer(weights, shared * (head + value), window)


def _compressed(keys: Keys, hidden: int, ratio: int) -> Mixer:
    """Return attention of DeepSeek-V4: one head is key and value of the latest tokens.

    Of all tokens, `ratio` are kept as one such head; where that is 4, an indexer with heads of its
    own chooses among them. Projections back are low, and in groups.
    """
    heads, head = keys.first("num_attention_heads") or 1, keys.first("head_dim") or 512
    low, back = keys.first("q_lora_rank") or 1024, keys.first("o_lora_rank") or 1024
    groups = keys.first("o_groups") or 1
    indexed, width = keys.first("index_n_heads") or 0, keys.first("index_head_dim") or 0
    keys.first("num_key_value_heads", "qk_rope_head_dim")  # say nothing here
    weights = hidden * (low + head) + low * heads * head
    weights += heads * head * back + groups * back * hidden
    if ratio <= 0:
        return Mixer(weights, head, window=True)
    # Entries overlap where they are of 4 tokens: values and their weights have both halves.
    fine = ratio == 4
    weights += 2 * (1 + fine) * hidden * head
    if not fine:
        return Mixer(weights, head // ratio, recent=head)
    weights += low * indexed * width + hidden * indexed + 4 * hidden * width
    return Mixer(weights, (head + width) // ratio, recent=head)


def _latent(keys: Keys, hidden: int, heads: int, rank: int) -> Mixer:
    """Return multi-head latent attention: keys and values are kept as one latent."""
    keys.first("num_key_value_heads", "head_dim")  # say nothing here
    rotated, plain = keys.first("qk_rope_head_dim") or 64, keys.first("qk_nope_head_dim") or 128
    value, low = keys.first("v_head_dim") or 128, keys.first("q_lora_rank")
    query = heads * (rotated + plain)
    weights = hidden * low + low * query if low else hidden * query
    weights += hidden * (rank + rotated) + rank * heads * (plain + value) + heads * value * hidden
    values = rank + rotated
    indexed, width = keys.first("index_n_heads"), keys.first("index_head_dim") or 128
    if indexed:
        weights += (low or hidden) * indexed * width + hidden * (width + indexed)
        values += width
    return Mixer(weights, values)


def _linear(keys: Keys, hidden: int) -> Mixer:
    """Return a gated delta net (Qwen3-Next, Qwen3.5), or Kimi's, whose gates are low."""
    delta = keys.section("linear_attn_config")
    if many := delta.first("num_heads"):
        low = delta.first("head_dim") or 128
        inner, taps = many * low, delta.first("short_conv_kernel_size") or 4
        weights = 4 * hidden * inner + 2 * low * (hidden + inner) + hidden * many + 3 * inner * taps
        return Mixer(weights, state=3 * inner * (taps - 1) + inner * low)
    heads, key = keys.first("linear_num_key_heads") or 16, keys.first("linear_key_head_dim") or 128
    wide = keys.first("linear_num_value_heads") or 32
    value, kernel = keys.first("linear_value_head_dim") or 128, keys.first("linear_conv_kernel_dim")
    keyed, valued = heads * key, wide * value
    mixed = 2 * keyed + valued
    weights = hidden * (mixed + valued + 2 * wide) + valued * hidden + mixed * (kernel or 4)
    return Mixer(weights, state=((kernel or 4) - 1) * mixed + wide * key * value)


def _mamba(keys: Keys, hidden: int) -> Mixer:
    """Return a layer of Mamba 2 (Nemotron-H, Granite 4), or of Mamba 1 (Jamba)."""
    if rank := keys.first("mamba_dt_rank"):
        return _first_mamba(keys, hidden, rank)
    heads = keys.first("mamba_num_heads", "mamba_n_heads") or 1
    inner = heads * (keys.first("mamba_head_dim", "mamba_d_head") or 64)
    groups = keys.first("n_groups", "mamba_n_groups") or 8
    state = keys.first("ssm_state_size", "mamba_d_state") or 128
    kernel = keys.first("conv_kernel", "mamba_d_conv") or 4
    mixed = inner + 2 * groups * state
    weights = hidden * (inner + mixed + heads) + inner * hidden + mixed * kernel
    return Mixer(weights, state=(kernel - 1) * mixed + state * inner)


def _first_mamba(keys: Keys, hidden: int, rank: int) -> Mixer:
    inner = hidden * (keys.first("mamba_expand") or 2)
    state, taps = keys.first("mamba_d_state") or 16, keys.first("mamba_d_conv") or 4
    weights = inner * (3 * hidden + 2 * rank + 3 * state + taps)
    return Mixer(weights, state=inner * (state + taps - 1))


def _convolution(keys: Keys, hidden: int) -> Mixer:
    """Return a short convolution (LFM2)."""
    kernel = keys.first("conv_L_cache") or 3
    return Mixer(4 * hidden * hidden + hidden * kernel, state=hidden * (kernel - 1))
