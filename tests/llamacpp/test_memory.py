"""Bytes of a run equal what llama.cpp reserved, on every architecture that was measured."""

from __future__ import annotations

import statistics

import pytest
from llama_models import MEASURED, MIB, model

from moe2opt.errors import InputError
from moe2opt.llamacpp import CPU, RPC, Backend, Layout, Line, context_bytes, homes_of, memory_of
from moe2opt.llamacpp.compute import compute_bytes, host_compute_bytes
from moe2opt.llamacpp.context import read_bytes
from moe2opt.llamacpp.layout import experts_in_ram


def line_of(row: dict[str, str]) -> Line:
    """Return the settings of a measured run."""
    return Line(
        context_tokens=int(row["context_tokens"]),
        ubatch=int(row["ubatch"]),
        batch=max(2048, int(row["ubatch"])),
        sequences=int(row["sequences"]),
        flash_attention=row["flash_attention"] == "on",
        type_k=row["cache_type"],
        type_v=row["cache_type"],
    )


@pytest.mark.parametrize("row", MEASURED, ids=lambda row: f"{row['model']}-{row['ubatch']}")
def test_context_is_exact(row: dict[str, str]) -> None:
    """Context and recurrent state of all layers equal the measured ones within 0.02 %."""
    own = model(row["model"])
    found = sum(context_bytes(own, layer, line_of(row)) for layer in own.layers) / MIB
    measured = float(row["context_mib"]) + float(row["state_mib"])
    assert found == pytest.approx(measured, rel=2e-4)


@pytest.mark.parametrize("row", MEASURED, ids=lambda row: f"{row['model']}-{row['ubatch']}")
def test_weights_and_compute_fit_the_margin(row: dict[str, str]) -> None:
    """Weights are right to the MiB; 1.15 times the compute buffer and 16 MiB are never too low."""
    own, line = model(row["model"]), line_of(row)
    held = memory_of(own, line, Layout(homes_of(own.blocks, [1])), 1)[0]
    assert held.weights_bytes / MIB == pytest.approx(float(row["weights_mib"]), abs=1.1)
    measured = float(row["compute_mib"])
    assert measured <= 1.15 * held.compute_bytes / MIB + 16
    assert held.compute_bytes / MIB == pytest.approx(measured, rel=0.15)


def test_compute_buffers_are_right_on_the_whole() -> None:
    """Half of all compute buffers are met within 0.1 %, on the device and in RAM."""
    errors, host = [], []
    for row in MEASURED:
        own, line = model(row["model"]), line_of(row)
        found = compute_bytes(own, own.layers, line, output=True) / MIB
        errors.append(abs(found / float(row["compute_mib"]) - 1))
        host.append(abs(host_compute_bytes(own, line) / MIB / float(row["host_compute_mib"]) - 1))
    assert statistics.median(errors) < 1e-3
    assert statistics.median(host) < 1e-3


def test_two_devices_match_the_runtime() -> None:
    """Weights and context of two devices of 24 and 12 GiB equal what llama-server b10434 says."""
    own = model("qwen3-30b-a3b")
    layout = Layout(homes_of(own.blocks, (24576, 12288)))
    first, second, ram = memory_of(own, Line(context_tokens=32768), layout, 2, RPC)
    for found, told in ((first, (11059, 2112, 116)), (second, (5270, 960, 108))):
        assert found.weights_bytes / MIB == pytest.approx(told[0], abs=1)
        assert found.context_bytes / MIB == told[1]
        assert found.compute_bytes / MIB == pytest.approx(told[2], rel=0.1)
    assert ram.weights_bytes / MIB == pytest.approx(166, abs=1)
    assert ram.compute_bytes / MIB == pytest.approx(40, abs=0.1)


def test_experts_in_ram_leave_context_where_it_was() -> None:
    """GLM-4.5-Air with experts of layers 10-29 in RAM: bytes per device as b11434 prints them."""
    own = model("glm45-air")
    line = Line(
        context_tokens=65536, ubatch=2048, type_k="q8_0", type_v="q8_0", sequences=1,
        all_logits=True,
    )  # fmt: skip
    moved = {k: dict.fromkeys(own.layers[k].experts, CPU) for k in range(10, 30)}
    layout = Layout(homes_of(own.blocks, (30, 16)), moved)
    first, second, ram = memory_of(own, line, layout, 2, RPC)
    for found, told in ((first, (15012, 4216, 904)), (second, (20683, 2040, 1280))):
        assert found.weights_bytes / MIB == pytest.approx(told[0], abs=1)
        assert found.context_bytes / MIB == told[1]
        assert found.compute_bytes / MIB == pytest.approx(told[2], rel=0.1)
    # The runtime prints 10,013 MiB for RAM, its repacked experts left out; all are 25,853.
    assert ram.weights_bytes / MIB == pytest.approx(25853, abs=1)


def test_experts_in_ram_are_copied_for_batches() -> None:
    """All experts of Qwen3-30B in RAM: the copy of one expert tensor, as measured on Vulkan."""
    own = model("qwen3-30b-a3b")
    layout = Layout(homes_of(own.blocks, [1]), experts_in_ram(own, own.blocks))
    line = Line(context_tokens=32768)
    held = memory_of(own, line, layout, 1)[0]
    assert held.compute_bytes / MIB == pytest.approx(200.01, rel=0.01)
    assert memory_of(own, line, layout, 1, RPC)[0].compute_bytes / MIB == pytest.approx(
        116.01, 0.01
    )


def test_pipelines_need_every_layer_on_a_device() -> None:
    """Several devices keep four copies of the inputs, unless an expert lies elsewhere."""
    own, line = model("qwen3-30b-a3b"), Line(context_tokens=32768)
    layout = Layout(homes_of(own.blocks, [1, 1]))
    plain = memory_of(own, line, layout, 2, Backend(pipelines=False))
    piped = memory_of(own, line, layout, 2)
    assert piped[0].compute_bytes - plain[0].compute_bytes == 4 * (32 * MIB + 8 * 512 * 2048)
    split = Layout(layout.homes, experts_in_ram(own, 1))
    assert memory_of(own, line, split, 2, Backend(copies=False))[0].compute_bytes == (
        plain[0].compute_bytes
    )


@pytest.mark.parametrize(
    ("shares", "on_devices", "homes"),
    [
        ((3, 1), None, [0] * 7 + [1] * 2),
        ((1, 3), None, [0] * 3 + [1] * 6),
        ((1,), 4, [CPU] * 5 + [0] * 4),
        ((1, 1), 0, [CPU] * 9),
        ((0, 1), 99, [1] * 9),
    ],
)
def test_layers_are_split_as_llama_cpp_does(
    shares: tuple[int, ...], on_devices: int | None, homes: list[int]
) -> None:
    """Eight layers and the output go to devices by cumulated shares, the first ones to RAM."""
    assert list(homes_of(8, shares, on_devices)) == homes


def test_what_is_read_follows_the_depth() -> None:
    """A layer reads what its sequence holds so far: a window at most, a state always."""
    own = model("gpt-oss-120b")
    line = Line(context_tokens=131072)
    window, full = own.layers[0], own.layers[1]
    assert (window.attention, full.attention) == ("window", "full")
    assert read_bytes(own, full, line, 1000) == 1000 * 2 * 8 * 64 * 2
    assert read_bytes(own, window, line, 1000) == 128 * 2 * 8 * 64 * 2
    assert context_bytes(own, window, line) < context_bytes(own, full, line) / 50
    hybrid = model("qwen35-35b")
    assert read_bytes(hybrid, hybrid.layers[0], line, 0) > 0
    assert read_bytes(hybrid, hybrid.layers[3], line, 0) == 0


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"context_tokens": 0}, "context_tokens must be at least 1, not 0"),
        ({"context_tokens": 1, "ubatch": -2}, "ubatch must be at least 1, not -2"),
        ({"context_tokens": 1, "type_k": "q3"}, "type_k: no format 'q3' \\(known: f32, f16"),
    ],
)
def test_settings_are_checked(settings: dict[str, object], fault: str) -> None:
    """A setting that llama.cpp does not know is refused by name."""
    with pytest.raises(InputError, match=fault):
        Line(**settings)  # type: ignore[arg-type]


def test_shares_are_checked() -> None:
    """Shares of devices that are negative or all zero are refused."""
    with pytest.raises(InputError, match="not all zero"):
        homes_of(8, (0, 0))
