"""Write a tiny random Mixtral-type model as GGUF: 4 layers, 8 experts, 64 wide, byte vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

LAYERS, HIDDEN, INNER, EXPERTS, USED, HEADS = 4, 64, 128, 8, 2, 4
VOCABULARY = 3 + 256


def write_tiny_model(path: Path) -> None:
    """Write the model; the weights are random, so that only its shape means anything."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny-random-moe")
    writer.add_block_count(LAYERS)
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(USED)
    writer.add_vocab_size(VOCABULARY)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_vocabulary(writer, gguf)
    for name, tensor in _tensors():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: Any, gguf: Any) -> None:
    kinds = gguf.TokenType
    tokens = [b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    types = [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL, *([kinds.BYTE] * 256)]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def _tensors() -> list[tuple[str, Any]]:
    rng = np.random.default_rng(0)

    def random(*shape: int) -> Any:
        return (0.02 * rng.standard_normal(shape)).astype(np.float32)

    ones = np.ones(HIDDEN, dtype=np.float32)
    tensors = [
        ("token_embd.weight", random(VOCABULARY, HIDDEN)),
        ("output_norm.weight", ones),
        ("output.weight", random(VOCABULARY, HIDDEN)),
    ]
    for layer in range(LAYERS):
        parts = {
            "attn_norm": ones,
            "ffn_norm": ones,
            **{f"attn_{part}": random(HIDDEN, HIDDEN) for part in ("q", "k", "v", "output")},
            "ffn_gate_inp": random(EXPERTS, HIDDEN),
            "ffn_gate_exps": random(EXPERTS, INNER, HIDDEN),
            "ffn_up_exps": random(EXPERTS, INNER, HIDDEN),
            "ffn_down_exps": random(EXPERTS, HIDDEN, INNER),
        }
        tensors += [(f"blk.{layer}.{name}.weight", value) for name, value in parts.items()]
    return tensors
