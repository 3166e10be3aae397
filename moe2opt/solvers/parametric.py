"""One multiple-choice problem, solved again and again while its coefficients change.

Groups and options stay; values, usage and budgets may change. The last prices are valid for any
coefficients, so they are where the next descent of the dual starts: after a small change a few
pivots away from the new lowest point. The solution there is rounded, the last solution is filled
up, and the better one is kept. If the gap asked for is still open, the whole engine takes over from
there. Every answer has a certificate that `moe2opt.certify` checks like that of any other solver:
mostly a single leaf with the prices.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.canonical.validate import frozen, real_array, shaped
from moe2opt.result import (
    NUMERICAL_GAP,
    Certificate,
    FloatArray,
    IntArray,
    Limit,
    Result,
    Status,
    relative_gap,
)
from moe2opt.solvers.base import Options, Search
from moe2opt.solvers.brb import solve
from moe2opt.solvers.choice.kernels import INFEASIBLE, PRUNED, descend
from moe2opt.solvers.choice.model import ChoiceModel, Part
from moe2opt.solvers.choice.repair import settle
from moe2opt.solvers.choice.tree import RootTree, sealed
from moe2opt.solvers.choice.vertex import Core, Vertex, new_vertex
from moe2opt.solvers.infeasibility import explained
from moe2opt.solvers.tuning import DEFAULT, ChoiceTuning


class FlatChoiceProblem(MultipleChoiceProblem):
    """A multiple-choice problem made from flat arrays; the parts per group are cut when needed."""

    def __init__(
        self, offsets: IntArray, values: FloatArray, costs: FloatArray, budgets: FloatArray
    ) -> None:
        self.__dict__.update(
            offsets=offsets,
            flat_values=values,
            costs=costs,
            budgets=budgets,
            kind="multiple_choice",
        )

    @cached_property
    def values(self) -> tuple[FloatArray, ...]:
        """One vector per group."""
        return tuple(frozen(part) for part in np.split(self.flat_values, self.offsets[1:-1]))

    @cached_property
    def usage(self) -> tuple[FloatArray, ...]:
        """One matrix per group."""
        table = np.ascontiguousarray(self.costs.T)
        return tuple(frozen(part) for part in np.split(table, self.offsets[1:-1]))

    @property
    def size(self) -> int:
        """Number of groups G."""
        return len(self.offsets) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What one solve gave.

    Attributes
    ----------
    problem
        The problem with the coefficients of that moment.
    x, objective, bound
        Solution (None without one), its value, and a proven upper bound; -inf if infeasible.
    path
        How it was found: ``kept`` (the last solution), ``rounded``, ``engine``, ``infeasible``.
    limit
        The limit that stopped the engine, None mostly.
    rel_gap
        The relative gap that was asked for.
    tree, whole
        What a certificate is made from.
    """

    problem: MultipleChoiceProblem
    x: IntArray | None
    objective: float
    bound: float
    path: str
    limit: Limit | None
    rel_gap: float
    tree: RootTree | None
    whole: Certificate | None = None

    @property
    def gap(self) -> float:
        """Relative gap."""
        return relative_gap(self.objective, self.bound)

    @property
    def status(self) -> Status:
        """What was established."""
        if self.x is None:
            return Status.INFEASIBLE if self.bound == -math.inf else Status.NO_SOLUTION
        closed = self.gap <= max(self.rel_gap, NUMERICAL_GAP)
        return Status.OPTIMAL if closed else Status.FEASIBLE

    def certificate(self) -> Certificate:
        """Return the proof of the bound, sealed."""
        if self.whole is not None:
            return self.whole
        assert self.tree is not None
        return sealed(self.problem, self.bound, self.tree)

    def result(self) -> Result:
        """Return what `moe2opt.solve` would return, certificate included."""
        status = self.status
        return Result(
            status=status,
            limit=None if status in (Status.OPTIMAL, Status.INFEASIBLE) else self.limit,
            x=self.x,
            objective=self.objective,
            bound=self.bound,
            certificate=self.certificate(),
            solver="parametric",
            rel_gap=self.rel_gap,
            stats={"path": self.path},
        )


class ParametricChoice:
    """A compiled problem that is fed new coefficients and remembers prices and solution.

    Parameters
    ----------
    problem
        Groups and options, and the first coefficients.
    rel_gap
        The relative gap to reach at every solve.

    Examples
    --------
    >>> import moe2opt as mo
    >>> from moe2opt.solvers.parametric import ParametricChoice
    >>> p = mo.MultipleChoiceProblem(
    ...     values=[[0, 5], [0, 4]], usage=[[[0], [3]], [[0], [2]]], budgets=[4])
    >>> again = ParametricChoice(p, rel_gap=0.0)
    >>> again.solve().x.tolist()
    [1, 0]
    >>> again.update(values=[0, 5, 0, 6])
    >>> answer = again.solve()
    >>> answer.x.tolist(), mo.certify(answer.problem, answer.result()).kind
    ([0, 1], 'checked')
    """

    def __init__(
        self,
        problem: MultipleChoiceProblem,
        *,
        rel_gap: float = 1e-3,
        tuning: ChoiceTuning = DEFAULT.choice,
    ) -> None:
        self.tuning = tuning
        self.rel_gap = rel_gap
        self.problem = problem
        self.model: ChoiceModel
        self.part: Part
        self.vertex: Vertex | None = None
        self.picked: IntArray | None = None
        self._compile()

    # ------------------------------------------------------------------ coefficients

    def update(self, *, values: Any = None, usage: Any = None, budgets: Any = None) -> None:
        """Change coefficients; what is left at None stays.

        Parameters
        ----------
        values
            ``(M,)`` values of all options, group after group.
        usage
            ``(K, M)`` use of every budget by all options.
        budgets
            ``(K,)`` limits.

        Raises
        ------
        InputError
            For a wrong shape, or an entry that is not finite or (usage) negative.
        """
        old = self.problem
        options, rows = len(old.flat_values), len(old.budgets)
        new_values, costs, limits = old.flat_values, old.costs, old.budgets
        if values is not None:
            new_values = real_array("values", values, 1)
            shaped("values", new_values, (options,), "(M,)")
        if usage is not None:
            costs = real_array("usage", usage, 2, nonnegative=True)
            shaped("usage", costs, (rows, options), "(K, M)")
        if budgets is not None:
            limits = real_array("budgets", budgets, 1)
            shaped("budgets", limits, (rows,), "(K,)")
        self.problem = FlatChoiceProblem(old.offsets, new_values, costs, limits)
        if usage is None and budgets is None and not self.model.aimless and new_values.any():
            self._revalue(old)
        else:
            self._compile()

    def _compile(self) -> None:
        self.model = ChoiceModel(self.problem)
        self.part = self.model.part(np.ones(len(self.model.values), dtype=bool))

    def _revalue(self, old: MultipleChoiceProblem) -> None:
        """Exchange the values of a compiled problem; usage and limits stay as they are."""
        self.problem.__dict__["limits"] = old.limits
        model, values = copy(self.model), self.problem.flat_values
        model.problem, model.values = self.problem, values
        model.size = float(np.maximum.reduceat(np.abs(values), model.starts).sum())
        alone = np.setdiff1d(np.arange(self.problem.size), self.part.groups, assume_unique=True)
        core = self.part.core._replace(
            values=np.ascontiguousarray(values[self.part.options]),
            base=float(values[self.part.picked[alone]].sum()),
            size=model.size,
            integral=self.problem.is_integral,
            tiny=1e-12 * max(float(np.abs(values).max()), 1e-300),
        )
        self.model, self.part = model, replace(self.part, core=core)

    def start_from(self, x: Any) -> None:
        """Take a choice as the last solution, feasible or not."""
        self.picked = self.problem.offsets[:-1] + self.problem.vector(x)

    # ------------------------------------------------------------------ solving

    def solve(self, *, time_limit_s: float | None = None, hurried: bool = False) -> Answer:
        """Return the best choice for the present coefficients within the relative gap.

        Parameters
        ----------
        time_limit_s
            Limit of the engine, where it has to take over; the answer then says so.
        hurried
            Call the engine only where nothing feasible was found; the gap is then whatever a
            descent and a rounding leave.
        """
        answer = self._quickly()
        if answer is None or not (self._closes(answer) or (hurried and answer.x is not None)):
            answer = self._by_engine(answer, time_limit_s)
        if answer.x is not None:
            self.picked = self.problem.offsets[:-1] + answer.x
        return answer

    def _closes(self, answer: Answer) -> bool:
        return answer.status in (Status.OPTIMAL, Status.INFEASIBLE)

    def _quickly(self) -> Answer | None:
        """Keep what still is good enough; else descend from the last prices and round."""
        core = self.part.core
        if core.aimless or not len(self.part.groups):
            return None
        at = self._vertex(core)
        kept, worth = self._kept(core)
        cutoff = -math.inf
        if kept is not None:
            numerical = 0.0 if core.integral else NUMERICAL_GAP
            cutoff = worth + max(0.999 * self.rel_gap, numerical) * max(1e-10, abs(worth))
        tree = RootTree(self.model.row_scale)
        box = np.ones(len(core.values), dtype=np.uint8)
        ending, bound = descend(core, at, box, cutoff, self.tuning.reprice_steps)
        if ending == INFEASIBLE:
            tree.leaf("farkas", at.direction)
            return self._answer(None, -math.inf, "infeasible", tree)
        tree.leaf("dual", at.price)
        if ending != PRUNED:
            rounded = self._settled(core, at.profit, self._rounded_choice(at))
            if rounded is not None and self._sum(core, rounded) > worth:
                return self._answer(rounded, self._floor(bound), "rounded", tree)
        return self._answer(kept, self._floor(bound), "kept", tree)

    def _vertex(self, core: Core) -> Vertex:
        """Return the vertex where the last descent ended."""
        if self.vertex is None or len(self.vertex.profit) != len(core.values):
            self.vertex = new_vertex(core)
        return self.vertex

    def _kept(self, core: Core) -> tuple[IntArray | None, float]:
        """Return the last solution, filled up, and its value; None where it no longer fits."""
        if self.picked is None:
            return None, -math.inf
        x = np.searchsorted(self.part.options, self.picked[self.part.groups])
        if (core.costs[x].sum(axis=0) > core.limits).any():
            return None, -math.inf
        settled = self._settled(core, core.values, x)
        return settled, -math.inf if settled is None else self._sum(core, settled)

    def _rounded_choice(self, at: Vertex) -> IntArray:
        """Return the options that win at a vertex, of tied ones those with the larger part."""
        x, group_of = at.key.copy(), self.part.core.group_of
        for i in np.flatnonzero((at.first >= 0) & (at.weight > 0.5)):
            group = group_of[at.first[i]]
            if at.partner[i] == at.key[group]:
                x[group] = at.first[i]
        return x

    def _settled(self, core: Core, profit: FloatArray, start: IntArray) -> IntArray | None:
        """Return options of the core that fit, from `start` on; None where repair fails."""
        x = start.astype(np.int64)
        return x if settle(core, profit, x, np.zeros(len(core.limits))) else None

    def _sum(self, core: Core, x: IntArray) -> float:
        return core.base + float(core.values[x].sum())

    def _floor(self, bound: float) -> float:
        if not self.problem.is_integral:
            return bound
        return float(math.floor(bound)) if math.isfinite(bound) else bound

    def _answer(self, x: IntArray | None, bound: float, path: str, tree: RootTree) -> Answer:
        """Return an answer for options of the core, judged by the problem itself."""
        problem, objective, choice = self.problem, -math.inf, None
        if x is not None:
            choice = self.part.complete(x) - problem.offsets[:-1]
            objective = problem.evaluate(choice) if problem.is_feasible(choice) else -math.inf
            choice = choice if objective > -math.inf else None
        bound = max(bound, objective)
        return Answer(problem, choice, objective, bound, path, None, self.rel_gap, tree)

    # ------------------------------------------------------------------ engine

    def _by_engine(self, so_far: Answer | None, time_limit_s: float | None) -> Answer:
        """Let branch and bound close the gap, from the best solution so far."""
        start = None if so_far is None else so_far.x
        options = Options(rel_gap=self.rel_gap, time_limit_s=time_limit_s, warm_start=start)
        search = Search(self.problem, options)
        outcome = explained(solve(self.problem, search), search)
        result = search.result(outcome, "brb")
        certificate = outcome.certificate
        assert certificate is not None
        return Answer(
            self.problem,
            result.x,
            result.objective,
            result.bound,
            "engine",
            outcome.limit,
            self.rel_gap,
            None,
            certificate,
        )
