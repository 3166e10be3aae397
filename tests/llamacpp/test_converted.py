"""What a GGUF file made of a Hugging Face configuration would hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from llama_models import model

from moe2opt.errors import InputError
from moe2opt.llamacpp import read_llama
from moe2opt.llamacpp.converted import name_of, read_converted

#: Keys of sizes of public models, and tensors and weights of their GGUF files.
CONFIGS: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "configs.json").read_text()
)

#: Bits per weight of Llama 3.1 8B as published (llama.cpp, tools/quantize/README.md).
PUBLISHED = {
    "IQ1_S": 2.0042, "IQ1_M": 2.1460, "IQ2_XXS": 2.3824, "IQ2_XS": 2.5882, "IQ2_S": 2.7403,
    "IQ2_M": 2.9294, "IQ3_XXS": 3.2548, "IQ3_XS": 3.4977, "IQ3_S": 3.6606, "IQ3_M": 3.7628,
    "IQ4_XS": 4.4597, "IQ4_NL": 4.6818, "Q2_K_S": 2.9697, "Q2_K": 3.1593, "Q3_K_S": 3.6429,
    "Q3_K_L": 4.2979, "Q4_K_S": 4.6672, "Q4_K_M": 4.8944, "Q5_K_S": 5.5704, "Q5_K_M": 5.7036,
    "Q6_K": 6.5633, "Q8_0": 8.5008, "F16": 16.0005,
}  # fmt: skip

#: GiB of public files, as llama-bench prints them.
FILES = [
    ("qwen3-30b-a3b", "Q4_K_M", 17.28), ("qwen3-235b", "Q4_K_M", 132.39),
    ("gpt-oss-120b", "MXFP4_MOE", 59.02), ("gpt-oss-20b", "MXFP4_MOE", 11.27),
    ("llama33-70b", "Q4_K_M", 39.59), ("qwen3-32b", "Q4_K_M", 18.40),
]  # fmt: skip


def folder_of(folder: Path, name: str, **keys: Any) -> Path:
    """Return a folder with the configuration of a model; some keys may differ."""
    content = {**CONFIGS[name]["config"], **keys}
    content = {key: value for key, value in content.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("name", CONFIGS)
def test_layers_are_those_of_the_file(tmp_path: Path, name: str) -> None:
    """Tensors, weights, and what each layer remembers are those of the model's own GGUF file."""
    header, _ = read_converted(folder_of(tmp_path, name), "Q4_K_M")
    about = CONFIGS[name]
    assert (len(header.tensors), sum(tensor.weights for tensor in header.tensors)) == (
        about["tensors"],
        about["weights"],
    )
    made, own = read_llama(tmp_path, "Q4_K_M"), model(name)
    kinds = [
        [(x.attention, x.key_values, x.value_values, x.recurrent_values) for x in m.layers]
        for m in (made, own)
    ]
    assert kinds[0] == kinds[1]
    assert [len(x.experts) for x in made.layers] == [len(x.experts) for x in own.layers]
    assert not [note for note in made.notes if "CHECK" in note or "not in the list" in note]
    for key in ("architecture", "blocks", "heads", "experts", "top_k", "window", "latent"):
        assert getattr(made, key) == getattr(own, key), key


@pytest.mark.parametrize("quant", PUBLISHED)
def test_file_types_are_mixed_as_published(tmp_path: Path, quant: str) -> None:
    """Every file type has as many bits per weight as llama.cpp publishes, to the last digit."""
    header, _ = read_converted(folder_of(tmp_path, "llama31-8b"), quant)
    bits = 8 * sum(x.size for x in header.tensors) / sum(x.weights for x in header.tensors)
    assert bits == pytest.approx(PUBLISHED[quant], abs=6e-5)


@pytest.mark.parametrize(("name", "quant", "gib"), FILES)
def test_sizes_are_those_of_public_files(tmp_path: Path, name: str, quant: str, gib: float) -> None:
    """Files of whole models have the published sizes."""
    header, _ = read_converted(folder_of(tmp_path, name), quant)
    assert sum(x.size for x in header.tensors) / 2**30 == pytest.approx(gib, abs=0.0051)


def test_unknown_families_and_keys_are_said_loudly(tmp_path: Path) -> None:
    """An unknown type, a key of sizes that is not read, and an index that differs are named."""
    folder_of(tmp_path, "qwen3-30b-a3b", model_type="new_moe", expert_rank=7)
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": 10**11}})
    )
    notes = "\n".join(read_llama(tmp_path, "Q8_0").notes)
    assert "CHECK THE SIZES: model_type 'new_moe' is not among the known families" in notes
    assert "keys that speak of sizes are not read: expert_rank" in notes
    assert "holds 50e9 weights of 16 bits, the configuration gives 30.53e9" in notes
    assert "'new-moe' is not in the list" in notes


def test_blocks_that_predict_further_tokens_are_in_the_file(tmp_path: Path) -> None:
    """GLM's last block counts for `-ngl` and is not loaded."""
    own = read_llama(folder_of(tmp_path, "glm45-air", num_nextn_predict_layers=1), "Q4_K_M")
    assert (own.blocks, len(own.layers)) == (47, 46)
    assert any("predict further tokens are not loaded" in note for note in own.notes)


def test_contexts_of_millions_of_tokens_are_read(tmp_path: Path) -> None:
    """Models that were trained for more than 131,072 tokens, as most are now, are read."""
    for tokens in (163840, 262144, 10485760):
        folder = folder_of(tmp_path, "qwen3-30b-a3b", max_position_embeddings=tokens)
        header, _ = read_converted(folder)
        assert header.fields["qwen3moe.context_length"] == tokens


def test_names_and_types_without_a_choice(tmp_path: Path) -> None:
    """A folder is read in 16 bits, or as it is packed; a GGUF file has types of its own."""
    folder_of(tmp_path, "gpt-oss-20b", quantization_config={"quant_method": "mxfp4"})
    assert name_of(tmp_path, None) == f"{tmp_path.name}-MXFP4_MOE.gguf"
    folder_of(tmp_path, "llama31-8b")
    assert read_llama(tmp_path / "config.json").bytes == read_llama(tmp_path, "BF16").bytes
    with pytest.raises(InputError, match="no file type 'Q9'; known are F32"):
        read_llama(tmp_path, "Q9")
    (tmp_path / "a.gguf").touch()
    with pytest.raises(InputError, match="is a GGUF file, whose types are its own"):
        read_llama(tmp_path / "a.gguf", "Q4_K_M")
    with pytest.raises(InputError, match=r"config.json has no hidden_size"):
        read_llama(folder_of(tmp_path, "llama31-8b", hidden_size=None) / "config.json")


def test_a_pattern_says_something_of_each_layer(tmp_path: Path) -> None:
    """A pattern with fewer letters than there are layers is refused with both numbers."""
    folder = folder_of(tmp_path, "nemotron3-nano", num_hidden_layers=60)
    with pytest.raises(InputError, match="layers_block_type tells 52 of 60 layers"):
        read_converted(folder)


def test_a_pattern_may_be_words(tmp_path: Path) -> None:
    """A word a layer says the same as a letter a layer, also where nothing counts the layers."""
    pattern = CONFIGS["nemotron3-nano"]["config"]["hybrid_override_pattern"]
    words = {"M": "mamba", "*": "attention", "E": "moe", "-": "mlp"}
    told = [words[letter] for letter in pattern]
    wordy = {"hybrid_override_pattern": None, "num_hidden_layers": None, "layers_block_type": told}
    expected, _ = read_converted(folder_of(tmp_path, "nemotron3-nano"))
    found, notes = read_converted(folder_of(tmp_path, "nemotron3-nano", **wordy))
    assert (found.fields, found.tensors) == (expected.fields, expected.tensors)
    assert not [note for note in notes if "CHECK" in note]


def test_experts_in_a_latent_space(tmp_path: Path) -> None:
    """Experts on fewer values than their layer's have two matrices a layer around them."""
    latent, keys = 1024, CONFIGS["nemotron3-nano"]["config"]
    header, _ = read_converted(folder_of(tmp_path, "nemotron3-nano", moe_latent_size=latent))
    weights = {tensor.name: tensor.weights for tensor in header.tensors}
    hidden, width = keys["hidden_size"], keys["moe_intermediate_size"]
    for way in ("down", "up"):
        assert weights[f"blk.1.ffn_latent_{way}.weight"] == hidden * latent
        assert weights[f"blk.1.ffn_{way}_exps.weight"] == 128 * latent * width
    assert header.fields["nemotron_h_moe.moe_latent_size"] == latent
