"""The outcome matrix: how well each LLM answered each single prompt."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.selection.outcomes.partition import Split
from moe2opt.selection.outcomes.shrink import pooled_ratio
from moe2opt.selection.outcomes.tables import ClusterTables, Llm


@dataclass(frozen=True, eq=False)
class OutcomeMatrix:
    """Scores of M LLMs on P prompts, with what a gate may know about a prompt.

    Attributes
    ----------
    prompts
        Names of the P prompts.
    category
        ``(P,)`` application category.
    prompt_tokens
        ``(P,)`` prompt lengths in tokens.
    llms
        The M models; ``params_total_b`` is NaN where unknown, and such an LLM cannot be deployed.
    score
        ``(P, M)`` quality of the answer within 0..1, NaN where the LLM was not run.
    output_tokens
        ``(P, M)`` answer lengths in tokens, NaN where unknown.
    vectors
        ``(P, D)`` embedding of each prompt; D may be 0.
    answers
        ``(P, M)`` number of the answer that was given, negative where unknown; None without votes.
    margins
        ``(P, M, A)`` log-probability of the right answer less that of each other one, in nats; NaN
        where there is no such answer, or none that is known; None without such a table.
    notes
        What was assumed while reading.
    provenance
        Where the data come from.
    """

    prompts: tuple[str, ...]
    category: npt.NDArray[np.str_]
    prompt_tokens: FloatArray
    llms: tuple[Llm, ...]
    score: FloatArray
    output_tokens: FloatArray
    vectors: FloatArray
    answers: IntArray | None = None
    margins: FloatArray | None = None
    notes: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of the LLMs."""
        return [llm.name for llm in self.llms]

    @property
    def observed(self) -> BoolArray:
        """``(P, M)`` whether the LLM was run on the prompt."""
        return ~np.isnan(self.score)

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """The K categories, sorted."""
        return tuple(str(name) for name in np.unique(self.category))

    @cached_property
    def category_of(self) -> IntArray:
        """``(P,)`` index of each prompt's category."""
        return np.searchsorted(np.array(self.categories), self.category).astype(np.int64)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that a gate is trained on."""
        known = hashlib.sha256()
        for part in (self.prompts, tuple(self.category.tolist()), tuple(self.names)):
            known.update("\0".join(part).encode())
        for array in (self.score, self.vectors):
            known.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
        return known.hexdigest()

    def columns(self, names: list[str]) -> IntArray:
        """Return the columns of the named LLMs."""
        place = {name: m for m, name in enumerate(self.names)}
        return np.array([place[name] for name in names], dtype=np.int64)

    def restricted_to(self, names: list[str]) -> OutcomeMatrix:
        """Return the matrix of the named LLMs, in that order."""
        index = self.columns(names)
        return replace(
            self,
            llms=tuple(self.llms[m] for m in index),
            score=self.score[:, index],
            output_tokens=self.output_tokens[:, index],
            answers=None if self.answers is None else self.answers[:, index],
            margins=None if self.margins is None else self.margins[:, index],
        )

    def filled_tokens(self, split: Split) -> FloatArray:
        """Return ``(P, M)`` answer lengths; an unknown one takes the LLM's mean in the category.

        Means are over the training and validation parts.
        """
        learn = split.members("train", "validation")
        means = self.category_means(self.output_tokens, learn)[self.category_of]
        return np.where(np.isnan(self.output_tokens), means, self.output_tokens)

    def category_tables(self, split: Split) -> ClusterTables:
        """Return tables with one row per category: lengths and shares for budgets.

        Training and validation prompts together count as training. Scores between 0 and 1 are
        summed and rounded in the counts of correct answers, not in the accuracies.
        """
        third = np.maximum(split.part - 1, 0)
        place = (third, self.category_of)
        shape = (3, len(self.categories), len(self.llms))
        run, correct = np.zeros(shape), np.zeros(shape)
        np.add.at(run, place, self.observed.astype(np.float64))
        np.add.at(correct, place, np.nan_to_num(self.score))
        prompts = np.zeros(shape[:2], dtype=np.int64)
        np.add.at(prompts, place, 1)
        lengths, learn = self.prompt_tokens[:, None], split.members("train", "validation")
        return ClusterTables(
            llms=self.llms,
            clusters=self.categories,
            categories=self.categories,
            prompts=prompts,
            run=run.astype(np.int64),
            correct=np.rint(correct).astype(np.int64),
            accuracy=np.clip(pooled_ratio(correct[0], run[0], self.categories), 0, 1),
            prompt_tokens=self.category_means(lengths, learn)[:, 0],
            output_tokens=self.category_means(self.output_tokens, learn),
            provenance={**self.provenance, "split": split.record()},
        )

    def category_means(self, values: FloatArray, prompts: IntArray) -> FloatArray:
        """Return ``(K, columns)`` means over some prompts, NaN left out.

        A column without values in a category takes its mean over all.
        """
        totals = np.zeros((len(self.categories), values.shape[1]))
        counts = np.zeros_like(totals)
        np.add.at(totals, self.category_of[prompts], np.nan_to_num(values[prompts]))
        np.add.at(counts, self.category_of[prompts], ~np.isnan(values[prompts]))
        with np.errstate(invalid="ignore"):
            return pooled_ratio(totals, counts, self.categories)
