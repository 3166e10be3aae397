"""Redundancy in networks: reliability of a system whose parallel components may be mixed.

Data of Feng, Chen, Che and Chu, *Exact MILP models for redundancy allocation with mixed
components*, INFORMS Journal on Computing, doi 10.1287/ijoc.2024.0842 (repository
INFORMSJoC/2024.0842, copyright 2025 of its authors, MIT licence), with the optima of its branch and
bound. A subsystem works if one of its components does, and has at least one; the system works if
its network connects. That is no sum of functions of the subsystems, so these problems are oracles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from moe2opt.canonical import MonotoneProblem
from moe2opt.result import FloatArray


def bridge(r: FloatArray) -> FloatArray:
    """Return the reliability of the bridge of five subsystems."""
    q = 1 - r
    works = (1 - q[0] * q[2]) * (1 - q[1] * q[3])
    return np.asarray(r[4] * works + q[4] * (1 - (1 - r[0] * r[1]) * (1 - r[2] * r[3])))


def six(r: FloatArray) -> FloatArray:
    """Return the reliability of the third system of the source."""
    q = 1 - r
    works = (1 - q[0] * q[2] * q[3]) * (1 - q[1] * q[4])
    fails = 1 - (1 - r[0] * r[1]) * (1 - (1 - q[2] * q[3]) * r[4])
    return np.asarray(r[5] * works + q[5] * fails)


def seven(r: FloatArray) -> FloatArray:
    """Return the reliability of the fourth system of the source."""
    q = 1 - r
    lost = q[2] + r[2] * q[3] * q[4]
    fails = 1 - (1 - r[0] * r[1]) * (1 - (1 - lost) * r[5])
    return np.asarray(q[6] * fails + r[6] * (1 - q[0] * lost) * (1 - q[1] * q[5]))


def ten(r: FloatArray) -> FloatArray:
    """Return the reliability of the ninth system of the source."""
    q = 1 - r
    upper = 1 - (1 - q[2] * (1 - r[0] * r[1])) * r[3]
    return np.asarray((1 - upper * (1 - r[4] * r[5])) * (1 - q[6] * q[7] * q[8]) * r[9])


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """One problem of the source.

    Attributes
    ----------
    reliability
        Of the system, from ``(subsystems, B)`` reliabilities.
    limits
        Amount of either resource.
    components
        Reliability and use of both resources, of the components of each subsystem in turn.
    optimum, nodes
        Published optimum, six digits, and nodes of the published branch and bound.
    kinds
        Components of each subsystem.
    """

    reliability: Callable[[FloatArray], FloatArray]
    limits: tuple[float, float]
    components: tuple[tuple[float, float, float], ...]
    optimum: float
    nodes: int
    kinds: int = 2


#: By name, as the suite calls them.
NETWORKS = {
    "bridge-1": Network(
        bridge,
        (27, 29),
        (
            (0.75, 3.86, 3.77),
            (0.71, 3.28, 3.73),
            (0.76, 4.62, 3.87),
            (0.72, 3.81, 3.33),
            (0.66, 2.96, 3.05),
            (0.74, 3.98, 4.2),
            (0.64, 2.9, 2.9),
            (0.73, 3.47, 3.96),
            (0.66, 3.08, 2.76),
            (0.65, 2.23, 2.85),
        ),
        0.969804,
        368,
    ),
    "bridge-2": Network(
        bridge,
        (31, 29),
        (
            (0.66, 3.16, 2.47),
            (0.77, 3.95, 4.86),
            (0.7, 3.4, 3.13),
            (0.77, 3.97, 4.32),
            (0.75, 4.01, 4.5),
            (0.72, 3.23, 3.47),
            (0.73, 3.66, 4.11),
            (0.63, 2.6, 2.09),
            (0.68, 3.48, 3.4),
            (0.72, 3.72, 3.76),
        ),
        0.985676,
        475,
    ),
    "bridge-3": Network(
        bridge,
        (19, 18),
        (
            (0.76, 4.47, 4.17),
            (0.63, 2.61, 1.98),
            (0.64, 2.19, 2.4),
            (0.61, 2.13, 2.31),
            (0.64, 2.07, 2.96),
            (0.69, 3.48, 3.73),
            (0.62, 2.43, 2.31),
            (0.74, 3.72, 4.21),
            (0.71, 3.88, 3.05),
            (0.6, 2.21, 1.68),
        ),
        0.918141,
        112,
    ),
    "six-1": Network(
        six,
        (21, 23),
        (
            (0.6, 2, 2.02),
            (0.58, 1.64, 2.03),
            (0.74, 4.18, 4.37),
            (0.59, 2.18, 1.78),
            (0.69, 3.64, 2.81),
            (0.62, 1.76, 1.96),
            (0.6, 1.94, 1.89),
            (0.77, 4.73, 3.99),
            (0.73, 3.75, 3.43),
            (0.62, 2.01, 2.36),
            (0.73, 4.35, 3.89),
            (0.63, 2.85, 2.55),
        ),
        0.962346,
        322,
    ),
    "six-2": Network(
        six,
        (22, 23),
        (
            (0.71, 3.25, 3.68),
            (0.64, 2.04, 2.56),
            (0.68, 2.98, 3.32),
            (0.63, 2.44, 2.04),
            (0.58, 1.42, 1.44),
            (0.6, 2, 1.38),
            (0.69, 3.31, 3.61),
            (0.67, 2.63, 2.76),
            (0.76, 4.25, 4.21),
            (0.7, 3.36, 3.49),
            (0.68, 2.73, 3.45),
            (0.59, 1.54, 1.93),
        ),
        0.963122,
        617,
    ),
    "six-1-of-three": Network(
        six,
        (21, 23),
        (
            (0.66, 2.89, 2.85),
            (0.78, 4.53, 4.3),
            (0.75, 4.15, 3.89),
            (0.63, 2.38, 1.96),
            (0.61, 1.91, 2.2),
            (0.78, 4.44, 3.99),
            (0.71, 3.43, 3.03),
            (0.59, 1.39, 1.7),
            (0.6, 1.57, 1.72),
            (0.78, 4.53, 4.35),
            (0.62, 2.34, 1.52),
            (0.61, 1.56, 1.64),
            (0.67, 2.38, 3.03),
            (0.74, 3.91, 3.87),
            (0.72, 3.03, 3.71),
            (0.61, 2.12, 1.42),
            (0.61, 2.3, 1.53),
            (0.63, 1.75, 1.68),
        ),
        0.976054,
        9713,
        kinds=3,
    ),
    "six-1-of-four": Network(
        six,
        (19, 20),
        (
            (0.72, 3.32, 3.57),
            (0.78, 4.5, 4.64),
            (0.76, 3.5, 4.34),
            (0.68, 2.98, 2.74),
            (0.72, 3.42, 3.3),
            (0.75, 3.5, 3.26),
            (0.62, 2.16, 1.87),
            (0.6, 1.36, 1.56),
            (0.66, 1.9, 2.41),
            (0.73, 2.99, 3.79),
            (0.71, 3.07, 3.46),
            (0.78, 4.26, 4.52),
            (0.66, 1.87, 2.55),
            (0.79, 4.08, 4.11),
            (0.73, 3.11, 3.41),
            (0.67, 2.96, 3.01),
            (0.66, 2.54, 2.75),
            (0.68, 3.05, 2.48),
            (0.61, 1.95, 1.93),
            (0.7, 3.35, 2.77),
            (0.8, 4.83, 4.45),
            (0.62, 1.61, 1.45),
            (0.66, 2.39, 2.32),
            (0.79, 4.39, 3.98),
        ),
        0.962325,
        7044,
        kinds=4,
    ),
    "seven-1": Network(
        seven,
        (32, 31),
        (
            (0.65, 2.85, 2.88),
            (0.65, 2.43, 2.86),
            (0.72, 4.16, 3.58),
            (0.66, 2.37, 2.72),
            (0.72, 3.38, 3.41),
            (0.7, 3.41, 2.98),
            (0.76, 4.48, 4.27),
            (0.6, 2.21, 1.48),
            (0.61, 2.38, 1.8),
            (0.6, 2.34, 2.17),
            (0.67, 2.79, 3.24),
            (0.64, 2.35, 2.43),
            (0.63, 2.68, 1.87),
            (0.69, 3.15, 2.75),
        ),
        0.976002,
        4688,
    ),
    "ten-1": Network(
        ten,
        (26, 30),
        (
            (0.58, 2.94, 1.42),
            (0.59, 2.29, 1.11),
            (0.67, 3.97, 1.09),
            (0.66, 1.07, 2.68),
            (0.63, 1.8, 2.66),
            (0.73, 3.52, 3.29),
            (0.73, 1.97, 1.88),
            (0.69, 3.58, 1.86),
            (0.76, 1.71, 2.28),
            (0.65, 3.44, 2.26),
            (0.75, 1.54, 1.2),
            (0.6, 1.25, 2.24),
            (0.58, 1.09, 2.77),
            (0.58, 3.57, 3.24),
            (0.65, 3.78, 3.95),
            (0.76, 2.1, 2.85),
            (0.6, 1.42, 1.19),
            (0.61, 1.39, 1.39),
            (0.77, 2.31, 3.88),
            (0.76, 2.56, 3.16),
        ),
        0.880582,
        4850,
    ),
}


def network(name: str) -> MonotoneProblem:
    """Return the problem called `name` as oracles: mixed components within two resources."""
    given = NETWORKS[name]
    table = np.array(given.components)
    kinds = given.kinds
    subsystems = len(table) // kinds
    use, limits = table[:, 1:].T, np.array(given.limits)
    # What the cheapest component of every other subsystem leaves bounds each component.
    least = use.reshape(2, subsystems, kinds).min(axis=2)
    left = limits[:, None] - np.round(least.sum(axis=1)[:, None] - least, 2)
    most = np.floor(np.repeat(left, kinds, axis=1) / use).min(axis=0).astype(np.int64)
    rows = [partial(_used, row=row, limit=float(b)) for row, b in zip(use, limits, strict=True)]
    return MonotoneProblem(
        np.zeros(len(table), dtype=np.int64),
        most,
        partial(_works, failure=1 - table[:, 0], kinds=kinds, system=given.reliability),
        constraints=rows,
        reverse_constraints=[
            partial(_present, first=j * kinds, kinds=kinds) for j in range(subsystems)
        ],
    )


def _works(
    points: Any, failure: FloatArray, kinds: int, system: Callable[..., FloatArray]
) -> FloatArray:
    fails = (failure**points).reshape(len(points), -1, kinds).prod(axis=2)
    return system(1 - fails.T)


def _used(points: Any, row: FloatArray, limit: float) -> FloatArray:
    return np.asarray(points @ row - limit * (1 + 1e-9))


def _present(points: Any, first: int, kinds: int) -> FloatArray:
    return np.asarray(points[:, first : first + kinds].sum(axis=1) - 1.0)
