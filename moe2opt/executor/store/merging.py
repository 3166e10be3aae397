"""Merge experts: the use-weighted mean of a group, inner units matched to the representative's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from moe2opt.executor.model.experts import PARTS, ExpertSource, Weights
from moe2opt.executor.model.families import ModelSpec
from moe2opt.placement.assignment import MERGE, PRUNE, Assignment
from moe2opt.result import FloatArray, IntArray


class PlannedSource:
    """The weights of the experts that a plan stores: merged where it merges; an `ExpertSource`.

    Parameters
    ----------
    source, spec
        The model.
    assignment
        Forms and representatives.
    shares
        ``(L, E)`` use, the weights in merging.
    """

    def __init__(
        self, source: ExpertSource, spec: ModelSpec, assignment: Assignment, shares: FloatArray
    ) -> None:
        self._source, self._spec = source, spec
        self._assignment, self._shares = assignment, shares
        self._row = {layer: row for row, layer in enumerate(spec.moe_layers)}
        self._last: tuple[int, dict[int, Weights]] = (-1, {})

    def expert_weights(self, layer: int, expert: int) -> Weights:
        """Return what serves an expert; a merged layer is kept until another one is asked for."""
        row, a = self._row[layer], self._assignment
        if not (a.form[row] == MERGE).any():
            return self._source.expert_weights(layer, expert)
        if self._last[0] != layer:
            own: dict[int, Weights] = {
                e: {name: t.float() for name, t in self._source.expert_weights(layer, e).items()}
                for e in range(self._spec.experts)
            }
            groups = merged_groups(own, a.form[row], a.representative[row], self._shares[row])
            self._last = (layer, own | groups)
        return self._last[1][expert]


def merged_groups(
    own: Mapping[int, Weights], form: IntArray, representative: IntArray, shares: FloatArray
) -> dict[int, Weights]:
    """Return what serves each expert of a layer that is merged with others."""
    found: dict[int, Weights] = {}
    for leader in np.unique(representative[form == MERGE]).tolist():
        group = np.flatnonzero((representative == leader) & (form != PRUNE)).tolist()
        found |= dict.fromkeys(group, merge(own, leader, group, shares))
    return found


def merge(
    own: Mapping[int, Weights], leader: int, group: Sequence[int], shares: FloatArray
) -> Weights:
    """Return the use-weighted mean of a group, inner units matched to those of its leader."""
    use = np.maximum(shares[list(group)], 1e-12)
    matched = [
        own[e] if e == leader else permuted(own[e], matching(own[leader], own[e])) for e in group
    ]
    return {
        part: sum(
            (float(w) * m[part] for w, m in zip(use / use.sum(), matched, strict=True)),
            start=0.0 * own[leader][part],
        )
        for part in PARTS
    }


def matching(target: Weights, other: Weights) -> IntArray:
    """Return the inner units of `other` in the order that matches those of `target` best.

    A unit is its row of `gate`, its row of `up` and its column of `down`; the permutation with the
    largest sum of inner products is found exactly, at a cost that grows with the cube of the width.
    """
    alike = sum(_rows(target, part) @ _rows(other, part).T for part in PARTS)
    _, order = linear_sum_assignment(np.asarray(alike), maximize=True)
    return np.asarray(order)


def permuted(weights: Weights, order: IntArray) -> Weights:
    """Return the same expert with its inner units in another order."""
    at = torch.from_numpy(np.ascontiguousarray(order))
    return {
        "gate": weights["gate"][at],
        "up": weights["up"][at],
        "down": weights["down"][:, at],
    }


def _rows(weights: Weights, part: str) -> FloatArray:
    matrix = weights[part].double().cpu().numpy()
    return np.asarray(matrix.T if part == "down" else matrix)
