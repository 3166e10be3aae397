"""Result files changed at any leaf: what people read is accepted only where it is true.

A mutated file is judged as ``verify`` judges it. It may be accepted only when every name and
figure in it equals the one of the file that the solver wrote, apart from what nothing can rebuild
(counters, times, settings, the machine) and which is therefore nobody's proof.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from campaign.checking import Tally, guarded
from mutations_of_results import FREE, LACKING, at, is_free, name_of

import moe2opt as mo
from moe2opt.verify import judged

#: Relative difference within which figures of a plan count as equal: those of another machine.
CLOSE = 2e-9

TINY = "tiny"
RUNS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "selection": (TINY, (), {}),
    "selection, stopped": (TINY, (), {"node_limit": 0}),
    "selection, claimed": (TINY, (), {"solver": "milp"}),
    "selection, within a gap": (TINY, (), {"rel_gap": 0.3}),
    "selection, infeasible": (TINY, ("energy.limit_j_per_prompt=1",), {}),
    "selection, overridden": (TINY, ("energy.limit_j_per_prompt=1e9",), {}),
    "placement": ("tinymoe", (), {}),
    "placement, greedy": ("tinymoe", (), {"solver": "greedy"}),
}

#: What names the question is read before the plan is judged by it.
LEFT_ALONE = (*(*FREE, *LACKING, "provenance.scenario", "provenance.overrides", "provenance.axes"),)

Place = tuple[Any, ...]


@dataclass(frozen=True)
class Original:
    """What was solved, and the content of its file."""

    target: Any
    content: Any
    places: tuple[Place, ...]


@cache
def original(name: str) -> Original:
    """Solve one of the runs."""
    config, overrides, options = RUNS[name]
    target = mo.load(config, overrides=overrides)
    content = json.loads(json.dumps(mo.solve(target, **options).to_dict()))
    assert judged(content, Path(), target).ok
    return Original(target, content, tuple(_places(content)))


def _places(content: Any, path: Place = ()) -> Iterator[Place]:
    """Yield the places of all entries that are not free, containers included."""
    if is_free(path, LEFT_ALONE):
        return
    if path:
        yield path
    entries = content.items() if isinstance(content, dict) else ()
    if isinstance(content, list):
        entries = enumerate(content)
    for key, entry in entries:
        yield from _places(entry, (*path, key))


def files(seed: int, number: int) -> Tally:
    """Judge so many mutations of one of the files."""
    tally = Tally()
    rng = Random(f"files {seed}")
    name = list(RUNS)[seed % len(RUNS)]
    one = original(name)
    for k in range(number):
        content = copy.deepcopy(one.content)
        told = [_mutate(content, one.places, rng) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
        label = f"file {name!r} number {k}: {'; '.join(told)}"
        tally.counts["mutations"] += 1
        tally.counts[f"mutated files: {name}"] += 1
        with guarded(tally, seed, label):
            found = judged(content, Path(), one.target)
            if found.ok:
                tally.counts["mutated files that stay true"] += 1
                different = next(_different(content, one.content), None)
                if different is not None:
                    tally.fault(seed, label, f"accepted, but {different}")
            elif any("\n" in failure for failure in found.failures):
                tally.fault(seed, label, f"a failure of several lines: {found.failures}")
    return tally


def _mutate(content: Any, places: tuple[Place, ...], rng: Random) -> str:
    """Change one entry; return what was done, in words."""
    # All parts of the file alike, however large the certificate is.
    part = rng.choice(sorted({place[0] for place in places}))
    place = rng.choice([p for p in places if p[0] == part])
    try:
        holder, key = at(content, place[:-1]), place[-1]
        name, change = rng.choice(_changes(holder[key], rng))
        change(holder, key)
    except (KeyError, IndexError, TypeError):
        return "nothing: an earlier change removed it"
    return f"{name_of(place)} {name}"


Change = Callable[[Any, Any], None]


def _changes(value: Any, rng: Random) -> list[tuple[str, Change]]:
    """Return the ways to change a value."""
    ways: list[tuple[str, Change]] = [
        (f"becomes {new!r}", _becomes(new)) for new in _values(value, rng) if _differs(new, value)
    ]
    ways.append(("is dropped", lambda holder, key: holder.pop(key)))
    ways.append(("is doubled", _double))
    return ways


def _becomes(new: Any) -> Change:
    def change(holder: Any, key: Any) -> None:
        holder[key] = new

    return change


def _differs(new: Any, old: Any) -> bool:
    return type(new) is not type(old) or new != old


def _double(holder: Any, key: Any) -> None:
    """Put a copy of an entry beside it."""
    if isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    else:
        holder[f"{key}_"] = copy.deepcopy(holder[key])


def _values(value: Any, rng: Random) -> list[Any]:
    """Return other values: of the same type, nearly the same, and of other types."""
    others: list[Any] = [None, True, 0, -1, 1.5, "", "x", [], {}, math.nan, math.inf, 2**70]
    if isinstance(value, bool):
        return [not value, int(value), str(value)]
    if isinstance(value, int | float):
        near = [value + 1, value - 1, -value, 2 * value, value * (1 + 1e-6), value / 2, str(value)]
        return [*near, near[rng.randrange(3)], rng.choice(others)]
    if isinstance(value, str):
        words = ("OPTIMAL", "FEASIBLE", "INFEASIBLE", "TIME", "NODES", "minimize", "brb", "inf")
        near = [f"{value}x", value[:-1], value.upper(), f"{value}\x1b[2J", f"\u202e{value}\n"]
        return [*near, rng.choice(words), rng.choice(others)]
    if isinstance(value, list):
        shuffled = [*value]
        rng.shuffle(shuffled)
        return [value[:-1], value[1:], value[::-1], shuffled, [value], rng.choice(others)]
    return [rng.choice(others), {"x": 1}, [value]]


def _different(stored: Any, right: Any, path: Place = ()) -> Iterator[str]:
    """Yield where a file says something else than it should."""
    if is_free(path, LEFT_ALONE):
        return
    if isinstance(stored, dict) and isinstance(right, dict):
        for key in {**right, **stored}:
            if key not in stored or key not in right:
                if not is_free((*path, key), LEFT_ALONE):
                    yield f"{name_of(path)} has the keys {sorted(stored)}"
            else:
                yield from _different(stored[key], right[key], (*path, key))
    elif isinstance(stored, list) and isinstance(right, list) and len(stored) == len(right):
        for k, (one, other) in enumerate(zip(stored, right, strict=True)):
            yield from _different(one, other, (*path, k))
    elif not _equal(stored, right):
        yield f"{name_of(path)} is {stored!r}, right is {right!r}"


def _equal(stored: Any, right: Any) -> bool:
    numbers = [isinstance(v, int | float) and not isinstance(v, bool) for v in (stored, right)]
    if all(numbers):
        return math.isclose(stored, right, rel_tol=CLOSE, abs_tol=1e-12)
    return type(stored) is type(right) and bool(stored == right)
