"""Kinds of options: those of all groups that use the budgets alike, such as a format on a device.

How many groups take an option of a kind is a whole number, and a budget whose costs have few sizes
depends on these totals only. To split them closes what a single group never would: when one leaves
a kind, another one of nearly the same worth takes its place.
"""

from __future__ import annotations

import numpy as np

from moe2opt.result import FloatArray, IntArray

#: Sizes of a row, and kinds, up to which totals are worth a look at each of them.
_MOST = 40

#: Sizes that differ by less than this share of the largest one are one.
_ALIKE = 1e-9


def kinds_of(costs: FloatArray, starts: IntArray, sizes: IntArray) -> FloatArray:
    """Return ``(T, M)`` flags of the options of each kind; none where there are too many kinds.

    There are none either where one class holds most of the groups: totals are then little else
    than its counts, and to split those leaves smaller trees (5 and 17 times, on two machines of
    `place`). What all options of a class use of a row anyway makes no difference, and neither do
    rows of many sizes. Limits make none either: proofs for several limits share their kinds.

    Parameters
    ----------
    costs
        ``(K, M)`` use of each row by the options of all classes.
    starts
        First option of each class and the end.
    sizes
        Groups of each class.
    """
    none = np.zeros((0, int(starts[-1])))
    if 2 * int(sizes.max()) > int(sizes.sum()):
        return none
    class_of = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    own = costs - np.minimum.reduceat(costs, starts[:-1], axis=1)[:, class_of]
    largest = np.maximum(own.max(axis=1, initial=0.0), 1e-300)
    levels = np.rint(own / (_ALIKE * largest[:, None]))
    few = [row for row in levels if 1 < len(np.unique(row)) <= _MOST]
    if not few:
        return none
    kinds, kind_of = np.unique(np.array(few), axis=1, return_inverse=True)
    if not 1 < kinds.shape[1] <= _MOST:
        return none
    members = kind_of.ravel() == np.arange(kinds.shape[1])[:, None]
    members = np.unique(np.vstack([members, np.array(few) > 0]), axis=0)
    shared = [len(np.unique(class_of[row])) > 1 for row in members]
    return members[shared].astype(np.float64)
