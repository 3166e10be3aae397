"""Whole layers by a rule that a runtime can express: one group of options for the whole model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from moe2opt.placement.assignment import Assignment, plain
from moe2opt.placement.baselines.rules import fixed_places
from moe2opt.placement.figures import Baseline
from moe2opt.placement.machine.topology import GIB
from moe2opt.placement.mode import Mode
from moe2opt.placement.options import Options, Read
from moe2opt.placement.sections import Pattern as Section
from moe2opt.result import FloatArray, InputError, IntArray
from moe2opt.steps import step


@dataclass(frozen=True, eq=False)
class Pattern(Mode):
    """Layers are on the fast or on the slow tier by a rule."""

    part: ClassVar[str] = "pattern"
    by_place: ClassVar[bool] = False

    @property
    def section(self) -> Section:
        """The part of the configuration."""
        section = self.case.config.pattern
        assert section is not None
        return section

    @property
    def granularity(self) -> str:
        """Kind of the pattern."""
        return self.section.kind

    def check(self) -> None:
        """Raise `InputError` for an objective that a pattern does not have."""
        if self.case.config.objective == "loads_per_token":
            raise InputError("objective: loads_per_token does not go with pattern")

    def baselines(self) -> Iterator[Baseline]:
        """Yield rules with fixed places."""
        yield from fixed_places(self)

    def options(self) -> tuple[list[Options], Read]:
        """Return one group with every instance of the pattern at every precision."""
        case = self.case
        tiers, metrics = self.ways()
        experts = case.shape.experts
        number = np.stack(
            [(tiers == t).sum(axis=1) for t in range(len(case.topology.tiers))], axis=1
        )
        per_layer = experts * case.expert_bytes + case.layer_dense_bytes
        held = number[:, None, :] * per_layer[None, :, None]
        loss = np.array([p.loss_nats for p in case.precisions])
        metrics = {name: figures.reshape(1, -1) for name, figures in metrics.items()} | {
            "loss_nats": np.tile(loss, len(tiers))[None, :],
            "memory_gib": held.sum(axis=2).reshape(1, -1) / GIB,
        }

        def read(x: IntArray) -> Assignment:
            way, quality = divmod(int(x[0]), len(case.precisions))
            return whole_layers(tiers[way], experts, quality)

        return [Options(metrics, held.reshape(1, -1, number.shape[1]))], read

    def ways(self) -> tuple[IntArray, dict[str, FloatArray]]:
        """Return the ``(M, L)`` tiers of every way, and figures ``(M, Q)`` by metric."""
        case = self.case
        tiers = self._tiers()
        use, uses = case.use, case.uses
        tables = {
            "seconds_per_token": use.seconds,
            "loads_per_token": (use.move_s > 0).astype(float),
        }
        if np.isfinite(use.joules).all():
            tables["joules_per_token"] = use.joules
        return tiers, {
            name: _per_layer(np.einsum("le,tq->ltq", uses, table), tiers)
            for name, table in tables.items()
        }

    def _tiers(self) -> IntArray:
        """Return the ``(M, L)`` different ways of the pattern."""
        names, index = self.case.topology.names, self.case.topology.index
        pattern = self.section
        fast = index(pattern.fast or names[0], "pattern.fast")
        if pattern.slow is None and len(names) < 2:
            raise InputError("pattern: needs a second tier")
        slow = index(pattern.slow or names[1], "pattern.slow")
        off = np.array(list(_off(pattern.kind, self.case.shape.size[0], pattern.longest_period)))
        return np.where(np.unique(off, axis=0), slow, fast).astype(np.int64)


def whole_layers(tier: IntArray, experts: int, precision: int) -> Assignment:
    """Return layers on the given ``(L,)`` tiers, all at one precision."""
    wide = np.repeat(np.asarray(tier, dtype=np.int64)[:, None, None], experts, axis=1)
    return plain(wide, np.full_like(wide, precision))


def _per_layer(table: FloatArray, tiers: IntArray) -> FloatArray:
    """Return ``(M, Q)`` sums of a ``(L, T, Q)`` table over the layers' tiers."""
    rows, sums = np.arange(tiers.shape[1]), []
    for way in tiers:
        step()
        sums.append(table[rows, way].sum(axis=0))
    return np.stack(sums)


def _off(kind: str, layers: int, longest: int) -> Iterator[list[bool]]:
    """Yield for each way which layers are off the fast tier."""
    rows = range(layers)
    if kind in ("first", "last"):
        for number in range(layers + 1):
            on = [row >= number for row in rows]
            yield [not o for o in (on if kind == "first" else on[::-1])]
    elif kind == "contiguous":
        for start in range(layers + 1):
            for end in range(start, layers + 1):
                step()
                yield [not start <= row < end for row in rows]
    else:
        for period in range(1, longest + 1):
            for number in range(period + 1):
                yield [row % period >= period - number for row in rows]
