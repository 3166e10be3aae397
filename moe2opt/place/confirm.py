"""A plan that the runtime itself confirms, device by device, before a weight is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moe2opt.llamacpp.runtime import Answer, Told, ask
from moe2opt.place.command import model_options, options_of, rpc_options
from moe2opt.place.machine import GIB
from moe2opt.place.plan import PlacePlan
from moe2opt.place.question import PlaceInstance, instance_of
from moe2opt.place.sections import Gpu
from moe2opt.result import InputError

MIB = 2**20

#: MiB by which rounded figures of weights and contexts may differ and still agree.
_ROUNDED_MIB = 1.5


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What the runtime says beside what a plan says.

    Attributes
    ----------
    agrees
        Whether weights and contexts are the same, and everything fits with the margin.
    rows
        Per device and last for RAM: name, and bytes of weights, context and compute that the
        runtime tells.
    differences
        Where plan and runtime differ, a line each.
    lacking_bytes
        By number of the device, what its margin was too small by.
    """

    agrees: bool
    rows: tuple[dict[str, Any], ...]
    differences: tuple[str, ...]
    lacking_bytes: dict[int, int]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        return {
            "agrees": self.agrees,
            "devices": [dict(row) for row in self.rows],
            "differences": list(self.differences),
        }


def confirm(instance: PlaceInstance, plan: PlacePlan, program: Path) -> Confirmed:
    """Ask the runtime for the bytes of a plan's own line.

    Parameters
    ----------
    program
        ``llama-server`` or its folder.

    Raises
    ------
    InputError
        When the program does not say, or sees other devices than the plan.
    """
    case = instance.case
    options = [*model_options(case), *options_of(case, plan.layout, plan.ubatch)]
    return compared(plan, ask(program, [*rpc_options(case), *options]))


def compared(plan: PlacePlan, answer: Answer) -> Confirmed:
    """Return a plan beside what the runtime says of its line."""
    *devices, ram = plan.devices
    used = [k for k in range(len(devices)) if _is_used(devices[k])]
    told = list(answer.devices)
    if len(told) == len(devices):
        told = [told[k] for k in used]
    if len(told) != len(used):
        names = ", ".join(own.name for own in answer.devices) or "none"
        raise InputError(
            f"the runtime sees {len(answer.devices)} devices ({names}), the plan has {len(devices)}"
        )
    pairs = [(k, devices[k], own) for k, own in zip(used, told, strict=True)]
    lacking = {k: short for k, row, own in pairs if (short := _short(row, own)) > 0}
    lines = [line for _, row, own in pairs for line in _differences(row, own)]
    # RAM is not measured there: repacked weights and mapped ones overlap.
    rows = [_row(row["name"], own) for _, row, own in pairs] + [_row(ram["name"], answer.ram)]
    return Confirmed(not lines and not lacking, tuple(rows), tuple(lines), lacking)


def _is_used(row: dict[str, Any]) -> bool:
    return bool(row["weights_bytes"] or row["context_bytes"])


def _short(row: dict[str, Any], own: Told) -> int:
    """Return by how many bytes what the runtime takes exceeds what the plan keeps for it."""
    kept = row["capacity_bytes"] - row["free_bytes"] - row["weights_bytes"] - row["context_bytes"]
    taken = own.compute_mib + max(0.0, own.weights_mib - row["weights_bytes"] / MIB - _ROUNDED_MIB)
    # Of the margin only the share of the compute buffer is meant for this.
    meant = 1.15 * row["compute_bytes"]
    return max(0, int(taken * MIB - min(kept, meant)) - 16 * MIB)


def _differences(row: dict[str, Any], own: Told) -> Iterator[str]:
    for what, planned, told in (
        ("weights", row["weights_bytes"], own.weights_mib),
        ("context", row["context_bytes"], own.context_mib),
    ):
        if abs(planned / MIB - told) > _ROUNDED_MIB:
            yield f"{row['name']}: {what} {planned / MIB:,.0f} MiB planned, {told:,} MiB told"


def _row(name: str, own: Told) -> dict[str, Any]:
    return {
        "name": name,
        "weights_bytes": own.weights_mib * MIB,
        "context_bytes": own.context_mib * MIB,
        "compute_bytes": own.compute_mib * MIB,
    }


def corrected(instance: PlaceInstance, found: Confirmed) -> PlaceInstance:
    """Return the question with margins that hold what the runtime takes beyond the plan's own."""
    config = instance.case.config
    gpus = [
        _with_margin(gpu, config.margin_gib, found.lacking_bytes.get(k, 0))
        for k, gpu in enumerate(config.gpus)
    ]
    return instance_of(config.model_copy(update={"gpus": tuple(gpus)}), instance.case.model)


def _with_margin(gpu: Gpu, margin_gib: float, lacking: int) -> Gpu:
    own = margin_gib if gpu.margin_gib is None else gpu.margin_gib
    return gpu.model_copy(update={"margin_gib": own + lacking / GIB}) if lacking else gpu
