"""Instances that are no facility problem: mixtures of experts, and budgets that are no sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from moe2opt.canonical import FacilityProblem, MonotoneProblem
from moe2opt.canonical.monotone import MixedOracle
from moe2opt.canonical.validate import BUDGET_TOLERANCE
from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.selection.case import Case
from moe2opt.selection.constraints.ceiling import below, priced_ceiling
from moe2opt.selection.constraints.compiled import Compiled
from moe2opt.selection.constraints.ensemble import Ensemble
from moe2opt.selection.constraints.largest import necessary_rows
from moe2opt.selection.constraints.measures import Measure, digest_of
from moe2opt.selection.constraints.nonlinear import hourly
from moe2opt.selection.constraints.objectives import mixture_oracle
from moe2opt.selection.constraints.queueing import work_shares
from moe2opt.selection.constraints.together import ensemble_of
from moe2opt.selection.constraints.voters import Voters, on_experts, with_absences
from moe2opt.selection.gated import GatedCase


@dataclass(frozen=True, eq=False)
class BudgetedProblem(MonotoneProblem):
    """A monotone problem over 0/1 variables whose constraints have names and limits.

    Parameters
    ----------
    base
        Facility problem with the same variables: its rows, groups and covers are constraints here.
    measures
        The constraints that follow its rows.
    key
        What tells this problem from others with the same box.
    """

    base: FacilityProblem = field(kw_only=True)
    measures: Sequence[Measure] = field(kw_only=True)
    key: str = field(kw_only=True)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the data behind the oracles, and of the limits."""
        own = (part for m in self.measures for part in (m.name, m.limit, m.digest))
        return digest_of(self.key, self.base.fingerprint, *own)

    @property
    def budgets(self) -> FloatArray:
        """Limit of each constraint, groups included."""
        own = [measure.limit for measure in self.measures]
        return np.array([*self.base.budgets, *own, *(1.0 for _ in self.base.groups)])

    def usage_of(self, x: Any) -> FloatArray:
        """Return what `x` uses of each of `budgets`."""
        point = self.vector(x)
        own = [measure.use(point > 0) for measure in self.measures]
        groups = [float(point[group].sum()) for group in self.base.groups]
        return np.array([*self.base.usage_of(point), *own, *groups])


def general(case: Case, plain: Compiled) -> Compiled:
    """Return the instance compiled to a monotone problem.

    The objective is the lesser of its own bound over a box and of the ceiling that knows the
    linear budgets; both are mixed monotone, and the ceiling is no less than the objective wherever
    the budgets are kept.
    """
    base, view = plain.base, plain.base.as_monotone()
    own: MixedOracle = BestOfChosen(base.weighted)
    if case.mixture is not None:
        own = mixture_oracle(case.mixture, case.scored)
    elif case.vote is not None:
        assert isinstance(case, GatedCase)
        return _voting(case, plain, ensemble_of(case, case.members()))
    rows = len(base.budgets)
    problem = BudgetedProblem(
        lower=view.lower,
        upper=view.upper,
        mixed_objective=below(own, priced_ceiling(_linear(case, plain))),
        constraints=[
            *view.constraints[:rows],
            *(measure.oracle(base.size) for measure in plain.measures),
            *view.constraints[rows:],
        ],
        reverse_constraints=view.reverse_constraints,
        # Short of the ceiling it is; where the ceiling is lower, no budget is kept.
        submodular=case.mixture is None,
        base=base,
        measures=plain.measures,
        # Who may serve counts besides the values: who may not takes no part in a mixture.
        key=digest_of(repr(case.mixture), case.scored.allowed),
    )
    groups = (case.experts[group[0]] for group in base.groups)
    names = (f"precisions[{expert.llm} @ {expert.server}]" for expert in groups)
    return replace(plain, problem=problem, row_names=(*plain.budget_names, *names))


def _voting(case: Case, plain: Compiled, own: Ensemble) -> Compiled:
    """Return the problem of experts that answer together, with columns for absent LLMs."""
    base = with_absences(plain.base)
    linear, view = _linear(case, plain), base.as_monotone()
    measures = tuple(on_experts(measure, plain.base.size) for measure in plain.measures)
    rows = len(base.budgets)
    problem = BudgetedProblem(
        lower=view.lower,
        upper=view.upper,
        mixed_objective=Voters(own, priced_ceiling(linear), linear),
        constraints=[
            *view.constraints[:rows],
            *(measure.oracle(base.size) for measure in measures),
            *view.constraints[rows:],
        ],
        reverse_constraints=view.reverse_constraints,
        base=base,
        measures=measures,
        key=digest_of(case.scored.allowed, *own.parts),
    )
    llms = [case.experts[group[0]].llm for group in plain.base.groups]
    return replace(
        plain,
        problem=problem,
        row_names=(*plain.budget_names, *(f"copies[{llm}]" for llm in llms)),
        cover_names=(*plain.cover_names, *(f"{llm}: deployed or not" for llm in llms)),
    )


def _linear(case: Case, plain: Compiled) -> FacilityProblem:
    """Return the facility problem with what is known to be linear about the other budgets."""
    base = plain.base
    costs, budgets = [base.costs], [base.budgets]
    alone = np.eye(base.size, dtype=np.int64)
    largest = {own.name: own for own in case.spendings if own.counts == "largest"}
    for measure in plain.measures:
        # Nobody who exceeds a budget alone keeps it with others.
        costs.append((measure.excess(alone) > 0)[None, :].astype(np.float64))
        budgets.append(np.zeros(1))
        if (own := largest.get(measure.name)) is not None:
            more = necessary_rows(own.per_prompt, own.largest, measure.allowed)
            costs.append(more[0])
            budgets.append(more[1])
    per_hour = hourly(case)
    if per_hour is not None and per_hour[3].any():
        _, limit, prices, rents = per_hour
        # Who is on a server carries at least an equal part of its rent among all that fit there.
        most = np.array([_most_on(case, k) for k in range(len(case.hosts))])
        costs.append((prices + (rents / most)[case.host_of])[None, :])
        budgets.append(np.array([limit * (1 + BUDGET_TOLERANCE) + BUDGET_TOLERANCE]))
    if case.queue is not None and case.queue.counts == "all":
        assert case.samples is not None
        host = (case.host_of == np.arange(len(case.hosts))[:, None]).astype(np.float64)
        costs.append(host * work_shares(case.samples, case.queue))
        budgets.append(np.full(len(host), 1 + BUDGET_TOLERANCE))
    return FacilityProblem(
        base.values, np.concatenate(costs), np.concatenate(budgets), base.weights
    )


def _most_on(case: Case, host: int) -> int:
    """Return a number of experts on a server that no plan exceeds; at least 1."""
    memory = np.array([expert.memory_gib for expert in case.experts])
    own = np.sort(memory[case.host_of == host])
    room = case.hosts[host].capacity_gib * (1 + 1e-6)
    return max(1, int((np.cumsum(own) <= room).sum()))


@dataclass(frozen=True, eq=False)
class BestOfChosen:
    """The facility objective as an oracle; the lower corner does not matter.

    Parameters
    ----------
    weighted
        ``(C, N)`` values times weights.
    """

    weighted: FloatArray

    def __call__(self, upper: IntArray, lower: IntArray) -> FloatArray:
        """Return the objective at ``(B, N)`` upper corners."""
        everyone = np.asarray(upper.max(axis=0) > 0)
        missing = everyone & (upper <= 0)
        if len(upper) > 1 and everyone.sum() > 1 and (missing.sum(axis=1) <= 1).all():
            return self._short_of_one(everyone, missing)
        return np.array([self._value(point > 0) for point in upper])

    def _value(self, chosen: BoolArray) -> float:
        return float(self.weighted[:, chosen].max(axis=1, initial=0.0).sum())

    def _short_of_one(self, everyone: BoolArray, missing: BoolArray) -> FloatArray:
        """Return the values of sets that each lack one expert of `everyone`, or none.

        They are those of `_value` to the last bit: a difference of sums could be less.
        """
        members = np.flatnonzero(everyone)
        own = self.weighted[:, members]
        best = members[own.argmax(axis=1)]
        second, first = np.maximum(np.partition(own, -2, axis=1)[:, -2:].T, 0.0)
        lacking = np.where(missing.any(axis=1), missing.argmax(axis=1), -1)
        return np.array([np.where(best == n, second, first).sum() for n in lacking])
