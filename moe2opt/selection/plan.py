"""The plan: what is deployed where, who answers what, and what it uses and is expected to give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from moe2opt.content import Content
from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.schema import rebuilt
from moe2opt.selection.robustness import Robustness, robustness_of
from moe2opt.selection.shares import delay_words, objective_words, shared_out
from moe2opt.selection.view import view_of
from moe2opt.view import View

if TYPE_CHECKING:
    import pandas as pd

    from moe2opt.selection.catalogue import Expert
    from moe2opt.selection.instance import SelectionInstance

#: Index of the test split in the counts of the tables.
_TEST = 2


@dataclass(frozen=True, slots=True)
class DeployedExpert:
    """One deployed expert.

    Attributes
    ----------
    llm, precision, server
        What is deployed where.
    memory_gib
        Memory in GiB.
    energy_j_per_prompt
        Joules per prompt, averaged over all prompts, within `power_scope`.
    share_of_prompts
        Share of the prompts routed to it.
    power_scope
        What the joules include.
    """

    llm: str
    precision: str
    server: str
    memory_gib: float
    energy_j_per_prompt: float
    share_of_prompts: float
    power_scope: str


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers a cluster: index into the plan's experts, None when nobody does."""

    cluster: str
    expert: int | None


@dataclass(frozen=True, slots=True)
class Usage:
    """Use of one budget; `share` is used / limit (None for a limit of zero)."""

    name: str
    used: float
    limit: float
    share: float | None


@dataclass(frozen=True, slots=True)
class CategorySet:
    """Whom a category asks: indices into the plan's experts."""

    category: str
    experts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CategoryReport:
    """What one category gets.

    Attributes
    ----------
    category, share_of_prompts
        Its name and share of the prompts.
    predicted_accuracy
        Expected share of correct answers (training split, quantisation factor applied).
    test_correct, test_prompts, test_accuracy
        Counts on the test split under the same routing, and their ratio (None without prompts).
        They are the answers of the LLM as published: quantisation is not in them.
    energy_j_per_prompt
        Expected joules of the routed expert alone.
    delay_s, deadline_s
        Time of the slowest expert that serves it, and the deadline (None for none).
    """

    category: str
    share_of_prompts: float
    predicted_accuracy: float
    test_correct: int
    test_prompts: int
    test_accuracy: float | None
    energy_j_per_prompt: float
    delay_s: float | None
    deadline_s: float | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SelectionPlan(Content):
    """A decoded solution of a selection instance.

    Attributes
    ----------
    instance
        Name of the instance.
    experts
        Deployed experts, in the order of the catalogue.
    routing
        Who answers each cluster.
    budgets
        Use of every budget row.
    by_category
        Quality, energy and delay of each category.
    predicted_accuracy
        The objective: expected share of correct answers.
    test_correct, test_prompts, test_accuracy
        Totals over the categories.
    energy_j_per_prompt
        Expected joules per prompt when only the routed expert answers.
    caveats
        What must be known to read the figures.
    robustness
        Margins and price of robust budgets; None where the predictions themselves count.
    delay_statistic
        What the seconds are: ``mean``, ``quantile 0.95``, ...
    objective
        Who answers a prompt.
    sets
        Who is asked by each category; empty where all are.
    """

    instance: str
    experts: tuple[DeployedExpert, ...]
    routing: tuple[Route, ...]
    budgets: tuple[Usage, ...]
    by_category: tuple[CategoryReport, ...]
    predicted_accuracy: float
    test_correct: int
    test_prompts: int
    test_accuracy: float | None
    energy_j_per_prompt: float
    caveats: tuple[str, ...] = ()
    robustness: Robustness | None = None
    delay_statistic: str = "mean"
    objective: str = "best expert"
    sets: tuple[CategorySet, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """Return one row per deployed expert."""
        return frame_of_experts(self.experts)

    def category_frame(self) -> pd.DataFrame:
        """Return one row per category."""
        import pandas as pd

        return pd.DataFrame([asdict(report) for report in self.by_category])

    def routing_frame(self) -> pd.DataFrame:
        """Return one row per cluster: cluster, llm, precision, server."""
        import pandas as pd

        names = ("llm", "precision", "server")
        who = [None if r.expert is None else self.experts[r.expert] for r in self.routing]
        table = {"cluster": [route.cluster for route in self.routing]}
        return pd.DataFrame(table | {n: [getattr(e, n, None) for e in who] for n in names})

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SelectionPlan:
        """Rebuild from `to_dict`; raise `InputError` when the content is not a plan."""
        return rebuilt(cls, data, "selection plan")

    def summary(self) -> str:
        """Return a readable account of the plan."""
        from moe2opt.selection.summary import summarise

        return summarise(self)

    def view(self) -> View:
        """Return what a page shows of the plan."""
        return view_of(self)


def frame_of_experts(experts: Sequence[DeployedExpert]) -> pd.DataFrame:
    """Return one row per deployed expert."""
    import pandas as pd

    columns = list(DeployedExpert.__dataclass_fields__)
    return pd.DataFrame([asdict(expert) for expert in experts], columns=columns)


def decode_plan(instance: SelectionInstance, x: IntArray) -> SelectionPlan:
    """Return the plan of a solution: each cluster goes to its best deployed expert.

    Where experts share prompts, that is the leading one; shares, joules and accuracies are those
    of all that take part.
    """
    own = instance.problem().vector(x)[: len(instance.experts)]
    chosen, compiled = np.flatnonzero(own), instance.compiled
    plan = decode_for(instance, chosen, None, usage(instance, compiled.usage_of(own)))
    plan = replace(plan, robustness=robustness_of(instance, own))
    return shared_out(instance, plan, chosen, instance.category_of)


def decode_for(
    instance: SelectionInstance,
    chosen: IntArray,
    asked: BoolArray | None,
    budgets: tuple[Usage, ...],
) -> SelectionPlan:
    """Return the plan that deploys `chosen`; category k asks those of ``asked[k]``, or all."""
    route = best_experts(instance, chosen, asked)
    place = {int(i): k for k, i in enumerate(chosen)}
    reports = tuple(_report(instance, k, route) for k in range(len(instance.categories)))
    correct = sum(report.test_correct for report in reports)
    prompts = sum(report.test_prompts for report in reports)
    return SelectionPlan(
        instance=instance.name,
        experts=tuple(
            deployed(instance.experts[i], math.fsum(instance.tables.weights[route == i]))
            for i in chosen
        ),
        routing=tuple(
            Route(cluster, place.get(int(i)))
            for cluster, i in zip(instance.tables.clusters, route, strict=True)
        ),
        budgets=budgets,
        by_category=reports,
        predicted_accuracy=_worth(instance, route),
        test_correct=correct,
        test_prompts=prompts,
        test_accuracy=correct / prompts if prompts else None,
        energy_j_per_prompt=math.fsum(r.share_of_prompts * r.energy_j_per_prompt for r in reports),
        caveats=instance.caveats,
        delay_statistic=delay_words(instance),
        objective=objective_words(instance),
    )


def _worth(instance: SelectionInstance, route: IntArray) -> float:
    """Return the expected share of correct answers, each product rounded once."""
    rows = np.flatnonzero(route >= 0)
    return math.fsum(instance.quality[rows, route[rows]] * instance.tables.weights[rows])


def best_experts(
    instance: SelectionInstance, chosen: IntArray, asked: BoolArray | None = None
) -> IntArray:
    """Return the ``(C,)`` expert of each cluster, -1 where no chosen one serves it.

    Ties go to the lower energy in the category, then to the lower index.
    """
    route = np.full(len(instance.tables.clusters), -1, dtype=np.int64)
    able = ~instance.late if asked is None else asked & ~instance.late
    for c, k in enumerate(instance.category_of):
        serving = chosen[able[k, chosen]]
        if len(serving):
            keys = (serving, instance.energy_j[k, serving], -instance.quality[c, serving])
            route[c] = serving[np.lexsort(keys)[0]]
    return route


def deployed(expert: Expert, share_of_prompts: float) -> DeployedExpert:
    """Return an expert as plans show it."""
    return DeployedExpert(
        llm=expert.llm,
        precision=expert.precision,
        server=expert.server,
        memory_gib=expert.memory_gib,
        energy_j_per_prompt=expert.energy_j_per_prompt,
        share_of_prompts=share_of_prompts,
        power_scope=expert.power_scope,
    )


def usage(instance: SelectionInstance, used: FloatArray) -> tuple[Usage, ...]:
    """Return the use of every budget row with its name and limit."""
    compiled = instance.compiled
    names = compiled.budget_names
    return tuple(
        Usage(name, u, b, u / b if b > 0 else None)
        for name, u, b in zip(names, used.tolist(), compiled.budgets.tolist(), strict=True)
    )


def _report(instance: SelectionInstance, k: int, route: IntArray) -> CategoryReport:
    tables = instance.tables
    members = np.flatnonzero((instance.category_of == k) & (route >= 0))
    total = float(tables.weights[instance.category_of == k].sum())
    weights, experts = tables.weights[members] / total, route[members]
    models = instance.model_of[experts]
    correct = int(tables.correct[_TEST, members, models].sum())
    prompts = int(tables.run[_TEST, members, models].sum())
    deadline = float(instance.deadline_s[k])
    return CategoryReport(
        category=instance.categories[k],
        share_of_prompts=total,
        predicted_accuracy=float(weights @ instance.quality[members, experts]),
        test_correct=correct,
        test_prompts=prompts,
        test_accuracy=correct / prompts if prompts else None,
        energy_j_per_prompt=float(weights @ instance.energy_j[k, experts]),
        delay_s=float(instance.delay_s[k, experts].max()) if len(experts) else None,
        deadline_s=deadline if math.isfinite(deadline) else None,
    )
