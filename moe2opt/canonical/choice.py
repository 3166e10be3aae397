"""Multiple-choice problem: exactly one option per group under shared budgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from moe2opt.canonical import validate
from moe2opt.canonical.base import Canonical
from moe2opt.canonical.monotone import MonotoneProblem
from moe2opt.canonical.oracles import best_of_groups, budget_oracles, count_of
from moe2opt.canonical.reading import Axis, Labelled, entries, read
from moe2opt.result import FloatArray, InputError, IntArray


@dataclass(frozen=True, eq=False, repr=False)
class MultipleChoiceProblem(Canonical):
    r"""Maximise :math:`\sum_g v_{g,o(g)}` subject to :math:`\sum_g U_{g,o(g)} \le b`.

    One option is chosen in every group. Knapsack, multiple-choice knapsack with several budgets
    (MMKP) and generalised assignment are special cases.

    Parameters
    ----------
    values
        One ``(M_g,)`` vector per group: value of each option, of any sign.
    usage
        One ``(M_g, K)`` non-negative matrix per group: use of each budget by each option.
    budgets
        ``(K,)`` limits; an infinite one is none. With a single budget, a number, and `usage` may
        hold one ``(M_g,)`` vector per group.

    Raises
    ------
    InputError
        Naming the array and the index at fault.

    Notes
    -----
    Labelled arrays (data frames, series, mappings) are aligned: groups and options with `values`,
    budgets with the first `usage`.

    Examples
    --------
    >>> import moe2opt as mo
    >>> p = mo.MultipleChoiceProblem(
    ...     values=[[0, 5], [0, 4]], usage=[[[0], [3]], [[0], [2]]], budgets=[4])
    >>> p.evaluate([1, 0]), p.is_feasible([1, 1])
    (5.0, False)
    """

    values: Sequence[FloatArray]
    usage: Sequence[FloatArray]
    budgets: FloatArray

    kind: str = field(default="multiple_choice", init=False, repr=False)

    if TYPE_CHECKING:  # arrays are given in many forms, and held as what the fields say

        def __init__(self, values: Any, usage: Any, budgets: Any) -> None: ...

    def __post_init__(self) -> None:
        budgets = read("budgets", self.budgets).as_vector()
        budgets = validate.checked("budgets", budgets, 1, infinite=True)
        groups, rows = Axis("groups"), Axis("budget rows")
        values, names = entries("values", self.values)
        groups.order("values", names)
        usage, names = entries("usage", self.usage)
        if len(values) == 0:
            raise InputError("values: there is no group")
        if len(usage) != len(values):
            raise InputError(f"usage: {len(usage)} groups, but values has {len(values)}")
        usage = [usage[g] for g in groups.order("usage", names) or range(len(usage))]
        pairs = [
            self._group(g, options, table, len(budgets.array), rows)
            for g, (options, table) in enumerate(zip(values, usage, strict=True))
        ]
        object.__setattr__(self, "values", tuple(options for options, _ in pairs))
        object.__setattr__(self, "usage", tuple(table for _, table in pairs))
        self._check_sums()
        limits = validate.limits_of(rows.align("budgets", budgets).array, self._most_used)
        object.__setattr__(self, "budgets", limits)

    def _group(
        self, g: int, value: Any, use: Any, budgets: int, rows: Axis
    ) -> tuple[FloatArray, FloatArray]:
        """Return value and use of the options of one group, checked and aligned."""
        axis, names = Axis(f"options of group {g}"), (f"values[{g}]", f"usage[{g}]")
        options = axis.align(names[0], validate.checked(names[0], value, 1))
        if not len(options.array):
            raise InputError(f"{names[0]}: the group has no option")
        table = read(names[1], use)
        if table.array.ndim == 1 and budgets == 1:
            table = Labelled(table.array[:, None], (*table.labels, None))
        table = validate.checked(names[1], table, 2, nonnegative=True)
        validate.shaped(names[1], table.array, (len(options.array), budgets), "(M_g, K)")
        table = rows.align(names[1], axis.align(names[1], table), 1)
        return validate.frozen(options.array), validate.frozen(table.array)

    def _most_used(self, row: int) -> float:
        return validate.exact_sum(float(table[:, row].max()) for table in self.usage)

    def _check_sums(self) -> None:
        """Raise unless the objective and every usage stay far from overflow."""
        worth = np.array([np.abs(options).max() for options in self.values])
        use = np.array([table.max(axis=0) for table in self.usage]).reshape(self.size, -1)
        for name, largest in [("values", worth), *(("usage", column) for column in use.T)]:
            g = validate.too_large(largest)
            if g is not None:
                raise InputError(
                    f"{name}[{g}] holds {largest[g]:g}; "
                    f"the sum over groups may be {validate.LARGEST_SUM:g} at most"
                )

    @property
    def size(self) -> int:
        """Number of groups G."""
        return len(self.values)

    @cached_property
    def offsets(self) -> IntArray:
        """``(G + 1,)`` position of each group's first option in the flat arrays."""
        lengths = [len(options) for options in self.values]
        return validate.frozen(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    @cached_property
    def flat_values(self) -> FloatArray:
        """``(M,)`` values of all options, group after group."""
        return validate.frozen(np.concatenate(self.values))

    @cached_property
    def costs(self) -> FloatArray:
        """``(K, M)`` usage of all options, group after group."""
        return validate.frozen(np.ascontiguousarray(np.vstack(self.usage).T))

    @cached_property
    def limits(self) -> FloatArray:
        """``(K,)`` limits that usage is compared with: the budgets and their numerical slack."""
        return validate.effective_limits(self.costs, self.budgets)

    @cached_property
    def is_integral(self) -> bool:
        """Whether every possible objective value is an integer."""
        return validate.is_integral(self.flat_values)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the data."""
        return validate.fingerprint(self.offsets, self.flat_values, self.costs, self.budgets)

    def vector(self, x: Any) -> IntArray:
        """Return `x` as a checked vector of one option index per group."""
        vector = validate.integer_vector("x", x)
        validate.shaped("x", vector, (self.size,), "(G,)")
        lengths = np.diff(self.offsets)
        outside = (vector < 0) | (vector >= lengths)
        if outside.any():
            g = int(np.argmax(outside))
            raise InputError(f"x[{g}] is {vector[g]}; group {g} has options 0..{lengths[g] - 1}")
        return vector

    def evaluate(self, x: Any) -> float:
        """Return the objective of the option indices `x`."""
        return validate.exact_sum(self.flat_values[self.offsets[:-1] + self.vector(x)])

    def usage_of(self, x: Any) -> FloatArray:
        """Return the ``(K,)`` use of each budget by `x`."""
        picked = self.offsets[:-1] + self.vector(x)
        return np.array([validate.exact_sum(row[picked]) for row in self.costs])

    def is_feasible(self, x: Any) -> bool:
        """Tell whether `x` keeps every budget."""
        return bool((self.usage_of(x) <= self.limits).all())

    def with_budgets(self, budgets: Any) -> MultipleChoiceProblem:
        """Return the same problem with other budgets, in the order of its rows."""
        part = validate.unlabelled("budgets", budgets)
        limits = validate.checked("budgets", part.as_vector(), 1, infinite=True).array
        if limits.shape != self.budgets.shape:
            return MultipleChoiceProblem(self.values, self.usage, part)
        return self._derived(budgets=validate.limits_of(limits.copy(), self._most_used))

    def priced(self, values: FloatArray) -> MultipleChoiceProblem:
        """Return the same problem with other values: ``(M,)``, finite, group after group."""
        flat = validate.frozen(values)
        split = np.split(flat, self.offsets[1:-1])
        return self._derived(values=tuple(map(validate.frozen, split)), flat_values=flat)

    def _derived(self, **changed: Any) -> MultipleChoiceProblem:
        """Return the problem with other content that is known to be good, without its checks."""
        same = ("values", "usage", "budgets", "kind", "offsets", "flat_values", "costs")
        problem = object.__new__(MultipleChoiceProblem)
        problem.__dict__.update({name: getattr(self, name) for name in same} | changed)
        return problem

    def as_monotone(self) -> MonotoneProblem:
        """Return the problem as a `MonotoneProblem` over one 0/1 variable per option.

        "Exactly one option per group" is "at most one" (a constraint) and "at least one" (a reverse
        constraint). A group counts its best chosen option, and its worst one while none is chosen,
        so that the objective increases.
        """
        offsets, options = self.offsets, int(self.offsets[-1])
        members = [np.arange(offsets[g], offsets[g + 1]) for g in range(self.size)]
        groups = [count_of(group) for group in members]
        return MonotoneProblem(
            lower=np.zeros(options, dtype=np.int64),
            upper=np.ones(options, dtype=np.int64),
            objective=best_of_groups(self.flat_values, offsets),
            constraints=[*budget_oracles(self.costs, self.limits), *groups],
            reverse_constraints=groups,
            submodular=True,
            integral=self.is_integral,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        return {
            "kind": self.kind,
            "values": [options.tolist() for options in self.values],
            "usage": [table.tolist() for table in self.usage],
            "budgets": self.budgets.tolist(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> MultipleChoiceProblem:
        """Rebuild from `to_dict`."""
        budgets = len(data["budgets"])
        usage = [
            np.asarray(table, dtype=np.float64).reshape(-1, budgets)
            if budgets
            else np.zeros((len(table), 0))
            for table in data["usage"]
        ]
        return cls(data["values"], usage, data["budgets"])
