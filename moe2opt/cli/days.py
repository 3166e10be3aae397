"""Replays of a selection from day to day, as ``moe2opt replay`` shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe2opt.cli.exits import Exit, say
from moe2opt.cli.output import print_table, put, put_json
from moe2opt.errors import InputError
from moe2opt.text import many

if TYPE_CHECKING:
    from moe2opt.replay.days import DaysComparison


def is_selection(target: Any, of_days: Mapping[str, Any], of_traces: Mapping[str, Any]) -> bool:
    """Tell whether a target is replayed from day to day.

    Raises
    ------
    InputError
        When a flag is given that is for the other kind of replay.
    """
    from moe2opt.selection.question import SelectionInstance

    selection = isinstance(target, SelectionInstance)
    for name, value in (of_traces if selection else of_days).items():
        if value not in (None, False):
            kind = "traces of a placement" if selection else "days of a selection"
            raise InputError(f"--{name.removesuffix('_s').replace('_', '-')}: is for {kind}")
    return selection


def replay_days(
    target: Any,
    stream: str,
    policies: tuple[str, ...],
    against: str | None,
    settings: Mapping[str, Any],
    *,
    allow_outside: bool,
    out: Path | None,
    progress: Callable[[str, int, int], None] | None,
    as_json: bool,
) -> Exit:
    """Send a selection through a stream of days and print the table."""
    from moe2opt.library import roots
    from moe2opt.replay.days import DaysSettings, compare_days, read_days
    from moe2opt.replay.days.compare import with_outcomes

    target = with_outcomes(target)
    builtin = {path.stem: path for root in roots() for path in (root / "days").glob("*.csv")}
    path = Path(stream)
    if not path.exists():
        if stream not in builtin:
            known = ", ".join(sorted(builtin))
            raise InputError(f"{stream}: no such file, and no built-in days; built-in: {known}")
        path = builtin[stream]
    llms = [llm.name for llm in target.tables.llms]
    found = compare_days(
        target,
        read_days(path, llms),
        policies or None,
        against=against,
        settings=DaysSettings(**{k: v for k, v in settings.items() if v is not None}),
        allow_outside=allow_outside,
        out=out,
        progress=progress,
    )
    if as_json:
        put_json(found.to_dict(), None)
    else:
        _show(found)
    if found.interrupted:
        done = ", ".join(found.records) or "no policy"
        say(f"interrupted; finished: {done}; run again with fewer policies or days")
        return Exit.INTERRUPTED
    if out is not None and progress is not None:
        say(f"Written to {out}: days.csv, summary.json")
    return Exit.OK


def _show(found: DaysComparison) -> None:
    """Print one line per policy."""
    from moe2opt.replay.days.compare import MONEY

    world = found.world
    put(
        f"{world.instance.name}: {many(len(world.days), 'day')}, "
        f"{many(len(world.parts[1]), 'prompt')} a day, {many(len(world.outcomes.llms), 'LLM')}"
    )
    currency = None if world.currency is None else world.currency.upper()
    money = () if currency is None else (f"{currency}/prompt", f"{currency}/hour")
    header = (
        "policy", "accuracy", "to clairvoyant", "J/prompt", *money, "loaded GiB", "changed",
        "proven",
    )  # fmt: skip
    rows = [
        [
            name,
            f"{100 * row['accuracy']:.1f} %",
            "-" if row["regret"] is None else f"{-100 * row['regret']:+.1f}",
            f"{row['energy_j_per_prompt']:.0f}",
            *(f"{row[key]:.3g}" for key in MONEY if currency is not None),
            f"{row['loaded_gib']:.1f}",
            f"{row['days_changed']} of {row['days'] - 1}",
            f"{row['days_proven']} of {row['days']}",
        ]
        for name, row in found.summaries().items()
    ]
    print_table(list(header), rows)
    if found.bounds is not None:
        put(
            f"Clairvoyant bound {100 * sum(found.bounds) / len(found.bounds):.1f} % on average: it "
            "knows each day's outcomes beforehand; no policy that routes by category can exceed it."
        )
