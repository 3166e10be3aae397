"""Configurations of public families, cut to their keys of sizes, against what is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moe2opt.placement.model.files import shape_from_files
from moe2opt.placement.model.shape import ModelShape, builtin_table, shape_from_table
from moe2opt.placement.sections import Model
from moe2opt.result import InputError

PERIOD = ["linear_attention"] * 3 + ["full_attention"]
LATENT = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128}

#: Keys, layers with experts, weights in units of 1e9, values of context per token, shared width.
CONFIGS: dict[str, tuple[dict[str, Any], int, float, int]] = {
    "llama4 maverick": (
        {"model_type": "llama4_text", "num_hidden_layers": 48, "hidden_size": 5120,
         "interleave_moe_layer_step": 2, "intermediate_size": 8192, "intermediate_size_mlp": 16384,
         "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128,
         "num_local_experts": 128, "num_experts_per_tok": 1, "vocab_size": 202048},
        24, 400, 12 * 2048),
    "llama4 scout": (
        {"model_type": "llama4_text", "num_hidden_layers": 48, "hidden_size": 5120,
         "interleave_moe_layer_step": 1, "intermediate_size": 8192, "intermediate_size_mlp": 16384,
         "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128,
         "num_local_experts": 16, "num_experts_per_tok": 1, "vocab_size": 202048},
        48, 107.8, 12 * 2048),
    "nemotron nano": (
        {"model_type": "nemotron_h", "num_hidden_layers": 52, "hidden_size": 2688,
         "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
         "intermediate_size": 1856, "moe_intermediate_size": 1856, "mamba_head_dim": 64,
         "mamba_num_heads": 64, "moe_shared_expert_intermediate_size": 3712, "head_dim": 128,
         "n_routed_experts": 128, "n_shared_experts": 1, "num_experts_per_tok": 6,
         "num_attention_heads": 32, "num_key_value_heads": 2, "vocab_size": 131072},
        23, 31.6, 6 * 512),
    # Experts compute on a latent of 1024; the file holds ``Infinity``, as transformers writes it.
    "nemotron super": (
        {"model_type": "nemotron_h", "num_hidden_layers": 88, "hidden_size": 4096,
         "hybrid_override_pattern": "MEMEMEM*EMEMEMEM*EMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*"
         "EMEMEMEMEM*EMEMEMEM*EMEMEMEME", "time_step_limit": [0.0, float("inf")],
         "intermediate_size": 2688, "moe_intermediate_size": 2688, "moe_latent_size": 1024,
         "mamba_head_dim": 64, "mamba_num_heads": 128, "moe_shared_expert_intermediate_size": 5376,
         "head_dim": 128, "n_routed_experts": 512, "n_shared_experts": 1, "n_groups": 8,
         "num_experts_per_tok": 22, "num_attention_heads": 32, "num_key_value_heads": 2,
         "mtp_hybrid_override_pattern": "*E", "vocab_size": 131072},
        40, 120.6, 8 * 512),
    # A word a layer, and no number of layers.
    "nemotron lightning": (
        {"model_type": "nemotron_h", "hidden_size": 2688, "layers_block_type": [
            {"M": "mamba", "*": "attention", "E": "moe"}[letter]
            for letter in "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"],
         "intermediate_size": 1856, "moe_intermediate_size": 1856, "mamba_head_dim": 64,
         "mamba_num_heads": 64, "moe_shared_expert_intermediate_size": 3712, "head_dim": 128,
         "n_routed_experts": 128, "n_shared_experts": 1, "num_experts_per_tok": 6,
         "moe_latent_size": None, "mtp_layers_block_type": ["attention", "moe"],
         "num_attention_heads": 32, "num_key_value_heads": 2, "vocab_size": 131072},
        23, 31.6, 6 * 512),
    "ling lite": (
        {"model_type": "bailing_moe", "num_hidden_layers": 28, "hidden_size": 2048,
         "first_k_dense_replace": 0, "intermediate_size": 1408, "moe_intermediate_size": 1408,
         "num_experts": 64, "num_shared_experts": 2, "num_experts_per_tok": 6,
         "num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": 126464},
        28, 16.8, 28 * 1024),
    "hunyuan": (
        {"model_type": "hunyuan_v1_moe", "num_hidden_layers": 32, "hidden_size": 4096,
         "intermediate_size": 3072, "num_experts": 64, "moe_intermediate_size": [3072] * 2,
         "moe_topk": [8, 8], "num_shared_expert": [1, 1], "num_attention_heads": 32,
         "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128167,
         "tie_word_embeddings": True},
        32, 80.4, 32 * 2048),
    "ernie": (
        {"model_type": "ernie4_5_moe", "num_hidden_layers": 28, "hidden_size": 2560,
         "intermediate_size": 12288, "moe_intermediate_size": 1536, "moe_num_experts": 64,
         "moe_num_shared_experts": 2, "moe_k": 6, "moe_layer_start_index": 1,
         "moe_layer_end_index": 27, "moe_layer_interval": 1, "num_attention_heads": 20,
         "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 103424,
         "tie_word_embeddings": True},
        27, 21.8, 28 * 1024),
    "deepseek r1": (
        {"model_type": "deepseek_v3", "num_hidden_layers": 61, "hidden_size": 7168,
         "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_attention_heads": 128,
         "num_key_value_heads": 128, "n_routed_experts": 256, "num_experts_per_tok": 8,
         "n_shared_experts": 1, "first_k_dense_replace": 3, "q_lora_rank": 1536,
         "vocab_size": 129280, "moe_layer_freq": 1, **LATENT},
        58, 671, 61 * 576),
    "qwen3.5": (
        {"model_type": "qwen3_5_moe_text", "num_hidden_layers": 40, "hidden_size": 2048,
         "moe_intermediate_size": 512, "num_attention_heads": 16, "num_key_value_heads": 2,
         "head_dim": 256, "num_experts": 256, "num_experts_per_tok": 8,
         "shared_expert_intermediate_size": 512, "layer_types": PERIOD * 10, "vocab_size": 248320},
        40, 34.7, 10 * 1024),
    # One head is key and value, in windows and compressed; projections back are low.
    "deepseek v4 flash": (
        {"model_type": "deepseek_v4", "num_hidden_layers": 43, "hidden_size": 4096,
         "moe_intermediate_size": 2048, "n_routed_experts": 256, "n_shared_experts": 1,
         "num_experts_per_tok": 6, "num_attention_heads": 64, "num_key_value_heads": 1,
         "head_dim": 512, "q_lora_rank": 1024, "o_lora_rank": 1024, "o_groups": 8,
         "qk_rope_head_dim": 64, "index_n_heads": 64, "index_head_dim": 128, "index_topk": 512,
         "num_hash_layers": 3, "sliding_window": 128, "vocab_size": 129280,
         "compress_ratios": [0, 0, *[4, 128] * 20, 4, 0]},
        43, 284, 21 * 160 + 20 * 4),
    "deepseek v4 pro": (
        {"model_type": "deepseek_v4", "num_hidden_layers": 61, "hidden_size": 7168,
         "moe_intermediate_size": 3072, "n_routed_experts": 384, "n_shared_experts": 1,
         "num_experts_per_tok": 6, "num_attention_heads": 128, "num_key_value_heads": 1,
         "head_dim": 512, "q_lora_rank": 1536, "o_lora_rank": 1024, "o_groups": 16,
         "index_n_heads": 64, "index_head_dim": 128, "sliding_window": 128, "vocab_size": 129280,
         "compress_ratios": [128, 128, *[4, 128] * 29, 4, 0]},
        61, 1573, 30 * 160 + 31 * 4),
    # Layers with experts have a dense part, too; those that attend to everything have own heads.
    "gemma 4": (
        {"model_type": "gemma4", "text_config": {
            "model_type": "gemma4_text", "num_hidden_layers": 30, "hidden_size": 2816,
            "intermediate_size": 2112, "moe_intermediate_size": 704, "num_experts": 128,
            "top_k_experts": 8, "num_attention_heads": 16, "num_key_value_heads": 8,
            "head_dim": 256, "num_global_key_value_heads": 2, "global_head_dim": 512,
            "attention_k_eq_v": True, "sliding_window": 1024, "tie_word_embeddings": True,
            "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 5,
            "vocab_size_per_layer_input": 262144, "vocab_size": 262144}},
        30, 25.2, 5 * 2048),
    "kimi linear": (
        {"model_type": "kimi_linear", "num_hidden_layers": 27, "hidden_size": 2304,
         "intermediate_size": 9216, "moe_intermediate_size": 1024, "num_experts": 256,
         "num_experts_per_token": 8, "num_shared_experts": 1, "first_k_dense_replace": 1,
         "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 72,
         "kv_lora_rank": 512, "q_lora_rank": None, "qk_nope_head_dim": 128,
         "qk_rope_head_dim": 64, "v_head_dim": 128, "moe_layer_freq": 1, "vocab_size": 163840,
         "linear_attn_config": {"full_attn_layers": [4, 8, 12, 16, 20, 24, 27], "head_dim": 128,
                                "num_heads": 32, "short_conv_kernel_size": 4}},
        26, 49.1, 7 * 576),
    "trinity mini": (
        {"model_type": "afmoe", "num_hidden_layers": 32, "hidden_size": 2048,
         "intermediate_size": 6144, "moe_intermediate_size": 1024, "num_experts": 128,
         "num_experts_per_tok": 8, "num_shared_experts": 1, "num_dense_layers": 2,
         "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
         "global_attn_every_n_layers": 4, "sliding_window": 2048, "vocab_size": 200192},
        30, 26.1, 8 * 1024),
    "k-exaone": (
        {"model_type": "exaone_moe", "num_hidden_layers": 48, "hidden_size": 6144,
         "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_experts": 128,
         "num_experts_per_tok": 8, "num_shared_experts": 1, "num_attention_heads": 64,
         "num_key_value_heads": 8, "head_dim": 128, "sliding_window": 128,
         "layer_types": (["sliding_attention"] * 3 + ["full_attention"]) * 12,
         "is_moe_layer": [False] + [True] * 47, "vocab_size": 153600},
        47, 236, 12 * 2048),
    # Every second layer has experts, every eighth attends, the others are Mamba 1.
    "jamba mini": (
        {"model_type": "jamba", "num_hidden_layers": 32, "hidden_size": 4096,
         "intermediate_size": 14336, "num_experts": 16, "num_experts_per_tok": 2,
         "expert_layer_period": 2, "expert_layer_offset": 1, "attn_layer_period": 8,
         "attn_layer_offset": 4, "num_attention_heads": 32, "num_key_value_heads": 8,
         "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_dt_rank": 256,
         "vocab_size": 65536},
        16, 51.6, 4 * 2048),
    "mimo v2 flash": (
        {"model_type": "mimo_v2_flash", "num_hidden_layers": 48, "hidden_size": 4096,
         "intermediate_size": 16384, "moe_intermediate_size": 2048, "n_routed_experts": 256,
         "num_experts_per_tok": 8, "moe_layer_freq": [0] + [1] * 47, "num_attention_heads": 64,
         "num_key_value_heads": 4, "head_dim": 192, "v_head_dim": 128, "sliding_window": 128,
         "sliding_window_size": 128, "swa_num_attention_heads": 64, "swa_num_key_value_heads": 8,
         "swa_head_dim": 192, "swa_v_head_dim": 128, "vocab_size": 152576,
         "hybrid_layer_pattern": [0] + [1, 1, 1, 1, 0] + [1, 1, 1, 1, 1, 0] * 7},
        47, 309, 9 * 4 * 320),
    "gpt-oss": (
        {"model_type": "gpt_oss", "num_hidden_layers": 36, "hidden_size": 2880,
         "intermediate_size": 2880, "num_attention_heads": 64, "num_key_value_heads": 8,
         "head_dim": 64, "num_local_experts": 128, "experts_per_token": 4, "sliding_window": 128,
         "layer_types": ["sliding_attention", "full_attention"] * 18, "vocab_size": 201088},
        36, 116.8, 18 * 1024),
}  # fmt: skip


def shape_of(folder: Path, keys: dict[str, Any], bits: float = 8) -> ModelShape:
    """Return the shape of a configuration; a dense weight has `bits`."""
    (folder / "config.json").write_text(json.dumps(keys))
    return shape_from_files("hf", folder, Model(hf="x", dense_bits=bits))


def weights_of(shape: ModelShape) -> float:
    """Return the weights of a shape whose dense ones have 8 bits."""
    return shape.dense_bytes + len(shape.layers) * shape.experts * shape.params_per_expert


@pytest.mark.parametrize("name", CONFIGS)
def test_a_family_has_its_published_weights(tmp_path: Path, name: str) -> None:
    """Layers with experts, weights and context are as published, without a doubt."""
    keys, layers, weights, values = CONFIGS[name]
    shape = shape_of(tmp_path, keys)
    assert len(shape.layers) == layers
    assert weights_of(shape) / 1e9 == pytest.approx(weights, rel=0.006)
    assert shape.kv_bytes_per_token == 2 * values
    assert "CHECK" not in shape.note


def test_window_layers_have_room_for_their_window(tmp_path: Path) -> None:
    """A window layer takes the window and a micro-batch, and reads the window only."""
    shape = shape_of(tmp_path, CONFIGS["gpt-oss"][0])
    each = 18 * 1024 * 2
    assert shape.context_bytes(131072) == each * (131072 + 128 + 512)
    assert shape.context_bytes(100) == each * 200
    assert shape.context_read_bytes(1000) == each * 1128


@pytest.mark.parametrize(
    ("rule", "layers"),
    [
        ({"moe_layers_enum": "2,3,5"}, (2, 3, 5)),
        ({"moe_layer_freq": [0, 1, 1, 0, 0, 1]}, (1, 2, 5)),
        ({"moe_layer_freq": 2}, (0, 2, 4)),
        ({"mlp_layer_types": ["dense"] * 4 + ["sparse"] * 2}, (4, 5)),
        ({"expert_layer_period": 2, "expert_layer_offset": 1}, (1, 3, 5)),
        ({"num_dense_layers": 4}, (4, 5)),
        ({"moe_layer_start_index": 1, "moe_layer_end_index": 4, "moe_layer_interval": 2}, (1, 3)),
    ],
)
def test_words_for_layers_with_experts(
    tmp_path: Path, rule: dict[str, Any], layers: tuple[int, ...]
) -> None:
    """Each family's own rule says which layers hold experts."""
    keys = {**CONFIGS["ling lite"][0], "num_hidden_layers": 6}
    keys = {k: v for k, v in keys.items() if k != "first_k_dense_replace"} | rule
    assert shape_of(tmp_path, keys).layers == layers


@pytest.mark.parametrize("key", ["share_expert_dim", "moe_shared_expert_intermediate_size",
                                 "shared_expert_intermediate_size"])  # fmt: skip
def test_words_for_shared_experts(tmp_path: Path, key: str) -> None:
    """A width of the shared experts counts under any of its names."""
    keys = {k: v for k, v in CONFIGS["ling lite"][0].items() if k != "num_shared_experts"}
    more = weights_of(shape_of(tmp_path, {**keys, key: 100}))
    assert more - weights_of(shape_of(tmp_path, keys)) == 28 * 3 * 2048 * 100


def test_an_unknown_family_is_said_loudly(tmp_path: Path) -> None:
    """A model_type that nobody knows, and keys of sizes that nobody reads, are told."""
    keys = CONFIGS["ling lite"][0]
    note = shape_of(tmp_path, {**keys, "model_type": "brand_new"}).note
    assert "CHECK THE SIZES: model_type 'brand_new' is not among the known families" in note
    note = shape_of(tmp_path, {**keys, "zero_expert_num": 4, "hidden_act": "silu"}).note
    assert "keys that speak of sizes are not read: zero_expert_num (16.8" in note
    with pytest.raises(InputError, match="moe_topk: 2 different numbers"):
        shape_of(tmp_path, {**CONFIGS["hunyuan"][0], "moe_topk": [8, 4]})


def test_the_index_contradicts(tmp_path: Path) -> None:
    """Computed weights are compared with the bytes of the index where these are not quantised."""
    keys = {**CONFIGS["ling lite"][0], "torch_dtype": "bfloat16"}
    index = tmp_path / "model.safetensors.index.json"
    for weights, doubted in ((16.8e9, False), (12e9, True)):
        index.write_text(json.dumps({"metadata": {"total_size": int(2 * weights)}}))
        note = shape_of(tmp_path, keys).note
        assert ("index.json holds 12e9" in note or "holds 12" in note) is doubted
    assert "holds" not in shape_of(tmp_path, {**keys, "quantization_config": {"bits": 4}}).note


def packed(folder: Path, kind: str) -> None:
    """Write two layers of four experts, 256 x 128, as public checkpoints of a kind hold them."""
    np = pytest.importorskip("numpy")
    save = pytest.importorskip("safetensors.numpy").save_file
    (folder / "config.json").write_text(json.dumps(
        {"model_type": "gpt_oss" if kind == "mxfp4" else "qwen3_moe", "num_hidden_layers": 2,
         "hidden_size": 256, "moe_intermediate_size": 128, "num_attention_heads": 4,
         "num_key_value_heads": 2, "head_dim": 64, "num_experts": 4, "num_experts_per_tok": 2,
         "vocab_size": 512, "num_nextn_predict_layers": 1}))  # fmt: skip
    tensors = {"lm_head.weight": np.zeros((512, 256), "f2"),
               "model.embed_tokens.weight": np.zeros((512, 256), "f2")}  # fmt: skip
    for layer in range(3):  # the last one predicts further tokens
        start = f"model.layers.{layer}.mlp.experts."
        if kind == "mxfp4":
            for name, rows, width in (("gate_up_proj", 256, 256), ("down_proj", 256, 128)):
                shape = (4, rows, width // 32)
                tensors[f"{start}{name}_blocks"] = np.zeros((*shape, 16), "u1")
                tensors[f"{start}{name}_scales"] = np.zeros(shape, "u1")
            continue
        for e in range(4):
            for name, rows, width in (("gate", 128, 256), ("up", 128, 256), ("down", 256, 128)):
                at = f"{start}{e}.{name}_proj."
                tensors[f"{at}qweight"] = np.zeros((width, rows // 8), "i4")
                tensors[f"{at}qzeros"] = np.zeros((width // 128, rows // 8), "i4")
                tensors[f"{at}scales"] = np.zeros((width // 128, rows), "f2")
    save(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(("kind", "bits"), [("awq", 4.15625), ("mxfp4", 4.25)])
def test_packed_elements_hold_several_weights(tmp_path: Path, kind: str, bits: float) -> None:
    """Weights are counted by the configuration's shape where elements hold several of them."""
    packed(tmp_path, kind)
    shape = shape_from_files("safetensors", tmp_path, Model(safetensors="x"))
    assert shape.params_per_expert == 3 * 256 * 128
    assert 8 * (shape.stored_bytes or 0) / shape.params_per_expert == bits
    assert shape.expert_bytes(8.5) == 3 * 256 * 128 * 8.5 / 8
    assert shape.layers == (0, 1)
    assert shape.dense_bytes == 2 * 2 * 512 * 256
    assert shape.table_bytes == 2 * 512 * 256
    assert "of layers that predict further tokens are not loaded" in shape.note


def test_a_table_tells_windows() -> None:
    """A row of the built-in table has the context of its configuration, windows apart."""
    table = builtin_table("models.csv")
    for name, keys in (("gpt-oss-120b", "gpt-oss"), ("DeepSeek-V3", "deepseek r1")):
        context = shape_from_table(table, name, 8, 16).context
        assert context is not None
        assert context.values == CONFIGS[keys][3]
        window = (18432, 128) if keys == "gpt-oss" else (0, 0)
        assert (context.window_values, context.window) == window
