"""From configuration and tables to the fields of a case, and what a reader must know of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moe2opt.profiles import Profiles
from moe2opt.selection.case import Mixture, Vote
from moe2opt.selection.catalogue import (
    Catalogue,
    accounts,
    build_catalogue,
    deadlines,
    measured_words,
    pool_of,
)
from moe2opt.selection.costs import traffic_of
from moe2opt.selection.lengths import LengthSource, samples_of, times_of
from moe2opt.selection.measured.cells import Measured
from moe2opt.selection.outcomes.tables import ClusterTables
from moe2opt.selection.sections import SelectionConfig
from moe2opt.selection.sections.config import notes_of


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
        delay_scope="everywhere" if config.all_answer else delay.scope,
        max_experts=config.max_experts,
        notes=tuple(_notes(config, tables, profiles, catalogue, measured)),
        robust_quantile=config.robust.level if config.robust else None,
        profiles_sha256=profiles.digest,
        mixture=_mixture_of(config),
        vote=Vote(config.vote.weights, config.vote.pool) if config.objective == "vote" else None,
        energy_largest=(energy.largest if energy else None) or 0,
        delay_statistic=delay.statistic,
        delay_level=delay.level,
        delay_counts="all" if config.all_answer else delay.counts,
        samples=None if samples is None else samples.later(wait_s),
        queue=config.queue,
        sets=config.sets,
        measured=measured,
        money=config.money,
        price=None if config.money is None else catalogue.money,
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
    yield from _foreign_words(catalogue)
    placed = {expert.llm for expert in catalogue.experts}
    for llm in tables.llms:
        if llm.name not in placed:
            yield f"{llm.name} is not offered: no server may hold it"
    if any(expert.quality_factor < 1 for expert in catalogue.experts):
        yield "the accuracy kept by quantised weights is estimated, not measured on these prompts"


def _foreign_words(catalogue: Catalogue) -> Iterator[str]:
    """Yield what nobody knows of LLMs behind an API."""
    told = [e.basis.partition("not known: ")[2] for e in catalogue.experts]
    for name in ("seconds", "joules", "price"):
        count = sum(name in words for words in told)
        if count:
            behind = "an LLM" if count == 1 else f"{count} LLMs"
            yield f"{name} of {behind} behind an API: what is not known counts as 0"


def _mixture_of(config: SelectionConfig) -> Mixture | None:
    """Return how experts share prompts; the best one alone is no mixture."""
    if not config.mixes:
        return None
    k = config.answering if config.objective == "top_k" else None
    return None if k == 1 else Mixture(config.mixture.temperature, k)
