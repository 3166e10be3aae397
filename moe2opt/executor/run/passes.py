"""One pass of tokens through a model: seconds by token and layer, and the loss."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from moe2opt.executor.model.decoder import Cache, Decoder
from moe2opt.executor.model.experts import ExpertSource, StreamedExperts
from moe2opt.executor.model.text import token_losses
from moe2opt.executor.run.memory import anonymous_bytes
from moe2opt.executor.run.record import Pass
from moe2opt.executor.run.tiered import TieredExperts
from moe2opt.result import InputError, IntArray

#: Called with the tokens done and all tokens.
OnToken = Callable[[int, int], None]


def run_pass(
    decoder: Decoder,
    experts: TieredExperts,
    tokens: IntArray,
    on_token: OnToken | None = None,
    room: int = 0,
) -> Pass:
    """Send ``(S, N)`` tokens through the model, one by one, each sequence from an empty context.

    The context has room for `room` tokens, or for a sequence where that is more.

    Raises
    ------
    InputError
        When the model's outputs are not finite.
    """
    sequences, length = tokens.shape
    seconds, losses = np.zeros(tokens.size), np.zeros((sequences, length - 1))
    resident = 0
    begun, wasted = len(experts.served), experts.wasted_bytes
    with torch.inference_mode():
        for s in range(sequences):
            experts.start_sequence()
            context = empty_context(decoder, max(length, room))
            for n in range(length):
                number = s * length + n
                experts.token = number
                step = torch.tensor([int(tokens[s, n])], device=decoder.embedding.device)
                start = time.perf_counter()
                logits = decoder.forward(step, experts, context)
                seconds[number] = time.perf_counter() - start
                if n + 1 < length:
                    wide = logits[-1].float()
                    losses[s, n] = float(wide.logsumexp(dim=-1) - wide[int(tokens[s, n + 1])])
                if on_token is not None:
                    on_token(number + 1, tokens.size)
            resident = max(resident, anonymous_bytes() or 0)
    if not np.isfinite(losses).all():
        raise InputError("the model's outputs are not finite: weights or formats are unusable")
    served = tuple(experts.served[begun:])
    own = np.zeros((tokens.size, len(experts.layout.layers)))
    np.add.at(
        own,
        ([s.token for s in served], [s.row for s in served]),
        [s.move_s + s.compute_s for s in served],
    )
    waste = experts.wasted_bytes - wasted
    return Pass(seconds, own, losses, served, waste, resident or None)


def empty_context(decoder: Decoder, length: int) -> Cache:
    """Return a cache with room for exactly `length` tokens."""
    spec, like = decoder.spec, decoder.embedding
    shape = (1, spec.kv_heads, length, spec.head_dim)
    numbers = range(len(decoder.layers))
    return Cache(
        keys={n: like.new_zeros(shape) for n in numbers},
        values={n: like.new_zeros(shape) for n in numbers},
    )


def context_bytes(decoder: Decoder, length: int) -> int:
    """Return the bytes of `empty_context`."""
    spec = decoder.spec
    entries = 2 * len(decoder.layers) * spec.kv_heads * spec.head_dim * length
    return int(entries * decoder.embedding.element_size())


def dense_bytes(decoder: Decoder) -> int:
    """Return the bytes of the model without its routed experts, shared tensors counted once."""
    found: dict[int, int] = {}

    def add(tensor: Tensor) -> None:
        found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()

    for tensor in (decoder.embedding, decoder.norm, decoder.head):
        add(tensor)
    for layer in decoder.layers:
        for tensor in (*layer.tensors.values(), *(layer.dense or {}).values()):
            add(tensor)
    return sum(found.values())


def reference_loss(decoder: Decoder, source: ExpertSource, tokens: IntArray) -> float:
    """Return the mean loss in nats of the unchanged model on ``(S, N)`` tokens."""
    batch = torch.from_numpy(np.asarray(tokens, dtype=np.int64)).to(decoder.embedding.device)
    with torch.inference_mode():
        logits = decoder.forward(batch[:, :-1], StreamedExperts(source))
        return float(token_losses(logits.float(), batch).double().mean())
