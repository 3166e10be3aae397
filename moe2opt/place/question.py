"""The instance of the question ``place``: compiles, reads solutions back, judges plans."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from moe2opt.canonical import MultipleChoiceProblem
from moe2opt.content import Content
from moe2opt.errors import InputError
from moe2opt.llamacpp import LlamaModel, read_llama
from moe2opt.llamacpp.converted import is_configuration, name_of
from moe2opt.llamacpp.gguf import shards
from moe2opt.place.case import Case
from moe2opt.place.compile import Compiled, compile_case
from moe2opt.place.judge import Judge
from moe2opt.place.machine import expanded, machine_of
from moe2opt.place.plan import PlacePlan, plan_of
from moe2opt.place.runtimes.question import RuntimeInstance, instance_for
from moe2opt.place.runtimes.stored import read_stored
from moe2opt.place.sections import PlaceConfig
from moe2opt.place.starts import start_of
from moe2opt.present import Measure
from moe2opt.result import IntArray
from moe2opt.schema import inside
from moe2opt.text import many

#: Most devices times blocks of a model whose plan is searched.
_MOST_BLOCKS = 1_000


@dataclass(frozen=True, eq=False, repr=False)
class PlaceInstance(Content):
    """Which device holds which layers and experts of one model.

    Attributes
    ----------
    case
        Model, machine and settings.
    """

    case: Case

    #: Layers are alike, and a cut of them is one choice of many: the bound that suits both.
    bound = "counts"

    measure = Measure("minimize", "s per token", "time", least=0.0)

    @property
    def name(self) -> str:
        """Short name."""
        return self.case.config.name

    @cached_property
    def compiled(self) -> Compiled:
        """The problem with what its options stand for."""
        return compile_case(self.case)

    def problem(self) -> MultipleChoiceProblem:
        """Return the canonical problem."""
        return self.compiled.problem

    @property
    def start(self) -> IntArray | None:
        """The solution that the search starts from, set by the best rule in use."""
        return start_of(self.case, self.compiled)

    def decode(self, x: IntArray) -> PlacePlan:
        """Return the plan that a solution stands for, in the shortest words of the runtime."""
        return plan_of(self.case, self.compiled, np.asarray(x, dtype=np.int64))

    def evaluate(self, plan: PlacePlan) -> float:
        """Return minus the seconds of a plan, from its own layers."""
        return -Judge(self.case).seconds(plan.layout, plan.ubatch)

    def check(self, plan: PlacePlan) -> list[str]:
        """Return what of a plan does not fit, by the bytes of its own layers."""
        return Judge(self.case).faults(plan.layout, plan.ubatch)

    def row_names(self) -> list[str]:
        """Return the name of each row."""
        return list(self.compiled.rows)

    def cover_names(self) -> list[str]:
        """Return no names: nothing has to be covered."""
        return []

    def describe(self) -> str:
        """Return one line about model and machine."""
        model = self.case.model
        devices = ", ".join(
            f"{d.name} ({d.capacity_bytes / 2**30:g} GiB)" for d in self.case.machine.devices
        )
        experts = f", {sum(map(len, self.case.classes))} of them with {model.experts} experts"
        return (
            f"{model.name} ({model.architecture}): {many(len(model.layers), 'layer')}"
            f"{experts if self.case.classes else ''}, {model.bytes / 2**30:.2f} GiB; on "
            f"{devices or 'the processor alone'}"
        )


def build(
    config: PlaceConfig, folder: Path, *, allow_outside: bool = False
) -> PlaceInstance | RuntimeInstance:
    """Return the instance of a configuration.

    Raises
    ------
    InputError
        When the model cannot be read, or a device is not known.
    """
    path = inside(folder, config.model, "model", allow_outside=allow_outside)
    try:
        model, config = read(config, path), named(config, path)
    except InputError as error:
        raise InputError(f"model: {error}") from error
    return asked(config, model)


def read(config: PlaceConfig, path: Path) -> LlamaModel:
    """Return the model with the bytes that the runtime of a configuration loads."""
    if config.runtime == "llama.cpp":
        return read_llama(path, config.quant)
    return read_stored(path, config.runtime, config.quant)


def asked(config: PlaceConfig, model: LlamaModel) -> PlaceInstance | RuntimeInstance:
    """Return the instance of a configuration, of whichever runtime it names."""
    if config.runtime == "llama.cpp":
        return instance_of(config, model)
    return instance_for(_case_of(config, model))


def named(config: PlaceConfig, path: Path) -> PlaceConfig:
    """Return a configuration whose line names a file that llama.cpp loads.

    It is the first of several, not their folder, and of a model in safetensors the one to be made.
    """
    if config.command_model is not None or config.runtime != "llama.cpp":
        return config
    if is_configuration(path):
        return config.model_copy(update={"command_model": name_of(path, config.quant)})
    first, told = shards(path)[0], Path(config.model)
    if first == path:
        return config
    told = told / first.name if path.is_dir() else told.with_name(first.name)
    return config.model_copy(update={"command_model": str(told)})


def instance_of(config: PlaceConfig, model: LlamaModel) -> PlaceInstance:
    """Return the instance of llama.cpp for a configuration and a model that was read."""
    return PlaceInstance(_case_of(config, model))


def _case_of(config: PlaceConfig, model: LlamaModel) -> Case:
    """Return what a plan is decided by; raise `InputError` for what cannot be."""
    if not model.layers or model.blocks > _MOST_BLOCKS:
        raise InputError(f"model: {model.blocks} blocks; 1 to {_MOST_BLOCKS} are understood")
    if not any(layer.bytes for layer in model.layers):
        raise InputError("model: its layers hold no weights")
    if model.experts and not 1 <= model.top_k <= model.experts:
        raise InputError(f"model: {model.top_k} of {model.experts} experts per token")
    if config.rpc and len(config.rpc) != len(config.gpus):
        raise InputError(f"rpc: {len(config.rpc)} addresses for {len(config.gpus)} devices")
    config = expanded(config)
    case = Case(config, model, machine_of(config))
    _ = case.depth  # says what is wrong with it now
    return case
