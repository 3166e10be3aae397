"""The plan: where every expert lives and in which form, what that uses and what it gives."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from moe2opt.content import Content
from moe2opt.errors import DAMAGE
from moe2opt.placement.assignment import FORMS, NOWHERE, Assignment, Figures, evaluate
from moe2opt.placement.machine.topology import GIB
from moe2opt.placement.view import view_of
from moe2opt.result import InputError
from moe2opt.text import fault_of_name
from moe2opt.view import View

if TYPE_CHECKING:
    import pandas as pd

    from moe2opt.placement.baselines.rules import Baseline
    from moe2opt.placement.question import PlacementInstance


@dataclass(frozen=True, slots=True)
class TierUse:
    """A tier as the plan uses it.

    Attributes
    ----------
    name, kind, device
        As configured; kind is ``gpu``, ``cpu``, ``disk`` or ``remote``.
    capacity_gib
        Size, None for no limit.
    margin_gib, reserved_gib
        Kept free; dense part, context and other things (part of `used_gib` only where it is ours).
    used_gib
        What the plan puts there, dense part and context included on the home tier.
    experts
        Experts stored there.
    share_of_uses
        Share of all uses of experts that are served from there.
    """

    name: str
    kind: str
    device: str
    capacity_gib: float | None
    margin_gib: float
    reserved_gib: float
    used_gib: float
    experts: int
    share_of_uses: float


@dataclass(frozen=True, slots=True)
class Usage:
    """Use of one budget; `share` is used / limit (None for a limit of zero)."""

    name: str
    used: float
    limit: float
    share: float | None


@dataclass(frozen=True, slots=True)
class PrecisionInfo:
    """A weight format of the plan: name, bits per weight, bytes of one expert."""

    name: str
    bits_per_weight: float
    expert_bytes: float


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
        from pydantic import ValidationError

        try:
            content = dict(data)
            raw = content.pop("assignment")
            arrays = {
                key: None if raw[key] is None else np.array(raw[key], dtype=np.int64)
                for key in ("tier", "precision", "form", "representative", "slots", "copied")
            }
            for key, kind in _types().items():
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
        from moe2opt.placement.summary import summarise

        return summarise(self)

    def view(self) -> View:
        """Return what a page shows of the plan."""
        return view_of(self)


_NOTHING: Any = None

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


@cache
def _types() -> dict[str, Any]:
    """Return what reads each entry of a stored plan, lists in place of tuples."""
    from pydantic import Field, TypeAdapter

    from moe2opt.placement.baselines.rules import Baseline

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
    }
    return {key: TypeAdapter(kind) for key, kind in kinds.items()}


def plan_of(instance: PlacementInstance, assignment: Assignment) -> PlacementPlan:
    """Return the plan of an assignment, with its figures and the gaps to the baselines."""
    figures = evaluate(instance, assignment)
    config = instance.config
    value = figures.value(config.objective)
    return PlacementPlan(
        instance=instance.name,
        model=instance.shape.name,
        layers=instance.shape.layers,
        n_layers=instance.shape.n_layers,
        top_k=instance.shape.top_k,
        granularity=config.granularity if config.pattern is None else config.pattern.kind,
        precisions=tuple(
            PrecisionInfo(p.name, p.bits_per_weight, float(b))
            for p, b in zip(instance.precisions, instance.expert_bytes, strict=True)
        ),
        tiers=_tiers(instance, assignment, figures),
        home=instance.topology.names[instance.topology.home],
        assignment=assignment,
        objective=config.objective,
        objective_value=value,
        seconds_per_token=figures.seconds_per_token,
        joules_per_token=_known(figures.joules_per_token),
        loss_nats=figures.loss_nats,
        memory_gib=figures.memory_gib,
        loads_per_token=figures.loads_per_token,
        uncovered_per_token=_known(figures.uncovered_per_token),
        uses=tuple(map(tuple, instance.uses.tolist())),
        seconds_of=tuple(map(tuple, instance.use.seconds.tolist())),
        dense_s=instance.dense_s,
        budgets=_budgets(instance, assignment, figures),
        baselines=tuple(b.against(value) for b in instance.baselines),
        caveats=instance.caveats,
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _tiers(
    instance: PlacementInstance, assignment: Assignment, figures: Figures
) -> tuple[TierUse, ...]:
    parts = assignment.tier.shape[2]
    stored = (assignment.stored == 1)[:, :, None]
    served = instance.uses[:, :, None] / parts
    alive = assignment.tier != NOWHERE
    total = float((served * alive).sum())
    found = []
    for t, tier in enumerate(instance.topology.tiers):
        here = assignment.tier == t
        found.append(
            TierUse(
                name=tier.name,
                kind=tier.kind,
                device=tier.device,
                capacity_gib=_finite(tier.capacity_bytes / GIB),
                margin_gib=tier.margin_bytes / GIB,
                reserved_gib=tier.reserved_bytes / GIB,
                used_gib=float(figures.bytes_by_tier[t]) / GIB,
                experts=round(float((here & stored).sum()) / parts),
                share_of_uses=float((served * here).sum()) / total if total else 0.0,
            )
        )
    return tuple(found)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _budgets(
    instance: PlacementInstance, assignment: Assignment, figures: Figures
) -> tuple[Usage, ...]:
    found = []
    for t, tier in enumerate(instance.topology.tiers):
        if math.isfinite(tier.capacity_bytes):
            own = instance.home_bytes if t == instance.topology.home else 0.0
            used, limit = figures.bytes_by_tier[t] / GIB, (tier.free_bytes + own) / GIB
            found.append(_usage(f"memory_gib[{tier.name}]", float(used), limit))
    for name, limit in instance.config.budgets:
        if limit is not None and name == "cache_slots":
            slots = 0 if assignment.slots is None else int(assignment.slots.sum())
            found.append(_usage(name, float(slots), float(limit)))
        elif limit is not None:
            found.append(_usage(name, figures.value(name), float(limit)))
    return tuple(found)


def _usage(name: str, used: float, limit: float) -> Usage:
    return Usage(name, used, limit, used / limit if limit > 0 else None)
