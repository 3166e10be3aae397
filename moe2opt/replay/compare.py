"""Several policies on one trace: run, log, continue, sum up."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from moe2opt.proof import encode_float
from moe2opt.replay.journal import EVERY, Journal, claim, key_of, summarise
from moe2opt.replay.policies import POLICIES, ReplaySettings
from moe2opt.replay.replay import clairvoyant, model_of, start_run, starting_plan, steps
from moe2opt.replay.resolve import Planned
from moe2opt.replay.timeline import timeline
from moe2opt.replay.traces.trace import Trace
from moe2opt.replay.world import World, build_world
from moe2opt.result import InputError
from moe2opt.writing import replacing, write_text

#: Told after every so many steps: policy, steps done, steps in all.
Progress = Callable[[str, int, int], None]


class InterruptedReplay(KeyboardInterrupt):
    """Ctrl-C during a comparison.

    Attributes
    ----------
    comparison
        The policies that had gone through the whole trace, perhaps none.
    """

    def __init__(self, comparison: Comparison) -> None:
        super().__init__("interrupted")
        self.comparison = comparison


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Policies on one trace.

    Attributes
    ----------
    world
        Trace and instance.
    settings
        How the replay ran.
    records
        Records of all steps by policy; ``clairvoyant`` holds the bound.
    """

    world: World
    settings: ReplaySettings
    records: dict[str, list[dict[str, Any]]]

    def summaries(self) -> dict[str, dict[str, Any]]:
        """Return the sums of every policy by name."""
        best = self.records.get("clairvoyant")
        return {
            name: summarise(records, best)
            for name, records in self.records.items()
            if name != "clairvoyant"
        }

    def bound_s(self) -> float | None:
        """Return the mean of the clairvoyant bound in seconds per token, None without it."""
        best = self.records.get("clairvoyant")
        values = [r["latency_s"] for r in best or [] if r["latency_s"] is not None]
        return sum(values) / len(values) if values else None

    def to_frame(self) -> pd.DataFrame:
        """Return one row per policy."""
        return pd.DataFrame.from_dict(self.summaries(), orient="index").rename_axis("policy")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content without the single steps."""
        trace, links = self.world.trace, self.world.model.topology.links
        link = links[self.world.link]
        return {
            "instance": self.world.model.instance.name,
            "trace": {
                "name": trace.name,
                "source": trace.source,
                "synthetic": trace.synthetic,
                "steps": len(trace),
                "missing_steps": int(trace.missing.sum()),
                "repairs": list(trace.repairs),
            },
            "link": f"{link.a}-{link.b}",
            "settings": _written(self.settings),
            "clairvoyant_mean_s": self.bound_s(),
            "policies": self.summaries(),
        }


def compare(
    instance: Any,
    trace: Trace,
    policies: Sequence[str] = tuple(POLICIES),
    *,
    against: str | None = "clairvoyant",
    settings: ReplaySettings | None = None,
    out: str | Path | None = None,
    resume: bool = True,
    progress: Progress | None = None,
) -> Comparison:
    """Replay a trace under several policies.

    Parameters
    ----------
    instance
        A placement instance.
    trace
        The trace; it is put on a grid of `settings.step_s`.
    policies
        Names in `moe2opt.replay.policies.POLICIES`.
    against
        ``clairvoyant`` for a lower bound of every policy's latency, None for none.
    settings
        How to replay; the defaults when left out.
    out
        Folder for logs, ``summary.json`` and ``timeline.svg``.
    resume
        Continue the run in that folder; False removes its files first.
    progress
        Told how far each policy is.

    Raises
    ------
    InputError
        For an unknown policy, an instance or trace that do not go together, or a folder that
        holds a run with other settings or further policies.
    InterruptedReplay
        On Ctrl-C, with what was finished.
    moe2opt.errors.NoPlanError
        When no plan exists at the start.
    """
    settings = settings or ReplaySettings()
    names = [*dict.fromkeys(policies)]
    unknown = [name for name in names if name not in POLICIES]
    if unknown or not names:
        wrong = f"unknown policy {unknown[0]!r}" if unknown else "there is no policy"
        raise InputError(f"{wrong}; choose from {', '.join(POLICIES)}")
    if against not in (None, "clairvoyant"):
        raise InputError(
            f"against '{against}': it must be clairvoyant or none (belady and the like are for "
            "traces of experts)"
        )
    world = build_world(
        model_of(instance, settings), trace.resampled(settings.step_s), settings.link
    )
    planned = starting_plan(world, settings)
    settings = settings.paced(planned)
    folder = (
        None if out is None else _claimed(Path(out), world, settings, [*names, against], resume)
    )
    records: dict[str, list[dict[str, Any]]] = {}
    comparison = Comparison(world, settings, records)
    try:
        for name in names:
            records[name] = _one(world, name, settings, planned, folder, resume, progress)
        if against is not None:
            records["clairvoyant"] = clairvoyant(world, settings)
    except KeyboardInterrupt:
        raise InterruptedReplay(comparison) from None
    if folder is not None:
        _write(folder, comparison)
    return comparison


def _written(settings: ReplaySettings) -> dict[str, Any]:
    """Return settings as JSON holds them: a timeout that never comes is ``inf``."""
    return asdict(settings) | {"timeout_s": encode_float(settings.timeout_s)}


def _claimed(
    folder: Path, world: World, settings: ReplaySettings, names: Sequence[str | None], resume: bool
) -> Path:
    """Return the folder when this run may write there."""
    facts = _written(settings)
    del facts["tokens_per_s"]  # mostly a consequence of the others
    facts = {
        "instance": world.model.instance.name,
        "trace": world.trace.name,
        "steps": len(world),
    } | facts
    return claim(folder, key_of(world, settings), [n for n in names if n], facts, resume)


def _one(
    world: World,
    policy: str,
    settings: ReplaySettings,
    planned: Planned,
    folder: Path | None,
    resume: bool,
    progress: Progress | None,
) -> list[dict[str, Any]]:
    """Run one policy, from its last checkpoint where there is one."""
    run = start_run(world, policy, settings, planned)
    records: list[dict[str, Any]] = []
    journal = None if folder is None else Journal(folder, policy, key_of(world, settings))
    if journal is not None:
        state = None
        if resume:
            records, state = journal.earlier()
        if state is not None:
            run.restore(state)
        journal.begin(records)
    for record in steps(run, settings):
        records.append(record)
        if journal is not None:
            journal.add(record)
            if run.step % EVERY == 0 or run.step == len(world):
                journal.save(run.state())
        if progress is not None and (run.step % EVERY == 0 or run.step == len(world)):
            progress(policy, run.step, len(world))
    return records


def _write(folder: Path, comparison: Comparison) -> None:
    content = comparison.to_dict()
    write_text(folder / "summary.json", json.dumps(content, indent=1))
    best = comparison.records.get("clairvoyant")
    if best is not None:
        text = "".join(json.dumps(record) + "\n" for record in best)
        write_text(folder / "steps_clairvoyant.jsonl", text)
    with replacing(folder / "timeline.svg") as beside:
        timeline(comparison.world, comparison.records).savefig(beside, metadata={"Date": None})
