"""From a plan to the nearest placement that a runtime can express and that fits.

A runtime places experts, tensors or layers as one piece, knows some kinds of memory, and allows one
format per piece, per tier or for the model. Members of a piece vote by their uses for its tier; its
format is the one with most bits, so that no loss is added. Then pieces that do not fit move to
slower tiers, those that lose least per byte first, and what fits moves up again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from moe2opt.placement.assignment import NOWHERE, PRUNE, Assignment, plain
from moe2opt.placement.export.judge import (
    Copies,
    Judge,
    free_bytes,
    same,
    scale_of,
    seconds_tables,
    unused,
)
from moe2opt.placement.machine.topology import GIB
from moe2opt.placement.plan import PlacementPlan
from moe2opt.result import BoolArray, FloatArray, InputError, IntArray

_Entry = TypeVar("_Entry", np.int64, np.float64)
Unit = Literal["expert", "tensor", "layer"]
_SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class Runtime:
    """What a runtime can express.

    Attributes
    ----------
    name
        Name shown to the user.
    kinds
        Kinds of tiers it knows.
    unit
        What it places as one piece; ``tensor`` is used only for plans by tensor.
    formats
        Whether each unit, each tier or the model has one weight format; ``expert`` for no rule.
    buffer_layers
        Layers of experts that it keeps room for on the home tier while some are elsewhere.
    one_gpu
        Whether it can use only one GPU, that of the dense part.
    copies
        What of the experts elsewhere is copied to a GPU first, where only these compute.
    """

    name: str
    kinds: tuple[str, ...]
    unit: Unit
    formats: Literal["expert", "unit", "tier", "model"]
    buffer_layers: float = 0.0
    one_gpu: bool = False
    copies: Copies = "none"


def able_tiers(plan: PlacementPlan, runtime: Runtime) -> tuple[bool, ...]:
    """Return which tiers a runtime can use: of its kinds, in the machine of the home tier."""
    device = next(tier.device for tier in plan.tiers if tier.name == plan.home)
    able = tuple(
        t.kind in runtime.kinds
        and t.device == device
        and not (runtime.one_gpu and t.kind == "gpu" and t.name != plan.home)
        for t in plan.tiers
    )
    if not able[home_of(plan)]:
        kind = plan.tiers[home_of(plan)].kind
        raise InputError(
            f"--to {runtime.name}: the dense part is on tier '{plan.home}' of kind {kind}, which "
            "it cannot use"
        )
    return able


def home_of(plan: PlacementPlan) -> int:
    """Return the position of the home tier."""
    return [tier.name for tier in plan.tiers].index(plan.home)


def best(judge: Judge, runtime: Runtime) -> Assignment:
    """Return the projection to export; with an instance, the best one that keeps its budgets.

    Without the instance nobody knows what fewer bits cost, and the format with most bits is taken.
    With it, every format of the plan is also tried for all experts.

    Raises
    ------
    InputError
        When no placement fits that this runtime can express.
    """
    plan = judge.plan
    if judge.mode is None:
        return project(plan, runtime)
    found: list[tuple[tuple[bool, bool, float, int], Assignment]] = []
    errors: list[InputError] = []
    for number in (None, *np.unique(restored(plan).precision).tolist()):
        try:
            assignment = project(plan, runtime, number)
        except InputError as error:
            errors.append(error)
            continue
        value = judge.value(assignment, copies=runtime.copies)
        rank = (bool(judge.broken(assignment)), value is None, value or 0.0, len(found))
        found.append((rank, assignment))
    if not found:
        raise errors[0]
    return min(found, key=lambda pair: pair[0])[1]


def project(plan: PlacementPlan, runtime: Runtime, format_of_all: int | None = None) -> Assignment:
    """Return the projection of a plan, with a given format for all experts or its own formats.

    Raises
    ------
    InputError
        When no placement fits that this runtime can express.
    """
    if plan.granularity == "pipeline":
        raise InputError(
            f"--to {runtime.name}: a pipeline over devices cannot be expressed; use json"
        )
    able = np.array(able_tiers(plan, runtime))
    start = restored(plan)
    if format_of_all is not None:
        start = plain(start.tier, np.full_like(start.precision, format_of_all))
    pieces = _pieces(plan, runtime, start, able)
    free = free_bytes(plan)
    if runtime.buffer_layers and not _all_at_home(pieces, free, home_of(plan)):
        free[home_of(plan)] -= buffer_bytes(plan, runtime, start)
    tier = _repaired(pieces, free, able, plan, runtime)
    changed = not np.array_equal(tier, pieces.voted) or not pieces.faithful
    if changed and plan.objective == "seconds_per_token":
        tier = _improved(pieces, tier, free, able)
    return _assignment(pieces, tier, start)


def buffer_bytes(plan: PlacementPlan, runtime: Runtime, assignment: Assignment) -> float:
    """Return the bytes of the buffers for experts that are copied to the home tier."""
    most = max(plan.precisions[q].expert_bytes for q in np.unique(assignment.precision))
    return float(runtime.buffer_layers * assignment.tier.shape[1] * most)


def restored(plan: PlacementPlan) -> Assignment:
    """Return the plan with every expert stored by itself, and a cache as fixed residents.

    A pruned expert goes to the last tier, in the format that most experts of the plan have.
    """
    a = plan.assignment
    tier, precision = a.tier.copy(), a.precision.copy()
    gone = (a.form == PRUNE)[:, :, None] | (tier == NOWHERE)
    if gone.any():
        alive = precision[~gone]
        usual = int(np.bincount(alive).argmax()) if alive.size else 0
        tier[gone], precision[gone] = len(plan.tiers) - 1, usual
    if a.slots is not None:
        order = np.argsort(-np.array(plan.uses), axis=1, kind="stable")
        rank = np.argsort(order, axis=1, kind="stable")
        tier[rank < a.slots[:, None]] = home_of(plan)
    return plain(tier, precision)


@dataclass(frozen=True, slots=True, eq=False)
class _Pieces:
    """U pieces: their members, votes, and what each takes and costs on each of T tiers.

    Attributes
    ----------
    shape
        Shape ``(L, E or 1, P or 1)`` of the pieces.
    voted
        ``(U,)`` tier that the members want.
    size, cost
        ``(U, T)`` bytes, and seconds per token.
    format
        ``(U, T)`` format of a piece on a tier.
    faithful
        Whether the pieces are as in the plan.
    """

    shape: tuple[int, int, int]
    voted: IntArray
    size: FloatArray
    cost: FloatArray
    format: IntArray
    faithful: bool


def _pieces(
    plan: PlacementPlan,
    runtime: Runtime,
    start: Assignment,
    able: BoolArray,
) -> _Pieces:
    layers, experts, parts = start.tier.shape
    by_tensor = runtime.unit == "tensor" and parts == 3
    shape = (layers, experts if runtime.unit == "expert" else 1, parts if by_tensor else 1)
    uses = np.broadcast_to(np.array(plan.uses)[:, :, None] / parts, start.tier.shape)
    tiers, formats = _grouped(start.tier, shape), _grouped(start.precision, shape)
    weights = _grouped(uses, shape)
    count = tiers.shape[1] / parts
    voted = _usable(_vote(tiers, weights, len(plan.tiers)), able)
    bits = np.array([p.bits_per_weight for p in plan.precisions])
    chosen = _formats(runtime.formats, formats, voted, bits, len(plan.tiers))
    seconds_of, idle_of = seconds_tables(plan, runtime.copies)
    sizes = np.array([p.expert_bytes for p in plan.precisions])
    at = np.arange(len(plan.tiers))[None, :]
    faithful = bool(
        (tiers == voted[:, None]).all()
        and (formats == np.take_along_axis(chosen, voted[:, None], axis=1)).all()
        and same(start, plan.assignment)
    )
    cost = weights.sum(axis=1)[:, None] * seconds_of[at, chosen]
    if idle_of.any():
        idle = np.broadcast_to(unused(plan)[:, :, None] / parts, start.tier.shape)
        cost += _grouped(idle, shape).sum(axis=1)[:, None] * idle_of[at, chosen]
    # A format that the plan does not have in a layer counts as large as the one that it has.
    scale = _grouped(scale_of(plan, start), shape).mean(axis=1)[:, None]
    return _Pieces(shape, voted, count * sizes[chosen] * scale, cost, chosen, faithful)


def _grouped(table: npt.NDArray[_Entry], shape: tuple[int, int, int]) -> npt.NDArray[_Entry]:
    """Return ``(U, members)`` entries of a ``(L, E, P)`` table for pieces of a shape."""
    layers, experts, parts = table.shape
    if shape[2] == parts and shape[1] == 1:
        return table.transpose(0, 2, 1).reshape(layers * parts, experts)
    return table.reshape(shape[0] * shape[1], -1)


def _vote(tiers: IntArray, weights: FloatArray, count: int) -> IntArray:
    """Return the tier with most uses of each piece; members count a little even when unused."""
    votes = np.stack([((tiers == t) * (weights + 1e-12)).sum(axis=1) for t in range(count)], axis=1)
    return np.asarray(votes.argmax(axis=1), dtype=np.int64)


def _usable(tier: IntArray, able: BoolArray) -> IntArray:
    """Replace a tier that cannot be used by the next slower one, else by the slowest that can."""
    positions = np.flatnonzero(able)
    replace = [
        int(positions[positions >= t][0]) if (positions >= t).any() else int(positions[-1])
        for t in range(len(able))
    ]
    return np.array(replace, dtype=np.int64)[tier]


def _formats(
    rule: str, formats: IntArray, voted: IntArray, bits: FloatArray, tiers: int
) -> IntArray:
    """Return the ``(U, T)`` format of each piece on each tier: the one with most bits it needs."""
    rows = np.arange(len(formats))
    most = formats[rows, bits[formats].argmax(axis=1)]
    best = int(most[bits[most].argmax()])
    if rule in ("unit", "expert"):
        return np.tile(most[:, None], (1, tiers))
    by_tier = np.full(tiers, best, dtype=np.int64)
    if rule == "tier":
        for t in range(tiers):
            here = most[voted == t]
            if len(here):
                by_tier[t] = here[bits[here].argmax()]
    return np.tile(by_tier, (len(formats), 1))


def _held(pieces: _Pieces, tier: IntArray) -> FloatArray:
    rows = np.arange(len(tier))
    held = np.zeros(pieces.size.shape[1])
    np.add.at(held, tier, pieces.size[rows, tier])
    return held


def _all_at_home(pieces: _Pieces, free: FloatArray, home: int) -> bool:
    at_home = bool((pieces.voted == home).all())
    return at_home and bool(pieces.size[:, home].sum() <= free[home] * (1 + _SLACK))


def _repaired(
    pieces: _Pieces,
    free: FloatArray,
    able: BoolArray,
    plan: PlacementPlan,
    runtime: Runtime,
) -> IntArray:
    """Move pieces from tiers that are too full, the cheapest per byte first."""
    tier = pieces.voted.copy()
    held = _held(pieces, tier)
    usable = np.flatnonzero(able).tolist()
    for t in usable:
        targets = [s for s in usable if s > t] + [s for s in reversed(usable) if s < t]
        for target in targets:
            _drain(pieces, tier, held, free, t, target)
        if held[t] > free[t] * (1 + _SLACK):
            names = ", ".join(plan.tiers[s].name for s in usable)
            raise InputError(
                f"--to {runtime.name}: the experts do not fit in what it can use ({names}): "
                f"{plan.tiers[t].name} would hold {held[t] / GIB:.2f} GiB of experts, "
                f"{max(free[t], 0.0) / GIB:.2f} GiB are free (nothing is merged or pruned there)"
            )
    return tier


def _drain(
    pieces: _Pieces, tier: IntArray, held: FloatArray, free: FloatArray, source: int, target: int
) -> None:
    rows = np.flatnonzero(tier == source)
    size = pieces.size
    price = (pieces.cost[rows, target] - pieces.cost[rows, source]) / size[rows, source]
    for u in rows[np.argsort(price, kind="stable")].tolist():
        if held[source] <= free[source] * (1 + _SLACK):
            return
        if held[target] + size[u, target] <= free[target]:
            tier[u] = target
            held[source] -= size[u, source]
            held[target] += size[u, target]


def _improved(
    pieces: _Pieces,
    tier: IntArray,
    free: FloatArray,
    able: BoolArray,
) -> IntArray:
    """Move up what saves most seconds per byte and fits."""
    tier = tier.copy()
    held = _held(pieces, tier)
    rows = np.arange(len(tier))
    for t in np.flatnonzero(able).tolist():
        saving = pieces.cost[rows, tier] - pieces.cost[:, t]
        for u in np.argsort(-saving / pieces.size[:, t], kind="stable").tolist():
            size = pieces.size[u, t]
            if saving[u] > 0 and tier[u] != t and held[t] + size <= free[t]:
                held[tier[u]] -= pieces.size[u, tier[u]]
                held[t] += size
                tier[u] = t
    return tier


def _assignment(pieces: _Pieces, tier: IntArray, start: Assignment) -> Assignment:
    rows = np.arange(len(tier))
    layers, experts, parts = start.tier.shape
    out = parts if pieces.shape[2] == parts else 1
    full = (layers, experts, out)

    def spread(values: IntArray) -> IntArray:
        return np.broadcast_to(values.reshape(pieces.shape), full).astype(np.int64)

    return plain(spread(tier), spread(pieces.format[rows, tier]))
