"""One memory for processor and device: a pool, of which the device may use a share."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from llama_models import model

import moe2opt as mo
from moe2opt.errors import InputError
from moe2opt.place import PlaceConfig, PlaceInstance
from moe2opt.place.question import instance_of

GIB = 2**30


def asked(name: str = "glm45-air", context: int = 8192, **unified: Any) -> PlaceInstance:
    """Return the question about a model in a unified memory."""
    content = {
        "problem": "place", "model": "m.gguf", "context": {"tokens": context},
        "unified": {"gb_per_s": 256, **unified},
    }  # fmt: skip
    return instance_of(PlaceConfig.model_validate(content), model(name))


def test_a_radeon_reads_prompts_through_vulkan() -> None:
    """The seconds of an operation are those of the usual engine, and copies widen a prompt."""
    content = {
        "problem": "place", "model": "m.gguf", "context": {"tokens": 8192},
        "gpus": [{"name": "RX 9070 XT"}],
    }  # fmt: skip
    instance = instance_of(PlaceConfig.model_validate(content), model("glm45-air"))
    dense_s = instance.case.machine.devices[0].operation_s[0]
    # Its only run: 4802 tokens/s of a model of 8.03e9 parameters.
    assert 1 / (2 * 8.03e9 * dense_s) == pytest.approx(4802, rel=0.15)
    prompts = mo.solve(instance).plan.prefill
    assert prompts.high / prompts.value >= 2.5


def test_what_lies_anywhere_lies_in_the_pool() -> None:
    """Device and processor together hold the model once, and leave the system its margin."""
    instance = asked("qwen3-235b", gib=160)
    result = mo.solve(instance)
    assert result.status is mo.Status.OPTIMAL
    assert instance.check(result.plan) == []
    assert mo.certify(instance, result).failures == ()
    device, ram = result.plan.devices
    assert device["weights_bytes"] + ram["weights_bytes"] == model("qwen3-235b").bytes
    assert device["capacity_bytes"] == 120 * GIB
    taken = device["capacity_bytes"] - device["free_bytes"] + ram["capacity_bytes"]
    assert taken == pytest.approx(160 * GIB, abs=4)
    assert min(device["free_bytes"], ram["free_bytes"]) >= 0
    assert "of which the device may use 120" in result.plan.notes[0]


def test_the_device_keeps_to_its_share() -> None:
    """A larger share of the same memory takes more layers and is faster; the pool is the same."""
    small, large = (
        mo.solve(asked("glm45-air", gib=80, device_share=share)).plan for share in (0.5, 0.95)
    )
    assert small.devices[0]["weights_bytes"] < 40 * GIB < large.devices[0]["weights_bytes"]
    assert large.decode.value > 1.05 * small.decode.value


def test_a_pool_that_is_too_small_is_proven() -> None:
    """What exceeds the pool fits nowhere, however large the share of the device is."""
    need = model("glm45-air").bytes / GIB
    instance = asked("glm45-air", gib=need + 2, device_share=1.0)
    result = mo.solve(instance)
    assert result.status is mo.Status.INFEASIBLE
    assert result.certificate is not None and result.certificate.conflict is not None
    named = [instance.row_names()[row] for row in result.certificate.conflict.rows]
    assert "bytes in the memory that all share" in named


def test_without_the_device_nothing_of_it_is_taken() -> None:
    """A line for the processor alone takes nothing of the device, and reads prompts like it."""
    own = model("llama31-8b")
    layers = tuple(dataclasses.replace(layer, other_weights=2 * 10**8) for layer in own.layers)
    own = dataclasses.replace(own, layers=layers)
    content: dict[str, Any] = {
        "problem": "place", "model": "m.gguf", "ubatch": [512, 2048],
        "unified": {"gib": 8, "gb_per_s": 100}, "goal": {"prompt_tokens": 8, "answer_tokens": 1},
    }  # fmt: skip
    instance = instance_of(PlaceConfig.model_validate(content), own)
    result = mo.solve(instance)
    assert "--device none" in result.plan.command
    assert result.plan.devices[0]["compute_bytes"] == 0
    assert result.plan.prefill.value == pytest.approx(1e12 / (2 * 32 * 2e8))
    assert instance.evaluate(result.plan) == pytest.approx(result.objective)
    for floor, status in ((78, mo.Status.OPTIMAL), (79, mo.Status.INFEASIBLE)):
        content["goal"]["least_prefill_tok_s"] = floor
        again = instance_of(PlaceConfig.model_validate(content), own)
        assert mo.solve(again).status is status


def test_rates_follow_from_the_pool_unless_given() -> None:
    """The processor reads at half the bandwidth, and copies go at half of it, unless told."""
    machine = asked(gib=128).case.machine
    assert 1 / machine.copy_byte_s == pytest.approx(128e9)
    assert 1 / machine.ram_byte_s == pytest.approx(0.85 * 128e9)
    assert machine.devices[0].gb_per_s == 256
    content = {
        "problem": "place", "model": "m.gguf", "unified": {"gib": 128, "gb_per_s": 256},
        "ram": {"gb_per_s": 100}, "pcie_gb_per_s": 30,
    }  # fmt: skip
    told = instance_of(PlaceConfig.model_validate(content), model("llama31-8b")).case.machine
    assert (1 / told.copy_byte_s, 1 / told.ram_byte_s) == pytest.approx((30e9, 85e9))


def test_a_named_device_brings_its_size() -> None:
    """A device of the tables says its memory and bandwidth, and what runs there say."""
    content = {"problem": "place", "model": "m", "unified": {"name": "Jetson AGX Orin 64GB"}}
    machine = instance_of(PlaceConfig.model_validate(content), model("llama31-8b")).case.machine
    assert machine.pool_bytes == 62 * GIB
    assert machine.devices[0].capacity_bytes == 48 * GIB
    assert machine.devices[0].measured


@pytest.mark.parametrize(
    ("sections", "fault"),
    [
        ({"unified": {"name": "my laptop"}}, "unified.name: .*give gib and gb_per_s"),
        ({"unified": {"gib": 64}}, "unified: give name, or gib and gb_per_s"),
        ({"unified": {"gib": 1.5, "gb_per_s": 9}}, "are no more than the margin of the system"),
    ],
)
def test_bad_pools_are_refused(sections: dict[str, Any], fault: str) -> None:
    """A pool of unknown size or rate is refused by the name of its key."""
    content = {"problem": "place", "model": "m.gguf"} | sections
    with pytest.raises(InputError, match=fault):
        instance_of(PlaceConfig.model_validate(content), model("gpt-oss-20b"))


def test_a_pool_stands_alone() -> None:
    """A pool beside devices or a size of RAM is refused."""
    for beside in ({"gpus": [{"gib": 8}]}, {"ram": {"gib": 64}}):
        content = {"problem": "place", "model": "m", "unified": {"gib": 64, "gb_per_s": 9}} | beside
        with pytest.raises(ValueError, match="unified stands for gpus, rpc and"):
            PlaceConfig.model_validate(content)
