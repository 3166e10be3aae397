"""Certificates changed in every way that we could think of, and what a checker may say of them.

A mutated certificate gets a digest that fits, so only the proof itself can give it away. It is
put to the checker with its own claim, with a claim just below the true optimum, and as the proof
of a slightly different problem. Whatever the checker accepts must be true.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
from campaign.checking import Proven, Tally, guarded
from campaign.instances import Choice, Facility, Instance

import moe2opt as mo
from moe2opt.result import (
    LEAF_REASONS,
    Certificate,
    Conflict,
    Multipliers,
    Relaxation,
    Result,
    Status,
)

#: Changes a certificate; None where it has nothing of the kind.
Mutation = Callable[[Certificate, Random], Certificate | None]

MUTATIONS: dict[str, Mutation] = {}


def mutation(function: Mutation) -> Mutation:
    """Enter a mutation under its name in words."""
    MUTATIONS[function.__name__.strip("_").replace("_", " ")] = function
    return function


def _with_tree(proof: Certificate, tree: Sequence[Any]) -> Certificate:
    return replace(proof, tree=tuple(tree))


def _place(proof: Certificate, rng: Random, *kinds: str) -> int | None:
    """Return the position of a record (whose kind contains one of the words)."""
    found = [
        k
        for k, record in enumerate(proof.tree)
        if not kinds or any(word in record[0] for word in kinds)
    ]
    return rng.choice(found) if found else None


def _put(proof: Certificate, place: int | None, *records: Any) -> Certificate | None:
    if place is None:
        return None
    tree = tuple(proof.tree)
    return _with_tree(proof, (*tree[:place], *records, *tree[place + 1 :]))


@mutation
def _drop_a_record(proof: Certificate, rng: Random) -> Certificate | None:
    return _put(proof, _place(proof, rng))


@mutation
def _repeat_a_record(proof: Certificate, rng: Random) -> Certificate | None:
    place = _place(proof, rng)
    return None if place is None else _put(proof, place, *[proof.tree[place]] * 2)


@mutation
def _swap_two_records(proof: Certificate, rng: Random) -> Certificate | None:
    tree = list(proof.tree)
    if len(tree) < 2:
        return None
    a, b = rng.sample(range(len(tree)), 2)
    tree[a], tree[b] = tree[b], tree[a]
    return _with_tree(proof, tree)


@mutation
def _other_reason(proof: Certificate, rng: Random) -> Certificate | None:
    place = _place(proof, rng, *LEAF_REASONS)
    if place is None:
        return None
    kind, first, last = proof.tree[place]
    side, colon, _ = kind.rpartition(":")
    return _put(proof, place, (f"{side}{colon}{rng.choice(list(LEAF_REASONS))}", first, last))


@mutation
def _unknown_reason(proof: Certificate, rng: Random) -> Certificate | None:
    word = rng.choice(("", "trust me", "out:", ":", "in:out:corner", "Corner", "split:corner"))
    return _put(proof, _place(proof, rng), (word, 0, 0))


@mutation
def _other_index(proof: Certificate, rng: Random) -> Certificate | None:
    place = _place(proof, rng)
    if place is None:
        return None
    kind, first, last = proof.tree[place]
    step = rng.choice((-1, 1, 2, -5, 2**31, -(2**62), 2**63 - 1))
    return _put(
        proof,
        place,
        rng.choice(((kind, first + step, last), (kind, first, last + step))),
    )


@mutation
def _other_side(proof: Certificate, rng: Random) -> Certificate | None:
    place = _place(proof, rng, ":")
    if place is None:
        return None
    kind, first, last = proof.tree[place]
    side, reason = kind.split(":")
    return _put(proof, place, (f"{'in' if side == 'out' else 'out'}:{reason}", first, last))


@mutation
def _no_tree(proof: Certificate, rng: Random) -> Certificate | None:
    return _with_tree(proof, ())


@mutation
def _end_early(proof: Certificate, rng: Random) -> Certificate | None:
    return _with_tree(proof, proof.tree[: rng.randrange(len(proof.tree) or 1)])


@mutation
def _go_on_after_the_end(proof: Certificate, rng: Random) -> Certificate | None:
    return _with_tree(proof, (*proof.tree, (rng.choice(list(LEAF_REASONS)), 0, 0)))


@mutation
def _one_leaf(proof: Certificate, rng: Random) -> Certificate | None:
    return _with_tree(proof, [(rng.choice(list(LEAF_REASONS)), rng.randrange(3), 0)])


@mutation
def _half_a_split(proof: Certificate, rng: Random) -> Certificate | None:
    """Drop a split, so that its first branch stands for both."""
    return _put(proof, _place(proof, rng, "split"))


@mutation
def _close_what_is_open(proof: Certificate, rng: Random) -> Certificate | None:
    """Put a leaf in place of an inner node, dropping what was below."""
    place = _place(proof, rng)
    if place is None:
        return None
    end, open_boxes = place, 1
    while open_boxes and end < len(proof.tree):
        kind = proof.tree[end][0]
        open_boxes += 1 if kind == "split" else 0 if ":" in kind else -1
        end += 1
    leaf = (rng.choice(list(LEAF_REASONS)), rng.randrange(2), 0)
    return _with_tree(proof, (*proof.tree[:place], leaf, *proof.tree[end:]))


@mutation
def _reduce_at_will(proof: Certificate, rng: Random) -> Certificate | None:
    kind = f"{rng.choice(('in', 'out'))}:{rng.choice(list(LEAF_REASONS))}"
    place = rng.randrange(len(proof.tree) + 1)
    record = (kind, rng.randrange(6), rng.randrange(2))
    return _with_tree(proof, (*proof.tree[:place], record, *proof.tree[place:]))


@mutation
def _split_at_will(proof: Certificate, rng: Random) -> Certificate | None:
    place = rng.randrange(len(proof.tree) + 1)
    leaf = proof.tree[place] if place < len(proof.tree) else ("corner", 0, 0)
    split = ("split", rng.randrange(-1, 6), rng.randrange(-1, 3))
    return _with_tree(proof, (*proof.tree[:place], split, leaf, *proof.tree[place:]))


def _priced(
    proof: Certificate, rng: Random, change: Callable[[Any, int], None]
) -> Certificate | None:
    """Change one number of one vector of one set of multipliers."""
    if not len(proof.multipliers):
        return None
    k = rng.randrange(len(proof.multipliers))
    old = proof.multipliers[k]
    names = [n for n in ("cluster", "row", "cover") if len(getattr(old, n))]
    if not names:
        return None
    name = rng.choice(names)
    vector = np.array(getattr(old, name), dtype=float)
    change(vector, rng.randrange(len(vector)))
    return _with_price(proof, k, **{name: vector})


def _with_price(proof: Certificate, k: int, **fields: Any) -> Certificate:
    old = proof.multipliers[k]
    kept = {name: getattr(old, name) for name in ("cluster", "row", "cover")}
    new = Multipliers(**{**kept, **fields})
    before, after = proof.multipliers[:k], proof.multipliers[k + 1 :]
    return replace(proof, multipliers=(*before, new, *after))


@mutation
def _other_price(proof: Certificate, rng: Random) -> Certificate | None:
    def change(vector: Any, at: int) -> None:
        vector[at] += rng.choice((-1.0, 1.0, 0.5, -1e-3, 1e-9, 1e6))

    return _priced(proof, rng, change)


@mutation
def _next_price(proof: Certificate, rng: Random) -> Certificate | None:
    def change(vector: Any, at: int) -> None:
        vector[at] = math.nextafter(vector[at], rng.choice((-math.inf, math.inf)))

    return _priced(proof, rng, change)


@mutation
def _strange_price(proof: Certificate, rng: Random) -> Certificate | None:
    def change(vector: Any, at: int) -> None:
        vector[at] = rng.choice((math.nan, math.inf, -math.inf, 1e300, 1.7e308, 5e-324, -5e-324))

    return _priced(proof, rng, change)


@mutation
def _negative_prices(proof: Certificate, rng: Random) -> Certificate | None:
    def change(vector: Any, at: int) -> None:
        vector[:] = -abs(vector) - 1e-3

    return _priced(proof, rng, change)


@mutation
def _scaled_prices(proof: Certificate, rng: Random) -> Certificate | None:
    def change(vector: Any, at: int) -> None:
        vector *= rng.choice((0.0, 0.5, 2.0, 1.0 + 1e-12, 1e9))

    return _priced(proof, rng, change)


@mutation
def _longer_prices(proof: Certificate, rng: Random) -> Certificate | None:
    if not len(proof.multipliers):
        return None
    k = rng.randrange(len(proof.multipliers))
    name = rng.choice(("cluster", "row", "cover"))
    old = getattr(proof.multipliers[k], name)
    new = rng.choice((np.append(old, 1.0), old[:-1], np.zeros((2, 2)), np.zeros(0)))
    try:
        return _with_price(proof, k, **{name: new})
    except ValueError:
        return None


@mutation
def _fewer_prices(proof: Certificate, rng: Random) -> Certificate | None:
    if not len(proof.multipliers):
        return None
    return replace(proof, multipliers=tuple(proof.multipliers[:-1]))


@mutation
def _swapped_prices(proof: Certificate, rng: Random) -> Certificate | None:
    if len(proof.multipliers) < 2:
        return None
    prices = list(proof.multipliers)
    rng.shuffle(prices)
    return replace(proof, multipliers=tuple(prices))


@mutation
def _other_grid(proof: Certificate, rng: Random) -> Certificate | None:
    bits = (proof.grid_bits + 1, proof.grid_bits - 1, 0, 60, 61, -1, -1074, 1000, 2**70)
    return replace(proof, grid_bits=rng.choice(bits))


@mutation
def _more_chains(proof: Certificate, rng: Random) -> Certificate | None:
    chain = rng.choice(((0, 1), (1, 0), (0, 0), (0, 99), (-1, 0), (2, 1, 0), tuple(range(6)), ()))
    return replace(proof, chains=(*proof.chains, chain))


@mutation
def _turned_chains(proof: Certificate, rng: Random) -> Certificate | None:
    return replace(proof, chains=tuple(chain[::-1] for chain in proof.chains))


@mutation
def _more_types(proof: Certificate, rng: Random) -> Certificate | None:
    rows = rng.choice(((0, 1), (1, 0), (0, 1, 2), (1, 2), (0, 0), (0, 99), (-1, 0), (0,), ()))
    return replace(proof, types=(*proof.types, rows))


@mutation
def _fewer_types(proof: Certificate, rng: Random) -> Certificate | None:
    return replace(proof, types=proof.types[:-1])


@mutation
def _more_rounded_rows(proof: Certificate, rng: Random) -> Certificate | None:
    pair = (rng.choice((0, 1, 2, -1, 99)), rng.choice((1, 2, 5, 24, 25, 0, -1)))
    return replace(proof, rounded=(*proof.rounded, pair))


@mutation
def _other_rounded_rows(proof: Certificate, rng: Random) -> Certificate | None:
    return replace(proof, rounded=tuple((row, k + 1) for row, k in proof.rounded))


@mutation
def _other_family(proof: Certificate, rng: Random) -> Certificate | None:
    kinds = ("facility", "multiple_choice", "monotone", "other", "")
    return replace(proof, kind=rng.choice(kinds))


@mutation
def _one_corner_of_the_view(proof: Certificate, rng: Random) -> Certificate | None:
    return replace(proof, kind="monotone", tree=(("corner", 0, 0),))


@mutation
def _other_problem(proof: Certificate, rng: Random) -> Certificate | None:
    return replace(proof, problem_hash="0" * 64)


@mutation
def _claim_infeasible(proof: Certificate, rng: Random) -> Certificate | None:
    return replace(proof, claim=-math.inf if math.isfinite(proof.claim) else 0.0)


@mutation
def _other_claim(proof: Certificate, rng: Random) -> Certificate | None:
    if not math.isfinite(proof.claim):
        return None
    size = max(1.0, abs(proof.claim))
    steps = (-1e-9 * size, -1e-3 * size, -1.0, -0.5 * size, -size)
    below = math.nextafter(proof.claim, -math.inf)
    return replace(proof, claim=rng.choice((below, *(proof.claim + step for step in steps))))


@mutation
def _claim_no_number(proof: Certificate, rng: Random) -> Certificate | None:
    return replace(proof, claim=math.nan)


def _conflicting(proof: Certificate, **fields: Any) -> Certificate:
    conflict = proof.conflict or Conflict(())
    return replace(proof, conflict=replace(conflict, **fields))


@mutation
def _no_conflict(proof: Certificate, rng: Random) -> Certificate | None:
    return None if proof.conflict is None else replace(proof, conflict=None)


@mutation
def _fewer_rows_in_conflict(proof: Certificate, rng: Random) -> Certificate | None:
    if proof.conflict is None:
        return None
    rows, covers = proof.conflict.rows, proof.conflict.covers
    smaller = rng.choice((rows[1:], rows[:-1], ()))
    return _conflicting(
        proof, rows=smaller, covers=rng.choice((covers, covers[1:], ())), relaxations=()
    )


@mutation
def _other_rows_in_conflict(proof: Certificate, rng: Random) -> Certificate | None:
    rows = rng.choice(((0,), (1,), (2,), (0, 1), (0, 99), (-1,), (1, 2), (0, 0)))
    return _conflicting(proof, rows=rows, relaxations=())


@mutation
def _conflict_called_smallest(proof: Certificate, rng: Random) -> Certificate | None:
    return None if proof.conflict is None else _conflicting(proof, smallest=False)


def _relaxing(proof: Certificate, rng: Random, **fields: Any) -> Certificate | None:
    conflict = proof.conflict
    if conflict is None or not conflict.relaxations:
        return None
    k = rng.randrange(len(conflict.relaxations))
    changed = list(conflict.relaxations)
    changed[k] = replace(changed[k], **fields)
    return _conflicting(proof, relaxations=tuple(changed))


def _some_relaxation(proof: Certificate, rng: Random) -> Relaxation | None:
    found = proof.conflict.relaxations if proof.conflict else ()
    return rng.choice(found) if found else None


@mutation
def _other_relaxed_limit(proof: Certificate, rng: Random) -> Certificate | None:
    relaxation = _some_relaxation(proof, rng)
    if relaxation is None:
        return None
    limit = relaxation.limit
    size = max(1.0, abs(limit))
    limits = (limit + 1.0, limit + 1e-3 * size, limit - 1.0, limit - 1e-5 * size, 2 * limit, 0.0)
    return _relaxing(proof, rng, limit=rng.choice((*limits, math.inf, math.nan, -math.inf, 1e308)))


@mutation
def _other_relaxed_row(proof: Certificate, rng: Random) -> Certificate | None:
    return _relaxing(proof, rng, row=rng.choice((0, 1, 2, -1, 99)))


@mutation
def _other_witness(proof: Certificate, rng: Random) -> Certificate | None:
    relaxation = _some_relaxation(proof, rng)
    if relaxation is None:
        return None
    x = relaxation.x.copy()
    k = rng.randrange(len(x))
    flipped = x.copy()
    flipped[k] = 1 - flipped[k]
    return _relaxing(proof, rng, x=rng.choice((flipped, x[:-1], np.append(x, 0), x * 0, x - 1)))


@mutation
def _no_tree_of_a_relaxation(proof: Certificate, rng: Random) -> Certificate | None:
    return _relaxing(proof, rng, tree=rng.choice(((), (("corner", 0, 0),), (("budget", 0, 0),))))


def _neighbour(instance: Instance, rng: Random) -> Instance | None:
    """Return an instance with more to win: a larger value, or more of a budget."""
    if isinstance(instance, Facility | Choice):
        if instance.budgets and rng.random() < 0.5:
            budgets = list(instance.budgets)
            k = rng.randrange(len(budgets))
            budgets[k] += rng.choice((1.0, 1e-9, abs(budgets[k]), 1e-6))
            return replace(instance, budgets=budgets)
        values = [list(row) for row in instance.values]
        rows = [row for row in values if row]
        if rows:
            row = rng.choice(rows)
            k = rng.randrange(len(row))
            row[k] += rng.choice((1.0, abs(row[k]), 1e-9, 1e-3))
            return replace(instance, values=values)
    return None


def attack(seed: int, proven: Proven, tally: Tally) -> None:
    """Put the mutated certificates of one result to the checker, each kind at least once."""
    problem, instance, proof = proven.problem, proven.instance, proven.result.certificate
    assert proof is not None
    rng = Random(seed)
    target = _Target(seed, problem, instance, proof.digest, tally)
    for name, change in MUTATIONS.items():
        changed = change(proof, rng)
        if changed is None:
            continue
        target.put(f"{name}, own claim", changed)
        if not math.isnan(changed.claim):
            target.put(f"{name}, claim lowered", _lowered(changed, instance.best))
    neighbour = _neighbour(instance, rng)
    if neighbour is None or neighbour.overflows:
        return
    other = _Target(seed, neighbour.problem(), neighbour, proof.digest, tally)
    moved = replace(proof, problem_hash=other.problem.fingerprint)
    other.put("moved to a neighbour, own claim", moved)
    other.put("moved to a neighbour, claim lowered", _lowered(moved, neighbour.best))


def _lowered(proof: Certificate, best: float) -> Certificate | None:
    """Return the certificate with a claim just below the optimum, which is false."""
    if not math.isfinite(best):
        return None
    return replace(proof, claim=math.nextafter(best, -math.inf), conflict=None)


@dataclass(frozen=True)
class _Target:
    """What mutations of the certificate with this digest are put to."""

    seed: int
    problem: Any
    instance: Instance
    digest: str
    tally: Tally

    def put(self, label: str, changed: Certificate | None) -> None:
        """Let the checker judge a certificate; what it accepts must be true."""
        if changed is None:
            return
        try:
            stated = stated_by(changed.sealed())
        except (OverflowError, ValueError):
            return  # nothing that a file could hold
        if changed.content_digest() == self.digest:
            return  # nothing to change
        self.tally.counts["mutations"] += 1
        self.tally.counts[f"mutated: {label.partition(',')[0]}"] += 1
        with guarded(self.tally, self.seed, f"mutation ({label})"):
            if not mo.certify(self.problem, stated).ok:
                return
            self.tally.counts["mutations that stay true"] += 1
            for words in false_statements(self.instance, changed):
                self.tally.fault(self.seed, f"mutation ({label})", f"accepted, but {words}")


def stated_by(proof: Certificate) -> Result:
    """Return a result that states nothing but what the certificate claims."""
    status = Status.INFEASIBLE if proof.claim == -math.inf else Status.NO_SOLUTION
    return Result(status, None, None, -math.inf, proof.claim, proof)


def false_statements(instance: Instance, proof: Certificate) -> Iterator[str]:
    """Yield what a certificate says that is not so."""
    if not proof.claim >= instance.best:
        yield f"the claim {proof.claim!r} is below the optimum {instance.best!r}"
    conflict = proof.conflict
    if conflict is None:
        return
    if proof.claim != -math.inf:
        yield "a conflict without a claim of infeasibility"
    rows, covers = instance.sizes
    if not (set(conflict.rows) <= set(range(rows)) and set(conflict.covers) <= set(range(covers))):
        yield f"the rows {conflict.rows} and covers {conflict.covers} do not all exist"
    elif instance.without(conflict.rows, conflict.covers).best != -math.inf:
        yield f"the rows {conflict.rows} and covers {conflict.covers} do not clash"
    elif isinstance(instance, Facility | Choice):
        for relaxation in conflict.relaxations:
            yield from _false_relaxation(instance, relaxation)


def _false_relaxation(instance: Facility | Choice, relaxation: Relaxation) -> Iterator[str]:
    row, limit = relaxation.row, relaxation.limit
    if not 0 <= row < len(instance.budgets) or not math.isfinite(limit):
        yield f"relaxation of row {row} to {limit!r} means nothing"
        return
    if instance.with_budget(row, limit).best == -math.inf:
        yield f"row {row} relaxed to {limit!r} does not help"
    whole = all(a == int(a) and abs(a) <= 2.0**53 for a in instance.row(row))
    below = math.ceil(limit) - 1.0 if whole else limit - 1e-6 * max(1.0, abs(limit))
    if below < limit and instance.with_budget(row, below).best != -math.inf:
        yield f"row {row} need not be relaxed to {limit!r}: {below!r} is enough"
