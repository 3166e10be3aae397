"""What happens: the prompts of each day, how every LLM would answer them, what may be deployed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from moe2opt.canonical import FacilityProblem
from moe2opt.config import load
from moe2opt.replay.days.settings import DaysSettings
from moe2opt.replay.days.stream import Day
from moe2opt.result import FloatArray, InputError, IntArray
from moe2opt.selection.fields import parts_of
from moe2opt.selection.gated import observed_lengths
from moe2opt.selection.outcomes.matrix import OutcomeMatrix
from moe2opt.selection.question import GatedInstance, SelectionInstance
from moe2opt.selection.sections import LlmPool
from moe2opt.selection.sections.config import unusual
from moe2opt.source import source_of


@dataclass(frozen=True, eq=False)
class Stage:
    """What may be deployed on a day, and what it uses; nothing of how good it is.

    Attributes
    ----------
    instance
        The selection among the LLMs that are there, one row for each category.
    base
        Its facility problem; values and weights are replaced by what a policy believes.
    keys
        LLM, precision and server of each expert.
    columns
        ``(N,)`` column of each expert's LLM in the outcomes.
    """

    instance: SelectionInstance
    base: FacilityProblem
    keys: tuple[tuple[str, str, str], ...]
    columns: IntArray

    def problem(
        self,
        accuracy: FloatArray,
        shares: FloatArray | None = None,
        opening: FloatArray | None = None,
    ) -> FacilityProblem:
        """Return the day's problem for ``(K, M)`` accuracies.

        The ``(K,)`` shares of prompts are those that budgets count on unless others are given.
        """
        weights = self.base.weights if shares is None else shares
        return replace(self.base, values=self.values(accuracy), weights=weights, opening=opening)

    def values(self, accuracy: FloatArray) -> FloatArray:
        """Return ``(K, N)`` values of the experts, 0 where one may not serve."""
        own = accuracy[:, self.columns] * self.instance.factors
        return np.where(self.instance.barred, 0.0, np.clip(own, 0.0, 1.0))


@dataclass(frozen=True, eq=False)
class World:
    """A selection, its stream of days, and the prompts of each of them.

    Attributes
    ----------
    instance
        The configuration as it is without any day.
    days
        The stream.
    settings
        How the replay runs.
    allow_outside
        Whether paths may leave the folder of the configuration.
    """

    instance: GatedInstance
    days: tuple[Day, ...]
    settings: DaysSettings
    allow_outside: bool = False

    @property
    def outcomes(self) -> OutcomeMatrix:
        """Outcomes of all LLMs that could ever be deployed."""
        return self.instance.pool

    @cached_property
    def score(self) -> FloatArray:
        """``(P, M)`` scores; an unknown one takes the LLM's mean in the category."""
        own = self.outcomes
        means = own.category_means(own.score, np.arange(len(own.prompts)))
        return np.where(own.observed, own.score, means[own.category_of])

    @cached_property
    def parts(self) -> tuple[IntArray, ...]:
        """The prompts of the history, and then those of each day, drawn at random."""
        order = np.random.default_rng(self.settings.seed).permutation(len(self.outcomes.prompts))
        first = max(1, round(self.settings.history * len(order)))
        days = np.array_split(order[first:], len(self.days))
        if not all(len(day) for day in days):
            raise InputError(f"days: {len(self.days)} days for {len(order) - first} prompts")
        return (order[:first], *days)

    def mix(self, day: int) -> FloatArray:
        """Return the ``(K,)`` shares of the categories among a day's prompts."""
        own = self.outcomes.category_of[self.parts[day + 1]]
        return np.bincount(own, minlength=len(self.outcomes.categories)) / len(own)

    def means(self, day: int) -> FloatArray:
        """Return the ``(K, M)`` mean scores on a day's prompts, 0 in categories without any."""
        prompts = self.parts[day + 1]
        category = self.outcomes.category_of[prompts]
        total = np.zeros((len(self.outcomes.categories), self.score.shape[1]))
        np.add.at(total, category, self.score[prompts])
        count = np.bincount(category, minlength=len(total))[:, None]
        return np.divide(total, count, out=np.zeros_like(total), where=count > 0)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """What may be deployed on each day.

        Raises
        ------
        InputError
            When a key of the stream or what it asks for is not what a replay follows.
        """
        known: dict[tuple[tuple[str, ...], ...], Stage] = {}
        found = []
        for number, day in enumerate(self.days):
            key = (day.offered, day.overrides)
            if key not in known:
                try:
                    known[key] = self._stage(day)
                except InputError as error:
                    raise InputError(f"day {number}: {error}") from error
            found.append(known[key])
        return tuple(found)

    @cached_property
    def currency(self) -> str | None:
        """The currency of all days; None where some have none or another."""
        budgets = [stage.instance.money for stage in self.stages]
        known = {None if own is None else own.currency for own in budgets}
        return known.pop() if len(known) == 1 else None

    def _stage(self, day: Day) -> Stage:
        instance = self._on(day.overrides)
        offered = [llm.name for llm in instance.tables.llms if llm.name in day.offered]
        if not offered:
            raise InputError("none of the LLMs that are there may be deployed")
        if asked := ", ".join(unusual(instance.config)):
            raise InputError(f"replay: days follow sums over experts only, not {asked}")
        if (money := instance.config.money) is not None and money.worth_of_correct is not None:
            raise InputError("money.worth_of_correct: policies follow accuracy, not what it brings")
        config = instance.config.model_copy(
            update={"experts": None, "tables": "-", "objective": None, "llms": LlmPool()}
        )
        tables = instance.tables.restricted_to(offered)
        lengths = observed_lengths(config, instance.outcomes, instance.split)
        parts = parts_of(config, tables, instance.profiles, lengths, instance.measured)
        own = SelectionInstance(**parts)
        asked = ", ".join(unusual(instance.config))
        if asked or own.compiled.problem is not own.compiled.base:
            raise InputError(
                f"replay: days follow sums over experts only, not {asked or 'what is none'}"
            )
        columns = self.outcomes.columns([expert.llm for expert in own.experts])
        keys = tuple((e.llm, e.precision, e.server) for e in own.experts)
        return Stage(own, own.compiled.base, keys, columns)

    def _on(self, overrides: Sequence[str]) -> GatedInstance:
        """Return the configuration with a day's overrides."""
        source = source_of(self.instance)
        if not overrides:
            return self.instance
        if source is None:
            raise InputError("days: keys change, so the instance must come from a file (mo.load)")
        texts = [*source.overrides, *overrides]
        own: Any = load(source.path, source.scenario, texts, allow_outside=self.allow_outside)
        digest = self.instance.outcomes.digest
        if not isinstance(own, GatedInstance) or own.outcomes.digest != digest:
            raise InputError(f"{overrides[0].split('=')[0]}: may not change the outcomes")
        ours, theirs = self.instance.config, own.config
        if (ours.gate, ours.routing.days) != (theirs.gate, theirs.routing.days):
            raise InputError("gate and routing.days: may not change from day to day")
        return own
