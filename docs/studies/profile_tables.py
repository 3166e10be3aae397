"""Transcribe the published measurements into the tables of ``problems/profiles``.

Usage, from the checkout, with the collection of published figures beside it in ``../shared/data``::

    python docs/studies/profile_tables.py

Figures are copied as they are printed there, with source, commit and place. What this script
decides, and how:

* Rows of grade C and rows with speculative decoding are left out, and so are rows that hold
  neither a decode rate, a prefill rate nor an energy for a stated number of requests at a time.
* The column `fits` says what a row calibrates (`fits_of`). Nothing calibrates anything unless it
  was measured with one request at a time.
* Rows at a power cap calibrate the cap curve (``power_caps.csv``); of each capped sweep only the
  row at the card's default limit calibrates the rest.
* The data of a device, the names it goes by and the bits of a weight format are in
  `profile_devices.py`, each with its source; devices and runs of further public pages in
  `profile_published.py`.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from profile_devices import DEVICES as COLLECTED
from profile_devices import FORMATS, SAME_DEVICE
from profile_published import DEVICES as PUBLISHED
from profile_published import runs as published_runs
from profile_published import with_peak

from moe2opt.profiles.columns import (
    CAP_COLUMNS,
    CONSTANT_COLUMNS,
    DEVICE_COLUMNS,
    FORMAT_COLUMNS,
    MODEL_COLUMNS,
    OFFLOAD_COLUMNS,
    RUN_COLUMNS,
)
from moe2opt.schema.csv import write_table

DEVICES = [with_peak(device) for device in (*COLLECTED, *PUBLISHED)]

CHECKOUT = Path(__file__).resolve().parents[2]
ORIGIN = CHECKOUT.parent / "shared" / "data" / "profiles"
SIZES = CHECKOUT.parent / "shared" / "data" / "quality_loss" / "llama31_8b_quant_size_speed.csv"
TARGET = CHECKOUT / "problems" / "profiles"

#: Default power limits of the two cards with a sweep: the row there stands for the uncapped card.
DEFAULT_CAP_W = {"RTX 4090": 450.0, "RTX 3090": 350.0}

#: Shortest output whose energy is used on the AGX Orin: shorter runs read too little power.
LEAST_OUTPUT_TOKENS = 512
#: Shortest prefill whose power is used there (the meter samples about once a second).
LEAST_PREFILL_MS = 2000.0

SCOPES = {
    "GPU rail": "GPU rail",
    "VDD_CPU_GPU_CV rail": "VDD_CPU_GPU_CV rail",
    "GPU board": "GPU board",
    "WHOLE SYSTEM at wall": "whole system at the wall",
}

#: Formats whose bits per weight the source leaves open.
UNCLEAR = ("unclear", "(see submission)", "(v4.0 build)", "(GGUF, not stated)")


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file as text."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def number(text: str) -> float | None:
    """Return the number in a cell, None for a blank or for words."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def plain(value: Any) -> Any:
    """Return a number without a needless fraction, and text without trailing blanks."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    return value.strip() or None if isinstance(value, str) else value


def scope_of(text: str) -> str | None:
    """Return the name of a power scope from the words of a source."""
    return next((name for start, name in SCOPES.items() if text.startswith(start)), None)


#: Layers (`num_hidden_layers` of their ``config.json``) of the models that host-bound engines ran.
LAYERS = {
    "Qwen2-0.5B": 24, "TinyLlama": 22, "Qwen2-1.5B": 28, "Qwen2.5-3B": 36, "Qwen2-7B": 28,
}  # fmt: skip


def run_row(row: dict[str, str]) -> dict[str, Any]:
    """Return a row of ``runs.csv``."""
    mode = row["power_mode_or_cap"]
    cap = number(mode.removeprefix("cap ").removesuffix(" W")) if mode.startswith("cap") else None
    own = {
        **{name: row.get(name) for name in RUN_COLUMNS},
        "device": SAME_DEVICE.get(row["device"], row["device"]),
        "power_mode": None if cap or mode.startswith("(") else mode,
        "power_cap_w": cap,
        "params_b": number(row["params_b"]),
        "active_params_b": number(row["active_params_b"]),
        "layers": _layers(row),
        "bits_per_weight": None,
        "bits_basis": None,
        "weights_gb": number(row["weights_gb"]),
        "batch": number(row["batch"]),
        "prompt_tokens": number(row["prompt_len"]),
        "output_tokens": number(row["gen_len"]),
        "context_tokens": None,
        "prefill_tokens_per_s": number(row["prefill_tok_s"]),
        "decode_tokens_per_s": number(row["decode_tok_s"]),
        "time_to_first_token_ms": number(row["ttft_ms"]),
        "power_w": number(row["power_w"]),
        "power_scope": scope_of(row["power_scope"]),
        "power_reading": row["power_scope"],
        "energy_j_per_token": number(row["energy_j_per_token"]),
        "source": row["source_url_or_repo_path"],
        "locator": row["quote_or_locator"],
        "note": note_of(row),
        "commit": row["commit"] or "not recorded",
    }
    return own | {"fits": fits_of(own)}


def _layers(row: dict[str, str]) -> int | None:
    if "transformers" not in row["engine"]:
        return None
    return next((many for name, many in LAYERS.items() if name in row["model"]), None)


def note_of(row: dict[str, str]) -> str:
    """Return the note of the collection, and what was assumed about the device."""
    parts = [row["notes"]]
    if row["device"] in SAME_DEVICE:
        parts.append(f"device printed as '{row['device']}': taken for {SAME_DEVICE[row['device']]}")
    return "; ".join(part for part in parts if part)


def fits_of(run: dict[str, Any]) -> str:
    """Return what a row calibrates, separated by spaces."""
    cap = run["power_cap_w"]
    capped = cap is not None and cap < DEFAULT_CAP_W.get(run["device"], math.inf)
    above = cap is not None and cap > DEFAULT_CAP_W.get(run["device"], math.inf)
    above = above and run["model"].startswith("Qwen3.6")
    if run["batch"] != 1 or run["params_b"] is None or capped or above:
        return ""
    if run["quant"].startswith(UNCLEAR):
        return ""
    metered = run["power_scope"] not in (None, "whole system at the wall")
    orin = run["device"].startswith("Jetson AGX")
    decode = run["decode_tokens_per_s"] is not None
    prefill = run["prefill_tokens_per_s"] is not None
    long_enough = not orin or (run["output_tokens"] or 0) >= LEAST_OUTPUT_TOKENS
    slow_enough = not orin or (run["time_to_first_token_ms"] or 0) >= LEAST_PREFILL_MS
    chosen = {
        "decode": decode,
        "prefill": prefill,
        "decode_energy": decode and metered and long_enough,
        "prefill_energy": prefill and metered and slow_enough and not decode,
    }
    return " ".join(name for name, wanted in chosen.items() if wanted)


def runs() -> list[dict[str, Any]]:
    """Return the rows of ``runs.csv``."""
    known = {device["device"] for device in DEVICES}
    kept = [
        run_row(row)
        for row in read(ORIGIN / "llm_runs.csv")
        if row["grade"] != "C" and row["spec_decode"] == "no"
    ]
    figures = ("decode_tokens_per_s", "prefill_tokens_per_s", "energy_j_per_token")
    collected = [
        run
        for run in kept
        if run["device"] in known
        and run["params_b"] is not None
        and run["batch"] is not None
        and any(run[name] is not None for name in figures)
    ]
    return [*collected, *published_runs()]


def offload_row(row: dict[str, str]) -> dict[str, Any]:
    """Return a row of ``offload_runs.csv``."""
    strategy = row["placement"].partition("strategy ")[2] or None
    series = None
    if strategy:
        series = f"{row['model']} {row['quant']}, {row['engine']}, {row['host']}: {strategy}"
    elif row["source_url_or_repo_path"].startswith("github:sylvanus4"):
        series = f"{row['model']} {row['quant']}, {row['host']}"
    if row["placement"].startswith("CPU only"):
        series = None
    return {
        **{name: row.get(name) for name in OFFLOAD_COLUMNS},
        "devices": number(row["n_devices"]),
        "params_b": number(row["total_params_b"]),
        "active_params_b": number(row["active_params_b"]),
        "weights_gb": number(row["weights_gb"]),
        "strategy": strategy,
        "expert_share_gpu": number(row["expert_frac_gpu"]),
        "moe_layers_cpu": number(row["n_moe_layers_cpu"]),
        "moe_layers": number(row["n_moe_layers"]),
        "gpu_memory_used_gb": number(row["gpu_mem_used_gb"]),
        "prompt_tokens": number(row["prompt_len_or_depth"]),
        "output_tokens": number(row["gen_len"]),
        "prefill_tokens_per_s": number(row["prefill_tok_s"]),
        "decode_tokens_per_s": number(row["decode_tok_s"]),
        "decode_s_per_token": number(row["s_per_token"]),
        "power_w": number(row["power_w"]),
        "series": series,
        "source": row["source_url_or_repo_path"],
        "commit": row["commit"] or "not recorded",
        "locator": row["quote_or_locator"],
        "note": row["notes"],
    }


def offload_runs() -> list[dict[str, Any]]:
    """Return the rows of ``offload_runs.csv``."""
    rows = read(ORIGIN / "moe_offload_runs.csv")
    return [offload_row(row) for row in rows if row["grade"] != "C"]


def caps() -> list[dict[str, Any]]:
    """Return the rows of ``power_caps.csv``."""
    return [
        {
            **row,
            "power_cap_w": number(row["cap_w"]),
            "power_w": number(row["actual_w"]),
            "power_scope": "GPU board",
            "tokens_per_s": number(row["tok_s"]),
            "sm_clock_mhz": number(row["sm_clk_mhz"]),
            "energy_j_per_token": number(row["j_per_token"]),
        }
        for row in read(ORIGIN / "power_cap_sweeps.csv")
    ]


def constants() -> list[dict[str, Any]]:
    """Return the rows of ``constants.csv``: the collection without networks and grade C."""
    return [
        {
            **row,
            "source": row["source_url_or_repo_path"],
            "commit": "not recorded",
            "locator": row["quote_or_locator"],
            "note": row["notes"],
        }
        for row in read(ORIGIN / "devices.csv")
        if row["grade"] != "C" and not row["device"].startswith("wireless")
    ]


def models() -> list[dict[str, Any]]:
    """Return the rows of ``moe_models.csv``."""
    renamed = {
        "layers": "n_layers",
        "moe_layers": "n_moe_layers",
        "experts": "n_experts",
        "experts_per_token": "top_k",
        "shared_experts": "n_shared_experts",
        "expert_fp16_mb": "bytes_per_expert_fp16_mb",
        "expert_int8_mb": "bytes_per_expert_int8_mb",
        "expert_int4_mb": "bytes_per_expert_int4_mb",
        "expert_q4_k_m_mb": "bytes_per_expert_q4km_4p85bpw_mb",
        "heads": "n_heads",
        "kv_heads": "n_kv_heads",
        "vocabulary": "vocab",
        "source": "source_url_or_repo_path",
        "locator": "quote_or_locator",
        "note": "notes",
    }
    rows = read(ORIGIN / "moe_models.csv")
    return [
        {name: row[renamed.get(name, name)] for name in MODEL_COLUMNS}
        | {"commit": row["commit"] or "not recorded"}
        for row in rows
    ]


def formats() -> list[dict[str, Any]]:
    """Return the rows of ``formats.csv``: bits that llama.cpp states, then the others."""
    stated = [
        {
            "quant": row["quant"],
            "bits_per_weight": number(row["bits_per_weight"]),
            "engine": "llama.cpp",
            "basis": f"stated for Llama-3.1-8B: {row['source']}",
        }
        for row in read(SIZES)
    ]
    return [*stated, *FORMATS]


def tables() -> dict[str, tuple[Iterable[str], list[dict[str, Any]]]]:
    """Return columns and rows of every file that this script writes."""
    return {
        "devices.csv": (DEVICE_COLUMNS, DEVICES),
        "formats.csv": (FORMAT_COLUMNS, formats()),
        "runs.csv": (RUN_COLUMNS, runs()),
        "constants.csv": (CONSTANT_COLUMNS, constants()),
        "power_caps.csv": (CAP_COLUMNS, caps()),
        "moe_models.csv": (MODEL_COLUMNS, models()),
        "offload_runs.csv": (OFFLOAD_COLUMNS, offload_runs()),
    }


def main() -> None:
    """Write the tables."""
    for name, (columns, rows) in tables().items():
        names = list(columns)
        write_table(TARGET / name, names, ([plain(row.get(c)) for c in names] for row in rows))
        print(f"problems/profiles/{name}: {len(rows)} rows")


if __name__ == "__main__":
    main()
