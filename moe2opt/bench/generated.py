"""Random facility problems: with the structure of skills, and without any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from moe2opt.bench.cases import Built
from moe2opt.canonical import FacilityProblem
from moe2opt.result import FloatArray

#: Latent skills of an expert.
SKILLS = 6

#: Weight of the skills and of the size in the logit of a correct answer.
SKILL_WEIGHT, SIZE_WEIGHT = 1.0, 1.0

#: Standard deviation of the noise in the logit. Measured gaps of the linear relaxation to the
#: optimum: about zero without noise, 0.6-2 % with 0.25, 1.3-4 % with 1.0.
NOISE = 0.25

#: Values are integers of about this magnitude.
SCALE = 10_000


def structured(
    experts: int, clusters: int, fraction: float, seed: int, noise: float = NOISE
) -> FacilityProblem:
    """Return a problem whose quality comes from latent skills, size and noise.

    Expert i has six normal skills and a size, cluster c needs the skills in normal proportions;
    quality is the logistic of skills, size and normal noise. Clusters have log-normal weights,
    which are multiplied in and rounded, so values are integers. One knapsack grows with the size,
    one is random; both are limited to `fraction` of their total.

    Parameters
    ----------
    experts, clusters
        N and C.
    fraction
        Share of the total cost that may be used.
    seed
        Seed.
    noise
        Standard deviation of the noise.
    """
    rng = np.random.default_rng([seed, experts, clusters, 1])
    skills = rng.normal(size=(experts, SKILLS))
    needs = rng.normal(size=(clusters, SKILLS)) / np.sqrt(SKILLS)
    size = rng.uniform(size=experts)
    logit = SKILL_WEIGHT * needs @ skills.T + SIZE_WEIGHT * 2.0 * (size - 0.5)
    logit += noise * rng.normal(size=(clusters, experts))
    weights = rng.lognormal(0.0, 0.5, size=clusters)
    values = np.round(SCALE * (weights / weights.mean())[:, None] / (1.0 + np.exp(-logit)))
    by_size = np.round(20.0 + 80.0 * size + rng.uniform(0.0, 10.0, size=experts))
    return FacilityProblem(values, *_knapsacks(by_size, rng, fraction))


def uniform(experts: int, clusters: int, fraction: float, seed: int) -> FacilityProblem:
    """Return a problem without structure: independent uniform integer values and costs."""
    rng = np.random.default_rng([seed, experts, clusters, 2])
    values = rng.integers(0, 1001, size=(clusters, experts)).astype(np.float64)
    first = rng.integers(1, 101, size=experts).astype(np.float64)
    return FacilityProblem(values, *_knapsacks(first, rng, fraction))


def build_structured(arguments: dict[str, Any], data: Path | None) -> Built:
    """Follow the recipe ``structured``."""
    return Built(structured(**arguments))


def build_uniform(arguments: dict[str, Any], data: Path | None) -> Built:
    """Follow the recipe ``uniform``."""
    return Built(uniform(**arguments))


def _knapsacks(
    first: FloatArray, rng: np.random.Generator, fraction: float
) -> tuple[FloatArray, FloatArray]:
    costs = np.stack([first, rng.integers(1, 101, size=len(first)).astype(np.float64)])
    return costs, np.floor(fraction * costs.sum(axis=1))
