"""Distances between the experts of a layer: from a file, or drawn and said to be so."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from moe2opt.archive import read_npz
from moe2opt.placement.model.shape import ModelShape
from moe2opt.result import FloatArray, InputError

#: Directions of the experts that are drawn, and the centres that they gather around.
_FEATURES, _CENTRES = 16, 12


def drawn_distances(layers: int, experts: int, seed: int) -> FloatArray:
    """Return synthetic ``(L, E, E)`` distances of experts in clusters."""
    rng = np.random.default_rng(seed)
    table = np.zeros((layers, experts, experts))
    for layer in range(layers):
        centres = rng.normal(size=(_CENTRES, _FEATURES))
        own = centres[rng.integers(_CENTRES, size=experts)]
        features = own + 0.8 * rng.normal(size=(experts, _FEATURES))
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        table[layer] = np.clip(1.0 - features @ features.T, 0.0, 2.0)
        np.fill_diagonal(table[layer], 0.0)
    return table


def read_distances(path: Path, shape: ModelShape) -> FloatArray:
    """Read the array `distances` of an NPZ file.

    Raises
    ------
    InputError
        For an unreadable file, a wrong shape, negative or asymmetric entries, or a diagonal ≠ 0.
    """
    arrays = read_npz(path)
    layers, experts = shape.size
    if "distances" not in arrays:
        raise InputError(f"aggregation.distances: {path.name} has no array 'distances'")
    if arrays["distances"].dtype.kind not in "iuf":
        raise InputError(f"aggregation.distances: {path.name}: distances must hold real numbers")
    table = np.asarray(arrays["distances"], dtype=np.float64)
    if table.shape != (layers, experts, experts):
        raise InputError(
            f"aggregation.distances: {path.name}: shape {table.shape}, "
            f"({layers}, {experts}, {experts}) is expected"
        )
    symmetric = np.allclose(table, table.transpose(0, 2, 1))
    if not np.isfinite(table).all() or (table < 0).any() or not symmetric:
        raise InputError(
            f"aggregation.distances: {path.name}: entries must be finite, ≥ 0 and symmetric"
        )
    if np.abs(np.diagonal(table, axis1=1, axis2=2)).max() > 0:
        raise InputError(f"aggregation.distances: {path.name}: the diagonal must be 0")
    return table
