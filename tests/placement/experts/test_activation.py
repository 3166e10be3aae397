"""Use of experts from counts and traces, and one clear message for what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe2opt.result import InputError

COUNTS = {
    "unknown layer": ("layer,expert,count\n9,0,1\n", "layer 9 has no experts in the model"),
    "unknown expert": ("layer,expert,count\n1,6,1\n", r"row 1 has expert 6; .* 0\.\.5"),
    "empty layer": ("layer,expert,count\n1,0,1\n2,0,1\n", "layer 3 has no counts"),
    "no column": ("layer,expert\n1,0\n", "has no column 'count'"),
    "negative": ("layer,expert,count\n1,0,-1\n", "finite numbers"),
    "text": ("layer,expert,count\na,0,1\n", "must hold integers"),
}


@pytest.mark.parametrize("case", COUNTS)
def test_bad_counts(case: str, build: Any, tmp_path: Path) -> None:
    """Faulty tables of counts name the file and the entry."""
    text, message = COUNTS[case]
    (tmp_path / "counts.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        build(activation={"counts": "counts.csv"})


def test_bad_traces(build: Any, tmp_path: Path) -> None:
    """Traces with foreign expert ids, a wrong shape or no array, and damaged files are named."""
    path = tmp_path / "trace.npz"
    section = {"activation": {"trace": "trace.npz"}}
    good = np.zeros((5, 3, 2), dtype=np.uint8)
    wrong = good.copy()
    wrong[2, 1, 0] = 6
    for arrays, message in (
        ({"experts": wrong}, r"experts\[2, 1, 0\] is 6; the model has experts 0\.\.5"),
        ({"experts": good[:, :2]}, r"integers of shape \(tokens, 3, 2\)"),
        ({"other": good}, "has no array 'experts'"),
        ({"experts": good[:0]}, "has no token"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(InputError, match=message):
            build(**section)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be read as NPZ"):
        build(**section)
    np.savez(path, experts=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="cannot be read as NPZ"):
        build(**section)


def test_counts_and_trace_agree(build: Any, tmp_path: Path) -> None:
    """A trace and its own counts give the same shares, which sum to top-k in every layer."""
    rng = np.random.default_rng(0)
    trace = np.array([[rng.choice(6, 2, replace=False) for _ in range(3)] for _ in range(30)])
    np.savez(tmp_path / "trace.npz", experts=trace)
    rows = ["layer,expert,count"]
    for layer in range(3):
        counts = np.bincount(trace[:, layer].ravel(), minlength=6)
        rows += [f"{layer + 1},{e},{counts[e]}" for e in range(6)]
    (tmp_path / "counts.csv").write_text("\n".join(rows))
    one = build(activation={"trace": "trace.npz"}).activation.mixed
    two = build(activation={"counts": "counts.csv"}).activation.mixed
    assert np.allclose(one, two)
    assert np.allclose(one.sum(axis=1), 2)


def test_union_of_a_batch(build: Any) -> None:
    """With equal shares a batch reads N (1 - (1 - k/N)^B) experts per step."""
    instance = build(activation={"uniform": True}, batch=7)
    union = 6 * (1 - (1 - 2 / 6) ** 7)
    assert instance.uses.sum(axis=1) * 7 == pytest.approx(np.full(3, union))
