"""Instances: cases that compile themselves, read solutions back as plans, and judge plans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeVar

from moe2opt.present import Measure
from moe2opt.profiles import BUILTIN, Profiles, read_profiles
from moe2opt.result import InputError, IntArray, Result
from moe2opt.schema import inside
from moe2opt.selection import judge
from moe2opt.selection.case import Case
from moe2opt.selection.catalogue import check_holders
from moe2opt.selection.compile import compile_case, completed
from moe2opt.selection.constraints.compiled import Compiled
from moe2opt.selection.fields import parts_of
from moe2opt.selection.gated import GatedCase, gated_parts
from moe2opt.selection.lengths import LengthSource
from moe2opt.selection.measured.cells import bind
from moe2opt.selection.measured.table import MeasuredTable, read_measured
from moe2opt.selection.outcomes.folder import Assumed, read_outcome_folder
from moe2opt.selection.outcomes.matrix import OutcomeMatrix
from moe2opt.selection.outcomes.partition import split_four
from moe2opt.selection.outcomes.tables import ClusterTables, read_tables
from moe2opt.selection.plan import clusters, prompts, robust
from moe2opt.selection.plan.model import GatedPlan, SelectionPlan
from moe2opt.selection.sections import SelectionConfig
from moe2opt.selection.sections.config import unusual

PlanT = TypeVar("PlanT", bound="SelectionPlan | GatedPlan")
InstanceT = TypeVar("InstanceT", bound="SelectionInstance")


@dataclass(frozen=True, eq=False, repr=False)
class SelectionInstance(Case):
    """Which LLM experts to deploy on which server, and who answers which prompts.

    Attributes are those of `moe2opt.selection.case.Case`.
    """

    nominal: SelectionInstance | None = None

    @cached_property
    def compiled(self) -> Compiled:
        """The canonical problem, the budgets, and the names of rows and covers."""
        return compile_case(self)

    def problem(self) -> Any:
        """Return the canonical problem; the same object at every call.

        A facility problem, or a monotone one where that does not do; see `compile_case`. Its
        first N variables say which experts are deployed.
        """
        return self.compiled.problem

    def completed(self, x: IntArray) -> IntArray:
        """Return the solution of the canonical problem that deploys the experts of ``(N,)`` `x`."""
        return completed(self, self.compiled, x)

    def decode(self, x: IntArray) -> SelectionPlan:
        """Return the plan that the 0/1 vector `x` stands for."""
        return self._with_margins(clusters.decode(self, self.compiled, x), x)

    def _with_margins(self, plan: PlanT, x: IntArray) -> PlanT:
        if self.nominal is None:
            return plan
        return robust.with_margins(
            plan, self, self.compiled, self.nominal, self.nominal.compiled, x
        )

    def with_nominal(self, plan: SelectionPlan, nominal: Result) -> SelectionPlan:
        """Return the plan with the price of robustness, from a solution of `self.nominal`."""
        return robust.compared(plan, self, self.compiled, nominal)

    def completed_plan(self, plan: SelectionPlan, stored: Any) -> SelectionPlan:
        """Return a rebuilt plan with what a stored one tells of the problem without robustness."""
        if self.nominal is None:
            return plan
        return robust.compared_again(plan, self, self.compiled, self.nominal.problem(), stored)

    def evaluate(self, plan: SelectionPlan) -> float:
        """Return the expected share of correct answers under the plan's own routing table.

        Where experts share prompts, under the weights of the plan's experts.
        """
        return judge.evaluate(self, plan)

    def check(self, plan: SelectionPlan) -> list[str]:
        """Return the violated requirements in words; empty for a valid plan."""
        return judge.check(self, self.compiled, plan)

    @property
    def measure(self) -> Measure:
        """Sense and unit of the objective: a share that is to be large."""
        if self.toll is not None:
            words = "expected share of correct answers, less what they cost"
            return Measure("maximize", "share of correct answers", words)
        return Measure("maximize", "share of correct answers", "expected share of correct answers")

    def row_names(self) -> list[str]:
        """Return the name (with unit) of each budget row."""
        return list(self.compiled.row_names)

    def cover_names(self) -> list[str]:
        """Return the name of each cover row."""
        return list(self.compiled.cover_names)


@dataclass(frozen=True, eq=False, repr=False)
class GatedInstance(GatedCase, SelectionInstance):
    """Which LLM experts to deploy when a trained gate routes every single prompt.

    Attributes are those of `moe2opt.selection.gated.GatedCase`.
    """

    nominal: GatedInstance | None = None

    def decode(self, x: IntArray) -> GatedPlan:  # type: ignore[override]
        """Return the plan that the 0/1 vector `x` stands for."""
        return self._with_margins(prompts.decode(self, self.compiled, x), x)

    def evaluate(self, plan: GatedPlan) -> float:  # type: ignore[override]
        """Return the objective of the plan's experts over the prompts."""
        return judge.evaluate_gated(self, plan)

    def check(self, plan: GatedPlan) -> list[str]:  # type: ignore[override]
        """Return the violated requirements in words; empty for a valid plan."""
        return judge.check_gated(self, self.compiled, plan)

    def require_sums(self, verb: str) -> None:
        """Raise unless the objective is the best expert's, and every budget a sum over experts."""
        if self.compiled.problem is not self.compiled.base:
            asked = ", ".join(unusual(self.config))
            raise InputError(f"{verb}: compares deployments on sums over experts only, not {asked}")


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
        return _build_gated(config, folder, allow_outside=allow_outside)
    tables = read_tables(inside(folder, config.tables, "tables", allow_outside=allow_outside))
    profiles = _profiles_of(config, folder, allow_outside=allow_outside)
    table = _measured_of(config, folder, allow_outside=allow_outside)
    return assemble(config, tables, profiles, measured=table)


def _measured_of(
    config: SelectionConfig, folder: Path, *, allow_outside: bool
) -> MeasuredTable | None:
    """Return the measured table that `config` names, None when it names none."""
    section = config.measured_section
    if section is None:
        return None
    key = "measured" if isinstance(config.measured, str) else "measured.file"
    path = inside(folder, section.file, key, allow_outside=allow_outside)
    try:
        return read_measured(path)
    except InputError as error:
        raise InputError(f"{key}: {error}") from error


def _profiles_of(config: SelectionConfig, folder: Path, *, allow_outside: bool) -> Profiles:
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
    measured: MeasuredTable | None = None,
) -> SelectionInstance:
    """Return the instance for tables already in memory, at whatever granularity they have.

    `lengths` gives the lengths of single answers of the tables' LLMs where they are known;
    otherwise, and where the configuration declares a distribution, that is taken.
    """
    names = [llm.name for llm in tables.llms]
    check_holders(config, names, "tables")
    bound = None
    if measured is not None:
        bound = bind(measured, config, names, sorted(set(tables.categories)), {})

    def made(config: SelectionConfig, nominal: SelectionInstance | None) -> SelectionInstance:
        own = parts_of(config, tables, profiles, lengths, bound)
        return SelectionInstance(**own, nominal=nominal)

    return _with_nominal(config, made)


def _with_nominal(
    config: SelectionConfig, made: Callable[[SelectionConfig, InstanceT | None], InstanceT]
) -> InstanceT:
    """Return the instance; beside it the one without robustness where budgets are robust."""
    if config.robust is None:
        return made(config, None)
    return made(config, made(config.model_copy(update={"robust": None}), None))


def _build_gated(config: SelectionConfig, folder: Path, *, allow_outside: bool) -> GatedInstance:
    """Read the outcome matrix that `config` names and return the instance.

    Raises
    ------
    InputError
        For a broken folder, unknown names, or a path outside the folder of the file.
    """
    experts = config.experts
    assert experts is not None
    source = inside(folder, experts.outcomes, "experts.outcomes", allow_outside=allow_outside)
    features: str | Path | None = experts.features
    if features is None and config.objective == "vote":
        features = "none"
    elif experts.features not in (None, "text", "none"):
        key, name = "experts.features", str(experts.features)
        features = inside(folder, name, key, allow_outside=allow_outside)
    assumed = Assumed(experts.assumed_prompt_tokens, experts.assumed_output_tokens)
    try:
        outcomes = _read(source, features, assumed, _stamp(source, features))
    except InputError as error:
        raise InputError(f"experts.outcomes: {error}") from error
    split = split_four(outcomes.category, config.splits.shares, config.splits.seed)
    profiles = _profiles_of(config, folder, allow_outside=allow_outside)
    table = _measured_of(config, folder, allow_outside=allow_outside)
    kept = config.gate.folder or f"{config.name}.gate"
    gate_folder = inside(folder, kept, "gate.folder", allow_outside=allow_outside)

    def made(config: SelectionConfig, nominal: GatedInstance | None) -> GatedInstance:
        own = gated_parts(config, outcomes, split, profiles, table)
        return GatedInstance(**own, nominal=nominal, gate_folder=gate_folder)

    return _with_nominal(config, made)


def _stamp(folder: Path, features: str | Path | None) -> tuple[Any, ...]:
    """Return what changes when a file changes."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    files += [features] if isinstance(features, Path) and features.exists() else []
    stats = [(path.name, path.stat()) for path in files]
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)


@lru_cache(maxsize=4)
def _read(
    folder: Path, features: str | Path | None, assumed: Assumed, stamp: tuple[Any, ...]
) -> OutcomeMatrix:
    """Read a folder once for all scenarios of a file."""
    return read_outcome_folder(folder, features=features, assumed=assumed)
