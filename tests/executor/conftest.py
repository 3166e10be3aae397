"""Tiny models in Hugging Face format, with random weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

#: Sizes that all families share.
COMMON = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
}

CONFIGS: dict[str, dict[str, Any]] = {
    "mixtral": {"intermediate_size": 48, "num_local_experts": 4},
    "qwen2_moe": {
        "intermediate_size": 48,
        "moe_intermediate_size": 24,
        "shared_expert_intermediate_size": 40,
        "num_experts": 4,
    },
    "qwen3_moe": {
        "intermediate_size": 48,
        "moe_intermediate_size": 24,
        "num_experts": 4,
        "head_dim": 8,
        "mlp_only_layers": [1],
    },
    "olmoe": {"intermediate_size": 24, "num_experts": 4},
}

Make = Callable[..., Path]


def config(family: str, **changes: Any) -> dict[str, Any]:
    """Return a ``config.json``."""
    return {"model_type": family, **COMMON, **CONFIGS[family], **changes}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write a tiny model of a family; `shards` > 1 writes an index."""
    pytest.importorskip("torch", reason="runs a model: needs torch")
    pytest.importorskip("safetensors", reason="runs a model: needs safetensors")
    import torch
    from safetensors.torch import save_file
    from tinymoe.training import initial

    from moe2opt.executor.model.families import read_spec

    def build(family: str = "mixtral", shards: int = 1, **changes: Any) -> Path:
        torch.manual_seed(0)
        content = config(family, tokenizer="bytes", **changes)
        folder = tmp_path / family
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")
        tensors = initial(read_spec(content, "config.json"))
        names = sorted(tensors)
        where = {}
        for k in range(shards):
            file = "model.safetensors" if shards == 1 else f"model-{k}.safetensors"
            part = {name: tensors[name] for name in names[k::shards]}
            save_file(part, str(folder / file))
            where |= dict.fromkeys(part, file)
        if shards > 1:
            index = folder / "model.safetensors.index.json"
            index.write_text(json.dumps({"weight_map": where}), encoding="utf-8")
        return folder

    return build
