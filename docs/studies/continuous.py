"""Mixed-monotone maximisation over a continuous box (Matthiesen et al., arXiv 1910.07853).

The three canonical problems are discrete, and so are the engines. This one is for functions of
real variables under box constraints only, such as powers and rates: best-first bisection of the
longest edge with the bound F(upper corner, lower corner), to an absolute gap. It shares no code
with `brb`, because nothing of it applies: no reductions, no other constraints, no certificate.
Bounds are as good as the rounding of F.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from moe2opt.canonical import validate
from moe2opt.result import FloatArray, InputError, Limit
from moe2opt.solvers.base import resident_bytes

#: Batched F(x, y), increasing in x and decreasing in y: ``(B, n), (B, n) -> (B,)``.
MixedFunction = Callable[[FloatArray, FloatArray], FloatArray]


@dataclass(frozen=True, slots=True)
class ContinuousResult:
    """What `solve_box` found.

    Attributes
    ----------
    x
        ``(n,)`` best point found.
    objective
        Its value F(x, x).
    bound
        Upper bound over the box, claimed up to the rounding of F.
    iterations
        Bisected boxes, and one for the whole box: the count used in the source.
    open_boxes
        Boxes kept at the end; the largest part of the memory.
    limit
        The limit that stopped the run. None when no box was left to bisect: the gap was reached,
        unless F jumps, which `gap` tells.
    """

    x: FloatArray
    objective: float
    bound: float
    iterations: int
    open_boxes: int
    limit: Limit | None

    @property
    def gap(self) -> float:
        """Absolute gap, bound minus objective."""
        return self.bound - self.objective


@dataclass(frozen=True, slots=True)
class BoxLimits:
    """When to stop before the gap is reached; None for never.

    Attributes
    ----------
    time_limit_s, iteration_limit, memory_limit_bytes
        Limits of this run; memory is the resident size of the process.
    """

    time_limit_s: float | None = None
    iteration_limit: int | None = None
    memory_limit_bytes: int | None = None

    def reached(self, start_s: float, iterations: int) -> Limit | None:
        """Return the first limit that is hit, or None."""
        if self.time_limit_s is not None and time.perf_counter() - start_s >= self.time_limit_s:
            return Limit.TIME
        if self.iteration_limit is not None and iterations >= self.iteration_limit:
            return Limit.NODES
        if self.memory_limit_bytes is not None and resident_bytes() > self.memory_limit_bytes:
            return Limit.MEMORY
        return None


def solve_box(
    objective: MixedFunction,
    lower: Any,
    upper: Any,
    *,
    abs_gap: float = 0.01,
    batch: int = 1,
    limits: BoxLimits | None = None,
) -> ContinuousResult:
    """Maximise F(x, x) over ``lower <= x <= upper`` to an absolute gap.

    Parameters
    ----------
    objective
        Batched continuous F(x, y), increasing in x and decreasing in y.
    lower, upper
        ``(n,)`` finite corners.
    abs_gap
        Stop when no box promises this much more than the best point found; positive.
    batch
        Boxes bisected between two calls of `objective`. One is the published method; more are
        several times as fast and bisect a few boxes that a better point would have closed.
    limits
        When to stop early.

    Returns
    -------
    ContinuousResult
        Points are lower corners of boxes, as in the source.

    Raises
    ------
    InputError
        For a wrong box, gap or batch, or when `objective` returns the wrong shape or NaN.

    Examples
    --------
    >>> from continuous import solve_box
    >>> result = solve_box(lambda x, y: (x * (2 - y))[:, 0], [0.0], [2.0], abs_gap=1e-3)
    >>> round(result.objective, 2), result.gap <= 1e-3
    (1.0, True)
    """
    limits = limits or BoxLimits()
    if not abs_gap > 0:
        raise InputError(f"abs_gap = {abs_gap} is not understood; it must be positive")
    if batch < 1:
        raise InputError(f"batch = {batch} is not understood; it must be at least 1")
    search = _Bisection(objective, _corners(lower, upper), abs_gap)
    start_s = time.perf_counter()
    limit = None
    while search.is_open and (limit := limits.reached(start_s, search.iterations)) is None:
        left = math.inf if limits.iteration_limit is None else limits.iteration_limit
        search.advance(int(min(batch, left - search.iterations)))
    return search.result(limit)


class _Bisection:
    """Open boxes, the best point, and the bound over the boxes that were closed."""

    def __init__(self, objective: MixedFunction, box: FloatArray, abs_gap: float) -> None:
        self.objective, self.abs_gap = objective, abs_gap
        self.x, self.value, self.closed_bound = box[0], -math.inf, -math.inf
        self.iterations = 1
        self.heap: list[tuple[float, int]] = []
        self.boxes = np.empty((64, *box.shape))
        self.unused = list(range(len(self.boxes)))
        self._enter(box[None, :, :])

    @property
    def is_open(self) -> bool:
        """Whether some box still promises more than the gap."""
        return bool(self.heap) and -self.heap[0][0] >= self.value + self.abs_gap

    def advance(self, most: int) -> None:
        """Bisect up to `most` of the best boxes that are still open."""
        places: list[int] = []
        while len(places) < most and self.is_open:
            bound, place = heapq.heappop(self.heap)
            places.append(place)
            if self._is_point(place):
                self.closed_bound = max(self.closed_bound, -bound)
                self.unused.append(places.pop())
        if places:
            halves = bisected(self.boxes[places])
            self.unused += places
            self.iterations += len(places)
            self._enter(halves)

    def result(self, limit: Limit | None) -> ContinuousResult:
        """Return the best point and the bound over all boxes, open and closed."""
        top = -self.heap[0][0] if self.heap else -math.inf
        bound = max(self.closed_bound, top, self.value)
        return ContinuousResult(self.x, self.value, bound, self.iterations, len(self.heap), limit)

    def _enter(self, boxes: FloatArray) -> None:
        """Bound new boxes, try their lower corners, and keep those that promise enough."""
        low, high = boxes[:, 0], boxes[:, 1]
        both = self._values(np.concatenate([high, low]), np.concatenate([low, low]))
        bounds, values = both[: len(boxes)], both[len(boxes) :]
        best = int(np.argmax(values))
        if values[best] > self.value:
            self.x, self.value = low[best].copy(), float(values[best])
        kept = bounds >= self.value + self.abs_gap
        self.closed_bound = max(self.closed_bound, float(bounds[~kept].max(initial=-math.inf)))
        places = self._places(int(kept.sum()))
        self.boxes[places] = boxes[kept]
        for bound, place in zip(bounds[kept].tolist(), places, strict=True):
            heapq.heappush(self.heap, (-bound, place))

    def _places(self, count: int) -> list[int]:
        if count > len(self.unused):
            size = len(self.boxes)
            grown = max(2 * size, size + count)
            self.boxes = np.concatenate(
                [self.boxes, np.empty((grown - size, *self.boxes.shape[1:]))]
            )
            self.unused += range(size, grown)
        return [self.unused.pop() for _ in range(count)]

    def _is_point(self, place: int) -> bool:
        """Tell whether a box is too small for its longest edge to have a middle."""
        low, high = self.boxes[place]
        axis = int(np.argmax(high - low))
        return not low[axis] < low[axis] + (high[axis] - low[axis]) / 2 < high[axis]

    def _values(self, x: FloatArray, y: FloatArray) -> FloatArray:
        values = np.asarray(self.objective(x, y), dtype=np.float64)
        if values.shape != (len(x),):
            raise InputError(f"objective returned shape {values.shape} for {len(x)} points")
        if np.isnan(values).any():
            k = int(np.argmax(np.isnan(values)))
            raise InputError(f"objective returned nan at x = {x[k].tolist()}, y = {y[k].tolist()}")
        return values


def bisected(boxes: FloatArray) -> FloatArray:
    """Return both halves of ``(B, 2, n)`` boxes, cut in the middle of the (first) longest edge."""
    rows = np.arange(len(boxes))
    low, high = boxes[:, 0], boxes[:, 1]
    axis = np.argmax(high - low, axis=1)
    middle = low[rows, axis] + (high - low)[rows, axis] / 2
    below, above = boxes.copy(), boxes.copy()
    below[rows, 1, axis] = above[rows, 0, axis] = middle
    return np.concatenate([below, above])


def _corners(lower: Any, upper: Any) -> FloatArray:
    """Return the checked ``(2, n)`` corners."""
    low, high = validate.real_array("lower", lower, 1), validate.real_array("upper", upper, 1)
    validate.shaped("upper", high, low.shape, "the shape of lower")
    if not len(low):
        raise InputError("lower: the box has no dimension")
    if (low > high).any():
        i = int(np.argmax(low > high))
        raise InputError(f"lower[{i}] = {low[i]:g} exceeds upper[{i}] = {high[i]:g}")
    return np.stack([low, high])
