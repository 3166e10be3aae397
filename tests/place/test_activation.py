"""Counts of experts: what they say of a plan of llama.cpp."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_models import model

import moe2opt as mo
from moe2opt.errors import InputError
from moe2opt.place.activation import activation_note, served_shares, used_experts

MODEL = model("gpt-oss-20b")


def test_hot_experts_are_told_and_change_nothing(tmp_path: Path) -> None:
    """The share that half of the experts serve is told, and that llama.cpp cannot use it."""
    rows = [f"{layer},{k},{3 if k < 16 else 1}" for layer in range(24) for k in range(32)]
    file = tmp_path / "counts.csv"
    file.write_text("layer,expert,count\n" + "\n".join(rows) + "\n", encoding="utf-8")
    note = activation_note(used_experts(file, MODEL), MODEL, "llama.cpp")
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
        used_experts(file, MODEL)


def test_a_dense_model_has_none(tmp_path: Path) -> None:
    """Counts for a model without experts are refused."""
    with pytest.raises(InputError, match="no routed experts"):
        used_experts(tmp_path / "counts.csv", model("llama31-8b"))


def test_an_importance_matrix_counts_experts(tmp_path: Path) -> None:
    """The tokens that `llama-imatrix` counted are read, those of one matrix of a layer once."""
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "imatrix.gguf", "")
    counts = np.arange(32, dtype=np.float32).reshape(32, 1)
    for name in ("blk.3.ffn_up_exps.weight", "blk.3.ffn_down_exps.weight"):
        writer.add_tensor(f"{name}.in_sum2", np.ones((32, 4), np.float32))
        writer.add_tensor(f"{name}.counts", counts)
    writer.add_tensor("blk.3.attn_q.weight.counts", np.ones((1, 1), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    used = used_experts(tmp_path / "imatrix.gguf", MODEL)
    assert {layer: own.tolist() for layer, own in used.items()} == {3: counts.ravel().tolist()}
    with pytest.raises(InputError, match="old format keeps no counts"):
        used_experts(tmp_path / "imatrix.dat", MODEL)
    (tmp_path / "no.gguf").write_bytes(b"GGUF")
    with pytest.raises(InputError, match=r"no\.gguf: truncated or no GGUF"):
        used_experts(tmp_path / "no.gguf", MODEL)


def test_parquet_is_as_good_as_csv(tmp_path: Path) -> None:
    """The same table gives the same counts, and a column that is missing is named."""
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"layer": [0, 0, 1], "expert": [0, 5, 2], "count": [4.0, 1.0, 2.0]})
    frame.to_parquet(tmp_path / "c.parquet")
    frame.to_csv(tmp_path / "c.csv", index=False)
    one, other = (used_experts(tmp_path / f"c.{kind}", MODEL) for kind in ("parquet", "csv"))
    assert {k: v.tolist() for k, v in one.items()} == {k: v.tolist() for k, v in other.items()}
    frame.drop(columns="count").to_parquet(tmp_path / "d.parquet")
    with pytest.raises(InputError, match="no column 'count'"):
        used_experts(tmp_path / "d.parquet", MODEL)
    for count in (1e308, -1.0, float("nan")):
        frame.assign(count=count).to_parquet(tmp_path / "e.parquet")
        with pytest.raises(InputError, match=r"column 'count' must be within 0\.\.1e\+15"):
            used_experts(tmp_path / "e.parquet", MODEL)
    pd.concat([frame, frame]).to_parquet(tmp_path / "f.parquet")
    with pytest.raises(InputError, match="an expert of a layer has two rows"):
        used_experts(tmp_path / "f.parquet", MODEL)


def test_hot_experts_make_ktransformers_faster() -> None:
    """With counts the experts on cards serve more uses than their share, and the plan says so."""
    from moe2opt.place import PlaceConfig
    from moe2opt.place.question import asked

    used = {0: np.array([8.0] * 8 + [1.0] * 24)}
    assert served_shares(used)[[0, 8, 32]] == pytest.approx([0, 64 / 88, 1])

    def best(*served: float) -> Any:
        content = {
            "problem": "place", "model": "m", "runtime": "ktransformers", "served": served,
            "gpus": [{"gib": 8, "gb_per_s": 448}],
        }  # fmt: skip
        return mo.solve(asked(PlaceConfig.model_validate(content), MODEL))

    hot, plain = best(*served_shares(used).tolist()), best()
    assert hot.objective > plain.objective
    assert hot.plan.options["kt-expert-placement-strategy"] == "frequency"
    assert any("activation_stats.pt" in note for note in hot.plan.notes)
    with pytest.raises(InputError, match="served: 2 shares"):
        best(0.0, 1.0)
