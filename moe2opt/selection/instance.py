"""The selection instance: experts, budgets and quality, ready to compile and to judge plans."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from moe2opt.content import Content
from moe2opt.present import Measure
from moe2opt.profiles import BUILTIN, Profiles, read_profiles
from moe2opt.result import BoolArray, FloatArray, IntArray, Result
from moe2opt.schema.paths import inside
from moe2opt.selection.catalogue import (
    Catalogue,
    Expert,
    Host,
    accounts,
    build_catalogue,
    deadlines,
    pool_of,
    traffic_of,
)
from moe2opt.selection.compile import compile_instance, completed
from moe2opt.selection.compiled import Compiled, Scored
from moe2opt.selection.constraints.lengths import LengthSource, Samples, samples_of, times_of
from moe2opt.selection.constraints.objectives import Mixture, mixture_of
from moe2opt.selection.evaluation.evaluate import check_plan, evaluate_plan
from moe2opt.selection.outcomes.tables import ClusterTables, read_tables
from moe2opt.selection.plan import SelectionPlan, decode_plan
from moe2opt.selection.robustness import compared, compared_again
from moe2opt.selection.sections import Queue, SelectionConfig
from moe2opt.selection.sections.config import notes_of
from moe2opt.selection.sets_plan import check_sets, decode_sets
from moe2opt.source import Source


@dataclass(frozen=True, eq=False, repr=False)
class SelectionInstance(Content):
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
        The same instance without robustness; None when it is this one.
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
    nominal: SelectionInstance | None = None
    profiles_sha256: str = ""
    mixture: Mixture | None = None
    energy_largest: int = 0
    delay_statistic: str = "mean"
    delay_level: float | None = None
    delay_counts: str = "one"
    samples: Samples | None = None
    queue: Queue | None = None
    sets: str = "one"
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
    def late(self) -> BoolArray:
        """``(K, N)`` whether an expert on its own misses the category's deadline."""
        return np.asarray(self.delay_s > self.deadline_s[:, None])

    @cached_property
    def quality(self) -> FloatArray:
        """``(C, N)`` expected share of correct answers, 0 where the expert does not serve."""
        factor = np.array([expert.quality_factor for expert in self.experts])
        quality = self.tables.accuracy[:, self.model_of] * factor
        return np.where(self.late[self.category_of], 0.0, quality)

    @cached_property
    def scored(self) -> Scored:
        """Rows of the objective: values, weights, and who may serve."""
        allowed = ~self.late[self.category_of]
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

    @cached_property
    def compiled(self) -> Compiled:
        """The canonical problem, the budgets, and the names of rows and covers."""
        return compile_instance(self)

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
        return (*self.notes, meters)

    def on(self, server: str) -> BoolArray:
        """Return the ``(N,)`` mask of the experts on a server."""
        return np.asarray(self.host_of == [host.name for host in self.hosts].index(server))

    def problem(self) -> Any:
        """Return the canonical problem; the same object at every call.

        A facility problem, or a monotone one where that does not do; see `compile_instance`. Its
        first N variables say which experts are deployed.
        """
        return self.compiled.problem

    def completed(self, x: IntArray) -> IntArray:
        """Return the solution of the canonical problem that deploys the experts of ``(N,)`` `x`."""
        return completed(self, x)

    def decode(self, x: IntArray) -> SelectionPlan:
        """Return the plan that the 0/1 vector `x` stands for."""
        return decode_sets(self, x) if self.sets == "per_category" else decode_plan(self, x)

    @property
    def origin(self) -> dict[str, str]:
        """What the provenance of a result says about the data besides the problem itself."""
        return {"profiles_sha256": self.profiles_sha256} if self.profiles_sha256 else {}

    def with_nominal(self, plan: SelectionPlan, nominal: Result) -> SelectionPlan:
        """Return the plan with the price of robustness, from a solution of `self.nominal`."""
        return compared(self, plan, nominal)

    def completed_plan(self, plan: SelectionPlan, stored: Any) -> SelectionPlan:
        """Return a rebuilt plan with what a stored one tells of the problem without robustness."""
        return compared_again(self, plan, stored)

    def evaluate(self, plan: SelectionPlan) -> float:
        """Return the expected share of correct answers under the plan's own routing table.

        Where experts share prompts, under the weights of the plan's experts.
        """
        return evaluate_plan(self, plan)

    def check(self, plan: SelectionPlan) -> list[str]:
        """Return the violated requirements in words; empty for a valid plan."""
        return check_sets(self, plan) if self.sets == "per_category" else check_plan(self, plan)

    @property
    def measure(self) -> Measure:
        """Sense and unit of the objective: a share that is to be large."""
        return Measure("maximize", "share of correct answers", "expected share of correct answers")

    def row_names(self) -> list[str]:
        """Return the name (with unit) of each budget row."""
        return list(self.compiled.row_names)

    def cover_names(self) -> list[str]:
        """Return the name of each cover row."""
        return list(self.compiled.cover_names)

    def describe(self) -> str:
        """Return one line about the size of the instance."""
        kind = "synthetic: " if self.tables.synthetic else ""
        models = len(self.tables.llms)
        return (
            f"{kind}{models} LLMs x {len(self.experts) // models} precisions and servers = "
            f"{len(self.experts)} experts, {len(self.tables.clusters)} prompt clusters in "
            f"{len(self.categories)} categories, {len(self.hosts)} servers"
        )


def build(
    config: SelectionConfig, folder: Path, *, allow_outside: bool = False
) -> SelectionInstance:
    """Read the tables that `config` names and return the instance.

    Parameters
    ----------
    config
        Validated configuration.
    folder
        Folder of the YAML file; paths are relative to it.
    allow_outside
        Whether paths may leave that folder.

    Raises
    ------
    InputError
        For unreadable tables, unknown names, or a path outside the folder.
    """
    if config.tables is None:
        from moe2opt.selection.gated import build_gated

        return build_gated(config, folder, allow_outside=allow_outside)
    tables = read_tables(inside(folder, config.tables, "tables", allow_outside=allow_outside))
    return assemble(config, tables, profiles_of(config, folder, allow_outside=allow_outside))


def profiles_of(config: SelectionConfig, folder: Path, *, allow_outside: bool) -> Profiles:
    """Return the profile tables that `config` names, the built-in ones when it names none.

    Raises
    ------
    InputError
        For faults of the tables, or a path outside the folder.
    """
    named = config.profiles if config.profiles is not None else BUILTIN
    names = (named,) if isinstance(named, str) else named
    places = [
        name if name == BUILTIN else inside(folder, name, "profiles", allow_outside=allow_outside)
        for name in names
    ]
    return read_profiles(*places)


def assemble(
    config: SelectionConfig,
    tables: ClusterTables,
    profiles: Profiles,
    lengths: LengthSource | None = None,
) -> SelectionInstance:
    """Return the instance for tables already in memory, at whatever granularity they have.

    `lengths` gives the lengths of single answers of the tables' LLMs where they are known;
    otherwise, and where the configuration declares a distribution, that is taken.
    """
    nominal = None
    if config.robust is not None:
        plain = config.model_copy(update={"robust": None})
        nominal = assemble(plain, tables, profiles, lengths)
    tables = tables.restricted_to(pool_of(config.llms, tables))
    traffic = traffic_of(tables)
    catalogue = build_catalogue(config, tables, profiles, traffic)
    samples = samples_of(config, tables, profiles, traffic, lengths)
    wait_s = config.queue.wait_limit_s if config.queue else 0.0
    energy, delay = config.energy, config.delay
    return SelectionInstance(
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
        notes=tuple(_notes(config, tables, profiles, catalogue)),
        robust_quantile=config.robust.level if config.robust else None,
        nominal=nominal,
        profiles_sha256=profiles.digest,
        mixture=mixture_of(config),
        energy_largest=(energy.largest if energy else None) or 0,
        delay_statistic=delay.statistic,
        delay_level=delay.level,
        delay_counts=delay.counts,
        samples=None if samples is None else samples.later(wait_s),
        queue=config.queue,
        sets=config.sets,
    )


def _notes(
    config: SelectionConfig, tables: ClusterTables, profiles: Profiles, catalogue: Catalogue
) -> Iterator[str]:
    """Yield what a reader must know about the data."""
    if tables.synthetic:
        yield f"the outcomes are synthetic: {tables.provenance.get('title', 'no title')}"
    yield from accounts(catalogue, profiles)
    yield from notes_of(config)
    if any(expert.quality_factor < 1 for expert in catalogue.experts):
        yield "the accuracy kept by quantised weights is estimated, not measured on these prompts"
