"""Baselines that a configuration asks for: rules by their names, and plans of others by files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from moe2opt.errors import InputError
from moe2opt.schema.names import FileName
from moe2opt.schema.section import Section

PlanT = TypeVar("PlanT")


class NamedPlan(Section):
    """A plan that somebody else made."""

    plan: FileName
    """CSV with the columns that name what is chosen; its file name names the baseline."""


def rivals_of(
    asked: Iterable[str | NamedPlan], read: Callable[[str, str], PlanT]
) -> dict[str, PlanT | None]:
    """Return what ``baselines`` asks for: each rule (None), and the plans of others by their names.

    `read` returns what the file of a plan, which stands under a key, says.

    Raises
    ------
    InputError
        For a name that is there twice, and what `read` raises.
    """
    found: dict[str, PlanT | None] = {}
    for k, one in enumerate(asked):
        name = Path(one.plan).stem if isinstance(one, NamedPlan) else one
        if name in found:
            raise InputError(f"baselines.{k}: '{name}' is there twice")
        plan = read(one.plan, f"baselines.{k}.plan") if isinstance(one, NamedPlan) else None
        found[name] = plan
    return found
