"""Models from files: shapes from headers, and one clear message for what is wrong."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe2opt.placement.model.files import shape_from_files
from moe2opt.placement.sections import Model
from moe2opt.result import InputError

MODEL = Model(gguf="x", dense_bits=16)


def tiny_gguf(path: Path, *, experts: int = 4) -> None:
    """Write a Mixtral-type GGUF with two layers and tiny tensors."""
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(2)
    writer.add_embedding_length(8)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(2)
    for layer in range(2):
        writer.add_tensor(f"blk.{layer}.attn_q.weight", np.zeros((8, 8), np.float32))
        for kind in ("gate", "up", "down") if experts else ():
            shape = (experts, 16, 8) if kind != "down" else (experts, 8, 16)
            name = f"blk.{layer}.ffn_{kind}_exps.weight"
            writer.add_tensor(name, np.zeros(shape, np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_gguf_header(tmp_path: Path) -> None:
    """A GGUF header gives layers, experts and the bytes of one expert as stored."""
    tiny_gguf(tmp_path / "m.gguf")
    shape = shape_from_files("gguf", tmp_path / "m.gguf", MODEL)
    assert (shape.layers, shape.experts, shape.top_k, shape.hidden) == ((0, 1), 4, 2, 8)
    assert shape.params_per_expert == 3 * 8 * 16
    assert shape.stored_bytes == 2 * 3 * 8 * 16
    assert shape.dense_bytes == 2 * 8 * 8 * 4
    assert shape.kv_bytes_per_token == 2 * 1 * (4 + 4) * 2


def test_truncated_gguf(tmp_path: Path) -> None:
    """A GGUF file cut off anywhere is one clear error."""
    tiny_gguf(tmp_path / "m.gguf")
    whole = (tmp_path / "m.gguf").read_bytes()
    for length in (4, 10, 30, len(whole) // 2, len(whole) - 600):
        (tmp_path / "cut.gguf").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut\.gguf is truncated or damaged"):
            shape_from_files("gguf", tmp_path / "cut.gguf", MODEL)


def test_foreign_gguf(tmp_path: Path) -> None:
    """A file of another kind and a model without experts are told apart."""
    (tmp_path / "m.gguf").write_bytes(b"PK\3\4 something else")
    with pytest.raises(InputError, match="is not a GGUF file"):
        shape_from_files("gguf", tmp_path / "m.gguf", MODEL)
    tiny_gguf(tmp_path / "dense.gguf", experts=0)
    with pytest.raises(InputError, match="has no routed experts"):
        shape_from_files("gguf", tmp_path / "dense.gguf", MODEL)
    with pytest.raises(InputError, match=r"no such file '.*nothing\.gguf'"):
        shape_from_files("gguf", tmp_path / "nothing.gguf", MODEL)


CONFIG = {
    "model_type": "mixtral", "num_hidden_layers": 3, "num_local_experts": 4,
    "num_experts_per_tok": 2, "hidden_size": 8, "intermediate_size": 16,
    "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 10,
}  # fmt: skip


def test_hugging_face_config(tmp_path: Path) -> None:
    """A config.json gives the shape; dense weights are attention and embeddings."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    shape = shape_from_files("hf", tmp_path, MODEL)
    assert (shape.layers, shape.experts, shape.top_k) == ((0, 1, 2), 4, 2)
    assert shape.params_per_expert == 3 * 8 * 16
    attention = 3 * 8 * 4 * (2 * 2 + 2 * 1)
    assert shape.dense_bytes == 2 * (attention + 2 * 10 * 8)


@pytest.mark.parametrize(
    ("change", "layers"),
    [({"first_k_dense_replace": 1}, (1, 2)), ({"mlp_only_layers": [0, 2]}, (1,)),
     ({"decoder_sparse_step": 2}, (1,))],
)  # fmt: skip
def test_dense_layers_of_a_config(change: dict[str, Any], layers: Any, tmp_path: Path) -> None:
    """Layers without experts are recognised in each family's own words."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | change))
    assert shape_from_files("hf", tmp_path, MODEL).layers == layers


def test_config_of_a_dense_model(tmp_path: Path) -> None:
    """A config without experts, one that is not JSON and one that is missing say so."""
    (tmp_path / "config.json").write_text(json.dumps({"num_hidden_layers": 2}))
    with pytest.raises(InputError, match="not a mixture of experts"):
        shape_from_files("hf", tmp_path, MODEL)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        shape_from_files("hf", tmp_path, MODEL)
    with pytest.raises(InputError, match=r"no file config\.json"):
        shape_from_files("hf", tmp_path / "nowhere", MODEL)


def test_safetensors_headers(tmp_path: Path) -> None:
    """Safetensors headers give the bytes of experts and of everything else; damage is named.

    Hidden files are no part of a model.
    """
    numpy = pytest.importorskip("safetensors.numpy")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    tensors = {"model.embed_tokens.weight": np.zeros((10, 8), np.float16)}
    for layer in range(3):
        for e in range(4):
            for w in ("w1", "w2", "w3"):
                name = f"model.layers.{layer}.block_sparse_moe.experts.{e}.{w}.weight"
                tensors[name] = np.zeros((16, 8), np.float16)
    numpy.save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / ".moe2opt-0.safetensors").write_bytes(b"left by a run that was killed")
    shape = shape_from_files("safetensors", tmp_path, MODEL)
    assert shape.stored_bytes == 3 * 16 * 8 * 2
    assert shape.dense_bytes == 10 * 8 * 2
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:50])
    with pytest.raises(InputError, match="is truncated or not a safetensors file"):
        shape_from_files("safetensors", tmp_path, MODEL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers: Input should be less than"),
        ({"num_hidden_layers": 10**400}, "a whole number of 401 digits"),
        ({"num_hidden_layers": -1}, "num_hidden_layers: Input should be greater than"),
        ({"num_hidden_layers": 2.5}, "num_hidden_layers: Input should be a valid integer"),
        ({"num_local_experts": "8"}, "num_local_experts: Input should be a valid integer"),
        ({"num_local_experts": 10**9}, "num_local_experts"),
        ({"num_hidden_layers": 9999, "num_local_experts": 9999}, "at most 1000000 experts"),
        ({"decoder_sparse_step": -1}, "decoder_sparse_step: Input should be greater than"),
        ({"mlp_only_layers": 3}, "mlp_only_layers: Input should be a valid list"),
        ({"mlp_only_layers": [[1]]}, "mlp_only_layers: Input should be a valid integer"),
        ({"first_k_dense_replace": [1]}, "first_k_dense_replace: Input should be"),
        ({"hidden_size": 10**30}, "hidden_size: Input should be less than"),
        ({"vocab_size": {"a": 1}}, "vocab_size: Input should be a valid integer"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings: Input should be a valid boolean"),
        ({"model_type": "a\nb"}, "model_type: character U+000A is not allowed"),
        ({"model_type": 7}, "model_type: Input should be a valid string"),
        ({"text_config": {"head_dim": -5}}, "head_dim: Input should be greater than"),
    ],
)
def test_fields_of_a_config_have_types_and_ranges(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """A field of another type or of absurd size is one line with the file and the field."""
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **change}))
    with pytest.raises(InputError) as caught:
        shape_from_files("hf", tmp_path, MODEL)
    assert message in str(caught.value)
    assert str(caught.value).startswith("model: ")
    assert str(caught.value).isprintable()


def gguf_bytes(version: int, tensors: int, keys: int, rest: bytes = b"") -> bytes:
    """Return the start of a GGUF file that claims so many tensors and keys."""
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + rest


def key(name: bytes, kind: int, rest: bytes) -> bytes:
    """Return a key of a GGUF header."""
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + rest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gguf_bytes(9, 0, 0), "version 9"),
        (gguf_bytes(3, 2**60, 0), "tensors; at most"),
        (gguf_bytes(3, 0, 2**60), "keys; at most"),
        (gguf_bytes(3, 0, 1, struct.pack("<Q", 2**63)), "characters; at most"),
        (gguf_bytes(3, 0, 1, key(b"a", 99, b"")), "unknown type 99"),
        (gguf_bytes(3, 0, 1, key(b"a", 9, struct.pack("<IQ", 0, 2**60))), "ends beyond"),
        (gguf_bytes(3, 0, 1, key(b"a", 9, struct.pack("<IQ", 8, 2**60))), "entries; at most"),
        (gguf_bytes(3, 0, 1, key(b"a", 9, struct.pack("<IQ", 9, 1)) + bytes(64)), "unknown type"),
        (gguf_bytes(3, 0, 2, 2 * key(b"a", 4, bytes(4))), "appears twice"),
        (gguf_bytes(3, 0, 1, key(b"\xff", 4, bytes(4))), "utf-8"),
        (gguf_bytes(3, 0, 1, key(b"general.alignment", 4, bytes(4))), "general.alignment"),
        (gguf_bytes(3, 0, 1, key(b"general.name", 8, struct.pack("<Q", 2) + b"\x1bc")), "U+001B"),
        (gguf_bytes(3, 1, 0, struct.pack("<Q", 1) + b"t" + struct.pack("<I", 2**31)), "axes"),
        (gguf_bytes(3, 1, 0, struct.pack("<Q1sIQIQ", 1, b"t", 1, 2**62, 0, 0)), "beyond the file"),
        (gguf_bytes(3, 1, 0, struct.pack("<Q1sIQIQ", 1, b"t", 1, 1, 777, 0)), "unknown type 777"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_claims_of_a_gguf_header(tmp_path: Path, content: bytes, message: str) -> None:
    """A header that claims what cannot be is one line; nothing is asked for on its word."""
    pytest.importorskip("gguf")
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(InputError) as caught:
        shape_from_files("gguf", tmp_path / "x.gguf", MODEL)
    assert message in str(caught.value)
    assert str(caught.value).startswith("model.gguf: x.gguf")
    assert str(caught.value).isprintable()
