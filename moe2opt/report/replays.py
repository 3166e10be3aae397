"""What ``moe2opt replay --out`` leaves in a folder: a summary, and the steps of each policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moe2opt.errors import DAMAGE
from moe2opt.files import json_of, read_json, read_text
from moe2opt.result import InputError
from moe2opt.view import Table, number, percent, table

#: Points of a curve on the page; longer logs are thinned out to the largest of each stretch.
_MOST_POINTS = 400

#: Columns of the table: key in the summary, and heading.
_COLUMNS = {
    "latency_mean_s": "mean (s per token)",
    "latency_p95_s": "95 % within (s)",
    "regret": "above the bound",
    "replans": "plans",
    "bytes_moved": "copied (GiB)",
    "budget_violations": "violations",
}


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay of policies on a trace.

    Attributes
    ----------
    name
        Name of the instance.
    trace
        Name, source, number of steps, and whether it is synthetic.
    policies
        Sums by policy.
    curves
        Seconds and latencies by policy, a latency None where there was no plan.
    """

    name: str
    trace: Mapping[str, Any]
    policies: Mapping[str, Mapping[str, float | None]]
    curves: Mapping[str, tuple[list[float], list[float | None]]]


def read_replay(folder: Path) -> Replay | None:
    """Read a replay; None when the folder holds none.

    Raises
    ------
    InputError
        When a file of it is broken; the message names it.
    """
    path = folder / "summary.json"
    if not path.is_file():
        return None
    try:
        summary = read_json(path)
        if not isinstance(summary, dict) or not {"policies", "trace"} <= summary.keys():
            return None
        policies = {str(name): _figures(sums) for name, sums in summary["policies"].items()}
        trace, name = dict(summary["trace"]), str(summary["instance"])
        trace["steps"] = int(trace.get("steps", 0))
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(f"{path}: not a replay: {type(error).__name__}: {error}") from error
    curves = {}
    for policy in (*policies, "clairvoyant"):
        steps = folder / f"steps_{policy}.jsonl"
        if steps.parent == folder and steps.is_file():
            curves[policy] = _curve(steps)
    return Replay(name, trace, policies, curves)


def _figures(sums: Mapping[str, Any]) -> dict[str, float | None]:
    """Return those sums of a policy that the table shows."""
    found = {key: sums.get(key) for key in _COLUMNS}
    return {key: None if value is None else float(value) for key, value in found.items()}


def _curve(path: Path) -> tuple[list[float], list[float | None]]:
    times: list[float] = []
    values: list[float | None] = []
    for number_, line in enumerate(read_text(path).splitlines(), start=1):
        try:
            record = json_of(line, f"{path}:{number_}")
            if "latency_s" not in record:
                continue
            latency = record["latency_s"]
            times.append(float(record["t_s"]))
            values.append(None if latency is None else float(latency))
        except DAMAGE as error:
            raise InputError(f"{path}:{number_}: not a step of a replay: {error!r}") from error
    return _thinned(times, values)


def _thinned(
    times: list[float], values: list[float | None]
) -> tuple[list[float], list[float | None]]:
    """Keep the largest latency of each stretch, so that no peak is lost."""
    step = -(-len(times) // _MOST_POINTS) or 1
    parts = [values[k : k + step] for k in range(0, len(values), step)]
    return times[::step], [None if None in part else max(map(float, part)) for part in parts]  # type: ignore[arg-type]


def replay_table(replay: Replay) -> Table:
    """Return what each policy comes to."""
    rows = [(policy, *(_cell(key, sums.get(key)) for key in _COLUMNS))
            for policy, sums in replay.policies.items()]  # fmt: skip
    return table("Policies", ("policy", *_COLUMNS.values()), rows)


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    if key == "bytes_moved":
        return number(value / 2**30)
    return percent(value) if key == "regret" else number(value)


def replay_words(replay: Replay) -> str:
    """Return the trace in a sentence."""
    origin = "a synthetic trace" if replay.trace.get("synthetic") else "a measured trace"
    source = f" ({replay.trace['source']})" if replay.trace.get("source") else ""
    steps = replay.trace["steps"]
    return f"{replay.trace.get('name', 'trace')}: {origin}{source}, {steps:,} steps."
