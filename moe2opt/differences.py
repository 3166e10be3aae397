"""Where stored JSON content differs from what it should be, leaf by leaf."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator
from typing import Any

#: Figures that are rebuilt on another platform may differ in their last digits; JSON itself keeps
#: every digit of a float.
RELATIVE = 1e-9
ABSOLUTE = 1e-12

#: Longer values are cut where a difference is told.
_WIDEST = 60

_NOTHING: Any = object()


def differences(
    stored: Any, rebuilt: Any, path: str = "", free: Collection[str] = ()
) -> Iterator[str]:
    """Yield one line per difference, naming its place, the stored value and the right one.

    Parameters
    ----------
    stored, rebuilt
        Content as `json.loads` returns it (tuples count as lists).
    path
        Where the content stands.
    free
        Paths that may hold anything, or be missing.
    """
    if path in free:
        return
    if isinstance(stored, dict) and isinstance(rebuilt, dict):
        for key in dict.fromkeys((*rebuilt, *stored)):
            place = f"{path}.{key}" if path else str(key)
            ours, theirs = rebuilt.get(key, _NOTHING), stored.get(key, _NOTHING)
            yield from differences(theirs, ours, place, free)
    elif isinstance(stored, list) and isinstance(rebuilt, list | tuple):
        if len(stored) != len(rebuilt):
            yield f"{path}: stored {len(stored)} entries, rebuilt {len(rebuilt)}"
        for k, (theirs, ours) in enumerate(zip(stored, rebuilt, strict=False)):
            yield from differences(theirs, ours, f"{path}[{k}]", free)
    elif not _same(stored, rebuilt):
        yield f"{_shown(path)}: stored {_value(stored)}, rebuilt {_value(rebuilt)}"


def _same(stored: Any, rebuilt: Any) -> bool:
    if _is_number(stored) and _is_number(rebuilt):
        if isinstance(stored, int) and isinstance(rebuilt, int):
            return stored == rebuilt
        try:
            stored, rebuilt = float(stored), float(rebuilt)
        except OverflowError:  # an integer beyond every float
            return False
        both_nan = stored != stored and rebuilt != rebuilt
        return both_nan or math.isclose(stored, rebuilt, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return type(stored) is type(rebuilt) and bool(stored == rebuilt)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _value(value: Any) -> str:
    """Return a value as one short line of plain ASCII."""
    return "nothing" if value is _NOTHING else _cut(json.dumps(value, default=str))


def _shown(path: str) -> str:
    return _cut(json.dumps(path)[1:-1], 2 * _WIDEST) or "the content"


def _cut(text: str, widest: int = _WIDEST) -> str:
    return text if len(text) <= widest else f"{text[: widest - 3]}..."
