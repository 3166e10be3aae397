"""Pipelines: consecutive runs of layers on several tiers that work at the same time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from moe2opt.placement.assignment import Assignment
from moe2opt.placement.baselines.rules import judged
from moe2opt.placement.experts.activation import uses_per_token
from moe2opt.placement.figures import Baseline
from moe2opt.placement.modes.pattern import Pattern, whole_layers
from moe2opt.placement.sections import PlacementConfig
from moe2opt.result import FloatArray, InputError, IntArray

_MOST_CUTS = 200_000


@dataclass(frozen=True, eq=False)
class Pipeline(Pattern):
    """Stages hold runs of layers with their dense parts, and work on different batches."""

    @classmethod
    def asked(cls, config: PlacementConfig) -> bool:
        """Tell whether the pattern is a pipeline."""
        return config.piped

    def check(self) -> None:
        """Raise `InputError` for an objective or a budget that a pipeline does not have."""
        super().check()
        config = self.case.config
        if config.objective == "joules_per_token" or config.budgets.joules_per_token is not None:
            raise InputError("objective: joules are not modelled for pipelines")

    @cached_property
    def stages(self) -> list[int]:
        """The tiers of the pipeline, in order.

        Raises
        ------
        InputError
            With fewer than two, a repeated one, or one on which nothing computes.
        """
        topology, names = self.case.topology, self.section.stages
        if len(names) < 2 or len(set(names)) < len(names):
            raise InputError("pattern.stages: a pipeline needs two or more different tiers")
        found = [topology.index(n, f"pattern.stages.{k}") for k, n in enumerate(names)]
        for k, tier in enumerate(found):
            if topology.tiers[tier].compute_bytes_per_s is None:
                raise InputError(f"pattern.stages.{k}: nothing computes on tier '{names[k]}'")
        return found

    def _in_place(self, shares: FloatArray) -> FloatArray:
        """Return ``(L, T, Q)`` seconds per token of a layer computed in place on each tier."""
        case, batch = self.case, self.case.config.batch
        uses = uses_per_token(shares, batch).sum(axis=1)
        table = np.full((len(uses), len(case.topology.tiers), len(case.precisions)), np.inf)
        for t, tier in enumerate(case.topology.tiers):
            if tier.compute_bytes_per_s is None:
                continue
            dense = case.layer_dense_read_bytes / tier.compute_bytes_per_s / batch
            for q, size in enumerate(case.expert_bytes):
                table[:, t, q] = uses * (size / tier.compute_bytes_per_s + tier.overhead_s) + dense
        return table

    def _hand_over_s(self, a: int, b: int) -> float:
        """Return the seconds to send a token's activation from one tier to another."""
        return self.case.topology.transfer_s(a, b, 2.0 * self.case.shape.hidden)

    def seconds(self, assignment: Assignment, shares: FloatArray) -> float:
        """Return the seconds of the slowest stage, or of all, hand-over to the next included."""
        tier, precision = assignment.tier[:, 0, 0], assignment.precision[:, 0, 0]
        table = self._in_place(shares)
        runs = [list(g) for _, g in itertools.groupby(range(len(tier)), key=lambda row: tier[row])]
        times = [float(sum(table[row, tier[row], precision[row]] for row in run)) for run in runs]
        for k in range(len(runs) - 1):
            times[k] += self._hand_over_s(int(tier[runs[k][0]]), int(tier[runs[k + 1][0]]))
        return max(times) if self.section.measure == "slowest" else math.fsum(times)

    def held_bytes(self, assignment: Assignment) -> FloatArray:
        """Return the bytes of experts, and of the dense parts that go with their layers."""
        held = super().held_bytes(assignment)
        np.add.at(held, assignment.tier[:, 0, 0], self.case.layer_dense_bytes)
        return held

    def ways(self) -> tuple[IntArray, dict[str, FloatArray]]:
        """Return the tiers of the layers and the seconds of every way to cut."""
        stages = self.stages
        counts = cut_vectors(self.case.shape.size[0], len(stages))
        ends = np.cumsum(counts, axis=1)
        starts = ends - counts
        table = self._in_place(self.case.activation.mixed)
        sums = np.concatenate([np.zeros((1, *table.shape[1:])), np.cumsum(table, axis=0)])
        times = np.stack(
            [sums[ends[:, j], t] - sums[starts[:, j], t] for j, t in enumerate(stages)]
        )
        times += self._hand_overs(counts)[:, :, None]
        slowest = self.section.measure == "slowest"
        tiers = np.stack([np.repeat(stages, row) for row in counts])
        return tiers, {"seconds_per_token": times.max(axis=0) if slowest else times.sum(axis=0)}

    def _hand_overs(self, counts: IntArray) -> FloatArray:
        """Return ``(stages, M)`` seconds that each stage needs to reach the next one in use."""
        found = np.zeros(counts.T.shape)
        for j, k in itertools.combinations(range(len(self.stages)), 2):
            between = counts[:, j + 1 : k].sum(axis=1) == 0
            follows = (counts[:, j] > 0) & (counts[:, k] > 0) & between
            found[j, follows] = self._hand_over_s(self.stages[j], self.stages[k])
        return found

    def baselines(self) -> Iterator[Baseline]:
        """Yield equal runs, runs in proportion to free memory, and everything on one stage."""
        case, stages = self.case, self.stages
        layers, experts = case.shape.size
        free = np.array([case.topology.tiers[t].free_bytes for t in stages])
        shares = {"equal runs": np.ones(len(stages))}
        if np.isfinite(free).all():
            shares["runs in proportion to memory"] = free
        for k, tier in enumerate(stages):
            name = f"all on {case.topology.names[tier]}"
            shares[name] = (np.arange(len(stages)) == k).astype(np.float64)
        for name, share in shares.items():
            ends = np.round(np.cumsum(share) / share.sum() * layers).astype(np.int64)
            runs = np.repeat(stages, np.diff(ends, prepend=0))
            formats = np.argsort(-case.expert_bytes)
            yield judged(self, name, [whole_layers(runs, experts, int(q)) for q in formats])


def cut_vectors(layers: int, stages: int) -> IntArray:
    """Return the ``(M, stages)`` numbers of layers per stage, in every way.

    Raises
    ------
    InputError
        When there are too many ways.
    """
    ways = math.comb(layers + stages - 1, stages - 1)
    if ways > _MOST_CUTS:
        raise InputError(f"pattern.stages: {ways} ways to cut {layers} layers are too many")
    bars = itertools.combinations(range(layers + stages - 1), stages - 1)
    cuts = np.array(list(bars), dtype=np.int64).reshape(ways, stages - 1)
    edges = np.column_stack([np.full(ways, -1), cuts, np.full(ways, layers + stages - 1)])
    return np.asarray(np.diff(edges, axis=1) - 1)
