"""The page in words: the question, its limits, the answer, and where everything comes from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from moe2opt.canonical import Problem
from moe2opt.config import LoadedInstance
from moe2opt.progress import status_words
from moe2opt.report.reading import Evidence
from moe2opt.result import Status, encode_float
from moe2opt.view import Table, View, number, table

#: What is asked where no question is: a bare problem, and a replay.
_BARE = "Which solution is worth most within the budgets?"
_REPLAY = (
    "Which plan serves a token fastest while network, memory and load change, and when is it "
    "worth changing it?"
)


def question(evidence: Evidence, view: View, target: LoadedInstance | Problem | None) -> list[str]:
    """Return the problem in words: the question, the author's description, its size."""
    known, replayed = evidence.question, evidence.replay is not None and evidence.result is None
    asks = view.asks or (known.asks if known is not None else _REPLAY if replayed else _BARE)
    described = " ".join(str(evidence.described.get("description", "")).split())
    size = target.describe() if target is not None and hasattr(target, "describe") else ""
    return [text for text in (asks, described, f"Size: {size}." if size else "") if text]


def answer(evidence: Evidence) -> str:
    """Return the result in one sentence."""
    result = evidence.result
    if result is None:
        return ""
    words = status_words(result).capitalize()
    if result.x is None:
        return f"{words}."
    measure = result.measure
    bound = f"; {measure.limit_words(result.bound)}" if abs(result.bound) < 1e300 else ""
    return f"{words}: {measure.quantity} {measure.text(result.objective)}{bound}."


def conflict_table(evidence: Evidence, target: LoadedInstance | Problem | None) -> Table | None:
    """Return which budgets would have to grow to make a plan possible, None for other results."""
    result = evidence.result
    if result is None or result.status is not Status.INFEASIBLE or result.certificate is None:
        return None
    conflict = result.certificate.conflict
    if conflict is None:
        return None
    known: Any = target
    names = known.row_names() if known is not None and hasattr(known, "row_names") else []
    least = {r.row: r.limit for r in conflict.relaxations}
    rows = [
        (names[k] if k < len(names) else f"budget {k}", number(least[k]) if k in least else "-")
        for k in conflict.rows
        if k not in getattr(target, "fixed_rows", ())
    ]
    header = ("budget in the clash", "alone enough from")
    return table("These budgets cannot hold together", header, rows)


def log_table(evidence: Evidence) -> Table:
    """Return the progress as a table: the text alternative of the convergence chart."""
    rows = [
        (
            f"{event.time_s:.2f}", event.source.strip() or "clock", f"{event.nodes:,}",
            evidence.measure.text(event.objective), evidence.measure.text(event.bound),
        )
        for event in evidence.log
    ]  # fmt: skip
    header = ("seconds", "source", "nodes", "best plan", "proven bound")
    return table("Progress of the run", header, rows)


def provenance_table(evidence: Evidence) -> Table:
    """Return provenance as rows of name and value, and the digests of the files of the folder."""
    rows: list[tuple[str, str]] = []
    for key, value in evidence.provenance.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        rows += [(f"{key} {part}".strip(), _plain(entry)) for part, entry in parts]
    for path in sorted(evidence.folder.iterdir()):
        if path.suffix in (".json", ".jsonl", ".yaml", ".npz") and path.is_file():
            rows.append((f"{path.name} (sha256)", _digest(path)))
    return table("Provenance", ("what", "value"), rows)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return str(encode_float(value))
    return json.dumps(value, default=str)
