"""Monotone problems made of parts as linear models: what HiGHS and CP-SAT are given.

Separable ones become tables with one variable per level (products by their logarithms, as `brb`
does it). On 0/1 variables a product of two is bounded by either (Glover and Woolsey 1974), and the
chance that a target is missed is a chain: after every variable it is at least what it was, less its
chance where the variable is chosen. Least cost for a coverage has that chain in a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse import coo_array, csr_array, hstack, vstack

from moe2opt.bench.peers import UnsupportedError
from moe2opt.bench.peers.linear import Matrices, solution_of, strong_model
from moe2opt.canonical import MonotoneProblem, Problem, choice_view
from moe2opt.canonical.composite import Structure
from moe2opt.canonical.placed import Blocks, Coverage, Placed, Quadratic
from moe2opt.result import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """A linear model, and how its solutions and bounds read.

    Attributes
    ----------
    matrices
        The model.
    read
        Solution of the problem that column values stand for.
    above
        Bound on the objective that one of the model stands for.
    exact
        Whether gaps of the model are gaps of the problem.
    """

    matrices: Matrices
    read: Callable[[FloatArray], IntArray]
    above: Callable[[float], float]
    exact: bool = True


def linear_form(problem: Problem) -> Form:
    """Return the strong model of a problem, or a monotone problem's reformulation.

    Raises
    ------
    UnsupportedError
        For oracles, and for parts without a linear model here.
    """
    if not isinstance(problem, MonotoneProblem):
        return Form(strong_model(problem), lambda c: solution_of(problem, c), lambda bound: bound)
    if (view := choice_view(problem)) is not None:
        inner = view.problem
        return Form(
            strong_model(inner),
            lambda columns: view.point(solution_of(inner, columns)),
            view.scale.above,
            exact=False,
        )
    made = problem.structure
    if made is None:
        raise UnsupportedError("no linear model of a monotone problem given by oracles")
    if problem.lower.any() or (problem.upper > 1).any():
        raise UnsupportedError("a linear model of these parts needs 0/1 variables")
    n = problem.size
    if made.minimises:
        matrices, constant = _cover(made, n)
    elif isinstance(made.objective, Quadratic):
        matrices, constant = _pairs(made.objective, _rows(made, n)), 0.0
    elif isinstance(made.objective, Coverage):
        matrices, constant = _chains(made.objective, _rows(made, n))
    else:
        raise UnsupportedError(f"no linear model of {type(made.objective).__name__}")
    return Form(
        matrices,
        lambda columns: np.asarray(columns[:n] > 0.5, dtype=np.int64),
        lambda bound: bound + constant,
        exact=constant == 0.0,
    )


def coefficients(part: Placed, n: int) -> FloatArray:
    """Return ``(n + 1,)`` coefficients of a sum of functions of single 0/1 variables, and its base.

    Raises
    ------
    UnsupportedError
        For any other part.
    """
    single = isinstance(part, Blocks) and not part.is_product
    if not isinstance(part, Blocks) or not single or any(len(b.variables) > 1 for b in part.blocks):
        raise UnsupportedError("a row is no sum of functions of single variables")
    row = np.zeros(n + 1)
    for block in part.blocks:
        row[block.variables[0]] += block.table[-1] - block.table[0]
        row[n] += block.table[0]
    return row


def _rows(made: Structure, n: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return rows over the n variables and their sides."""
    sides = [(row, 1) for row in made.at_most] + [(row, -1) for row in made.at_least]
    table = np.array([coefficients(row.part, n) for row, _ in sides]).reshape(-1, n + 1)
    limits = np.array([row.limit for row, _ in sides]) - table[:, n]
    above = np.array([side > 0 for _, side in sides], dtype=bool)
    return table[:, :n], np.where(above, -np.inf, limits), np.where(above, limits, np.inf)


def _pairs(part: Quadratic, rows: tuple[FloatArray, FloatArray, FloatArray]) -> Matrices:
    """Return the model of a quadratic objective: a column per pair, below both of its members."""
    n = len(part.linear)
    first, second = np.nonzero(np.triu(part.pairs, 1))
    pairs = len(first)
    each, ones = np.arange(pairs), np.ones(pairs)
    links = [
        coo_array(
            (np.r_[ones, -ones], (np.r_[each, each], np.r_[n + each, member])),
            shape=(pairs, n + pairs),
        )
        for member in (first, second)
    ]
    side = hstack([csr_array(rows[0]), csr_array((len(rows[0]), pairs))])
    return Matrices(
        objective=np.r_[part.linear + np.diag(part.pairs), part.pairs[first, second]],
        rows=vstack([*links, side], format="csr"),
        row_lower=np.r_[np.full(2 * pairs, -np.inf), rows[1]],
        row_upper=np.r_[np.zeros(2 * pairs), rows[2]],
        binary=n + pairs,
    )


def _cover(made: Structure, n: int) -> tuple[Matrices, float]:
    """Return the model of least cost for a coverage, whose reach is one more row."""
    covers = [row for row in made.at_least if isinstance(row.part, Coverage)]
    if len(covers) != 1:
        raise UnsupportedError("a linear model of a minimum needs one coverage from below")
    others = replace(made, at_least=tuple(row for row in made.at_least if row not in covers))
    part = covers[0].part
    assert isinstance(part, Coverage)
    chained, most = _chains(part, _rows(others, n))
    cost = coefficients(made.objective, n)
    return Matrices(
        objective=np.r_[-cost[:n], np.zeros(len(chained.objective) - n)],
        rows=vstack([chained.rows, csr_array(chained.objective[None, :])], format="csr"),
        row_lower=np.r_[chained.row_lower, covers[0].limit - most],
        row_upper=np.r_[chained.row_upper, np.inf],
        binary=n,
    ), -float(cost[n])


def _chains(
    part: Coverage, rows: tuple[FloatArray, FloatArray, FloatArray]
) -> tuple[Matrices, float]:
    """Return the model of a coverage and the constant that its objective lacks."""
    n = len(part.misses)
    entries: list[tuple[int, int, float]] = []
    sides: list[float] = []
    column, last = n, dict[int, float]()
    for c in range(len(part.weights)):
        previous: int | None = None
        for i, table in enumerate(part.misses):
            chance = 1.0 - float(table[-1][c])
            if chance == 0.0:
                continue
            for share, drop in ((chance, 0.0), (0.0, chance)):
                # column >= (1 - share) previous - drop x_i, where nothing before is certain: 1
                if previous is not None:
                    entries.append((len(sides), previous, 1.0 - share))
                entries += [(len(sides), column, -1.0), (len(sides), i, -drop)]
                sides.append(0.0 if previous is not None else share - 1.0)
            previous, column = column, column + 1
        if previous is not None:
            last[previous] = float(part.weights[c])
    objective = np.zeros(column)
    objective[list(last)] = [-w for w in last.values()]
    place: Any = np.array(entries).reshape(-1, 3)
    chain = coo_array(
        (place[:, 2], (place[:, 0].astype(int), place[:, 1].astype(int))),
        shape=(len(sides), column),
    )
    side = hstack([csr_array(rows[0]), csr_array((len(rows[0]), column - n))])
    return Matrices(
        objective=objective,
        rows=vstack([chain, side], format="csr"),
        row_lower=np.r_[np.full(len(sides), -np.inf), rows[1]],
        row_upper=np.r_[np.array(sides), rows[2]],
        binary=n,
    ), sum(last.values())
