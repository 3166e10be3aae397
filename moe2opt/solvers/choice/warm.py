"""Compiling the kernels of the multiple-choice engine before the clock runs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.solvers.base import Search
from moe2opt.solvers.choice.kernels import descend
from moe2opt.solvers.choice.model import ChoiceModel
from moe2opt.solvers.choice.search import explore
from moe2opt.solvers.choice.state import POSITIONS, new_state, preorder
from moe2opt.solvers.choice.vertex import new_vertex
from moe2opt.solvers.choice.walk import step
from moe2opt.solvers.jit import compiling


def warm_up(search: Search) -> None:
    """Load or compile the kernels, once per process, while the clock stands."""
    kernels: tuple[Any, ...] = (descend, explore, preorder, step)
    if all(kernel.signatures for kernel in kernels):
        return
    with search.paused(), compiling(*kernels):
        compile_kernels()


def compile_kernels() -> None:
    """Run every kernel once on a problem with two groups."""
    usage = [np.array([[0.0], [2.0]])] * 2
    tiny = MultipleChoiceProblem([np.array([0.0, 3.0])] * 2, usage, np.array([3.0]))
    core = ChoiceModel(tiny).part(np.ones(4, dtype=bool)).core
    vertex = new_vertex(core)
    _, bound = descend(core, vertex, np.ones(4, dtype=np.uint8), -math.inf, 10)
    state = new_state(core, vertex, bound)
    explore(core, vertex, state, -math.inf, -math.inf, 10, 10, 10)
    some, clock = np.zeros(4, np.int64), np.ones(2, np.int64)
    step(
        core,
        core.values,
        np.ones(1),
        some[:2],
        some[2:],
        np.zeros(2),
        some,
        np.ones(1),
        np.ones(1),
        clock,
        1,
    )
    preorder(state.child, state.kind, int(state.counts[POSITIONS]))
