"""What a GGUF header says of each layer."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from llama_models import MODELS, header, model

from moe2opt.errors import InputError
from moe2opt.llamacpp.gguf import Header, Tensor, read_model, shards
from moe2opt.llamacpp.model import model_of
from moe2opt.text import LONGEST_NAME


@pytest.mark.parametrize(
    ("name", "kinds", "experts"),
    [
        ("llama31-8b", {"full": 32}, 0),
        ("gpt-oss-120b", {"window": 18, "full": 18}, 36),
        ("gemma3-27b", {"window": 52, "full": 10}, 0),
        ("llama4-maverick", {"window": 36, "full": 12}, 24),
        ("deepseek-r1", {"latent": 61}, 58),
        ("qwen35-35b", {"none": 30, "full": 10}, 40),
        ("qwen3next-80b", {"none": 36, "full": 12}, 48),
        ("nemotron3-nano", {"none": 46, "full": 6}, 23),
        ("glm45-air", {"full": 46}, 45),
    ],
)
def test_layers_are_told_apart(name: str, kinds: dict[str, int], experts: int) -> None:
    """Windows, latents, recurrent layers and dense ones are found as the architecture has them."""
    own = model(name)
    assert Counter(str(layer.attention) for layer in own.layers) == kinds
    assert sum(1 for layer in own.layers if layer.experts) == experts


def test_a_latent_context_holds_576_values() -> None:
    """DeepSeek's layers keep one latent and no values; Nemotron's experts keep a state in 23."""
    assert {(x.key_values, x.value_values) for x in model("deepseek-r1").layers} == {(576, 0)}
    assert sum(1 for x in model("nemotron3-nano").layers if x.recurrent_values) == 23


def changed(name: str, **keys: Any) -> Header:
    """Return a header of a model with other keys; None drops one."""
    own = header(name)
    architecture = MODELS[name]["architecture"]
    fields = dict(own.fields)
    for key, value in keys.items():
        fields[f"{architecture}.{key.replace('__', '.')}"] = value
    return Header({k: v for k, v in fields.items() if v is not None}, own.tensors)


def test_blocks_for_further_tokens_are_not_loaded() -> None:
    """A last block that predicts further tokens takes no memory, and a note says so."""
    own = model_of(changed("glm45-air", nextn_predict_layers=1))
    assert len(own.layers) == 45
    assert own.blocks == 46
    assert "MiB of blocks that predict further tokens are not loaded" in own.notes[0]


def test_blocks_without_tensors_are_told() -> None:
    """A file that announces more blocks than it has is planned as it is, with a note."""
    own = model_of(changed("glm45-air", nextn_predict_layers=0, block_count=50))
    assert "4 of 50 blocks have no tensors: is a part of the model missing?" in own.notes[0]
    assert not any("no tensors" in note for note in model("glm45-air").notes)


def test_unknown_architectures_are_said_loudly() -> None:
    """An architecture that is not known counts as full attention, with a note."""
    fields = {"general.architecture": "new", "new.block_count": 1, "new.embedding_length": 64}
    own = model_of(Header(fields, (Tensor("blk.0.attn_q.weight", 10, 20),)))
    assert "'new' is not in the list" in own.notes[0]


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({}, "no key general.architecture"),
        ({"general.architecture": "llama"}, "no key llama.block_count"),
        ({"general.architecture": "a\nb"}, r"general.architecture is 'a\\nb', not a name"),
        (
            {"general.architecture": "llama", "llama.block_count": 0, "llama.embedding_length": 1},
            "llama.block_count is 0",
        ),
        (
            {"general.architecture": "llama", "llama.block_count": "x"},
            "llama.block_count is 'x', not a whole number",
        ),
        (
            {
                "general.architecture": "llama", "llama.block_count": 3,
                "llama.embedding_length": 8, "llama.attention.head_count_kv": [1, 2],
            },
            "head_count_kv holds 2 numbers for 3 blocks",
        ),
    ],
)  # fmt: skip
def test_bad_headers_are_refused(fields: dict[str, Any], fault: str) -> None:
    """A header without what every model has is refused by the name of the key."""
    with pytest.raises(InputError, match=fault):
        model_of(Header(fields, ()))


def test_a_name_is_no_more_than_a_line_that_can_be_seen() -> None:
    """What a file calls itself cannot steer a terminal, nor fill it."""
    own = header("llama31-8b")
    own = Header({**own.fields, "general.name": "a\nb\x1b[2J" + "c" * 9999}, own.tensors)
    assert model_of(own).name == ("a?b?[2J" + "c" * 9999)[:LONGEST_NAME]


def test_tensors_beyond_the_last_block_are_refused() -> None:
    """A tensor of a block that the header does not count is named."""
    own = header("llama31-8b")
    more = Header(own.fields, (*own.tensors, Tensor("blk.32.attn_q.weight", 1, 1)))
    with pytest.raises(InputError, match=r"blk.32.attn_q.weight is of a block beyond"):
        model_of(more)


def write_shards(folder: Path, count: int = 3) -> list[Path]:
    """Write a model of one tensor per file, as gguf-split does."""
    gguf = pytest.importorskip("gguf")
    files = []
    for k in range(count):
        path = folder / f"m-{k + 1:05d}-of-{count:05d}.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_block_count(count)
        writer.add_embedding_length(32)
        writer.add_uint16("split.no", k)
        writer.add_uint16("split.count", count)
        writer.add_int32("split.tensors.count", count)
        numpy = pytest.importorskip("numpy")
        writer.add_tensor(f"blk.{k}.attn_q.weight", numpy.zeros((4, 32), numpy.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        files.append(path)
    return files


def test_all_shards_are_read(tmp_path: Path) -> None:
    """Any file of several, or their folder, gives all tensors; projectors are passed over."""
    files = write_shards(tmp_path)
    shutil.copy(files[0], tmp_path / "mmproj-F16.gguf")
    for path in (*files, tmp_path):
        assert len(read_model(path).tensors) == 3
    assert shards(files[1]) == tuple(files)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    """What lacks is named; a folder of two models, or of none, is refused."""
    files = write_shards(tmp_path)
    files[1].unlink()
    with pytest.raises(InputError, match=r"m-00002-of-00003.gguf is missing of the 3 files"):
        read_model(files[0])
    shutil.copy(files[0], tmp_path / "other.gguf")
    with pytest.raises(InputError, match=r"holds 2 models \(m, other.gguf\): name a file"):
        shards(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="'empty' holds no GGUF file"):
        shards(empty)
    os.mkfifo(empty / "pipe.gguf")
    with pytest.raises(InputError, match=r"'pipe.gguf' is not a regular file"):
        shards(empty / "pipe.gguf")


def test_a_renamed_shard_is_not_the_model(tmp_path: Path) -> None:
    """A file that says it is one of three is not read as the whole."""
    files = write_shards(tmp_path)
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(files[0], alone / "model.gguf")
    with pytest.raises(InputError, match="is one of 3 files"):
        read_model(alone / "model.gguf")
