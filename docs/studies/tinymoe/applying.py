"""Do to real weights what a plan says: merge, share a base, prune, round.

A shared base is the representative itself; the others keep the leading singular vectors of what
sets them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from moe2opt.executor.model.experts import PARTS, ExpertSource, Weights
from moe2opt.executor.model.families import ModelSpec
from moe2opt.executor.store.formats import Desk, Format, pack
from moe2opt.executor.store.merging import matching, merged_groups, permuted
from moe2opt.placement.assignment import DISTIL, FORMS, PRUNE, SHARE, Assignment
from moe2opt.result import FloatArray, InputError, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """The weights that serve each expert under a plan; an `ExpertSource`.

    Attributes
    ----------
    weights
        By layer number and expert; members of a merged group share theirs, pruned ones are missing.
    """

    weights: Mapping[tuple[int, int], Weights]

    def expert_weights(self, layer: int, expert: int) -> dict[str, Tensor]:
        """Return the matrices `gate`, `up` and `down` that serve an expert.

        Raises
        ------
        InputError
            When it is pruned.
        """
        if (layer, expert) not in self.weights:
            raise InputError(f"layer {layer}: expert {expert} is pruned")
        return dict(self.weights[layer, expert])


def apply_plan(
    source: ExpertSource,
    spec: ModelSpec,
    assignment: Assignment,
    shares: FloatArray,
    *,
    rank_share: float = 0.125,
    formats: Sequence[Format] | None = None,
) -> Served:
    """Return the fp32 weights that serve each expert under an assignment.

    Parameters
    ----------
    source, spec
        The model; rows of the assignment are its layers with experts.
    assignment
        Form, representative and precision of every expert.
    shares
        ``(L, E)`` use of the experts: their weights in merging.
    rank_share
        Size of a low-rank residual as a share of an expert.
    formats
        Weight format of each precision of the plan; None leaves the weights unrounded.

    Raises
    ------
    InputError
        For a distilled expert: its weights come from training, not from the model.
    """
    found: dict[tuple[int, int], Weights] = {}
    for row, layer in enumerate(spec.moe_layers):
        own: dict[int, Weights] = {
            e: {k: t.float() for k, t in source.expert_weights(layer, e).items()}
            for e in range(spec.experts)
        }
        served = layer_weights(
            own, assignment.form[row], assignment.representative[row], shares[row], rank_share
        )
        if formats is not None:
            served = _rounded(served, assignment.precision[row], formats)
        found |= {(layer, expert): weights for expert, weights in served.items()}
    return Served(found)


def layer_weights(
    own: Mapping[int, Weights],
    form: IntArray,
    representative: IntArray,
    shares: FloatArray,
    rank_share: float,
) -> dict[int, Weights]:
    """Return what serves each expert of a layer; pruned ones are left out."""
    if (form == DISTIL).any():
        raise InputError(f"form '{FORMS[DISTIL]}': there are no distilled weights to run")
    served = {e: own[e] for e in own if form[e] != PRUNE}
    served |= merged_groups(own, form, representative, shares)
    for expert in np.flatnonzero(form == SHARE).tolist():
        served[expert] = with_residual(own[int(representative[expert])], own[expert], rank_share)
    return served


def with_residual(base: Weights, own: Weights, rank_share: float) -> Weights:
    """Return base plus the low-rank part of what sets an expert apart from it."""
    factors = residual(base, own, rank_share)
    return {part: base[part] + left @ right for part, (left, right) in factors.items()}


def residual(base: Weights, own: Weights, rank_share: float) -> dict[str, tuple[Tensor, Tensor]]:
    """Return factors ``(rows, r)``, ``(r, columns)`` of an expert's difference from a base.

    The rank is the largest whose factors are at most `rank_share` of the size of a matrix.
    """
    matched = permuted(own, matching(base, own))
    found = {}
    for part in PARTS:
        rows, columns = base[part].shape
        rank = max(1, int(rank_share * rows * columns / (rows + columns) + 1e-9))
        left, size, right = torch.linalg.svd(matched[part] - base[part], full_matrices=False)
        found[part] = (left[:, :rank] * size[:rank], right[:rank])
    return found


def rounded(matrix: Tensor, form: Format) -> Tensor:
    """Return the fp32 matrix that packing to a format and back gives."""
    return Desk().unpacked(pack(matrix, form)).float()


def _rounded(
    served: Mapping[int, Weights], precision: IntArray, formats: Sequence[Format]
) -> dict[int, Weights]:
    """Return weights as they come back from their formats; ``(E, P)`` precisions."""
    done: dict[tuple[int, tuple[int, ...]], Weights] = {}
    found = {}
    for expert, weights in served.items():
        names = tuple(int(q) for q in np.broadcast_to(precision[expert], len(PARTS)))
        key = (id(weights), names)
        if key not in done:
            done[key] = {
                part: rounded(weights[part], formats[q])
                for part, q in zip(PARTS, names, strict=True)
            }
        found[expert] = done[key]
    return found
