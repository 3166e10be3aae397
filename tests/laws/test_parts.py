"""Laws about problems made of parts: all exact solvers agree, and every proof is accepted."""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any

from drawn_parts import made_of_parts, with_equal_variables
from laws.drawing import examples, for_all
from solving import handles, run, same, slack
from strategies import all_points, brute_force

from moe2opt.canonical import choice_view
from moe2opt.certify import certify
from moe2opt.result import Status

#: ``MOE2OPT_PARTS=5000 pytest tests/laws/test_parts.py -m slow`` draws so many.
DRAWS = int(os.environ.get("MOE2OPT_PARTS", "400"))

SOLVERS = (("brb", "auto"), ("brb", None), ("polyblock", "auto"), ("enumerate", "auto"))


@examples(quick=12, slow=DRAWS)
def test_every_engine_finds_the_optimum_of_parts(count: int, shard: int) -> None:
    """Engines agree with brute force; proofs are accepted, and refused of less than the optimum."""
    for_all(made_of_parts(), count, shard, _engines_agree)


@examples(quick=12, slow=DRAWS)
def test_order_among_equal_variables_loses_no_optimum(count: int, shard: int) -> None:
    """The same where variables are interchangeable, which trees then take in order."""
    for_all(with_equal_variables(), count, shard, _engines_agree)


def _engines_agree(problem: Any) -> None:
    best = brute_force(problem)
    for solver, bound in SOLVERS:
        if not handles(solver, problem):
            continue
        plain = "corner" if problem.mixed_objective is None else "mixed"
        result = run(problem, solver, bound=bound or plain)
        _is_optimal(problem, result, best, solver)
        if result.certificate is None:
            continue
        verdict = certify(problem, result)
        assert verdict.ok, (solver, bound, verdict.failures)
        assert verdict.kind == "checked"
        if math.isfinite(best):
            _refuses_less(problem, result, best)


def _is_optimal(problem: Any, result: Any, best: float, solver: str) -> None:
    if best == -math.inf:
        assert result.status is Status.INFEASIBLE
        return
    assert result.status is Status.OPTIMAL
    assert problem.is_feasible(result.x)
    assert same(problem, result.objective, best, solver), (solver, result.objective, best)
    assert result.bound >= best - slack(problem, best, solver)


def _refuses_less(problem: Any, result: Any, best: float) -> None:
    """Assert that the same tree proves nothing below the optimum."""
    less = best - 1e-6 * max(1.0, abs(best))
    proof = dataclasses.replace(result.certificate, claim=less).sealed()
    stated = dataclasses.replace(result, bound=less, certificate=proof)
    assert not certify(problem, stated).ok


@examples(quick=30, slow=DRAWS)
def test_views_never_promise_too_little(count: int, shard: int) -> None:
    """What a choice view is worth at a feasible point is never below what the point is worth."""

    def law(problem: Any) -> None:
        view = choice_view(problem)
        if view is None:
            return
        for x in all_points(view.problem):
            point = view.point(x)
            value = problem.evaluate(point)
            if problem.is_feasible(point):
                assert view.problem.is_feasible(x)
            worth = view.problem.evaluate(x)
            assert worth > view.scale.within(math.nextafter(value, -math.inf))
            assert view.scale.within(view.scale.above(worth)) >= worth

    for_all(made_of_parts(), count, shard, law)
