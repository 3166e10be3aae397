"""Hypothesis strategies: tiny monotone problems made of parts of every kind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from strategies import SCALES, matrices, weighted_sum

from moe2opt.canonical import MonotoneProblem, parts

#: Functions that bend one way: concave and convex.
CONCAVE = (np.arctan, np.log1p, np.sqrt, lambda v: np.minimum(v, 2.0))
CONVEX = (np.square, np.expm1, lambda v: np.maximum(v, 1.0))

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


@dataclass(frozen=True)
class Together:
    """Weight of the sets that are in full above `origin`: supermodular."""

    origin: tuple[int, ...]
    sets: Any
    weights: Any

    def __call__(self, points: Any) -> Any:
        """Return one value per row."""
        missing = np.asarray(points) <= np.array(self.origin)
        return weighted_sum(~(missing[:, None, :] & self.sets).any(axis=2), self.weights)


@dataclass(frozen=True)
class GainsOf:
    """What one more unit gains, one value after the other."""

    function: Any

    def __call__(self, points: Any) -> Any:
        """Return a gain per variable and row."""
        n = points.shape[1]
        steps = np.eye(n, dtype=np.int64)
        here = self.function(points)
        return np.stack([self.function(points + steps[i]) - here for i in range(n)], axis=1)


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
        kinds += ["submodular", "supermodular", "extreme", "curved", "added"]
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
    if kind == "extreme":
        make = draw(st.sampled_from((parts.minimum, parts.maximum)))
        return make(*(draw(any_part(lower, upper, True)) for _ in range(draw(st.integers(1, 3)))))
    if kind == "curved":
        make, outers = draw(st.sampled_from(((parts.concave, CONCAVE), (parts.convex, CONVEX))))
        inner = draw(tabled(lower, upper, min(scale, 1.0), product=True))
        sums = parts.total(
            [draw(rising(b - a + 1, min(scale, 1.0), 0)) for a, b in zip(lower, upper, strict=True)]
        )
        return make(draw(st.sampled_from(outers)), draw(st.sampled_from((inner, sums))))
    if kind == "supermodular":
        sets = draw(matrices(3, n, 0, 1)) > 0
        weights = draw(st.lists(st.integers(0, 4), min_size=3, max_size=3))
        return parts.supermodular(Together(tuple(lower), sets, weights))
    if kind == "submodular":
        hits = draw(matrices(3, n, 0, 1)) > 0
        weights = draw(st.lists(st.integers(0, 4), min_size=3, max_size=3))
        covered = Covered(tuple(lower), hits, weights)
        gains = draw(st.sampled_from((None, GainsOf(covered))))
        return parts.submodular(covered, marginals=gains)
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
    best = draw(part)
    if draw(st.integers(0, 4)) == 0:
        best = draw(quotient(lower, upper))
    return MonotoneProblem.from_parts(lower, upper, **{sense: best}, **rows)


@st.composite
def quotient(draw: Any, lower: Any, upper: Any) -> Any:
    """Draw a sum of tables over another one, or over what it leaves of a number."""
    widths = [b - a + 1 for a, b in zip(lower, upper, strict=True)]
    top, under = (parts.total([draw(rising(w, 0.5, 1)) for w in widths]) for _ in range(2))
    return parts.ratio(top, under, draw(st.sampled_from((None, 100.0))))


def _limited(draw: Any, part: Any, lower: Any, upper: Any) -> tuple[Any, float]:
    """Return a part with a limit somewhere between its ends, often exactly a value of it."""
    probe = MonotoneProblem.from_parts(lower, upper, part)
    points = np.array([[draw(st.integers(a, b)) for a, b in zip(lower, upper, strict=True)]])
    value = float(probe.objective_values(points)[0])
    return part, value + draw(st.sampled_from((0.0, 0.0, 0.5, -1.0, 3.0)))


@st.composite
def with_equal_variables(draw: Any) -> MonotoneProblem:
    """Problems in which some of two kinds of variables are equal, as parts or declared oracles."""
    first, second = draw(st.integers(2, 3)), draw(st.integers(1, 2))
    kinds = np.repeat([0, 1], [first, second])[draw(st.permutations(range(first + second)))]
    lower = np.array([draw(st.integers(0, 1)) for _ in range(2)])
    upper = lower + [draw(st.integers(1, 2)) for _ in range(2)]
    scale = draw(st.sampled_from(SCALES))
    tables = [draw(rising(int(w), scale, 0)) for w in upper - lower + 1]
    uses = [draw(rising(int(w), scale, 0)) for w in upper - lower + 1]
    chances = draw(matrices(3, 2)) / 1e6
    pairs = draw(matrices(2, 2))
    corners = (lower[kinds], upper[kinds])
    own = parts.total([tables[k] for k in kinds])
    objective = draw(
        st.sampled_from(
            (
                parts.coverage(chances[:, kinds], [1, 2, 3]),
                parts.quadratic(np.triu((pairs + pairs.T)[np.ix_(kinds, kinds)])),
                [own, parts.coverage(chances[:, kinds])],
                parts.product([tables[k] for k in kinds]),
                parts.concave(np.sqrt, own),
                parts.minimum(own, parts.coverage(chances[:, kinds], [2, 1, 1])),
            )
        )
    )
    sense = draw(st.sampled_from(("objective", "objective", "minimise")))
    use = parts.total([uses[k] for k in kinds])
    rows = {"at_most": [_limited(draw, use, *corners)], "at_least": []}
    if draw(st.booleans()):
        rows["at_least"] = [_limited(draw, own, *corners)]
    problem = MonotoneProblem.from_parts(*corners, **{sense: objective}, **rows)
    if draw(st.booleans()):
        return problem
    alike = [np.flatnonzero(kinds == k) for k in (0, 1)]
    return replace(problem, structure=None, interchangeable=[m for m in alike if len(m) > 1])
