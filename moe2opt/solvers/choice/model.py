"""A multiple-choice problem in the form the compiled search wants, whole or cut down to a core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.solvers.budgets import shares
from moe2opt.solvers.choice.vertex import Core

_MARGIN = 1e-11


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A core and where its options and groups are in the problem.

    Attributes
    ----------
    core
        Data of the open groups.
    options, groups
        Numbers of the core's options and groups in the problem.
    picked
        ``(G,)`` an option of every group; the only one left in closed groups.
    """

    core: Core
    options: IntArray
    groups: IntArray
    picked: IntArray

    def complete(self, candidate: IntArray) -> IntArray:
        """Return the flat options of the problem for options of the core."""
        whole = self.picked.copy()
        whole[self.groups] = self.options[candidate]
        return whole


class ChoiceModel:
    """Scaled data. Scales are powers of two, so that scaling rounds nothing."""

    def __init__(
        self,
        problem: MultipleChoiceProblem,
        rounded: Sequence[tuple[FloatArray, float]] = (),
    ) -> None:
        """Prepare a problem with its budgets, and with rounded rows after them."""
        costs = np.vstack([problem.costs, *(row for row, _ in rounded)])
        limits = np.append(problem.limits, [limit for _, limit in rounded])
        self.problem = problem
        self.starts = problem.offsets[:-1]
        self.group_of = np.repeat(np.arange(problem.size), np.diff(problem.offsets))
        largest = costs.max(axis=1, initial=0.0)
        exponent = np.ceil(np.log2(np.where(largest > 0, largest, 1.0)))
        self.row_scale = np.exp2(-np.clip(exponent, -900, 900))
        self.costs = np.ascontiguousarray((costs * self.row_scale[:, None]).T)
        self.limits = limits * self.row_scale
        self.aimless = not problem.flat_values.any()
        self.values = problem.flat_values
        if self.aimless:
            self.values = -shares(problem.costs, problem.limits)
        self.size = float(self._most(np.abs(problem.flat_values)).sum())
        self.sizes = np.array([self._most(row).sum() for row in costs]) * self.row_scale
        self.sizes = self.sizes + np.abs(self.limits)
        # Wide enough for the checker, too, to decide in floating point (`certify.choice`).
        self.error = 1e-15 * (problem.size + len(self.limits) + 16)

    def _most(self, terms: FloatArray) -> FloatArray:
        return np.asarray(np.maximum.reduceat(terms, self.starts))

    def part(self, box: BoolArray) -> Part:
        """Return the core of a box; groups with one option are part of its constants."""
        sizes = np.add.reduceat(box.astype(np.int64), self.starts)
        groups = np.flatnonzero(sizes > 1)
        first = np.flatnonzero(box)[np.concatenate([[0], np.cumsum(sizes)[:-1]])]
        alone = first[sizes == 1]
        options = np.flatnonzero(box & (sizes > 1)[self.group_of])
        return Part(self._core(options, sizes[groups], alone), options, groups, first)

    def _core(self, options: IntArray, sizes: IntArray, alone: IntArray) -> Core:
        limits = self.limits - self.costs[alone].sum(axis=0)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        values = np.ascontiguousarray(self.values[options])
        base = 0.0 if self.aimless else float(self.values[alone].sum())
        return Core(
            values=values,
            costs=np.ascontiguousarray(self.costs[options]),
            rows=np.ascontiguousarray(self.costs[options].T),
            starts=starts,
            group_of=np.repeat(np.arange(len(sizes)), sizes),
            limits=limits,
            loose=limits + _MARGIN * self.sizes,
            base=base,
            error=self.error,
            size=self.size,
            sizes=self.sizes,
            integral=self.problem.is_integral,
            aimless=self.aimless,
            tiny=1e-12 * max(float(np.abs(self.values).max()), 1e-300),
        )
