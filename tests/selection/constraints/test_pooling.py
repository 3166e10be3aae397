"""Pooled log-probabilities: what they are, their bound, their table, optima by enumeration."""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import moe2opt as mo
from moe2opt.result import InputError
from moe2opt.selection.constraints.pooling import UNITS, LogPool
from moe2opt.selection.constraints.together import ensemble_of
from moe2opt.selection.evaluation import realised
from moe2opt.selection.question import GatedInstance

from ..budgets import sets_of
from .test_voting import drawn

LETTERS = ("A", "B", "C")


def pooled(
    tmp_path: Path, seed: int, *, prompts: int = 60, gaps: bool = True, **keys: Any
) -> GatedInstance:
    """Return an instance over drawn log-probabilities of a few LLMs on two servers; A is right."""
    drawn(tmp_path, seed, answers=True, prompts=prompts)
    folder = tmp_path / f"letters{seed}"
    rng = np.random.default_rng(seed)
    correct = pd.read_csv(folder / "correct.csv")
    if not gaps:
        correct = correct.fillna(0.0)
        correct.to_csv(folder / "correct.csv", index=False)
    long = correct.melt("id", var_name="model", value_name="score").dropna()
    raw = rng.normal(size=(len(long), 3)) + np.array([0.6, 0.0, 0.0])
    logs = raw - np.log(np.exp(raw).sum(axis=1, keepdims=True))
    long[list(LETTERS)] = logs
    long.drop(columns="score").to_csv(folder / "log_probabilities.csv", index=False)
    table = pd.read_csv(folder / "prompts.csv")
    table.assign(answer="A").to_csv(folder / "prompts.csv", index=False)
    config = json.loads((tmp_path / "vote.yaml").read_text())
    config["vote"] = {"pool": "log_probabilities"}
    config["precisions"] = [{"name": "int8", "quality_factor": 1}]
    (tmp_path / "vote.yaml").write_text(json.dumps(config | keys))
    instance = mo.load(tmp_path / "vote.yaml", allow_outside=True)
    assert isinstance(instance, GatedInstance)
    return instance


def by_definition(instance: GatedInstance, seed_folder: Path, x: np.ndarray) -> float:
    """Return the share of selection prompts whose largest geometric mean is the right answer."""
    logs = pd.read_csv(seed_folder / "log_probabilities.csv").set_index(["id", "model"])
    llms = sorted({instance.experts[n].llm for n in np.flatnonzero(x)})
    won = 0.0
    for p in instance.members():
        name = instance.outcomes.prompts[p]
        rows = [logs.loc[(name, llm)].to_numpy() for llm in llms if (name, llm) in logs.index]
        if rows:
            won += float(np.exp(np.mean(rows, axis=0)).argmax() == 0)
    return won / len(instance.members())


def best_by_enumeration(instance: GatedInstance, folder: Path) -> float:
    """Return the best pool of a set that keeps the budgets; -inf without one."""
    found, known = -math.inf, {}
    for x in sets_of(instance):
        names = tuple(sorted(e.llm for e, k in zip(instance.experts, x, strict=True) if k))
        if instance.compiled.is_feasible(x) and len(set(names)) == len(names):
            known.setdefault(names, by_definition(instance, folder, x))
            found = max(found, known[names])
    return found


@pytest.mark.parametrize("seed", range(4))
def test_the_plan_is_the_best_of_all_sets(tmp_path: Path, seed: int) -> None:
    """The certified plan of 8 experts has the value that enumeration of the definition finds."""
    instance = pooled(tmp_path, seed, prompts=40)
    assert len(instance.experts) == 8
    result = mo.solve(instance, solver="brb")
    verdict = mo.certify(instance, result)
    assert (verdict.ok, verdict.kind) == (True, "checked"), verdict.failures
    best = best_by_enumeration(instance, tmp_path / f"letters{seed}")
    assert result.status == "OPTIMAL"
    assert math.isclose(result.objective, best, abs_tol=1e-12)
    assert instance.check(result.plan) == []
    assert math.isclose(instance.evaluate(result.plan), best, abs_tol=1e-12)
    assert "pooled log-probabilities" in result.plan.summary()


@settings(max_examples=60)
@given(
    margins=st.lists(st.integers(-2, 2), min_size=24, max_size=24),
    against=st.lists(st.booleans(), min_size=8, max_size=8),
    ran=st.lists(st.sampled_from([True, True, True, False]), min_size=12, max_size=12),
)
def test_the_bound_holds_in_every_box_and_ties_go_by_lot(
    margins: list[int], against: list[bool], ran: list[bool]
) -> None:
    """No box of four experts of three LLMs has a set above its bound, ties and gaps included."""
    took, wrong = np.array(ran).reshape(3, 4), np.array(against).reshape(4, 2)
    wrong[:, 0] = True
    table = np.array(margins).reshape(3, 4, 2) * took[:, :, None] * wrong
    own = LogPool(
        np.array([0, 1, 2, 0]), np.ones(4), np.array([0.4, 0.3, 0.2, 0.1]), table, wrong, took
    )
    points = np.array(list(product((0, 1), repeat=4)))
    values = own(points, points)
    for x, value in zip(points, values, strict=True):
        llms = sorted({(0, 1, 2, 0)[n] for n in np.flatnonzero(x)})
        by_hand = 0.0
        for p in range(4):
            sums = [sum(int(table[m, p, a]) for m in llms) for a in range(2) if wrong[p, a]]
            if any(took[m, p] for m in llms) and min(sums) >= 0:
                by_hand += own.weights[p] / (1 + sums.count(0))
        assert math.isclose(value, by_hand, abs_tol=1e-12)
    for x, y in product(range(16), repeat=2):
        if (points[y] <= points[x]).all():
            between = ((points >= points[y]) & (points <= points[x])).all(axis=1)
            assert own(points[[x]], points[[y]])[0] >= values[between].max() - 1e-15


def test_a_pool_can_know_what_none_of_its_experts_knows(tmp_path: Path) -> None:
    """Two LLMs that are wrong in different ways are right together, and no ceiling denies it."""
    logs = np.log([[0.4, 0.5, 0.1], [0.4, 0.1, 0.5]])
    instance = pooled(tmp_path, 0)
    folder = tmp_path / "letters0"
    table = pd.read_csv(folder / "log_probabilities.csv")
    for k in range(4):
        table.loc[table.model == f"llm{k}", list(LETTERS)] = logs[k % 2]
    table.to_csv(folder / "log_probabilities.csv", index=False)
    instance = mo.load(tmp_path / "vote.yaml", allow_outside=True)
    assert isinstance(instance, GatedInstance)
    own = ensemble_of(instance, instance.members())
    assert all(own.value(np.array([n])) == 0 for n in range(8))
    result = mo.solve(instance)
    assert result.objective > 0.8
    assert mo.certify(instance, result).ok
    assert len({e.llm for e in result.plan.experts}) >= 2


def test_weights_go_by_accuracy(tmp_path: Path) -> None:
    """With `accuracy` each LLM's margins are its votes times those that are given."""
    plain = pooled(tmp_path, 1)
    key = {"vote.weights": "accuracy"}
    weighted = mo.load(tmp_path / "vote.yaml", overrides=key, allow_outside=True)
    assert isinstance(weighted, GatedInstance)
    one, other = (ensemble_of(i, i.members()) for i in (plain, weighted))
    assert isinstance(one, LogPool)
    assert isinstance(other, LogPool)
    known = one.margins != 0
    votes = other.margins[known] / one.margins[known]
    assert votes.max() > votes.min() >= 1
    assert plain.compiled.problem.fingerprint != weighted.compiled.problem.fingerprint


def test_evaluate_puts_single_llms_and_votes_beside(tmp_path: Path) -> None:
    """The plan's test accuracy is that of its pool; single LLM and both votes have rows."""
    instance = pooled(tmp_path, 2, gaps=False)
    found = realised.evaluate_on_test(instance, mo.solve, replicates=20)
    rows = {row.policy: row for row in found.rows}
    plan = mo.solve(instance).plan
    assert math.isclose(rows["moe2"].accuracy.mean, plan.test_accuracy, abs_tol=1e-12)
    assert {"best single LLM", "majority vote", realised.BEST_VOTE} <= set(rows)
    own = ensemble_of(instance, instance.split.members("test"))
    labels = {(e.llm, e.precision, e.server) for e in plan.experts}
    own_labels = [(e.llm, e.precision, e.server) for e in instance.experts]
    chosen = [n for n, label in enumerate(own_labels) if label in labels]
    assert math.isclose(own.value(np.array(chosen)), plan.test_accuracy, abs_tol=1e-12)


def test_margins_are_whole_millionths(tmp_path: Path) -> None:
    """What the pool adds are the table's differences, rounded to one unit."""
    instance = pooled(tmp_path, 3)
    logs = pd.read_csv(tmp_path / "letters3" / "log_probabilities.csv").set_index(["id", "model"])
    own = ensemble_of(instance, instance.members())
    assert isinstance(own, LogPool)
    p = instance.members()[0]
    for m, name in enumerate(instance.pool.names):
        key = (instance.outcomes.prompts[p], name)
        if key in logs.index:
            wanted = logs.loc[key, "A"] - logs.loc[key, "B"]
            assert own.margins[m, 0, 1] == round(wanted * UNITS)


def at(row: int, **cells: Any) -> Any:
    """Return what puts other cells into a row of a table."""

    def changed(table: pd.DataFrame) -> pd.DataFrame:
        table = table.astype(object)
        for column, cell in cells.items():
            table.loc[row, column] = cell
        return table

    return changed


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (at(3, A=0.5), "row 4 .*column 'A': 0.5 is not a"),
        (at(1, B=-np.inf), "row 2 .*-inf is not a log-prob"),
        (at(0, C="low"), "row 1 .*'low' is not"),
        (at(0, B=np.nan), "LLM 'llm0': no log-probability of 'B'"),
        (at(0, A=np.nan), "LLM 'llm0': no log-probability of 'A'"),
        (at(2, A=-0.01, B=-0.1), "row 3 .*add up to"),
        (at(2, model="llm4"), "'llm4' is not in the scores"),
        (lambda t: t.drop(index=5), "a score, but no row"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "LLM 'llm0' appear twice"),
        (lambda t: t.rename(columns={"model": "modle"}), "missing; did you mean 'modle'"),
        (lambda t: t.drop(columns=["B", "C"]), "two or more answers"),
        (lambda t: t.rename(columns={"A": "D"}), "'A' is no column of log_probabilities"),
    ],
)  # fmt: skip
def test_faults_of_the_table_are_told(tmp_path: Path, fault: Any, message: str) -> None:
    """Each fault of the table names row, prompt, LLM or column."""
    pooled(tmp_path, 0, prompts=20)
    path = tmp_path / "letters0" / "log_probabilities.csv"
    fault(pd.read_csv(path)).to_csv(path, index=False)
    with pytest.raises(InputError, match=message):
        mo.load(tmp_path / "vote.yaml", allow_outside=True)


def test_what_pools_need_is_told(tmp_path: Path) -> None:
    """A precision that loses answers, a folder without the table and `answer` are refused."""
    pooled(tmp_path, 0, prompts=20)
    lossy = {"precisions.0.quality_factor": 0.99}
    with pytest.raises(InputError, match=r"precision 'int8' of 'llm0' keeps the share 0\.99"):
        mo.load(tmp_path / "vote.yaml", overrides=lossy, allow_outside=True)
    folder = tmp_path / "letters0"
    table = pd.read_csv(folder / "prompts.csv")
    table.drop(columns="answer").to_csv(folder / "prompts.csv", index=False)
    with pytest.raises(InputError, match="column 'answer', the right one, is missing"):
        mo.load(tmp_path / "vote.yaml", allow_outside=True)
    (folder / "log_probabilities.csv").unlink()
    with pytest.raises(InputError, match=r"vote\.pool: the outcomes have no table `log_prob"):
        mo.load(tmp_path / "vote.yaml", allow_outside=True)
    plain = {"objective": "expected_max", "experts.features": "none"}
    with pytest.raises(InputError, match=r"vote\.pool: only goes with objective 'vote'"):
        mo.load(tmp_path / "vote.yaml", overrides=plain, allow_outside=True)
