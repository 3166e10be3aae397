"""The case: experts, budgets and quality as frozen data, and the arrays that follow from them.

It knows what is asked, and nothing of how that is compiled, judged or told.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from moe2opt.content import Content
from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.selection.catalogue import (
    Expert,
)
from moe2opt.selection.lengths import Samples
from moe2opt.selection.measured.cells import Measured
from moe2opt.selection.offers import Host
from moe2opt.selection.outcomes.tables import ClusterTables
from moe2opt.selection.sections import MoneyBudget, Queue
from moe2opt.source import Source

#: Categories that a note names before the rest is only counted.
_MOST_NAMES = 6


@dataclass(frozen=True, slots=True)
class Mixture:
    """How the deployed experts share a prompt.

    Attributes
    ----------
    temperature
        What the gate's log-odds are divided by.
    k
        How many experts take part at most; None for all.
    """

    temperature: float
    k: int | None


@dataclass(frozen=True, slots=True)
class Vote:
    """All deployed experts answer every prompt, and vote.

    Attributes
    ----------
    weights
        ``equal``, or by the ``accuracy`` of each LLM in the category.
    pool
        What is added up: the ``answers``, or the ``log_probabilities`` of all answers.
    """

    weights: str
    pool: str = "answers"


#: Names of the budgets of what prompts use.
ENERGY = "energy_j_per_prompt"


@dataclass(frozen=True, slots=True, eq=False)
class Spending:
    """What prompts use of one budget.

    Attributes
    ----------
    name, noun
        Name of the budget with its unit, and what is spent in a word.
    by_category, per_prompt
        ``(K, N)`` mean use by an answer in each category, and ``(N,)`` over all prompts.
    limit, counts, largest
        Limit per prompt; whether ``all`` experts count, ``one``, or the ``largest`` so many.
    """

    name: str
    noun: str
    by_category: FloatArray
    per_prompt: FloatArray
    limit: float
    counts: str
    largest: int


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Rows of the objective: ``(C, N)`` values (0 where not allowed), weights, who may serve."""

    values: FloatArray
    weights: FloatArray
    allowed: BoolArray


@dataclass(frozen=True, eq=False, repr=False)
class Case(Content):
    """Which LLM experts to deploy on which server, and who answers which cluster of prompts.

    Attributes
    ----------
    name, description
        From the configuration.
    tables
        Outcomes of the M LLMs in the pool on C clusters.
    categories
        The K application categories, sorted.
    experts, hosts
        The N deployable experts and the servers.
    delay_s, energy_j
        ``(K, N)`` seconds (see `delay_statistic`) and mean joules of an answer; quantiles of their
        predictions where budgets are kept robustly.
    deadline_s
        ``(K,)`` deadlines, ``inf`` where there is none.
    energy_limit_j_per_prompt, energy_counts
        Energy budget (None for none), and whether ``all`` experts answer or ``one``.
    delay_sharing, delay_scope
        ``dedicated`` or ``shared``; ``category`` or ``everywhere``.
    max_experts
        Largest number of experts, None for no limit.
    notes
        What in the data is synthetic, assumed, extrapolated or estimated.
    robust_quantile
        Quantile of the predictions that budgets are kept at; None for the predictions themselves.
    nominal
        The same case without robustness; None when it is this one.
    profiles_sha256
        Digest of the profile tables that seconds and joules come from.
    mixture
        How experts share a prompt; None when the best one answers.
    vote
        How all of them vote on its answer; None where they do not.
    energy_largest
        How many experts count where energy counts the ``largest``.
    delay_statistic, delay_level
        What of the time of an answer keeps the deadline; `delay_s` is that statistic.
    delay_counts
        ``one`` expert answers a prompt in time, or ``all`` of them do.
    samples
        Times of single answers, where anything but their means is asked for.
    queue
        Arrivals and the longest mean wait; None for one request at a time.
    sets
        ``one`` set for all categories, or one ``per_category``.
    measured
        Measured table that seconds and joules come from first; None without one.
    money, price
        Prices and budgets of money, and ``(K, N)`` mean money of an answer; None where money does
        not matter.
    source
        The file that it was loaded from, set by `moe2opt.load`; a variant of it has none.
    """

    name: str
    description: str
    tables: ClusterTables
    categories: tuple[str, ...]
    experts: tuple[Expert, ...]
    hosts: tuple[Host, ...]
    delay_s: FloatArray
    energy_j: FloatArray
    deadline_s: FloatArray
    energy_limit_j_per_prompt: float | None = None
    energy_counts: str = "all"
    delay_sharing: str = "dedicated"
    delay_scope: str = "category"
    max_experts: int | None = None
    notes: tuple[str, ...] = ()
    robust_quantile: float | None = None
    nominal: Case | None = None
    profiles_sha256: str = ""
    mixture: Mixture | None = None
    vote: Vote | None = None
    energy_largest: int = 0
    delay_statistic: str = "mean"
    delay_level: float | None = None
    delay_counts: str = "one"
    samples: Samples | None = None
    queue: Queue | None = None
    sets: str = "one"
    measured: Measured | None = None
    money: MoneyBudget | None = None
    price: FloatArray | None = None
    source: Source | None = field(default=None, init=False)

    @cached_property
    def category_of(self) -> IntArray:
        """``(C,)`` category index of each cluster."""
        return np.array([self.categories.index(name) for name in self.tables.categories])

    @cached_property
    def model_of(self) -> IntArray:
        """``(N,)`` column of each expert's LLM in the tables."""
        column = {llm.name: m for m, llm in enumerate(self.tables.llms)}
        return np.array([column[expert.llm] for expert in self.experts])

    @cached_property
    def host_of(self) -> IntArray:
        """``(N,)`` index of each expert's server."""
        place = {host.name: h for h, host in enumerate(self.hosts)}
        return np.array([place[expert.server] for expert in self.experts])

    @property
    def machines(self) -> tuple[Host, ...]:
        """The servers that are ours: they have memory, and their experts may take turns."""
        return tuple(host for host in self.hosts if not host.api)

    @cached_property
    def turns(self) -> IntArray:
        """``(N,)`` whom each expert takes turns with: those of its server, behind an API nobody."""
        alone = len(self.hosts) + np.arange(len(self.experts))
        api = np.array([host.api for host in self.hosts])
        return np.where(api[self.host_of], alone, self.host_of)

    @cached_property
    def joules(self) -> FloatArray:
        """``(N,)`` joules per prompt of each expert, averaged over the categories."""
        return np.array([expert.energy_j_per_prompt for expert in self.experts])

    @cached_property
    def prices(self) -> FloatArray:
        """``(N,)`` money per prompt of each expert, averaged over the categories."""
        return np.array([expert.money_per_prompt for expert in self.experts])

    @cached_property
    def spendings(self) -> tuple[Spending, ...]:
        """Budgets of what prompts use: energy and money, as far as they are limited."""
        found, limit, money = [], self.energy_limit_j_per_prompt, self.money
        if limit is not None:
            how = (limit, self.energy_counts, self.energy_largest)
            found.append(Spending(ENERGY, "energy", self.energy_j, self.joules, *how))
        if money is not None and self.price is not None and money.limit_per_prompt is not None:
            how = (money.limit_per_prompt, money.counts, money.largest or 0)
            name = f"money_{money.currency}_per_prompt"
            found.append(Spending(name, "money", self.price, self.prices, *how))
        return tuple(found)

    @cached_property
    def toll(self) -> FloatArray | None:
        """``(K, N)`` price of an answer in units of what a correct one is worth; None for none."""
        if self.money is None or self.money.worth_of_correct is None or self.price is None:
            return None
        return self.price / self.money.worth_of_correct

    @cached_property
    def factors(self) -> FloatArray:
        """``(N,)`` share of the accuracy that each expert's precision keeps (estimated)."""
        return np.array([expert.quality_factor for expert in self.experts])

    @cached_property
    def late(self) -> BoolArray:
        """``(K, N)`` whether an expert on its own misses the category's deadline."""
        return np.asarray(self.delay_s > self.deadline_s[:, None])

    @cached_property
    def runs(self) -> FloatArray:
        """``(K, M)`` training prompts of each category that each LLM was run on."""
        runs = np.zeros((len(self.categories), len(self.tables.llms)))
        np.add.at(runs, self.category_of, self.tables.run[0].astype(np.float64))
        return runs

    @cached_property
    def untried(self) -> BoolArray:
        """``(K, N)`` whether an expert's LLM was never run in the category, while others were."""
        never = (self.runs == 0) & (self.runs > 0).any(axis=1, keepdims=True)
        return np.asarray(never[:, self.model_of])

    @cached_property
    def barred(self) -> BoolArray:
        """``(K, N)`` whether an expert may not serve the category: late, or never tried there."""
        return np.asarray(self.late | self.untried)

    @cached_property
    def quality(self) -> FloatArray:
        """``(C, N)`` expected share of correct answers, 0 where the expert does not serve."""
        quality = self.tables.accuracy[:, self.model_of] * self.factors
        return np.where(self.barred[self.category_of], 0.0, quality)

    @cached_property
    def value(self) -> FloatArray:
        """``(C, N)`` terms of the objective: the quality, less its price where that counts."""
        if self.toll is None:
            return self.quality
        return np.maximum(self.quality - self.toll[self.category_of], 0.0)

    @cached_property
    def scored(self) -> Scored:
        """Rows of the objective: values, weights, and who may serve."""
        allowed = ~self.barred[self.category_of]
        return Scored(self.value, self.tables.weights, allowed)

    @cached_property
    def shares(self) -> FloatArray:
        """``(K,)`` share of the prompts of each category."""
        own = (self.tables.weights[self.category_of == k] for k in range(len(self.categories)))
        return np.array([math.fsum(weights) for weights in own])

    @cached_property
    def groups(self) -> tuple[IntArray, ...]:
        """Experts that are the same LLM on the same server: at most one precision of each.

        Where experts vote, those that are the same LLM at all: it has one vote.
        """
        members: dict[tuple[str, str], list[int]] = {}
        for i, expert in enumerate(self.experts):
            place = "" if self.vote is not None else expert.server
            members.setdefault((expert.llm, place), []).append(i)
        return tuple(np.array(m, dtype=np.int64) for m in members.values() if len(m) > 1)

    @property
    def delay_words(self) -> str:
        """What the seconds of a plan are, such as ``quantile 0.95``."""
        if self.delay_level is None:
            return self.delay_statistic
        return f"{self.delay_statistic} {self.delay_level:g}"

    @property
    def objective_words(self) -> str:
        """Who answers a prompt, in words."""
        if self.vote is not None:
            what = "pooled log-probabilities" if self.vote.pool != "answers" else "vote"
            return f"{what} of all experts, weights {self.vote.weights}"
        if self.mixture is None:
            return "best expert"
        who = "all experts" if self.mixture.k is None else f"best {self.mixture.k} experts"
        return f"{who}, softmax at temperature {self.mixture.temperature:g}"

    @property
    def origin(self) -> dict[str, Any]:
        """What the provenance of a result says about the data besides the problem itself."""
        known = {"profiles_sha256": self.profiles_sha256} if self.profiles_sha256 else {}
        if self.measured is not None:
            known["measured_sha256"] = self.measured.table.sha256
        return known

    @property
    def rows_words(self) -> str:
        """What the objective averages over, in words."""
        return f"{len(self.tables.clusters)} prompt clusters"

    def describe(self) -> str:
        """Return one line about the size of the case."""
        kind = "synthetic: " if self.tables.synthetic else ""
        models, places = len(self.tables.llms), len({(e.precision, e.server) for e in self.experts})
        all_of_them = models * places == len(self.experts)
        offer = f"{models} LLMs x {places} precisions and servers ="
        if not all_of_them:
            offer = f"{models} LLMs, each where it may run:"
        return (
            f"{kind}{offer} {len(self.experts)} experts, {self.rows_words} in "
            f"{len(self.categories)} categories, {len(self.hosts)} servers"
        )

    @cached_property
    def caveats(self) -> tuple[str, ...]:
        """What a reader of any plan of this instance must know."""
        scopes = sorted({f"{host.device}: {host.power_scope}" for host in self.hosts})
        if len({host.power_scope for host in self.hosts}) > 1:
            meters = (
                f"joules add up different power scopes ({'; '.join(scopes)}): their sum is an "
                "index for the budget, not the energy of one meter"
            )
        else:
            meters = f"the joules are those of one power scope: {self.hosts[0].power_scope}"
        return (*self.notes, *_gaps(self), meters)

    def on(self, server: str) -> BoolArray:
        """Return the ``(N,)`` mask of the experts on a server."""
        return np.asarray(self.host_of == [host.name for host in self.hosts].index(server))


def _gaps(case: Case) -> Iterator[str]:
    """Yield where LLMs may not serve for want of outcomes, and where nobody was tried."""
    tried = case.runs > 0
    met = np.asarray(tried.any(axis=1))
    blank = [name for name, some in zip(case.categories, met, strict=True) if not some]
    if blank:
        yield f"no LLM has outcomes in {', '.join(blank)}: their overall means stand in there"
    for m, llm in enumerate(case.tables.llms):
        gone = met & ~tried[:, m]
        if gone.any():
            names = [n for n, out in zip(case.categories, gone, strict=True) if out]
            more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
            where = f"{', '.join(names[:_MOST_NAMES])}{more}"
            yield f"{llm.name} has no outcomes in {where}: it may not serve there"
