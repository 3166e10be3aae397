"""Models as their GGUF headers describe them (geometry of public models), and measured runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from moe2opt.llamacpp.gguf import Header, Tensor
from moe2opt.llamacpp.model import LlamaModel, model_of

HERE = Path(__file__).parent / "llamacpp"
MIB = 2**20

#: Geometry and bytes by run of equal layers: count, bytes besides experts, the largest tensor of
#: them, bytes of the experts by matrix.
MODELS: dict[str, dict[str, Any]] = json.loads((HERE / "models.json").read_text())

#: What llama-server b10434 reserved on one device, without weights (MiB).
MEASURED = list(csv.DictReader((HERE / "measured.csv").read_text().splitlines()))


def header(name: str) -> Header:
    """Return a header with the keys of a model and tensors of its sizes."""
    about = MODELS[name]
    architecture = about["architecture"]
    fields = {f"{architecture}.{key}": value for key, value in about["keys"].items()}
    tensors = [Tensor("token_embd.weight", 1, about["input"])]
    if not about["tied"]:
        tensors.append(Tensor("output.weight", 1, about["output"]))
    else:
        tensors.append(Tensor("output_norm.weight", 1, about["output"]))
    block = 0
    for count, other, largest, experts in about["layers"]:
        for _ in range(count):
            tensors.append(Tensor(f"blk.{block}.attn_q.weight", 1, largest))
            tensors.append(Tensor(f"blk.{block}.rest.weight", 1, other - largest))
            for matrix, size in experts.items():
                tensors.append(Tensor(f"blk.{block}.ffn_{matrix}_exps.weight", 1, size))
            block += 1
    return Header({"general.architecture": architecture, **fields}, tuple(tensors))


def model(name: str) -> LlamaModel:
    """Return a model by name."""
    return model_of(header(name), name)
