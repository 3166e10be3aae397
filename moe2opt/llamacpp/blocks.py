"""Names and shapes of the tensors of each block, as `convert_hf_to_gguf.py` writes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from moe2opt.huggingface.families import Family, latent_width, pattern_of
from moe2opt.huggingface.keys import Keys
from moe2opt.llamacpp.filetypes import Shaped


@dataclass(frozen=True, slots=True)
class Written:
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


@dataclass(frozen=True, slots=True)
class HfModel:
    """What the tensors of all layers are made from."""

    keys: Keys
    family: Family
    written: Written
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
        return self.keys.first(*self.family.dense_widths) or self.width


def block_tensors(model: HfModel) -> Iterator[Shaped]:
    """Yield the tensors of all blocks."""
    made = {
        "full": _attention, "window": _attention, "linear": _linear, "mamba": _mamba,
        "conv": _convolution,
    }  # fmt: skip
    pattern = pattern_of(model.keys)
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


def _attention(model: HfModel) -> _Shapes:
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


def _latent(model: HfModel, rank: int) -> _Shapes:
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


def _linear(model: HfModel) -> _Shapes:
    keyed, valued, kernel, _, heads = linear_sizes(model.keys)
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


def _mamba(model: HfModel) -> _Shapes:
    inner, groups, state, kernel, heads = mamba_sizes(model.keys)
    mixed = inner + 2 * groups * state
    yield "ssm_in.weight", (model.hidden, inner + mixed + heads)
    yield "ssm_conv1d.weight", (kernel, mixed)
    yield "ssm_conv1d.bias", (mixed,)
    yield "ssm_dt.bias", (heads,)
    yield "ssm_a", (1, heads)
    yield "ssm_d", (1, heads)
    yield "ssm_norm.weight", (inner // groups, groups)
    yield "ssm_out.weight", (inner, model.hidden)


def _convolution(model: HfModel) -> _Shapes:
    hidden, kernel = model.hidden, model.keys.first("conv_L_cache") or 3
    yield "shortconv.conv.weight", (kernel, hidden)
    yield "shortconv.in_proj.weight", (hidden, 3 * hidden)
    yield "shortconv.out_proj.weight", (hidden, hidden)


def _dense(model: HfModel, width: int, suffix: str) -> _Shapes:
    """Yield the matrices of a feed-forward part."""
    if model.family.matrices > 2:
        yield f"ffn_gate{suffix}.weight", (model.hidden, width)
    yield f"ffn_up{suffix}.weight", (model.hidden, width)
    yield f"ffn_down{suffix}.weight", (width, model.hidden)


def _moe(model: HfModel) -> _Shapes:
    yield "ffn_gate_inp.weight", (model.hidden, model.experts)
    if model.written.chosen:
        yield "exp_probs_b.bias", (model.experts,)
    latent = latent_width(model.keys)
    if latent:
        yield "ffn_latent_down.weight", (model.hidden, latent)
        yield "ffn_latent_up.weight", (latent, model.hidden)
    for name, shape in _dense(replace(model, hidden=latent or model.hidden), model.width, "_exps"):
        yield name, (*shape, model.experts)
        if model.written.architecture == "gpt-oss":
            yield name.replace("weight", "bias"), (shape[1], model.experts)
    if model.written.architecture == "gpt-oss":
        yield "ffn_gate_inp.bias", (model.experts,)
    if model.shared:
        yield from _dense(model, model.shared, "_shexp")
        if model.written.architecture.startswith("qwen"):
            yield "ffn_gate_inp_shexp.weight", (model.hidden,)


def mamba_sizes(keys: Keys) -> tuple[int, int, int, int, int]:
    """Return inner width, groups, state, kernel and heads of Mamba 2."""
    heads = keys.first("mamba_num_heads", "mamba_n_heads") or 1
    return (
        heads * (keys.first("mamba_head_dim", "mamba_d_head") or 64),
        keys.first("n_groups", "mamba_n_groups") or 8,
        keys.first("ssm_state_size", "mamba_d_state") or 128,
        keys.first("conv_kernel", "mamba_d_conv") or 4,
        heads,
    )


def linear_sizes(keys: Keys) -> tuple[int, int, int, int, int]:
    """Return widths of keys and values, kernel, width of a key and heads of a gated delta net."""
    key = keys.first("linear_key_head_dim") or 128
    heads = keys.first("linear_num_value_heads") or 32
    keyed = (keys.first("linear_num_key_heads") or 16) * key
    valued = heads * (keys.first("linear_value_head_dim") or 128)
    return keyed, valued, keys.first("linear_conv_kernel_dim") or 4, key, heads
