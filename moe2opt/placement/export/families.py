"""The family of a plan's model, and what runtimes cannot run of it."""

from __future__ import annotations

from moe2opt.huggingface.modules import Family, family_named
from moe2opt.placement.plan import PlacementPlan
from moe2opt.result import InputError


def family_of(plan: PlacementPlan) -> Family:
    """Return the family of a plan's model."""
    return family_named(plan.model)


def causal_only(family: Family, runtime: str) -> None:
    """Raise `InputError` for an encoder with a decoder."""
    if family.encoder_decoder:
        raise InputError(f"--to {runtime}: it does not run {family.name}")


def layer_words(rows: list[int]) -> str:
    """Return layer numbers as ranges: ``0-3, 7``."""
    runs: list[list[int]] = []
    for number in sorted(rows):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
