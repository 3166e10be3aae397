"""What is on offer and where it runs: LLMs, precisions, servers, and how they are served."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from moe2opt.schema import FileName, Name, Section

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Port = Annotated[int, Field(ge=1, le=65535)]


class LlmPool(Section):
    """Which LLMs of the tables may be deployed."""

    max_params_b: Positive | None = None
    """Largest number of parameters in memory, in units of 1e9; none for no limit."""
    include: tuple[Name, ...] | None = None
    """Names to choose from; all of them when left out."""
    exclude: tuple[Name, ...] = ()
    """Names to leave out."""


class Precision(Section):
    """A weight format that every LLM is offered in."""

    name: Name
    """Name of the precision; the profile table `precisions.csv` knows fp16, q8 and q4."""
    bits_per_weight: Annotated[float, Field(gt=0, le=64)] | None = None
    """Effective bits per weight, scales included; from the profile table when left out."""
    quality_factor: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the accuracy that remains; from the profile table (estimated) when left out."""
    engine: Name | None = None
    """Engine that runs it, such as `llama.cpp` or `vLLM`; the usual one of the format when left
    out."""


class MeasuredSection(Section):
    """A table of what was measured, and how it is used."""

    file: FileName
    """CSV file, relative to this file (docs/reference/measured-tables.md)."""
    strict: bool = False
    """Whether missing cells are refused; otherwise they are predicted from the profiles, and the
    plan says which."""
    network: Literal["added", "included"] = "added"
    """Whether the network's time is `added` to seconds of whole answers, or `included` in them."""


class Server(Section):
    """A machine, or several identical ones, that can host experts; or an API of somebody else."""

    name: Name
    """Name of the server; with `count` above 1 the copies are called name-1, name-2, ..."""
    api: bool = False
    """Whether it is an API: it has no memory to fill, any LLM of any size may be there, and what
    its answers take is what the measured table says, network included."""
    device: Annotated[Name | None, Field(validate_default=True)] = None
    """Device of the profile table `devices.csv`, such as `RTX 4090`; required unless it is an
    API."""
    count: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many identical servers."""
    llms: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    """LLMs that it may hold; any when left out, of an API those that the measured table names."""
    precisions: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    """Precisions that it may hold; any when left out."""
    power_mode: Name | None = None
    """Power mode of the device, such as `15W`; its usual one when left out."""
    power_cap_w: Positive | None = None
    """Power cap in watts; none when left out. A lower cap takes longer."""
    memory_gib: Positive | None = None
    """Memory for weights in GiB; from the profile table when left out."""
    reserve_gib: NonNegative = 0.0
    """Memory in GiB kept free for the system."""
    uplink_mbps: Annotated[Positive | None, Field(validate_default=True)] = None
    """Rate from the user to the server in Mbit/s; required unless it is an API."""
    downlink_mbps: Annotated[Positive | None, Field(validate_default=True)] = None
    """Rate from the server to the user in Mbit/s; required unless it is an API."""
    round_trip_ms: NonNegative = 0.0
    """Network round trip in milliseconds."""
    money_per_hour: NonNegative = 0.0
    """What it costs per hour, in the currency of `money`."""
    billed: Literal["deployed", "busy"] = "deployed"
    """What that price is paid for: hours in which anything is `deployed` on it, or hours in which
    it is `busy` with answers, which makes it a price per prompt."""

    @field_validator("device", "uplink_mbps", "downlink_mbps")
    @classmethod
    def _own(cls, value: float | str | None, others: ValidationInfo) -> float | str | None:
        if value is None and not others.data.get("api"):
            raise PydanticCustomError("missing", "Field required")
        if value is not None and others.data.get("api"):
            raise ValueError("an API has none: its seconds are those of the measured table")
        return value

    @model_validator(mode="after")
    def _api(self) -> Server:
        own = ("count", "precisions", "power_mode", "power_cap_w", "memory_gib", "reserve_gib",
               "round_trip_ms", "money_per_hour", "billed")  # fmt: skip
        if self.api and (given := [name for name in own if name in self.model_fields_set]):
            raise ValueError(f"{given[0]}: an API has none")
        return self

    @property
    def copies(self) -> tuple[str, ...]:
        """Names of the single servers."""
        if self.count == 1:
            return (self.name,)
        return tuple(f"{self.name}-{copy}" for copy in range(1, self.count + 1))

    @property
    def names(self) -> tuple[str, ...]:
        """Names by which a file may mean it: its own, and those of its copies."""
        return tuple(dict.fromkeys((self.name, *self.copies)))


class Serving(Section):
    """Where the deployed experts run and where their weights are; read by `moe2opt export` only.

    What is left out becomes a placeholder that the export marks.
    """

    group: Name = "moe2"
    """Name of the model that clients ask the proxy for."""
    hosts: dict[Name, Name] = Field(default_factory=dict)
    """Host name or address of each server, as the proxy reaches it."""
    listen: Name | None = None
    """Address that every server listens on, such as 0.0.0.0 for all of its networks; when left out,
    the one in `hosts`, and 127.0.0.1 where there is none."""
    first_port: Port = 8080
    """Port of the first expert on a host; the others follow."""
    model_folder: FileName = "/models"
    """Folder of the weight files on the servers."""
    model_files: dict[Name, dict[Name, FileName]] = Field(default_factory=dict)
    """Weight file of each LLM and precision, relative to `model_folder`."""
    context_tokens: Annotated[int, Field(ge=1)] = 4096
    """Context of one request in tokens; `context_gib` must have room for it."""
    gpu_layers: Annotated[int, Field(ge=0)] = 99
    """Layers of every model on the accelerator; selections assume all of them."""
