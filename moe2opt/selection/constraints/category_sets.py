r"""One set of experts for each category, within shared budgets, as a facility problem.

Deployed experts S take memory; category k asks the experts of :math:`S_k \subseteq S`, and only
these cost energy on its prompts. The columns are

* :math:`d_i`: expert i is deployed, with the rows of memory and of the number of experts;
* :math:`u_{ik}`: category k asks expert i, with its value on the clusters of k, with
  :math:`\pi_k e_{ki}` in the row of energy, and with its time on a shared server;
* :math:`n_i`: expert i is not deployed.

"Asked only if deployed" is :math:`u_{ik} + n_i \le 1` (a group) and :math:`d_i + n_i \ge 1` (a
cover). Together they say :math:`u_{ik} \le d_i`, in the linear relaxation too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moe2opt.canonical import FacilityProblem
from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.selection.case import Case
from moe2opt.selection.constraints.compiled import Compiled
from moe2opt.steps import step


def with_sets(case: Case, plain: Compiled) -> Compiled:
    """Return the compiled instance with columns for all experts that may serve a category."""
    base = plain.base
    category, expert = asked_pairs(case)
    size, pairs = base.size, len(expert)
    ask, absent = size + np.arange(pairs), size + pairs + np.arange(size)
    values = np.zeros((base.clusters, 2 * size + pairs))
    own = case.category_of[:, None] == category[None, :]
    values[:, size : size + pairs] = np.where(own, base.values[:, expert], 0.0)
    links = [np.array(pair) for pair in zip(ask, absent[expert], strict=True)]
    deployed = [np.array(pair) for pair in zip(np.arange(size), absent, strict=True)]
    problem = FacilityProblem(
        values=values,
        costs=np.stack([_spread(case, plain, r) for r in range(len(base.budgets))]),
        budgets=base.budgets,
        weights=base.weights,
        groups=(*base.groups, *links),
        covers=(*_category_covers(case, base), *deployed),
    )
    labels = (f"{e.label}: deployed or not" for e in case.experts)
    names = (*(f"{name}: an expert is asked" for name in case.categories), *labels)
    return replace(plain, problem=problem, cover_names=names)


def asked_pairs(case: Case) -> tuple[IntArray, IntArray]:
    """Return category and expert of each column that says who is asked."""
    category, expert = np.nonzero(~case.barred)
    return category.astype(np.int64), expert.astype(np.int64)


def asked_by(case: Case, x: IntArray) -> BoolArray:
    """Return ``(K, N)`` who is asked by a solution of the canonical problem."""
    category, expert = asked_pairs(case)
    asked = np.zeros(case.barred.shape, dtype=bool)
    chosen = np.asarray(x)[len(case.experts) :][: len(expert)] > 0
    asked[category[chosen], expert[chosen]] = True
    return asked


def with_everyone(case: Case, x: IntArray) -> IntArray:
    """Return the solution that deploys the experts of `x` and asks all that may serve."""
    deployed = np.asarray(x, dtype=np.int64)
    return as_solution(case, deployed > 0, (deployed > 0) & ~case.barred)


def as_solution(case: Case, deployed: BoolArray, asked: BoolArray) -> IntArray:
    """Return the canonical solution for ``(N,)`` deployed and ``(K, N)`` asked experts."""
    own = asked[asked_pairs(case)]
    return np.concatenate([deployed, own, ~deployed]).astype(np.int64)


def use_of_sets(
    case: Case, compiled: Compiled, deployed: BoolArray, asked: BoolArray
) -> FloatArray:
    """Return the use of every budget, computed from the case's own times and joules."""
    used = compiled.base.usage_of(deployed.astype(np.int64)).copy()
    spent = {own.name: own.by_category for own in case.spendings}
    for r, name in enumerate(compiled.base_names):
        if name in spent:
            used[r] = float((case.shares[:, None] * spent[name])[asked].sum())
        elif (place := _turns(case).get(name)) is not None:
            on, k = case.on(place[0]), place[1]
            used[r] = float(case.delay_s[k, asked[k] & on].sum())
    return used


def _turns(case: Case) -> dict[str, tuple[str, int]]:
    """Return server and category by the names of the rows of shared servers."""
    if case.delay_sharing != "shared":
        return {}
    return {
        f"delay_s[{host.name}, {name}]": (host.name, k)
        for host in case.machines
        for k, name in enumerate(case.categories)
    }


def _spread(case: Case, plain: Compiled, r: int) -> FloatArray:
    """Return a budget row over all columns: of who is asked, or of who is deployed."""
    step()
    own, name = plain.base.costs[r], plain.base_names[r]
    category, expert = asked_pairs(case)
    nobody, unasked = np.zeros(len(own)), np.zeros(len(expert))
    spent = {own.name: own.by_category for own in case.spendings}
    if name in spent:
        asked = case.shares[category] * spent[name][category, expert]
        return np.concatenate([nobody, asked, nobody])
    if (place := _turns(case).get(name)) is not None:
        asked = np.where(category == place[1], own[expert], 0.0)
        return np.concatenate([nobody, asked, nobody])
    return np.concatenate([own, unasked, nobody])


def _category_covers(case: Case, base: FacilityProblem) -> list[IntArray]:
    """Return who may be asked by each category; where nobody is in time, everybody there is."""
    category, _ = asked_pairs(case)
    own = [base.size + np.flatnonzero(category == k) for k in range(len(case.categories))]
    return [members if len(members) else np.arange(base.size) for members in own]
