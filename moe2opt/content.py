"""What objects that hold arrays have in common: equality by content, a short repr, a table.

The generated methods of a dataclass compare arrays as if they were numbers, which raises, and show
every entry of them.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import MISSING, fields, is_dataclass
from html import escape
from numbers import Number
from pathlib import PurePath
from typing import Any

import numpy as np

#: Characters of a `repr`, of one field in it, and of a text in a field.
LONGEST_REPR, LONGEST_FIELD, LONGEST_TEXT = 240, 60, 40


class Content:
    """Base of dataclasses (``eq=False, repr=False``) that are compared by content, shown briefly.

    Two objects are equal when they are of one class and all fields that take part in comparisons
    have the same content (see `same`); a comparison never raises. Equal objects have equal hashes.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return self is other or _same_fields(self, other)

    def __hash__(self) -> int:
        values = (getattr(self, f.name) for f in _fields(self) if f.compare)
        scalars = [v for v in values if isinstance(v, Number | str) and v == v]
        return hash((type(self), *scalars))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={text}" for name, text in self._brief_fields())
        return f"{type(self).__name__}({_cut(shown, LONGEST_REPR)})"

    def _repr_html_(self) -> str:
        """Return a table of the fields for notebooks."""
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>"
            for name, text in self._brief_fields()
        )
        return f"<table><caption>{type(self).__name__}</caption>{rows}</table>"

    def _brief_fields(self) -> Iterator[tuple[str, str]]:
        """Yield name and short text of every field that is not at its default."""
        for f in _fields(self):
            value = getattr(self, f.name)
            default = f.default if f.default_factory is MISSING else f.default_factory()
            if f.repr and not same(value, default):
                yield f.name, brief(value)


def same(a: Any, b: Any) -> bool:
    """Tell whether two values have the same content; NaN is the same as NaN.

    Arrays, lists and tuples with the same entries are the same, and so are an object with
    ``to_dict`` and the dictionary that it gives, which is what a file holds of it.
    """
    if a is b:
        return True
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return _same_arrays(a, b)
    a, b = _opened(a, b), _opened(b, a)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    if _is_sequence(a) and _is_sequence(b):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if is_dataclass(a) and type(a) is type(b):
        return _same_fields(a, b)
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    return _equal(a, b)


def brief(value: Any) -> str:
    """Return one short line about a value: a scalar in full, of anything else what it is."""
    if isinstance(value, enum.Enum):
        return str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, str):
        return repr(_cut(value, LONGEST_TEXT))
    if isinstance(value, PurePath):
        return repr(_cut(value.name, LONGEST_TEXT))
    if value is None or isinstance(value, Number):
        return _cut(repr(value), LONGEST_TEXT)
    if isinstance(value, Mapping):
        return f"{{{len(value)} entries}}" if value else "{}"
    if isinstance(value, Sequence | AbstractSet):
        return _brief_items(value)
    return getattr(value, "__qualname__", f"{type(value).__name__}(...)")


def _brief_items(items: Sequence[Any] | AbstractSet[Any]) -> str:
    if len(items) <= 8 and all(isinstance(item, Number | str) for item in items):
        text = f"[{', '.join(brief(item) for item in items)}]"
        if len(text) <= LONGEST_FIELD:
            return text
    return f"[{len(items)} items]"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _fields(item: Any) -> tuple[Any, ...]:
    return fields(item)


def _same_fields(a: Any, b: Any) -> bool:
    names = [f.name for f in _fields(a) if f.compare]
    return all(same(getattr(a, name), getattr(b, name)) for name in names)


def _same_arrays(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    inexact = a.dtype.kind in "fc" and b.dtype.kind in "fc"
    return a.shape == b.shape and bool(np.array_equal(a, b, equal_nan=inexact))


def _opened(item: Any, other: Any) -> Any:
    """Return arrays as lists, and an object as its dictionary where the other one is one."""
    if isinstance(item, np.ndarray):
        return item.tolist()
    if isinstance(other, Mapping) and hasattr(item, "to_dict"):
        return item.to_dict()
    return item


def _is_sequence(item: Any) -> bool:
    return isinstance(item, Sequence) and not isinstance(item, str | bytes | bytearray)


def _equal(a: Any, b: Any) -> bool:
    """Tell whether foreign objects call themselves equal; one that cannot say so is not."""
    try:
        return bool(a.equals(b)) if hasattr(a, "equals") else bool(a == b)
    except Exception:
        return False
