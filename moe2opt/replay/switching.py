"""What changing the plan costs: seconds of copying over the links as they are now."""

from __future__ import annotations

import numpy as np

from moe2opt.replay.compiled import Conditions, ReplayModel
from moe2opt.replay.device import Device
from moe2opt.replay.paths import Table
from moe2opt.result import FloatArray

#: Seconds that stand for a copy that would never end.
_NEVER_S = 1e6


def switching_s(
    model: ReplayModel,
    device: Device,
    table: Table,
    conditions: Conditions,
    tokens: FloatArray,
) -> FloatArray:
    """Return ``(G, O)`` seconds per token of copying before each option of each group is in force.

    The ``(T,)`` `tokens` are those over which copies to each tier are spread.
    """
    move = np.minimum(table.move_s * model.count, _NEVER_S) / tokens[:, None]
    return model.switching(device.held, device.target, move, conditions, table)


def switching_bytes(
    model: ReplayModel, device: Device, table: Table, conditions: Conditions
) -> FloatArray:
    """Return ``(G, O)`` bytes that each option of each group would copy."""
    size = np.broadcast_to(model.bytes, table.seconds.shape)
    return model.switching(device.held, device.target, size, conditions, table)
