"""Proofs about problems of parts: rounding in views and bounds excludes nothing."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from mutations import stated

import moe2opt as mo
from moe2opt.canonical import choice_view
from moe2opt.result import Status

FACTORS = 2000


def test_a_sum_that_rounds_to_its_limit_is_not_excluded() -> None:
    """What meets a large limit only after rounding stays, though differences are small."""
    least = 1e9 - 1.0  # the limit with its slack
    total = mo.parts.total([[least, least + 2.0], [-5e-8, 1.0]])
    nothing = (mo.parts.linear([1, 1]), 0)
    problem = mo.MonotoneProblem.from_parts(
        [0, 0], [1, 1], mo.parts.linear([1, 1]), at_most=[nothing], at_least=[(total, 1e9)]
    )
    assert problem.is_feasible([0, 0])
    result = mo.solve(problem)
    assert result.status is Status.OPTIMAL
    assert mo.certify(problem, result).ok


def factors_that_round_up() -> list[float]:
    """Return factors just below whole logarithms in units of 2**-44, each product rounded up."""
    rng, found, product = random.Random(1), [1.0 + 2.0**-20], 1.0 + 2.0**-20
    with localcontext() as context:
        context.prec = 45
        while len(found) < FACTORS:
            exact = (Decimal(rng.randrange(2**20, 2**30)) / 2**44).exp()
            factor = float(exact)
            if not 0 < (exact - Decimal(factor)) * 2**44 < Decimal("6e-4"):
                continue
            error = Fraction(product * factor) - Fraction(product) * Fraction(factor)
            if error > Fraction(math.ulp(product)) / 5:
                found.append(factor)
                product *= factor
    return found


def test_no_claim_below_a_product_of_many_factors_is_proven() -> None:
    """Roundings of thousands of multiplications add up, and no view forgets that."""
    factors = factors_that_round_up()
    problem = mo.MonotoneProblem.from_parts(
        [0] * FACTORS, [1] * FACTORS, mo.parts.product([[1.0, f] for f in factors])
    )
    view = choice_view(problem)
    assert view is not None
    best = sum(float(values.max()) for values in view.problem.values)
    optimum = problem.evaluate([1] * FACTORS)
    assert view.scale.within(math.nextafter(optimum, 0.0)) < best


def test_a_conflict_names_the_covers_of_its_proof() -> None:
    """A conflict that hides a limit from below is refused: without it there is none."""
    part = mo.parts.linear([1, 1])
    problem = mo.MonotoneProblem.from_parts(
        [0, 0], [5, 5], part, at_most=[(part, 3)], at_least=[(part, 5)]
    )
    result = mo.solve(problem)
    assert mo.certify(problem, result).ok
    proof = result.certificate
    assert proof is not None
    assert proof.conflict is not None
    hidden = replace(proof, conflict=replace(proof.conflict, covers=())).sealed()
    assert not mo.certify(problem, replace(result, certificate=hidden)).ok


def test_a_table_of_whole_numbers_is_asked_for_no_others() -> None:
    """A composed function that only whole numbers have bounds no more than it says of them."""
    squares = {float(k): float(k * k) for k in range(257)}
    table = mo.parts.composed(
        lambda values: np.array([squares.get(v, 0.0) for v in values]), mo.parts.linear([1, 1])
    )
    within = [(mo.parts.linear([3, 2]), 400), (table, 20_000)]
    problem = mo.MonotoneProblem.from_parts([0, 0], [128, 128], table, at_most=within)
    view = choice_view(problem)
    assert view is not None
    assert view.scale.within(10_000.0) == 100
    assert view.scale.within(9_999.0) == 99
    result = mo.solve(problem)
    assert result.objective == 141**2
    assert mo.certify(problem, result).kind == "checked"
    stopped = mo.solve(problem, node_limit=1)
    assert stopped.bound >= 141**2
    assert mo.certify(problem, stopped).ok


@pytest.mark.parametrize("chance", [0.05, 0.15, 0.3, 0.55])
def test_gains_of_coverage_bound_it_in_its_rounded_values(chance: float) -> None:
    """What many targets add up to in floating point is not beyond the gains one by one."""
    n = 60
    problem = mo.MonotoneProblem.from_parts([0] * n, [1] * n, mo.parts.coverage(np.eye(n) * chance))
    top = problem.evaluate([1] * n)
    assert top <= problem.marginal_bound(problem.lower, problem.upper) <= top + 1e-9


def priced_knapsack() -> tuple[mo.MonotoneProblem, mo.Result]:
    """Return a small quadratic knapsack and its result."""
    rng = np.random.default_rng(3)
    pairs = np.triu(rng.integers(1, 30, (10, 10)) * (rng.random((10, 10)) < 0.5))
    weights = rng.integers(1, 20, 10)
    rows = [(mo.parts.linear(weights), int(weights.sum() // 3))]
    problem = mo.MonotoneProblem.from_parts(
        [0] * 10, [1] * 10, mo.parts.quadratic(pairs), at_most=rows
    )
    return problem, mo.solve(problem)


def with_prices(result: mo.Result, change: Any) -> mo.Result:
    """Return the result with all multipliers of its proof changed."""
    proof = result.certificate
    assert proof is not None
    changed = tuple(change(m) for m in proof.multipliers)
    return replace(result, certificate=replace(proof, multipliers=changed).sealed())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: replace(m, row=-1 - m.row), "a price is negative"),
        (lambda m: replace(m, row=m.row[:0]), "one price per row"),
        (lambda m: replace(m, cluster=m.cluster[1:]), "as many as terms have"),
        (lambda m: replace(m, cluster=m.cluster * np.nan), "finite numbers"),
        (lambda m: replace(m, cluster=-m.cluster), "a price is negative"),
        (lambda m: replace(m, row=m.row * 0), "does not hold in its box"),
        (lambda m: replace(m, cover=np.ones(1)), "cover 0 does not exist"),
    ],
)
def test_changed_prices_prove_nothing(change: Any, message: str) -> None:
    """A proof whose prices are none, or other ones, is refused and says why."""
    problem, result = priced_knapsack()
    assert mo.certify(problem, result).ok
    verdict = mo.certify(problem, with_prices(result, change))
    assert not verdict.ok
    assert message in verdict.failures[0]


def test_prices_prove_no_less_than_the_optimum() -> None:
    """The same tree is refused for a claim of one less, and for infeasibility."""
    problem, result = priced_knapsack()
    proof = result.certificate
    assert proof is not None
    assert any(record[0] == "dual" for record in proof.tree)
    for claim in (result.objective - 1, -math.inf):
        assert not mo.certify(problem, stated(replace(proof, claim=claim).sealed())).ok
    assert mo.certify(problem, stated(proof)).ok


def test_prices_need_declared_parts() -> None:
    """A reason of prices is refused of a problem of which only oracles are known."""
    problem, result = priced_knapsack()
    plain = mo.MonotoneProblem(
        problem.lower, problem.upper, problem.objective, problem.constraints, integral=True
    )
    proof = replace(result.certificate, problem_hash=plain.fingerprint).sealed()
    verdict = mo.certify(plain, replace(result, certificate=proof))
    assert not verdict.ok
    assert "no parts have planes" in verdict.failures[0]
