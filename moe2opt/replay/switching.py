"""What changing the plan costs: seconds of copying over the links as they are now."""

from __future__ import annotations

import numpy as np

from moe2opt.replay.compiled import ReplayModel
from moe2opt.replay.device import Device
from moe2opt.replay.paths import Table
from moe2opt.result import FloatArray

#: Seconds that stand for a copy that would never end.
_NEVER_S = 1e6


def copies_needed(model: ReplayModel, device: Device) -> FloatArray:
    """Return ``(U, O)`` 1 where an option needs a copy that is not there yet."""
    tier, precision = model.menu.tier, model.menu.precision
    held = precision[None, :] == device.held[tier].T
    return np.where(held | device.is_store[tier][None, :], 0.0, 1.0)


def switching_s(model: ReplayModel, device: Device, table: Table) -> FloatArray:
    """Return ``(U, O)`` seconds of copying before each option of each unit is in force."""
    tier, precision = model.menu.tier, model.menu.precision
    move = np.minimum(table.move_s[tier, precision] * model.count, _NEVER_S)
    return copies_needed(model, device) * move[None, :]


def switching_bytes(model: ReplayModel, device: Device) -> FloatArray:
    """Return ``(U, O)`` bytes that each option of each unit would copy."""
    return copies_needed(model, device) * model.bytes[model.menu.precision][None, :]
