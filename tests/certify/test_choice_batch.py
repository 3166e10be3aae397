"""The checker of multiple-choice proofs decides many steps at once, as if one by one."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

import moe2opt as mo
from moe2opt.archive import Records
from moe2opt.certify import _followed, _grouped
from moe2opt.certify.batch import BatchedReplay, _View
from moe2opt.certify.choice import ChoiceProof
from moe2opt.certify.exact import RejectedError
from moe2opt.result import Certificate, Multipliers, PriceTable
from moe2opt.solvers.choice import tree as choice_tree


def a_problem(seed: int, integral: bool) -> mo.MultipleChoiceProblem:
    """Return a problem whose proof has some hundreds of records."""
    rng = np.random.default_rng(seed)
    values = [rng.integers(0, 60, 5).astype(float) for _ in range(14)]
    usage = [rng.integers(1, 40, (5, 3)).astype(float) for _ in range(14)]
    scale = 1.0 if integral else 7.0
    budgets = 0.45 * sum(u.max(axis=0) for u in usage)
    return mo.MultipleChoiceProblem([v / scale for v in values], usage, np.floor(budgets))


def one_by_one(problem: mo.MultipleChoiceProblem, certificate: Certificate) -> bool:
    """Tell whether a walk that decides every step alone accepts the tree."""
    proof = ChoiceProof(problem, certificate)
    pending: list[Any] = [proof.root()]
    try:
        for kind, axes, index in _grouped(certificate.tree):
            if not pending:
                return False
            pending += _followed(proof, pending.pop(), kind, axes, index)
    except (RejectedError, IndexError, ValueError, OverflowError):
        return False
    return not pending


def together(problem: mo.MultipleChoiceProblem, certificate: Certificate) -> bool:
    """Tell whether the checker accepts the tree."""
    try:
        BatchedReplay(ChoiceProof(problem, certificate)).replay()
    except RejectedError:
        return False
    return True


def mutated(certificate: Certificate, rng: np.random.Generator) -> Certificate:
    """Return the certificate with one record, one price or the claim changed."""
    tree, change = list(certificate.tree), rng.integers(7)
    k = int(rng.integers(len(tree)))
    kind, first, last = tree[k]
    if change == 0:
        tree[k] = (kind, first + int(rng.integers(-3, 4)), last)
    elif change == 1:
        tree[k] = (kind, first, last + int(rng.integers(-2, 3)))
    elif change == 2:
        names = ["dual", "budget", "group", "corner", "farkas", "split", "out:dual", "in:dual"]
        tree[k] = (str(rng.choice(names)), first, last)
    elif change == 3:
        del tree[k]
    elif change == 4:
        tree.insert(k, tree[int(rng.integers(len(tree)))])
    elif change == 5:
        step = float(rng.choice([1e-9, 1e-3, 1.0]))
        return dataclasses.replace(certificate, claim=certificate.claim - step)
    else:
        rows = np.array([m.row for m in certificate.multipliers])
        rows[rng.integers(len(rows)), rng.integers(rows.shape[1])] += rng.choice(
            [-9.0, -0.1, 0.3, math.nan, math.inf]
        )
        return dataclasses.replace(certificate, multipliers=PriceTable(rows))
    return dataclasses.replace(certificate, tree=tuple(tree))


@pytest.mark.parametrize("integral", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_both_walks_agree_on_changed_proofs(seed: int, integral: bool) -> None:
    """A changed proof is accepted by the checker exactly when a walk step by step accepts it."""
    problem, rng = a_problem(seed, integral), np.random.default_rng(seed)
    certificate = mo.solve(problem, "brb", bound="core").certificate
    assert certificate is not None
    assert len(certificate.tree) > 50
    assert together(problem, certificate)
    verdicts = []
    for _ in range(120):
        changed = mutated(certificate, rng)
        verdicts.append(together(problem, changed))
        assert verdicts[-1] == one_by_one(problem, changed)
    assert not all(verdicts)


def test_proofs_of_other_relaxations_are_walked_too() -> None:
    """Trees of the relaxation with an LP per node, which split otherwise, are accepted."""
    for seed in range(3):
        problem = a_problem(seed, integral=True)
        certificate = mo.solve(problem, "brb", bound="lagrangian").certificate
        assert certificate is not None
        assert together(problem, certificate)


def test_large_trees_stay_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large tree is kept as arrays, reads like tuples, and has the same digest."""
    problem = a_problem(0, integral=True)
    plain = mo.solve(problem, "brb", bound="core").certificate
    monkeypatch.setattr(choice_tree, "MOST_TUPLES", 10)
    arrays = mo.solve(problem, "brb", bound="core").certificate
    assert plain is not None
    assert arrays is not None
    assert isinstance(plain.tree, tuple)
    assert isinstance(arrays.tree, Records)
    assert arrays.tree == plain.tree
    assert arrays.leaves == plain.leaves
    assert arrays.to_dict() == plain.to_dict()
    again = Certificate.from_dict(arrays.to_dict())
    assert again.content_digest() == arrays.digest


def test_the_digest_covers_packed_proofs() -> None:
    """Changing one number of a packed tree or of packed prices makes the digest wrong."""
    rows = np.array([[0, 3, 0], [1, 0, 0], [1, 0, 0]], dtype=np.int32)
    prices = np.array([[0.5, 1.5]])
    proof = Certificate(
        "multiple_choice", 4.0, Records(("split", "dual"), rows), PriceTable(prices)
    ).sealed()
    for place in np.ndindex(rows.shape):
        other = rows.copy()
        other[place] = 1 - min(other[place], 1)
        changed = dataclasses.replace(proof, tree=Records(("split", "dual"), other))
        assert changed.content_digest() != proof.digest
    for place in np.ndindex(prices.shape):
        altered = prices.copy()
        altered[place] += 2.0**-40
        changed = dataclasses.replace(proof, multipliers=PriceTable(altered))
        assert changed.content_digest() != proof.digest


def test_the_digest_does_not_depend_on_how_kinds_are_numbered() -> None:
    """Unused names and another order of the kinds change nothing, as they say nothing."""
    one = Records(("dual", "split"), np.array([[1, 3, 0], [0, 0, 0], [0, 0, 0]]))
    other = Records(("split", "open", "dual"), np.array([[0, 3, 0], [2, 0, 0], [2, 0, 0]]))
    plain = (("split", 3, 0), ("dual", 0, 0), ("dual", 0, 0))
    price = (Multipliers(np.zeros(0), np.ones(1), np.zeros(0)),)
    digests = {
        Certificate("multiple_choice", 1.0, tree, price).content_digest()
        for tree in (one, other, plain)
    }
    assert len(digests) == 1


def test_fields_of_more_than_64_bits_are_refused() -> None:
    """A record with an enormous field is no certificate, and no traceback either."""
    problem = a_problem(0, integral=True)
    result = mo.solve(problem, "brb", bound="core")
    assert result.certificate is not None
    tree = (("dual", 2**70, 0),)
    forged = dataclasses.replace(result.certificate, tree=tree).sealed()
    assert not mo.certify(problem, dataclasses.replace(result, certificate=forged)).ok
    with pytest.raises(mo.InputError, match="64 bits"):
        Certificate.from_dict({**forged.to_dict(), "tree": [["dual", 2**70, 0]]})


def test_options_of_closed_groups_may_be_named() -> None:
    """A split on the only option of a group is legal: one side is empty."""
    problem = mo.MultipleChoiceProblem([[1.0], [0.0, 2.0]], [[[1.0]], [[0.0], [1.0]]], [1.0])
    tree = (("split", 0, 0), ("group", 0, 0), ("split", 2, 0), ("corner", 0, 0), ("budget", 0, 0))
    proof = Certificate("multiple_choice", 1.0, tree, problem_hash=problem.fingerprint).sealed()
    assert one_by_one(problem, proof)
    assert together(problem, proof)


@pytest.mark.parametrize("sizes", [[2] * 7, [1] * 3, [3, 1, 4], [2, 3, 2], [33, 2], [32] * 2])
def test_the_best_of_each_group(sizes: list[int]) -> None:
    """Options compared slice by slice, or group by group, give what each group gives by itself."""
    rng = np.random.default_rng(len(sizes))
    values = [rng.normal(size=size) for size in sizes]
    problem = mo.MultipleChoiceProblem(values, [np.zeros((n, 1)) for n in sizes], [1.0])
    proof = ChoiceProof(problem, Certificate("multiple_choice", 1.0, ()))
    view = _View(proof, proof.root(), every_group=True)
    best = view.best(np.tile(problem.flat_values[view.options], (2, 1)))
    assert best[:, view.rank].tolist() == [[v.max() for v in values]] * 2
