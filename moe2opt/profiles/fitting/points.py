"""Measured runs as arrays: what a fit sees of a profile table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from moe2opt.profiles.formats import CLASSES, engine_class, find_format, weight_class
from moe2opt.result import BoolArray, FloatArray
from moe2opt.schema.csv import Row

_CLASS_NAMES = tuple(CLASSES)

#: Context assumed where a source does not state lengths, in tokens.
SHORT_CONTEXT_TOKENS = 192.0

#: A model within this factor of the measured sizes is not an extrapolation.
NEAR = 1.25


@dataclass(frozen=True, eq=False)
class Points:
    """N requests on one or several devices; every attribute holds one entry per request.

    Attributes
    ----------
    device, mode, engine, model, source, group
        Names. `engine` is a class of engines; a `group` is one LLM in one format, engine and power
        mode of one source.
    bandwidth_bytes_per_s, operations_per_s
        Peak memory bandwidth and arithmetic rate of the device; where its rate is not known, what
        is usual at its bandwidth.
    all_bytes, active_bytes
        Weights in memory, and those read per token.
    active_params
        Parameters used per token.
    layers
        Number of layers; where nobody says, what is usual for the number of parameters.
    weight_class
        Index into `CLASSES`.
    moe
        1 for a mixture of experts, else 0.
    prompt_tokens
        Length of the prompt, 0 where unknown.
    context_tokens
        Mean number of cached tokens while decoding.
    """

    device: tuple[str, ...]
    mode: tuple[str, ...]
    engine: tuple[str, ...]
    model: tuple[str, ...]
    source: tuple[str, ...]
    group: tuple[object, ...]
    bandwidth_bytes_per_s: FloatArray
    operations_per_s: FloatArray
    all_bytes: FloatArray
    active_bytes: FloatArray
    active_params: FloatArray
    layers: FloatArray
    weight_class: FloatArray
    moe: FloatArray
    prompt_tokens: FloatArray
    context_tokens: FloatArray

    def __len__(self) -> int:
        return len(self.device)

    def take(self, mask: BoolArray | Sequence[bool]) -> Points:
        """Return the requests where `mask` is true."""
        keep = np.asarray(mask, dtype=bool)
        chosen: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple):
                chosen[field.name] = tuple(v for v, k in zip(value, keep, strict=True) if k)
            else:
                chosen[field.name] = value[keep]
        return Points(**chosen)

    def of_class(self, name: str) -> FloatArray:
        """Return 1 where the weights are of a class, else 0."""
        return np.where(self.weight_class == _CLASS_NAMES.index(name), 1.0, 0.0)


def used_for(runs: Iterable[Row], quantity: str) -> list[Row]:
    """Return the runs that calibrate a quantity."""
    return [run for run in runs if quantity in (run["fits"] or "").split()]


def points_of(
    runs: Sequence[Row], peaks: Mapping[str, tuple[float, float]], formats: Sequence[Row]
) -> Points:
    """Return runs as arrays; bytes that a source does not print follow from the format.

    `peaks` are bytes and operations per second by device.
    """
    shapes = [_shape(run, formats) for run in runs]
    table = np.array(shapes, dtype=float).reshape(len(runs), 5)
    return Points(
        device=tuple(run["device"] for run in runs),
        mode=tuple(run["power_mode"] or "" for run in runs),
        engine=tuple(engine_class(run["engine"]) or "" for run in runs),
        model=tuple(run["model"] for run in runs),
        source=tuple(repository(run["source"]) for run in runs),
        group=tuple(_group(run) for run in runs),
        bandwidth_bytes_per_s=np.array([peaks[run["device"]][0] for run in runs]),
        operations_per_s=np.array([peaks[run["device"]][1] for run in runs]),
        all_bytes=table[:, 0],
        active_bytes=table[:, 1],
        active_params=table[:, 2],
        layers=np.array([float(run["layers"] or usual_layers(run["params_b"])) for run in runs]),
        weight_class=table[:, 3],
        moe=table[:, 4],
        prompt_tokens=np.array([float(run["prompt_tokens"] or 0) for run in runs]),
        context_tokens=np.array([mean_context(run) for run in runs]),
    )


def usual_layers(params_b: float) -> float:
    """Return the number of layers that is usual for so many parameters in 1e9.

    A power law through 17 dense models of 0.1 to 71e9 parameters; the middle one is 15 % off.
    """
    return 25.4 * float(params_b**0.184)


def _shape(run: Row, formats: Sequence[Row]) -> tuple[float, ...]:
    form = find_format(run["quant"], formats, run["bits_per_weight"])
    active_b = run["active_params_b"] or run["params_b"]
    size = run["weights_gb"] or run["params_b"] * form.bits_per_weight / 8
    kind = _CLASS_NAMES.index(weight_class(form.bits_per_weight))
    share = active_b / run["params_b"]
    moe = float(run["active_params_b"] is not None and share < 1)
    return size * 1e9, size * share * 1e9, active_b * 1e9, kind, moe


def mean_context(run: Row) -> float:
    """Return the mean number of cached tokens while a run decodes."""
    prompt, output = run["prompt_tokens"], run["output_tokens"]
    before = run["context_tokens"] or 0
    if prompt is None and output is None:
        return before + SHORT_CONTEXT_TOKENS
    return float(before + (prompt or 0) + (output or 0) / 2)


def _group(run: Row) -> tuple[object, ...]:
    keys = ("device", "model", "quant", "engine", "power_mode", "source")
    return tuple(run[key] for key in keys)


def repository(source: str) -> str:
    """Return the repository or site of a source: files of one repository are one source."""
    text = source.removeprefix("https://").replace("github.com/", "github:")
    scheme, colon, rest = text.partition(":")
    if colon and scheme in ("github", "hf"):
        owner = [part.partition(":")[0] for part in rest.split("/")[:2]]
        return f"{scheme}:{'/'.join(owner)}"
    return text.partition("/")[0]
