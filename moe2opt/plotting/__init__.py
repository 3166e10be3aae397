"""Plots of results: every function takes matplotlib axes and returns them.

None of them reads a file or shows a window. Colours are those of Okabe and Ito, maps use cividis;
what is not certified is drawn hollow, what does not exist is grey. `new_figure` and `save` are
there for those who do not want pyplot.
"""

from __future__ import annotations

from moe2opt.plotting.curves import (
    Curve,
    convergence,
    front_curve,
    performance_profile,
    tradeoff,
)
from moe2opt.plotting.maps import (
    budget_map,
    placement_map,
    plan_map,
    routing_map,
    routing_shares,
)
from moe2opt.plotting.style import COLOURS, MARKERS, SEQUENTIAL, label_of, new_figure, save
from moe2opt.plotting.timelines import Span, timeline

__all__ = [
    "COLOURS",
    "MARKERS",
    "SEQUENTIAL",
    "Curve",
    "Span",
    "budget_map",
    "convergence",
    "front_curve",
    "label_of",
    "new_figure",
    "performance_profile",
    "placement_map",
    "plan_map",
    "routing_map",
    "routing_shares",
    "save",
    "timeline",
    "tradeoff",
]
