r"""The question as a multiple-choice problem, exactly.

Groups: the variant of the run; for each device the first block that it holds (its *cut*
:math:`t_d`, where :math:`t_D` is the number of blocks and what lies before :math:`t_0` is in RAM);
for each device which layer is *split*, so that some matrices of its experts stay where the others
are in RAM or on another device (at most one, as ``--fit`` does it); and for each layer with experts
where they lie. Layers with equal experts are equal groups. With
:math:`f(t)` the bytes of the first :math:`t` blocks, :math:`e_l` those of experts,

.. math::
    f(t_{d+1}) - f(t_d) + \sum_{l \to d} e_l + \text{compute}_d(v) \le \text{capacity}_d .

Every row holds non-negative numbers only: what is subtracted stands on both sides. Experts lie
with their layer, on another device (which costs a hop), or in RAM; how many of a class lie with
their layers on a device is at most how many of its layers are there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.place.case import Case, Variant
from moe2opt.place.hull import hull_rows
from moe2opt.place.machine import HOP_S
from moe2opt.place.options import Begin, Site, Split, split_value_s
from moe2opt.place.rows import Rows, memory_rows, order_rows, prompt_row, variant_rows
from moe2opt.place.runs import run_rows
from moe2opt.result import FloatArray


@dataclass(frozen=True, eq=False, slots=True)
class Compiled:
    """The problem and what its groups, options and rows stand for.

    Attributes
    ----------
    problem
        The canonical problem; its objective is minus the seconds.
    variants, begins, sites
        Options of the first group, of the group of the first device, and of every group of experts.
    splits
        Options of the group of each device that says which layer is split; empty for no groups.
    rows
        Name of each row.
    """

    problem: MultipleChoiceProblem
    variants: tuple[Variant, ...]
    begins: tuple[Begin, ...]
    sites: tuple[Site, ...]
    splits: tuple[Split, ...]
    rows: tuple[str, ...]


def compile_case(case: Case) -> Compiled:
    """Return the problem of a case."""
    rows = Rows(case)
    devices, classes, splits = case.machine.devices, case.classes, rows.splits
    memory_rows(case, rows)
    order_rows(case, rows)
    variant_rows(case, rows)
    prompt_row(case, rows)
    hull_rows(case, rows)
    run_rows(case, rows)
    values = [_variant_values(case, rows.variants)]
    uses = [np.stack(rows.variant, axis=1)]
    for d in range(len(devices)):
        worth, use = _cut_values(case, d), np.stack([own[d] for own in rows.cut], axis=1)
        if d == 0:
            at = np.array([begin.block for begin in rows.begins])
            worth = worth[at] - _ram_seconds(case, rows.begins)
            use = use[at] + np.stack(rows.begin, axis=1)
        values.append(worth)
        uses.append(use)
    for d in range(len(devices)) if splits else ():
        values.append(_split_values(case, d, splits))
        uses.append(np.stack([own[d] for own in rows.split], axis=1))
    of_layer = {layer.index: c for c, members in enumerate(classes) for layer in members}
    tables = [np.stack([own[c] for own in rows.expert], axis=1) for c in range(len(classes))]
    seconds = [_expert_values(case, c, rows.sites) for c in range(len(classes))]
    for index in sorted(of_layer):
        values.append(seconds[of_layer[index]])
        uses.append(tables[of_layer[index]])
    problem = MultipleChoiceProblem(values, uses, rows.limits)
    return Compiled(problem, rows.variants, rows.begins, rows.sites, splits, tuple(rows.names))


def _split_values(case: Case, d: int, splits: tuple[Split, ...]) -> FloatArray:
    """Return seconds that each split of a device takes off the others'."""
    return np.array([0.0, *(split_value_s(case, d, split) for split in splits[1:])])


def _variant_values(case: Case, variants: tuple[Variant, ...]) -> FloatArray:
    """Return minus the seconds that no layer says; without devices, those of all homes, too."""
    prompt, answer = case.weights
    found = np.array([answer * case.output_s(v) for v in variants])
    if prompt:
        found += np.array([prompt * case.prompt_more_s(v) for v in variants])
    if not case.machine.devices:
        found += np.array([case.home_seconds(None, v.ubatch)[-1] for v in variants])
    return np.asarray(-found)


def _cut_values(case: Case, d: int) -> FloatArray:
    """Return minus the seconds of homes that a cut decides: sums of devices below and above."""
    devices, ubatch = case.machine.devices, case.config.ubatch[0]
    here = case.home_seconds(devices[d], ubatch)
    found: FloatArray = here - here[-1]
    if d:
        below = case.home_seconds(devices[d - 1], ubatch)
        found += below[-1] - below
    return found


def _ram_seconds(case: Case, begins: tuple[Begin, ...]) -> FloatArray:
    """Return the seconds of the homes in RAM, before each begin of the devices."""
    seconds = {ubatch: case.home_seconds(None, ubatch) for ubatch in case.ubatches()}
    return np.array([seconds[begin.ubatch][begin.block] for begin in begins])


def _expert_values(case: Case, c: int, sites: tuple[Site, ...]) -> FloatArray:
    layer = case.classes[c][0]
    found = []
    for site in sites:
        at = None if site.device < 0 else case.machine.devices[site.device]
        hop = 2 * HOP_S if site.away else 0.0
        found.append(-(case.expert_seconds(layer, at, site.ubatch or 1) + hop))
    return np.array(found)
