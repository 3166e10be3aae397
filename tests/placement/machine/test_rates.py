"""Measured seconds in the place of typed bandwidths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moe2opt as mo
from moe2opt.placement.machine.rates import COLUMNS, TABLE
from moe2opt.profiles.columns import CONSTANT_COLUMNS
from moe2opt.result import InputError
from moe2opt.schema.csv import write_table

CONFIG = """
schema_version: 1
problem: placement
name: toy
model: {{table: toy, models: models.csv, dense_bits: 32}}
precisions: [{{name: fp16, loss_nats: 0.0}}, {{name: int4, bits_per_weight: 4.5, loss_nats: 0.0}}]
tiers:
  - {{name: dram, kind: cpu, device: {device}, capacity_gib: 0.001{rate}}}
  - {{name: ssd, kind: disk, device: {device}}}
links: [{{between: [dram, ssd]{link}}}]
activation: {{zipf: 1.0}}
rates: {rates}
"""

MODEL = ["toy", 2, 0, 1, 4, 1, 32, 64, 0.1, 0.0001, 16, "drawn", None]

WEIGHTS, HIDDEN = 1e5, 32


def cell(quantity: str, memory: str, precision: str, size: float, us: float) -> list[Any]:
    """Return a row of the table of measured experts."""
    row = {
        "device": "here", "quantity": quantity, "memory": memory, "place": "dram",
        "precision": precision, "bytes": size, "hidden": HIDDEN, "weights": WEIGHTS, "us": us,
        "low_us": us, "high_us": us, "count": 9, "source": "a test", "note": "",
    }  # fmt: skip
    return [row[name] for name in COLUMNS]


CELLS = [
    cell("compute", "dram", "fp16", 2e5, 30),
    cell("compute", "dram", "int4", 56250, 50),
    cell("compute", "disk", "fp16", 2e5, 33),
    cell("compute", "disk", "int4", 56250, 55),
    cell("move", "disk", "fp16", 2e5, 400),
    cell("move", "disk", "int4", 56250, 200),
    cell("dense", "", "", 4e5, 777),
]


def load(folder: Path, rows: list[list[Any]] = CELLS, **words: str) -> Any:
    """Return the instance with a profile of the given rows."""
    from moe2opt.placement.model.shape import COLUMNS as MODEL_COLUMNS

    profile = folder / "profile"
    profile.mkdir(exist_ok=True)
    if rows:
        write_table(profile / TABLE, list(COLUMNS), rows)
    write_table(folder / "models.csv", list(MODEL_COLUMNS), [MODEL])
    given = {"rates": "profile", "device": "local", "rate": "", "link": "", **words}
    (folder / "toy.yaml").write_text(CONFIG.format(**given), encoding="utf-8")
    return mo.load(folder / "toy.yaml")


def test_measured_seconds_are_what_a_use_costs(tmp_path: Path) -> None:
    """Every pair of tier and format costs what was measured, and so does the dense part."""
    instance = load(tmp_path)
    expected = np.array([[30, 50], [433, 255]]) * 1e-6
    assert instance.use.seconds == pytest.approx(expected)
    assert instance.dense_s == pytest.approx(777e-6)
    assert any("measured on this machine" in note for note in instance.notes)


def test_a_larger_faster_format_is_offered(tmp_path: Path) -> None:
    """A larger format that loses no less is kept on offer where it was measured to be faster."""
    instance = load(tmp_path)
    result = mo.solve(instance, time_limit_s=10)
    held = set(result.plan.assignment.precision.ravel().tolist())  # type: ignore[union-attr]
    assert held == {0, 1}


def test_bandwidth_follows_from_two_sizes(tmp_path: Path) -> None:
    """What was not measured follows from the line through the measured copies."""
    link = load(tmp_path).topology.links[0]
    seconds = 1e5 / link.bytes_per_s + link.latency_s
    assert seconds == pytest.approx((200 + 200 * (1e5 - 56250) / (2e5 - 56250)) * 1e-6)


def test_typed_rates_stay_where_nothing_was_measured(tmp_path: Path) -> None:
    """A typed rate is used for what the profile does not know: here a format."""
    rows = [row for row in CELLS if "int4" not in row]
    instance = load(tmp_path, rows, rate=", compute_gb_per_s: 10", link=", gb_per_s: 1")
    assert instance.use.seconds[0] == pytest.approx([30e-6, 56250 / 10e9])
    assert instance.use.move_s[1] == pytest.approx([400e-6, 56250 / 1e9])


def test_a_profile_of_the_machine_alone_gives_block_rates(tmp_path: Path) -> None:
    """Without executed experts, disk blocks and weights per second give the rates."""
    figures = {"disk_latency@4096": 80, "disk_latency@1048576": 1080, "expert_ffn_fp32_1_token": 8}
    rows = [
        ["here", name, value, "", "measured", "A", "measured", "x", "x", ""]
        for name, value in figures.items()
    ]
    (tmp_path / "profile").mkdir()
    write_table(tmp_path / "profile" / "constants.csv", list(CONSTANT_COLUMNS), rows)
    instance = load(tmp_path, [])
    link = instance.topology.links[0]
    assert 4096 / link.bytes_per_s + link.latency_s == pytest.approx(80e-6)
    assert instance.use.compute_s[0] == pytest.approx(instance.expert_bytes / 8e9)


@pytest.mark.parametrize(
    ("words", "rows", "message"),
    [
        ({"rates": "nowhere"}, CELLS, "no folder 'nowhere'"),
        ({}, [], "has no experts of 100000 weights"),
        ({}, [[*row[:6], 64, *row[7:]] for row in CELLS], "has no experts of 100000 weights"),
        ({"device": "other, reserve_gib: 0"}, [*CELLS, ["there", *CELLS[0][1:]]], "no device"),
        ({}, CELLS[4:], "has no experts"),
        ({}, CELLS[:4], "links.0.gb_per_s"),
    ],
)
def test_what_a_profile_lacks_is_named(
    words: dict[str, str], rows: list[list[Any]], message: str, tmp_path: Path
) -> None:
    """A missing folder, another model, another device or a missing figure is one clear error."""
    with pytest.raises(InputError, match=message):
        load(tmp_path, rows, **words)
