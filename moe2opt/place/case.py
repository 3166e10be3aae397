"""Everything that a plan is decided by: the model, the machine, the line, and derived seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

import numpy as np

from moe2opt.errors import InputError
from moe2opt.llamacpp import RPC, Backend, Line, LlamaLayer, LlamaModel, context_bytes
from moe2opt.llamacpp.compute import compute_bytes, host_compute_bytes
from moe2opt.llamacpp.context import read_bytes
from moe2opt.place.machine import Device, Machine
from moe2opt.place.sections import PlaceConfig
from moe2opt.result import FloatArray, IntArray

#: What a compute buffer is multiplied by: 147 measured ones lie below 1.15 times the formula and
#: 16 MiB, which the margin holds (see `moe2opt.llamacpp.compute`).
COMPUTE_MARGIN = 1.15

#: Seconds of an operation of a prompt on a processor: about ten times those of a small device.
_PROCESSOR_S = 1e-12

#: Most bytes of a block and its context: what more is asked for is a mistake of the header.
_MOST_BYTES = 2**50


@dataclass(frozen=True, slots=True)
class Variant:
    """What is decided once for a whole run.

    Attributes
    ----------
    devices
        Numbers of the devices that hold layers, in order; empty for none.
    ubatch
        Tokens computed at once.
    offloads
        Whether experts may lie elsewhere than with their layer, or layers in RAM.
    copies
        Whether something lies in RAM that is copied to the first device for a batch.
    """

    devices: tuple[int, ...]
    ubatch: int
    offloads: bool
    copies: bool = True


@dataclass(frozen=True, eq=False)
class Case:
    """A model on a machine.

    Attributes
    ----------
    config, model, machine
        The sections, the model and the machine.
    """

    config: PlaceConfig
    model: LlamaModel
    machine: Machine

    def first_of_equal(self, subset: tuple[int, ...]) -> tuple[int, ...]:
        """Return a set of devices with the first of equal neighbours in place of later ones.

        Which of them are in use makes no difference, but for the first device, which keeps room
        for what is copied.
        """
        devices = [replace(device, name="") for device in self.machine.devices]
        found: list[int] = []
        for _, run in groupby(range(len(devices)), lambda d: (d == 0, devices[d])):
            numbers = list(run)
            found += numbers[: sum(d in subset for d in numbers)]
        return tuple(found)

    @property
    def backend(self) -> Backend:
        """What the devices do besides computing."""
        return RPC if self.config.rpc else Backend()

    def line(self, ubatch: int) -> Line:
        """Return the memory settings of a command line."""
        context = self.config.context
        return Line(
            context_tokens=context.tokens,
            ubatch=ubatch,
            batch=max(self.config.batch, ubatch),
            sequences=context.parallel,
            unified=False,
            type_k=context.type_k,
            type_v=context.type_v,
            flash_attention=self.config.flash_attention,
        )

    @property
    def depth(self) -> int:
        """Filled tokens of a sequence at which speed is counted."""
        context = self.config.context
        room = context.tokens // context.parallel
        if not room:
            raise InputError(
                f"context.tokens: {context.tokens} are less than one for each of "
                f"{context.parallel} sequences"
            )
        if context.depth is None:
            return room // 2
        if context.depth > room:
            raise InputError(
                f"context.depth: {context.depth} tokens do not fit into a sequence of {room}"
            )
        return context.depth

    # ------------------------------------------------------------------ bytes

    def layer_bytes(self, ubatch: int) -> IntArray:
        """Return the ``(blocks,)`` bytes that go with the home of each block, context included."""
        line, sizes = self.line(ubatch), np.zeros(self.model.blocks, dtype=np.int64)
        for layer in self.model.layers:
            held = layer.other_bytes + context_bytes(self.model, layer, line)
            if held > _MOST_BYTES:
                raise InputError(f"model: block {layer.index} and its context take {held:.3g} B")
            sizes[layer.index] = int(np.ceil(held))
        return sizes

    def compute_bytes(self, variant: Variant, device: int) -> int:
        """Return what a device keeps for computing, with its margin, whatever layers it holds."""
        if device not in variant.devices:
            return 0
        if (variant, device) not in self._computing:
            self._computing[variant, device] = self._compute_bytes(variant, device)
        return self._computing[variant, device]

    @cached_property
    def _computing(self) -> dict[tuple[Variant, int], int]:
        """What was found of compute buffers."""
        return {}

    def _compute_bytes(self, variant: Variant, device: int) -> int:
        copied = 0
        if variant.offloads and variant.copies and self.backend.copies and device == 0:
            copied = max(
                max((layer.largest_other_bytes, *layer.experts.values()))
                for layer in self.model.layers
            )
        need = compute_bytes(
            self.model,
            self.model.layers,
            self.line(variant.ubatch),
            output=device == variant.devices[-1],
            copied_bytes=copied,
            pipeline=self.backend.pipelines and not variant.offloads and len(variant.devices) > 1,
        )
        return int(np.ceil(COMPUTE_MARGIN * need))

    def host_bytes(self, variant: Variant) -> int:
        """Return what RAM holds besides layers and experts."""
        need = COMPUTE_MARGIN * host_compute_bytes(self.model, self.line(variant.ubatch))
        output = 0 if variant.devices else self.model.output_bytes
        return self.model.input_bytes + output + int(np.ceil(need))

    def pool_bytes(self, variant: Variant) -> float:
        """Return what a run takes of all memory together, margins of devices included."""
        held = float(self.layer_bytes(variant.ubatch).sum()) + self.host_bytes(variant)
        held += sum(layer.expert_bytes for layer in self.model.layers)
        for d in variant.devices:
            held += self.compute_bytes(variant, d) + self.machine.devices[d].margin_bytes
        return held + (self.model.output_bytes if variant.devices else 0)

    def usable_bytes(self, device: int) -> int:
        """Return what a device offers, its margin taken off."""
        own = self.machine.devices[device]
        return own.capacity_bytes - own.margin_bytes

    # ------------------------------------------------------------------ seconds

    @property
    def _share(self) -> float:
        """Share of the experts of a layer that a token uses."""
        return self.model.top_k / self.model.experts if self.model.experts else 0.0

    def home_s(self, layer: LlamaLayer, device: Device | None) -> float:
        """Return seconds per answered token of a layer's attention and dense part."""
        read = read_bytes(self.model, layer, self.line(512), self.depth)
        if device is None:
            return (layer.other_bytes + read) * self.machine.ram_byte_s
        reading = device.reading_s(layer.other_bytes, layer.other_weights) + read * device.byte_s
        return reading + device.fixed_s / len(self.model.layers)

    def experts_s(self, layer: LlamaLayer, device: Device | None, part: float = 1.0) -> float:
        """Return seconds per answered token of a part of a layer's routed experts."""
        size = layer.expert_bytes * self._share * part
        if device is None:
            return size * self.machine.ram_byte_s + self.machine.ram_layer_s
        reading = device.reading_s(size, layer.expert_weights * self._share * part)
        return reading + part * device.routed_s / sum(map(len, self.classes))

    def output_s(self, variant: Variant) -> float:
        """Return seconds per answered token of the output."""
        if not variant.devices:
            return self.model.output_bytes * self.machine.ram_byte_s
        return self.model.output_bytes * self.machine.devices[variant.devices[-1]].byte_s

    def prompt_home_s(self, layer: LlamaLayer, device: Device | None, ubatch: int) -> float:
        """Return seconds per prompt token of a layer's dense part."""
        operations = 2.0 * layer.other_weights
        if device is not None:
            return operations * device.operation_s[0]
        return self._prompt_ram_s(layer.other_bytes, operations, 0.0, ubatch)

    def prompt_experts_s(self, layer: LlamaLayer, device: Device | None, ubatch: int) -> float:
        """Return seconds per prompt token of a layer's experts."""
        operations = 2.0 * layer.expert_weights * self._share
        if device is not None:
            return operations * device.operation_s[1]
        return self._prompt_ram_s(layer.expert_bytes, 0.0, operations, ubatch)

    def _prompt_ram_s(self, size: float, dense: float, routed: float, ubatch: int) -> float:
        """Return seconds per prompt token of what is in RAM, of so many operations.

        Each batch copies it to a device, the slowest one to be safe; to one behind a server nothing
        is copied, and the processor computes.
        """
        rates = [d.operation_s for d in self.machine.devices]
        if not rates or not self.backend.copies:
            return (dense + routed) * _PROCESSOR_S
        computed = dense * max(r[0] for r in rates) + routed * max(r[1] for r in rates)
        return size * self.machine.copy_byte_s / ubatch + computed

    @cached_property
    def prompt_alone_s(self) -> float:
        """Seconds per prompt token of the processor alone, where nothing is copied."""
        share = self._share
        weights = sum(o.other_weights + share * o.expert_weights for o in self.model.layers)
        return 2.0 * weights * _PROCESSOR_S

    def prompt_more_s(self, variant: Variant) -> float:
        """Return seconds per prompt token beyond those of layers and experts in RAM.

        These are computed by a device to which they are copied, unless there is none in use.
        """
        if variant.devices:
            return 0.0
        counted = sum(
            at_home(layer, None, variant.ubatch)
            for layer in self.model.layers
            for at_home in (self.prompt_home_s, self.prompt_experts_s)
        )
        return self.prompt_alone_s - counted

    @property
    def prompt_matters(self) -> bool:
        """Whether the goal counts the reading of prompts."""
        goal = self.config.goal
        return goal.prompt_tokens > 0 or goal.least_prefill_tok_s is not None

    @property
    def weights(self) -> tuple[float, float]:
        """Share of a prompt token and of an answered one in the objective, per answered token."""
        goal = self.config.goal
        return goal.prompt_tokens / goal.answer_tokens, 1.0

    # ------------------------------------------------------------------ classes

    @cached_property
    def classes(self) -> tuple[tuple[LlamaLayer, ...], ...]:
        """Layers with experts, those of equal experts together, in order of the first of each."""
        found: dict[tuple[object, ...], list[LlamaLayer]] = {}
        for layer in self.model.layers:
            if layer.experts:
                key = (tuple(sorted(layer.experts.items())), layer.expert_weights)
                found.setdefault(key, []).append(layer)
        return tuple(map(tuple, found.values()))

    def before(self, c: int) -> IntArray:
        """Return the ``(blocks + 1,)`` numbers of layers of a class among the first blocks."""
        flags = np.zeros(self.model.blocks, dtype=np.int64)
        flags[[layer.index for layer in self.classes[c]]] = 1
        return np.concatenate([[0], np.cumsum(flags)])

    def ubatches(self) -> Iterator[int]:
        """Yield the micro-batches that what is in RAM is told apart by."""
        yield from sorted(self.config.ubatch) if self.prompt_matters else self.config.ubatch[:1]

    def home_seconds(self, device: Device | None, ubatch: int) -> FloatArray:
        """Return the ``(blocks + 1,)`` weighted seconds of the homes of the first blocks.

        On a device they are the same for every micro-batch.
        """
        prompt, answer = self.weights
        own = np.zeros(self.model.blocks)
        for layer in self.model.layers:
            own[layer.index] = answer * self.home_s(layer, device)
            if prompt:
                own[layer.index] += prompt * self.prompt_home_s(layer, device, ubatch)
        return np.concatenate([[0.0], np.cumsum(own)])

    def homes_s(self, device: int) -> FloatArray:
        """Return the ``(blocks + 1, blocks + 1)`` weighted seconds of homes between two cuts."""
        seconds = self.home_seconds(self.machine.devices[device], self.config.ubatch[0])
        return np.asarray(seconds[None, :] - seconds[:, None])

    def expert_seconds(
        self, layer: LlamaLayer, device: Device | None, ubatch: int, part: float = 1.0
    ) -> float:
        """Return the weighted seconds of a part of a layer's experts."""
        prompt, answer = self.weights
        found = answer * self.experts_s(layer, device, part)
        if prompt:
            found += prompt * part * self.prompt_experts_s(layer, device, ubatch)
        return found
