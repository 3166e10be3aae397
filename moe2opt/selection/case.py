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
from moe2opt.profiles import Profiles
from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.selection.catalogue import (
    Catalogue,
    Expert,
    Host,
    accounts,
    build_catalogue,
    deadlines,
    measured_words,
    pool_of,
)
from moe2opt.selection.costs import traffic_of
from moe2opt.selection.lengths import LengthSource, Samples, samples_of, times_of
from moe2opt.selection.measured.cells import Measured
from moe2opt.selection.outcomes.tables import ClusterTables
from moe2opt.selection.sections import Queue, SelectionConfig
from moe2opt.selection.sections.config import notes_of
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
    energy_largest: int = 0
    delay_statistic: str = "mean"
    delay_level: float | None = None
    delay_counts: str = "one"
    samples: Samples | None = None
    queue: Queue | None = None
    sets: str = "one"
    measured: Measured | None = None
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

    @cached_property
    def joules(self) -> FloatArray:
        """``(N,)`` joules per prompt of each expert, averaged over the categories."""
        return np.array([expert.energy_j_per_prompt for expert in self.experts])

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
    def scored(self) -> Scored:
        """Rows of the objective: values, weights, and who may serve."""
        allowed = ~self.barred[self.category_of]
        return Scored(self.quality, self.tables.weights, allowed)

    @cached_property
    def shares(self) -> FloatArray:
        """``(K,)`` share of the prompts of each category."""
        own = (self.tables.weights[self.category_of == k] for k in range(len(self.categories)))
        return np.array([math.fsum(weights) for weights in own])

    @cached_property
    def groups(self) -> tuple[IntArray, ...]:
        """Experts that are the same LLM on the same server: at most one precision of each."""
        members: dict[tuple[str, str], list[int]] = {}
        for i, expert in enumerate(self.experts):
            members.setdefault((expert.llm, expert.server), []).append(i)
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


def parts_of(
    config: SelectionConfig,
    tables: ClusterTables,
    profiles: Profiles,
    lengths: LengthSource | None = None,
    measured: Measured | None = None,
) -> dict[str, Any]:
    """Return the fields of a case for tables in memory, `nominal` excepted.

    `lengths` gives the lengths of single answers of the tables' LLMs where they are known;
    otherwise, and where the configuration declares a distribution, that is taken.
    """
    tables = tables.restricted_to(pool_of(config.llms, tables))
    traffic = traffic_of(tables)
    catalogue = build_catalogue(config, tables, profiles, traffic, measured)
    samples = samples_of(config, tables, profiles, traffic, lengths, measured)
    wait_s = config.queue.wait_limit_s if config.queue else 0.0
    energy, delay = config.energy, config.delay
    return dict(
        name=config.name,
        description=config.description,
        tables=tables,
        categories=traffic.categories,
        experts=catalogue.experts,
        hosts=catalogue.hosts,
        delay_s=times_of(config, catalogue.delay_s, samples) + wait_s,
        energy_j=catalogue.energy_j,
        deadline_s=deadlines(config, traffic.categories),
        energy_limit_j_per_prompt=energy.limit_j_per_prompt if energy else None,
        energy_counts=energy.counts if energy else "all",
        delay_sharing=delay.sharing,
        delay_scope="everywhere" if delay.counts == "all" else delay.scope,
        max_experts=config.max_experts,
        notes=tuple(_notes(config, tables, profiles, catalogue, measured)),
        robust_quantile=config.robust.level if config.robust else None,
        profiles_sha256=profiles.digest,
        mixture=_mixture_of(config),
        energy_largest=(energy.largest if energy else None) or 0,
        delay_statistic=delay.statistic,
        delay_level=delay.level,
        delay_counts=delay.counts,
        samples=None if samples is None else samples.later(wait_s),
        queue=config.queue,
        sets=config.sets,
        measured=measured,
    )


def _notes(
    config: SelectionConfig,
    tables: ClusterTables,
    profiles: Profiles,
    catalogue: Catalogue,
    measured: Measured | None,
) -> Iterator[str]:
    """Yield what a reader must know about the data."""
    if tables.synthetic:
        yield f"the outcomes are synthetic: {tables.provenance.get('title', 'no title')}"
    yield from accounts(catalogue, profiles)
    if measured is not None:
        yield from measured_words(catalogue, measured, robust=config.robust is not None)
    yield from notes_of(config)
    placed = {expert.llm for expert in catalogue.experts}
    for llm in tables.llms:
        if llm.name not in placed:
            yield f"{llm.name} is not offered: no server may hold it"
    if any(expert.quality_factor < 1 for expert in catalogue.experts):
        yield "the accuracy kept by quantised weights is estimated, not measured on these prompts"


def _mixture_of(config: SelectionConfig) -> Mixture | None:
    """Return how experts share prompts; the best one alone is no mixture."""
    if not config.mixes:
        return None
    k = config.answering if config.objective == "top_k" else None
    return None if k == 1 else Mixture(config.mixture.temperature, k)
