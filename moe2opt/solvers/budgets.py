"""Budgets as the heuristics see them: limits a hair tighter, costs as shares of what there is."""

from __future__ import annotations

import numpy as np

from moe2opt.result import FloatArray

#: Relative tightening of limits over real data, far below the problem's slack of 1e-9.
_HAIR = 1e-11


def tightened(limits: FloatArray, budgets: FloatArray) -> FloatArray:
    """Return limits less a hair where they carry a slack (they exceed their budgets)."""
    hair = _HAIR * np.maximum(1.0, np.abs(limits))
    return np.where(limits > budgets, limits - hair, limits)


def shares(costs: FloatArray, limits: FloatArray) -> FloatArray:
    """Return ``(n,)`` the sum over budgets of cost by limit, huge where a limit is not positive."""
    return np.asarray((costs / positive(costs, limits)[:, None]).sum(axis=0))


def positive(costs: FloatArray, limits: FloatArray) -> FloatArray:
    """Return limits to divide by: tiny ones instead of those that are not positive."""
    largest = costs.max(axis=1, initial=0.0)
    return np.maximum(limits, np.where(largest > 1e-290, 1e-9 * largest, 1.0))
