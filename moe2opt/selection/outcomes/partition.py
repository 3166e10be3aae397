"""Split prompts into training, selection and test parts, and cut them into clusters."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from moe2opt.result import FloatArray, IntArray

#: Iterations of Lloyd's algorithm; far beyond what a few hundred prompts need.
_KMEANS_ITERATIONS = 100

#: The parts of an outcome matrix: the gate learns on the first, stops early and is calibrated on
#: the second; experts are selected on the third; the fourth is for reports alone.
PARTS = ("train", "validation", "select", "test")


@dataclass(frozen=True, slots=True, eq=False)
class Partition:
    """Where each of the P prompts belongs.

    Attributes
    ----------
    split
        ``(P,)`` 0 train, 1 select, 2 test.
    cluster
        ``(P,)`` index of the cluster.
    labels, categories
        Name and category of each cluster.
    """

    split: IntArray
    cluster: IntArray
    labels: tuple[str, ...]
    categories: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Which part each of the P prompts belongs to.

    Attributes
    ----------
    part
        ``(P,)`` index into `PARTS`.
    shares
        Shares asked for, in the order of `PARTS`.
    seed
        Seed of the random assignment within each category.
    """

    part: IntArray
    shares: tuple[float, ...]
    seed: int

    def members(self, *names: str) -> IntArray:
        """Return the prompts of the named parts, in order."""
        return np.flatnonzero(np.isin(self.part, [PARTS.index(name) for name in names]))

    def record(self) -> dict[str, Any]:
        """Return what identifies the split: rule, seed, shares, counts and a digest."""
        return {
            "rule": "random within each category, numpy default_rng(seed)",
            "seed": self.seed,
            "shares": dict(zip(PARTS, self.shares, strict=True)),
            "prompts": {name: len(self.members(name)) for name in PARTS},
            "sha256": hashlib.sha256(self.part.astype(np.uint8).tobytes()).hexdigest(),
        }


def split_four(
    category: npt.NDArray[np.str_], shares: tuple[float, float, float, float], seed: int
) -> Split:
    """Split prompts into `PARTS`, at random within each category.

    The validation part is taken out of the training part of `split_prompts`, so that for one seed
    the selection and test parts are those of tables derived with the same shares.
    """
    train, validation, select, test = shares
    learn = train + validation
    rng = np.random.default_rng(seed)
    three = split_prompts(category, (learn, select, test), rng)
    part = np.where(three > 0, three + 1, 0)
    members = np.flatnonzero(three == 0)
    kept = split_prompts(category[members], (train / learn, validation / learn, 0.0), rng)
    part[members[kept > 0]] = 1
    return Split(part, shares, seed)


def partition_prompts(
    vectors: FloatArray,
    category: npt.NDArray[np.str_],
    splits: tuple[float, float, float],
    clusters: int,
    seed: int,
) -> Partition:
    """Split the prompts within each category, then cut each category into clusters."""
    rng = np.random.default_rng(seed)
    split = split_prompts(category, splits, rng)
    cluster, labels, categories = cluster_prompts(vectors, category, split, clusters, rng)
    return Partition(split, cluster, tuple(labels), tuple(categories))


def split_prompts(
    category: npt.NDArray[np.str_], splits: tuple[float, float, float], rng: np.random.Generator
) -> IntArray:
    """Return the split index (0 train, 1 select, 2 test) of each prompt, at random per category."""
    split = np.zeros(len(category), dtype=np.int64)
    for name in np.unique(category):
        members = rng.permutation(np.flatnonzero(category == name))
        # At least one training prompt: a category that nothing was learnt about has no accuracy.
        first = max(1, round(splits[0] * len(members)))
        second = max(first, round((splits[0] + splits[1]) * len(members)))
        split[members[first:second]] = 1
        split[members[second:]] = 2
    return split


def cluster_prompts(
    vectors: FloatArray,
    category: npt.NDArray[np.str_],
    split: IntArray,
    clusters: int,
    rng: np.random.Generator,
) -> tuple[IntArray, list[str], list[str]]:
    """Return the cluster of each prompt, and the name and category of each cluster."""
    names, sizes = np.unique(category, return_counts=True)
    cluster = np.zeros(len(category), dtype=np.int64)
    labels: list[str] = []
    categories: list[str] = []
    for name, wanted in zip(names, apportion(sizes, clusters), strict=True):
        members = np.flatnonzero(category == name)
        place = _partition(vectors[members], split[members] == 0, int(wanted), rng)
        cluster[members] = place + len(labels)
        labels += [f"{name}/{k:02d}" for k in range(int(place.max()) + 1)]
        categories += [str(name)] * (int(place.max()) + 1)
    return cluster, labels, categories


def apportion(sizes: IntArray, seats: int) -> IntArray:
    """Share `seats` in proportion to `sizes`, at least one and at most its size for each.

    Seats are handed out one by one to the entry with the largest size per seat it would then hold
    (the rule of D'Hondt), which never takes a seat back when `seats` grows.

    Examples
    --------
    >>> apportion(np.array([60, 30, 10]), 6).tolist()
    [4, 1, 1]
    """
    given = np.ones(len(sizes), dtype=np.int64)
    for _ in range(seats - len(sizes)):
        claim = np.where(given < sizes, sizes / (given + 1), -1.0)
        if claim.max() < 0:
            break
        given[int(np.argmax(claim))] += 1
    return given


def _partition(
    vectors: FloatArray, train: npt.NDArray[np.bool_], wanted: int, rng: np.random.Generator
) -> IntArray:
    from scipy.cluster.vq import vq

    learnt = vectors[train]
    points = np.unique(learnt, axis=0)
    centres = _spread_out(points, min(wanted, len(points)), rng)
    place = vq(learnt, centres)[0]
    for _ in range(_KMEANS_ITERATIONS):
        # Centres that lost all their prompts vanish here, so every cluster holds training prompts.
        centres = np.stack([learnt[place == k].mean(axis=0) for k in np.unique(place)])
        moved = vq(learnt, centres)[0]
        if np.array_equal(moved, place):
            break
        place = moved
    used = np.unique(vq(learnt, centres)[0])
    return vq(vectors, centres[used])[0].astype(np.int64)


def _spread_out(points: FloatArray, count: int, rng: np.random.Generator) -> FloatArray:
    """Choose starting centres far apart (k-means++ of Arthur and Vassilvitskii, 2007)."""
    chosen = [int(rng.integers(len(points)))]
    distance = ((points - points[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < count:
        threshold = rng.random() * distance.sum()
        chosen.append(int(np.searchsorted(np.cumsum(distance), threshold, side="right")))
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return points[chosen]
