"""What `--fit on` decides, beside what llama-server b10434 decided on the same devices."""

from __future__ import annotations

import pytest
from llama_models import MIB, MODELS, model

from moe2opt.llamacpp import CPU, RPC, Line, memory_of
from moe2opt.llamacpp.fit import fitted, shares_of

#: Model, tokens of context, GiB of each device (behind ggml-rpc-server, which reported so much),
#: and per device the layers and MiB that llama-server printed. `-np 1 -fa on -ub 512 --fit on`.
PRINTED = [
    ("gpt-oss-120b", 32768, (24, 12), ((14, 23086), (23, 11226))),
    ("gpt-oss-120b", 65536, (8,), ((37, 6786),)),
    ("gpt-oss-20b", 8192, (8,), ((25, 7075),)),
    ("qwen3-30b-a3b", 32768, (8,), ((49, 7098),)),
    ("qwen3-235b", 32768, (24, 12), ((17, 23138), (78, 10876))),
    ("glm45-air", 8192, (24,), ((47, 23276),)),
    ("glm45-air", 32768, (12, 24, 16), ((9, 10952), (15, 23104), (23, 15242))),
    ("llama33-70b", 8192, (24, 12), ((47, 23287), (21, 10851))),
    ("deepseek-r1", 16384, (48, 24), ((16, 47876), (46, 22445))),
    ("mixtral-8x7b", 8192, (12, 8), ((14, 11045), (19, 7122))),
    ("qwen35-35b", 65536, (12,), ((41, 11166),)),
    ("nemotron3-nano", 32768, (8, 6), ((23, 7042), (30, 4869))),
    ("minimax-m2", 16384, (24, 24), ((12, 23229), (51, 23286))),
    ("qwen3next-80b", 32768, (16,), ((49, 15200),)),
    ("llama4-maverick", 8192, (48, 24), ((12, 46671), (37, 23131))),
    ("gemma3-27b", 16384, (12,), ((41, 11075),)),
]


@pytest.mark.parametrize(("name", "tokens", "gib", "printed"), PRINTED)
def test_layers_are_those_that_the_runtime_chose(
    name: str, tokens: int, gib: tuple[int, ...], printed: tuple[tuple[int, int], ...]
) -> None:
    """Every device is given as many layers, and takes as much within 1 %."""
    if name not in MODELS:
        pytest.skip("geometry is not among those of the tests")
    line = Line(context_tokens=tokens, sequences=1, unified=False)
    own, count = model(name), len(gib)
    free = [size * 1024.0 * MIB for size in gib]
    layout = fitted(own, line, free, [1024.0 * MIB] * count, RPC)
    assert [n for n, _ in shares_of(layout, count)] == [n for n, _ in printed]
    held = memory_of(own, line, layout, count, RPC)
    for device, (_, mib) in zip(held, printed, strict=False):
        assert device.total_bytes / MIB == pytest.approx(mib, rel=0.01)


def test_one_layer_overflows_to_the_next_device() -> None:
    """The first device keeps a part of one more layer, whose rest lies on the next one."""
    line = Line(context_tokens=32768, sequences=1, unified=False)
    free = [24576.0 * MIB, 12288.0 * MIB]
    layout = fitted(model("gpt-oss-120b"), line, free, [1024.0 * MIB] * 2, RPC)
    assert layout.experts[13] == {"down": 1}
    assert [layout.homes[k] for k in (13, 14, 36)] == [0, 1, 1]
    assert set(layout.experts[35].values()) == {CPU}


def test_what_fits_is_left_alone() -> None:
    """Where everything fits, layers go by free memory and nothing to RAM."""
    line = Line(context_tokens=8192, sequences=1, unified=False)
    layout = fitted(model("qwen3-32b"), line, [12288.0 * MIB] * 2, [1024.0 * MIB] * 2, RPC)
    assert [n for n, _ in shares_of(layout, 2)] == [33, 32]
    assert not layout.experts
