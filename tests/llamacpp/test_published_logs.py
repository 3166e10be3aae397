"""Plans beside logs of llama.cpp that people published, none of which anything was fitted to."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def study(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the study that lays plans beside logs."""
    monkeypatch.syspath_prepend(str(checkout / "docs" / "studies"))
    import llama_logs

    return llama_logs


def test_the_page_is_what_the_study_writes(study: Any) -> None:
    """Every row of the page follows from the transcribed logs."""
    assert study.PAGE.read_text(encoding="utf-8") == study.page()


def test_weights_of_published_files_are_right_to_the_mib(study: Any) -> None:
    """Files whose type is a mixture of llama-quantize have the weights of the log, to 0.02 MiB."""
    misses = [study.missed(row, "weights")[0] for row in study.logs() if "weights" in row.log_mib]
    assert len(misses) >= 6
    assert max(map(abs, misses)) < 0.02


def test_contexts_of_published_logs_are_exact(study: Any) -> None:
    """Contexts are within 0.1 % or what the log rounds off; three rows say why they are not."""
    off = {
        row.about["log"]
        for row in study.logs()
        if "context" in row.log_mib
        and abs(study.missed(row, "context")[1]) > 0.1
        and not ("whole MiB" in row.about["note"] and abs(study.missed(row, "context")[0]) < 1)
    }
    # Two devices of a run whose split is not stated, and a pair of two runs.
    assert off == {"G014", "G015", "G048"}


def test_compute_buffers_of_published_logs(study: Any) -> None:
    """Half are within 3 %, and all that are 15 % off say why; plan and margin are never short."""
    rows = [row for row in study.logs() if row.mainline]
    told = [row for row in rows if "compute" in row.log_mib]
    errors = {row.about["log"]: abs(study.missed(row, "compute")[1]) for row in told}
    assert statistics.median(errors.values()) < 3
    assert {log for log, error in errors.items() if error > 15} == {"G007", "G009", "G013"}
    assert max(row.lacking_mib for row in rows) < 0
