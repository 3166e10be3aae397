"""Where a result comes from: data, settings, versions and machine, enough to run it again."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from typing import Any

from moe2opt.canonical import (
    FacilityProblem,
    Instance,
    MonotoneProblem,
    MultipleChoiceProblem,
    Problem,
)
from moe2opt.result import encode_float
from moe2opt.solvers import Options
from moe2opt.source import name_of, source_of

_FAMILIES = (FacilityProblem, MultipleChoiceProblem, MonotoneProblem)


def provenance_of(
    target: Instance[Any] | Problem, problem: Problem | None, options: Options, solver: str
) -> dict[str, Any]:
    """Return where a result comes from, JSON-ready; `problem` is None where none was compiled."""
    origin: dict[str, Any] = {}
    if not isinstance(target, _FAMILIES):
        origin["instance"] = name_of(target)
        origin |= getattr(target, "origin", {})
    if (source := source_of(target)) is not None:
        origin |= {
            "question": source.question,
            "file": source.path.name,
            "scenario": source.scenario,
            "overrides": list(source.overrides),
        }
    names = {f.name for f in fields(options)} - {"warm_start", "fixed_rows", "tuning"}
    settings = {f.name: getattr(options, f.name) for f in fields(options) if f.name in names}
    if problem is not None:
        own = {"kind": problem.kind, "size": problem.size, "sha256": problem.fingerprint}
        origin["problem"] = own
    return {
        **origin,
        "solver": solver,
        "options": {
            **{k: encode_float(v) if isinstance(v, float) else v for k, v in settings.items()},
            "warm_start": options.warm_start is not None,
        },
        "versions": dict(versions()),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python, moe2opt and the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in ("moe2opt", "numpy", "scipy", "numba", "pyomo", "highspy"):
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
