"""Choose how wide intervals are without the source that they are judged by.

Usage, from the checkout::

    python docs/studies/profile_nested.py

leaves one source after the other out of everything: of the fit, of the errors that intervals are
made of, and of the choice between 30 rules for their widths. On the other sources, each of which is
left out in its turn, the narrowest rule is chosen that holds 90 % of decoding and of prompts; it
then meets the source. The script takes about five minutes and writes
``profile_nested.json`` beside itself, from which `profile_pages.py` makes a table.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from moe2opt.profiles import read_profiles
from moe2opt.profiles.fitting.calibrate import Samples, samples_of
from moe2opt.profiles.fitting.fit import scopes_of
from moe2opt.profiles.fitting.holdout import Cell, Errors, Rule, hold_out
from moe2opt.profiles.fitting.judging import held_out
from moe2opt.profiles.fitting.leaveout import source_key

FOLDER = Path(__file__).resolve().parents[2] / "problems" / "profiles"
TARGET = Path(__file__).with_suffix(".json")

#: What is judged: joules and watts have too few sources to choose by.
QUANTITIES = ("decode", "prefill")

LEVEL = 0.9

#: Rules between which is chosen: the weight of other devices, which level a quantile is taken at,
#: and whether what runs do not span reaches as far as devices that were left out.
RULES = [
    Rule(prior, strictness, far)
    for prior, strictness, far in product(
        (1.5, 3.0, 6.0, 12.0, 24.0), (0.5, 1.0, 1.5), (True, False)
    )
]


def shares(errors: Errors) -> dict[str, tuple[float, float, float]]:
    """Return the share of groups and of sources inside, and the middle factor, by quantity."""
    held = held_out(errors, "source", LEVEL)
    found = {}
    for quantity in QUANTITIES:
        own = [h for h in held if h.quantity == quantity]
        sizes = [h.groups for h in own]
        inside = float(np.average([h.inside for h in own], weights=sizes))
        alike = float(np.mean([h.inside for h in own]))
        found[quantity] = (
            inside,
            alike,
            float(np.median(np.repeat([h.factor for h in own], sizes))),
        )
    return found


def chosen(errors: Errors) -> Rule:
    """Return the narrowest rule that holds what it should; else the one that holds most."""

    def order(rule: Rule) -> tuple[float, float]:
        found = shares(replace(errors, rule=rule)).values()
        held = min(min(groups, sources) for groups, sources, _ in found)
        width = sum(math.log(factor) for *_, factor in found)
        return (0.0, width) if held >= LEVEL else (LEVEL - held, width)

    return min(RULES, key=order)


def judged(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Return the cells that are about compiled engines and what is judged."""
    return tuple(c for c in cells if c.kind == "compiled" and c.quantity in QUANTITIES)


def without(samples: Samples, source: str) -> Samples:
    """Return the runs of the other sources, of decoding and prompts alone."""
    return {
        name: sample.take(
            [key != source and name in QUANTITIES for key in source_key(sample.points)]
        )
        for name, sample in samples.items()
    }


def nested(sources: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Yield what each source, or each of those named, says of the rule chosen without it."""
    profiles = read_profiles(FOLDER)
    samples = samples_of(profiles.runs, profiles.hardware, profiles.formats)
    scopes = scopes_of(profiles.runs)
    every = judged(profiles.fit.errors.cells)
    for source in sources or sorted({c.source for c in every}):
        rest = hold_out(without(samples, source), profiles.hardware, scopes)
        rest = replace(rest, cells=judged(rest.cells))
        rule = chosen(rest)
        for quantity in QUANTITIES:
            pairs = list(_met(every, source, quantity, replace(rest, rule=rule)))
            if pairs:
                misses, widths = np.array(pairs).T
                yield {
                    "source": source,
                    "quantity": quantity,
                    "rule": asdict(rule),
                    "groups": len(pairs),
                    "median_error": round(float(np.expm1(np.median(misses))), 4),
                    "inside": round(float(np.mean(misses <= widths)), 4),
                    "factor": round(float(np.exp(np.median(widths))), 4),
                }


def _met(
    cells: Sequence[Cell], source: str, quantity: str, errors: Errors
) -> Iterator[tuple[float, float]]:
    """Yield the error and the log of the interval's factor of each group of a source."""
    own = [c for c in cells if (c.source, c.quantity) == (source, quantity)]
    known = {c.device for c in own if c.by == "source"}
    for cell in own:
        if cell.by == "source" or (cell.by == "device" and cell.device not in known):
            for error, far in zip(cell.errors, cell.beyond, strict=True):
                width = errors.spread(
                    cell.device, quantity, "compiled", extrapolated=far, level=LEVEL
                )
                yield error, width


def table() -> list[str]:
    """Return the lines of the page, from the file that the script wrote."""
    rows = json.loads(TARGET.read_text(encoding="utf-8"))
    lines = [
        "| | sources | groups | median error | inside | a source | factor |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for quantity in QUANTITIES:
        own = [row for row in rows if row["quantity"] == quantity]
        sizes = [row["groups"] for row in own]
        middle = np.median(np.repeat([row["median_error"] for row in own], sizes))
        inside = np.average([row["inside"] for row in own], weights=sizes)
        factor = np.median(np.repeat([row["factor"] for row in own], sizes))
        lines.append(
            f"| {quantity} | {len(own)} | {sum(sizes)} | {100 * middle:.0f} % | "
            f"{100 * inside:.0f} % | {100 * np.mean([r['inside'] for r in own]):.0f} % | "
            f"{factor:.2f} |"
        )
    return lines


def rules() -> str:
    """Return how often which rule was chosen, in words."""
    rows = json.loads(TARGET.read_text(encoding="utf-8"))
    chosen_by = {row["source"]: tuple(row["rule"].values()) for row in rows}
    counts = Counter(chosen_by.values()).most_common()
    return "; ".join(
        f"{prior:g} groups and the quantile at {100 * (1 - 0.1 * strict):.0f} %"
        + ("" if far else " without the errors of devices beyond the runs")
        + f" (without {many} of the sources)"
        for (prior, strict, far), many in counts
    )


def main() -> None:
    """Write the file."""
    rows = list(nested())
    TARGET.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table()))
    print(rules())


if __name__ == "__main__":
    main()
