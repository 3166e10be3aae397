"""Data of the devices and weight formats that `profile_tables.py` adds to the collection.

A device has one row: peak memory bandwidth (the scale of every fallback), memory and power limit,
each with its source. Figures that the collection holds are taken from there.
"""

from __future__ import annotations

from typing import Any

#: Devices of the collection that are one of the devices below.
SAME_DEVICE = {"Jetson AGX Orin": "Jetson AGX Orin 64GB"}

_GUIDE = "ultralytics docs, NVIDIA Jetson guide"
_FORUM = (
    "https://forums.developer.nvidia.com/t/maximum-power-consumption-bounds-for-orin-agx/323456"
)
_NANO = (
    "github:YuvrajSingh-mist/SmolHub-Website:"
    "_posts/2026-05-29-jetson-nano-super-benchmark-non-reasoning.md"
)
_CARDS = "github:CYBIRD-D/How-to-Choose-your-LLM-Model-for-translation:Nvidia_GPU_Specification.md"
_CARDS_COMMIT = "52379077acab0e1d450adb86345f9e705bb6cade"
_CARDS_PLACE = "tables of desktop cards: memory and bandwidth"
_TURING = "fp16_tflops derived: cores x 8 (matrix units, 16 bits summed in 32) x boost clock"


def _card(
    name: str, bandwidth_gb_per_s: float, memory_gib: float, aliases: str = "", **more: Any
) -> dict[str, Any]:
    return {
        "device": name,
        "aliases": ";".join(part for part in (f"GeForce {name}", aliases) if part),
        "memory_bandwidth_gb_per_s": bandwidth_gb_per_s,
        "bandwidth_basis": "spec",
        "memory_gib": memory_gib,
        "power_limit_scope": "GPU board",
        "grade": "B",
        "source": _CARDS,
        "commit": _CARDS_COMMIT,
        "locator": _CARDS_PLACE,
        **more,
    }


def _jetson(
    name: str, bandwidth_gb_per_s: float, memory_gib: float, aliases: str, **more: Any
) -> dict[str, Any]:
    return {
        "device": name,
        "aliases": aliases,
        "memory_bandwidth_gb_per_s": bandwidth_gb_per_s,
        "bandwidth_basis": "spec",
        "memory_gib": memory_gib,
        "grade": "A",
        "source": _GUIDE,
        "commit": "not recorded",
        "locator": "Jetson Series Comparison table, Memory row",
        "note": "memory is shared by CPU and GPU",
        **more,
    }


DEVICES: list[dict[str, Any]] = [
    _jetson(
        "Jetson AGX Orin 64GB",
        204.8,
        64,
        "Jetson AGX Orin;AGX Orin;AGX Orin 64GB;Orin AGX;Orin AGX 64GB;IGX Orin",
        power_limit_w=60,
        power_limit_scope="module",
        source=f"{_GUIDE}; power limit: {_FORUM}",
        locator="Jetson Series Comparison table, Memory row; JAO 64GB 60W",
    ),
    _jetson("Jetson Orin NX 16GB", 102.4, 16, "Orin NX;Orin NX 16GB;Jetson Orin NX"),
    _jetson(
        "Jetson Orin Nano Super 8GB",
        102,
        8,
        "Jetson Orin Nano Super;Orin Nano Super;Orin Nano Super 8GB;Orin Nano;Jetson Orin Nano",
        source=_NANO,
        locator="Table 2",
    ),
    _jetson("Jetson Orin Nano 8GB", 68, 8, "Orin Nano 8GB;Jetson Orin Nano 8GB (original)"),
    _card(
        "RTX 4090",
        1008,
        24,
        fp16_tflops=165.15,
        power_limit_w=450,
        source="https://waredb.com/processor/nvidia-geforce-rtx-4090; power limit: https://"
        "holynerdvana.blogspot.com/2022/10/nvidia-geforce-rtx-4090-specifications.html",
        commit="not recorded",
        locator="mem_bandwidth 1008, memory 24, fp16_tensor_dense 165.15; "
        "Total Board Power (Watts) 450",
    ),
    _card("RTX 4090D", 1008, 24, "RTX 4090 D"),
    _card("RTX 5090", 1792, 32),
    _card("RTX 5060 Ti 16GB", 448, 16, "RTX 5060 Ti"),
    _card(
        "RTX 3090",
        936,
        24,
        power_limit_w=350,
        source=f"{_CARDS}; power limit: https://www.hardwaredb.net/geforce-rtx-3090-benchmark",
        locator=f"{_CARDS_PLACE}; Thermal Design Power of 350W",
    ),
    _card("RTX 3090 Ti", 1008, 24),
    _card("RTX 3060", 360, 12, "RTX 3060 12GB"),
    _card(
        "RTX 2080 Ti",
        616,
        11,
        fp16_tflops=53.8,
        source="github:WonyoungCho/CUDA:docs/rtx2080Ti.md; cores: https://spearblade.com/"
        "rtx-2080-ti-teraflops",
        commit="not recorded",
        locator="Memory Bandwidth (GB/sec) 616 GB/s; 11 GB GDDR6; 4352 CUDA cores, 1545 MHz boost",
        note=_TURING,
    ),
    _card(
        "RTX 2080",
        448,
        8,
        fp16_tflops=40.3,
        source="derived; cores: https://en.gamegpu.com/geforce-rtx-2xx-series/geforce-rtx-2080",
        commit="none",
        locator="256 bit x 14 Gbit/s per pin (GDDR6) / 8; memory: 8 GB as printed with the runs; "
        "2944 cores, 1710 MHz boost",
        note=_TURING,
    ),
]


def _format(quant: str, bits: float, basis: str, engine: str | None = None) -> dict[str, Any]:
    return {"quant": quant, "bits_per_weight": bits, "engine": engine, "basis": basis}


_SIZE = "file size over parameters of the runs that print both"
_SCALES = "4 bits and one 16-bit scale per group of"
_NAME = "by its name"
_NEAR = "assumed: midway between the neighbouring formats of llama.cpp"
_DYNAMIC = "assumed: the mix of the plain format, with more of the tensors at higher precision"

FORMATS: list[dict[str, Any]] = [
    _format("FP32", 32, _NAME),
    _format("FP16", 16, _NAME),
    _format("BF16", 16, _NAME),
    _format("W16A16", 16, _NAME, "TensorRT-Edge-LLM"),
    _format("FP8", 8, _NAME),
    _format("INT8", 8, _NAME),
    _format("W8A16", 8, _NAME, "TensorRT-Edge-LLM"),
    _format("INT8 (bitsandbytes)", 8, _NAME, "HF transformers"),
    _format("NF4", 4.5, f"{_SCALES} 64, embeddings apart", "HF transformers"),
    _format("NF4 (bitsandbytes)", 4.5, f"{_SCALES} 64, embeddings apart", "HF transformers"),
    _format("INT4", 4.5, f"{_SCALES} 32"),
    _format("4-bit", 4.5, f"{_SCALES} 32"),
    _format("W4A16", 4.25, f"{_SCALES} 64"),
    _format("AWQ-INT4", 4.25, f"{_SCALES} 128, embeddings apart"),
    _format("AWQ", 4.25, f"{_SCALES} 128, embeddings apart"),
    _format("GPTQ-Int4", 4.25, f"{_SCALES} 128, embeddings apart"),
    _format("GPTQ", 4.25, f"{_SCALES} 128, embeddings apart"),
    _format("MXFP4", 4.25, "4 bits and an 8-bit scale per 32 weights"),
    _format("NVFP4", 4.5, "4 bits and an 8-bit scale per 16 weights"),
    _format("Q4_0", 4.55, f"{_SIZE} (Llama-2-7B, 3.82 GB)", "llama.cpp"),
    _format("Q4_1", 5.0, "4 bits, a 16-bit scale and offset per 32 weights", "llama.cpp"),
    _format("Q5_0", 5.5, "5 bits and a 16-bit scale per 32 weights", "llama.cpp"),
    _format("Q5_1", 6.0, "5 bits, a 16-bit scale and offset per 32 weights", "llama.cpp"),
    _format("Q3_K_M", 3.97, _NEAR, "llama.cpp"),
    _format("Q3_K_XL", 4.3, _DYNAMIC, "llama.cpp"),
    _format("UD-Q3_K_XL", 4.3, _DYNAMIC, "llama.cpp"),
    _format("UD-Q4_K_XL", 4.9, _DYNAMIC, "llama.cpp"),
    _format("Q2_0", 1.41, f"{_SIZE} (Ternary-Bonsai-1.7B, 0.3 GB)", "llama.cpp"),
    _format("Q1_0", 1.12, f"{_SIZE} (Bonsai-1.7B, 0.237 GB)", "llama.cpp"),
    _format("TQ2_0", 2.06, "2 bits and a 16-bit scale per 256 weights", "llama.cpp"),
    _format("TQ1_0", 1.69, "1.6 bits and a 16-bit scale per 256 weights", "llama.cpp"),
]
