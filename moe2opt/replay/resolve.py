"""Planning again: the compiled problem with new coefficients, from the last prices and plan."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from moe2opt.replay.compiled import Conditions, Places, ReplayModel
from moe2opt.replay.paths import Table
from moe2opt.result import FloatArray, IntArray, Status
from moe2opt.solvers.choice.vertex import new_vertex
from moe2opt.solvers.parametric import Answer, ParametricChoice


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """A plan for the next steps.

    Attributes
    ----------
    answer
        What the solver gave, from which a certificate can be had.
    places
        What serves each unit; None when no plan exists or none was found.
    seconds
        Wall-clock seconds of the update and the solve.
    """

    answer: Answer
    places: Places | None
    seconds: float

    @property
    def tier(self) -> IntArray | None:
        """``(U,)`` tier of each unit."""
        return None if self.places is None else self.places.tier

    @property
    def precision(self) -> IntArray | None:
        """``(U,)`` precision of each unit."""
        return None if self.places is None else self.places.precision

    @property
    def status(self) -> Status:
        """What was established."""
        return self.answer.status


class Planner:
    """The one compiled problem of a replay.

    Parameters
    ----------
    model
        The compiled instance.
    rel_gap
        Relative gap to aim at.
    engine_s
        Seconds that branch and bound may take where a descent and a rounding find no plan at all,
        or with few options leave a gap.
    """

    def __init__(self, model: ReplayModel, rel_gap: float = 1e-3, engine_s: float = 5.0) -> None:
        self.model, self.engine_s = model, engine_s
        self.choice = ParametricChoice(model.problem, rel_gap=rel_gap)
        self._limits = np.array(model.problem.budgets)

    def plan(
        self,
        conditions: Conditions,
        extra_s: FloatArray | None = None,
        table: Table | None = None,
        present: Places | None = None,
    ) -> Planned:
        """Return the best plan for some conditions.

        Parameters
        ----------
        conditions
            What is expected.
        extra_s
            ``(G, O)`` seconds per token added to each option, such as for switching.
        table
            Costs of a use; those of the conditions when left out.
        present
            What to keep where it is good enough; the last plan when left out.
        """
        began = time.perf_counter()
        limits = self.model.limits(conditions)
        changed = None if (limits == self._limits).all() else limits
        self._limits = limits
        table = self.model.table(conditions) if table is None else table
        values = self.model.values(conditions, table, extra_s, present)
        self.choice.update(values=values, usage=self._usage(present), budgets=changed)
        if present is not None:
            self.choice.start_from(self.model.options_of(*present))
        answer = self.choice.solve(time_limit_s=self.engine_s, hurried=self.model.many)
        seconds = time.perf_counter() - began
        if answer.x is None:
            return Planned(answer, None, seconds)
        return Planned(answer, self.model.places(answer.x, conditions, table, present), seconds)

    def _usage(self, present: Places | None) -> FloatArray | None:
        """Return the use of budgets where it is another one than at the last plan."""
        usage = self.model.usage(present)
        same = usage is None or np.array_equal(usage, self.choice.problem.costs)
        return None if same else usage

    def state(self) -> dict[str, Any]:
        """Return what the next solve starts from, as arrays."""
        picked = self.choice.picked
        found: dict[str, Any] = {"picked": np.zeros(0, np.int64) if picked is None else picked}
        if self.choice.vertex is not None:
            at = self.choice.vertex
            found |= {name: getattr(at, name) for name in ("price", "key", "first", "partner")}
        if self.model.usage(None) is not None:
            found["usage"] = self.choice.problem.costs
        return found | {"values": self.choice.problem.flat_values, "limits": self._limits}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state` returned."""
        self._limits = np.array(state["limits"])
        usage = state.get("usage")
        self.choice.update(values=state["values"], usage=usage, budgets=self._limits)
        picked = np.array(state["picked"], dtype=np.int64)
        self.choice.picked = picked if len(picked) else None
        if "price" in state:
            self.choice.vertex = new_vertex(self.choice.part.core)
            for name in ("price", "key", "first", "partner"):
                getattr(self.choice.vertex, name)[:] = state[name]
