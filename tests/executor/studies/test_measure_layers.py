"""The values of ``tinymoe_blocks`` are what the study measures."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_a_row_of_the_table_is_measured_again() -> None:
    """Two blocks of layer 1 cost what the table says."""
    pytest.importorskip("torch")
    from measure_layers import CONTEXT, MODEL, WINDOWS, rise, window_losses
    from tinymoe.quality import judged_bytes

    from moe2opt.executor.model.folder import open_folder

    folder = open_folder(MODEL)
    text = judged_bytes(MODEL / "calibration", CONTEXT, WINDOWS)
    base = window_losses(folder, text, {})
    table = CHECKOUT / "problems" / "levels" / "tinymoe_blocks" / "layers.csv"
    with table.open(newline="", encoding="utf-8") as file:
        rows = {(row["layer"], row["blocks"]): row for row in csv.DictReader(file)}
    mean, error = rise(window_losses(folder, text, {1: 2}), base)
    own = rows["layer 1", "2"]
    assert mean == pytest.approx(float(own["loss_nats"]), abs=2e-4)
    assert error == pytest.approx(float(own["loss_nats_se"]), abs=2e-4)
