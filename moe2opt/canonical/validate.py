"""Checks of arrays that reach the waist: every message names the array and the index at fault."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
import numpy.typing as npt

from moe2opt.canonical.reading import Axis, Labelled, is_numbered, listed, read
from moe2opt.result import FloatArray, InputError, IntArray

#: Relative slack of a budget over data that are not all integers (integer rows are exact).
BUDGET_TOLERANCE = 1e-9

#: Largest sum of absolute values: in units of the finest grid of a proof (2**-60), or with what
#: bounds add to it, it must not overflow.
LARGEST_SUM = 1e280

#: Up to this size every integer is a float.
BIGGEST_EXACT = 2.0**53


def real_array(name: str, value: Any, ndim: int, *, nonnegative: bool = False) -> FloatArray:
    """Return `value` as a read-only C-ordered float64 array of finite numbers.

    Raises
    ------
    InputError
        When the dtype is not real, the number of dimensions differs, or an entry is NaN, infinite
        or (where asked) negative; the message gives the index of the first such entry. Labels that
        nothing can be aligned with are refused as well.
    """
    part = checked(name, unlabelled(name, value), ndim, nonnegative=nonnegative)
    return frozen(part.array)


def unlabelled(name: str, value: Any) -> Labelled:
    """Return numbers whose order has to be taken as it is; raise `InputError` for labels."""
    part = read(name, value)
    for labels in part.labels:
        if not is_numbered(labels):
            raise InputError(
                f"{name} has labels ({listed(labels or ())}) that nothing here has; give its "
                "numbers in order, as with .to_numpy()"
            )
    return Labelled(part.array, (None,) * part.array.ndim)


def checked(
    name: str, value: Any, ndim: int, *, nonnegative: bool = False, infinite: bool = False
) -> Labelled:
    """Return finite numbers (and ``inf`` where `infinite`) with their labels, see `real_array`."""
    part = read(name, value)
    array = part.array
    if array.ndim != ndim:
        raise InputError(f"{name}: expected {ndim} dimension(s), got shape {array.shape}")
    bad = np.isnan(array) | (array == -np.inf) if infinite else ~np.isfinite(array)
    _reject_first(name, array, bad, "every entry must be finite")
    if nonnegative:
        _reject_first(name, array, array < 0, "no entry may be negative")
    return part


def limits_of(budgets: FloatArray, most: Callable[[int], float]) -> FloatArray:
    """Return budgets, an infinite one replaced by the most that its row can ever use."""
    pairs = enumerate(budgets.tolist())
    found = [most(k) if limit == math.inf else limit for k, limit in pairs]
    return frozen(np.array(found, dtype=np.float64) if np.isinf(budgets).any() else budgets)


def shaped(name: str, array: npt.NDArray[Any], shape: tuple[int, ...], meaning: str) -> None:
    """Raise `InputError` unless `array` has `shape`; `meaning` explains the expected shape."""
    if array.shape != shape:
        raise InputError(f"{name}: shape {array.shape} does not match {meaning} = {shape}")


def too_large(terms: FloatArray) -> int | None:
    """Return the place of the largest of some non-negative terms whose sum is near overflow.

    None if the sum is at most `LARGEST_SUM`. Terms are infinite where a product overflowed.
    """
    with np.errstate(over="ignore"):
        total = float(terms.sum())
    return None if total <= LARGEST_SUM else int(np.argmax(terms))


def integer_vector(name: str, value: Any, axis: Axis | None = None) -> IntArray:
    """Return `value` as a read-only int64 vector; floats must be whole numbers.

    With an `axis`, its entries come in the order of the labels, and a number is a vector of one.
    """
    if axis is None and _is_exact(value):  # what engines ask about, often
        return frozen(np.array(value, dtype=np.int64))
    if axis is not None:
        part = axis.align(name, checked(name, read(name, value).as_vector(), 1))
        value = part.array
    array = real_array(name, value, 1)
    _reject_first(name, array, array != np.floor(array), "every entry must be an integer")
    _reject_first(name, array, np.abs(array) > BIGGEST_EXACT, "entries beyond 2**53 are not exact")
    return frozen(array.astype(np.int64))


def _is_exact(value: Any) -> bool:
    """Tell whether this is an array of flags or of exact integers, which needs no reading."""
    if type(value) is not np.ndarray or value.ndim != 1:
        return False
    if value.dtype != np.int64 or not value.size:
        return bool(value.dtype == bool)
    return bool(value.min() >= -BIGGEST_EXACT and value.max() <= BIGGEST_EXACT)


def index_sets(name: str, value: Any, size: int, axis: Axis, *, flat: bool) -> tuple[IntArray, ...]:
    """Normalise sets of expert indices.

    Parameters
    ----------
    name
        Name used in messages.
    value
        None, index sets (a sequence, or a mapping of whatever names), or (when `flat`) one number
        per expert, the same for members of one set, negative for "in no set".
    size
        Number of experts N; indices must lie in ``0..N-1``.
    axis
        Labels of the experts, which may stand for indices.
    flat
        Whether the flat form is allowed.
    """
    if value is None:
        return ()
    if not isinstance(value, Iterable):
        raise InputError(f"{name}: expected sets of indices, got {type(value).__name__}")
    entries = list(value.values() if isinstance(value, Mapping) else value)
    if entries and not any(isinstance(e, AbstractSet) or np.ndim(e) for e in entries):
        if not flat:
            raise InputError(f"{name}: expected a sequence of index sequences, got a flat one")
        return _sets_from_numbers(name, value, size, axis)
    return tuple(_index_set(f"{name}[{k}]", entry, size, axis) for k, entry in enumerate(entries))


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
    with np.errstate(over="ignore"):
        wide = np.where(exact, limits, limits + slack)
    return frozen(np.minimum(wide, np.maximum(limits, np.finfo(np.float64).max)))


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


def _sets_from_numbers(name: str, value: Any, size: int, axis: Axis) -> tuple[IntArray, ...]:
    vector = integer_vector(name, value, axis)
    if len(vector) != size:
        raise InputError(f"{name}: {len(vector)} labels for {size} experts")
    found = np.unique(vector[vector >= 0])
    return tuple(frozen(np.flatnonzero(vector == label).astype(np.int64)) for label in found)


def _index_set(name: str, value: Any, size: int, axis: Axis) -> IntArray:
    named = isinstance(value, list | tuple | AbstractSet)
    members = [axis.position(member) for member in value] if named else value
    if np.asarray(members).dtype == bool:
        raise InputError(f"{name} holds flags; give indices, as with numpy.flatnonzero")
    for member in members if named else ():
        if isinstance(member, str):
            raise InputError(f"{name}: no expert is called {member!r}")
    indices = integer_vector(name, members)
    if not len(indices):
        raise InputError(f"{name} is empty")
    outside = indices[(indices < 0) | (indices >= size)]
    if len(outside):
        raise InputError(f"{name}: index {outside[0]} is outside 0..{size - 1}")
    unique = np.unique(indices)
    if len(unique) != len(indices):
        raise InputError(f"{name}: an index appears twice")
    return frozen(unique)
