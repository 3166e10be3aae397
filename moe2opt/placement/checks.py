"""Requirements of a configuration that can be told once its files are read."""

from __future__ import annotations

import numpy as np

from moe2opt.placement.machine.topology import GIB
from moe2opt.placement.mode import Mode
from moe2opt.placement.sections import PARTS
from moe2opt.result import InputError


def check_case(mode: Mode) -> None:
    """Raise `InputError` for experts without room, and parts that do not go together."""
    case, config = mode.case, mode.case.config
    least = float(case.expert_bytes.min())
    most = max(tier.free_bytes for tier in case.topology.tiers)
    if least > most:
        raise InputError(
            f"tiers: an expert of {least / GIB:.3f} GiB fits no tier; the largest has "
            f"{most / GIB:.3f} GiB free"
        )
    for part in config.parts:
        if part != mode.part and part not in mode.beside:
            first, second = sorted((part, mode.part), key=PARTS.index)
            raise InputError(f"{second}: cannot be combined with {first}")
    for part in config.parts[:1]:
        if case.activation.robust:
            raise InputError(f"activation.robust: cannot be combined with {part}")
        if config.granularity != "expert":
            raise InputError(f"granularity: {config.granularity} cannot be combined with {part}")
        if config.prune is not None:
            raise InputError(
                f"prune: cannot be combined with {part}; aggregation has the form prune"
            )
    mode.check()
    _check_goal(mode)


def _check_goal(mode: Mode) -> None:
    """Raise for an objective or a budget that the case cannot have."""
    case, config = mode.case, mode.case.config
    if case.activation.robust and config.objective != "seconds_per_token":
        raise InputError("activation.robust: needs the objective seconds_per_token")
    if case.activation.robust and len(case.activation.domains) < 2:
        raise InputError("activation.robust: the activation has a single domain")
    energy = config.objective == "joules_per_token" or config.budgets.joules_per_token is not None
    if energy and not (np.isfinite(case.use.joules).all() and np.isfinite(case.dense_j)):
        tiers = [t.name for t in case.topology.tiers if t.compute_bytes_per_s and not t.power_w]
        missing = f"tier '{tiers[0]}' has no power_w" if tiers else "a link has no joules_per_gb"
        raise InputError(f"objective: joules are asked for, but {missing}")
    if config.objective == "uncovered_per_token" and config.coverage is None:
        raise InputError("objective: uncovered_per_token needs the part coverage")
    if config.budgets.cache_slots is not None and config.cache is None:
        raise InputError("budgets.cache_slots: needs the part cache")
