"""Facility problem: choose experts so that every cluster is served by its best chosen one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from moe2opt.canonical import validate
from moe2opt.canonical.base import Canonical
from moe2opt.canonical.monotone import MonotoneProblem
from moe2opt.canonical.oracles import best_of_chosen, budget_oracles, count_of
from moe2opt.canonical.reading import Axis, Labelled, read
from moe2opt.result import BoolArray, FloatArray, InputError, IntArray


@dataclass(frozen=True, eq=False, repr=False)
class FacilityProblem(Canonical):
    r"""Maximise :math:`\sum_c w_c \max_{i \in S} V_{ci} - o(S)` subject to :math:`A 1_S \le b`.

    The objective is submodular, and monotone where opening costs nothing; p-median, covering and
    warehouse location are special cases. The best of an empty choice is 0.

    Parameters
    ----------
    values
        ``(C, N)`` non-negative quality of expert i on cluster c.
    costs
        ``(K, N)`` non-negative use of budget k by expert i.
    budgets
        ``(K,)`` limits. A negative limit makes the problem infeasible, an infinite one is none.
    weights
        ``(C,)`` non-negative cluster weights, all one by default.
    groups
        Sets of experts of which at most one may be chosen: a sequence of index sequences, or one
        number per expert (negative: in no group).
    covers
        Sets of experts of which at least one must be chosen: a sequence of index sequences.
    opening
        ``(N,)`` non-negative cost of choosing each expert, in units of the objective. Kept as None
        where all are zero.

    Raises
    ------
    InputError
        Naming the array and the index at fault.

    Notes
    -----
    Labelled arrays (data frames, series, mappings) are aligned with the first one that has labels,
    `values` for experts and clusters, `costs` for budgets, and experts may be named by their labels
    in `groups` and `covers`. A single row of `costs` goes with a single number as `budgets`.

    Usage of a budget is the correctly rounded sum of its terms, so it does not depend on their
    order. Rows of integers up to 2**53 have no slack; any other row has a relative one of 1e-9.

    Examples
    --------
    >>> import moe2opt as mo
    >>> p = mo.FacilityProblem(values=[[3, 0, 2], [0, 4, 3]], costs=[[1, 1, 1]], budgets=[1])
    >>> p.evaluate([0, 0, 1]), p.is_feasible([1, 1, 0])
    (5.0, False)
    >>> dear = mo.FacilityProblem([[3, 0, 2], [0, 4, 3]], costs=[], budgets=[], opening=[1, 1, 2])
    >>> dear.evaluate([1, 1, 0]), dear.evaluate([0, 0, 1])
    (5.0, 3.0)
    """

    values: FloatArray
    costs: FloatArray
    budgets: FloatArray
    weights: FloatArray | None = None
    groups: tuple[IntArray, ...] = ()
    covers: tuple[IntArray, ...] = ()
    opening: FloatArray | None = None

    kind: str = field(default="facility", init=False, repr=False)

    if TYPE_CHECKING:  # arrays are given in many forms, and held as what the fields say

        def __init__(
            self,
            values: Any,
            costs: Any,
            budgets: Any,
            weights: Any = None,
            groups: Any = (),
            covers: Any = (),
            opening: Any = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        experts, clusters, rows = Axis("experts"), Axis("clusters"), Axis("budget rows")
        values = validate.checked("values", self.values, 2, nonnegative=True)
        values = clusters.align("values", experts.align("values", values, 1))
        count = values.array.shape[1]
        if count == 0:
            raise InputError(f"values: shape {values.array.shape} holds no expert")
        costs = read("costs", self.costs).as_row()
        if costs.array.shape == (1, 0):
            costs = Labelled(np.zeros((0, count)), (None, None))
        costs = validate.checked("costs", costs, 2, nonnegative=True)
        validate.shaped("costs", costs.array, (len(costs.array), count), "(K, N)")
        costs = rows.align("costs", experts.align("costs", costs, 1))
        budgets = read("budgets", self.budgets).as_vector()
        budgets = validate.checked("budgets", budgets, 1, infinite=True)
        validate.shaped("budgets", budgets.array, (len(costs.array),), "(K,)")
        budgets = rows.align("budgets", budgets)
        if self.weights is not None:
            weights = validate.checked("weights", self.weights, 1, nonnegative=True)
            validate.shaped("weights", weights.array, (len(values.array),), "(C,)")
            weights = clusters.align("weights", weights)
            object.__setattr__(self, "weights", validate.frozen(weights.array))
        if self.opening is not None:
            opening = validate.checked("opening", self.opening, 1, nonnegative=True)
            validate.shaped("opening", opening.array, (count,), "(N,)")
            fixed = validate.frozen(experts.align("opening", opening).array)
            object.__setattr__(self, "opening", fixed if fixed.any() else None)
        object.__setattr__(self, "values", validate.frozen(values.array))
        object.__setattr__(self, "costs", validate.frozen(costs.array))
        self._check_sums()
        most = self._most_used
        object.__setattr__(self, "budgets", validate.limits_of(budgets.array, most))
        for name, flat in (("groups", True), ("covers", False)):
            sets = validate.index_sets(name, getattr(self, name), count, experts, flat=flat)
            object.__setattr__(self, name, sets)

    def _most_used(self, row: int) -> float:
        return validate.exact_sum(self.costs[row])

    def _check_sums(self) -> None:
        """Raise unless the objective and every usage stay far from overflow."""
        values, weights = self.values, self.weights
        best = values.max(axis=1, initial=0.0)
        with np.errstate(over="ignore"):
            c = validate.too_large(best if weights is None else best * weights)
        if c is not None:
            at, times = int(np.argmax(values[c])), "" if weights is None else f" x {weights[c]:g}"
            raise InputError(
                f"values[{c}, {at}] is {best[c]:g}{times}; "
                f"the sum over clusters may be {validate.LARGEST_SUM:g} at most"
            )
        for k, row in enumerate(self.costs):
            i = validate.too_large(row)
            if i is not None:
                raise InputError(
                    f"costs[{k}, {i}] is {row[i]:g}; "
                    f"the sum of a row may be {validate.LARGEST_SUM:g} at most"
                )
        i = validate.too_large(self.fixed)
        if i is not None:
            raise InputError(
                f"opening[{i}] is {self.fixed[i]:g}; "
                f"the sum of all may be {validate.LARGEST_SUM:g} at most"
            )

    @property
    def size(self) -> int:
        """Number of variables N."""
        return int(self.values.shape[1])

    @property
    def clusters(self) -> int:
        """Number of clusters C."""
        return int(self.values.shape[0])

    @cached_property
    def weighted(self) -> FloatArray:
        """``(C, N)`` values times weights, each product rounded once: the objective's terms."""
        if self.weights is None:
            return self.values
        return validate.frozen(self.values * self.weights[:, None])

    @cached_property
    def fixed(self) -> FloatArray:
        """``(N,)`` opening costs, zeros without any."""
        if self.opening is None:
            return validate.frozen(np.zeros(self.size))
        return self.opening

    @cached_property
    def limits(self) -> FloatArray:
        """``(K,)`` limits that usage is compared with: the budgets and their numerical slack."""
        return validate.effective_limits(self.costs, self.budgets)

    @cached_property
    def is_integral(self) -> bool:
        """Whether every possible objective value is an integer."""
        return validate.is_integral(self.weighted) and validate.is_integral(self.fixed)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the data."""
        sets = np.array([len(self.groups), len(self.covers)])
        opening = [] if self.opening is None else [self.opening]
        return validate.fingerprint(
            self.weighted, self.costs, self.budgets, sets, *self.groups, *self.covers, *opening
        )

    def vector(self, x: Any) -> IntArray:
        """Return `x` as a checked 0/1 vector of length N."""
        vector = validate.integer_vector("x", x)
        validate.shaped("x", vector, (self.size,), "(N,)")
        if ((vector < 0) | (vector > 1)).any():
            index = int(np.argmax((vector < 0) | (vector > 1)))
            raise InputError(f"x[{index}] is {vector[index]}; every entry must be 0 or 1")
        return vector

    def evaluate(self, x: Any) -> float:
        """Return the objective of the 0/1 vector `x`."""
        chosen = self.vector(x) > 0
        return self.most(chosen, chosen)

    def most(self, allowed: BoolArray, forced: BoolArray) -> float:
        """Return a bound on all choices between two sets: value of the one, cost of the other.

        Exact where they are one choice. The sum is correctly rounded, as every objective is, and
        rounding keeps order.
        """
        terms = self.weighted[:, np.flatnonzero(allowed)].max(axis=1, initial=0.0).tolist()
        paid = [] if self.opening is None else (-self.opening[forced]).tolist()
        return validate.exact_sum([*terms, *paid])

    def usage_of(self, x: Any) -> FloatArray:
        """Return the ``(K,)`` use of each budget by `x`."""
        chosen = np.flatnonzero(self.vector(x))
        return np.array([validate.exact_sum(row[chosen]) for row in self.costs])

    def is_feasible(self, x: Any) -> bool:
        """Tell whether `x` keeps every budget, group and cover."""
        chosen = self.vector(x) > 0
        return bool(
            (self.usage_of(x) <= self.limits).all()
            and all(np.count_nonzero(chosen[group]) <= 1 for group in self.groups)
            and all(chosen[cover].any() for cover in self.covers)
        )

    def with_budgets(self, budgets: Any) -> FacilityProblem:
        """Return the same problem with other budgets, in the order of its rows."""
        budgets = validate.unlabelled("budgets", budgets)
        return replace(self, budgets=budgets)

    def as_monotone(self) -> MonotoneProblem:
        """Return the problem as a `MonotoneProblem` over the unit box.

        Groups become constraints, covers reverse constraints. With opening costs the objective is
        a mixed one: value of the first argument less cost of the second.
        """
        groups = [count_of(group) for group in self.groups]
        plain, mixed = None, None
        if self.opening is None:
            plain = best_of_chosen(self.weighted)
        else:
            mixed = self._most_of_each
        return MonotoneProblem(
            lower=np.zeros(self.size, dtype=np.int64),
            upper=np.ones(self.size, dtype=np.int64),
            objective=plain,
            constraints=[*budget_oracles(self.costs, self.limits), *groups],
            reverse_constraints=[count_of(cover) for cover in self.covers],
            mixed_objective=mixed,
            submodular=mixed is None,
            integral=self.is_integral,
        )

    def _most_of_each(self, upper: IntArray, lower: IntArray) -> FloatArray:
        return np.array([self.most(a > 0, b > 0) for a, b in zip(upper, lower, strict=True)])

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        return {
            "kind": self.kind,
            "values": self.values.tolist(),
            "costs": self.costs.tolist(),
            "budgets": self.budgets.tolist(),
            "weights": None if self.weights is None else self.weights.tolist(),
            "groups": [group.tolist() for group in self.groups],
            "covers": [cover.tolist() for cover in self.covers],
            **({} if self.opening is None else {"opening": self.opening.tolist()}),
            # Without any row nothing else says how many experts there are.
            **({} if self.clusters or len(self.costs) else {"size": self.size}),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> FacilityProblem:
        """Rebuild from `to_dict`."""
        values, costs = data["values"], data["costs"]
        rows = values or costs
        size = len(rows[0]) if rows else data.get("size", 0)
        values, costs = (table or np.zeros((0, size)) for table in (values, costs))
        sets = data["groups"], data["covers"]
        return cls(values, costs, data["budgets"], data["weights"], *sets, data.get("opening"))
