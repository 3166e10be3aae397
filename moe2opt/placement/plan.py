"""The plan: where every expert lives and in which form, what that uses and what it gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from moe2opt.content import Content
from moe2opt.errors import DAMAGE
from moe2opt.placement import summary
from moe2opt.placement.assignment import FORMS, NOWHERE, Assignment
from moe2opt.placement.figures import Assumed, Baseline, PrecisionInfo, TierUse, Usage
from moe2opt.placement.judge import evaluate, tier_uses, usages
from moe2opt.placement.mode import Mode
from moe2opt.placement.view import view_of
from moe2opt.result import FloatArray, InputError
from moe2opt.text import fault_of_name
from moe2opt.view import View

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PlacementPlan(Content):
    """A decoded solution of a placement instance.

    Attributes
    ----------
    instance, model
        Names.
    layers
        ``(L,)`` numbers of the layers with experts, as the model counts them.
    n_layers, top_k
        All layers of the model; experts per token.
    granularity
        ``expert``, ``tensor``, ``layer``, or the kind of a pattern.
    precisions, tiers
        Formats and tiers that the assignment points into.
    home
        Name of the tier of the dense part.
    assignment
        Tier, precision and form of every expert.
    objective, objective_value
        What was made small, and its figure (positive; the canonical problem counts minus it).
    seconds_per_token, joules_per_token, loss_nats, memory_gib, loads_per_token
        Figures of the plan; joules are None where a power is unknown.
    uncovered_per_token
        Layers per token whose experts are not all resident, None without the part `coverage`.
    uses
        ``(L, E)`` uses per token of each expert, nothing merged.
    seconds_of
        ``(T, Q)`` seconds of one use by tier and precision.
    dense_s
        Seconds per token of the dense part.
    budgets
        Use of every limited quantity.
    baselines
        What simple rules achieve, and the gap to each.
    caveats
        What must be known to read the figures.
    assumed
        What the run must be told, so that the plan fits.
    scale
        ``(L, P, Q)`` bytes of an expert, or of its gate, up and down, in each layer over the mean
        of all; empty where layers are alike.
    copied_of
        ``(T, Q)`` seconds of one use where only GPUs compute: experts elsewhere are copied to the
        home tier first. Empty in plans of earlier versions.
    """

    instance: str
    model: str
    layers: tuple[int, ...]
    n_layers: int
    top_k: int
    granularity: str
    precisions: tuple[PrecisionInfo, ...]
    tiers: tuple[TierUse, ...]
    home: str
    assignment: Assignment
    objective: str
    objective_value: float
    seconds_per_token: float
    joules_per_token: float | None
    loss_nats: float
    memory_gib: float
    loads_per_token: float
    uncovered_per_token: float | None
    uses: tuple[tuple[float, ...], ...]
    seconds_of: tuple[tuple[float, ...], ...]
    dense_s: float
    budgets: tuple[Usage, ...]
    baselines: tuple[Baseline, ...]
    caveats: tuple[str, ...] = ()
    assumed: Assumed = field(default_factory=Assumed)
    scale: tuple[tuple[tuple[float, ...], ...], ...] = ()
    copied_of: tuple[tuple[float, ...], ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """Return one row per expert: layer, expert, tier, precision, form, representative, use."""
        import pandas as pd

        a = self.assignment
        layers, experts, parts = a.tier.shape
        names = np.array([*(tier.name for tier in self.tiers), "-"])
        formats = np.array([precision.name for precision in self.precisions])
        table: dict[str, Any] = {
            "layer": np.repeat(self.layers, experts),
            "expert": np.tile(np.arange(experts), layers),
        }
        suffixes = [""] if parts == 1 else ["_gate", "_up", "_down"]
        for p, suffix in enumerate(suffixes):
            table[f"tier{suffix}"] = names[a.tier[:, :, p]].ravel()
            table[f"precision{suffix}"] = formats[a.precision[:, :, p]].ravel()
        table["form"] = np.array(FORMS)[a.form].ravel()
        table["representative"] = a.representative.ravel()
        table["uses_per_token"] = np.array(self.uses).ravel()
        if a.slots is not None:
            table["cache_slots"] = np.repeat(a.slots, experts)
        return pd.DataFrame(table)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        bare = replace(self, assignment=_NOTHING)
        content = asdict(bare)
        a = self.assignment
        content["assignment"] = {
            "tier": a.tier.tolist(),
            "precision": a.precision.tolist(),
            "form": a.form.tolist(),
            "representative": a.representative.tolist(),
            "slots": None if a.slots is None else a.slots.tolist(),
            "copied": None if a.copied is None else a.copied.tolist(),
        }
        return content

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PlacementPlan:
        """Rebuild from `to_dict`; raise `InputError` when the content is not a plan."""
        try:
            content = dict(data)
            raw = content.pop("assignment")
            arrays = {
                key: None if raw[key] is None else np.array(raw[key], dtype=np.int64)
                for key in ("tier", "precision", "form", "representative", "slots", "copied")
            }
            for key, kind in _types().items():
                if key in content or key not in _LATER:
                    content[key] = kind.validate_python(content[key])
            return cls(assignment=Assignment(**arrays), **content).checked()  # type: ignore[arg-type]
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(f"not a placement plan: {first['loc']}: {first['msg']}") from error
        except InputError:
            raise
        except DAMAGE as error:
            raise InputError(f"not a placement plan: {type(error).__name__}: {error}") from error

    def checked(self) -> PlacementPlan:
        """Return the plan; raise `InputError` unless its names are names and its arrays fit."""
        _check_names(self)
        _check_arrays(self)
        return self

    def summary(self) -> str:
        """Return a readable account of the plan."""
        lines = [
            f"{self.instance}: {self.model}, {self._headline()}",
            "",
            *summary.tier_lines(self.tiers),
            "",
            *summary.form_lines(self.assignment, self.precisions),
            *summary.budget_lines(self.budgets),
            "",
            *summary.rule_lines(self.baselines, self.objective, self.granularity),
            "",
            *(f"Note: {caveat}" for caveat in self.caveats),
        ]
        return "\n".join(lines).rstrip()

    def _headline(self) -> str:
        parts = [summary.shown(self.objective, self.objective_value)]
        if self.objective == "seconds_per_token":
            parts.append(f"{1 / self.seconds_per_token:.2f} tokens/s predicted")
        else:
            parts.append(f"{1e3 * self.seconds_per_token:.5g} ms per token predicted")
        if self.joules_per_token is not None and self.objective != "joules_per_token":
            parts.append(f"{self.joules_per_token:.4g} J per token")
        parts.append(f"{summary.gib(self.memory_gib)} GiB in all")
        if self.loss_nats:
            parts.append(f"loss {self.loss_nats:.4g} nats")
        return ", ".join(parts)

    def view(self) -> View:
        """Return what a page shows of the plan."""
        return view_of(self)


_NOTHING: Any = None

#: Fields that plans of earlier versions lack.
_LATER = ("assumed", "scale", "copied_of")

#: No model has more layers.
_MOST_LAYERS = 10_000

#: Fields that hold one number.
_FIGURES = (
    "objective_value", "seconds_per_token", "loss_nats", "memory_gib", "loads_per_token", "dense_s",
)  # fmt: skip


def _check_names(plan: PlacementPlan) -> None:
    """Raise unless what may stand in exported files is a name."""
    named = [("instance", plan.instance), ("model", plan.model), ("home", plan.home)]
    for key in ("tiers", "precisions"):
        named += [(f"{key}.{k}.name", own.name) for k, own in enumerate(getattr(plan, key))]
    for where, name in named:
        if fault := fault_of_name(name):
            raise InputError(f"not a placement plan: {where}: {fault}")


def _check_arrays(plan: PlacementPlan) -> None:
    """Raise `InputError` when the arrays of a plan do not fit together."""
    a = plan.assignment
    uses = np.array(plan.uses, dtype=np.float64)
    shape = uses.shape
    fits = (
        uses.ndim == 2
        and shape[0] == len(plan.layers)
        and a.tier.ndim == 3
        and a.tier.shape == a.precision.shape == (*shape, a.tier.shape[2])
        and a.tier.shape[2] in (1, 3)
        and a.form.shape == a.representative.shape == shape
        and (a.slots is None or a.slots.shape == shape[:1])
        and (a.copied is None or a.copied.shape == shape)
        and np.array(plan.seconds_of).shape == (len(plan.tiers), len(plan.precisions))
        and (not plan.copied_of or np.shape(plan.copied_of) == np.shape(plan.seconds_of))
        and (not plan.scale or np.array(plan.scale).shape in _scales(plan))
    )
    if not fits:
        raise InputError("not a placement plan: its arrays have shapes that do not fit together")
    limits = {"tier": (NOWHERE, len(plan.tiers)), "precision": (0, len(plan.precisions)),
              "form": (0, len(FORMS)), "representative": (0, shape[1])}  # fmt: skip
    for name, (low, high) in limits.items():
        array = getattr(a, name)
        if array.size and not low <= array.min() <= array.max() < high:
            raise InputError(f"not a placement plan: assignment.{name} has a number out of range")
    if not all(isinstance(n, int) and 0 <= n < plan.n_layers <= _MOST_LAYERS for n in plan.layers):
        raise InputError("not a placement plan: layers: a number is not below n_layers")
    if not all(0 < p.expert_bytes < math.inf for p in plan.precisions):
        raise InputError("not a placement plan: precisions: expert_bytes must be positive")
    if plan.home not in [tier.name for tier in plan.tiers]:
        raise InputError(f"not a placement plan: home: unknown tier '{plan.home}'")


def _scales(plan: PlacementPlan) -> list[tuple[int, int, int]]:
    return [(len(plan.layers), parts, len(plan.precisions)) for parts in (1, 3)]


@cache
def _types() -> dict[str, Any]:
    """Return what reads each entry of a stored plan, lists in place of tuples."""
    kinds: dict[str, Any] = {
        **dict.fromkeys(("instance", "model", "granularity", "home", "objective"), str),
        **dict.fromkeys(("n_layers", "top_k"), Annotated[int, Field(ge=1, le=_MOST_LAYERS)]),
        **dict.fromkeys(("joules_per_token", "uncovered_per_token"), float | None),
        **dict.fromkeys(_FIGURES, float),
        "precisions": tuple[PrecisionInfo, ...],
        "tiers": tuple[TierUse, ...],
        "budgets": tuple[Usage, ...],
        "baselines": tuple[Baseline, ...],
        "layers": tuple[int, ...],
        "uses": tuple[tuple[float, ...], ...],
        "seconds_of": tuple[tuple[float, ...], ...],
        "caveats": tuple[str, ...],
        "assumed": Assumed,
        "scale": tuple[tuple[tuple[float, ...], ...], ...],
        "copied_of": tuple[tuple[float, ...], ...],
    }
    return {key: TypeAdapter(kind) for key, kind in kinds.items()}


def plan_of(mode: Mode, assignment: Assignment, baselines: Sequence[Baseline]) -> PlacementPlan:
    """Return the plan of an assignment, with its figures and the gaps to the baselines."""
    case, config = mode.case, mode.case.config
    figures = evaluate(mode, assignment)
    value = figures.value(config.objective)
    return PlacementPlan(
        instance=case.name,
        model=case.shape.name,
        layers=case.shape.layers,
        n_layers=case.shape.n_layers,
        top_k=case.shape.top_k,
        granularity=mode.granularity,
        precisions=tuple(
            PrecisionInfo(p.name, p.bits_per_weight, float(b))
            for p, b in zip(case.precisions, case.expert_bytes, strict=True)
        ),
        tiers=tier_uses(mode, assignment, figures),
        home=case.topology.names[case.topology.home],
        assignment=assignment,
        objective=config.objective,
        objective_value=value,
        seconds_per_token=figures.seconds_per_token,
        joules_per_token=_known(figures.joules_per_token),
        loss_nats=figures.loss_nats,
        memory_gib=figures.memory_gib,
        loads_per_token=figures.loads_per_token,
        uncovered_per_token=_known(figures.uncovered_per_token),
        uses=tuple(map(tuple, case.uses.tolist())),
        seconds_of=tuple(map(tuple, case.use.seconds.tolist())),
        dense_s=case.dense_s,
        budgets=usages(mode, assignment, figures),
        baselines=tuple(b.against(value) for b in baselines),
        caveats=case.caveats,
        assumed=Assumed(config.model.context_tokens, config.model.kv_bits, config.batch),
        scale=_nested(case.scale) if (case.scale != 1).any() else (),
        copied_of=tuple(map(tuple, case.copied_use_s.tolist())),
    )


def _nested(table: FloatArray) -> tuple[tuple[tuple[float, ...], ...], ...]:
    return tuple(tuple(map(tuple, rows)) for rows in table.tolist())


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
