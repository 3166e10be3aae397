"""Devices and runs from public pages that `profile_tables.py` adds to the collection.

Every row names its page. Rates are those of one request at a time with everything on the device;
files of Llama 3 have the sizes that the page prints (in GiB, whatever it calls the unit).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_CARDS = "github:CYBIRD-D/How-to-Choose-your-LLM-Model-for-translation:Nvidia_GPU_Specification.md"
_DAI = "github:XiongjieDai/GPU-Benchmarks-on-LLM-Inference:README.md"
_NORMIE = "https://github.com/brand-o/normiebench/issues"
_M4 = "https://gamebastion.com/n/apple-s-m4-max-is-the-first-non-ultra/474547"
_METAL = "https://github.com/ggml-org/llama.cpp/pull/1642"
_SHARED = "memory is shared by CPU and GPU"
#: Operations of 16 bits per compute unit and cycle: 512 of RDNA 3, 1024 of RDNA 4.
_RDNA = "https://reddit.com/r/hardware/comments/1j97xyw, table"
_VULKAN = "llama.cpp Vulkan"

_COMMITS = {
    _CARDS: "52379077acab0e1d450adb86345f9e705bb6cade",
    _DAI: "00dd2bdeb2404263f22bd6c1cd46ce397e341db5",
}


def _device(
    name: str, bandwidth: float, gib: float, aliases: str, source: str, locator: str, **more: Any
) -> dict[str, Any]:
    return {
        "device": name,
        "aliases": aliases,
        "memory_bandwidth_gb_per_s": bandwidth,
        "bandwidth_basis": "spec",
        "memory_gib": gib,
        "grade": "B",
        "source": source,
        "commit": _COMMITS.get(source, "not recorded"),
        "locator": locator,
        **more,
    }


def _nvidia() -> Iterator[dict[str, Any]]:
    """Yield cards of the tables of one page."""
    cards = {
        "RTX 3060 Ti": (448, 8), "RTX 3070": (448, 8), "RTX 3070 Ti": (608, 8),
        "RTX 3080": (760, 10), "RTX 3080 Ti": (912, 12), "RTX 4060": (272, 8),
        "RTX 4060 Ti 16GB": (288, 16), "RTX 4070": (504, 12), "RTX 4070 SUPER": (504, 12),
        "RTX 4070 Ti": (504, 12), "RTX 4070 Ti SUPER": (672, 16), "RTX 4080": (716.8, 16),
        "RTX 4080 SUPER": (736, 16), "RTX 4060 Laptop": (256, 8), "RTX 5050": (320, 8),
        "RTX 5060": (448, 8), "RTX 5070": (672, 12), "RTX 5070 Ti": (896, 16),
        "RTX 5080": (960, 16), "RTX 5090 Laptop": (896, 24),
    }  # fmt: skip
    for name, (bandwidth, gib) in cards.items():
        desk = "laptop" if name.endswith("Laptop") else "desktop"
        also = {"RTX 4060 Ti 16GB": ";RTX 4060 Ti", "RTX 3080": ";RTX 3080 10GB"}.get(name, "")
        yield _device(
            name, bandwidth, gib, f"GeForce {name}{also}", _CARDS,
            f"tables of {desk} cards: memory and bandwidth", power_limit_scope="GPU board",
        )  # fmt: skip


def _amd() -> Iterator[dict[str, Any]]:
    rocm = "https://rocm.docs.amd.com/en/docs-6.2.4/reference/gpu-arch-specs.html"
    shown = "https://sezonuyakala.com/amd-radeon-rx-7900-xtx-and-7900-xt-graphics-cards-revealed/"
    tflops = "https://bloglaralemi.com/2022/11/14/amd-radeon-rx-7900-collection-deep-dive/"
    for name, bandwidth, gib, locator, peak, engine in (
        ("RX 7900 XTX", 960, 24, "24GB G6, 384-bit at 20 Gbps: 960 GB/s", 123, None),
        ("RX 7900 XT", 800, 20, "20 GB G6, 320-bit at 20 Gbps: 800 GB/s", 103, _VULKAN),
    ):
        also = f"Radeon {name};{name[3:]};AMD Radeon {name}"
        yield _device(
            name, bandwidth, gib, also, f"{shown}; arithmetic: {tflops}",
            f"{locator}; TFLOPS FP16 {peak}", fp16_tflops=peak, usual_engine=engine,
        )  # fmt: skip
    for name, gib, also, peak, clock in (
        ("RX 9070 XT", 16, "Radeon RX 9070 XT;9070 XT;AMD Radeon RX 9070 XT", 194.6,
         "2.97 GHz boost (https://multiplayer.it/notizie/amd-radeon-rx-9070-xt-rx-9070-specifiche"
         ".html)"),
        ("Radeon AI PRO R9700", 32, "R9700;AMD R9700;AI PRO R9700;AMD Radeon AI PRO R9700", 190,
         "2.9 GHz assumed"),
    ):  # fmt: skip
        yield _device(
            name, 640, gib, also, "derived",
            "256 bit x 20 Gbit/s per pin (GDDR6) / 8; memory as printed with the runs",
            fp16_tflops=peak, usual_engine=_VULKAN,
            note=f"fp16_tflops derived: 64 compute units x 1024 per cycle ({_RDNA}) x {clock}",
        )  # fmt: skip
    yield _device(
        "Radeon PRO W7900", 864, 48, "W7900;AMD Radeon PRO W7900;Radeon W7900",
        "https://www.itcreations.com/amd-gpu/amd-radeon-pro-w7900-gpu",
        "48GB of GDDR6, 864 GB/s, 384-bit; 96x Compute Units",
        fp16_tflops=122.9, usual_engine=_VULKAN,
        note=f"fp16_tflops derived: 96 compute units x 512 per cycle ({_RDNA}) x 2.5 GHz assumed",
    )  # fmt: skip
    yield _device(
        "Instinct MI60", 1024, 32, "MI60;Radeon Instinct MI60;AMD Instinct MI60",
        f"https://thelinx.net/radeon-instinct-mi60-la-nuova-gpu-di-amd-566; memory: {rocm}",
        "Bandwidth di memoria: 1024GB/s; FP16 29.5 TFLOPs", fp16_tflops=29.5,
    )  # fmt: skip
    for gib, also in ((32, ";MI50;Instinct MI50;Radeon Instinct MI50"), (16, "")):
        yield _device(
            f"Instinct MI50 {gib}GB", 1024, gib,
            f"MI50 {gib}GB;Radeon Instinct MI50 {gib}GB;AMD Instinct MI50 {gib}GB{also}",
            f"derived; memory: {rocm}",
            "HBM2 of the same width and clock as the MI60 (4096 bit x 2 Gbit/s per pin / 8), "
            "60 of its 64 compute units", fp16_tflops=26.5,
        )  # fmt: skip
    yield _device(
        "Ryzen AI Max+ 395", 256, 128,
        "Strix Halo;Ryzen AI Max 395;Radeon 8060S;AMD Ryzen AI Max+ 395;8060S",
        "https://whylucian.github.io/softab/docs/hardware-specs.html",
        "128GB LPDDR5X-8000 (unified), 256 GB/s theoretical, ~215 GB/s measured",
        fp16_tflops=59.4, usual_engine=_VULKAN,
        note=f"{_SHARED}; firmware gives up to 96 GiB of it to the GPU",
    )  # fmt: skip


def _apple() -> Iterator[dict[str, Any]]:
    metal = "table of physical limits"
    chips = [
        ("M1", 68.2, 16, _METAL, metal),
        ("M1 Pro", 204.8, 32, _METAL, metal),
        ("M1 Max", 409.6, 64, _METAL, metal),
        ("M1 Ultra", 800, 128, _M4, "M1 Ultra supports up to 128GB RAM ... up to 800GB/s"),
        ("M2", 102.4, 24, _METAL, metal),
        ("M2 Pro", 200, 32, "https://atomgradient.github.io/apple-silicon-llm-inference",
         "M2 Pro (200 GB/s)"),
        ("M2 Max", 400, 96, "https://github.com/geerlingguy/ai-benchmarks/issues/4; derived",
         "half of the M2 Ultra, which joins two"),
        ("M2 Ultra", 800, 192, _M4, "up to 192GB unified RAM ... capped at 800GB/s"),
        ("M3", 100, 24, "derived", "128 bit x 6.4 Gbit/s per pin (LPDDR5) / 8, rounded down"),
        ("M3 Pro", 150, 36, "derived", "192 bit x 6.4 Gbit/s per pin (LPDDR5) / 8, rounded down"),
        ("M3 Max", 400, 128,
         "https://macmegasite.com/2024/10/30/"
         "m4-max-chip-has-16-core-cpu-40-core-gpu-and-35-increase-in-memory-bandwidth",
         "14-core CPU, 40-core GPU and 400 GB/s"),
        ("M3 Ultra", 819, 512, "https://techpowerup.com/news-tags/Mac%20Studio",
         "512 GB of unified memory, with memory bandwidth of 819 GB/s"),
        ("M4", 120, 32, "derived", "128 bit x 7.5 Gbit/s per pin (LPDDR5X) / 8"),
        ("M4 Pro", 273, 64, _M4, "273GB/s ... limited to 64GB of unified RAM"),
        ("M4 Max", 546, 128, _M4, "up to 128GB of unified RAM ... 546GB/s"),
    ]  # fmt: skip
    # From the table of a program that estimates speeds (pvaz/llamafit, data/gpus.json).
    tflops = {
        "M1": 2.6, "M1 Pro": 5.2, "M1 Max": 10.4, "M1 Ultra": 21, "M2": 3.6, "M2 Pro": 6.8,
        "M2 Max": 13.6, "M2 Ultra": 27, "M3": 3.5, "M3 Pro": 7.4, "M3 Max": 14.2, "M3 Ultra": 28,
        "M4": 4.6, "M4 Pro": 9.2, "M4 Max": 18.4,
    }  # fmt: skip
    for name, bandwidth, gib, source, locator in chips:
        yield _device(
            f"Apple {name}", bandwidth, gib, f"{name};Apple Silicon {name}", source, locator,
            fp16_tflops=tflops[name],
            note=f"{_SHARED}; the most that it was sold with, of which macOS gives about 3/4 to it",
        )  # fmt: skip


DEVICES: list[dict[str, Any]] = [*_nvidia(), *_amd(), *_apple()]

#: CUDA cores of the cards on the page of `_CARDS`.
_CORES = {
    "RTX 3060": 3584, "RTX 3060 Ti": 4864, "RTX 3070": 5888, "RTX 3070 Ti": 6144,
    "RTX 3080": 8704, "RTX 3080 Ti": 10240, "RTX 3090": 10496, "RTX 3090 Ti": 10752,
    "RTX 4060": 3072, "RTX 4060 Ti 16GB": 4352, "RTX 4070": 5888, "RTX 4070 SUPER": 7168,
    "RTX 4070 Ti": 7680, "RTX 4070 Ti SUPER": 8448, "RTX 4080": 9728, "RTX 4080 SUPER": 10240,
    "RTX 4090D": 14592, "RTX 4060 Laptop": 3072, "RTX 5050": 2560, "RTX 5060": 3840,
    "RTX 5060 Ti 16GB": 4608, "RTX 5070": 6144, "RTX 5070 Ti": 8960, "RTX 5080": 10752,
    "RTX 5090": 21760, "RTX 5090 Laptop": 10496,
}  # fmt: skip

#: Clock in GHz under load that is assumed of a generation, and of its laptops.
_CLOCKS = {"3": 1.7, "4": 2.5, "5": 2.5, "Laptop": 2.0}


def with_peak(device: dict[str, Any]) -> dict[str, Any]:
    """Return a card with the arithmetic rate of its cores, where nobody states one.

    Matrix units of these generations do 4 operations (16 bits, summed in 32) per core and cycle,
    as the stated 165 TFLOPS of the RTX 4090 are.
    """
    name = device["device"]
    if device.get("fp16_tflops") is not None or name not in _CORES:
        return device
    clock = _CLOCKS["Laptop" if name.endswith("Laptop") else name[4]]
    basis = f"fp16_tflops derived: {_CORES[name]} CUDA cores ({_CARDS}) x 4 x {clock:g} GHz assumed"
    notes = [text for text in (device.get("note"), basis) if text]
    peak = round(4e-3 * _CORES[name] * clock, 1)
    return {**device, "fp16_tflops": peak, "note": "; ".join(notes)}


#: tokens/s of answers of 512, 1024, 4096 and 8192 tokens, then of prompts of so many; None where
#: they do not fit. LLaMA 3, llama.cpp of May 2024, one device.
_DAI_RATES: dict[tuple[str, str], tuple[float | None, ...]] = {
    ("RTX 3070", "8B Q4_K_M"): (72.79, 70.94, 67.01, 61.64, 2402.51, 2283.62, 1826.59, 1419.97),
    ("RTX 3080", "8B Q4_K_M"): (109.57, 106.40, 98.67, 89.90, 3728.86, 3557.02, 2852.06, 2232.21),
    ("RTX 3080 Ti", "8B Q4_K_M"): (
        110.60, 106.71, 98.34, 88.63, 3690.30, 3556.67, 2947.11, 2381.52),
    ("RTX 4070 Ti", "8B Q4_K_M"): (83.50, 82.21, 78.59, 73.46, 3936.29, 3653.07, 2729.71, 2019.71),
    ("RTX 4080", "8B Q4_K_M"): (108.15, 106.22, 100.44, 93.71, 5389.74, 5064.99, 3790.96, 2882.03),
    ("RTX 4080", "8B F16"): (40.58, 40.29, 39.44, None, 7246.97, 6758.90, 4720.22, None),
    ("RTX 3090", "8B Q4_K_M"): (115.42, 111.74, 97.31, 87.49, 4030.40, 3865.39, 3169.91, 2527.40),
    ("RTX 3090", "8B F16"): (47.40, 46.51, 44.79, 42.62, 4444.65, 4239.64, 3410.47, 2667.14),
    ("RTX 4090", "8B Q4_K_M"): (
        130.58, 127.74, 119.44, 110.66, 7138.99, 6898.71, 5265.68, 4039.68),
    ("RTX 4090", "8B F16"): (54.84, 54.34, 52.63, 50.88, 9382.00, 9056.26, 6531.36, 4744.18),
    ("Apple M1", "8B Q4_K_M"): (10.20, 9.72, 11.77, None, 94.48, 87.26, 96.53, None),
    ("Apple M1 Max", "8B Q4_K_M"): (35.73, 34.49, 31.18, 26.84, 408.23, 355.45, 329.84, 302.92),
    ("Apple M1 Max", "8B F16"): (18.75, 18.43, 16.33, 15.03, 517.34, 418.77, 374.09, 351.46),
    ("Apple M1 Max", "70B Q4_K_M"): (4.34, 4.09, 4.09, 3.71, 34.96, 33.01, 32.64, 30.97),
    ("Apple M2 Ultra", "8B Q4_K_M"): (78.81, 76.28, 64.58, 54.13, 994.04, 1023.89, 979.47, 913.55),
    ("Apple M2 Ultra", "8B F16"): (36.90, 36.25, 33.67, 30.68, 1175.40, 1202.74, 1194.21, 1103.44),
    ("Apple M2 Ultra", "70B Q4_K_M"): (12.48, 12.13, 10.75, 9.34, 118.79, 117.76, 109.53, 108.57),
    ("Apple M2 Ultra", "70B F16"): (4.76, 4.71, 4.48, 4.23, 147.58, 145.82, 133.75, 135.15),
    ("Apple M3 Max", "8B Q4_K_M"): (48.97, 50.74, 44.21, 36.12, 693.32, 678.04, 573.09, 505.32),
    ("Apple M3 Max", "8B F16"): (22.04, 22.39, 20.72, 18.74, 769.84, 751.49, 609.97, 515.15),
    ("Apple M3 Max", "70B Q4_K_M"): (7.65, 7.53, 6.58, 5.60, 70.19, 62.88, 64.90, 61.96),
}  # fmt: skip

#: Parameters in 1e9, and the files' sizes in GiB as the page prints them.
_LLAMA_3 = {"8B": 8.03, "70B": 70.6}
_DAI_GIB = {"8B Q4_K_M": 4.58, "8B F16": 14.96, "70B Q4_K_M": 39.59, "70B F16": 131.42}

#: device, model, parameters and active ones (1e9), format, file (GB), engine, prompt and answer
#: tokens (None: not about that phase), tokens/s of prompt and answer, page, place.
_SINGLE: list[tuple[Any, ...]] = [
    ("RX 7900 XTX", "Llama-3-8B", 8.03, None, "Q4_K_M", 4.92, "llama.cpp ROCm", 2048, None,
     3226.54, None, "https://github.com/ggml-org/llama.cpp/pull/26284", "ub 512, pp2048"),
    ("RX 7900 XTX", "Llama-3-8B", 8.03, None, "Q4_K_M", 4.92, "llama.cpp ROCm", None, 64,
     None, 105.81, "https://github.com/ggml-org/llama.cpp/pull/26284", "ub 512, tg64"),
    ("RX 7900 XTX", "Llama-3-8B", 8.03, None, "Q5_K_M", 5.73, "llama.cpp ROCm", None, 64,
     None, 100.47, "https://github.com/ggml-org/llama.cpp/pull/26284", "ub 64, tg64"),
    ("RX 7900 XT", "Llama-3.2-3B", 3.21, None, "Q4_K_M", 2.02, "llama.cpp Vulkan", None, 128,
     None, 131.2, "https://github.com/geerlingguy/ai-benchmarks/pull/11", "Ryzen 9 9950X"),
    ("RX 9070 XT", "Llama-3.1-8B", 8.03, None, "Q4_K_M", 4.92, "llama.cpp Vulkan", 512, None,
     4802, None, "https://github.com/maeddesg/vulkanforge/wiki/Benchmarks", "llama p=512"),
    ("RX 9070 XT", "Llama-3.1-8B", 8.03, None, "Q4_K_M", 4.92, "llama.cpp Vulkan", None, 128,
     None, 119.6, "https://github.com/maeddesg/vulkanforge/wiki/Benchmarks", "llama decode"),
    ("Radeon AI PRO R9700", "Llama-3.2-3B", 3.21, None, "Q4_K_M", 2.02, "llama.cpp Vulkan", None,
     128, None, 195.91, "https://github.com/geerlingguy/ai-benchmarks/issues/35", "Intel 265K PC"),
    ("Radeon AI PRO R9700", "DeepSeek-R1-Distill-Qwen-14B", 14.77, None, "Q4_K_M", 8.99,
     "llama.cpp Vulkan", None, 128, None, 53.72,
     "https://github.com/geerlingguy/ai-benchmarks/issues/35", "Intel 265K PC"),
    ("Instinct MI50 32GB", "Llama-3-8B", 8.03, None, "Q4_0", 4.66, "llama.cpp ROCm", 1024, None,
     1083.08, None, "https://github.com/ggml-org/llama.cpp/pull/27841", "ub 512, pp1024"),
    ("Ryzen AI Max+ 395", "Llama-3.2-3B", 3.21, None, "Q4_K_M", 2.02, "llama.cpp Vulkan", None,
     128, None, 88.14, "https://github.com/geerlingguy/ai-benchmarks/issues/21",
     "Framework Mainboard (128GB), GPU"),
    ("Ryzen AI Max+ 395", "gpt-oss-120b", 116.83, 5.13, "MXFP4", 63.39, "llama.cpp Vulkan", 7624,
     1024, 404, 52, "https://fromthematrix.dev/posts/local-llm-speed-benchmark-strix-halo",
     "gpt-oss-120b; answer length not stated"),
    ("Ryzen AI Max+ 395", "Qwen3-Coder-30B-A3B", 30.53, 3.35, "Q4_K_M", 18.56, "llama.cpp Vulkan",
     7624, 1024, 779, 66, "https://fromthematrix.dev/posts/local-llm-speed-benchmark-strix-halo",
     "Qwen3-Coder-30B-A3B; answer length not stated"),
    ("Ryzen AI Max+ 395", "Devstral-Small-2", 23.57, None, "Q4_K_M", 14.33, "llama.cpp Vulkan",
     7624, 1024, 281, 14, "https://fromthematrix.dev/posts/local-llm-speed-benchmark-strix-halo",
     "Devstral-Small-2; answer length not stated"),
    ("Apple M1 Max", "Llama-3.1-8B", 8.03, None, "Q4_K_M", 4.92, "llama.cpp Metal", 512, None,
     499.58, None, f"{_NORMIE}/40", "pp512"),
    ("Apple M1 Max", "Llama-3.1-8B", 8.03, None, "Q4_K_M", 4.92, "llama.cpp Metal", None, 128,
     None, 46.2, f"{_NORMIE}/40", "tg128"),
    ("Apple M4", "Llama-3.1-8B", 8.03, None, "Q4_K_M", 4.92, "llama.cpp Metal", 512, None,
     224.81, None, f"{_NORMIE}/3", "pp512"),
    ("Apple M4", "Llama-3.1-8B", 8.03, None, "Q4_K_M", 4.92, "llama.cpp Metal", None, 128,
     None, 20.87, f"{_NORMIE}/3", "tg128"),
    ("Apple M1 Ultra", "Llama-3.2-3B", 3.21, None, "Q4_K_M", 2.02, "llama.cpp Metal", 512, None,
     2142.59, None, "https://github.com/geerlingguy/ai-benchmarks/issues/48", "pp512"),
    ("Apple M1 Ultra", "Llama-3.2-3B", 3.21, None, "Q4_K_M", 2.02, "llama.cpp Metal", None, 128,
     None, 127.6, "https://github.com/geerlingguy/ai-benchmarks/issues/48", "64-core GPU"),
    ("Apple M3 Ultra", "Llama-3.2-3B", 3.21, None, "Q4_K_M", 2.02, "llama.cpp Metal", None, 128,
     None, 154.60, "https://github.com/geerlingguy/ai-benchmarks/issues/42", "Mac Studio 512GB"),
    ("Apple M3 Ultra", "DeepSeek-R1-Distill-Qwen-14B", 14.77, None, "Q4_K_M", 8.99,
     "llama.cpp Metal", None, 128, None, 51.85,
     "https://github.com/geerlingguy/ai-benchmarks/issues/42", "Mac Studio 512GB"),
    ("RTX 5090", "Qwen3-8B", 8.19, None, "Q4_K_M", 5.03, "llama.cpp CUDA", None, 128, None, 221.7,
     "https://github.com/CambrianTech/continuum/pull/1627", "WSL2; length not stated"),
    ("RTX 3080 Ti", "DeepSeek-R1-Distill-Qwen-14B", 14.77, None, "Q4_K_M", 8.99,
     "llama.cpp Vulkan", None, 128, None, 70.74,
     "https://github.com/geerlingguy/ai-benchmarks/issues/39", "Intel 265K PC"),
    ("RTX 4070 Ti", "DeepSeek-R1-Distill-Qwen-14B", 14.77, None, "Q4_K_M", 8.99,
     "llama.cpp Vulkan", None, 128, None, 49.74,
     "https://github.com/geerlingguy/ai-benchmarks/issues/45", "Intel 265K PC"),
    ("RTX 4070 Ti", "Llama-3.2-3B", 3.21, None, "Q4_K_M", 2.02, "llama.cpp Vulkan", None, 128,
     None, 196.15, "https://github.com/geerlingguy/ai-benchmarks/issues/45", "Intel 265K PC"),
    ("RTX 3060", "DeepSeek-R1-Distill-Qwen-14B", 14.77, None, "Q4_K_M", 8.99, "llama.cpp Vulkan",
     None, 128, None, 29.77, "https://github.com/geerlingguy/ai-benchmarks/issues/40",
     "Intel 265K PC"),
    ("RTX 3060", "Llama-3.2-3B", 3.21, None, "Q4_K_M", 2.02, "llama.cpp Vulkan", None, 128, None,
     122.85, "https://github.com/geerlingguy/ai-benchmarks/issues/40", "Intel 265K PC"),
]  # fmt: skip


def runs() -> list[dict[str, Any]]:
    """Return the rows as ``runs.csv`` holds them; every rate is a row of its own."""
    rows = [*_of_dai(), *(_row(*fields) for fields in _SINGLE)]
    return [{"run_id": f"P{k:04}", **row} for k, row in enumerate(rows, start=1)]


def _of_dai() -> Iterator[dict[str, Any]]:
    lengths = (512, 1024, 4096, 8192)
    for (device, file), rates in _DAI_RATES.items():
        size, quant = file.split()
        about = (f"Llama-3-{size}", _LLAMA_3[size], None, quant, _DAI_GIB[file] * 1.073741824)
        for tokens, answer, prompt in zip(lengths, rates[:4], rates[4:], strict=True):
            at = f"LLaMA 3, {device}, {file}"
            engine = "llama.cpp Metal" if device.startswith("Apple") else "llama.cpp CUDA"
            if answer is not None:
                place = f"{at}, tg {tokens}"
                yield _row(device, *about, engine, None, tokens, None, answer, _DAI, place)
            if prompt is not None:
                place = f"{at}, pp {tokens}"
                yield _row(device, *about, engine, tokens, None, prompt, None, _DAI, place)


def _row(
    device: str, model: str, params: float, active: float | None, quant: str, size: float,
    engine: str, prompt: int | None, answer: int | None, prefill: float | None,
    decode: float | None, source: str, locator: str,
) -> dict[str, Any]:  # fmt: skip
    return {
        "device": device,
        "model": model,
        "params_b": params,
        "active_params_b": active,
        "quant": quant,
        "weights_gb": round(size, 3),
        "engine": engine,
        "batch": 1,
        "prompt_tokens": prompt,
        "output_tokens": answer,
        "prefill_tokens_per_s": prefill,
        "decode_tokens_per_s": decode,
        "fits": _fits(device, prefill, decode),
        "spec_decode": "no",
        "grade": "B",
        "source": source,
        "commit": _COMMITS.get(source, "not recorded"),
        "locator": locator,
    }


#: Devices whose decoding the collection calibrates: pages added here only check it.
_COLLECTED = ("RTX 4090", "RTX 3090")


def _fits(device: str, prefill: float | None, decode: float | None) -> str:
    """Return what a row calibrates.

    Many rows of two models would make what all devices have in common that of those models.
    """
    words = []
    if decode is not None and device not in _COLLECTED:
        words += ["decode", "alone"]
    if prefill is not None:
        words.append("prefill")
    return " ".join(words)
