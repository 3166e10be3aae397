"""Rows for what devices are worth rule nothing out, and prove plans for many equal cards."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from llama_models import MIB, model

import moe2opt as mo
from moe2opt.place import PlaceConfig, PlaceInstance
from moe2opt.place.question import instance_of


def asked(
    name: str, *gpus: tuple[float, float], larger: tuple[int, ...] = (), **sections: Any
) -> PlaceInstance:
    """Return the question about a model on devices of sizes and rates.

    With `larger`, of as many of its blocks, whose experts are larger by so many MiB a matrix.
    """
    own = model(name)
    if larger:
        layers = tuple(
            dataclasses.replace(
                layer, index=k, experts={m: s + more * MIB for m, s in layer.experts.items()}
            )
            for k, (layer, more) in enumerate(zip(own.layers, larger, strict=False))
        )
        own = dataclasses.replace(own, layers=layers, blocks=len(layers))
    devices = [{"gib": gib, "gb_per_s": rate} for gib, rate in gpus]
    content = {"problem": "place", "model": "m.gguf", "gpus": devices} | sections
    return instance_of(PlaceConfig.model_validate(content), own)


#: Machines of three cards: sizes and rates, how much larger experts of blocks are, sections.
SMALL = [
    ([(0.8, 936), (0.6, 448), (0.75, 192)], (0, 0, 0, 0), {}),
    ([(0.8, 448)] * 3, (0, 0, 0, 20, 0), {}),
    pytest.param(
        [(0.6, 192), (0.9, 936), (0.8, 448)],
        (0, 0, 0, 0, 0),
        {"ubatch": [256, 512]},
        marks=pytest.mark.slow,
    ),
    pytest.param(
        [(0.65, 448)] * 3,
        (0, 9, 0, 0),
        {"goal": {"prompt_tokens": 4000, "answer_tokens": 100}},
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize(("gpus", "larger", "sections"), SMALL)
def test_rows_of_runs_rule_nothing_out(
    gpus: list[tuple[float, float]], larger: tuple[int, ...], sections: dict[str, Any]
) -> None:
    """However much a row is sought to be broken, the other rows alone keep every plan to it."""
    instance = asked(
        "qwen3-30b-a3b",
        *gpus,
        larger=larger,
        margin_gib=0.0,
        context={"tokens": 256},
        ram={"gib": 64, "gb_per_s": 10},
        **sections,
    )
    problem, names = instance.problem(), instance.row_names()
    worth = np.array(["run of layers" in name for name in names])
    assert worth.sum() == len(gpus)
    others = [usage[:, ~worth] for usage in problem.usage]
    for row in np.flatnonzero(worth):
        sought = mo.MultipleChoiceProblem(
            [usage[:, row] for usage in problem.usage], others, problem.limits[~worth]
        )
        found = mo.solve(sought, rel_gap=1e-3)
        assert found.status is mo.Status.OPTIMAL
        assert found.objective <= problem.limits[row]


@pytest.mark.parametrize(
    ("name", "tokens", "gpus"),
    [
        ("gpt-oss-120b", 32768, [(12, 360)] * 4),
        ("glm45-air", 8192, [(8, 448)] * 8),
        pytest.param("deepseek-r1", 8192, [(24, 936)] * 8, marks=pytest.mark.slow),
    ],
)
def test_many_equal_cards_are_proven_at_once(
    name: str, tokens: int, gpus: list[tuple[float, float]]
) -> None:
    """Four and eight equal cards are within 0.25 % of their bound after few nodes."""
    instance = asked(name, *gpus, context={"tokens": tokens})
    result = mo.solve(instance, rel_gap=0.0025, node_limit=20)
    assert result.status is mo.Status.OPTIMAL
    verdict = mo.certify(instance, result)
    assert (verdict.kind, verdict.failures) == ("checked", ())


def test_devices_hand_each_other_the_rests_of_layers() -> None:
    """The chain that the search starts from splits layers between cards, and is the best."""
    instance = asked("gpt-oss-120b", *[(12, 360)] * 4, context={"tokens": 32768})
    start = instance.start
    assert start is not None
    result = mo.solve(instance, rel_gap=1e-4, node_limit=50)
    assert instance.problem().evaluate(start) >= result.bound * (1 + 1e-4)
    assert any(layer["experts"] not in (layer["dense"], "cpu") for layer in result.plan.layers)


@pytest.mark.parametrize("gib", [0.05, 0.3])
def test_cards_without_room_get_no_rows(gib: float) -> None:
    """Cards that are too small for what a device computes with are left out of the plan."""
    instance = asked(
        "qwen3-30b-a3b",
        *[(gib, 448)] * 3,
        larger=(0, 0),
        context={"tokens": 2048},
        ram={"gib": 64, "gb_per_s": 80},
        margin_gib=0.0,
    )
    assert not any("run of layers" in name for name in instance.row_names())
    plan = mo.solve(instance).plan
    assert plan is not None
    assert "--device none" in plan.command
