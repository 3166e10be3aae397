"""SCIP's nonlinear solver on monotone problems made of parts, as a modeller would write them.

A function of one variable is a table chosen by binaries, a product of tables, a product of two
variables and the chance that a target is missed are nonlinear expressions that SCIP relaxes itself.
So are the rates of links that disturb one another, which are oracles to us.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from moe2opt.bench.peers import UnsupportedError
from moe2opt.bench.radio import Interference, SumRate
from moe2opt.canonical import MonotoneProblem
from moe2opt.canonical.placed import Block, Blocks, Coverage, Placed, Quadratic


def monotone_model(model: Any, problem: MonotoneProblem) -> tuple[list[Any], Any]:
    """Fill a model; return the variables to watch and how their values read as a point.

    Raises
    ------
    UnsupportedError
        For oracles but those of links, and for parts without a model here.
    """
    made = problem.structure
    if isinstance(problem.mixed_objective, SumRate):
        return _links(model, problem, problem.mixed_objective), np.rint
    if made is None:
        raise UnsupportedError("no model of oracles")
    x = [
        model.addVar(vtype="I", lb=int(low), ub=int(high))
        for low, high in zip(problem.lower, problem.upper, strict=True)
    ]
    tables: dict[int, list[Any]] = {}
    for row, sign in [(r, 1) for r in made.at_most] + [(r, -1) for r in made.at_least]:
        value = _expression(model, problem, x, tables, row.part)
        model.addCons(sign * value <= sign * float(row.limit))
    worth = model.addVar(lb=None, ub=None)
    value = _expression(model, problem, x, tables, made.objective)
    model.addCons(worth <= (-value if made.minimises else value))
    model.setObjective(worth, "maximize")
    return x, np.rint


def _links(model: Any, problem: MonotoneProblem, rates: SumRate) -> list[Any]:
    """Model links: a signal-to-interference ratio each, times what is heard beside the signal.

    Gains and limits are in multiples of the noise, so that numbers of the model are of one size.
    """
    from pyscipopt import log, quicksum

    x = [model.addVar(vtype="I", lb=0, ub=int(high)) for high in problem.upper]
    power = [
        _table(model, problem, x, {}, _one_table(i, rates.powers)) for i in range(problem.size)
    ]
    for row in problem.constraints:
        assert isinstance(row, Interference)
        heard = quicksum(float(g) * p for g, p in zip(row.gains, power, strict=True))
        model.addCons(heard <= 1.0)
    total = []
    for i, gains in enumerate(rates.gains / rates.noise):
        ratio = model.addVar(lb=0.0, ub=float(gains[i] * rates.powers[-1]))
        others = [float(g) * power[j] for j, g in enumerate(gains) if j != i]
        model.addCons(ratio * (1.0 + quicksum(others)) <= float(gains[i]) * power[i])
        total.append(float(rates.weights[i]) / np.log(2.0) * log(1.0 + ratio))
    worth = model.addVar(lb=None, ub=None)
    model.addCons(worth <= quicksum(total))
    model.setObjective(worth, "maximize")
    return x


def _one_table(variable: int, table: Any) -> Block:
    """Return a table over all levels of one variable that begins at 0."""
    one = np.ones(1, dtype=np.int64)
    return Block(np.array([variable]), table, 0 * one, one)


def _expression(
    model: Any, problem: MonotoneProblem, x: list[Any], tables: dict[int, list[Any]], part: Placed
) -> Any:
    """Return a part as an expression."""
    from pyscipopt import quickprod, quicksum

    if isinstance(part, Blocks):
        values = [_table(model, problem, x, tables, block) for block in part.blocks]
        return quickprod(values) if part.is_product else quicksum(values)
    if isinstance(part, Quadratic):
        linear = quicksum(float(c) * v for c, v in zip(part.linear, x, strict=True))
        pairs = zip(*np.nonzero(part.pairs), strict=True)
        return linear + quicksum(float(part.pairs[i, j]) * x[i] * x[j] for i, j in pairs)
    if isinstance(part, Coverage) and not problem.lower.any() and (problem.upper <= 1).all():
        targets = []
        for c, weight in enumerate(part.weights):
            chances = [(i, 1.0 - float(t[-1][c])) for i, t in enumerate(part.misses)]
            missed = quickprod([1.0 - p * x[i] for i, p in chances if p])
            targets.append(float(weight) * (1.0 - missed))
        return quicksum(targets)
    raise UnsupportedError(f"no nonlinear model of {type(part).__name__}")


def _table(
    model: Any, problem: MonotoneProblem, x: list[Any], tables: dict[int, list[Any]], block: Block
) -> Any:
    """Return the value of a table, as a sum over binaries that say which level is chosen."""
    from pyscipopt import quicksum

    if len(block.variables) > 1:
        raise UnsupportedError("no nonlinear model of a table over several variables")
    i = int(block.variables[0])
    slopes = np.diff(block.table)
    if len(slopes) == 0:
        return float(block.table[0])
    if np.ptp(slopes) <= 1e-12 * slopes.max():
        return float(block.table[0]) + float(slopes[0]) * (x[i] - int(problem.lower[i]))
    if i not in tables:
        levels = range(len(block.table))
        tables[i] = [model.addVar(vtype="B") for _ in levels]
        model.addCons(quicksum(tables[i]) == 1)
        chosen = quicksum(k * b for k, b in zip(levels, tables[i], strict=True))
        model.addCons(x[i] == int(problem.lower[i]) + chosen)
    value = model.addVar(lb=float(block.table[0]), ub=float(block.table[-1]))
    terms = (float(v) * b for v, b in zip(block.table, tables[i], strict=True))
    model.addCons(value == quicksum(terms))
    return value
