"""Models with random weights and real sizes, for timing only: their text is noise.

Weights are drawn from a seed and written shard by shard. The router prefers some experts, so that
use is uneven as in real models; how uneven is an assumption.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Generator, Tensor

from moe2opt.executor.model import families
from moe2opt.executor.model.families import ModelSpec
from moe2opt.executor.model.folder import INDEX
from moe2opt.result import InputError
from tinymoe.training import config_of

#: Most bytes of experts in one shard.
_SHARD_BYTES = 256 * 2**20

#: Different bytes.
BYTES = 256

#: Standing component of the hidden state that router preferences act on.
_STANDING = 0.5


@dataclass(frozen=True, slots=True)
class Synthetic:
    """A model to draw.

    Attributes
    ----------
    spec
        Its shape.
    zipf
        How uneven the router's preferences are: the logit of the expert of rank r is lowered by
        ``zipf * ln r``.
    seed
        Of all weights.
    """

    spec: ModelSpec
    zipf: float = 0.7
    seed: int = 0

    @property
    def expert_bytes(self) -> int:
        """Bytes of all experts in fp16."""
        spec = self.spec
        return 2 * spec.expert_weights * spec.experts * len(spec.moe_layers)


def switch_base(
    experts: int = 128,
    max_bytes: float = 2 * 2**30,
    layers: int = 12,
    vocabulary: int = BYTES,
) -> Synthetic:
    """Return a model with the expert sizes of Switch-Base, with as many layers as fit.

    Width 768 and 4,718,592 weights per expert, one expert per token, as in Switch-Base. Its experts
    are two matrices of inner width 3072; here they are three of 2048, which is as many weights.
    Every layer has experts (in Switch-Base every other), since only these are of interest.

    Parameters
    ----------
    experts
        Experts per layer: 8, 16, 32, 64, 128 or 256 in the published family.
    max_bytes
        Most bytes of experts, in fp16.
    layers
        Most layers; Switch-Base has 12 with experts.
    vocabulary
        Different tokens: 256 for bytes. With random weights a token all but decides its experts, so
        few different ones make use uneven by chance.

    Raises
    ------
    InputError
        When not even one layer fits.
    """
    spec = ModelSpec(
        family="mixtral",
        vocabulary=vocabulary,
        hidden=768,
        n_layers=1,
        heads=12,
        kv_heads=12,
        head_dim=64,
        experts=experts,
        top_k=1,
        expert_width=2048,
        moe_layers=(0,),
        rope_theta=10_000.0,
        tied=True,
    )
    number = min(layers, int(max_bytes // Synthetic(spec).expert_bytes))
    if number < 1:
        raise InputError(
            f"synthetic: one layer of {experts} experts has {Synthetic(spec).expert_bytes} bytes, "
            f"more than {max_bytes:.0f}"
        )
    return Synthetic(replace(spec, n_layers=number, moe_layers=tuple(range(number))))


def write(model: Synthetic, folder: Path) -> None:
    """Write a model in Hugging Face format, sharded; nothing stays behind when that fails.

    Raises
    ------
    InputError
        When `folder` exists, or cannot be written.
    """
    if folder.exists():
        raise InputError(f"synthetic: {folder.name} exists already")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    except OSError as error:
        raise InputError(f"synthetic: {folder}: {error.strerror or error}") from error
    try:
        _fill(model, part, folder.name)
        part.rename(folder)
    except OSError as error:
        raise InputError(f"synthetic: {folder}: {error.strerror or error}") from error
    except Exception as error:
        if type(error).__module__.startswith("safetensors"):
            raise InputError(f"synthetic: {folder} cannot be written: {error}") from error
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _fill(model: Synthetic, part: Path, name: str) -> None:

    note = {"synthetic": True, "seed": model.seed, "zipf": model.zipf}
    words = {"tokenizer": "bytes"} if model.spec.vocabulary == BYTES else {}
    config = config_of(
        model.spec,
        4096,
        torch_dtype="float32",
        **words,
        _name_or_path=f"{name} (SYNTHETIC weights)",
        moe2opt=note,
    )
    (part / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    draws = torch.Generator().manual_seed(model.seed)
    where: dict[str, str] = {}
    for k, shard in enumerate(_shards(model, draws)):
        file = f"model-{k:05}.safetensors"
        save_file(dict(shard), str(part / file), metadata={"format": "pt"})
        where |= dict.fromkeys(shard, file)
    index = {"metadata": {"synthetic": "true"}, "weight_map": where}
    (part / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def _shards(model: Synthetic, draws: Generator) -> Iterator[Mapping[str, Tensor]]:
    """Yield everything but the experts (fp32), then experts (fp16), some at a time."""
    spec = model.spec
    routed = families.routed_names(spec)
    shapes = dict(families.expected_shapes(spec))
    yield {
        name: _drawn(model, name, shape, draws)
        for name, shape in shapes.items()
        if name not in routed
    }
    step = max(1, _SHARD_BYTES // (2 * spec.expert_weights))
    for layer in spec.moe_layers:
        for first in range(0, spec.experts, step):
            yield {
                name: (torch.randn(shapes[name], generator=draws) * shapes[name][1] ** -0.5).half()
                for expert in range(first, min(first + step, spec.experts))
                for name in families.expert_names(spec, layer, expert).values()
            }


def _drawn(model: Synthetic, name: str, shape: tuple[int, ...], draws: Generator) -> Tensor:
    if len(shape) == 1:
        return torch.ones(shape)
    tensor: Tensor = torch.randn(shape, generator=draws)
    if "embed" in name:
        return tensor + _STANDING
    tensor = tensor * shape[1] ** -0.5
    if name.endswith(".gate.weight"):
        # The mean of the normed state is about that of the embedding over its size.
        mean = _STANDING / (1.0 + _STANDING**2) ** 0.5
        rank = torch.randperm(shape[0], generator=draws).float() + 1.0
        tensor = tensor - (model.zipf * rank.log() / (mean * shape[1]))[:, None]
    return tensor
