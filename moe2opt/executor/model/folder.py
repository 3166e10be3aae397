"""Folders with a model in Hugging Face format, read tensor by tensor."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from moe2opt.executor.model import families
from moe2opt.executor.model.decoder import Decoder, Layer
from moe2opt.executor.model.experts import ResidentExperts
from moe2opt.executor.model.families import ModelSpec, read_spec
from moe2opt.files import read_json
from moe2opt.result import InputError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


@dataclass(frozen=True, eq=False)
class ModelFolder:
    """A model on disk; tensors are read when asked for.

    Attributes
    ----------
    path
        The folder.
    spec
        Shape and options.
    config
        Content of ``config.json``.
    files
        File of each tensor.
    """

    path: Path
    spec: ModelSpec
    config: Mapping[str, Any]
    files: Mapping[str, Path]
    _open: dict[Path, Any] = field(default_factory=dict, repr=False)

    def tensor(self, name: str) -> Tensor:
        """Return a tensor as it is stored.

        Raises
        ------
        InputError
            When it is not there, cannot be read, or holds numbers that are not finite.
        """
        if name not in self.files:
            raise InputError(f"{self.path.name}: tensor {name} is missing")
        path = self.files[name]
        try:
            tensor: Tensor = self.handle(path).get_tensor(name)
        except InputError:
            raise
        except Exception as error:  # the library's own exception derives from Exception
            raise InputError(f"{path.name}: tensor {name} cannot be read: {error}") from error
        if not tensor.isfinite().all():
            raise InputError(f"{path.name}: tensor {name} is corrupted: not all numbers are finite")
        return tensor

    def expert_weights(self, layer: int, expert: int) -> dict[str, Tensor]:
        """Return the matrices `gate`, `up` and `down` of an expert, as stored."""
        names = families.expert_names(self.spec, layer, expert)
        return {part: self.tensor(name) for part, name in names.items()}

    def resident(self) -> ResidentExperts:
        """Return all experts in memory, in fp32."""
        keys = itertools.product(self.spec.moe_layers, range(self.spec.experts))
        return ResidentExperts(
            {key: {k: t.float() for k, t in self.expert_weights(*key).items()} for key in keys}
        )

    def decoder(self, dtype: Any = None, device: str = "cpu") -> Decoder:
        """Return the model without its routed experts, in memory; fp32 unless `dtype` is given."""

        def read(name: str) -> Tensor:
            return self.tensor(name).to(device=device, dtype=dtype or torch.float32)

        top = {key: read(name) for key, name in families.top_names(self.spec).items()}
        layers = []
        for number in range(self.spec.n_layers):
            tensors = {k: read(n) for k, n in families.layer_names(self.spec, number).items()}
            dense = {k: read(n) for k, n in families.dense_names(self.spec, number).items()}
            layers.append(Layer(tensors, dense or None))
        return Decoder(self.spec, top["embedding"], top["norm"], top["head"], layers)

    @cached_property
    def dense_bytes(self) -> int:
        """Bytes of everything but the routed experts, as stored."""
        routed = families.routed_names(self.spec)
        names = (name for name, _ in families.expected_shapes(self.spec) if name not in routed)
        return sum(self.tensor(name).nbytes for name in names)

    def handle(self, path: Path) -> Any:
        """Return the open safetensors file."""
        if path not in self._open:
            self._open[path] = _opened(path)
        return self._open[path]


def open_folder(path: str | Path) -> ModelFolder:
    """Open a folder with ``config.json`` and ``model.safetensors`` (or an index of shards).

    Names and shapes of all tensors are checked; their numbers are when they are read.

    Raises
    ------
    InputError
        For a missing or unreadable file, another family, a missing tensor or a wrong shape.
    """
    folder = Path(path)
    config = _json(folder / "config.json")
    spec = read_spec(config, f"{folder.name}/config.json")
    found = ModelFolder(folder, spec, config, _files(folder))
    _check_shapes(found)
    return found


def _json(path: Path) -> dict[str, Any]:
    where = f"{path.parent.name}/{path.name}"
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{where}: holds no JSON object")
    return content


def _files(folder: Path) -> dict[str, Path]:
    """Return the file of each tensor, by the index of shards or from the single file."""
    if not (folder / INDEX).is_file():
        path = folder / SINGLE
        if not path.is_file():
            raise InputError(f"{folder.name}: there is neither {SINGLE} nor {INDEX}")
        return dict.fromkeys(_opened(path).keys(), path)
    mapping = _json(folder / INDEX).get("weight_map")
    if not isinstance(mapping, dict):
        raise InputError(f"{folder.name}/{INDEX}: has no object 'weight_map'")
    for name in sorted(set(mapping.values())):
        if not isinstance(name, str) or Path(name).name != name:
            raise InputError(f"{folder.name}/{INDEX}: {name!r} is no file name")
        if not (folder / name).is_file():
            raise InputError(f"{folder.name}: shard {name} is missing; {INDEX} names it")
    return {tensor: folder / name for tensor, name in mapping.items()}


def _opened(path: Path) -> Any:
    try:
        return safe_open(str(path), framework="pt")
    except Exception as error:  # the library's own exception derives from Exception
        raise InputError(f"{path.name}: is damaged or no safetensors file: {error}") from error


def _check_shapes(folder: ModelFolder) -> None:
    for name, shape in families.expected_shapes(folder.spec):
        if name not in folder.files:
            raise InputError(f"{folder.path.name}: tensor {name} is missing")
        path = folder.files[name]
        handle = folder.handle(path)
        if name not in handle.keys():  # noqa: SIM118 - a handle is no mapping
            raise InputError(f"{path.name}: tensor {name} is missing; the index says it is here")
        stored = tuple(handle.get_slice(name).get_shape())
        if stored != shape:
            raise InputError(
                f"{path.name}: tensor {name} has shape {stored}; config.json asks for {shape}"
            )
