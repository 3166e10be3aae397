"""A plan to export."""

from __future__ import annotations

import numpy as np
import pytest
from small_plans import make_plan

from moe2opt.placement import PlacementPlan


@pytest.fixture
def plan() -> PlacementPlan:
    """Four layers of eight experts: 20 on the GPU, the others in memory of the CPU."""
    where = np.ones((4, 8), dtype=np.int64)
    where.ravel()[:20] = 0
    return make_plan(where)
