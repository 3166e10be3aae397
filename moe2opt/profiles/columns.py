"""Columns of the profile tables: what each cell may hold, and in which unit.

Units are part of the names: ``_gb`` is 1e9 bytes, ``_b`` counts parameters in units of 1e9.
"""

from __future__ import annotations

from dataclasses import replace

from moe2opt.schema.csv import NAME, NOTE, TEXT, Column

#: What a run may calibrate.
FITS = ("decode", "prefill", "decode_energy", "prefill_energy")

#: Said of a run whose decoding calibrates its own device, and not what devices have in common.
ALONE = "alone"

#: The figure that a run must hold to calibrate a quantity; one of them is enough.
NEEDS = {
    "decode": ("decode_tokens_per_s",),
    "prefill": ("prefill_tokens_per_s",),
    "decode_energy": ("power_w", "energy_j_per_token"),
    "prefill_energy": ("power_w", "energy_j_per_token"),
}

_GRADE = Column(choices=("A", "B", "C"))
#: What any machine has or does; beyond, sums and ratios leave what numbers can hold.
_AMOUNT = Column("number", least=1e-9, most=1e12)
_MEASURED = replace(_AMOUNT, blank=True, optional=True)
_TOKENS = Column("integer", blank=True, least=0, optional=True)
_SHARE = Column("number", blank=True, least=0, most=1, optional=True)
_WORDS = Column(blank=True, optional=True)

_ORIGIN = {"grade": _GRADE, "source": TEXT, "commit": TEXT, "locator": TEXT, "note": _WORDS}

DEVICE_COLUMNS = {
    "device": NAME,
    "aliases": _WORDS,
    "memory_bandwidth_gb_per_s": _AMOUNT,
    "bandwidth_basis": Column(choices=("spec", "measured"), blank=True, optional=True),
    "memory_gib": _AMOUNT,
    "fp16_tflops": _MEASURED,
    "usual_engine": _WORDS,
    "power_limit_w": _MEASURED,
    "power_limit_scope": _WORDS,
    "idle_power_w": _MEASURED,
    "stated_decode_gb_per_s": _MEASURED,
    "stated_prefill_tflops": _MEASURED,
    "stated_power_w": _MEASURED,
    **_ORIGIN,
}

#: Rates that a device row may state instead of being calibrated by runs; all or none of them.
STATED = ("stated_decode_gb_per_s", "stated_prefill_tflops", "stated_power_w")

RUN_COLUMNS = {
    "run_id": NAME,
    "device": NAME,
    "power_mode": _WORDS,
    "power_cap_w": _MEASURED,
    "model": NAME,
    "params_b": _AMOUNT,
    "active_params_b": _MEASURED,
    "layers": Column("integer", blank=True, least=1, optional=True),
    "quant": NAME,
    "bits_per_weight": Column("number", blank=True, least=0.5, most=64, optional=True),
    "bits_basis": _WORDS,
    "weights_gb": _MEASURED,
    "engine": NAME,
    "batch": Column("integer", blank=True, least=1, optional=True),
    "prompt_tokens": _TOKENS,
    "output_tokens": _TOKENS,
    "context_tokens": _TOKENS,
    "prefill_tokens_per_s": _MEASURED,
    "decode_tokens_per_s": _MEASURED,
    "time_to_first_token_ms": _MEASURED,
    "power_w": _MEASURED,
    "power_scope": _WORDS,
    "power_reading": _WORDS,
    "energy_j_per_token": _MEASURED,
    "energy_basis": _WORDS,
    "fits": NOTE,
    "spec_decode": Column(choices=("yes", "no")),
    **_ORIGIN,
}

PRECISION_COLUMNS = {
    "precision": NAME,
    "quant": NAME,
    "bits_per_weight": _AMOUNT,
    "bits_source": TEXT,
    "perplexity_ratio_llama_2_7b": _AMOUNT,
    "perplexity_ratio_llama_3_8b": _AMOUNT,
    "ratio_source": TEXT,
    "quality_factor": Column("number", least=0, most=1),
    "quality_basis": TEXT,
}

FORMAT_COLUMNS = {
    "quant": NAME,
    "bits_per_weight": Column("number", least=0.5, most=64),
    "engine": _WORDS,
    "basis": TEXT,
}

CONSTANT_COLUMNS = {
    "device": NAME,
    "quantity": NAME,
    "value": TEXT,
    "unit": _WORDS,
    "kind": TEXT,
    **_ORIGIN,
}

OFFLOAD_COLUMNS = {
    "run_id": NAME,
    "device": NAME,
    "devices": Column("integer", least=1),
    "host": NOTE,
    "backing_tier": TEXT,
    "model": NAME,
    "params_b": _MEASURED,
    "active_params_b": _MEASURED,
    "quant": NOTE,
    "weights_gb": _MEASURED,
    "engine": NAME,
    "placement": NAME,
    "strategy": _WORDS,
    "expert_share_gpu": _SHARE,
    "moe_layers_cpu": _TOKENS,
    "moe_layers": _TOKENS,
    "gpu_memory_used_gb": _MEASURED,
    "batch": NOTE,
    "prompt_tokens": _TOKENS,
    "output_tokens": _TOKENS,
    "prefill_tokens_per_s": _MEASURED,
    "decode_tokens_per_s": _MEASURED,
    "decode_s_per_token": _MEASURED,
    "power_w": _MEASURED,
    "series": _WORDS,
    **_ORIGIN,
}

CAP_COLUMNS = {
    "device": NAME,
    "model": NAME,
    "quant": NAME,
    "workload": NAME,
    "power_cap_w": _AMOUNT,
    "power_w": _AMOUNT,
    "power_scope": TEXT,
    "tokens_per_s": _AMOUNT,
    "sm_clock_mhz": _MEASURED,
    "energy_j_per_token": _AMOUNT,
    "source": TEXT,
    "commit": TEXT,
    "origin": TEXT,
}

_SHAPE = Column("integer", blank=True, least=0, optional=True)

MODEL_COLUMNS = {
    "model": NAME,
    "layers": _SHAPE,
    "moe_layers": _SHAPE,
    "experts": _SHAPE,
    "experts_per_token": _SHAPE,
    "shared_experts": _SHAPE,
    "hidden": _SHAPE,
    "expert_ffn": _SHAPE,
    "gated_ffn": Column(choices=("yes", "no")),
    "shared_ffn": _SHAPE,
    "params_per_expert_m": _MEASURED,
    "expert_fp16_mb": _MEASURED,
    "expert_int8_mb": _MEASURED,
    "expert_int4_mb": _MEASURED,
    "expert_q4_k_m_mb": _MEASURED,
    "expert_params_total_b": _MEASURED,
    "expert_params_active_b": _MEASURED,
    "heads": _SHAPE,
    "kv_heads": _SHAPE,
    "vocabulary": _SHAPE,
    "source": TEXT,
    "commit": TEXT,
    "locator": TEXT,
    "note": _WORDS,
}
