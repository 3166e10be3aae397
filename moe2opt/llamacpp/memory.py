"""Bytes of every device under one command line: weights, context, compute buffer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from moe2opt.llamacpp.compute import compute_bytes, host_compute_bytes
from moe2opt.llamacpp.context import context_bytes
from moe2opt.llamacpp.layout import CPU, Layout
from moe2opt.llamacpp.line import Line
from moe2opt.llamacpp.model import LlamaModel


@dataclass(frozen=True, slots=True)
class Backend:
    """What a backend of llama.cpp does beside the formulas.

    Attributes
    ----------
    copies
        Whether weights in RAM are copied to the device that computes a batch (op offload).
    pipelines
        Whether several devices work on several batches at once.
    """

    copies: bool = True
    pipelines: bool = True


#: Devices behind `ggml-rpc-server` do neither.
RPC = Backend(copies=False, pipelines=False)


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Bytes that a device (or RAM) gives to a run."""

    weights_bytes: float
    context_bytes: float
    compute_bytes: float

    @property
    def total_bytes(self) -> float:
        """All of it."""
        return self.weights_bytes + self.context_bytes + self.compute_bytes


def memory_of(
    model: LlamaModel,
    line: Line,
    layout: Layout,
    devices: int,
    backend: Backend = Backend(),
) -> list[DeviceMemory]:
    """Return what each device holds, and last what RAM holds.

    The token table always stays in RAM; the context of a layer and its dense part lie on the
    layer's device, wherever its experts are. What no buffer shows (the context of a driver, pools
    that grow with depth) is not here: a plan keeps a margin for it.

    Parameters
    ----------
    devices
        How many devices there are; those of `layout` count from 0.
    backend
        What computes; CUDA, ROCm, Vulkan and Metal copy and pipeline.
    """
    weights = [0.0] * (devices + 1)
    context = [0.0] * (devices + 1)
    weights[CPU] += model.input_bytes
    weights[layout.homes[-1]] += model.output_bytes
    for layer in model.layers:
        home = layout.homes[layer.index]
        weights[home] += layer.other_bytes
        context[home] += context_bytes(model, layer, line)
        for matrix, size in layer.experts.items():
            weights[layout.of_experts(layer.index, matrix)] += size
    compute = [_compute(model, line, layout, device, devices, backend) for device in range(devices)]
    compute.append(host_compute_bytes(model, line))
    return [DeviceMemory(*own) for own in zip(weights, context, compute, strict=True)]


def _compute(
    model: LlamaModel, line: Line, layout: Layout, device: int, devices: int, backend: Backend
) -> float:
    own = [layer for layer in model.layers if layout.homes[layer.index] == device]
    held = [
        layer
        for layer in model.layers
        if any(layout.of_experts(layer.index, matrix) == device for matrix in layer.experts)
    ]
    # The scheduler gives a batch of what is in RAM to the first device, wherever its layer is.
    copies = backend.copies and device == 0
    return compute_bytes(
        model,
        own + [layer for layer in held if layer not in own],
        line,
        output=layout.homes[-1] == device,
        copied_bytes=max(_copied(model, layout), default=0) if copies else 0,
        pipeline=backend.pipelines
        and len(set(layout.homes)) > 1
        and not layout.experts
        and CPU not in layout.homes,
    )


def _copied(model: LlamaModel, layout: Layout) -> Iterable[int]:
    """Yield the bytes of tensors in RAM that are copied for a batch.

    They are experts of layers on devices, and everything of layers that have no device.
    """
    for layer in model.layers:
        for matrix, size in layer.experts.items():
            if layout.of_experts(layer.index, matrix) == CPU:
                yield size
        if layout.homes[layer.index] == CPU:
            yield layer.largest_other_bytes
