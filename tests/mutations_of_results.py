"""Every change of one leaf of a stored result, for tests of what judges it."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

#: Places of a result file that nothing can rebuild: counters and times, settings, versions, the
#: machine, and the name of the file. A list of its own, so that no more of them appear unseen.
FREE = (
    "stats",
    "provenance.file",
    "provenance.options",
    "provenance.versions",
    "provenance.platform",
    "provenance.cpu_count",
    "provenance.utc",
)

#: What results of earlier versions do not say; a wrong value is rejected, a missing one is not.
LACKING = ("provenance.question",)

#: Smaller figures, such as the gap of an optimum, are rounding errors of their terms.
ROUNDING = 1e-10

Path = tuple[str | int, ...]


def name_of(path: Path) -> str:
    """Return a path as messages write it, for example ``plan.experts[0].llm``."""
    parts = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(parts).lstrip(".")


def is_free(path: Path, free: tuple[str, ...] = FREE) -> bool:
    """Tell whether a place may hold anything."""
    name = name_of(path)
    return any(name == place or name.startswith((f"{place}.", f"{place}[")) for place in free)


def leaves(content: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the places of all values that are no containers, and of empty ones."""
    if isinstance(content, dict) and content:
        for key, value in content.items():
            yield from leaves(value, (*path, key))
    elif isinstance(content, list) and content:
        for k, value in enumerate(content):
            yield from leaves(value, (*path, k))
    else:
        yield path


def containers(content: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the places of all dictionaries and lists."""
    if isinstance(content, dict):
        yield path
        for key, value in content.items():
            yield from containers(value, (*path, key))
    elif isinstance(content, list):
        yield path
        for k, value in enumerate(content):
            yield from containers(value, (*path, k))


def changed(value: Any) -> list[Any]:
    """Return other values for a leaf, of the same type and of others."""
    if isinstance(value, bool):
        return [not value, None]
    if isinstance(value, int):
        return [value + 1, -value - 1, value + 0.5, str(value), bool(value), 1e300]
    if isinstance(value, float):
        near = [value * 1.01, value * 2] if abs(value) > ROUNDING else []
        return [value * 1.001 + 1e-3, -value - 1.0, str(value), None, 1e300, *near]
    if isinstance(value, str):
        return [f"{value}X", "" if value else "Y", 7, None]
    return [0, "X", [1]] if value is None else [None, "X"]


def at(content: Any, path: Path) -> Any:
    """Return what stands at a place."""
    for step in path:
        content = content[step]
    return content


def mutations(
    content: dict[str, Any], most: int | None = None, free: tuple[str, ...] = FREE
) -> Iterator[tuple[str, Any]]:
    """Yield name and content of every file that differs from `content` in one place.

    Every value is changed, every entry removed, and one entry added to every container. Places
    that are free are left alone.

    Parameters
    ----------
    content
        A result, front, grid or fleet as JSON holds it.
    most
        Keep only so many, drawn with a fixed seed; None keeps all.
    free
        Places that are left alone, with everything below them.
    """
    plan = [
        (path, how) for path in leaves(content) for how in range(len(changed(at(content, path))))
    ]
    gone = [path for path in _entries(content) if name_of(path) not in LACKING]
    plan += [(path, "removed") for path in gone]
    plan += [(path, "added") for path in containers(content)]
    plan = [(path, how) for path, how in plan if path and not is_free(path, free)]
    if most is not None and len(plan) > most:
        plan = random.Random(0).sample(plan, most)
    for path, how in plan:
        yield f"{name_of(path)} {how}", mutated(content, path, how)


def _entries(content: Any) -> Iterator[Path]:
    for path in containers(content):
        value = at(content, path)
        keys = value if isinstance(value, dict) else range(len(value))
        yield from ((*path, key) for key in keys)


def mutated(content: Any, path: Path, how: int | str) -> Any:
    """Return a copy with one change: ``removed``, ``added``, or the number of a `changed` value."""
    found = copy.deepcopy(content)
    holder = at(found, path[:-1])
    if how == "removed":
        del holder[path[-1]]
    elif how == "added":
        value = holder[path[-1]]
        if isinstance(value, dict):
            value["added"] = 1
        else:
            value.append(copy.deepcopy(value[-1]) if value else 1)
    else:
        holder[path[-1]] = changed(holder[path[-1]])[int(how)]
    return found
