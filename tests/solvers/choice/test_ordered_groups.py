"""A group whose options are times is halved, and what ends too late is ruled out with a proof."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import moe2opt as mo
from moe2opt.certify import _replay
from moe2opt.certify.exact import RejectedError


def drawn(seed: int, budget: float | None = None) -> mo.MultipleChoiceProblem:
    """Return a problem in which four groups end before a clock, and share one budget."""
    rng = np.random.default_rng(seed)
    ends = [np.sort(rng.choice(60, 9, replace=False)) for _ in range(4)]
    last = 59
    values = [-np.arange(60.0), *(np.zeros(9) for _ in ends)]
    usage = [np.zeros((60, 5)), *(np.zeros((9, 5)) for _ in ends)]
    usage[0][:, :4] = (last - np.arange(60))[:, None]
    for g, own in enumerate(ends):
        usage[g + 1][:, g] = own
        usage[g + 1][:, 4] = np.sort(rng.integers(1, 40, 9))[::-1]
    total = float(rng.integers(30, 90)) if budget is None else budget
    return mo.MultipleChoiceProblem(values, usage, [last] * 4 + [total])


@pytest.mark.parametrize("seed", range(20))
def test_clocks_stop_where_enumeration_says(seed: int) -> None:
    """The soonest end, or that there is none, is what all combinations say, and is proven."""
    problem = drawn(seed)
    tables = problem.usage[1:]
    best = max(
        (
            -max(table[o, g] for g, (table, o) in enumerate(zip(tables, picks, strict=True)))
            for picks in np.ndindex(9, 9, 9, 9)
            if sum(t[o, 4] for t, o in zip(tables, picks, strict=True)) <= problem.budgets[4]
        ),
        default=None,
    )
    result = mo.solve(problem, bound="counts")
    if best is None:
        assert result.status is mo.Status.INFEASIBLE
    else:
        assert result.objective == best
        assert result.bound == pytest.approx(best, abs=1e-9)
    verdict = mo.certify(problem, result)
    assert (verdict.ok, verdict.kind, verdict.failures) == (True, "checked", ())


def test_few_nodes_are_enough() -> None:
    """A clock of sixty times needs about as many nodes as halvings, not one node for each time."""
    for seed in range(20):
        assert mo.solve(drawn(seed), "brb", bound="counts", node_limit=25).limit is None


def test_made_up_exclusions_are_refused() -> None:
    """A proof that rules out an option which its row has room for is not accepted."""
    problem = drawn(3, budget=60.0)
    result = mo.solve(problem, "brb", bound="counts")
    certificate: Any = result.certificate
    places = [k for k, record in enumerate(certificate.tree) if record[0] == "out:farkas"]
    refused = 0
    for k in places:
        kind, axis, index = certificate.tree[k]
        sooner = (kind, axis - 1, index)  # the option that ends just before
        tree = (*certificate.tree[:k], sooner, *certificate.tree[k + 1 :])
        try:
            _replay(problem, dataclasses.replace(certificate, tree=tree).sealed())
        except RejectedError:
            refused += 1
    assert refused
