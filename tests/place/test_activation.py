"""Counts of experts: what they say of a plan of llama.cpp."""

from __future__ import annotations

from pathlib import Path

import pytest
from llama_models import model

from moe2opt.errors import InputError
from moe2opt.place.activation import activation_note

MODEL = model("gpt-oss-20b")


def test_hot_experts_are_told_and_change_nothing(tmp_path: Path) -> None:
    """The share that half of the experts serve is told, and that llama.cpp cannot use it."""
    rows = [f"{layer},{k},{3 if k < 16 else 1}" for layer in range(24) for k in range(32)]
    file = tmp_path / "counts.csv"
    file.write_text("layer,expert,count\n" + "\n".join(rows) + "\n", encoding="utf-8")
    note = activation_note(file, MODEL)
    assert "the 16 most used experts of a layer serve 75% of its uses (24 of 24 layers" in note
    assert "change nothing of this plan" in note


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("99,0,1", "layer 99 has no experts in the model"),
        ("0,32,1", "expert 32; the model has 32"),
        ("0,0,0", "a layer without any use"),
        ("0,0,many", "count: 'many' is not a number"),
    ],
)
def test_counts_that_are_none_are_named(tmp_path: Path, rows: str, message: str) -> None:
    """Layers, experts and counts that are not of the model are refused with their row."""
    file = tmp_path / "counts.csv"
    file.write_text(f"layer,expert,count\n{rows}\n", encoding="utf-8")
    with pytest.raises(InputError, match=message):
        activation_note(file, MODEL)


def test_a_dense_model_has_none(tmp_path: Path) -> None:
    """Counts for a model without experts are refused."""
    with pytest.raises(InputError, match="no routed experts"):
        activation_note(tmp_path / "counts.csv", model("llama31-8b"))
