"""What people hand over as numbers, read as they mean it: labels, masks, gaps, foreign arrays.

Arrays of other packages are told by what they can do, so none of these packages is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt

from moe2opt.result import FloatArray, InputError

#: Up to this size every integer is a float.
_BIGGEST_EXACT = 2**53

#: A sparse matrix with more entries is not filled up.
_MOST_ENTRIES = 2**28

#: What tells an array or a container of another package from a number.
_ARRAYS = ("__array__", "toarray", "keys")

#: Lists are searched for arrays this deep.
_DEEPEST = 4

Labels = tuple[Any, ...] | None


@dataclass(frozen=True, slots=True)
class Labelled:
    """Numbers and, for each axis, its labels where it has any.

    Attributes
    ----------
    array
        Float64 array, not yet checked for NaN.
    labels
        One entry per axis: None without labels.
    """

    array: FloatArray
    labels: tuple[Labels, ...]

    def as_row(self) -> Labelled:
        """Return a vector as a table of one row, anything else as it is."""
        if self.array.ndim != 1:
            return self
        return Labelled(self.array[None, :], (None, *self.labels))

    def as_vector(self) -> Labelled:
        """Return a single number as a vector of length 1, anything else as it is."""
        return Labelled(self.array[None], (None,)) if self.array.ndim == 0 else self

    def take(self, axis: int, order: Sequence[int]) -> Labelled:
        """Return a copy in another order along an axis."""
        labels = list(self.labels)
        labels[axis] = tuple((self.labels[axis] or ())[k] for k in order)
        return Labelled(np.take(self.array, order, axis=axis), tuple(labels))


@dataclass(slots=True)
class Axis:
    """One axis of a problem: everything labelled on it must have the labels of the first.

    Attributes
    ----------
    name
        What the labels name, for messages: ``experts``.
    owner, labels
        Which array came first with labels, and these.
    unlabelled
        An array that has none, and is therefore taken in the order of the labels.
    """

    name: str
    owner: str = ""
    labels: Labels = None
    unlabelled: str = ""

    def position(self, label: Any) -> Any:
        """Return the place of a label; what is no label stays what it is."""
        labels = () if is_numbered(self.labels) else self.labels or ()
        return labels.index(label) if label in labels else label

    def align(self, name: str, part: Labelled, axis: int = 0) -> Labelled:
        """Return `part` in the order of the first array with labels.

        Raises
        ------
        InputError
            When labels are missing, unknown or doubled, or when numbers as labels come in another
            order than 0, 1, 2, ... beside an array without labels.
        """
        order = self.order(name, part.labels[axis])
        return part if order is None else part.take(axis, order)

    def order(self, name: str, labels: Labels) -> list[int] | None:
        """Return where the labels of the first array stand among these, None for in place."""
        order = None
        if labels is None:
            self.unlabelled = self.unlabelled or name
        elif self.labels is None:
            _no_doubles(name, self.name, labels)
            self.owner, self.labels = name, labels
        elif labels != self.labels:
            order = self._places(name, labels)
        if self.unlabelled and self.labels is not None and _is_renumbered(self.labels):
            raise InputError(
                f"{self.owner}: the {self.name} are labelled {listed(self.labels)}, and "
                f"{self.unlabelled} has no labels: which order is meant? Label both or neither"
            )
        return order

    def _places(self, name: str, labels: tuple[Any, ...]) -> list[int]:
        assert self.labels is not None
        _no_doubles(name, self.name, labels)
        place = {label: k for k, label in enumerate(labels)}
        missing = [label for label in self.labels if label not in place]
        unknown = [label for label in labels if label not in set(self.labels)]
        if missing or unknown:
            told = [
                f"{word} {listed(some)}"
                for word, some in (("without", missing), ("with", unknown))
                if some
            ]
            raise InputError(
                f"{name}: the {self.name} differ from those of {self.owner}: {', '.join(told)}"
            )
        return [place[label] for label in self.labels]


def read(name: str, value: Any) -> Labelled:
    """Return the numbers of an array-like and the labels of its axes.

    Understood are numbers and nested lists of them (also `Fraction` and `Decimal`), numpy arrays,
    mappings (their keys are the labels of the first axis), sparse matrices, and whatever gives
    itself as an array: data frames and series, labelled arrays, tensors.

    Raises
    ------
    InputError
        For masked or missing entries, for integers that a float64 cannot hold, and for everything
        that is no real number; the message names the first index at fault.
    """
    if isinstance(value, Labelled):
        return value
    if isinstance(value, Mapping):
        inner = _stacked(name, list(value.values()), list(value))
        return Labelled(inner.array, (tuple(value), *inner.labels[1:]))
    if isinstance(value, list | tuple) and not _is_plain(value):
        return _stacked(name, value, range(len(value)))
    array = _floats(name, _raw(name, value), value)
    return Labelled(array, _labels(value, array.ndim))


def entries(name: str, value: Any) -> tuple[list[Any], Labels]:
    """Return the parts of a container of arrays, one per group, and the labels of the groups."""
    if isinstance(value, Mapping):
        return list(value.values()), tuple(value)
    if isinstance(value, list | tuple):
        return list(value), None
    if getattr(value, "ndim", 0) == 1 and hasattr(value, "index") and hasattr(value, "tolist"):
        return value.tolist(), _labels(value, 1)[0]
    if isinstance(value, np.ndarray) and value.dtype == object:
        return list(value), None
    table = read(name, list(value) if isinstance(value, Iterator) else value)
    if not table.array.ndim:
        raise InputError(f"{name}: expected one array per group, got {_shown(value)}")
    return [Labelled(row, table.labels[1:]) for row in table.array], table.labels[0]


def position(name: str, index: Iterable[int]) -> str:
    """Return an entry of an array as it stands in messages."""
    inside = ", ".join(str(int(k)) for k in index)
    return f"{name}[{inside}]" if inside else name


# ---------------------------------------------------------------------- numbers


def _raw(name: str, value: Any) -> npt.NDArray[Any]:
    """Return any array-like as an array of whatever dtype."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        first = np.argwhere(np.ma.getmaskarray(value))[0]
        raise InputError(
            f"{position(name, first)} is masked; give every entry a value first, as with .filled()"
        )
    try:
        if hasattr(value, "toarray"):
            return np.asarray(_filled(name, value))
        if hasattr(value, "detach") and hasattr(value, "cpu"):
            value = value.detach().cpu()
        return np.asarray(value.to_numpy() if hasattr(value, "to_numpy") else value)
    except InputError:
        raise
    except Exception as error:
        if isinstance(value, list | tuple):
            raise InputError(f"{name}: rows have different lengths") from error
        told = str(error).partition("\n")[0]
        raise InputError(f"{name}: {type(value).__name__} gives no array: {told}") from error


def _filled(name: str, value: Any) -> Any:
    """Return a sparse matrix with its zeros written out."""
    if np.prod([float(n) for n in value.shape]) > _MOST_ENTRIES:
        raise InputError(f"{name}: a sparse matrix of shape {value.shape} is too large to fill up")
    return value.toarray()


def _floats(name: str, raw: npt.NDArray[Any], value: Any) -> FloatArray:
    """Return an array as float64, its own memory where that is writable."""
    if raw.dtype == object or (raw.dtype.kind == "f" and _holds_large_integers(raw, value)):
        items = np.asarray(value, dtype=object) if isinstance(value, list | tuple) else raw
        if not items.ndim and not isinstance(items.item(), Real | Decimal):
            raise InputError(f"{name}: {_shown(items.item())} is no array of numbers")
        found = np.empty(items.shape)
        for index, item in np.ndenumerate(items):
            found[index] = _number(position(name, index), item)
        return found
    if raw.dtype.kind not in "buif":
        raise InputError(f"{name}: dtype {raw.dtype} is not a real number type")
    if raw.dtype.kind in "iu":
        for place in np.argwhere((raw > _BIGGEST_EXACT) | (raw < -_BIGGEST_EXACT)):
            _number(position(name, place), int(raw[tuple(place)]))
    with np.errstate(over="ignore"):
        # A writable array is the caller's: freezing it in place would reach back into their data.
        return raw.astype(np.float64, order="C", copy=raw.flags.writeable)


def _holds_large_integers(raw: npt.NDArray[Any], value: Any) -> bool:
    """Tell whether numpy rounded large integers of a list because of the floats beside them."""
    return isinstance(value, list | tuple) and bool((np.abs(raw) >= _BIGGEST_EXACT).any())


def _number(where: str, item: Any) -> float:
    """Return one entry as a float."""
    if isinstance(item, np.generic):
        item = item.item()
    if not isinstance(item, Real | Decimal):
        raise InputError(f"{where} is {_shown(item)}; every entry must be a real number")
    try:
        number = float(item)
    except OverflowError as error:
        raise InputError(f"{where} is {_shown(item)}, too large for a float64") from error
    if isinstance(item, Integral) and int(number) != int(item):
        raise InputError(
            f"{where} is {_shown(item)}, an integer that float64 does not hold; scale the data"
        )
    return number


def _shown(item: Any) -> str:
    text = repr(item) if isinstance(item, Real | Decimal | str | bytes) else str(item)
    known = isinstance(item, Real | Decimal | str | bytes) or item is None or text == "<NA>"
    text = text if known else f"a {type(item).__name__}"
    return text if len(text) <= 40 else f"{text[:39]}…"


# ---------------------------------------------------------------------- lists and labels


def _is_plain(items: Sequence[Any], depth: int = 1) -> bool:
    """Tell whether nested lists hold numbers and bare arrays only, which numpy reads itself."""
    for kind in set(map(type, items)):
        if issubclass(kind, list | tuple):
            rows = [item for item in items if isinstance(item, list | tuple)]
            if depth < _DEEPEST and not all(_is_plain(row, depth + 1) for row in rows):
                return False
        elif kind is not np.ndarray and any(hasattr(kind, name) for name in _ARRAYS):
            return issubclass(kind, np.generic)
    return True


def _stacked(name: str, rows: Sequence[Any], keys: Iterable[Any]) -> Labelled:
    """Return rows as one array; those with labels are put into the order of the first."""
    first = Axis("labels")
    parts = []
    for key, row in zip(keys, rows, strict=True):
        here = f"{name}[{key!r}]"
        part = read(here, row)
        parts.append(first.align(here, part) if part.array.ndim else part)
    if len({part.array.shape for part in parts}) > 1:
        raise InputError(f"{name}: rows have different lengths")
    if not parts:
        return Labelled(np.zeros(0), (None,))
    array = np.stack([part.array for part in parts])
    return Labelled(array, (None, first.labels, *[None] * array.ndim)[: array.ndim])


def _labels(value: Any, ndim: int) -> tuple[Labels, ...]:
    """Return the labels of the axes of a data frame, a series or a labelled array."""
    found: list[Labels] = [None] * ndim
    if hasattr(value, "dims") and hasattr(value, "coords"):
        for axis, dim in enumerate(value.dims):
            if dim in value.coords:
                found[axis] = _listed_labels(np.asarray(value.coords[dim]))
    elif hasattr(value, "iloc"):
        found[0] = _listed_labels(value.index)
    if ndim == 2 and hasattr(value, "columns"):
        found[1] = _listed_labels(getattr(value, "column_names", value.columns))
    return tuple(found)


def _listed_labels(labels: Any) -> Labels:
    return tuple(item.item() if isinstance(item, np.generic) else item for item in labels)


def _is_renumbered(labels: tuple[Any, ...]) -> bool:
    """Tell whether labels are the positions 0, 1, 2, ... in another order."""
    return (
        all(isinstance(label, int) for label in labels)
        and labels != tuple(range(len(labels)))
        and sorted(labels) == list(range(len(labels)))
    )


def _no_doubles(name: str, what: str, labels: tuple[Any, ...]) -> None:
    seen: set[Any] = set()
    for label in labels:
        if label in seen:
            raise InputError(f"{name}: the label {label!r} of the {what} appears twice")
        seen.add(label)


def listed(labels: Sequence[Any]) -> str:
    """Return some labels in words."""
    some = [repr(label) if len(repr(label)) <= 40 else f"{repr(label)[:39]}…" for label in labels]
    more = f" and {len(some) - 4} more" if len(some) > 4 else ""
    return ", ".join(some[:4]) + more


def is_numbered(labels: Labels) -> bool:
    """Tell whether there are no labels but positions."""
    return labels is None or labels == tuple(range(len(labels)))
