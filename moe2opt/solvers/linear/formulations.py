r"""The linear problems as readable Pyomo algebra, and as the matrices that HiGHS wants.

Facility, the strong form (Cornuéjols, Fisher, Nemhauser 1977): with :math:`W_{ci} = w_c V_{ci}`

.. math::

    \max \sum_{c,i} W_{ci} z_{ci} - \sum_i o_i y_i \quad \text{s.t.} \quad
    z_{ci} \le y_i, \quad \sum_i z_{ci} \le 1, \quad A y \le b, \quad
    \sum_{i \in G} y_i \le 1, \quad \sum_{i \in H} y_i \ge 1,

y binary, z in [0, 1]. Pairs that cannot earn anything (a zero value, or an expert that alone
exceeds a budget) have no z. Multiple choice has one binary per option.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyomo.environ as pyo
from pyomo.repn.plugins.standard_form import LinearStandardFormCompiler
from scipy.sparse import csr_array, vstack

from moe2opt.canonical import FacilityProblem, MultipleChoiceProblem, Problem
from moe2opt.result import BoolArray, FloatArray, InputError, IntArray

LinearProblem = FacilityProblem | MultipleChoiceProblem

#: Told once in a while that a model is being built; raises to abandon it.
Watch = Callable[[], None]

_Item = TypeVar("_Item")

#: Pairs of a model that are built between two calls of the watch.
_WATCH_EVERY = 2000


@dataclass(frozen=True, slots=True, eq=False)
class LinearModel:
    """Maximise ``objective · v`` subject to ``row_lower <= rows v <= row_upper``, 0 <= v <= upper.

    Attributes
    ----------
    objective
        ``(n,)`` coefficients.
    rows
        ``(m, n)`` sparse matrix.
    row_lower, row_upper
        ``(m,)`` sides, infinite where there is none.
    upper
        ``(n,)`` largest values: one, or zero for a column that is out.
    integer
        ``(n,)`` which columns are binary; the others are continuous.
    chosen_by
        Column of each expert (facility) or option (multiple choice); -1 for one that appears in
        no row and earns nothing.
    assigned_by
        Column of each pair of `valued_pairs`; empty for multiple choice.
    """

    objective: FloatArray
    rows: csr_array[Any]
    row_lower: FloatArray
    row_upper: FloatArray
    upper: FloatArray
    integer: BoolArray
    chosen_by: IntArray
    assigned_by: IntArray


def pyomo_model(problem: Problem, watch: Watch = lambda: None) -> Any:
    """Return the strong formulation as a Pyomo ``ConcreteModel``.

    Raises
    ------
    InputError
        For a `MonotoneProblem`, whose oracles have no linear form in general.
    """
    if isinstance(problem, FacilityProblem):
        return facility_model(problem, watch)
    if isinstance(problem, MultipleChoiceProblem):
        return choice_model(problem, watch)
    raise InputError(f"{type(problem).__name__} has no linear formulation")


def facility_model(problem: FacilityProblem, watch: Watch = lambda: None) -> Any:
    """Return the strong formulation with ``y[i]`` (chosen) and ``z[c, i]`` (i serves c)."""
    value, cost, limit = problem.weighted, problem.costs, problem.limits
    pairs: list[tuple[int, int]] = [(c, i) for c, i in valued_pairs(problem).tolist()]
    m = pyo.ConcreteModel(name="facility")
    m.y = pyo.Var(range(problem.size), domain=pyo.Binary)
    m.z = pyo.Var(pairs, bounds=(0, 1))
    costly = np.flatnonzero(problem.fixed).tolist()
    m.quality = pyo.Objective(
        expr=pyo.quicksum(float(value[c, i]) * m.z[c, i] for c, i in watched(pairs, watch))
        - (pyo.quicksum(float(problem.fixed[i]) * m.y[i] for i in costly) if costly else 0.0),
        sense=pyo.maximize,
    )
    m.served_by_chosen = pyo.Constraint(pairs)
    for c, i in watched(pairs, watch):
        m.served_by_chosen[c, i] = m.z[c, i] <= m.y[i]
    m.served_once = pyo.Constraint(range(problem.clusters))
    for c, experts in _by_cluster(pairs).items():
        m.served_once[c] = pyo.quicksum(m.z[c, i] for i in experts) <= 1
    m.budget = pyo.Constraint(range(len(limit)))
    for k, row in enumerate(cost):
        _add_budget(m.budget, k, row, m.y, float(limit[k]))
    m.group = pyo.Constraint(range(len(problem.groups)))
    for g, members in enumerate(problem.groups):
        m.group[g] = pyo.quicksum(m.y[i] for i in members.tolist()) <= 1
    m.cover = pyo.Constraint(range(len(problem.covers)))
    for h, members in enumerate(problem.covers):
        m.cover[h] = pyo.quicksum(m.y[i] for i in members.tolist()) >= 1
    return m


def choice_model(problem: MultipleChoiceProblem, watch: Watch = lambda: None) -> Any:
    """Return the formulation with one binary ``choose[g, o]`` per option."""
    groups = [range(len(options)) for options in problem.values]
    options = [(g, o) for g, group in enumerate(groups) for o in group]
    value, limit = problem.flat_values, problem.limits
    m = pyo.ConcreteModel(name="multiple_choice")
    m.choose = pyo.Var(options, domain=pyo.Binary)
    m.value = pyo.Objective(
        expr=pyo.quicksum(
            float(value[j]) * m.choose[option]
            for j, option in enumerate(watched(options, watch))
            if value[j]
        ),
        sense=pyo.maximize,
    )
    m.one_option = pyo.Constraint(range(problem.size))
    for g, group in watched(list(enumerate(groups)), watch):
        m.one_option[g] = pyo.quicksum(m.choose[g, o] for o in group) == 1
    m.budget = pyo.Constraint(range(len(limit)))
    chosen = list(m.choose.values())
    for k, row in enumerate(problem.costs):
        _add_budget(m.budget, k, row, chosen, float(limit[k]))
    return m


def valued_pairs(problem: FacilityProblem) -> IntArray:
    """Return the ``(P, 2)`` pairs (cluster, expert) that can earn something, cluster by cluster."""
    affordable = (problem.costs <= problem.limits[:, None]).all(axis=0)
    return np.argwhere((problem.weighted > 0) & affordable)


def export_model(problem: Problem, path: str | Path) -> None:
    """Write the formulation with readable names; the suffix (.lp or .mps) sets the format.

    Raises
    ------
    InputError
        For another suffix, a `MonotoneProblem`, or a file that cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".lp", ".mps"):
        raise InputError(f"{path}: the suffix must be .lp or .mps")
    model = pyomo_model(problem)
    try:
        model.write(str(path), io_options={"symbolic_solver_labels": True})
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


def matrices(model: Any) -> LinearModel:
    """Translate a Pyomo model of this module into matrices."""
    form = LinearStandardFormCompiler().write(model, mixed_form=True, set_sense=pyo.maximize)
    column = {id(variable): j for j, variable in enumerate(form.columns)}
    chosen = model.y if hasattr(model, "y") else model.choose
    assigned = model.z.values() if hasattr(model, "z") else ()
    side = np.array([row.bound_type for row in form.rows], dtype=np.int64)
    right = np.asarray(form.rhs, dtype=np.float64)
    return LinearModel(
        objective=np.asarray(form.c.todense(), dtype=np.float64).reshape(-1),
        rows=form.A.tocsr().astype(np.float64),
        row_lower=np.where(side <= 0, right, -np.inf),
        row_upper=np.where(side >= 0, right, np.inf),
        upper=np.ones(len(form.columns)),
        integer=np.array([variable.is_binary() for variable in form.columns], dtype=bool),
        chosen_by=np.array([column.get(id(v), -1) for v in chosen.values()], dtype=np.int64),
        assigned_by=np.array([column[id(v)] for v in assigned], dtype=np.int64),
    )


def without_columns(model: LinearModel, out: BoolArray) -> LinearModel:
    """Return the model in which columns are zero: they leave its rows and its objective."""
    rows = model.rows.copy()
    rows.data = np.where(out[rows.indices], 0.0, rows.data)
    rows.eliminate_zeros()
    upper = np.where(out, 0.0, model.upper)
    return replace(model, objective=np.where(out, 0.0, model.objective), rows=rows, upper=upper)


def without_idle_rows(model: LinearModel) -> LinearModel:
    """Return the model without upper sides that no choice of columns can exceed."""
    most = np.asarray(model.rows.maximum(0.0).sum(axis=1), dtype=np.float64).reshape(-1)
    # The sum is rounded; a row that it only just keeps stays.
    idle = most * (1.0 + 1e-9) <= model.row_upper
    return replace(model, row_upper=np.where(idle, np.inf, model.row_upper))


def with_cover(model: LinearModel, columns: IntArray) -> LinearModel:
    """Return the model with the row "not all of these columns"."""
    entries = (np.ones(len(columns)), columns, np.array([0, len(columns)]))
    row = csr_array(entries, shape=(1, len(model.objective)))
    return replace(
        model,
        rows=vstack([model.rows, row], format="csr"),
        row_lower=np.append(model.row_lower, -np.inf),
        row_upper=np.append(model.row_upper, len(columns) - 1.0),
    )


def solution_of(problem: LinearProblem, model: LinearModel, columns: FloatArray) -> IntArray:
    """Return the solution that rounded column values stand for."""
    values = np.append(columns, 0.0)[model.chosen_by]
    if isinstance(problem, FacilityProblem):
        return np.asarray(values > 0.5, dtype=np.int64)
    parts = np.split(values, problem.offsets[1:-1])
    return np.array([int(np.argmax(part)) for part in parts], dtype=np.int64)


def columns_of(problem: LinearProblem, model: LinearModel, x: IntArray) -> FloatArray:
    """Return the column values of the solution `x`: the inverse of `solution_of`."""
    columns = np.zeros(len(model.objective) + 1)
    columns[model.chosen_by[chosen_entries(problem, x)]] = 1.0
    if isinstance(problem, FacilityProblem):
        pairs = valued_pairs(problem)
        best = np.where(x > 0, problem.weighted, -1.0).argmax(axis=1)
        columns[model.assigned_by[(best[pairs[:, 0]] == pairs[:, 1]) & (x[pairs[:, 1]] > 0)]] = 1.0
    return columns[:-1]


def chosen_entries(problem: LinearProblem, x: IntArray) -> IntArray:
    """Return the chosen experts, or the flat positions of the chosen options."""
    return np.flatnonzero(x) if isinstance(problem, FacilityProblem) else problem.offsets[:-1] + x


def watched(items: Iterable[_Item], watch: Watch) -> Iterator[_Item]:
    """Yield `items`, calling `watch` once in a while."""
    for count, item in enumerate(items):
        if count % _WATCH_EVERY == 0:
            watch()
        yield item


def _by_cluster(pairs: list[tuple[int, int]]) -> dict[int, list[int]]:
    experts: dict[int, list[int]] = {}
    for c, i in pairs:
        experts.setdefault(c, []).append(i)
    return experts


def _add_budget(budget: Any, k: int, row: FloatArray, variables: Any, limit: float) -> None:
    """Add one budget row; a row without costs matters only when its limit is negative."""
    terms = [float(row[j]) * variables[j] for j in np.flatnonzero(row).tolist()]
    if not terms and limit < 0:
        # Any row that excludes every point says the same, and an empty row is no expression.
        terms = [variables[0]]
    if terms:
        budget[k] = pyo.quicksum(terms) <= limit
