"""Bytes of the compute buffers: what llama.cpp reserves for the results in between."""

from __future__ import annotations

from collections.abc import Sequence

from moe2opt.llamacpp.line import Line
from moe2opt.llamacpp.model import LlamaLayer, LlamaModel

#: Copies of the inputs that pipeline parallelism keeps (`GGML_SCHED_MAX_COPIES`).
_COPIES = 4

#: Tokens from which on weights in RAM are copied to the device that computes (op offload).
_LEAST_OFFLOAD = 32

#: Bytes of a value in between.
_FLOAT = 4


def compute_bytes(
    model: LlamaModel,
    layers: Sequence[LlamaLayer],
    line: Line,
    *,
    output: bool = False,
    copied_bytes: int = 0,
    pipeline: bool = False,
) -> float:
    """Return the compute buffer of a device.

    The buffer holds what the largest step of any of its layers needs; it does not grow with their
    number. The form was read off 147 measurements of `llama-server` b10434 (16 architectures):
    median error 0.01 % with flash attention, worst 13 %.

    Parameters
    ----------
    layers
        The layers that the device computes.
    line
        Settings of the run.
    output
        Whether it computes the logits.
    copied_bytes
        The largest tensor in RAM that is copied to it for a batch.
    pipeline
        Whether several devices work on several batches at once.
    """
    tokens, cells, window = line.tokens, line.cells, _window_cells(model, line)
    widest = max((_widths(model, layer) for layer in layers), default=0)
    if not (layers or output or copied_bytes):
        return 0.0
    attends = any(layer.key_values for layer in layers)
    per_mask = 2 if line.flash_attention else 4
    mask = per_mask * tokens * (cells + window) if attends or output else 0.0
    need = mask + _FLOAT * tokens * widest
    if not line.flash_attention and attends:
        need = max(need, _FLOAT * tokens * _without_flash(model, cells, window))
    if output and line.all_logits:
        need = max(need, _FLOAT * tokens * (model.vocabulary + model.hidden))
    if copied_bytes and tokens >= _LEAST_OFFLOAD:
        need = max(need, mask + copied_bytes + _FLOAT * tokens * _around_experts(model))
    if pipeline:
        need += _COPIES * (mask + 8 * tokens * model.hidden)
    return float(need)


def host_compute_bytes(model: LlamaModel, line: Line) -> float:
    """Return the compute buffer in RAM: masks and the inputs of a batch."""
    per_mask = 2 if line.flash_attention else 4
    masks = per_mask * (line.cells + _window_cells(model, line))
    return float(line.tokens * (masks + 8 * model.hidden))


def _window_cells(model: LlamaModel, line: Line) -> int:
    return line.window_cells(model.window) if model.window else 0


def _widths(model: LlamaModel, layer: LlamaLayer) -> int:
    """Return values per token of the largest step of a layer."""
    attention = 3 * model.hidden + model.heads * (576 + 576 + 192) if model.latent else 0
    if not layer.experts:
        own = 3 * layer.ffn_width + 2 * model.hidden + _attention_width(model)
        return max(own, attention)
    inside = model.matrices * model.top_k * model.expert_width
    gathered = model.top_k * model.hidden
    if gathered <= 2 * model.top_k * model.expert_width:
        gathered = 0
    moe = inside + gathered + 2 * model.hidden + _attention_width(model)
    return max(moe, attention)


def _attention_width(model: LlamaModel) -> int:
    return model.heads * model.value_width


def _around_experts(model: LlamaModel) -> int:
    """Return values per token beside a copied tensor of experts."""
    own = model.top_k * (model.hidden + model.expert_width)
    return own + 2 * model.hidden + _attention_width(model)


def _without_flash(model: LlamaModel, cells: int, window: int) -> int:
    """Return values per token of attention whose scores are written out."""
    scores = (model.heads + 1) * cells + window
    if model.latent:
        return scores + 3 * model.hidden + model.heads * (576 + 576 + 192)
    keys = 2 * model.kv_heads * model.value_width
    return scores + 2 * model.hidden + 2 * _attention_width(model) + keys
