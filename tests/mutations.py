"""Named ways to change a certificate: what a checker must see through.

Every entry of `MUTATIONS` takes a certificate and a numpy generator and returns a changed
certificate, unsealed; it returns the same certificate where there is nothing to change. A changed
certificate may still prove something true: only a false claim must be refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from moe2opt.result import (
    LEAF_REASONS,
    Certificate,
    Conflict,
    Multipliers,
    Relaxation,
    Result,
    Status,
)

Mutation = Callable[[Certificate, np.random.Generator], Certificate]

_VECTORS = ("cluster", "row", "cover")


def stated(certificate: Certificate) -> Result:
    """Return a result that states nothing but the claim of a certificate."""
    claim = certificate.claim
    return Result(
        status=Status.INFEASIBLE if claim == -math.inf else Status.NO_SOLUTION,
        limit=None,
        x=None,
        objective=-math.inf,
        bound=math.inf if math.isnan(claim) else claim,
        certificate=certificate,
    )


def _picked(certificate: Certificate, rng: Any, fits: Callable[[Any], bool]) -> int | None:
    """Return the place of one of the records that fit, None without one."""
    places = [k for k, record in enumerate(certificate.tree) if fits(record)]
    return int(rng.choice(places)) if places else None


def _record(fits: Callable[[Any], bool], change: Callable[[Any, Any], Sequence[Any]]) -> Mutation:
    """Return a mutation that replaces one record that fits by zero or more records."""

    def mutation(certificate: Certificate, rng: Any) -> Certificate:
        k = _picked(certificate, rng, fits)
        if k is None:
            return certificate
        tree = tuple(certificate.tree)
        return replace(certificate, tree=(*tree[:k], *change(tree[k], rng), *tree[k + 1 :]))

    return mutation


def _is_leaf(record: Any) -> bool:
    return record[0] != "split" and ":" not in record[0]


def _is_reduction(record: Any) -> bool:
    return ":" in record[0]


def _is_split(record: Any) -> bool:
    return bool(record[0] == "split")


def _no_split(record: Any) -> bool:
    return bool(record[0] != "split")


def _step(rng: Any) -> int:
    return int(rng.choice([-1, 1]))


def _other_reason(record: Any, rng: Any) -> Any:
    side, _, reason = record[0].rpartition(":")
    other = str(rng.choice([name for name in LEAF_REASONS if name != reason]))
    return [(f"{side}:{other}" if side else other, *record[1:])]


def _other_side(record: Any, rng: Any) -> Any:
    side, reason = record[0].split(":")
    return [(f"{'in' if side == 'out' else 'out'}:{reason}", *record[1:])]


def _numbers(change: Callable[[Any, Any], Any]) -> Mutation:
    """Return a mutation that changes a copy of one non-empty vector of multipliers."""

    def mutation(certificate: Certificate, rng: Any) -> Certificate:
        found = [
            (k, name)
            for k, price in enumerate(certificate.multipliers)
            for name in _VECTORS
            if len(getattr(price, name))
        ]
        if not found:
            return certificate
        k, name = found[int(rng.integers(len(found)))]
        prices = list(certificate.multipliers)
        changed = change(getattr(prices[k], name).copy(), rng)
        fields = {key: getattr(prices[k], key) for key in _VECTORS}
        prices[k] = Multipliers(**{**fields, name: changed})
        return replace(certificate, multipliers=tuple(prices))

    return mutation


def _entry(value: Callable[[float, Any], float]) -> Mutation:
    """Return a mutation that changes one entry of one vector of multipliers."""

    def change(vector: Any, rng: Any) -> Any:
        k = int(rng.integers(len(vector)))
        vector[k] = value(float(vector[k]), rng)
        return vector

    return _numbers(change)


def _claim(change: Callable[[float, Any], float]) -> Mutation:
    """Return a mutation of a finite claim."""

    def mutation(certificate: Certificate, rng: Any) -> Certificate:
        if not math.isfinite(certificate.claim):
            return certificate
        return replace(certificate, claim=float(change(certificate.claim, rng)))

    return mutation


def _conflict(change: Callable[[Conflict, Any], Conflict | None]) -> Mutation:
    def mutation(certificate: Certificate, rng: Any) -> Certificate:
        if certificate.conflict is None:
            return certificate
        return replace(certificate, conflict=change(certificate.conflict, rng))

    return mutation


def _relaxation(change: Callable[[Relaxation, Any], Relaxation]) -> Mutation:
    def changed(conflict: Conflict, rng: Any) -> Conflict:
        if not conflict.relaxations:
            return conflict
        k = int(rng.integers(len(conflict.relaxations)))
        found = list(conflict.relaxations)
        found[k] = change(found[k], rng)
        return replace(conflict, relaxations=tuple(found))

    return _conflict(changed)


def _shuffled(certificate: Certificate, rng: Any) -> Certificate:
    tree = list(certificate.tree)
    rng.shuffle(tree)
    return replace(certificate, tree=tuple(tuple(record) for record in tree))


def _swapped(certificate: Certificate, rng: Any) -> Certificate:
    """Return the certificate with two of its records exchanged."""
    tree = list(certificate.tree)
    if len(tree) < 2:
        return certificate
    one, other = rng.choice(len(tree), size=2, replace=False)
    tree[one], tree[other] = tree[other], tree[one]
    return replace(certificate, tree=tuple(tree))


def _flipped(relaxation: Relaxation, rng: Any) -> Relaxation:
    x = relaxation.x.copy()
    k = int(rng.integers(len(x)))
    x[k] = 1 - x[k] if x[k] in (0, 1) else 0
    return replace(relaxation, x=x)


MUTATIONS: dict[str, Mutation] = {
    # what is claimed
    "claim less": _claim(lambda c, rng: c - rng.choice([1e-9, 1e-3, 0.5]) * max(1.0, abs(c))),
    "claim one unit in the last place less": _claim(lambda c, rng: math.nextafter(c, -math.inf)),
    "claim one less": _claim(lambda c, rng: c - 1.0),
    "claim half": _claim(lambda c, rng: c - 0.5 * abs(c)),
    "claim more": _claim(lambda c, rng: c + 0.5 * max(1.0, abs(c))),
    "claim nothing": _claim(lambda c, rng: math.nan),
    "claim infeasible": lambda c, rng: replace(
        c, claim=-math.inf if math.isfinite(c.claim) else 0.0
    ),
    "claim the reverse": _claim(lambda c, rng: -c),
    # the tree
    "drop a leaf": _record(_no_split, lambda record, rng: []),
    "repeat a leaf": _record(_no_split, lambda record, rng: [record, record]),
    "other reason": _record(_no_split, _other_reason),
    "other index": _record(
        _is_leaf, lambda record, rng: [(record[0], record[1] + _step(rng), record[2])]
    ),
    "index out of range": _record(
        _is_leaf,
        lambda record, rng: [(record[0], int(rng.choice([-1, 2**31, 2**62, -(2**62)])), record[2])],
    ),
    "corner instead": _record(_no_split, lambda record, rng: [("corner", 0, 0)]),
    "other index of a reduction": _record(
        _is_reduction, lambda record, rng: [(*record[:2], record[2] + _step(rng))]
    ),
    "other axis of a reduction": _record(
        _is_reduction, lambda record, rng: [(record[0], record[1] + _step(rng), record[2])]
    ),
    "other side of a reduction": _record(_is_reduction, _other_side),
    "drop a reduction": _record(_is_reduction, lambda record, rng: []),
    "no split": _record(_is_split, lambda record, rng: []),
    "other axis": _record(
        _is_split, lambda record, rng: [("split", record[1] + _step(rng), record[2])]
    ),
    "axis out of range": _record(
        _is_split, lambda record, rng: [("split", int(rng.choice([-1, 2**40])), record[2])]
    ),
    "other cut": _record(
        _is_split, lambda record, rng: [("split", record[1], record[2] + _step(rng))]
    ),
    "one more split": _record(_is_leaf, lambda record, rng: [("split", 0, 0), record, record]),
    "no tree": lambda c, rng: replace(c, tree=()),
    "only a corner": lambda c, rng: replace(c, tree=(("corner", 0, 0),)),
    "only a price": lambda c, rng: replace(c, tree=(("dual", 0, 0),)),
    "only a budget": lambda c, rng: replace(c, tree=(("budget", 0, 0),)),
    "end of the tree lost": lambda c, rng: replace(c, tree=tuple(c.tree)[:-1]),
    "records shuffled": _shuffled,
    "two records exchanged": _swapped,
    "unknown reason": _record(_is_leaf, lambda record, rng: [("true", 0, 0)]),
    # prices
    "other price": _entry(lambda v, rng: v + rng.choice([-1.0, 1.0, 0.5, -1e-3])),
    "price not a number": _entry(lambda v, rng: float(rng.choice([math.nan, math.inf]))),
    "negative price": _entry(lambda v, rng: -v - 1.0),
    "huge price": _entry(lambda v, rng: float(rng.choice([1e19, 1e300]))),
    "tiny price": _entry(lambda v, rng: float(rng.choice([5e-324, 1e-200]))),
    "price one unit in the last place less": _entry(lambda v, rng: math.nextafter(v, -math.inf)),
    "prices zero": _numbers(lambda vector, rng: np.zeros_like(vector)),
    "prices doubled": _numbers(lambda vector, rng: 2.0 * vector),
    "vector too short": _numbers(lambda vector, rng: vector[:-1]),
    "vector too long": _numbers(lambda vector, rng: np.append(vector, 0.0)),
    "vector as a matrix": _numbers(lambda vector, rng: vector[None, :]),
    "no prices": lambda c, rng: replace(c, multipliers=tuple(c.multipliers)[:-1]),
    "prices in another order": lambda c, rng: replace(c, multipliers=tuple(c.multipliers)[::-1]),
    # what the tree speaks about
    "other grid": lambda c, rng: replace(c, grid_bits=c.grid_bits + 1),
    "coarse grid": lambda c, rng: replace(c, grid_bits=0),
    "finest grid": lambda c, rng: replace(c, grid_bits=60),
    "grid not understood": lambda c, rng: replace(c, grid_bits=int(rng.choice([-1, 61, 2**70]))),
    "other chain": lambda c, rng: replace(c, chains=(*c.chains, (0, 1))),
    "chain the other way": lambda c, rng: replace(c, chains=(*c.chains, (1, 0))),
    "chain of one expert": lambda c, rng: replace(c, chains=((0, 0),)),
    "no chains": lambda c, rng: replace(c, chains=()),
    "other types": lambda c, rng: replace(c, types=((0, 1),)),
    "type of one row": lambda c, rng: replace(c, types=((0,),)),
    "types the other way": lambda c, rng: replace(c, types=tuple(t[::-1] for t in c.types)),
    "types joined": lambda c, rng: replace(c, types=(tuple(i for t in c.types for i in t),)),
    "a type longer": lambda c, rng: replace(c, types=tuple((*t, max(t) + 1) for t in c.types)),
    "no types": lambda c, rng: replace(c, types=()),
    "other rounded row": lambda c, rng: replace(c, rounded=(*c.rounded, (0, 1))),
    "no rounded rows": lambda c, rng: replace(c, rounded=()),
    "other problem": lambda c, rng: replace(c, problem_hash="0" * 64),
    "other family": lambda c, rng: replace(c, kind="other"),
    "monotone view": lambda c, rng: replace(c, kind="monotone"),
    # why it is infeasible
    "no conflict": _conflict(lambda conflict, rng: None),
    "conflict without its last row": _conflict(
        lambda conflict, rng: replace(conflict, rows=conflict.rows[:-1])
    ),
    "conflict of other rows": _conflict(
        lambda conflict, rng: replace(conflict, rows=tuple(r + 1 for r in conflict.rows))
    ),
    "conflict of the first row": _conflict(lambda conflict, rng: replace(conflict, rows=(0,))),
    "conflict of a row that is not there": _conflict(
        lambda conflict, rng: replace(conflict, rows=(*conflict.rows, 99))
    ),
    "conflict without covers": _conflict(lambda conflict, rng: replace(conflict, covers=())),
    "invented conflict": lambda c, rng: replace(c, conflict=Conflict(rows=())),
    "relaxation of less": _relaxation(
        lambda found, rng: replace(found, limit=found.limit - 0.5 * max(1.0, abs(found.limit)))
    ),
    "relaxation of more": _relaxation(
        lambda found, rng: replace(found, limit=found.limit + 1.0 + abs(found.limit))
    ),
    "relaxation without a number": _relaxation(
        lambda found, rng: replace(found, limit=float(rng.choice([math.nan, math.inf, -math.inf])))
    ),
    "relaxation of another row": _relaxation(
        lambda found, rng: replace(found, row=int(rng.choice([found.row + 1, -1, 99])))
    ),
    "relaxation with another witness": _relaxation(_flipped),
    "relaxation with a longer witness": _relaxation(
        lambda found, rng: replace(found, x=np.append(found.x, 0))
    ),
    "relaxation without a proof": _relaxation(lambda found, rng: replace(found, tree=())),
}
