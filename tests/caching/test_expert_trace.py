"""Reading and checking traces of experts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from moe2opt.caching.synthetic import synthetic_trace
from moe2opt.caching.trace import ExpertTrace
from moe2opt.caching.trace_reading import read_trace
from moe2opt.result import InputError


def same(a: ExpertTrace, b: ExpertTrace, *, gates: float = 1e-12) -> None:
    """Check that two traces hold the same."""
    np.testing.assert_array_equal(a.experts, b.experts)
    np.testing.assert_array_equal(a.starts, b.starts)
    assert a.layers == b.layers
    assert a.gates is not None
    assert b.gates is not None
    np.testing.assert_allclose(a.gates, b.gates, atol=gates)


@pytest.fixture(scope="module")
def small() -> ExpertTrace:
    """Three sequences of four tokens, three layers of five experts, top-2."""
    return synthetic_trace(sequences=3, tokens=4, layers=3, experts=5, top_k=2)


def test_built_in_trace_is_drawn_from_its_law(built_in: ExpertTrace) -> None:
    """The file that travels with the package is what its generator draws, and says SYNTHETIC."""
    drawn = synthetic_trace(sequences=8, tokens=60, layers=24, experts=32, top_k=4)
    same(built_in, drawn, gates=1e-3)
    assert built_in.synthetic
    assert "SYNTHETIC" in built_in.describe()


def test_built_in_trace_has_a_name(
    built_in: ExpertTrace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The built-in trace is found by its name from anywhere."""
    monkeypatch.chdir(tmp_path)
    same(read_trace("experts_synthetic.npz"), built_in)


def test_built_in_trace_is_small(checkout: Path) -> None:
    """It takes at most 200 kB."""
    path = checkout / "problems" / "traces" / "experts_synthetic.npz"
    assert path.stat().st_size <= 200_000


@pytest.mark.parametrize("kind", ["npz", "csv", "parquet"])
def test_every_format_reads_back(small: ExpertTrace, tmp_path: Path, kind: str) -> None:
    """What is written as NPZ, CSV or Parquet is read back, whatever the order of the rows."""
    path = tmp_path / f"trace.{kind}"
    frame = small.to_frame().sample(frac=1.0, random_state=1)
    if kind == "npz":
        small.save(path)
    elif kind == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    same(read_trace(path, n_experts=5), small, gates=1e-3)


def test_sequences_follow_from_falling_steps(small: ExpertTrace, tmp_path: Path) -> None:
    """Without the column sequence, one begins wherever the step falls."""
    path = tmp_path / "trace.csv"
    small.to_frame().drop(columns="sequence").to_csv(path, index=False)
    same(read_trace(path, n_experts=5), small)


def test_rank_decides_without_gates(tmp_path: Path) -> None:
    """The column rank orders the experts of a token; without it the rows do."""
    path = tmp_path / "trace.csv"
    path.write_text("step,layer,expert,rank\n0,0,2,1\n0,0,1,0\n1,0,0,0\n1,0,2,1\n")
    assert read_trace(path).experts.tolist() == [[[1, 2]], [[0, 2]]]
    path.write_text("step,layer,expert\n0,0,2\n0,0,1\n1,0,0\n1,0,2\n")
    trace = read_trace(path)
    assert trace.experts.tolist() == [[[2, 1]], [[0, 2]]]
    assert (trace.n_experts, trace.gates) == (3, None)


def test_layers_keep_their_numbers(tmp_path: Path) -> None:
    """Layers may have any numbers; they are kept as the model counts them."""
    path = tmp_path / "trace.csv"
    path.write_text("step,layer,expert\n7,3,0\n7,9,1\n8,3,1\n8,9,0\n")
    trace = read_trace(path)
    assert trace.layers == (3, 9)
    assert trace.experts.tolist() == [[[0], [1]], [[1], [0]]]


def test_index_picks_sequences(small: ExpertTrace, tmp_path: Path) -> None:
    """A table of offsets and tokens says where sequences are and which are kept."""
    path, index = tmp_path / "trace.npz", tmp_path / "index.csv"
    np.savez(path, allow_pickle=False, experts=small.experts.astype(np.uint8))
    index.write_text("offset,tokens,repetition\n0,4,False\n4,4,True\n8,4,False\n")
    assert read_trace(path, index=index).sequences == 3
    kept = read_trace(path, index=index, repetition=False)
    np.testing.assert_array_equal(kept.experts, small.take([0, 2]).experts)


def test_halves_share_no_sequence(small: ExpertTrace) -> None:
    """Planning and test half are all sequences, none in both."""
    planning, test = small.halves()
    assert planning.tokens + test.tokens == small.tokens
    np.testing.assert_array_equal(planning.experts, small.experts[np.r_[0:4, 8:12]])
    np.testing.assert_array_equal(test.experts, small.experts[4:8])
    with pytest.raises(InputError, match="cannot be split"):
        test.halves()


GOOD = "sequence,step,layer,expert,gate\n0,0,0,1,0.6\n0,0,0,2,0.4\n0,1,0,0,0.7\n0,1,0,2,0.3\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("0.6", "nan"), "row 1: gate is 'nan', no finite number"),
        (GOOD.replace("0.6", "-0.6"), "gates[0, 0, 1] is -0.6"),
        (GOOD.replace("0,0,0,1,0.6", "0,0,0,x,0.6"), "row 1: expert is 'x', no finite number"),
        (GOOD.replace("0,0,0,1,0.6", "0,0,0,1.5,0.6"), "row 1: expert is 1.5, no whole number"),
        (GOOD.replace("0,0,0,1,0.6", "0,0,0,-1,0.6"), "expert -1 is not between"),
        (GOOD.replace("0,0,0,1,0.6", "0,0,0,99,0.6"), "experts[0, 0, 0] is 99"),
        (GOOD.replace("0,0,0,1,0.6", "0,0,0,2,0.6"), "is [2, 2]: an expert is named twice"),
        (GOOD + "0,3,0,1,0.5\n0,3,0,2,0.5\n", "sequence 0: step 2 is missing"),
        (GOOD + "0,2,0,1,0.5\n", "step 2, layer 0 has 1 experts; most have 2"),
        (GOOD + "0,2,1,1,0.5\n0,2,1,0,0.5\n", "layer 1 is missing there or before"),
        (GOOD + "0,2,0,,0.5\n", "row 5: expert is 'nan'"),
        (GOOD.replace("layer", "lay"), "has no column 'layer'"),
        (GOOD.replace("gate", "gates"), "unknown column 'gates'"),
        ("step,layer,expert\n", "has no rows"),
        ("", "the file is empty"),
    ],
)
def test_faults_of_a_table_are_one_clear_error(text: str, message: str, tmp_path: Path) -> None:
    """Wrong numbers, gaps and missing columns name the file, the place and the value."""
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_trace(path, n_experts=3)
    assert message in str(error.value)
    assert "trace" in str(error.value)


def arrays(**changes: Any) -> dict[str, Any]:
    """Return the arrays of a small NPZ file with some of them changed."""
    whole = {
        "experts": np.array([[[0, 1]], [[1, 2]], [[2, 0]]]),
        "n_experts": 3,
        "starts": np.array([0, 2]),
        "gates": np.array([[[0.6, 0.4]], [[0.5, 0.5]], [[0.9, 0.1]]]),
    }
    return {k: v for k, v in {**whole, **changes}.items() if v is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experts": None}, "no array 'experts'"),
        ({"experts": np.zeros((3, 2)), "gates": None}, "float64 and shape (3, 2); integers"),
        ({"experts": np.zeros((0, 1, 2), dtype=int), "gates": None}, "experts is empty"),
        ({"n_experts": 2}, "experts[1, 0, 1] is 2; the experts of a layer are 0..1"),
        ({"n_experts": 0}, "n_experts is 0"),
        ({"n_experts": 0.5}, "n_experts must be one whole number"),
        ({"starts": np.array([1, 2])}, "starts[0] is 1"),
        ({"starts": np.array([0, 2, 2])}, "starts[2] is 2, not above 2"),
        ({"starts": np.array([0, 3])}, "behind the last of 3 tokens"),
        ({"starts": np.array([0.5])}, "starts must be a list of integers"),
        ({"gates": np.zeros((3, 1, 1))}, "numbers of shape (3, 1, 2)"),
        ({"gates": np.full((3, 1, 2), np.nan)}, "gates[0, 0, 0] is nan"),
        ({"gates": np.zeros((3, 1, 2))}, "some expert needs a weight"),
        ({"layers": np.array([1, 2])}, "layers names 2 layers"),
        ({"layers": np.array([[0.5]])}, "layers must be a list of whole numbers"),
    ],
)
def test_faults_of_an_archive_are_one_clear_error(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """Arrays of wrong type, shape or content name the array and the index."""
    path = tmp_path / "trace.npz"
    np.savez(path, allow_pickle=False, **arrays(**changes))
    with pytest.raises(InputError) as error:
        read_trace(path)
    assert message in str(error.value)


def test_gates_out_of_order_are_sorted(tmp_path: Path) -> None:
    """A file whose gates do not fall is read with the largest first."""
    path = tmp_path / "trace.npz"
    np.savez(path, allow_pickle=False, **arrays(gates=np.array([[[0.4, 0.6]]] * 3)))
    assert read_trace(path).experts[:, 0].tolist() == [[1, 0], [2, 1], [0, 2]]


def test_probs_are_gates(tmp_path: Path) -> None:
    """The published traces call the gate weights probs."""
    path = tmp_path / "trace.npz"
    whole = arrays()
    np.savez(path, allow_pickle=False, experts=whole["experts"], probs=whole["gates"])
    assert read_trace(path).gates is not None


def nothing(path: Path) -> None:
    """Leave the file away."""


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("trace.npz", nothing, "No such file"),
        ("trace.npz", lambda path: path.write_bytes(b"PK\x03\x04 no archive"), "cannot be read"),
        ("trace.parquet", lambda path: path.write_bytes(b"no parquet"), "cannot be read"),
        ("trace.csv", nothing, "No such file"),
        ("trace.txt", nothing, "are .npz, .csv or .parquet files"),
    ],
)
def test_unreadable_files_are_one_clear_error(
    name: str, write: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    """A file that is missing, broken or of another kind is an error without a traceback."""
    write(tmp_path / name)
    with pytest.raises(InputError) as error:
        read_trace(tmp_path / name)
    assert message in str(error.value)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    """An archive with Python objects is not loaded."""
    path = tmp_path / "trace.npz"
    np.savez(path, experts=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="cannot be read"):
        read_trace(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("offset\n0\n", "has no column 'tokens'"),
        ("offset,tokens\n0,9\n", "row 1: 9 tokens from 0 on; the trace has 3"),
        ("offset,tokens\n", "names no sequence"),
        ("offset,tokens\n0,x\n", "row 1: tokens is 'x'"),
    ],
)
def test_faults_of_an_index_are_one_clear_error(text: str, message: str, tmp_path: Path) -> None:
    """An index that does not fit the trace is refused."""
    path, index = tmp_path / "trace.npz", tmp_path / "index.csv"
    np.savez(path, allow_pickle=False, **arrays())
    index.write_text(text)
    with pytest.raises(InputError) as error:
        read_trace(path, index=index)
    assert message in str(error.value)


def test_frame_has_a_row_per_expert(small: ExpertTrace) -> None:
    """The table of a trace names every expert of every token once."""
    frame = small.to_frame()
    assert list(frame) == ["sequence", "step", "layer", "expert", "gate"]
    assert len(frame) == small.experts.size
    assert frame.groupby(["sequence", "step", "layer"]).size().eq(2).all()
    sums = frame.groupby(["sequence", "step", "layer"]).gate.sum()
    pd.testing.assert_series_equal(sums, sums * 0 + 1.0)
