"""Traces of the network and the device: reading, validating, repairing, resampling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moe2opt.replay.traces.csv import read_trace
from moe2opt.replay.traces.files import builtin_traces, open_trace
from moe2opt.replay.traces.synthetic import (
    synthetic_device,
    synthetic_mix,
    synthetic_network,
    synthetic_walk,
)
from moe2opt.replay.traces.trace import build_trace
from moe2opt.result import InputError


def rates(*values: float, t_s: object = None, repair: bool = False) -> object:
    """Return a trace of a link at 1 Hz."""
    times = np.arange(float(len(values))) if t_s is None else t_s
    return build_trace("x", times, {"mbit_per_s": values}, repair=repair)


@pytest.mark.parametrize(
    ("values", "t_s", "words"),
    [
        ((1.0, np.nan, 2.0), None, "row 2 is not a finite number"),
        ((1.0, -2.0, -3.0), None, r"row 2 is negative \(2 rows\)"),
        ((1.0, 2.0, 3.0), [0.0, 2.0, 1.0], "t_s in row 3 does not increase"),
        ((1.0, 2.0, 3.0, 4.0), [0.0, 1.0, 2.0, 60.0], "row 4 follows a gap"),
        ((1.0, 2.0), [0.0, np.inf], "t_s in row 2 is not a finite number"),
    ],
)
def test_faults_are_one_clear_error(values: tuple[float, ...], t_s: object, words: str) -> None:
    """NaN, negative rates, gaps and times that go back are errors that name column and row."""
    with pytest.raises(InputError, match=words):
        rates(*values, t_s=t_s)


def test_all_faults_come_at_once() -> None:
    """Several kinds of faults are one message."""
    with pytest.raises(InputError, match=r"not a finite number.*is negative"):
        rates(1.0, np.nan, -1.0)


def test_repair_holds_the_last_value_and_says_so() -> None:
    """Repaired rows hold the last value, are marked as not measured, and are noted."""
    trace = rates(1.0, np.nan, -1.0, 4.0, repair=True)
    assert trace.series["mbit_per_s"].tolist() == [1.0, 1.0, 1.0, 4.0]
    assert trace.missing.tolist() == [False, True, True, False]
    assert len(trace.repairs) == 2


def test_repair_fills_a_gap_with_nothing_measured() -> None:
    """After a gap's first usual step nothing counts as measured until the next row."""
    times = [0.0, 1.0, 2.0, 3.0, 33.0]
    trace = rates(1.0, 2.0, 3.0, 4.0, 5.0, t_s=times, repair=True).resampled(1.0)
    assert trace.missing[4:33].all()
    assert not trace.missing[[0, 1, 2, 3, 33]].any()
    assert (trace.series["mbit_per_s"][4:33] == 4.0).all()


def test_resampling_keeps_the_mean() -> None:
    """Means over equal steps add up to what the irregular rows hold."""
    t = np.array([0.0, 0.5, 2.0, 3.5, 4.0])
    trace = build_trace("x", t, {"mbit_per_s": [4.0, 2.0, 6.0, 0.0, 8.0]})
    assert trace.resampled(1.0).series["mbit_per_s"].tolist() == [3.0, 2.0, 6.0, 3.0, 8.0]


@pytest.mark.parametrize("column", ["rate", "load", "mix[]", "mbit_per_s[a-b"])
def test_unknown_columns_are_refused(column: str) -> None:
    """A column without a meaning or a unit is an error that lists the known ones."""
    with pytest.raises(InputError, match="is not understood; columns are t_s, mbit_per_s"):
        build_trace("x", [0.0], {column: [1.0]})


def test_written_traces_are_read_back(tmp_path: Path) -> None:
    """Name, source, label, servers and values survive a file; nothing measured is an empty cell."""
    made = synthetic_walk(duration_s=30)
    made.write(tmp_path / "walk.csv")
    back = read_trace(tmp_path / "walk.csv")
    assert (back.name, back.source, back.synthetic) == (made.name, made.source, True)
    assert back.server == made.server
    np.testing.assert_allclose(back.series["mbit_per_s"], made.series["mbit_per_s"], rtol=1e-5)
    rates(1.0, np.nan, 3.0, repair=True).write(tmp_path / "holes.csv")
    assert read_trace(tmp_path / "holes.csv", repair=True).missing.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no column t_s"),
        ("t_s,mbit_per_s\n", "there is no row"),
        ("t_s,mbit_per_s\n0,1\n1\n", "row 2 has 1 cells"),
        ("t_s,mbit_per_s\n0,fast\n", "'fast' is not a number"),
        ("t_s,t_s\n0,1\n", "appears twice"),
        ("t_s\n0\n", "no column besides t_s"),
    ],
)
def test_broken_files_are_explained(tmp_path: Path, content: str, words: str) -> None:
    """A file that holds no trace is an error that names it."""
    path = tmp_path / "bad.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=words) as raised:
        open_trace(path)
    assert "bad.csv" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("cooked.txt", "0 1.5\n1 2.5\n2 3.5\n", [1.5, 2.5, 3.5]),
        ("mahimahi.down", "0\n100\n900\n1500\n2500\n", [0.036, 0.012, 0.012]),
        (
            "hsdpa.log",
            "1289406399 0 59.8 10.7 125000 1000\n1289406400 1000 59.8 10.7 250000 1000\n",
            [1.0, 2.0],
        ),
        ("ucc.csv", "Timestamp,State,DL_bitrate\na,D,1500\nb,D,0\n", [1.5, 0.0]),
    ],
)
def test_published_formats_are_read(
    tmp_path: Path, name: str, content: str, wanted: list[float]
) -> None:
    """Formats of published data sets give megabits per second."""
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert open_trace(tmp_path / name).series["mbit_per_s"].tolist() == pytest.approx(wanted)


def test_tables_hold_many_traces(tmp_path: Path) -> None:
    """One trace of a Parquet table is taken by its name; a wrong name is explained."""
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    path = tmp_path / "t.parquet"
    pd.DataFrame(
        {"trace": ["a", "a", "b"], "t_ms": [0.0, 500.0, 0.0], "kbps": [1000.0, 2000.0, 1.0]}
    ).to_parquet(path)
    trace = open_trace(f"{path}::a")
    assert trace.t_s.tolist() == [0.0, 0.5]
    assert trace.series["mbit_per_s"].tolist() == [1.0, 2.0]
    with pytest.raises(InputError, match="holds 2 traces"):
        open_trace(path)
    with pytest.raises(InputError, match="no trace 'c'"):
        open_trace(f"{path}::c")


def test_builtin_traces_say_what_they_are() -> None:
    """Every built-in trace reads without repair, has a source, and made-up ones say so."""
    names = builtin_traces()
    assert len(names) >= 8
    for name in names:
        trace = open_trace(name)
        assert trace.source
        assert trace.synthetic == name.startswith("synthetic")


def test_unknown_traces_are_explained() -> None:
    """A name that is neither a file nor built in lists the built-in ones."""
    with pytest.raises(InputError, match=r"built-in: .*synthetic_hour"):
        open_trace("nowhere")


def test_synthetic_traces_are_labelled_and_repeatable() -> None:
    """Each generator labels its traces and depends on nothing but its seed."""
    for make in (
        lambda: synthetic_network(60, seed=1),
        lambda: synthetic_walk(duration_s=60, seed=1),
        lambda: synthetic_device("a", "b", 60, seed=1),
        lambda: synthetic_mix(["x", "y"], 60, seed=1),
    ):
        one, two = make(), make()
        assert one.synthetic
        for column in one.series:
            np.testing.assert_array_equal(one.series[column], two.series[column])


def test_real_measurements_are_read(shared_data: Path) -> None:
    """Every download of the 5G measurements and every HSDPA log reads, with repairs noted."""
    five_g = shared_data / "network/5g_ireland/traces_1hz.parquet"
    trace = open_trace(f"{five_g}::B_2020.01.16_12.10.03_Download", repair=True)
    assert len(trace) == 384
    hsdpa = open_trace(
        f"{shared_data / 'network/hsdpa_fcc/bandwidth.parquet'}::norway_bus_20", repair=True
    )
    assert 1.0 < hsdpa.series["mbit_per_s"].mean() < 4.0
