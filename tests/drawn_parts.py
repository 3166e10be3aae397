"""Hypothesis strategies: tiny monotone problems made of parts of every kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from strategies import SCALES, matrices, weighted_sum

from moe2opt.canonical import MonotoneProblem, parts

#: Increasing functions for compositions, each of numbers of any sign.
OUTERS = (np.cbrt, np.floor, lambda v: np.maximum(v, 1.0), lambda v: 3.0 * v - 1.0, np.arctan)


@dataclass(frozen=True)
class Covered:
    """Weight of the sets hit by the variables above `origin`: submodular."""

    origin: tuple[int, ...]
    hits: Any
    weights: Any

    def __call__(self, points: Any) -> Any:
        """Return one value per row."""
        chosen = np.asarray(points) > np.array(self.origin)
        return weighted_sum((chosen[:, None, :] * self.hits).any(axis=2), self.weights)


@st.composite
def rising(draw: Any, width: int, scale: float, low: int = -3) -> Any:
    """Tables that rise by integers from an integer, times a scale."""
    steps = draw(st.lists(st.integers(0, 4), min_size=width, max_size=width))
    steps[0] = draw(st.integers(low, 3))
    return np.cumsum(steps) * scale


@st.composite
def tabled(draw: Any, lower: Any, upper: Any, scale: float, product: bool) -> Any:
    """Draw sums or products of tables, at times one of two variables."""
    low = 0 if product else -3
    widths = [b - a + 1 for a, b in zip(lower, upper, strict=True)]
    make = parts.product if product else parts.total
    if len(widths) > 1 and draw(st.integers(0, 3)) == 0:
        pair = np.add.outer(
            draw(rising(widths[0], scale, low)), draw(rising(widths[1], scale, low))
        )
        rest = [draw(rising(w, scale, low)) for w in widths[2:]]
        return make([pair, *rest], [[0, 1], *range(2, len(widths))])
    return make([draw(rising(w, scale, low)) for w in widths])


@st.composite
def any_part(draw: Any, lower: Any, upper: Any, separable: bool = False) -> Any:
    """One part of any kind that fits the box."""
    n, scale = len(lower), draw(st.sampled_from(SCALES))
    kinds = ["total", "product", "composed"]
    if not separable:
        kinds += ["submodular", "added"]
        kinds += ["coverage", "quadratic"] if min(lower) >= 0 else []
    kind = draw(st.sampled_from(kinds))
    if kind in ("total", "product"):
        return draw(tabled(lower, upper, scale, kind == "product"))
    if kind == "composed":
        inner = draw(tabled(lower, upper, scale, draw(st.booleans())))
        return parts.composed(draw(st.sampled_from(OUTERS)), inner)
    if kind == "coverage":
        c = draw(st.integers(1, 3))
        return parts.coverage(draw(matrices(c, n)) / 1e6, draw(matrices(1, c))[0])
    if kind == "quadratic":
        return parts.quadratic(draw(matrices(n, n)), draw(matrices(1, n))[0])
    if kind == "submodular":
        hits = draw(matrices(3, n, 0, 1)) > 0
        weights = draw(st.lists(st.integers(0, 4), min_size=3, max_size=3))
        return parts.submodular(Covered(tuple(lower), hits, weights))
    first = draw(any_part(lower, upper, separable=True))
    return [first, draw(tabled(lower, upper, scale, False))]


@st.composite
def made_of_parts(draw: Any, variables: int = 4, levels: int = 3) -> MonotoneProblem:
    """Problems of parts, half of them separable; some minimise."""
    n = draw(st.sampled_from((variables, 3, 2, 1)))
    lower = draw(st.lists(st.integers(-1, 2), min_size=n, max_size=n))
    if draw(st.booleans()):
        lower = [abs(level) for level in lower]
    spans = draw(st.lists(st.integers(0, levels - 1), min_size=n, max_size=n))
    upper = [a + b for a, b in zip(lower, spans, strict=True)]
    part = any_part(lower, upper, draw(st.booleans()))
    rows = {
        name: [_limited(draw, draw(part), lower, upper) for _ in range(draw(st.integers(0, most)))]
        for name, most in (("at_most", 2), ("at_least", 1))
    }
    sense = draw(st.sampled_from(("objective", "objective", "minimise")))
    return MonotoneProblem.from_parts(lower, upper, **{sense: draw(part)}, **rows)


def _limited(draw: Any, part: Any, lower: Any, upper: Any) -> tuple[Any, float]:
    """Return a part with a limit somewhere between its ends, often exactly a value of it."""
    probe = MonotoneProblem.from_parts(lower, upper, part)
    points = np.array([[draw(st.integers(a, b)) for a, b in zip(lower, upper, strict=True)]])
    value = float(probe.objective_values(points)[0])
    return part, value + draw(st.sampled_from((0.0, 0.0, 0.5, -1.0, 3.0)))
