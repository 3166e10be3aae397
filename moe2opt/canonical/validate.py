"""Checks of arrays that reach the waist: every message names the array and the index at fault."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from moe2opt.result import FloatArray, InputError, IntArray

#: Relative slack of a budget over data that are not all integers (integer rows are exact).
BUDGET_TOLERANCE = 1e-9

#: Up to this size every integer is a float.
BIGGEST_EXACT = 2.0**53


def real_array(name: str, value: Any, ndim: int, *, nonnegative: bool = False) -> FloatArray:
    """Return `value` as a read-only C-ordered float64 array of finite numbers.

    Raises
    ------
    InputError
        When the dtype is not real, the number of dimensions differs, or an entry is NaN, infinite
        or (where asked) negative; the message gives the index of the first such entry.
    """
    try:
        raw = np.asarray(value)
    except ValueError as error:
        raise InputError(f"{name}: rows have different lengths") from error
    if raw.dtype == object or raw.dtype.kind not in "buif":
        raise InputError(f"{name}: dtype {raw.dtype} is not a real number type")
    if raw.ndim != ndim:
        raise InputError(f"{name}: expected {ndim} dimension(s), got shape {raw.shape}")
    # A writable array is the caller's: freezing it in place would reach back into their data.
    array = np.array(raw, np.float64, order="C", copy=True if raw.flags.writeable else None)
    _reject_first(name, array, ~np.isfinite(array), "every entry must be finite")
    if nonnegative:
        _reject_first(name, array, array < 0, "no entry may be negative")
    return frozen(array)


def shaped(name: str, array: npt.NDArray[Any], shape: tuple[int, ...], meaning: str) -> None:
    """Raise `InputError` unless `array` has `shape`; `meaning` explains the expected shape."""
    if array.shape != shape:
        raise InputError(f"{name}: shape {array.shape} does not match {meaning} = {shape}")


def integer_vector(name: str, value: Any) -> IntArray:
    """Return `value` as a read-only int64 vector; floats must be whole numbers."""
    array = real_array(name, value, 1)
    _reject_first(name, array, array != np.floor(array), "every entry must be an integer")
    _reject_first(name, array, np.abs(array) > BIGGEST_EXACT, "entries beyond 2**53 are not exact")
    return frozen(array.astype(np.int64))


def index_sets(name: str, value: Any, size: int, *, labels: bool) -> tuple[IntArray, ...]:
    """Normalise sets of expert indices.

    Parameters
    ----------
    name
        Name used in messages.
    value
        None, a sequence of index sequences, or (when `labels`) one label per expert where a
        negative label means "in no set".
    size
        Number of experts N; indices must lie in ``0..N-1``.
    labels
        Whether the flat form is allowed.
    """
    if value is None:
        return ()
    entries = list(value)
    if entries and all(np.ndim(entry) == 0 for entry in entries):
        if not labels:
            raise InputError(f"{name}: expected a sequence of index sequences, got a flat one")
        return _sets_from_labels(name, entries, size)
    return tuple(_index_set(f"{name}[{k}]", entry, size) for k, entry in enumerate(entries))


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return `array` marked read-only (copied first when it is a view of foreign memory)."""
    if array.base is not None or array.flags.writeable:
        array = array.copy() if array.base is not None else array
        array.flags.writeable = False
    return array


def indicators(sets: Sequence[Sequence[int] | IntArray], size: int) -> FloatArray:
    """Return the ``(len(sets), size)`` 0/1 rows of the sets."""
    rows = np.zeros((len(sets), size))
    for k, members in enumerate(sets):
        rows[k, np.asarray(members, dtype=np.int64)] = 1.0
    return rows


def effective_limits(costs: FloatArray, limits: FloatArray) -> FloatArray:
    """Return the limits that feasibility is tested against.

    Rows of integers are exact. Any other row gets the relative slack `BUDGET_TOLERANCE`, so that
    sums like 0.1 + 0.2 meet a budget of 0.3.
    """
    exact = np.array([is_integral(row) for row in costs], dtype=bool) & (limits == np.floor(limits))
    slack = BUDGET_TOLERANCE * np.maximum(1.0, np.abs(limits))
    return frozen(np.where(exact, limits, limits + slack))


def is_integral(array: FloatArray) -> bool:
    """Tell whether every entry is an integer that float64 represents exactly."""
    return bool(np.all(array == np.floor(array)) and np.all(np.abs(array) <= BIGGEST_EXACT))


def exact_sum(terms: Iterable[float]) -> float:
    """Return the correctly rounded sum: it does not depend on the order of the terms."""
    return math.fsum(terms)


def fingerprint(*arrays: npt.NDArray[Any]) -> str:
    """Return a SHA-256 over shapes, dtypes and contents."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _reject_first(name: str, array: FloatArray, bad: npt.NDArray[np.bool_], rule: str) -> None:
    if bad.any():
        index = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), array.shape))
        where = f"{name}[{', '.join(map(str, index))}]" if index else name
        raise InputError(f"{where} is {array[index]:g}; {rule}")


def _sets_from_labels(name: str, labels: Sequence[Any], size: int) -> tuple[IntArray, ...]:
    vector = integer_vector(name, labels)
    if len(vector) != size:
        raise InputError(f"{name}: {len(vector)} labels for {size} experts")
    found = np.unique(vector[vector >= 0])
    return tuple(frozen(np.flatnonzero(vector == label).astype(np.int64)) for label in found)


def _index_set(name: str, value: Any, size: int) -> IntArray:
    indices = integer_vector(name, value)
    if not len(indices):
        raise InputError(f"{name} is empty")
    outside = indices[(indices < 0) | (indices >= size)]
    if len(outside):
        raise InputError(f"{name}: index {outside[0]} is outside 0..{size - 1}")
    unique = np.unique(indices)
    if len(unique) != len(indices):
        raise InputError(f"{name}: an index appears twice")
    return frozen(unique)
