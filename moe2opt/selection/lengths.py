"""Answers of every possible length: what quantiles, CVaR and queues are computed from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist

import numpy as np

from moe2opt.profiles import Profiles
from moe2opt.result import FloatArray, IntArray
from moe2opt.selection.catalogue import build_catalogue
from moe2opt.selection.costs import Traffic
from moe2opt.selection.measured.cells import Measured
from moe2opt.selection.outcomes.matrix import OutcomeMatrix
from moe2opt.selection.outcomes.partition import Split
from moe2opt.selection.outcomes.tables import ClusterTables
from moe2opt.selection.sections import Lengths, SelectionConfig

#: Seed of the draw of prompts that stand for a category with more of them.
_SEED = 0


@dataclass(frozen=True, slots=True, eq=False)
class LengthRows:
    """Prompts and answers that stand for the K categories, equally likely within each.

    Attributes
    ----------
    category
        ``(R,)`` category of each row.
    prompt_tokens
        ``(R,)`` prompt lengths.
    output_tokens
        ``(R, M)`` answer lengths of each LLM of the tables.
    comonotone
        Whether all lengths of a category rise along its rows.
    prompts
        Names of the prompts where rows are prompts; empty otherwise.
    """

    category: IntArray
    prompt_tokens: FloatArray
    output_tokens: FloatArray
    comonotone: bool
    prompts: tuple[str, ...] = ()


#: What knows the lengths of single answers by the LLMs of some tables.
LengthSource = Callable[[ClusterTables, Traffic], LengthRows]


@dataclass(frozen=True, eq=False)
class Samples:
    """Seconds of equally likely answers in each of K categories.

    Attributes
    ----------
    category
        ``(R,)`` category of each row.
    delay_s, busy_s
        ``(R, N)`` seconds until the answer is there, and of work on the server.
    shares
        ``(K,)`` share of the prompts.
    comonotone
        Whether all times of a category rise along its rows, so that quantiles and CVaR of sums
        are the sums of those of the parts.
    """

    category: IntArray
    delay_s: FloatArray
    busy_s: FloatArray
    shares: FloatArray
    comonotone: bool

    @cached_property
    def rows(self) -> tuple[IntArray, ...]:
        """Rows of each category."""
        return tuple(np.flatnonzero(self.category == k) for k in range(len(self.shares)))

    def later(self, wait_s: float) -> Samples:
        """Return the same answers, all of them that much later."""
        return replace(self, delay_s=self.delay_s + wait_s)


def statistic(values: FloatArray, kind: str, level: float | None) -> FloatArray:
    """Return mean, quantile or CVaR of equally likely values along the first axis.

    The quantile is the least value that is not exceeded with probability `level` or more; CVaR is
    the mean of the largest ``1 - level`` of the mass. All three rise with every single value.
    """
    if kind == "mean" or level is None:
        return np.asarray(values.mean(axis=0))
    count, ordered = len(values), np.sort(values, axis=0)
    if kind == "quantile":
        return np.asarray(ordered[max(math.ceil(level * count - 1e-9), 1) - 1])
    mass = (1 - level) * count
    full = min(math.floor(mass + 1e-9), count)
    total = ordered[count - full :].sum(axis=0)
    if mass - full > 1e-9:
        total = total + (mass - full) * ordered[count - full - 1]
    return np.asarray(total / max(mass, full))


def declared_rows(section: Lengths, traffic: Traffic) -> LengthRows:
    """Return the rows of a declared distribution around the mean lengths of each category."""
    factors = _factors(section)
    category = np.repeat(np.arange(len(traffic.categories)), len(factors))
    stretch = np.tile(factors, len(traffic.categories))
    return LengthRows(
        category=category,
        prompt_tokens=traffic.prompt_tokens[category],
        output_tokens=traffic.output_tokens[category] * stretch[:, None],
        comonotone=True,
    )


def observed_rows(
    outcomes: OutcomeMatrix, split: Split, traffic: Traffic, points: int
) -> LengthRows:
    """Return up to `points` prompts of each category from the training and validation parts.

    A length that is not known takes the LLM's mean in the category; a category without prompts is
    represented by its means.
    """
    learn = split.members("train", "validation")
    tokens = outcomes.filled_tokens(split)
    draw = np.random.default_rng(_SEED)
    parts = []
    for name in traffic.categories:
        own = learn[outcomes.category[learn] == name]
        parts.append(np.sort(draw.permutation(own)[:points]))
    prompts = np.concatenate(parts)
    category = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    empty = np.array([k for k, part in enumerate(parts) if not len(part)], dtype=np.int64)
    return LengthRows(
        category=np.concatenate([category, empty]),
        prompt_tokens=np.concatenate(
            [outcomes.prompt_tokens[prompts], traffic.prompt_tokens[empty]]
        ),
        # An answer has at least a token, also where a table counts none.
        output_tokens=np.maximum(
            np.concatenate([tokens[prompts], traffic.output_tokens[empty]]), 1.0
        ),
        comonotone=False,
        prompts=tuple(outcomes.prompts[p] for p in prompts) + ("",) * len(empty),
    )


def sample_answers(
    config: SelectionConfig,
    tables: ClusterTables,
    profiles: Profiles,
    traffic: Traffic,
    rows: LengthRows,
    measured: Measured | None = None,
) -> Samples:
    """Return the times of all experts at the lengths of `rows`, by the profiles' model."""
    single = Traffic(
        categories=tuple(traffic.categories[k] for k in rows.category),
        shares=np.full(len(rows.category), 1 / len(rows.category)),
        prompt_tokens=rows.prompt_tokens,
        output_tokens=rows.output_tokens,
        prompts=rows.prompts,
    )
    times = build_catalogue(config, tables, profiles, single, measured)
    return Samples(rows.category, times.delay_s, times.busy_s, traffic.shares, rows.comonotone)


def samples_of(
    config: SelectionConfig,
    tables: ClusterTables,
    profiles: Profiles,
    traffic: Traffic,
    lengths: LengthSource | None,
    measured: Measured | None = None,
) -> Samples | None:
    """Return the times of single answers where anything but their means is asked for."""
    last = config.all_answer and config.delay.limit_s is not None
    if not (config.delay.statistic != "mean" or last or config.queue):
        return None
    declared = config.lengths is not None and config.lengths.distribution is not None
    if declared or lengths is None:
        assert config.lengths is not None
        rows = declared_rows(config.lengths, traffic)
    else:
        rows = lengths(tables, traffic)
    return sample_answers(config, tables, profiles, traffic, rows, measured)


def times_of(config: SelectionConfig, mean_s: FloatArray, samples: Samples | None) -> FloatArray:
    """Return the ``(K, N)`` seconds that deadlines are compared with."""
    kind, level = config.delay.statistic, config.delay.level
    if samples is None or kind == "mean":
        return mean_s
    return np.stack([statistic(samples.delay_s[rows], kind, level) for rows in samples.rows])


def _factors(section: Lengths) -> FloatArray:
    """Return the lengths in units of their mean: midpoints of equal shares, their mean made 1."""
    if section.distribution == "constant":
        return np.ones(1)
    shares = (np.arange(section.points) + 0.5) / section.points
    if section.distribution == "exponential":
        raw = np.array([-math.log1p(-share) for share in shares])
    else:
        sigma = math.sqrt(math.log1p((section.cv or 0.0) ** 2))
        raw = np.array([math.exp(sigma * NormalDist().inv_cdf(share)) for share in shares])
    return np.asarray(raw / (math.fsum(raw) / len(raw)))
