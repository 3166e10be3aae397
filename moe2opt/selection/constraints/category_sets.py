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
from typing import TYPE_CHECKING

import numpy as np

from moe2opt.canonical import FacilityProblem
from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.selection.compiled import Compiled
from moe2opt.selection.constraints.nonlinear import ENERGY
from moe2opt.steps import step

if TYPE_CHECKING:
    from moe2opt.selection.instance import SelectionInstance


def with_sets(instance: SelectionInstance, plain: Compiled) -> Compiled:
    """Return the compiled instance with a column for every expert in time in every category."""
    base = plain.base
    category, expert = asked_pairs(instance)
    size, pairs = base.size, len(expert)
    ask, absent = size + np.arange(pairs), size + pairs + np.arange(size)
    values = np.zeros((base.clusters, 2 * size + pairs))
    own = instance.category_of[:, None] == category[None, :]
    values[:, size : size + pairs] = np.where(own, base.values[:, expert], 0.0)
    links = [np.array(pair) for pair in zip(ask, absent[expert], strict=True)]
    deployed = [np.array(pair) for pair in zip(np.arange(size), absent, strict=True)]
    problem = FacilityProblem(
        values=values,
        costs=np.stack([_spread(instance, plain, r) for r in range(len(base.budgets))]),
        budgets=base.budgets,
        weights=base.weights,
        groups=(*base.groups, *links),
        covers=(*_category_covers(instance, base), *deployed),
    )
    labels = (f"{e.label}: deployed or not" for e in instance.experts)
    names = (*(f"{name}: an expert is asked" for name in instance.categories), *labels)
    return replace(plain, problem=problem, cover_names=names)


def asked_pairs(instance: SelectionInstance) -> tuple[IntArray, IntArray]:
    """Return category and expert of each column that says who is asked."""
    category, expert = np.nonzero(~instance.late)
    return category.astype(np.int64), expert.astype(np.int64)


def asked_by(instance: SelectionInstance, x: IntArray) -> BoolArray:
    """Return ``(K, N)`` who is asked by a solution of the canonical problem."""
    category, expert = asked_pairs(instance)
    asked = np.zeros(instance.late.shape, dtype=bool)
    chosen = np.asarray(x)[len(instance.experts) :][: len(expert)] > 0
    asked[category[chosen], expert[chosen]] = True
    return asked


def with_everyone(instance: SelectionInstance, x: IntArray) -> IntArray:
    """Return the solution that deploys the experts of `x` and asks all that are in time."""
    deployed = np.asarray(x, dtype=np.int64)
    return as_solution(instance, deployed > 0, (deployed > 0) & ~instance.late)


def as_solution(instance: SelectionInstance, deployed: BoolArray, asked: BoolArray) -> IntArray:
    """Return the canonical solution for ``(N,)`` deployed and ``(K, N)`` asked experts."""
    own = asked[asked_pairs(instance)]
    return np.concatenate([deployed, own, ~deployed]).astype(np.int64)


def use_of_sets(instance: SelectionInstance, deployed: BoolArray, asked: BoolArray) -> FloatArray:
    """Return the use of every budget, computed from the instance's own times and joules."""
    compiled = instance.compiled
    used = compiled.base.usage_of(deployed.astype(np.int64)).copy()
    for r, name in enumerate(compiled.base_names):
        if name == ENERGY:
            used[r] = float((instance.shares[:, None] * instance.energy_j)[asked].sum())
        elif (place := _turns(instance).get(name)) is not None:
            on, k = instance.on(place[0]), place[1]
            used[r] = float(instance.delay_s[k, asked[k] & on].sum())
    return used


def _turns(instance: SelectionInstance) -> dict[str, tuple[str, int]]:
    """Return server and category by the names of the rows of shared servers."""
    if instance.delay_sharing != "shared":
        return {}
    return {
        f"delay_s[{host.name}, {name}]": (host.name, k)
        for host in instance.hosts
        for k, name in enumerate(instance.categories)
    }


def _spread(instance: SelectionInstance, plain: Compiled, r: int) -> FloatArray:
    """Return a budget row over all columns: of who is asked, or of who is deployed."""
    step()
    own, name = plain.base.costs[r], plain.base_names[r]
    category, expert = asked_pairs(instance)
    nobody, unasked = np.zeros(len(own)), np.zeros(len(expert))
    if name == ENERGY:
        asked = instance.shares[category] * instance.energy_j[category, expert]
        return np.concatenate([nobody, asked, nobody])
    if (place := _turns(instance).get(name)) is not None:
        asked = np.where(category == place[1], own[expert], 0.0)
        return np.concatenate([nobody, asked, nobody])
    return np.concatenate([own, unasked, nobody])


def _category_covers(instance: SelectionInstance, base: FacilityProblem) -> list[IntArray]:
    """Return who may be asked by each category; where nobody is in time, everybody there is."""
    category, _ = asked_pairs(instance)
    own = [base.size + np.flatnonzero(category == k) for k in range(len(instance.categories))]
    return [members if len(members) else np.arange(base.size) for members in own]
