"""What is known about a fleet after solving it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from moe2opt.content import Content
from moe2opt.fleet.priced import Answer, SiteState
from moe2opt.fleet.sites import Fleet
from moe2opt.present import PLAIN, Measure
from moe2opt.result import IntArray, Status, encode_float, relative_gap

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FleetResult(Content):
    """The plan of a fleet and its proven bound.

    Attributes
    ----------
    status
        OPTIMAL within `rel_gap`, FEASIBLE, INFEASIBLE or NO_SOLUTION.
    objective, bound
        Sum over sites of rate times value, and its proven upper bound at `price`.
    price
        Price of the shared budget: what one more unit of it is worth.
    used, limit
        Use of the shared budget and its limit.
    certified
        Every proof that the bound rests on was accepted by the checker.
    choice
        ``(S,)`` answer of each site whose plan it gets; empty without a plan.
    distinct
        The distinct sites with their answers.
    kind_of
        ``(S,)`` distinct site of each site.
    solved
        Problems solved.
    rounds
        What was known after each price that all sites were asked: price, bound, objective, solved.
    stopped
        Why the search ended early, empty when it did not.
    measure
        Sense and unit of the objective. `objective`, `bound` and values of sites are canonical
        here, which are maximised; files, tables and messages have the question's own.
    """

    name: str
    status: Status
    objective: float
    bound: float
    price: float
    used: float
    limit: float
    rel_gap: float
    certified: bool
    choice: IntArray
    distinct: tuple[SiteState, ...]
    kind_of: IntArray
    solved: int
    rounds: tuple[dict[str, float], ...] = field(default=())
    stopped: str = ""
    measure: Measure = PLAIN

    @property
    def gap(self) -> float:
        """Relative gap."""
        return relative_gap(self.objective, self.bound)

    def answer_of(self, site: int) -> Answer:
        """Return the answer whose plan a site gets."""
        return self.distinct[int(self.kind_of[site])].answers[int(self.choice[site])]

    def to_frame(self, fleet: Fleet) -> pd.DataFrame:
        """Return one row per site: name, rate, value, use, and the distinct site it is.

        Without a plan, values and uses are NaN.
        """
        import pandas as pd

        answers = [self.answer_of(s) for s in range(len(self.choice))]
        nothing = [math.nan] * (len(self.kind_of) - len(answers))
        return pd.DataFrame(
            {
                "site": [site.name for site in fleet.sites],
                "rate": fleet.rates,
                "value": [self.measure.own(a.value) for a in answers] or nothing,
                "used": [a.used for a in answers] or nothing,
                "distinct": self.kind_of,
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content without the proofs."""
        return {
            "name": self.name,
            "status": str(self.status),
            **self.measure.to_dict(),
            "objective": encode_float(self.measure.own(self.objective)),
            "bound": encode_float(self.measure.own(self.bound)),
            "canonical": {
                "objective": encode_float(self.objective),
                "bound": encode_float(self.bound),
            },
            "gap": encode_float(self.gap),
            "price": encode_float(self.price),
            "used": self.used,
            "limit": self.limit,
            "rel_gap": self.rel_gap,
            "certified": self.certified,
            "sites": len(self.kind_of),
            "distinct": len(self.distinct),
            "solved": self.solved,
            "rounds": list(self.rounds),
            **({"stopped": self.stopped} if self.stopped else {}),
        }
