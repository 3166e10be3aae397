"""YAML sections of the question ``place``."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from moe2opt.errors import InputError
from moe2opt.llamacpp.filetypes import file_type
from moe2opt.profiles.ram import peak_gb_per_s
from moe2opt.schema import FileName, Name, Section
from moe2opt.text import shown

Positive = Annotated[float, Field(gt=0, le=1e9)]
Speed = Annotated[float, Field(ge=1e-9, le=1e9)]
Share = Annotated[float, Field(ge=0, le=1)]
Tokens = Annotated[int, Field(ge=1, le=2**30)]

RuntimeName = Literal["llama.cpp", "ktransformers", "vllm", "sglang", "accelerate"]
CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]


class Gpu(Section):
    """A device that computes: a name of the device table, or its size and bandwidth."""

    name: Name | None = None
    """Name or alias of a device of the profile tables, such as `RTX 4090`; or any name where
    `gib` and `gb_per_s` are given."""
    gib: Positive | None = None
    """Memory in GiB; from the table when left out."""
    gb_per_s: Speed | None = None
    """Memory bandwidth in GB/s; when left out, from the table, or 500 (an assumption) where `gib`
    is given."""
    buffer: Name | None = None
    """What `-ot` calls its memory, such as `CUDA1`; the backend and its number when left out."""
    margin_gib: Annotated[float, Field(ge=0, le=1e6)] | None = None
    """Kept free on this device, in GiB; see `margin_gib` of the file."""


class Ram(Section):
    """The memory of the processor."""

    gib: Positive | None = None
    """Size in GiB; no limit when left out."""
    kind: Name | None = None
    """Such as `ddr5-6000` (two channels) or `ddr4-3200x8` (eight): how fast it is follows from
    published hosts; two channels of DDR5-5600 when nothing is said, an assumption."""
    gb_per_s: Speed | None = None
    """Rate in GB/s at which it was seen to be read; counts more than `kind`."""
    margin_gib: Annotated[float, Field(ge=0, le=1e6)] = 2.0
    """Left to the system, in GiB."""

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str | None) -> str | None:
        if kind is not None:
            try:
                peak_gb_per_s(kind)
            except InputError as error:
                raise ValueError(str(error)) from error
        return kind


class Unified(Section):
    """Memory that the processor and one device share, such as that of a Mac or of Strix Halo."""

    name: Name | None = None
    """Name of a device of the profile tables, whose size and bandwidth it is; or any name."""
    gib: Positive | None = None
    """All of it in GiB; from the table when left out."""
    gb_per_s: Speed | None = None
    """Bandwidth in GB/s; from the table when left out."""
    device_share: Annotated[float, Field(gt=0, le=1)] = 0.75
    """Share of it that the device may use: 75 % is what a Mac of 64 GiB or more allows (`sysctl
    iogpu.wired_limit_mb` raises it), and what Linux gives an integrated AMD device at most by
    default is half (`ttm.pages_limit` raises it)."""
    margin_gib: Annotated[float, Field(ge=0, le=1e6)] = 2.0
    """Left to the system, in GiB."""


class Context(Section):
    """What the conversation takes."""

    tokens: Tokens = 8192
    """Tokens of all sequences together that have room (`-c`)."""
    depth: Annotated[int, Field(ge=0, le=2**30)] | None = None
    """Filled tokens at which speed is counted; half of the room of a sequence when left out."""
    type_k: CacheType = "f16"
    """Format of keys (`-ctk`)."""
    type_v: CacheType = "f16"
    """Format of values (`-ctv`)."""
    parallel: Annotated[int, Field(ge=1, le=256)] = 1
    """Sequences at once (`-np`)."""


class Goal(Section):
    """What is to be fast."""

    prompt_tokens: Annotated[int, Field(ge=0, le=2**30)] = 0
    """Tokens of a prompt that is read first; 0 counts answers alone."""
    answer_tokens: Tokens = 1
    """Tokens of the answer."""
    least_prefill_tok_s: Positive | None = None
    """Prompts must be read at least this fast, in tokens per second."""


class Rates(Section):
    """Rates that were fitted to runs on this machine (`place --calibrate`)."""

    answers: Positive = 1.0
    """Seconds of answers on the devices, relative to those of the profile tables."""
    prompts: Positive = 1.0
    """Seconds of prompts on the devices, relative to those of the profile tables."""
    ram_gb_per_s: Positive | None = None
    """What decoding attains of RAM in GB/s."""
    ram_layer_us: Positive | None = None
    """Microseconds of handing a layer over to the processor."""
    spread: Annotated[float, Field(ge=1, le=100)] | None = None
    """Factor around seconds of answers between which new runs lie nine times in ten."""
    prompt_spread: Annotated[float, Field(ge=1, le=100)] | None = None
    """The same of prompts."""
    notes: tuple[str, ...] = ()
    """What was fitted to how many runs, what stayed assumed, and what else must be known."""


class PlaceConfig(Section):
    """Which device holds which layers and experts of one model, so that a token is fastest."""

    problem: Literal["place"]
    """The question that this file asks."""
    name: Name = "place"
    """Short name."""
    model: FileName
    """GGUF file (any one of several) or the folder that holds it, relative to this file; or
    `config.json` of a model in safetensors, or its folder."""
    runtime: RuntimeName = "llama.cpp"
    """What runs the model; settings of others than llama.cpp are priced as they compute, and a
    folder in safetensors counts as it is stored."""
    quant: Name | None = None
    """File type of llama.cpp, such as `Q4_K_M`, that a model in safetensors is quantised to."""
    command_model: FileName | None = None
    """What the line calls the model; as `model` when left out."""
    gpus: Annotated[tuple[Gpu, ...], Field(max_length=16)] = ()
    """Devices in the order in which llama.cpp lists them."""
    ram: Ram = Ram()
    """Memory of the processor."""
    unified: Unified | None = None
    """One memory for the processor and a device, in place of `gpus` and of the size of `ram`."""
    context: Context = Context()
    """What the conversation takes."""
    ubatch: Annotated[tuple[Tokens, ...], Field(min_length=1, max_length=6)] = (512,)
    """Tokens computed at once (`-ub`): the sizes that may be chosen."""
    batch: Tokens = 2048
    """Tokens handed over at once (`-b`); at least the micro-batch that is chosen."""
    goal: Goal = Goal()
    """What is to be fast."""
    margin_gib: Annotated[float, Field(ge=0, le=1e6)] = 0.75
    """Kept free on every device, in GiB, besides 15 % of its compute buffer: for the context of the
    driver and pools that grow with depth, which no log shows (300 to 750 MiB are published)."""
    pcie_gb_per_s: Speed = 20.0
    """Rate in GB/s of copies from RAM to a device; 20 (PCIe 4.0 x16) when left out, which is an
    assumption."""
    rates: Rates = Rates()
    """Rates that were fitted to runs on this machine."""
    served: Annotated[tuple[Share, ...], Field(max_length=2**16)] = ()
    """Share of the uses of a layer that its most used experts serve, for none of them, one, and so
    on up to all; what `place --activation` counted. ktransformers places such experts on cards."""
    backend: Name = "CUDA"
    """What the runtime calls its devices: CUDA, ROCm, Vulkan, SYCL, ..."""
    rpc: Annotated[tuple[Name, ...], Field(max_length=16)] = ()
    """Addresses of `ggml-rpc-server`, one for each device, where the devices are behind them."""
    flash_attention: bool = True
    """Whether `-fa on` is said."""

    @model_validator(mode="after")
    def _one_memory(self) -> Self:
        if self.unified is not None and (self.gpus or self.rpc or self.ram.gib is not None):
            raise ValueError("unified stands for gpus, rpc and ram.gib: give one or the other")
        return self

    @field_validator("quant")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        return name if name is None else file_type(name)

    @field_validator("rpc")
    @classmethod
    def _addresses(cls, servers: tuple[str, ...]) -> tuple[str, ...]:
        for server in servers:
            if not re.fullmatch(r"[^\s,]+:\d{1,5}", server):
                raise ValueError(f"'{shown(server)}' is no HOST:PORT")
        return servers

    @field_validator("ubatch")
    @classmethod
    def _once(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(sizes)) < len(sizes):
            raise ValueError("give each size once")
        return sizes
