"""Discrete monotone problems of the literature and random ones, made of parts or oracles.

Series systems (maximise the product of the reliabilities of stages within resources): Tillman,
Hwang and Kuo (1977), Luus (1975), and the 33 problems with mixed components that Nakagawa and
Miyazaki (1981) made of the one of Fyffe, Hines and Lee (1968). Their data were entered without a
file at hand and are confirmed by the published optima alone, to six digits: of the first two, and
of the 33 by those at the ends. Random ones: longer series, expected coverage and covers by it,
quadratic knapsacks after Billionnet and Soutif; powers of links and places of sensors have files of
their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from moe2opt.bench.cases import Built
from moe2opt.bench.radio import power_control, weighted_sum_rate
from moe2opt.bench.redundancy import NETWORKS, network
from moe2opt.bench.sensors import sensor_placement
from moe2opt.canonical import MonotoneProblem, parts
from moe2opt.result import FloatArray, IntArray

#: (reliability, cost, weight) of the components of each subsystem of Fyffe, Hines and Lee.
FYFFE = (
    ((0.90, 1, 3), (0.93, 1, 4), (0.91, 2, 2), (0.95, 2, 5)),
    ((0.95, 2, 8), (0.94, 1, 10), (0.93, 1, 9)),
    ((0.85, 2, 7), (0.90, 3, 5), (0.87, 1, 6), (0.92, 4, 4)),
    ((0.83, 3, 5), (0.87, 4, 6), (0.85, 5, 4)),
    ((0.94, 2, 4), (0.93, 2, 3), (0.95, 3, 5)),
    ((0.99, 3, 5), (0.98, 3, 4), (0.97, 2, 5), (0.96, 2, 4)),
    ((0.91, 4, 7), (0.92, 4, 8), (0.94, 5, 9)),
    ((0.81, 3, 4), (0.90, 5, 7), (0.91, 6, 6)),
    ((0.97, 2, 8), (0.99, 3, 9), (0.96, 4, 7), (0.91, 3, 8)),
    ((0.83, 4, 6), (0.85, 4, 5), (0.90, 5, 6)),
    ((0.94, 3, 5), (0.95, 4, 6), (0.96, 5, 6)),
    ((0.79, 2, 4), (0.82, 3, 5), (0.85, 4, 6), (0.90, 5, 7)),
    ((0.98, 2, 5), (0.99, 3, 5), (0.97, 2, 6)),
    ((0.90, 4, 6), (0.92, 4, 7), (0.95, 5, 6), (0.99, 6, 9)),
)

#: The cost that all of the 33 problems share.
FYFFE_COST = 130

#: Units of a stage at most; components of a subsystem at most.
_MOST = 8

#: Published optima, and how far six digits may be off.
TILLMAN_OPTIMUM, LUUS_OPTIMUM = 0.904467, 0.945613
FYFFE_OPTIMA = {191: 0.986811, 159: 0.954565}
HALF_A_DIGIT = 5e-7


def _parallel(reliability: Any, most: int = _MOST) -> list[FloatArray]:
    """Return 1 - (1 - r)**x for 1..most units of each stage."""
    units = np.arange(1, most + 1)
    return [1 - (1 - r) ** units for r in reliability]


def tillman() -> MonotoneProblem:
    """Return the series system of five stages with three nonlinear resources."""
    volume, cost, weight = (1, 2, 3, 4, 2), (7, 7, 5, 9, 4), (7, 8, 8, 6, 9)
    units = np.arange(1, _MOST + 1)
    return MonotoneProblem.from_parts(
        [1] * 5,
        [_MOST] * 5,
        parts.product(_parallel((0.80, 0.85, 0.90, 0.65, 0.75))),
        at_most=[
            (parts.total([p * units**2 for p in volume]), 110),
            (parts.total([c * (units + np.exp(units / 4)) for c in cost]), 175),
            (parts.total([w * units * np.exp(units / 4) for w in weight]), 200),
        ],
    )


def luus() -> MonotoneProblem:
    """Return the series system of fifteen stages with two linear resources."""
    percent = (90, 75, 65, 80, 85, 93, 78, 66, 78, 91, 79, 77, 67, 79, 67)
    cost = (5, 4, 9, 7, 7, 5, 6, 9, 4, 5, 6, 7, 9, 8, 6)
    weight = (8, 9, 6, 7, 8, 8, 9, 6, 7, 8, 9, 7, 6, 5, 7)
    return MonotoneProblem.from_parts(
        [1] * 15,
        [_MOST] * 15,
        parts.product(_parallel([p / 100 for p in percent])),
        at_most=[(parts.linear(cost), 400), (parts.linear(weight), 414)],
    )


def fyffe(weight: int) -> MonotoneProblem:
    """Return the problem of 14 subsystems whose components may be mixed, 48 variables."""
    ends = np.cumsum([0, *map(len, FYFFE)])
    blocks = [list(range(a, b)) for a, b in itertools.pairwise(ends.tolist())]
    columns = np.array([component for subsystem in FYFFE for component in subsystem])
    works = [_mixed(1 - columns[block, 0]) for block in blocks]
    limits = [(parts.linear(columns[:, 1]), FYFFE_COST), (parts.linear(columns[:, 2]), weight)]
    limits += [(parts.linear(dict.fromkeys(block, 1)), _MOST) for block in blocks]
    return MonotoneProblem.from_parts(
        [0] * len(columns),
        [_MOST] * len(columns),
        parts.product(works, blocks),
        at_most=limits,
    )


def _mixed(failure: FloatArray) -> Callable[[Any], FloatArray]:
    return lambda counts: 1 - np.prod(failure**counts, axis=1)


def series(stages: int, seed: int) -> MonotoneProblem:
    """Return a random series system: reliability 0.6-0.95, cost and weight 1-9, twice their sum."""
    rng = np.random.default_rng([seed, stages, 3])
    reliability = rng.uniform(0.6, 0.95, stages)
    resources = rng.integers(1, 10, (2, stages))
    return MonotoneProblem.from_parts(
        [1] * stages,
        [6] * stages,
        parts.product(_parallel(reliability, 6)),
        at_most=[(parts.linear(row), 2 * int(row.sum())) for row in resources],
    )


def coverage(sensors: int, seed: int) -> MonotoneProblem:
    """Return a random expected coverage: a third of what all sensors cost."""
    seen, cost, _ = _sensors(sensors, seed)
    return MonotoneProblem.from_parts(
        [0] * sensors,
        [1] * sensors,
        seen,
        at_most=[(parts.linear(cost), int(cost.sum()) // 3)],
    )


def cover(sensors: int, seed: int) -> MonotoneProblem:
    """Return a random submodular cover: least cost for 60 % of what all sensors cover."""
    seen, cost, most = _sensors(sensors, seed)
    return MonotoneProblem.from_parts(
        [0] * sensors,
        [1] * sensors,
        minimise=parts.linear(cost),
        at_least=[(seen, 0.6 * most)],
    )


def _sensors(sensors: int, seed: int) -> tuple[parts.Part, IntArray, float]:
    """Return coverage of 30 targets of 1-20 by chances of 0.1-0.6, costs of 1-9, and its most."""
    rng = np.random.default_rng([seed, sensors, 4])
    chances = rng.uniform(0.1, 0.6, (30, sensors)) * (rng.random((30, sensors)) < 0.4)
    cost, worth = rng.integers(1, 10, sensors), rng.integers(1, 21, 30)
    most = float(worth @ (1 - np.prod(1 - chances, axis=1)))
    return parts.coverage(chances, worth), cost, most


def quadratic_knapsack(items: int, seed: int) -> MonotoneProblem:
    """Return a random quadratic knapsack: a quarter of the pairs 1-100, weights 1-50."""
    rng = np.random.default_rng([seed, items, 5])
    pairs = np.triu(rng.integers(1, 101, (items, items)) * (rng.random((items, items)) < 0.25))
    weight = rng.integers(1, 51, items)
    capacity = int(rng.integers(50, max(51, int(weight.sum()) // 2)))
    return MonotoneProblem.from_parts(
        [0] * items,
        [1] * items,
        parts.quadratic(pairs),
        at_most=[(parts.linear(weight), capacity)],
    )


_MAKERS: dict[str, Callable[..., MonotoneProblem]] = {
    "tillman": tillman,
    "luus": luus,
    "fyffe": fyffe,
    "series": series,
    "coverage": coverage,
    "quadratic-knapsack": quadratic_knapsack,
    "cover": cover,
    "network": network,
    "wsr": weighted_sum_rate,
    "power-control": power_control,
    "sensor-placement": sensor_placement,
}


def build_monotone(arguments: dict[str, Any], data: Path | None) -> Built:
    """Follow the recipe ``monotone``: ``family``, and what its function takes."""
    given = dict(arguments)
    family = given.pop("family")
    known = {
        "tillman": TILLMAN_OPTIMUM,
        "luus": LUUS_OPTIMUM,
        "fyffe": FYFFE_OPTIMA.get(given.get("weight", 0)),
        "network": NETWORKS[given["name"]].optimum if family == "network" else None,
    }.get(family)
    problem = _MAKERS[family](**given)
    if known is None:
        return Built(problem)
    return Built(problem, known - HALF_A_DIGIT, note=f"published: {known}, six digits")
