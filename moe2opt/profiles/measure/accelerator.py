"""A CUDA device: its memory, the way to it, and its arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from moe2opt.profiles.measure.arithmetic import Library, Torch, measure_arithmetic
from moe2opt.profiles.measure.figures import Action, Effort, Figure, figure, rates, seconds_of

#: Sizes of the transfers in bytes.
BLOCKS_BYTES = (64 * 2**10, 2**20, 16 * 2**20, 64 * 2**20)

#: The device's memory is read through a buffer of at most this share of it.
_SHARE = 8


class Accelerator(Protocol):
    """A device with memory of its own.

    Attributes
    ----------
    name, memory_bytes
        What it calls itself, and its memory.
    library
        Arithmetic on it.
    """

    @property
    def name(self) -> str:
        """Name of the device."""

    @property
    def memory_bytes(self) -> int:
        """Size of its memory."""

    @property
    def library(self) -> Library:
        """Arithmetic on it."""

    def transfer(self, size: int, direction: str) -> Action:
        """Return a call that moves `size` bytes, ``h2d`` or ``d2h``, and waits."""

    def read(self, size: int) -> Action:
        """Return a call that reads `size` bytes of its memory, and waits."""


class Cuda:
    """The first CUDA device of torch."""

    def __init__(self, torch: Any, device: str = "cuda") -> None:
        self.torch, self.device = torch, device
        properties = torch.cuda.get_device_properties(0)
        self.name = str(properties.name)
        self.memory_bytes = int(properties.total_memory)
        self.library: Library = Torch(torch, device)

    def transfer(self, size: int, direction: str) -> Action:
        """Return a copy between page-locked memory and the device."""
        host = self.torch.zeros(size, dtype=self.torch.uint8, pin_memory=True)
        there = self.torch.zeros(size, dtype=self.torch.uint8, device=self.device)
        target, source = (there, host) if direction == "h2d" else (host, there)
        return self._waiting(lambda: target.copy_(source, non_blocking=True))

    def read(self, size: int) -> Action:
        """Return the sum over a buffer."""
        buffer = self.torch.ones(size // 4, dtype=self.torch.float32, device=self.device)
        return self._waiting(buffer.sum)

    def _waiting(self, call: Action) -> Action:
        def waiting() -> None:
            call()
            self.torch.cuda.synchronize()

        return waiting


def find_accelerators(torch: Any) -> list[Accelerator]:
    """Return the first CUDA device, or nothing."""
    return [Cuda(torch)] if torch is not None and torch.cuda.is_available() else []


def measure_accelerator(device: str, accelerator: Accelerator, effort: Effort) -> Iterator[Figure]:
    """Yield transfers by size, the bandwidth of its memory, and its arithmetic."""
    for block in BLOCKS_BYTES:
        for direction in ("h2d", "d2h"):
            action = accelerator.transfer(block, direction)
            samples = rates(seconds_of(action, effort), block)
            how = "page-locked memory, one transfer at a time"
            yield figure(device, f"pcie_{direction}@{block}", "GB/s", samples, how)
            if block == max(BLOCKS_BYTES):
                yield figure(device, f"pcie_{direction}", "GB/s", samples, how)
    room = min(effort.buffer_bytes, accelerator.memory_bytes // _SHARE)
    samples = rates(seconds_of(accelerator.read(room), effort), room)
    yield figure(device, "vram_read", "GB/s", samples, f"sum over {room // 2**20} MiB")
    yield from measure_arithmetic(device, accelerator.library, effort, accelerator.memory_bytes)
