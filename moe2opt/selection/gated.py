"""A case whose quality comes from a trained gate, one row of the objective per prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from moe2opt import progress
from moe2opt.profiles import Profiles
from moe2opt.result import BoolArray, FloatArray, InputError, IntArray
from moe2opt.schema.frames import LARGEST_CELLS
from moe2opt.selection.case import Case, Scored
from moe2opt.selection.catalogue import Expert, build_catalogue, check_holders
from moe2opt.selection.costs import Traffic
from moe2opt.selection.fields import parts_of
from moe2opt.selection.gate.model import Gate, exists, load_gate
from moe2opt.selection.gate.settings import TORCH_ONLY, GateSettings
from moe2opt.selection.gate.train import Listener, train_gate
from moe2opt.selection.lengths import LengthRows, LengthSource, observed_rows
from moe2opt.selection.measured.cells import bind
from moe2opt.selection.measured.table import MeasuredTable
from moe2opt.selection.outcomes.files import with_hint
from moe2opt.selection.outcomes.matrix import OutcomeMatrix
from moe2opt.selection.outcomes.partition import Split
from moe2opt.selection.outcomes.tables import ClusterTables
from moe2opt.selection.sections import Lengths, LlmPool, SelectionConfig

#: Decimals of a score. Coarser than what different linear algebra libraries disagree about, so that
#: a certificate made on one machine belongs to the same problem on another.
SCORE_DECIMALS = 6


#: What is said where a vote knows only who is right.
UNKNOWN_ANSWERS = (
    "the outcomes have no table `answers`: wrong answers are taken to agree and win ties, so the "
    "share of correct votes is a lower bound"
)

#: What is said where scores are not those of the most probable answers.
MOST_PROBABLE = (
    "on {:.1f} % of the outcomes the score is not that of the LLM's most probable answer: pools go "
    "by log-probabilities, rules for single LLMs by scores"
)


@dataclass(frozen=True, eq=False, repr=False)
class GatedCase(Case):
    """A case in which a trained gate routes every single prompt.

    The objective is the mean over prompts of the highest score of a deployed expert that is in
    time: monotone and submodular in the deployed set. With a `mixture` or `vote` it is neither.

    Attributes
    ----------
    config, profiles
        What the case was built from.
    outcomes
        Outcome matrix of all its LLMs; the pool is that of `tables`.
    split
        Which part of the prompts is what.
    gate_folder
        Where the trained gate is kept.
    part
        Parts of the prompts that the objective averages over.
    """

    config: SelectionConfig = field(kw_only=True)
    profiles: Profiles = field(kw_only=True)
    outcomes: OutcomeMatrix = field(kw_only=True)
    split: Split = field(kw_only=True)
    gate_folder: Path = field(kw_only=True)
    part: tuple[str, ...] = field(default=("select",), kw_only=True)

    @property
    def gate_settings(self) -> GateSettings:
        """How the configuration wants its gate trained."""
        return self.config.gate.settings()

    @cached_property
    def gate(self) -> Gate:
        """The gate of the folder, or one trained now where there is none.

        Raises
        ------
        InputError
            When the stored gate was trained on other data or in another way.
        """
        if not exists(self.gate_folder):
            progress.logger.info(
                f"No gate in {self.gate_folder.name}: training one (moe2opt gate train keeps it)"
            )
            return _trained(self.outcomes, self.split, self.gate_settings, self.offered)
        gate = load_gate(self.gate_folder)
        self._check_gate(gate)
        return gate

    def train(self, on_step: Listener | None = None) -> Gate:
        """Train the gate anew, on all LLMs of the matrix."""
        return train_gate(
            self.outcomes, self.split, self.gate_settings, offered=self.offered, on_step=on_step
        )

    @property
    def offered(self) -> tuple[str, ...]:
        """Names of the LLMs that may be deployed."""
        return tuple(llm.name for llm in self.tables.llms)

    @cached_property
    def pool(self) -> OutcomeMatrix:
        """The matrix of the LLMs that may be deployed."""
        return self.outcomes.restricted_to([llm.name for llm in self.tables.llms])

    @cached_property
    def expert_scores(self) -> FloatArray:
        """``(P, N)`` score of every expert on every prompt, precision included, deadlines not."""
        return self.scores_by(self.gate)

    @cached_property
    def expert_values(self) -> FloatArray:
        """``(P, N)`` scores, less the price of an answer where that counts."""
        if self.toll is None:
            return self.expert_scores
        return self.expert_scores - self.toll[self.outcomes.category_of]

    def scores_by(self, gate: Gate) -> FloatArray:
        """Return ``(P, N)`` scores by any gate that knows the pool's LLMs."""
        place = {name: m for m, name in enumerate(gate.llms)}
        columns = [place[llm.name] for llm in self.tables.llms]
        scores = gate.scores(self.outcomes.vectors, self.outcomes.category)[:, columns]
        return np.round(scores, SCORE_DECIMALS)[:, self.model_of] * self.factors

    @cached_property
    def runs(self) -> FloatArray:
        """``(K, M)`` prompts of each category that the gate saw each LLM answer."""
        learn = self.split.members("train", "validation")
        runs = np.zeros((len(self.categories), len(self.pool.llms)))
        np.add.at(runs, self.pool.category_of[learn], self.pool.observed[learn].astype(np.float64))
        return runs

    @cached_property
    def may_serve(self) -> BoolArray:
        """``(P, N)`` whether the expert is in time for the prompt and was tried in its category."""
        return ~self.barred[self.outcomes.category_of]

    def members(self) -> IntArray:
        """Return the prompts that the objective averages over."""
        return self.split.members(*self.part)

    def on_part(self, *part: str) -> Self:
        """Return the case whose objective averages over other parts of the prompts."""
        other = replace(self, part=part)
        kept = ("gate", "pool", "expert_scores", "expert_values", "may_serve", "factors")
        for name in kept:
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other

    @cached_property
    def scored(self) -> Scored:
        """Rows of the objective, one per prompt: values, weights, and who may serve."""
        return self.scored_on(self.members())

    def scored_on(self, prompts: IntArray) -> Scored:
        """Return what the rows of the objective would be on other prompts."""
        allowed = self.may_serve[prompts]
        if self.vote is not None:  # what a set can get right at best: somebody is right
            values = self._may_win(prompts)[:, self.model_of].astype(np.float64)
        else:
            values = np.where(allowed, np.maximum(self.expert_values[prompts], 0.0), 0.0)
        return Scored(values, np.full(len(prompts), 1 / len(prompts)), allowed)

    def _may_win(self, prompts: IntArray) -> BoolArray:
        """Return ``(P, M)`` LLMs of which a set that is right together has one at least.

        A vote needs one that is right. A pool may be right where none of its LLMs is, but one of
        them prefers the right answer to any other that we name: the one that fewest can beat.
        """
        assert self.vote is not None
        if self.vote.pool == "answers":
            return np.asarray(self.pool.score[prompts] == 1)
        assert self.pool.margins is not None
        margins = self.pool.margins[prompts]
        level = margins >= 0
        able = np.where(np.isnan(margins).all(axis=1), level.shape[1] + 1, level.sum(axis=1))
        hardest = able.argmin(axis=1)
        return np.asarray(level[np.arange(len(prompts)), :, hardest])

    @property
    def origin(self) -> dict[str, Any]:
        """What the result's provenance records: data, split and gate."""
        known = {
            **super().origin,
            "outcomes": self.outcomes.provenance,
            "split": self.split.record(),
            "selected_on": list(self.part),
        }
        if self.vote is not None:
            return known
        record = self.gate.record
        kept = ("settings", "data_sha256", "versions", "measures")
        return known | {"gate": {name: record[name] for name in kept if name in record}}

    @property
    def rows_words(self) -> str:
        """What the objective averages over, in words."""
        return f"{len(self.members())} prompts ({', '.join(self.part)})"

    def realised(
        self, prompts: IntArray, experts: IntArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return ``(len(prompts), N)`` seconds, joules and money of the answers that were given.

        They are those of the measured table for the prompt, or else for its category; where it is
        silent, the profiles' model is applied to the length of each single answer. Columns of
        experts that were not asked for are NaN.
        """
        count, used = len(prompts), np.unique(self.model_of[experts])
        pool = self.tables.restricted_to([self.tables.llms[m].name for m in used])
        traffic = Traffic(
            categories=tuple(str(name) for name in self.outcomes.category[prompts]),
            shares=np.full(count, 1 / count),
            prompt_tokens=self.outcomes.prompt_tokens[prompts],
            output_tokens=self.pool.filled_tokens(self.split)[np.ix_(prompts, used)],
            prompts=tuple(self.outcomes.prompts[p] for p in prompts),
        )
        plain = self.config.model_copy(update={"robust": None})
        catalogue = build_catalogue(plain, pool, self.profiles, traffic, self.measured)
        columns = np.flatnonzero(np.isin(self.model_of, used))
        found = np.full((3, count, len(self.experts)), np.nan)
        found[:, :, columns] = catalogue.delay_s, catalogue.energy_j, catalogue.money
        return found[0], found[1], found[2]

    def _check_gate(self, gate: Gate) -> None:
        """Raise unless the stored gate is what this configuration would train."""
        folder, again = self.gate_folder.name, "run `moe2opt gate train` again"
        if gate.record.get("data_sha256") != self.outcomes.digest:
            raise InputError(f"gate.folder: {folder} was trained on other outcomes; {again}")
        if gate.record.get("split") != self.split.record():
            raise InputError(f"gate.folder: {folder} was trained on another split; {again}")
        stored, asked = gate.record.get("settings", {}), self.gate_settings
        unused = TORCH_ONLY if stored.get("backend") == "sklearn" else ()
        for name in (f.name for f in fields(asked) if f.name not in unused):
            wanted = getattr(asked, name)
            if stored.get(name) != wanted and not (name == "backend" and wanted == "auto"):
                raise InputError(
                    f"gate.{name}: {folder} was trained with {stored.get(name)!r}, the file says "
                    f"{wanted!r}; {again}"
                )
        unknown = [llm.name for llm in self.tables.llms if llm.name not in gate.llms]
        if unknown:
            raise InputError(f"gate.folder: {folder} does not know LLM '{unknown[0]}'; {again}")


def gated_parts(
    config: SelectionConfig,
    outcomes: OutcomeMatrix,
    split: Split,
    profiles: Profiles,
    measured: MeasuredTable | None = None,
) -> dict[str, Any]:
    """Return the fields of a gated case for data in memory, `nominal` and folder excepted."""
    assert config.experts is not None
    for part in ("validation", "select"):
        if not len(split.members(part)):
            raise InputError(f"splits.{part}: too few prompts, the part is empty")
    _check_names(config, outcomes)
    learn = {int(p): str(outcomes.category[p]) for p in split.members("train", "validation")}
    prompts = {name: learn.get(p) for p, name in enumerate(outcomes.prompts)}
    bound = None
    if measured is not None:
        bound = bind(measured, config, outcomes.names, outcomes.categories, prompts)
    able, left_out = _deployable(config, outcomes, split)
    if config.objective == "vote":
        left_out += _check_votes(config, outcomes.restricted_to(able))
    tables = outcomes.restricted_to(able).category_tables(split)
    pool = config.experts
    llms = LlmPool(max_params_b=pool.max_params_b, include=pool.include, exclude=pool.exclude)
    pooled = config.model_copy(update={"llms": llms})
    try:
        lengths = observed_lengths(config, outcomes, split)
        own = parts_of(pooled, tables, profiles, lengths, bound)
    except InputError as error:
        raise InputError(str(error).replace("llms", "experts", 1)) from error
    count, experts = len(outcomes.prompts), len(own["experts"])
    if count * experts > LARGEST_CELLS:
        raise InputError(
            f"experts: {count:,} prompts x {experts:,} experts are more "
            f"than {LARGEST_CELLS:,} scores; fewer LLMs, precisions or servers would fit"
        )
    if config.objective == "vote" and config.vote.pool != "answers":
        _check_precisions(own["experts"])
    own["notes"] = (*own["notes"], *outcomes.notes, *left_out)
    data = {"config": config, "profiles": profiles, "outcomes": outcomes, "split": split}
    return own | data


def observed_lengths(
    config: SelectionConfig, outcomes: OutcomeMatrix, split: Split
) -> LengthSource:
    """Return what finds the lengths of single answers by the LLMs of some tables."""
    points = (config.lengths or Lengths()).points

    def rows(tables: ClusterTables, traffic: Traffic) -> LengthRows:
        own = outcomes.restricted_to([llm.name for llm in tables.llms])
        return observed_rows(own, split, traffic, points)

    return rows


def _check_names(config: SelectionConfig, outcomes: OutcomeMatrix) -> None:
    assert config.experts is not None
    for key in ("include", "exclude"):
        for name in getattr(config.experts, key) or ():
            if name not in outcomes.names:
                hint = with_hint(name, outcomes.names)
                raise InputError(f"experts.{key}: '{name}' is not in the outcomes{hint}")
    check_holders(config, outcomes.names, "outcomes")


def _check_votes(config: SelectionConfig, outcomes: OutcomeMatrix) -> list[str]:
    """Raise unless it is known what each LLM answers; return notes about it."""
    if config.vote.pool != "answers":
        assert outcomes.margins is not None
        margins = outcomes.margins
        best = np.where(np.isnan(margins), np.inf, margins).min(axis=2)
        unlike = ((best > 0) != (outcomes.score == 1))[outcomes.observed].mean()
        return [MOST_PROBABLE.format(100 * unlike)] if unlike else []
    between = (outcomes.score != 0) & (outcomes.score != 1) & outcomes.observed
    if between.any():
        p, m = np.argwhere(between)[0]
        raise InputError(
            f"objective: a vote needs answers that are right or wrong; prompt "
            f"'{outcomes.prompts[p]}', LLM '{outcomes.names[m]}': score {outcomes.score[p, m]:g}"
        )
    return [] if outcomes.answers is not None else [UNKNOWN_ANSWERS]


def _check_precisions(experts: Sequence[Expert]) -> None:
    """Raise where a precision loses answers: what it does to log-probabilities is unknown."""
    for expert in experts:
        if expert.quality_factor < 1:
            raise InputError(
                f"vote.pool: precision '{expert.precision}' of '{expert.llm}' keeps the share "
                f"{expert.quality_factor:g} of right answers, and that says nothing about "
                "log-probabilities; give those of that precision, and precisions.quality_factor: 1"
            )


def _deployable(
    config: SelectionConfig, outcomes: OutcomeMatrix, split: Split
) -> tuple[list[str], list[str]]:
    """Return the LLMs that can be deployed and judged, and notes about the others."""
    learn = split.members("train")
    runs = outcomes.observed[learn].sum(axis=0)
    lengths = (~np.isnan(outcomes.output_tokens[split.members("train", "validation")])).sum(axis=0)
    pools = config.objective == "vote" and config.vote.pool != "answers"
    if pools and outcomes.margins is None:
        raise InputError("vote.pool: the outcomes have no table `log_probabilities`")
    able, notes = [], []
    for m, llm in enumerate(outcomes.llms):
        behind = any(s.api and (s.llms is None or llm.name in s.llms) for s in config.servers)
        if not behind and (not llm.open_weights or np.isnan(llm.params_total_b)):
            notes.append(f"{llm.name} is not offered: no open weights or unknown size")
        elif pools and np.isnan(outcomes.margins[:, m]).all():  # type: ignore[index]
            notes.append(f"{llm.name} is not offered: no log-probabilities")
        elif not runs[m] or not lengths[m]:
            notes.append(f"{llm.name} is not offered: no outcome or length in the training part")
        else:
            able.append(llm.name)
    return able, notes


#: Gates trained in this process, so that the scenarios of a file train theirs once.
_GATES: dict[tuple[Any, ...], Gate] = {}
_MOST_GATES = 8


def _trained(
    outcomes: OutcomeMatrix, split: Split, settings: GateSettings, offered: tuple[str, ...]
) -> Gate:
    """Train a gate once for all scenarios of a file."""
    key = (outcomes.digest, split.record()["sha256"], settings, offered)
    if key not in _GATES:
        if len(_GATES) >= _MOST_GATES:
            _GATES.clear()
        _GATES[key] = train_gate(outcomes, split, settings, offered=offered)
    return _GATES[key]
