"""Small GGUF files of models with experts, written without any weight worth reading."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HIDDEN, WIDTH, EXPERTS = 256, 128, 4

#: Type of each matrix of a layer, and what every layer has where nothing else is asked for.
Types = dict[str, type[np.floating[Any]]]
PLAIN: Types = {"gate": np.float16, "up": np.float16, "down": np.float16}


def write_moe(
    path: Path,
    layers: Sequence[Types],
    *,
    architecture: str = "llama",
    shards: int = 1,
    **keys: int | list[int] | list[bool],
) -> list[Path]:
    """Write a model with one attention tensor a layer and experts in the given types.

    Parameters
    ----------
    layers
        Types of the experts of each layer, empty in a dense one.
    shards
        Files that the layers are spread over; `path` names the model, the first holds no layer.
    keys
        Keys of the architecture beside those that every model has; ``__`` stands for a dot.
    """
    gguf = pytest.importorskip("gguf")
    made: list[list[tuple[str, Any]]] = [[("token_embd.weight", np.zeros((512, HIDDEN), "f2"))]]
    made += [[] for _ in range(shards - 1)]
    for k, types in enumerate(layers):
        own = made[0 if shards == 1 else 1 + k * (shards - 1) // len(layers)]
        own.append((f"blk.{k}.attn_q.weight", np.zeros((HIDDEN, HIDDEN), "f2")))
        for matrix, kind in types.items():
            shape = (HIDDEN, WIDTH) if matrix == "down" else (WIDTH, HIDDEN)
            own.append((f"blk.{k}.ffn_{matrix}_exps.weight", np.zeros((EXPERTS, *shape), kind)))
    made[-1].append(("output.weight", np.zeros((512, HIDDEN), "f2")))
    told = {
        "block_count": len(layers),
        "embedding_length": HIDDEN,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "expert_count": EXPERTS,
        "expert_used_count": 2,
        **{name.replace("__", "."): value for name, value in keys.items()},
    }
    files = [path] if shards == 1 else [
        path.with_name(f"{path.stem}-{n:05d}-of-{shards:05d}.gguf") for n in range(1, shards + 1)
    ]  # fmt: skip
    total = sum(len(own) for own in made)
    for n, (file, tensors) in enumerate(zip(files, made, strict=True)):
        writer = gguf.GGUFWriter(file, architecture)
        if shards > 1:
            writer.add_uint16("split.no", n)
            writer.add_uint16("split.count", shards)
            writer.add_int32("split.tensors.count", total)
        for name, value in told.items() if n == 0 else ():
            add: Callable[..., None] = writer.add_uint32 if isinstance(value, int) else (
                writer.add_array
            )  # fmt: skip
            add(f"{architecture}.{name}", value)
        for name, content in tensors:
            writer.add_tensor(name, content)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return files
