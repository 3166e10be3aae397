"""The device map in transformers: a tiny model with its experts on disk says the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_plans import make_plan, tier

from moe2opt.placement.export import export

pytestmark = [
    pytest.mark.slow,
    # These packages warn about their own future.
    pytest.mark.filterwarnings("ignore"),
]

LAYERS, EXPERTS = 4, 4
COMMON = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": LAYERS, "vocab_size": 64,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "num_experts_per_tok": 2,
}  # fmt: skip
KINDS = {
    "mixtral": ("Mixtral-tiny", {"num_local_experts": EXPERTS}),
    "qwen3_moe": ("Qwen3-tiny", {"num_experts": EXPERTS, "moe_intermediate_size": 16}),
}


def tiny(kind: str) -> Any:
    """Return a random model of a kind, built from a configuration alone."""
    torch = pytest.importorskip("torch", reason="runs a model: needs torch")
    pytest.importorskip("accelerate", reason="runs a device map: needs accelerate")
    transformers = pytest.importorskip("transformers", reason="runs a model: needs transformers")
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **COMMON, **KINDS[kind][1])
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def spoken(model: Any) -> tuple[Any, Any]:
    """Return logits of a prompt, and the tokens that are generated after it."""
    import torch

    prompt = torch.arange(1, 9).reshape(1, -1)
    with torch.no_grad():
        logits = model(prompt).logits
        mask = torch.ones_like(prompt)
        tokens = model.generate(prompt, attention_mask=mask, max_new_tokens=8, do_sample=False)
    return logits, tokens


def device_map(kind: str) -> tuple[dict[str, Any], list[int]]:
    """Return an exported map with the experts of layers 1 and 2 on disk."""
    where = np.zeros((LAYERS, EXPERTS), dtype=np.int64)
    where[1:3] = 1
    tiers = (tier("dram", "cpu", 90.0), tier("nvme", "disk", None))
    (made,) = export(make_plan(where, tiers=tiers, model=KINDS[kind][0]), "accelerate")
    return json.loads(made.text), [1, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_dispatched_model_says_the_same(kind: str, tmp_path: Path) -> None:
    """Dispatched by the map, exactly the planned experts are on disk, and the logits are equal."""
    model = tiny(kind)
    logits, tokens = spoken(model)
    mapping, away = device_map(kind)
    from accelerate import dispatch_model

    placed = dispatch_model(model, mapping, main_device="cpu", offload_dir=tmp_path / "offload")
    on_disk = {name for name, weight in placed.named_parameters() if weight.device.type == "meta"}
    assert on_disk == {
        f"model.layers.{layer}.mlp.experts.{part}"
        for layer in away
        for part in ("gate_up_proj", "down_proj")
    }
    again, after = spoken(placed)
    assert (again == logits).all()
    assert (after == tokens).all()


@pytest.mark.parametrize("kind", KINDS)
def test_loaded_model_says_the_same(kind: str, tmp_path: Path) -> None:
    """Loaded from files with the map as `device_map`, the model gives equal logits and tokens."""
    import transformers

    model = tiny(kind)
    logits, tokens = spoken(model)
    model.save_pretrained(tmp_path / "model")
    mapping, away = device_map(kind)
    placed = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "model", device_map=mapping, offload_folder=tmp_path / "offload"
    ).eval()
    on_disk = {name for name, weight in placed.named_parameters() if weight.device.type == "meta"}
    assert {int(name.split(".")[2]) for name in on_disk} == set(away)
    assert all(".mlp.experts." in name for name in on_disk)
    again, after = spoken(placed)
    assert (again - logits).abs().max() <= 1e-6
    assert (after == tokens).all()


SMALL = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "vocab_size": 64,
    "num_key_value_heads": 2, "intermediate_size": 32, "head_dim": 16, "num_experts_per_tok": 2,
    "moe_intermediate_size": 16, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
}  # fmt: skip
LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
          "v_head_dim": 8}  # fmt: skip
FAMILIES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "mixtral": ("Mixtral-8x7B", 0, {"num_local_experts": 4}),
    "qwen2_moe": ("Qwen2-57B", 0, {"num_experts": 4, "shared_expert_intermediate_size": 16}),
    "qwen3_moe": ("Qwen3-30B-A3B", 0, {"num_experts": 4}),
    "qwen3_next": ("Qwen3-Next-80B-A3B", 0, {"num_experts": 4}),
    "olmoe": ("OLMoE-1B-7B", 0, {"num_experts": 4}),
    "gpt_oss": ("gpt-oss-20b", 0, {"num_local_experts": 4}),
    "glm4_moe": ("GLM-4.5-Air", 1, {"n_routed_experts": 4}),
    "deepseek_v3": ("DeepSeek-V3", 1, {"n_routed_experts": 4, **LATENT}),
}


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("known", [True, False])
def test_maps_cover_every_parameter(kind: str, known: bool) -> None:
    """The map of each family, and that of an unknown name, covers all parameters of its model."""
    torch = pytest.importorskip("torch", reason="builds a model: needs torch")
    accelerate = pytest.importorskip("accelerate", reason="checks a map: needs accelerate")
    transformers = pytest.importorskip("transformers", reason="builds a model: needs transformers")
    name, first, more = FAMILIES[kind]
    config = transformers.AutoConfig.for_model(kind, **SMALL, **more)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    where = np.ones((3 - first, 4), dtype=np.int64)
    where[-1] = 0
    tiers = (tier("vram", "gpu", 90.0), tier("dram", "cpu", 90.0))
    plan = make_plan(where, tiers=tiers, model=name if known else "novel", first_layer=first)
    mapping = json.loads(export(plan, "accelerate")[0].text)
    accelerate.utils.modeling.check_device_map(model, mapping)
    modules = {module for module, _ in model.named_modules()}
    assert not known or set(mapping) - modules <= {
        f"model.layers.{layer}.{mixer}"
        for layer in range(3)
        for mixer in ("self_attn", "linear_attn")
    }


def test_switch_transformers_from_files(tmp_path: Path) -> None:
    """A tiny Switch Transformer with single experts on disk gives equal logits."""
    torch = pytest.importorskip("torch", reason="runs a model: needs torch")
    pytest.importorskip("accelerate", reason="runs a device map: needs accelerate")
    transformers = pytest.importorskip("transformers", reason="runs a model: needs transformers")
    torch.manual_seed(0)
    config = transformers.SwitchTransformersConfig(
        d_model=32, d_kv=8, d_ff=32, num_layers=4, num_decoder_layers=4, num_heads=4,
        num_sparse_encoder_layers=2, num_sparse_decoder_layers=2, num_experts=4, vocab_size=64,
        decoder_start_token_id=0,
    )  # fmt: skip
    model = transformers.SwitchTransformersForConditionalGeneration(config).eval()
    words = {
        "input_ids": torch.arange(1, 9).reshape(1, -1),
        "decoder_input_ids": torch.ones(1, 3, dtype=torch.long),
    }
    with torch.no_grad():
        logits = model(**words).logits
    model.save_pretrained(tmp_path / "model")
    where = [[0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
    tiers = (tier("dram", "cpu", 90.0), tier("nvme", "disk", None))
    plan = replace(
        make_plan(where, tiers=tiers, model="Switch-Base-4"), layers=(1, 3, 5, 7), n_layers=8
    )
    (made,) = export(plan, "accelerate")
    placed = (
        type(model)
        .from_pretrained(
            tmp_path / "model",
            device_map=json.loads(made.text),
            offload_folder=tmp_path / "offload",
        )
        .eval()
    )
    on_disk = {name for name, weight in placed.named_parameters() if weight.device.type == "meta"}
    assert len(on_disk) == 2 * np.sum(where)
    with torch.no_grad():
        assert (placed(**words).logits - logits).abs().max() <= 1e-6
