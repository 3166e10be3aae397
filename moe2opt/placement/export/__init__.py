"""Exports of placement plans: what the runtime that people already use reads.

Every exporter projects the plan to what its runtime can express, checks memory again, and reports
what the projection costs.
"""

from __future__ import annotations

import importlib

from moe2opt.placement.case import Case
from moe2opt.placement.export.base import Export as Export
from moe2opt.placement.export.base import Report as Report
from moe2opt.placement.export.judge import Judge
from moe2opt.placement.modes import mode_of
from moe2opt.placement.plan import PlacementPlan
from moe2opt.result import InputError

#: Names of the formats and the modules that write them.
FORMATS = {
    "llama.cpp": "llamacpp",
    "ktransformers": "ktransformers",
    "sglang": "sglang",
    "vllm": "vllm",
    "accelerate": "accelerate",
    "adapmoe": "slots",
    "json": "ours",
}


def export(plan: PlacementPlan, to: str, instance: Case | None = None) -> tuple[Export, ...]:
    """Return the texts that a runtime needs for a plan, each with its report.

    Parameters
    ----------
    plan
        The plan.
    to
        One of `FORMATS`.
    instance
        What the plan was made for; with it, every figure and requirement is computed again.

    Raises
    ------
    InputError
        For an unknown format, or a plan that the runtime cannot express or hold.
    """
    if to not in FORMATS:
        raise InputError(
            f"--to {to}: unknown format{_meant(to)}; choose one of {', '.join(FORMATS)}"
        )
    module = importlib.import_module(f"moe2opt.placement.export.{FORMATS[to]}")
    judge = Judge(plan.checked(), None if instance is None else mode_of(instance))
    found: tuple[Export, ...] = module.export(judge)
    return found


def _meant(to: str) -> str:
    import difflib

    close = difflib.get_close_matches(to.lower(), FORMATS, n=1, cutoff=0.5)
    return f", did you mean '{close[0]}'?" if close else ""
