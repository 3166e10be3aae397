"""The progress table, the JSON log and the words of the report."""

from __future__ import annotations

import json
import logging
import math
import os
from pathlib import Path

import numpy as np
import pytest
from cli.support import EXTRA
from hypothesis import given
from hypothesis import strategies as st

import moe2opt as mo
from moe2opt import progress
from moe2opt.result import Limit, ProgressEvent, Result, Status
from moe2opt.solve import run
from moe2opt.solvers import SOLVERS

PROBLEM = mo.FacilityProblem(values=[[3, 0, 2], [0, 4, 3]], costs=[[1, 1, 1]], budgets=[1])


@pytest.fixture(autouse=True)
def exhaustive_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the solver that looks at every point."""
    monkeypatch.setitem(SOLVERS, "exhaustive", EXTRA["exhaustive"])


def test_header_comes_again(caplog: pytest.LogCaptureFixture) -> None:
    """The header of the table is repeated every 20 lines."""
    table = progress.Table()
    with caplog.at_level(logging.INFO, logger="moe2opt"):
        for k in range(41):
            table(ProgressEvent(0.0, k, 0, 2.0, 1.0, "H"))
    assert caplog.messages.count(progress.HEADER) == 3


def test_ticks_thin_out(caplog: pytest.LogCaptureFixture) -> None:
    """Clock ticks come at most every 5 % of the elapsed time; incumbents always show."""
    table = progress.Table()
    with caplog.at_level(logging.INFO, logger="moe2opt"):
        for second in range(1000):
            table(ProgressEvent(float(second), 0, 0, 2.0, 1.0, " "))
        table(ProgressEvent(999.0, 0, 0, 2.0, 1.5, "H"))
    assert 60 < len([m for m in caplog.messages if m != progress.HEADER]) < 130
    assert caplog.messages[-1].startswith("  H  |")


def test_last_event_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    """The table ends with the final bound, even when its tick came too soon."""
    with caplog.at_level(logging.INFO, logger="moe2opt"):
        result = mo.solve(PROBLEM, "exhaustive", display=True)
    rows = [m for m in caplog.messages if m.endswith("s") and m.count("|") == 3]
    assert rows[-1] == progress.row(result.log[-1])


@given(
    st.builds(
        ProgressEvent,
        st.floats(0, 99999),
        st.integers(0, 10**11),
        st.integers(0, 10**11),
        st.floats(allow_nan=False),
        st.floats(allow_nan=False),
        st.sampled_from(" HBRLMUPE"),
    )
)
def test_rows_keep_their_columns(event: ProgressEvent) -> None:
    """Whatever the numbers, the separators of a row stand below those of the header."""
    bars = [k for k, letter in enumerate(progress.HEADER) if letter == "|"]
    line = progress.row(event)
    assert [k for k, letter in enumerate(line) if letter == "|"] == bars


def test_json_lines(tmp_path: Path) -> None:
    """The JSON log has one object per event, infinities as text."""
    with progress.json_lines(tmp_path / "log.jsonl") as listener:
        result = run(PROBLEM, "exhaustive", on_progress=listener)
    lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    assert len(events) == len(result.log)
    assert events[0] | {"time_s": 0} == {
        "time_s": 0, "nodes": 1, "open_nodes": 0, "bound": "inf", "objective": 0.0, "source": "E",
        "sense": "maximize",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("result", "status", "proof"),
    [
        (Result(Status.OPTIMAL, None, np.zeros(1, int), 1.0, 1.0), "optimal",
         "none, the bound is a claim of "),
        (Result(Status.OPTIMAL, None, np.zeros(1, int), 1.0, 1.0 + 5e-13, rel_gap=1e-9),
         "optimal", "none, the bound is a claim of "),
        (Result(Status.OPTIMAL, None, np.zeros(1, int), 1.0, 1.0 + 5e-10, rel_gap=1e-9),
         "optimal within 1e-9", "none, the bound is a claim of "),
        (Result(Status.OPTIMAL, None, np.zeros(1, int), 1.0, 1.1, rel_gap=0.2),
         "optimal within the gap", "none, the bound is a claim of "),
        (Result(Status.NO_SOLUTION, Limit.INTERRUPTED, None, -math.inf, math.inf),
         "no plan found (interrupted)", "none, and no bound"),
        (Result(Status.FEASIBLE, Limit.TIME, np.zeros(1, int), 1.0, 2.0,
                mo.Certificate("facility", 2.0, (("corner", 0, 0),))),
         "feasible (time limit)", "split tree, 1 leaf, not checked yet (moe2opt.certify does)"),
    ],
)  # fmt: skip
def test_words_of_the_report(result: Result, status: str, proof: str) -> None:
    """Status and proof are told in words."""
    assert (progress.status_words(result), progress.proof_words(result)) == (status, proof)


@pytest.mark.parametrize(
    ("gap", "words"),
    [(0.0, "0.00%"), (5e-13, "0.00%"), (4e-10, "4e-08%"), (2e-5, "2e-03%"), (0.0123, "1.23%")],
)
def test_no_gap_that_is_open_is_shown_as_none(gap: float, words: str) -> None:
    """What two digits of a percent would round away is shown by its order."""
    assert progress.percent(progress.ProgressEvent(0.0, 1, 0, 1.0 + gap, 1.0)) == words


def test_rejected_proofs_are_told_loudly() -> None:
    """A rejected certificate is named before everything else."""
    result = Result(Status.NO_SOLUTION, Limit.TIME, None, -math.inf, math.inf)
    report = progress.report(result, checked=False, failures=("leaf 3 is wrong",))
    assert "Certificate   REJECTED: leaf 3 is wrong" in report


def test_a_line_in_the_middle_of_another_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a signal's handler says while stderr is being written reaches the descriptor."""
    out, into = os.pipe()

    class Busy:
        """A stream in the middle of a write."""

        def write(self, text: str) -> int:
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

        def flush(self) -> None:
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

        def fileno(self) -> int:
            return into

    monkeypatch.setattr("sys.stderr", Busy())
    with progress.on_stderr(always=True):
        progress.logger.warning("Interrupted: finishing")
    os.close(into)
    with os.fdopen(out) as stream:
        assert stream.read() == "Interrupted: finishing\n"
