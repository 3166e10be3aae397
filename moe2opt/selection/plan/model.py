"""The plan: what is deployed where, who answers what, and what it uses and is expected to give."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, cast

from moe2opt.content import Content
from moe2opt.schema import rebuilt
from moe2opt.selection.plan.robust import Robustness
from moe2opt.selection.plan.view import view_of
from moe2opt.selection.plan.words import (
    category_lines,
    measured_lines,
    money_lines,
    plan_words,
    robust_lines,
    set_lines,
    summarise,
)
from moe2opt.view import View

if TYPE_CHECKING:
    import pandas as pd


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
class Measurements:
    """The measured table behind a plan, row by row as it was typed.

    Attributes
    ----------
    file, sha256, count
        Name and digest of the table, and how many rows it has.
    columns, rows
        Its header and rows, letter for letter; rows of single prompts are left out where there are
        too many, and then only counted.
    used
        Whether each row is about a deployed expert.
    basis
        Of each deployed expert: ``measured``, ``predicted``, or what of it is predicted.
    """

    file: str
    sha256: str
    count: int
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    used: tuple[bool, ...]
    basis: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Money:
    """What a plan costs.

    Attributes
    ----------
    currency
        Such as ``usd``.
    per_prompt
        Expected money per prompt of those who answer: the routed expert, or all that share a
        prompt or vote.
    per_hour
        Money per hour of the deployed experts and of their servers, whatever they answer.
    by_expert, by_category
        Money per prompt of each deployed expert over all prompts, and of the routed expert in each
        category; None without prompts.
    net
        The objective, where answers are worth money: the share of correct answers less what they
        cost, in units of what a correct one is worth. None elsewhere.
    """

    currency: str
    per_prompt: float
    per_hour: float
    by_expert: tuple[float, ...]
    by_category: tuple[float | None, ...]
    net: float | None = None


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


class _Plan(Content):
    """What plans of both kinds do."""

    __slots__ = ()
    experts: tuple[DeployedExpert, ...]
    by_category: tuple[Any, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per deployed expert."""
        import pandas as pd

        columns = list(DeployedExpert.__dataclass_fields__)
        return pd.DataFrame([asdict(expert) for expert in self.experts], columns=columns)

    def category_frame(self) -> pd.DataFrame:
        """Return one row per category."""
        import pandas as pd

        return pd.DataFrame([asdict(report) for report in self.by_category])

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        return asdict(cast("Any", self))

    def view(self) -> View:
        """Return what a page shows of the plan."""
        return view_of(self)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SelectionPlan(_Plan):
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
    measured
        The measured table, and which figures are predicted; None without one.
    money
        What the plan costs; None where money does not matter.
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
    measured: Measurements | None = None
    money: Money | None = None

    def routing_frame(self) -> pd.DataFrame:
        """Return one row per cluster: cluster, llm, precision, server."""
        import pandas as pd

        names = ("llm", "precision", "server")
        who = [None if r.expert is None else self.experts[r.expert] for r in self.routing]
        table = {"cluster": [route.cluster for route in self.routing]}
        return pd.DataFrame(table | {n: [getattr(e, n, None) for e in who] for n in names})

    def summary(self) -> str:
        """Return a readable account of the plan."""
        blocks = (category_lines(self), set_lines(self), plan_words(self), robust_lines(self))
        return summarise(self, *blocks, money_lines(self), measured_lines(self), [""])

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SelectionPlan:
        """Rebuild from `to_dict`; raise `InputError` when the content is not a plan."""
        return rebuilt(cls, data, "selection plan")


@dataclass(frozen=True, slots=True)
class GatedCategory:
    """What one category gets when the gate routes its prompts.

    Attributes
    ----------
    category, share_of_prompts
        Its name and its share of the prompts that the objective averages over.
    predicted_accuracy
        Mean highest score of a deployed expert on those prompts, or the share that a vote gets
        right; None without prompts.
    test_prompts, test_accuracy
        Routed test prompts with a known outcome, and their mean score (None without any). They are
        the published answers: quantisation is not in them.
    energy_j_per_prompt
        Expected joules of those that answer: the routed expert, or all that vote.
    delay_s, deadline_s
        Time of the slowest expert that serves it, and the deadline (None for none).
    """

    category: str
    share_of_prompts: float
    predicted_accuracy: float | None
    test_prompts: int
    test_accuracy: float | None
    energy_j_per_prompt: float | None
    delay_s: float | None
    deadline_s: float | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class GatedPlan(_Plan):
    """A decoded solution of a gated instance.

    Attributes
    ----------
    instance
        Name of the instance.
    experts
        Deployed experts; shares are those of the prompts of the objective.
    budgets
        Use of every budget row.
    by_category
        Quality, energy and delay of each category.
    predicted_accuracy
        The objective: mean highest score of a deployed expert, or the share of right votes.
    test_prompts, test_accuracy
        Test prompts with a known outcome of who answers, and their mean score.
    energy_j_per_prompt
        Expected joules per prompt of those that answer: the routed expert, or all that vote.
    routing
        What routes: the gate's head, calibration, folder and data digest, the split, and a table
        of scores and costs by category. Of a vote: its weights and the split.
    caveats
        What must be known to read the figures.
    delay_statistic
        What the seconds are: ``mean``, ``quantile 0.95``, ...
    objective
        Who answers a prompt.
    robustness
        Margins and price of robust budgets; None where the predictions themselves count.
    measured
        The measured table, and which figures are predicted; None without one.
    money
        What the plan costs; None where money does not matter.
    """

    instance: str
    experts: tuple[DeployedExpert, ...]
    budgets: tuple[Usage, ...]
    by_category: tuple[GatedCategory, ...]
    predicted_accuracy: float
    test_prompts: int
    test_accuracy: float | None
    energy_j_per_prompt: float
    routing: dict[str, Any] = field(default_factory=dict)
    caveats: tuple[str, ...] = ()
    delay_statistic: str = "mean"
    objective: str = "best expert"
    robustness: Robustness | None = None
    measured: Measurements | None = None
    money: Money | None = None

    def summary(self) -> str:
        """Return a readable account of the plan."""
        own = self.routing
        by = "Vote: no gate"
        if "vote" not in own:
            by = f"Gate: {own['head']} ({own['backend']}), {own['calibration']} calibration"
        line = (
            f"{by}; selected on {', '.join(own['selected_on'])}; split seed {own['split']['seed']}"
        )
        blocks = (robust_lines(self), category_lines(self), plan_words(self))
        return summarise(self, *blocks, money_lines(self), measured_lines(self), ["", line])

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> GatedPlan:
        """Rebuild from `to_dict`; raise `InputError` when the content is not a plan."""
        return rebuilt(cls, data, "gated plan")
