"""The log of a replay: a JSON line per step, checkpoints to continue from, and sums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from moe2opt.archive import MOST_OTHERS, read_npz
from moe2opt.errors import DAMAGE
from moe2opt.files import json_of, read_json, read_text
from moe2opt.replay.policies import ReplaySettings
from moe2opt.replay.world import World
from moe2opt.result import FloatArray, InputError
from moe2opt.writing import check_ours, replacing, write_text

#: Steps between two checkpoints.
EVERY = 200


class Journal:
    """Log and checkpoints of one policy in a folder.

    Parameters
    ----------
    folder
        Where ``steps_POLICY.jsonl`` and ``checkpoint_POLICY.npz`` go.
    policy
        Name of the policy.
    key
        What the run depends on, from `key_of`; a log of another key is not continued.
    """

    def __init__(self, folder: Path, policy: str, key: str) -> None:
        self.key = key
        self.log = folder / f"steps_{policy}.jsonl"
        self.checkpoint = folder / f"checkpoint_{policy}.npz"
        self._lines: list[str] = []
        self._written = hashlib.sha256()

    def earlier(self) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        """Return the records up to the last checkpoint and its state; nothing and None without."""
        try:
            state: dict[str, Any] = read_npz(self.checkpoint)
            lines = read_text(self.log, MOST_OTHERS).splitlines(keepends=True)
            lines = lines[: int(state["step"])]
            key, seal = str(state.pop("key")), str(state.pop("seal"))
            written = hashlib.sha256("".join(lines).encode())
            if (key, seal) != (self.key, _seal(written, state)):
                return [], None
            return [json_of(line, str(self.log)) for line in lines], state
        except DAMAGE:
            return [], None

    def begin(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Start the log with records of an earlier run."""
        text = "".join(json.dumps(record) + "\n" for record in records)
        write_text(self.log, text)
        self._written = hashlib.sha256(text.encode())
        if not records:
            self.checkpoint.unlink(missing_ok=True)

    def add(self, record: Mapping[str, Any]) -> None:
        """Add a record; it reaches the file with the next checkpoint."""
        self._lines.append(json.dumps(record) + "\n")

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the waiting records, then the state after the last of them."""
        with self.log.open("a", encoding="utf-8") as stream:
            stream.writelines(self._lines)
        self._written.update("".join(self._lines).encode())
        self._lines.clear()
        whole = {"key": self.key, "seal": _seal(self._written, state), **state}
        with replacing(self.checkpoint) as beside:
            np.savez(beside, **whole)


def _seal(written: Any, state: Mapping[str, Any]) -> str:
    """Return a digest of a log and a state: what was damaged since is not continued."""
    digest = written.copy()
    for name in sorted(state):
        array = np.ascontiguousarray(state[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode() + array.tobytes())
    return str(digest.hexdigest())


def key_of(world: World, settings: ReplaySettings) -> str:
    """Return a fingerprint of instance, trace and settings."""
    digest = hashlib.sha256(world.model.problem.fingerprint.encode())
    for part in (world.rates, world.memory_share, world.load, world.mix, world.trace.missing):
        digest.update(np.ascontiguousarray(part).tobytes())
    digest.update(json.dumps([asdict(settings), list(world.trace.server)]).encode())
    return digest.hexdigest()


def claim(
    folder: Path, key: str, names: Collection[str], facts: Mapping[str, Any], resume: bool
) -> Path:
    """Make a folder the home of one run: continue that run, or refuse to mix it with another.

    Parameters
    ----------
    folder
        Where the run goes; created where it does not exist.
    key
        Fingerprint of the run, from `key_of`.
    names
        Whose steps the run writes; the folder may hold fewer, not others.
    facts
        What a message can compare: trace, steps and settings.
    resume
        Whether a run in the folder may be continued; else its files are removed.

    Raises
    ------
    InputError
        When the folder holds another run, or steps of further policies.
    """
    note = prepared(folder) / "run.json"
    logs = sorted(folder.glob("steps_*.jsonl"))
    if not note.is_file():
        check_ours(folder, ["summary.json", "timeline.svg"])
    if not resume:
        for path in (*logs, *folder.glob("checkpoint_*.npz"), note):
            path.unlink(missing_ok=True)
        for name in ("summary.json", "timeline.svg"):
            (folder / name).unlink(missing_ok=True)
    elif logs or note.is_file():
        why = _difference(note, key, facts)
        more = [path.stem.removeprefix("steps_") for path in logs]
        more = [name for name in more if name not in names]
        why = why or (f"it also has {', '.join(more)}" if more else "")
        if why:
            raise InputError(
                f"--out {folder} holds a run with other settings ({why}); choose another folder, "
                "or --fresh to replace it"
            )
    write_text(note, json.dumps({"key": key, **facts}, indent=1))
    return folder


def _difference(note: Path, key: str, facts: Mapping[str, Any]) -> str:
    """Return how the run that a note describes differs, empty where it does not."""
    try:
        earlier = read_json(note)
        if earlier["key"] == key:
            return ""
        found = [f"{k} {earlier.get(k)}, now {v}" for k, v in facts.items() if earlier.get(k) != v]
    except DAMAGE:
        return "they are not known"
    return "; ".join(found[:3]) or "the instance, values of the trace or tokens_per_s"


def latencies(records: Sequence[Mapping[str, Any]]) -> FloatArray:
    """Return the ``(n,)`` seconds per token of the steps, NaN where no plan exists."""
    values = [record["latency_s"] for record in records]
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def summarise(
    records: Sequence[Mapping[str, Any]], best: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Return what the steps of a policy sum to.

    Parameters
    ----------
    records
        Of the policy.
    best
        Of the clairvoyant bound, for the regret.
    """
    latency = latencies(records)
    served = latency[np.isfinite(latency)]
    some = served if len(served) else np.full(1, np.nan)
    p50, p95, p99 = np.percentile(some, [50, 95, 99])
    gaps = _numbers(records, "gap")
    solves = _numbers(records, "solve_s")
    found: dict[str, Any] = {
        "steps": len(records),
        "steps_without_plan": int(len(latency) - len(served)),
        "latency_mean_s": float(some.mean()),
        "latency_p50_s": float(p50),
        "latency_p95_s": float(p95),
        "latency_p99_s": float(p99),
        "misses_per_token": _mean(records, "misses_per_token"),
        "timeouts_per_token": _mean(records, "timeouts_per_token"),
        "bytes_moved": float(sum(record["bytes"] for record in records)),
        "network_bytes_moved": float(sum(record["network_bytes"] for record in records)),
        "joules_per_token": _mean(records, "joules_per_token"),
        "budget_violations": sum(bool(record["violations"]) for record in records),
        "replans": sum(bool(record["replanned"]) for record in records),
        "plan_switches": sum(bool(record["switched"]) for record in records),
        "solve_median_s": float(np.median(solves)) if len(solves) else None,
        "gap_max": float(gaps.max()) if len(gaps) else None,
        "regret": None,
    }
    if best is not None:
        bound = latencies(best)
        both = np.isfinite(bound) & np.isfinite(latency)
        if both.any() and bound[both].mean() > 0:
            found["regret"] = float(latency[both].mean() / bound[both].mean() - 1)
    return _plain(found)


def _numbers(records: Sequence[Mapping[str, Any]], name: str) -> FloatArray:
    return np.array([record[name] for record in records if record[name] is not None])


def _mean(records: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = _numbers(records, name)
    return float(values.mean()) if len(values) else None


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    """Replace NaN by None, which JSON can hold."""
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in found.items()}


def prepared(folder: Path) -> Path:
    """Create a folder for logs."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {folder}: {error.strerror}") from error
    return folder
