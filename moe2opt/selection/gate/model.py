"""The trained gate: numpy arrays, saved as safetensors and JSON, usable without any trainer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from moe2opt.errors import DAMAGE
from moe2opt.files import read_json
from moe2opt.result import FloatArray, InputError
from moe2opt.selection.gate.calibrate import Calibrator
from moe2opt.selection.gate.features import FeatureMap
from moe2opt.selection.gate.settings import Head
from moe2opt.selection.gate.tensors import read_tensors, write_tensors
from moe2opt.writing import write_text

_FORMAT = 1
_TENSORS, _RECORD = "gate.safetensors", "gate.json"

#: Largest number of a gate that is read: no product in it overflows.
_LARGEST = 1e50


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A linear map, plus one hidden layer of rectified units when it has one.

    Attributes
    ----------
    weight, bias
        ``(D, M)`` and ``(M,)``.
    hidden_weight, hidden_bias, out_weight
        ``(D, H)``, ``(H,)`` and ``(H, M)``; H may be 0.
    """

    weight: FloatArray
    bias: FloatArray
    hidden_weight: FloatArray
    hidden_bias: FloatArray
    out_weight: FloatArray

    def __call__(self, inputs: FloatArray) -> FloatArray:
        """Return the ``(P, M)`` logits of ``(P, D)`` inputs."""
        hidden = np.maximum(inputs @ self.hidden_weight + self.hidden_bias, 0.0)
        logits: FloatArray = inputs @ self.weight + self.bias + hidden @ self.out_weight
        return logits


def linear(weight: FloatArray, bias: FloatArray) -> Network:
    """Return a network without a hidden layer."""
    size, models = weight.shape
    return Network(weight, bias, np.zeros((size, 0)), np.zeros(0), np.zeros((0, models)))


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """Estimates for every LLM how likely it answers a prompt correctly.

    Attributes
    ----------
    llms
        Names of the M LLMs.
    head
        How it was trained.
    features
        Turns vectors and categories into inputs.
    network
        Inputs to logits.
    calibrator
        Logits to probabilities.
    record
        Settings, split, data digest, versions and measures of the training.
    """

    llms: tuple[str, ...]
    head: Head
    features: FeatureMap
    network: Network
    calibrator: Calibrator
    record: dict[str, Any] = field(default_factory=dict)

    def logits(self, vectors: FloatArray, category: npt.NDArray[np.str_]) -> FloatArray:
        """Return ``(P, M)`` gating values; of the softmax head, log-probabilities over all LLMs."""
        values = self.network(self.features(vectors, category))
        return values if self.head == "sigmoid" else values - log_sum_exp(values)

    def scores(self, vectors: FloatArray, category: npt.NDArray[np.str_]) -> FloatArray:
        """Return ``(P, M)`` estimated probabilities of a correct answer."""
        return self.calibrator(self.logits(vectors, category))

    def save(self, folder: str | Path) -> None:
        """Write ``gate.safetensors`` and ``gate.json`` into `folder`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        network = {n: getattr(self.network, n) for n in Network.__dataclass_fields__}
        tensors = {
            **{f"network.{name}": array for name, array in network.items()},
            "features.mean": self.features.mean,
            "features.scale": self.features.scale,
            **{f"calibrator.{name}": array for name, array in self.calibrator.tensors().items()},
        }
        doubles = {name: np.asarray(array, dtype=np.float64) for name, array in tensors.items()}
        write_tensors(folder / _TENSORS, doubles)
        content = {
            "format": _FORMAT,
            "llms": list(self.llms),
            "head": self.head,
            "calibration": self.calibrator.kind,
            "categories": list(self.features.categories),
            "record": self.record,
        }
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        write_text(folder / _RECORD, text + "\n")


def load_gate(folder: str | Path) -> Gate:
    """Read a gate that `Gate.save` wrote; neither torch nor scikit-learn is needed.

    Raises
    ------
    InputError
        When a file is missing or broken, or the two do not fit together.
    """
    folder = Path(folder)
    content = _read_record(folder / _RECORD)
    tensors = read_tensors(folder / _TENSORS)
    for name, array in tensors.items():
        if not (np.abs(array) <= _LARGEST).all():
            raise InputError(f"{folder}: {name} holds a number beyond {_LARGEST:g}, or none")
    try:
        gate = Gate(
            llms=tuple(content["llms"]),
            head=content["head"],
            features=FeatureMap(
                tensors["features.mean"], tensors["features.scale"], tuple(content["categories"])
            ),
            network=Network(**_part(tensors, "network")),
            calibrator=Calibrator.of(content["calibration"], _part(tensors, "calibrator")),
            record=content["record"],
        )
    except DAMAGE as error:
        raise InputError(f"{folder}: not a gate: {error}") from error
    _check_shapes(folder, gate)
    return gate


def exists(folder: Path) -> bool:
    """Tell whether `folder` holds a gate."""
    return (folder / _RECORD).exists()


def log_sum_exp(values: FloatArray) -> FloatArray:
    """Return ``(P, 1)`` logarithms of the sums of exponentials of each row."""
    top = values.max(axis=1, keepdims=True)
    total: FloatArray = top + np.log(np.exp(values - top).sum(axis=1, keepdims=True))
    return total


def _part(tensors: dict[str, npt.NDArray[Any]], prefix: str) -> dict[str, FloatArray]:
    start = f"{prefix}."
    return {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}


def _read_record(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise InputError(f"{path}: not a gate of format {_FORMAT}")
    for key in ("llms", "categories"):
        names = content.get(key)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"{path}: {key}: expected a list of names")
    if content.get("head") not in get_args(Head) or not isinstance(content.get("record"), dict):
        raise InputError(f"{path}: head or record is missing or of another kind")
    return content


def _check_shapes(folder: Path, gate: Gate) -> None:
    inputs, models, net = gate.features.size, len(gate.llms), gate.network
    if not (gate.features.scale >= 1 / _LARGEST).all():
        raise InputError(f"{folder}: features.scale must be positive")
    hidden = net.hidden_bias.size
    expected = {
        "weight": (inputs, models),
        "bias": (models,),
        "hidden_weight": (inputs, hidden),
        "hidden_bias": (hidden,),
        "out_weight": (hidden, models),
    }
    for name, shape in expected.items():
        found = getattr(net, name).shape
        if found != shape:
            raise InputError(f"{folder}: network.{name} has shape {found}, expected {shape}")
    fault = gate.calibrator.fault(models)
    if fault:
        raise InputError(f"{folder}: calibrator.{fault}")
