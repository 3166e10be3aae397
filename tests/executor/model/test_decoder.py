"""The decoder gives what transformers gives, and says in one line what is wrong with a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from executor.conftest import CONFIGS, Make, config

from moe2opt.result import InputError

pytest.importorskip("torch", reason="runs a model: needs torch")
pytest.importorskip("safetensors", reason="reads a model: needs safetensors")

from moe2opt.executor.model.folder import open_folder

pytestmark = pytest.mark.slow

MODELS = {
    "mixtral": "MixtralForCausalLM",
    "qwen2_moe": "Qwen2MoeForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "olmoe": "OlmoeForCausalLM",
}


def reference(family: str, folder: Path, **changes: Any) -> Any:
    """Write a model of transformers' own making, and return it."""
    torch = pytest.importorskip("torch", reason="runs a model: needs torch")
    transformers = pytest.importorskip("transformers", reason="compares: needs transformers")
    kind = getattr(transformers, MODELS[family])
    settings = config(family, **changes) | {"eos_token_id": None, "pad_token_id": None}
    torch.manual_seed(0)
    model = kind(kind.config_class(**settings)).eval()
    # Initial norms and biases are 1 and 0, which would hide a mistake.
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(torch.randn_like(tensor) * 0.1)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        *((family, {}) for family in CONFIGS),
        ("mixtral", {"sliding_window": 5, "tie_word_embeddings": True, "head_dim": 16}),
        ("qwen2_moe", {"decoder_sparse_step": 2, "norm_topk_prob": True}),
        ("qwen3_moe", {"attention_bias": True, "norm_topk_prob": True}),
        ("olmoe", {"clip_qkv": 0.2, "num_key_value_heads": 4}),
    ],
)
def test_logits_are_those_of_transformers(
    family: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    """Whole sequences, and tokens one after the other with a cache, give the same logits."""
    model = reference(family, tmp_path, **changes)
    import torch

    from moe2opt.executor.model.decoder import Cache

    folder = open_folder(tmp_path)
    decoder, experts = folder.decoder(), folder.resident()
    tokens = torch.randint(0, 64, (2, 17), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(tokens).logits
        found = decoder.forward(tokens, experts)
        cache = Cache()
        pieces = [tokens[:, :5], *tokens[:, 5:13].split(1, dim=1), tokens[:, 13:]]
        stepwise = torch.cat([decoder.forward(piece, experts, cache) for piece in pieces], dim=1)
    scale = float(expected.abs().max())
    assert float((found - expected).abs().max()) < 1e-5 * scale
    assert float((stepwise - expected).abs().max()) < 1e-5 * scale
    assert cache.length == 17


def test_experts_get_what_the_protocol_says(make: Make) -> None:
    """The model asks for top-k experts per token with weights that sum to 1, layer after layer."""
    folder = open_folder(make())
    import torch

    calls = []

    class Silent:
        def apply(self, layer: int, hidden: Any, chosen: Any, weights: Any) -> Any:
            calls.append((layer, hidden.shape, chosen.shape, chosen.dtype, weights.sum(dim=1)))
            return torch.zeros_like(hidden)

    folder.decoder().forward(torch.arange(10).view(2, 5), Silent())
    assert [call[0] for call in calls] == [0, 1, 2]
    for _, hidden, chosen, kind, total in calls:
        assert (hidden, chosen, kind) == ((10, 32), (10, 2), torch.int64)
        assert torch.allclose(total, torch.ones(10))


def test_dropped_experts_are_never_chosen(make: Make) -> None:
    """A router without some experts picks the next ones; the original is left as it was."""
    folder = open_folder(make())
    import torch

    dropped = np.zeros((3, 4), dtype=bool)
    dropped[1, :2] = True
    decoder = folder.decoder()
    less = decoder.without(dropped)
    hidden = torch.randn(50, 32)
    chosen, weights = less.route(1, hidden)
    assert set(chosen.unique().tolist()) == {2, 3}
    assert torch.allclose(weights.sum(dim=1), torch.ones(50))
    assert len(decoder.route(1, hidden)[0].unique()) == 4


def test_shards_give_the_same_model(make: Make) -> None:
    """A model in three files with an index is read like one in a single file."""
    import torch

    folder = open_folder(make("olmoe", shards=3))
    weights = folder.expert_weights(2, 3)
    assert {part: tuple(t.shape) for part, t in weights.items()} == {
        "gate": (24, 32),
        "up": (24, 32),
        "down": (32, 24),
    }
    assert torch.equal(
        weights["gate"], folder.tensor("model.layers.2.mlp.experts.3.gate_proj.weight")
    )


def _broken(folder: Path, what: str) -> None:
    index = folder / "model.safetensors.index.json"
    shard = folder / "model-1.safetensors"
    if what == "shard":
        shard.unlink()
    elif what == "truncated":
        shard.write_bytes(shard.read_bytes()[:-100])
    elif what == "garbage":
        shard.write_bytes(b"not safetensors")
    elif what == "index":
        index.write_text("{", encoding="utf-8")
    elif what == "escape":
        content = json.loads(index.read_text(encoding="utf-8"))
        content["weight_map"] = dict.fromkeys(content["weight_map"], "../other.safetensors")
        index.write_text(json.dumps(content), encoding="utf-8")
    elif what == "tensor":
        content = json.loads(index.read_text(encoding="utf-8"))
        del content["weight_map"]["model.norm.weight"]
        index.write_text(json.dumps(content), encoding="utf-8")
    elif what == "shape":
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        content["intermediate_size"] = 40
        (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")
    elif what == "config":
        (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("shard", "shard model-1.safetensors is missing"),
        ("truncated", "model-1.safetensors: is damaged"),
        ("garbage", "model-1.safetensors: is damaged"),
        ("index", "index.json: not JSON"),
        ("escape", "is no file name"),
        ("tensor", "tensor model.norm.weight is missing"),
        ("shape", r"has shape \(48, 32\); config.json asks for \(40, 32\)"),
        ("config", "config.json: No such file"),
    ],
)
def test_a_damaged_folder_is_one_message(what: str, words: str, make: Make) -> None:
    """A missing, damaged or foreign part of a model is named before anything runs."""
    path = make(shards=2)
    _broken(path, what)
    with pytest.raises(InputError, match=words) as caught:
        open_folder(path)
    assert "\n" not in str(caught.value)


def test_numbers_that_are_not_finite_are_named(make: Make) -> None:
    """A tensor with a NaN is refused when it is read, by its name."""
    path = make()
    from safetensors.torch import load_file, save_file

    tensors = load_file(str(path / "model.safetensors"))
    name = "model.layers.1.block_sparse_moe.experts.2.w3.weight"
    tensors[name][0, 0] = float("nan")
    save_file(tensors, str(path / "model.safetensors"))
    folder = open_folder(path)
    with pytest.raises(InputError, match=f"{name} is corrupted"):
        folder.expert_weights(1, 2)
    assert len(folder.expert_weights(1, 1)) == 3
