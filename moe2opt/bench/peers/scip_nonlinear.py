"""SCIP's nonlinear solver on monotone problems made of parts, as a modeller would write them.

A function of one variable is a table chosen by binaries, a product of tables, a product of two
variables and the chance that a target is missed are nonlinear expressions that SCIP relaxes itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from moe2opt.bench.peers import UnsupportedError
from moe2opt.canonical import MonotoneProblem
from moe2opt.canonical.placed import Block, Blocks, Coverage, Placed, Quadratic


def monotone_model(model: Any, problem: MonotoneProblem) -> tuple[list[Any], Any]:
    """Fill a model; return the variables to watch and how their values read as a point.

    Raises
    ------
    UnsupportedError
        For oracles, and for parts without a model here.
    """
    made = problem.structure
    if made is None or made.minimises:
        raise UnsupportedError("no model of oracles, or of a minimum")
    x = [
        model.addVar(vtype="I", lb=int(low), ub=int(high))
        for low, high in zip(problem.lower, problem.upper, strict=True)
    ]
    tables: dict[int, list[Any]] = {}
    for row, sign in [(r, 1) for r in made.at_most] + [(r, -1) for r in made.at_least]:
        value = _expression(model, problem, x, tables, row.part)
        model.addCons(sign * value <= sign * float(row.limit))
    worth = model.addVar(lb=None, ub=None)
    model.addCons(worth <= _expression(model, problem, x, tables, made.objective))
    model.setObjective(worth, "maximize")
    return x, np.rint


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
    if np.ptp(slopes) == 0:
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
