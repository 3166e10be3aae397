"""Classes of equal groups, and the one group whose options stand in an order that matters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.result import FloatArray, IntArray
from moe2opt.solvers.tuning import ChoiceTuning

#: Options that exceed what is left of a row by this share of it do not fit.
_CLEARLY = 1e-8

#: Rounds in which options that do not fit are looked for.
_ROUNDS = 3


def classes_of(problem: MultipleChoiceProblem) -> tuple[tuple[int, ...], ...]:
    """Return the groups of each class of equal ones, in order of their first members."""
    classes: dict[bytes, list[int]] = defaultdict(list)
    for g, (values, usage) in enumerate(zip(problem.values, problem.usage, strict=True)):
        classes[values.tobytes() + usage.tobytes()].append(g)
    return tuple(map(tuple, classes.values()))


def counting_pays(
    problem: MultipleChoiceProblem, classes: tuple[tuple[int, ...], ...], tuning: ChoiceTuning
) -> bool:
    """Tell whether groups are alike enough, and the linear relaxation small enough."""
    columns = sum(len(problem.values[members[0]]) for members in classes)
    return problem.size >= tuning.sharing * len(classes) and columns <= tuning.counted_options


def ordered_class(
    problem: MultipleChoiceProblem, classes: tuple[tuple[int, ...], ...], tuning: ChoiceTuning
) -> int | None:
    """Return the class of one group that has a large part of all options, None without one.

    Such as the times at which something may end: its options taken out one by one rule out little,
    but half of them rule out everything that ends later.
    """
    widths = np.array([len(problem.values[members[0]]) for members in classes])
    c = int(np.argmax(widths))
    wide = widths[c] >= max(tuning.ordered_options, tuning.ordered_share * widths.sum())
    return c if wide and len(classes[c]) == 1 and problem.size > 2 else None


def options_too_large(
    costs: FloatArray,
    limits: FloatArray,
    scale: FloatArray,
    starts: IntArray,
    sizes: IntArray,
    lower: IntArray,
    upper: IntArray,
) -> Iterator[tuple[int, IntArray]]:
    """Yield rows, and options that exceed them beside the least that all classes use.

    A cut through the options of one group rules out options of others so: what ends after the
    latest time that is left, for example.

    Parameters
    ----------
    costs, limits, scale
        ``(K, M)`` use of each row by the options of all classes, ``(K,)`` limits, and what makes
        their sizes alike.
    starts, sizes
        First option of each class and the end; number of groups of each class.
    lower, upper
        ``(M,)`` how often each option is chosen at least and at most.
    """
    class_of = np.repeat(np.arange(len(sizes)), np.diff(starts))
    chosen, left = costs @ lower, sizes - np.add.reduceat(lower, starts[:-1])
    upper = upper.copy()
    for _ in range(_ROUNDS):
        open_options = (upper > lower) & (left > 0)[class_of]
        least = np.minimum.reduceat(np.where(open_options, costs, np.inf), starts[:-1], axis=1)
        least = np.where(np.isfinite(least), least, 0.0)
        room = limits - chosen - least @ left
        over = (costs - least[:, class_of] - room[:, None]) * scale[:, None] > _CLEARLY
        over &= open_options
        for row in np.flatnonzero(over.any(axis=1)).tolist():
            options = np.flatnonzero(over[row] & (upper > lower))
            if len(options):
                upper[options] = lower[options]
                yield row, options
        if not over.any():
            return
