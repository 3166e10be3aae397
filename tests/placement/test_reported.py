"""Placements that people reported, with the figures that were found to be right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moe2opt as mo
from moe2opt.placement import PlacementConfig, PlacementInstance, build
from moe2opt.placement.export import export

UNIFIED = {"name": "unified", "kind": "gpu", "capacity_gib": 96, "compute_gb_per_s": 256}


def asked(
    model: dict[str, Any],
    formats: str,
    *tiers: dict[str, Any],
    folder: Path = Path(),
    **more: Any,
) -> PlacementInstance:
    """Return a placement of whole layers whose tiers are all linked to the first one."""
    first, *others = [tier["name"] for tier in tiers]
    data = {
        "problem": "placement",
        "name": "reported",
        "model": model,
        "precisions": [{"name": name} for name in formats.split()],
        "granularity": "layer",
        "tiers": list(tiers),
        "links": [{"between": [first, other], "gb_per_s": 12} for other in others],
        "activation": {"uniform": True},
        **more,
    }
    return build(PlacementConfig.model_validate(data), folder)


def card(gib: float, rate: float, ram_rate: float, **own: Any) -> tuple[dict[str, Any], ...]:
    """Return a card with RAM beside it."""
    vram = {"name": "vram", "kind": "gpu", "capacity_gib": gib, "compute_gb_per_s": rate, **own}
    dram = {"name": "dram", "kind": "cpu", "capacity_gib": 512, "compute_gb_per_s": ram_rate}
    return vram, dram


def test_room_for_a_long_context_costs_memory_and_no_time() -> None:
    """Room for 131,072 tokens takes 4.5 GiB, as window layers keep a window, and not a moment."""
    plans = []
    for tokens in (0, 131072):
        model = {"table": "gpt-oss-120b", "dense_bits": 8.5, "context_tokens": tokens}
        plans.append(mo.solve(asked(model, "mxfp4", {**UNIFIED, "margin_gib": 4})).plan)
    empty, room = plans
    assert 1 / empty.seconds_per_token == pytest.approx(60.85, abs=0.01)
    assert room.seconds_per_token == empty.seconds_per_token
    assert room.tiers[0].used_gib == pytest.approx(63.40, abs=0.01)
    assert room.tiers[0].used_gib - empty.tiers[0].used_gib == pytest.approx(
        18 * 2048 * (131072 + 128 + 512) / 2**30
    )


def on_12_gib() -> PlacementInstance:
    """Return a card of 12 GiB with room for 4,096 tokens of context at 8.5 bits."""
    model = {"table": "Qwen3-30B-A3B", "dense_bits": 6.6, "context_tokens": 4096, "kv_bits": 8.5}
    return asked(model, "q4_k", *card(12, 360, 50, margin_gib=0.8))


def test_the_line_keeps_the_context_small_that_a_full_card_has_room_for() -> None:
    """A line without `-c` would take the model's own length: 14.5 GiB on a card of 12."""
    plan = mo.solve(on_12_gib()).plan
    assert plan.tiers[0].used_gib / 11.2 == pytest.approx(0.979, abs=0.001)
    assert " -c 4096 -ctk q8_0 -ctv q8_0 -fa on " in export(plan, "llama.cpp")[0].text


def test_rules_that_place_single_experts_do_not_move_them() -> None:
    """What beats a plan of whole layers on a card of 12 GiB is said to place single experts."""
    plan = mo.solve(on_12_gib()).plan
    better = {r.name for r in plan.baselines if r.feasible and r.excess < -1e-6}
    assert better == {"LFU residents per layer"}
    told = plan.summary()
    assert "it places single experts, which granularity: layer does not allow" in told
    assert "moves experts at run time" not in told


@pytest.mark.parametrize(
    ("name", "gib"), [*(("gpt-oss-120b", g) for g in (8, 12, 16, 24)),
                      *(("Qwen3-30B-A3B", g) for g in (16, 20, 24))]
)  # fmt: skip
def test_equal_layers_close_in_a_few_nodes(name: str, gib: float) -> None:
    """Dozens of equal layers on a card and RAM are one number, decided with a checked proof."""
    model = {"table": name, "dense_bits": 6.6, "context_tokens": 16384}
    instance = asked(model, "q4_k", *card(gib, 800, 42, margin_gib=1.5))
    result = mo.solve(instance, node_limit=50)
    verdict = mo.certify(instance, result)
    assert (result.status, verdict.ok, verdict.kind) == ("OPTIMAL", True, "checked")
    # No further layer has room on the card.
    left = gib - 1.5 - result.plan.tiers[0].used_gib
    assert 0 <= left < 128 * instance.expert_bytes[0] / 2**30 or not result.plan.tiers[1].experts


R1 = {
    "model_type": "deepseek_v3", "num_hidden_layers": 61, "hidden_size": 7168,
    "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_attention_heads": 128,
    "num_key_value_heads": 128, "n_routed_experts": 256, "num_experts_per_tok": 8,
    "n_shared_experts": 1, "first_k_dense_replace": 3, "kv_lora_rank": 512, "q_lora_rank": 1536,
    "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128, "vocab_size": 129280,
    "tie_word_embeddings": False,
}  # fmt: skip


def test_deepseek_fits_a_card_of_24_gib(tmp_path: Path) -> None:
    """Of DeepSeek-R1, 9.6 GB of dense weights and 1.1 GiB for 16,384 tokens lie on the card."""
    (tmp_path / "config.json").write_text(json.dumps(R1))
    fixed = []
    for tokens in (0, 16384):
        model = {"hf": ".", "dense_bits": 4.5, "context_tokens": tokens}
        instance = asked(model, "q2_k", *card(24, 900, 80), folder=tmp_path)
        fixed.append(float(instance.fixed_bytes[0]) / 2**30)
    assert fixed[0] * 2**30 / 1e9 == pytest.approx(9.6, abs=0.1)
    assert fixed[1] - fixed[0] == pytest.approx(16384 * 61 * 576 * 2 / 2**30)
    result = mo.solve(instance)
    assert result.status == "OPTIMAL"
    assert result.plan.tiers[0].used_gib <= 24


def test_memory_that_is_free_is_said() -> None:
    """Without a budget of loss the plan says that q4_k, about 60 of 88 GiB, would fit."""
    model = {"table": "GLM-4.5-Air", "dense_bits": 5}
    instance = asked(model, "q4_k iq2_xxs iq1_s", {**UNIFIED, "margin_gib": 8})
    plan = mo.solve(instance).plan
    assert plan.tiers[0].used_gib == pytest.approx(23.17, abs=0.01)
    assert plan.loss_nats == pytest.approx(0.8231, abs=1e-4)
    told = "all experts at q4_k would fit (budgets: {loss_nats: 0.009} asks for the loss of q4_k)"
    assert any(note.startswith("QUALITY IS FREE") and told in note for note in plan.caveats)
    room = instance.fixed_bytes[0] + 45 * 128 * instance.expert_bytes[0]
    assert room / 2**30 == pytest.approx(60.1, abs=0.1)


def test_vllm_copies_what_lies_in_ram() -> None:
    """31 layers in RAM cost 0.195 s of copies per token where the GPU alone computes."""
    tiers = card(24, 936, 200, margin_gib=2)
    plan = mo.solve(asked({"table": "Qwen3-30B-A3B", "dense_bits": 16}, "fp16", *tiers)).plan
    assert plan.seconds_per_token == pytest.approx(0.01653, abs=1e-5)
    copies = 31 * 8 * 3 * 2048 * 768 * 2 / 12e9
    assert copies == pytest.approx(0.195, abs=5e-4)
    all_on_gpu = next(r.value for r in plan.baselines if r.name == "all on the first tier")
    report = export(plan, "vllm")[0].report
    assert report.projected_value == pytest.approx(copies + all_on_gpu, rel=1e-3)


PHONE: tuple[dict[str, Any], ...] = (
    {"name": "phone", "kind": "gpu", "device": "phone", "capacity_gib": 4.377,
     "compute_gb_per_s": 50, "overhead_us": 20, "power_w": 6},
    {"name": "edge", "kind": "remote", "device": "edge", "capacity_gib": 12,
     "compute_gb_per_s": 900, "overhead_us": 10, "power_w": 300},
    {"name": "flash", "kind": "disk", "device": "phone", "capacity_gib": 64},
)  # fmt: skip
NETWORK = [
    {"between": ["phone", "flash"], "gb_per_s": 1.5, "latency_us": 100, "joules_per_gb": 1.0},
    {"between": ["phone", "edge"], "gb_per_s": 0.01, "latency_us": 5000, "joules_per_gb": 60.0},
]


def on_a_phone(formats: str, keep: list[int] | None) -> PlacementInstance:
    """Return Switch-Base-128 on a phone with flash and a neighbour, merged to some numbers."""
    merged: dict[str, Any] = {"keep": keep, "forms": ["merge", "prune"], "loss_nats": 0.5,
                              "prune_loss_nats": 0.6}  # fmt: skip
    part = {} if keep is None else {"aggregation": merged}
    model = {"table": "Switch-Base-128", "dense_bits": 16}
    sections = {"granularity": "expert", "activation": {"zipf": 0.7}, "links": NETWORK, **part}
    return asked(model, formats, *PHONE, budgets={"loss_nats": 0.05}, **sections)


def test_offloading_alone_is_what_it_can_be() -> None:
    """Whatever order the tiers are listed in, nothing but offloading takes 38.98 ms per token."""
    exact = mo.solve(on_a_phone("fp16", None), rel_gap=1e-6)
    assert -exact.bound == pytest.approx(0.03898, abs=5e-6)
    rules = on_a_phone("fp16", [64]).mode.baselines()
    alone = next(rule for rule in rules if rule.name.startswith("offload only"))
    assert alone.value == pytest.approx(-exact.bound, rel=1e-6)


@pytest.mark.slow
def test_nine_numbers_of_experts_are_compiled_within_their_limit() -> None:
    """12 layers of 128 experts, 3 tiers, 2 formats and 9 numbers leave most of the time."""
    keep = [8, 16, 24, 32, 48, 64, 80, 96, 112]
    result = mo.solve(on_a_phone("fp16 q8_0", keep), rel_gap=1e-2, time_limit_s=300)
    assert result.status == "OPTIMAL"
    assert result.objective == pytest.approx(-0.009083, abs=1e-6)
    assert np.isclose(result.plan.tiers[0].used_gib, 4.351, atol=1e-3)
