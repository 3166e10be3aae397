"""Matrix products and expert layers, by precision, with torch where it is installed.

The expert is a gated feed-forward layer, three matrix products, of the shape that Qwen3-30B-A3B
has (hidden size 2048, inner size 768). With one token it is bound by reading weights, so a call
takes the next expert of a pool larger than the caches; with many tokens it is bound by arithmetic.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from moe2opt.profiles.measure import machine
from moe2opt.profiles.measure.figures import (
    Action,
    Clock,
    Effort,
    Figure,
    figure,
    rates,
    seconds_of,
)

HIDDEN, INNER = 2048, 768

#: Tokens per call: one as in decoding, many as in reading a prompt.
ONE, MANY = 1, 256

BYTES_OF = {"fp32": 4, "bf16": 2, "fp16": 2}

_SIZES = (256, 512, 1024, 2048, 4096)

#: A matrix product that takes this long is large enough to be timed.
_LONG_ENOUGH_S = 0.05

_EXPERT_WEIGHTS = 3 * HIDDEN * INNER
_FEWEST_EXPERTS, _MOST_EXPERTS = 2, 64


class Library(Protocol):
    """A numerical library on one device.

    Attributes
    ----------
    about
        Name, version and threads, for the method of a figure.
    precisions
        What it computes in, of `BYTES_OF`.
    """

    @property
    def about(self) -> str:
        """Name, version and threads."""

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions on offer."""

    def product(self, size: int, precision: str) -> Action:
        """Return a call that multiplies two square matrices and waits for the result."""

    def experts(self, count: int, tokens: int, precision: str) -> Action:
        """Return a call that sends `tokens` through the next of `count` experts and waits."""


class Numpy:
    """numpy on the processor, single precision only: its half precision is emulated."""

    precisions = ("fp32",)

    @property
    def about(self) -> str:
        """Name and version."""
        return f"numpy {np.__version__}"

    def product(self, size: int, precision: str) -> Action:
        """Return a matrix product into a kept result."""
        left, right = (np.full((size, size), v, dtype=np.float32) for v in (0.5, 0.25))
        out = np.empty_like(left)
        return lambda: np.matmul(left, right, out=out)

    def experts(self, count: int, tokens: int, precision: str) -> Action:
        """Return a gated layer over a pool of experts, visited in turn."""
        x = np.full((tokens, HIDDEN), 0.01, dtype=np.float32)
        pool = [_weights(np.full, np.float32) for _ in range(count)]
        turn = itertools.cycle(pool)

        def call() -> object:
            gate, up, down = next(turn)
            g = x @ gate
            return (g / (1 + np.exp(-g)) * (x @ up)) @ down

        return call


class Torch:
    """torch on the processor or on an accelerator."""

    def __init__(self, torch: Any, device: str = "cpu") -> None:
        self.torch, self.device = torch, device
        self.precisions: tuple[str, ...] = (
            ("fp32", "bf16") if device == "cpu" else ("fp32", "bf16", "fp16")
        )

    @property
    def about(self) -> str:
        """Name, version, and threads or device."""
        where = f"{self.torch.get_num_threads()} threads" if self.device == "cpu" else self.device
        return f"torch {self.torch.__version__}, {where}"

    def product(self, size: int, precision: str) -> Action:
        """Return a matrix product into a kept result."""
        fill, dtype = self._fill, self._dtype(precision)
        left, right, out = (fill((size, size), v, dtype) for v in (0.5, 0.25, 0.0))
        return self._waiting(lambda: self.torch.matmul(left, right, out=out))

    def experts(self, count: int, tokens: int, precision: str) -> Action:
        """Return a gated layer over a pool of experts, visited in turn."""
        dtype = self._dtype(precision)
        x = self._fill((tokens, HIDDEN), 0.01, dtype)
        turn = itertools.cycle([_weights(self._fill, dtype) for _ in range(count)])
        silu = self.torch.nn.functional.silu

        def call() -> object:
            gate, up, down = next(turn)
            return (silu(x @ gate) * (x @ up)) @ down

        return self._waiting(call)

    def _dtype(self, precision: str) -> Any:
        names = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
        return getattr(self.torch, names[precision])

    def _fill(self, shape: tuple[int, int], value: float, dtype: Any) -> Any:
        return self.torch.full(shape, value, dtype=dtype, device=self.device)

    def _waiting(self, call: Action) -> Action:
        """Wait for the device after each call, without recording gradients."""

        def waiting() -> object:
            with self.torch.inference_mode():
                result = call()
            if self.device != "cpu":
                self.torch.cuda.synchronize()
            return result

        return waiting


def find_torch() -> Any:
    """Return the module torch, None when it is not installed or does not load."""
    try:
        import torch
    except (ImportError, OSError):
        return None
    return torch


def measure_arithmetic(
    device: str, library: Library, effort: Effort, available: int | None = None
) -> Iterator[Figure]:
    """Yield products and experts in every precision of the library."""
    room = min(
        effort.buffer_bytes, (machine.available_bytes() if available is None else available) // 8
    )
    for precision in library.precisions:
        yield _product(device, library, precision, effort, room)
        yield from _experts(device, library, precision, effort, room)


def _product(device: str, library: Library, precision: str, effort: Effort, room: int) -> Figure:
    size, action = sized_product(library, precision, room)
    samples = rates(seconds_of(action, effort), 2.0 * size**3, 1e12)
    how = f"square matrices of {size} rows, {library.about}"
    return figure(device, f"matmul_{precision}", "TFLOP/s", samples, how)


def sized_product(
    library: Library, precision: str, room: int, clock: Clock = time.perf_counter
) -> tuple[int, Action]:
    """Return the smallest product that takes long enough, within `room` bytes."""
    fits = [n for n in _SIZES if 3 * n * n * BYTES_OF[precision] <= room] or [_SIZES[0]]
    for size in fits:
        action = library.product(size, precision)
        action()
        start = clock()
        action()
        if clock() - start >= _LONG_ENOUGH_S or size == fits[-1]:
            break
    return size, action


def _experts(
    device: str, library: Library, precision: str, effort: Effort, room: int
) -> Iterator[Figure]:
    one_bytes = _EXPERT_WEIGHTS * BYTES_OF[precision]
    count = max(_FEWEST_EXPERTS, min(_MOST_EXPERTS, room // one_bytes))
    shape = f"gated layer {HIDDEN} x {INNER}, {count} experts in turn, {library.about}"
    action = library.experts(count, ONE, precision)
    for _ in range(count):
        action()
    samples = rates(seconds_of(action, effort), one_bytes)
    name = f"expert_ffn_{precision}"
    yield figure(device, f"{name}_1_token", "GB/s", samples, f"weights read; {shape}")
    durations = seconds_of(library.experts(count, MANY, precision), effort)
    samples = rates(durations, 2.0 * _EXPERT_WEIGHTS * MANY, 1e12)
    yield figure(device, f"{name}_{MANY}_tokens", "TFLOP/s", samples, shape)


def _weights(fill: Callable[..., Any], dtype: Any) -> tuple[Any, Any, Any]:
    """Return gate, up and down of one expert; the values do not matter, their bytes do."""
    wide, back = (HIDDEN, INNER), (INNER, HIDDEN)
    return (
        fill(wide, 0.01, dtype=dtype),
        fill(wide, 0.02, dtype=dtype),
        fill(back, 0.01, dtype=dtype),
    )
