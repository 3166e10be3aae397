"""Certificates changed in every way that we could think of, and what a checker may say of them.

A mutated certificate gets a digest that fits, so only the proof itself can give it away. It is
put to the checker with its own claim, with a claim just below the true optimum, and as the proof
of a slightly different problem. Whatever the checker accepts must be true.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
from campaign.checking import Proven, Tally, examine, guarded
from campaign.instances import Choice, Facility, Instance
from mutations import MUTATIONS, stated

import moe2opt as mo
from moe2opt.result import LEAF_REASONS, Certificate, Conflict, Multipliers, Relaxation


def _reason(rng: Any) -> str:
    return str(rng.choice(list(LEAF_REASONS)))


def _close_what_is_open(proof: Certificate, rng: Any) -> Certificate:
    """Put a leaf in place of an inner node, dropping what was below."""
    tree = tuple(proof.tree)
    if not tree:
        return proof
    place = int(rng.integers(len(tree)))
    end, open_boxes = place, 1
    while open_boxes and end < len(tree):
        kind = tree[end][0]
        open_boxes += 1 if kind == "split" else 0 if ":" in kind else -1
        end += 1
    leaf = (_reason(rng), int(rng.integers(2)), 0)
    return replace(proof, tree=(*tree[:place], leaf, *tree[end:]))


def _insert(proof: Certificate, rng: Any, *records: Any) -> Certificate:
    place = int(rng.integers(len(proof.tree) + 1))
    return replace(proof, tree=(*proof.tree[:place], *records, *proof.tree[place:]))


def _reduce_at_will(proof: Certificate, rng: Any) -> Certificate:
    kind = f"{rng.choice(['in', 'out'])}:{_reason(rng)}"
    return _insert(proof, rng, (kind, int(rng.integers(6)), int(rng.integers(2))))


def _split_at_will(proof: Certificate, rng: Any) -> Certificate:
    split = ("split", int(rng.integers(-1, 6)), int(rng.integers(-1, 3)))
    return _insert(proof, rng, split, (_reason(rng), 0, 0))


def _scaled(proof: Certificate, rng: Any) -> Certificate:
    factor = float(rng.choice([0.5, 1.0 + 1e-12, 1e9, 1e300]))
    with np.errstate(over="ignore"):
        prices = [
            Multipliers(m.cluster * factor, m.row * factor, m.cover * factor)
            for m in proof.multipliers
        ]
    return replace(proof, multipliers=tuple(prices))


def _conflict(proof: Certificate, rng: Any) -> Certificate:
    """Name other rows and covers, with fewer relaxations or none."""
    rows = [(), (0,), (1,), (2,), (0, 1), (1, 2), (0, 0), (-1,)]
    covers: list[tuple[int, ...]] = [(), (0,), (0, 1), (-1,)]
    rows_named, covers_named = rows[rng.integers(len(rows))], covers[rng.integers(len(covers))]
    return replace(proof, conflict=Conflict(rows_named, covers_named))


def _relaxation(
    change: Callable[[Relaxation, Any], Relaxation],
) -> Callable[[Certificate, Any], Certificate]:
    def changed(proof: Certificate, rng: Any) -> Certificate:
        conflict = proof.conflict
        if conflict is None or not conflict.relaxations:
            return proof
        relaxations = tuple(change(relaxation, rng) for relaxation in conflict.relaxations)
        return replace(proof, conflict=replace(conflict, relaxations=relaxations))

    return changed


def _limit(relaxation: Relaxation, rng: Any) -> Relaxation:
    size = max(1.0, abs(relaxation.limit))
    step = float(rng.choice([1.0, -1.0, 1e-3 * size, 1e-5 * size, -1e-5 * size, -1e-9 * size]))
    return replace(relaxation, limit=relaxation.limit + step)


def _witness(relaxation: Relaxation, rng: Any) -> Relaxation:
    x = relaxation.x
    wrong = (x[:-1], x * 0, x - 1, x + 1, x[::-1])
    return replace(relaxation, x=wrong[rng.integers(len(wrong))])


def _one_leaf(relaxation: Relaxation, rng: Any) -> Relaxation:
    return replace(relaxation, tree=((_reason(rng), relaxation.row, 0),))


#: The common registry, and what only matters here.
ALL: dict[str, Callable[[Certificate, Any], Certificate]] = {
    **MUTATIONS,
    "one leaf at will": lambda c, rng: replace(c, tree=((_reason(rng), int(rng.integers(3)), 0),)),
    "close what is open": _close_what_is_open,
    "reduce at will": _reduce_at_will,
    "split at will": _split_at_will,
    "prices scaled": _scaled,
    "chains turned": lambda c, rng: replace(c, chains=tuple(chain[::-1] for chain in c.chains)),
    "corner of the view": lambda c, rng: replace(c, kind="monotone", tree=(("corner", 0, 0),)),
    "conflict at will": _conflict,
    "relaxation of a little more or less": _relaxation(_limit),
    "relaxation with a strange witness": _relaxation(_witness),
    "relaxation with one leaf": _relaxation(_one_leaf),
}


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


def chunk(seeds: range, every: int) -> Tally:
    """Examine the instances of some seeds, and attack the proofs of one in `every`, 0 for none."""
    tally = Tally()
    for seed in seeds:
        proven = examine(seed, tally)
        if every and seed // 4 % every == 0:
            for one in proven:
                attack(seed, one, tally)
    return tally


def attack(seed: int, proven: Proven, tally: Tally) -> None:
    """Put the mutated certificates of one result to the checker, each kind at least once."""
    problem, instance, proof = proven.problem, proven.instance, proven.result.certificate
    assert proof is not None
    rng = np.random.default_rng(seed)
    target = _Target(seed, problem, instance, proof.digest, tally)
    for name, change in ALL.items():
        changed = change(proof, rng)
        target.put(f"{name}, own claim", changed)
        if not math.isnan(changed.claim):
            target.put(f"{name}, claim lowered", _lowered(changed, instance.best))
    neighbour = _neighbour(instance, Random(seed))
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
            claim = stated(changed.sealed())
        except (OverflowError, ValueError):
            return  # nothing that a file could hold
        if changed.content_digest() == self.digest:
            return  # nothing to change
        self.tally.counts["mutations"] += 1
        self.tally.counts[f"mutated: {label.partition(',')[0]}"] += 1
        with guarded(self.tally, self.seed, f"mutation ({label})"):
            if not mo.certify(self.problem, claim).ok:
                return
            self.tally.counts["mutations that stay true"] += 1
            for words in false_statements(self.instance, changed):
                self.tally.fault(self.seed, f"mutation ({label})", f"accepted, but {words}")


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
    unit = min(math.ceil(limit) - 1.0, math.nextafter(limit, -math.inf))
    below = unit if whole else limit - 1e-6 * max(1.0, abs(limit))
    if instance.with_budget(row, below).best != -math.inf:
        yield f"row {row} need not be relaxed to {limit!r}: {below!r} is enough"
