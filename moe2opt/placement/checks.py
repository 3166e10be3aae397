"""Requirements of a configuration that can be told once its files are read."""

from __future__ import annotations

import numpy as np

from moe2opt.placement.mode import Mode
from moe2opt.placement.sections import PARTS
from moe2opt.result import InputError


def check_parts(mode: Mode) -> None:
    """Raise `InputError` for parts that do not go together or lack their data."""
    case, config = mode.case, mode.case.config
    for part in config.parts:
        if part != mode.part and part not in mode.beside:
            first, second = sorted((part, mode.part), key=PARTS.index)
            raise InputError(f"{second}: cannot be combined with {first}")
    _check_layers(mode)
    mode.check()
    if case.activation.robust and config.objective != "seconds_per_token":
        raise InputError("activation.robust: needs the objective seconds_per_token")
    if case.activation.robust and len(case.activation.domains) < 2:
        raise InputError("activation.robust: the activation has a single domain")
    if config.objective == "joules_per_token" or config.budgets.joules_per_token is not None:
        _check_energy(mode)
    if config.objective == "uncovered_per_token" and config.coverage is None:
        raise InputError("objective: uncovered_per_token needs the part coverage")
    if config.budgets.cache_slots is not None and config.cache is None:
        raise InputError("budgets.cache_slots: needs the part cache")


def _check_layers(mode: Mode) -> None:
    """Raise for what does not go with options of whole layers."""
    config = mode.case.config
    if not config.parts:
        return
    first = config.parts[0]
    if mode.case.activation.robust:
        raise InputError(f"activation.robust: cannot be combined with {first}")
    if config.granularity != "expert":
        raise InputError(f"granularity: {config.granularity} cannot be combined with {first}")
    if config.prune is not None:
        raise InputError(f"prune: cannot be combined with {first}; aggregation has the form prune")


def _check_energy(mode: Mode) -> None:
    case = mode.case
    if not np.isfinite(case.use.joules).all() or not np.isfinite(case.dense_j):
        tiers = [t.name for t in case.topology.tiers if t.compute_bytes_per_s and not t.power_w]
        missing = f"tier '{tiers[0]}' has no power_w" if tiers else "a link has no joules_per_gb"
        raise InputError(f"objective: joules are asked for, but {missing}")
