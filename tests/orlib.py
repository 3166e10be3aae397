"""Readers of third-party instances: OR-Library families and MMKP, with their published values.

Formats follow the OR-Library's own descriptions; every reader returns canonical problems.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moe2opt.canonical import FacilityProblem, MonotoneProblem, MultipleChoiceProblem


@dataclass(frozen=True, slots=True)
class Known:
    """A published value and whether it is proven optimal."""

    best_known: float
    is_optimum: bool


def read_values(folder: Path) -> dict[str, Known]:
    """Return the published value of every instance in ``folder/values.csv``."""
    with (folder / "values.csv").open(newline="", encoding="utf-8") as file:
        return {
            row["instance"]: Known(float(row["best_known"]), row["is_optimum"] == "True")
            for row in csv.DictReader(file)
        }


@dataclass(frozen=True, slots=True)
class Knapsack:
    """Maximise ``values·x`` with ``weights x <= capacities``, x binary."""

    values: Any
    weights: Any
    capacities: Any

    def as_choice(self) -> MultipleChoiceProblem:
        """Return one group {skip, take} per item."""
        rows = len(self.capacities)
        return MultipleChoiceProblem(
            values=[[0.0, value] for value in self.values],
            usage=[np.stack([np.zeros(rows), column]) for column in self.weights.T],
            budgets=self.capacities,
        )

    def as_monotone(self) -> MonotoneProblem:
        """Return a linear objective and linear constraints on the unit box."""
        return MonotoneProblem(
            lower=np.zeros(len(self.values), dtype=int),
            upper=np.ones(len(self.values), dtype=int),
            objective=lambda points: points @ self.values,
            constraints=[
                lambda points, row=row, limit=limit: points @ row - limit
                for row, limit in zip(self.weights, self.capacities, strict=True)
            ],
            submodular=True,
            integral=bool(np.all(self.values == np.floor(self.values))),
        )


def read_mknap(path: Path) -> list[Knapsack]:
    """Multi-constraint knapsacks: count; per problem n, m, optimum, profits, rows, capacities."""
    numbers = _numbers(path)
    problems = []
    for _ in range(int(next(numbers))):
        n, m, _optimum = (next(numbers) for _ in range(3))
        values = _take(numbers, int(n))
        weights = _take(numbers, int(m * n)).reshape(int(m), int(n))
        problems.append(Knapsack(values, weights, _take(numbers, int(m))))
    return problems


def read_gap(path: Path) -> list[MultipleChoiceProblem]:
    """Generalised assignment, maximised: a group per job, an option and a budget per agent."""
    numbers = _numbers(path)
    problems = []
    for _ in range(int(next(numbers))):
        agents, jobs = int(next(numbers)), int(next(numbers))
        profits = _take(numbers, agents * jobs).reshape(agents, jobs)
        loads = _take(numbers, agents * jobs).reshape(agents, jobs)
        usage = [np.diag(column) for column in loads.T]
        problems.append(MultipleChoiceProblem(list(profits.T), usage, _take(numbers, agents)))
    return problems


def read_mmkp(path: Path) -> MultipleChoiceProblem:
    """Multiple-choice multi-dimensional knapsack: one item of every class."""
    numbers = _numbers(path)
    classes, items, resources = (int(next(numbers)) for _ in range(3))
    capacities = _take(numbers, resources)
    values, usage = [], []
    for _ in range(classes):
        next(numbers)  # number of the class
        table = _take(numbers, items * (1 + resources)).reshape(items, 1 + resources)
        values.append(table[:, 0])
        usage.append(table[:, 1:])
    return MultipleChoiceProblem(values, usage, capacities)


@dataclass(frozen=True, slots=True)
class PMedian:
    """A p-median instance as a facility problem; `cost` maps its objective back."""

    problem: FacilityProblem
    farthest: float

    def cost(self, objective: float) -> float:
        """Return the sum of distances that an objective value stands for."""
        return self.problem.clusters * self.farthest - objective


def read_pmed(path: Path) -> PMedian:
    """Uncapacitated p-median on a graph: shortest paths, the last of repeated edges counts."""
    numbers = _numbers(path)
    n, edges, p = (int(next(numbers)) for _ in range(3))
    distance = np.full((n, n), np.inf)
    np.fill_diagonal(distance, 0.0)
    for _ in range(edges):
        i, j, length = int(next(numbers)) - 1, int(next(numbers)) - 1, next(numbers)
        distance[i, j] = distance[j, i] = length
    for k in range(n):
        np.minimum(distance, distance[:, k, None] + distance[None, k, :], out=distance)
    farthest = float(distance.max())
    problem = FacilityProblem(values=farthest - distance, costs=np.ones((1, n)), budgets=[p])
    return PMedian(problem, farthest)


@dataclass(frozen=True, slots=True)
class Warehouses:
    """Uncapacitated warehouse location: ``fixed`` (m,) and ``costs`` (customers, m)."""

    fixed: Any
    costs: Any

    @property
    def constant(self) -> float:
        """Cost of serving every customer from its dearest warehouse."""
        return float(self.costs.max(axis=1).sum())

    def as_monotone(self) -> MonotoneProblem:
        """Return savings minus fixed cost, mixed-monotone; at least one warehouse must open.

        F(x, y) = Σ_c max_i x_i (dearest_c - cost_ci) - fixed·y, and the total cost of a choice
        is `constant` minus F(x, x).
        """
        savings = self.costs.max(axis=1, keepdims=True) - self.costs
        return MonotoneProblem(
            lower=np.zeros(len(self.fixed), dtype=int),
            upper=np.ones(len(self.fixed), dtype=int),
            mixed_objective=lambda upper, lower: _best_open(savings, upper) - lower @ self.fixed,
            reverse_constraints=[lambda points: points.sum(axis=1) - 1.0],
        )


def read_cap(path: Path) -> Warehouses:
    """Warehouse location; capacities and demands are read over, costs serve the whole demand."""
    numbers = _numbers(path)
    warehouses, customers = int(next(numbers)), int(next(numbers))
    fixed = _take(numbers, 2 * warehouses).reshape(warehouses, 2)[:, 1]
    table = _take(numbers, customers * (1 + warehouses)).reshape(customers, 1 + warehouses)
    return Warehouses(fixed, table[:, 1:])


def _best_open(savings: Any, points: Any) -> Any:
    best = np.zeros((len(points), len(savings)))
    for i in range(points.shape[1]):
        np.maximum(best, points[:, i, None] * savings[None, :, i], out=best)
    return best.sum(axis=1)


def _numbers(path: Path) -> Iterator[float]:
    return iter([float(word) for word in path.read_text(encoding="utf-8").split()])


def _take(numbers: Iterator[float], count: int) -> Any:
    return np.array([next(numbers) for _ in range(count)])
