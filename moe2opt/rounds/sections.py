"""YAML sections of the question ``rounds``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from moe2opt.schema import FileName, Name, Section

Positive = Annotated[float, Field(gt=0, le=1e15)]
Weight = Annotated[float, Field(ge=0, le=1e9)]
Count = Annotated[int, Field(ge=1, le=1000)]


class Goal(Section):
    """What a round is to cost little of: its seconds, its joules, or their weighted sum."""

    time: Weight = 0.0
    """Weight of the seconds of the round."""
    energy: Weight = 0.0
    """Weight of the joules of all devices, each times its `energy_queue` where the devices have
    one."""
    deadline_s: Positive | None = None
    """The round must end by then; no deadline when left out."""

    @model_validator(mode="after")
    def _something(self) -> Goal:
        if not self.time and not self.energy:
            raise ValueError("one of time and energy needs a weight above 0")
        return self


class Throughputs(Section):
    """Measured rates in place of path loss."""

    table: FileName
    """CSV with the columns device, slot, mbps: what the device gets from the whole band."""
    slot: Annotated[int, Field(ge=0, le=2**31)]
    """The slot in which the round takes place."""


class Radio(Section):
    """The band that all devices share."""

    bandwidth_hz: Positive
    """Width of the band; as many resource blocks as fit into it are shared out."""
    block_hz: Positive = 180e3
    """Width of a resource block; that of LTE and of NR at 15 kHz when left out."""
    noise_dbm_hz: Annotated[float, Field(ge=-250, le=0)] = -174.0
    """Noise per Hz in dBm; thermal noise when left out."""
    power_w: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=32)] = (0.2,)
    """Powers in watts at which a device may send."""
    grants: Annotated[tuple[Count, ...], Field(min_length=1, max_length=200)] | None = None
    """How many blocks one device may get; any number when left out. Fewer sizes are solved
    sooner."""
    path_loss: Literal["macro", "device"] = "macro"
    """Loss over `distance_km`: to a base station (128.1 + 37.6 log10 km dB) or from device to
    device (148 + 40 log10 km dB)."""
    throughputs: Throughputs | None = None
    """Measured rates in place of path loss; `power_w` then holds the one power at which they were
    measured."""

    @property
    def blocks(self) -> int:
        """Number of resource blocks."""
        return int(self.bandwidth_hz / self.block_hz * (1 + 1e-12))

    @field_validator("power_w", "grants")
    @classmethod
    def _once(cls, values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if values is not None and len(set(values)) < len(values):
            raise ValueError("give each value once")
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Radio:
        if not 1 <= self.blocks <= 1000:
            raise ValueError(f"the band holds {self.blocks} resource blocks; 1 to 1000 are meant")
        if self.throughputs is not None and len(self.power_w) > 1:
            raise ValueError("with throughputs, power_w holds the one power of the measurement")
        return self


class AssignBlocks(Section):
    """Each block of a model is trained by one device and sent; a device takes one block at most."""

    kind: Literal["assign_blocks"]
    """The kind of work."""
    table: FileName
    """CSV of blocks: block, gflop (of training it for a round), upload_mbit, memory_mb."""


class Pipeline(Section):
    """Devices in a chain hold consecutive layers and pass on what a batch makes, in parts."""

    kind: Literal["pipeline"]
    """The kind of work."""
    layers: Annotated[int, Field(ge=1, le=200)]
    """Layers of the model, all alike."""
    layer_gflop: Positive
    """Operations of one layer for the whole batch, forward and backward (GFLOP)."""
    boundary_mbit: Positive
    """What a device passes on for the whole batch, in both directions (Mbit)."""
    layer_mb: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    """Memory of a layer (MB): weights, gradients, optimizer and kept activations."""
    overhead_s: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """Seconds that every part of the batch costs at every device besides."""
    micro_batches: Annotated[tuple[Count, ...], Field(min_length=1, max_length=32)] = (1,)
    """Into how many equal parts the batch may be cut."""


class QuantisedUpload(Section):
    """Every device computes and sends values; in how many bits each is part of the plan."""

    kind: Literal["quantised_upload"]
    """The kind of work."""
    gflop: Positive
    """Operations of a device in the round (GFLOP)."""
    values: Positive
    """Numbers that a device sends in the round."""
    received_values: Annotated[float, Field(ge=0, le=1e15)] = 0.0
    """Numbers that it waits for in the round, at the same rate and in as many bits each: they take
    its time, but no energy of sending."""
    bits: Annotated[tuple[Annotated[int, Field(ge=1, le=32)], ...], Field(min_length=1)]
    """Bits per value that may be chosen."""


class Limits(Section):
    """What all devices together may use."""

    energy_j: Positive | None = None
    """Most joules of the round."""
    quantisation_error: Positive | None = None
    """Most of the sum of share x (2^bits - 1)^-2 over devices, for ``quantised_upload``."""


class RoundsConfig(Section):
    """Who does what in a round on one radio, so that it costs least time, energy or both."""

    problem: Literal["rounds"]
    """The question that this file asks."""
    name: Name
    """Short name."""
    objective: Goal
    """What the round is to cost little of."""
    radio: Radio
    """The band that all devices share."""
    devices: FileName
    """CSV of devices: name, gflop_per_s (or flops, per second); distance_km or gain_db (neither
    with throughputs); optional memory_mb, pj_per_flop, energy_limit_j, energy_queue, share."""
    work: Annotated[AssignBlocks | Pipeline | QuantisedUpload, Field(discriminator="kind")]
    """What is to be done."""
    limits: Limits = Limits()
    """What all devices together may use."""
    notes: tuple[str, ...] = ()
    """What must be known to read the figures."""
