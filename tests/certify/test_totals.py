"""Totals of kinds are split and priced like counts, and their proof is checked."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from strategies import brute_force

import moe2opt as mo
from moe2opt.canonical import rounded_net
from moe2opt.certify import _replay
from moe2opt.certify.exact import RejectedError

#: Bytes of an expert in three formats, and the loss of each.
FORMATS = ((5.16, 0.0), (3.325, 1.0), (2.816, 2.6))


def placed(seed: int, groups: int = 5) -> mo.MultipleChoiceProblem:
    """Return experts of few sizes on two devices, a dense part in the first, and a loss of each."""
    rng = np.random.default_rng(seed)
    values, usage = [], []
    for g in range(groups):
        dense, worth = (20.0 if g == 0 else 0.0), rng.uniform(1, 3)
        ways = [(device, size, loss) for device in (0, 1) for size, loss in FORMATS]
        values.append(np.array([-worth * size * (1 + 4 * device) for device, size, _ in ways]))
        rows = np.zeros((len(ways), 3))
        for o, (device, size, loss) in enumerate(ways):
            rows[o, device] = size
            rows[o, 0] += dense
            rows[o, 2] = loss * rng.uniform(0.9, 1.1)
        usage.append(rows)
    budgets = groups * np.array([rng.uniform(1.6, 2.4), rng.uniform(2, 3), rng.uniform(1.2, 1.6)])
    budgets[0] += 20.0
    return mo.MultipleChoiceProblem(values, usage, budgets)


@pytest.mark.parametrize("seed", range(12))
def test_totals_decide_what_enumeration_does(seed: int) -> None:
    """With totals of kinds the optimum is that of enumeration, and its proof is accepted."""
    problem = placed(seed)
    result = mo.solve(problem, "brb", bound="counts")
    best = brute_force(problem)
    assert result.objective == best
    assert result.bound == pytest.approx(best, rel=1e-9)
    verdict = mo.certify(problem, result)
    assert (verdict.ok, verdict.kind, verdict.failures) == (True, "checked", ())


def a_proof() -> tuple[mo.MultipleChoiceProblem, Any]:
    """Return a problem and a certificate in which a total is split."""
    for seed in range(6):
        problem = placed(seed, groups=12)
        result = mo.solve(problem, "brb", bound="counts", rel_gap=1e-4, node_limit=50)
        certificate: Any = result.certificate
        if any(r[0] == "split" and r[1] >= 72 for r in certificate.tree):
            return problem, certificate
    raise AssertionError("no proof splits a total")


def test_forged_totals_are_refused() -> None:
    """Totals that name an option twice or none that exists, and splits of none, prove nothing."""
    problem, certificate = a_proof()
    assert certificate.totals
    _replay(problem, certificate)
    for axes in ((0, 0), (99,), (-1,), ()):
        forged = dataclasses.replace(certificate, totals=(axes, *certificate.totals[1:])).sealed()
        with pytest.raises(RejectedError, match="total 0 names an option"):
            _replay(problem, forged)
    for k, (kind, axis, cut) in enumerate(certificate.tree):
        if kind == "split" and axis >= 72:
            for change in ((kind, axis, -2), (kind, axis, 12), (kind, axis + 99, cut)):
                tree = (*certificate.tree[:k], change, *certificate.tree[k + 1 :])
                with pytest.raises(RejectedError, match=r"total|option"):
                    _replay(problem, dataclasses.replace(certificate, tree=tree).sealed())


def test_a_claim_below_the_optimum_is_refused() -> None:
    """The tree of totals does not prove a bound that the best solution exceeds."""
    problem, certificate = a_proof()
    best = mo.solve(problem, "brb", bound="counts", rel_gap=1e-4, node_limit=50).objective
    forged = dataclasses.replace(certificate, claim=best - 1e-6 * abs(best)).sealed()
    with pytest.raises(RejectedError):
        _replay(problem, forged)


def test_totals_survive_a_file(tmp_path: Any) -> None:
    """A certificate with totals is read as it was written; one without has no such key."""
    _, certificate = a_proof()
    certificate.save(tmp_path / "c.json")
    assert type(certificate).load(tmp_path / "c.json").totals == certificate.totals
    assert "totals" not in dataclasses.replace(certificate, totals=()).to_dict()


def test_net_rows_hold_for_all_that_fits() -> None:
    """A rounded row of what is used beyond the least excludes no combination within the budget."""
    rng = np.random.default_rng(5)
    starts, sizes = np.array([0, 3, 6]), np.array([2, 3])
    for _ in range(40):
        costs = rng.choice([0.0, 0.3, 0.7, 1.1], 6) + np.repeat([2.0, 0.5], 3)
        limit = float(np.minimum.reduceat(costs, starts[:-1]) @ sizes + rng.uniform(0.2, 3.5))
        own, most = rounded_net(costs, starts, sizes, limit, int(rng.integers(1, 9)))
        for first in np.ndindex(3, 3):
            for second in np.ndindex(3, 3, 3):
                taken = [*first, *(3 + o for o in second)]
                if costs[taken].sum() <= limit:
                    assert own[taken].sum() <= most


@pytest.mark.parametrize("scenario", ["strict", "small_gpu"])
def test_mixtral_closes(scenario: str) -> None:
    """Uniform experts in formats on two tiers are proven within 1e-4 by few nodes."""
    instance = mo.load("mixtral_8x7b_4090", scenario=scenario)
    result = mo.solve(instance, node_limit=2300)
    assert result.status is mo.Status.OPTIMAL
    assert mo.certify(instance, result).kind == "checked"
