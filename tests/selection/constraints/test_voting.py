"""Votes of all deployed experts: what they are, their bound, and optima against enumeration."""

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
from moe2opt.selection.constraints.voting import MOST_VOTES, Ballots, ballots_of
from moe2opt.selection.evaluation import realised
from moe2opt.selection.question import GatedInstance

from ..budgets import FOLDER, sets_of
from ..conftest import Load

#: What one LLM does on a prompt: right, one of two wrong answers, or none.
ANSWERS = st.sampled_from(["right", "a", "b", "none"])


def ballots(
    answers: list[str], votes: list[int], keeps: list[float], copies: list[int], *, tie: bool
) -> Ballots:
    """Return the ballots of three LLMs on three prompts, with four experts."""
    table = np.array(answers).reshape(3, 3)
    number = np.select([table == "a", table == "b"], [0, 1 if tie else 0], -1)
    return Ballots(
        np.array([0, 1, 2, *copies]), np.array(keeps), np.array([0.5, 0.3, 0.2]),
        table == "right", number, np.array(votes).reshape(3, 3), tie,
    )  # fmt: skip


def by_hand(own: Ballots, x: np.ndarray) -> float:
    """Return the share of right votes over everything that precisions may lose."""
    total = 0.0
    llms = sorted({int(own.model_of[n]) for n in np.flatnonzero(x)})
    keep = [max(own.keeps[n] for n in np.flatnonzero(x) if own.model_of[n] == m) for m in llms]
    for p, weight in enumerate(own.weights):
        for lost in product((False, True), repeat=len(llms)):
            chance, tally = 1.0, {-2: 0}
            for m, gone, kept in zip(llms, lost, keep, strict=True):
                right, number = own.right[p, m], int(own.wrong[p, m])
                # Only a right answer can be lost; of the others both cases are the same one.
                chance *= (1 - kept if gone else kept) if right else 0.5
                if right and not gone:
                    tally[-2] += int(own.votes[p, m])
                elif number >= 0:
                    tally[number] = tally.get(number, 0) + int(own.votes[p, m])
            most = max(tally.values())
            level = [k for k, n in tally.items() if n == most]
            if tally[-2] == most > 0:
                share = 1 / len(level) if own.tie or len(level) == 1 else 0.0
                total += weight * chance * share
    return total


@settings(max_examples=60)
@given(
    answers=st.lists(ANSWERS, min_size=9, max_size=9),
    votes=st.lists(st.sampled_from([1, 1, 2, 3]), min_size=9, max_size=9),
    keeps=st.lists(st.sampled_from([1.0, 0.9, 0.5]), min_size=4, max_size=4),
    copy=st.integers(0, 2), tie=st.booleans(),
)  # fmt: skip
def test_the_share_of_right_votes_is_its_definition_and_its_bound_holds(
    answers: list[str], votes: list[int], keeps: list[float], copy: int, tie: bool
) -> None:
    """Every set has the value of its definition, and no box has a set above its bound."""
    own = ballots(answers, votes, keeps, [copy], tie=tie)
    points = np.array(list(product((0, 1), repeat=4)))
    values = own(points, points)
    for x, value in zip(points, values, strict=True):
        assert math.isclose(value, by_hand(own, x), abs_tol=1e-12)
    for x, y in product(range(16), repeat=2):
        if (points[y] <= points[x]).all():
            between = ((points >= points[y]) & (points <= points[x])).all(axis=1)
            bound = own(points[[x]], points[[y]])[0]
            assert bound >= values[between].max() - 1e-15


def drawn(
    tmp_path: Path, seed: int, *, answers: bool, llms: int = 4, prompts: int = 60, **keys: Any
) -> GatedInstance:
    """Return an instance over drawn letters of a few LLMs on two servers."""
    rng = np.random.default_rng(seed)
    folder = tmp_path / f"letters{seed}"
    folder.mkdir()
    names, ids = [f"llm{m}" for m in range(llms)], [f"q{p}" for p in range(prompts)]
    score = rng.random((prompts, llms)) < rng.uniform(0.3, 0.7, llms)
    letter = np.where(score, "A", rng.choice(["B", "C"], size=score.shape))
    cells = score.astype(float)
    cells[rng.random(score.shape) < 0.05] = np.nan
    ident = pd.DataFrame({"id": ids})
    tables = {
        "prompts": ident.assign(category=rng.choice(["x", "y"], prompts), prompt_tokens=20),
        "correct": pd.concat([ident, pd.DataFrame(cells, columns=names)], axis=1),
        "output_tokens": pd.concat(
            [ident, pd.DataFrame(rng.integers(5, 50, score.shape), columns=names)], axis=1
        ),
        "models": pd.DataFrame({"model": names, "params_total_b": rng.uniform(1, 8, llms)}),
    }
    if answers:
        tables["answers"] = pd.concat([ident, pd.DataFrame(letter, columns=names)], axis=1)
    for stem, table in tables.items():
        table.to_csv(folder / f"{stem}.csv", index=False)
    config = {
        "schema_version": 1, "problem": "selection", "name": "drawn", "objective": "vote",
        "experts": {"outcomes": folder.name}, "context_gib": 0,
        "profiles": str(FOLDER / "tiny_profiles"),
        "splits": {"train": 0.2, "validation": 0.2, "select": 0.3, "test": 0.3},
        "precisions": [{"name": "int8"}],
        "servers": [
            {"name": name, "device": f"{name}-box", "uplink_mbps": 1000, "downlink_mbps": 1000,
             "memory_gib": 12} for name in ("slow", "fast")
        ],
        "energy": {"limit_j_per_prompt": float(rng.uniform(100, 400))},
        **keys,
    }  # fmt: skip
    path = tmp_path / "vote.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    instance = mo.load(path, allow_outside=True)
    assert isinstance(instance, GatedInstance)
    return instance


def best_by_enumeration(instance: GatedInstance) -> float:
    """Return the best vote of a set that keeps the budgets; -inf without one."""
    found = -math.inf
    own = ballots_of(instance, instance.members())
    for x in sets_of(instance):
        names = [e.llm for e, k in zip(instance.experts, x, strict=True) if k]
        if instance.compiled.is_feasible(x) and len(set(names)) == len(names):
            found = max(found, by_hand(own, x))
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("weights", ["equal", "accuracy"])
def test_the_plan_is_the_best_of_all_sets(
    tmp_path: Path, seed: int, answers: bool, weights: str
) -> None:
    """The certified plan has the value that enumeration finds, and the instance accepts it."""
    instance = drawn(tmp_path, seed, answers=answers, prompts=30, vote={"weights": weights})
    result = mo.solve(instance, solver="brb")
    verdict = mo.certify(instance, result)
    assert (verdict.ok, verdict.kind) == (True, "checked"), verdict.failures
    best = best_by_enumeration(instance)
    if best == -math.inf:
        assert result.status == "INFEASIBLE"
        return
    assert result.status == "OPTIMAL"
    assert math.isclose(result.objective, best, abs_tol=1e-12)
    assert instance.check(result.plan) == []
    assert math.isclose(instance.evaluate(result.plan), best, abs_tol=1e-12)
    assert result.plan.experts[0].share_of_prompts == 1.0


def test_a_vote_is_not_monotone(load: Load) -> None:
    """On real letters a set can lose by one more voter, so no monotone engine may have it."""
    instance = load("mmlu_pro_vote")
    assert isinstance(instance, GatedInstance)
    own = ballots_of(instance, instance.members())
    best = own.value(np.array([0]))
    assert min(own.value(np.array([0, n])) for n in range(1, own.model_of.size)) < best
    assert not instance.problem().submodular


def test_the_built_in_vote_beats_its_voters(load: Load) -> None:
    """On MMLU-Pro letters of eight LLMs, three of them vote better than the best one, proven."""
    instance = load("mmlu_pro_vote")
    result = mo.solve(instance)
    assert mo.certify(instance, result).ok
    assert sorted(e.llm for e in result.plan.experts) == [
        "Meta-Llama-3_1-8B-Instruct", "Phi-3-mini-4k-instruct", "mathstral-7B",
    ]  # fmt: skip
    assert isinstance(instance, GatedInstance)
    own = ballots_of(instance, instance.members())
    alone = max(own.value(np.array([n])) for n in range(len(instance.experts)))
    assert round(result.objective, 4) == 0.4637
    assert result.objective > alone + 0.02


@pytest.mark.parametrize("sharing", ["dedicated", "shared"])
def test_the_last_answer_keeps_the_deadline(tmp_path: Path, sharing: str) -> None:
    """Means of the last answer keep the deadlines, said or not, and servers may take turns."""
    delay = {"sharing": sharing, "limit_s": 9.0}
    own = drawn(tmp_path, 2, answers=True, prompts=30, delay=delay, energy=None)
    said = mo.load(tmp_path / "vote.yaml", overrides={"delay.counts": "all"}, allow_outside=True)
    assert own.compiled.problem.fingerprint == said.compiled.problem.fingerprint
    free = mo.load(tmp_path / "vote.yaml", overrides={"delay.limit_s": None}, allow_outside=True)
    plan, best = mo.solve(own).plan, mo.solve(free).plan
    shown = [c.delay_s for c in plan.by_category]
    rows = [b.used for b in plan.budgets if b.name.startswith("delay_s")]
    assert shown == pytest.approx(rows)
    assert 0 < max(shown) <= 9.0
    assert plan.predicted_accuracy < best.predicted_accuracy
    assert any("delay_s" in complaint for complaint in own.check(best))


def test_voters_are_all_paid(tmp_path: Path) -> None:
    """A vote pays every expert that answers, in its figures and its words."""
    free = drawn(tmp_path, 0, answers=True, prompts=30, energy=None)
    names = {expert.llm for expert in free.experts}
    rows = [f"{name},{box}-box,0.01" for name in names for box in ("slow", "fast")]
    (tmp_path / "prices.csv").write_text("\n".join(["llm,device,usd_per_prompt", *rows]))
    prices = {"measured": "prices.csv", "money": {}}
    priced = mo.load(tmp_path / "vote.yaml", overrides=prices, allow_outside=True)
    plan = mo.solve(priced).plan
    assert len(plan.experts) > 1
    assert plan.money.per_prompt == pytest.approx(0.01 * len(plan.experts))
    words = plan.summary()
    assert f"all experts together take {plan.money.per_prompt:.4g} USD per prompt" in words
    assert "routed expert" not in words


def test_weights_follow_the_accuracy_in_the_category(load: Load) -> None:
    """The best LLM of each category has the most votes, and nobody has none."""
    instance = load("mmlu_pro_vote", "weighted")
    assert isinstance(instance, GatedInstance)
    votes = ballots_of(instance, instance.members()).votes
    assert (votes.max(axis=1) == MOST_VOTES).all()
    assert votes.min() >= 1
    leads = instance.tables.accuracy.argmax(axis=1)[instance.pool.category_of[instance.members()]]
    assert (votes[np.arange(len(votes)), leads] == MOST_VOTES).all()


def test_without_letters_the_vote_is_a_lower_bound(tmp_path: Path) -> None:
    """The same outcomes with letters are never worth less, and a note tells what is missing."""
    known, blind = (drawn(tmp_path / str(k), 7, answers=k == 0) for k in _folders(tmp_path))
    more, less = (ballots_of(i, i.members()) for i in (known, blind))
    for x in sets_of(known):
        chosen = np.flatnonzero(x)
        assert more.value(chosen) >= less.value(chosen) - 1e-15
    assert any("lower bound" in note for note in blind.caveats)
    assert not any("lower bound" in note for note in known.caveats)


def _folders(tmp_path: Path) -> range:
    for k in range(2):
        (tmp_path / str(k)).mkdir()
    return range(2)


def test_evaluate_compares_votes_with_routing(load: Load) -> None:
    """The plan's test accuracy is that of its vote; the best of each category answers alone."""
    instance = load("mmlu_pro_vote")
    assert isinstance(instance, GatedInstance)
    found = realised.evaluate_on_test(instance, mo.solve, replicates=20)
    rows = {row.policy: row for row in found.rows}
    plan = mo.solve(instance).plan
    assert math.isclose(rows["moe2"].accuracy.mean, plan.test_accuracy, abs_tol=1e-12)
    assert rows["best per category"].experts >= 1
    assert "category table" not in rows


def test_a_local_search_on_the_vote_is_among_the_baselines() -> None:
    """It is ahead of greedy where that falls short, and never ahead of the optimum."""
    instance = mo.load("mmlu_pro_vote", "tight")
    found = realised.evaluate_on_test(instance, mo.solve, replicates=20)
    promised = {row.policy: row.promised for row in found.rows}
    searched = promised["local search on the vote"]
    assert promised["lazy greedy on the objective"] < searched <= promised["moe2"] + 1e-12


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"energy": {"limit_j_per_prompt": 9, "counts": "one"}},
         "energy.counts: 'one', but in a vote all experts answer"),
        ({"delay": {"limit_s": 9, "counts": "one"}},
         "delay.counts: 'one', but in a vote all experts answer"),
        ({"gate": {"backend": "sklearn"}}, "gate: nothing is routed in a vote"),
        ({"routing": {"top_k": 2}}, "routing: nothing is routed in a vote"),
        ({"sets": "per_category"}, "sets: 'per_category' does not go with `experts`"),
        ({"objective": "expected_max", "vote": {"weights": "equal"}},
         "vote.weights: only goes with objective 'vote'"),
        ({"vote": {"weights": "loud"}}, "vote.weights: expected 'equal' or 'accuracy'"),
        ({"mixture": {"temperature": 2}}, "mixture.temperature: only goes with"),
    ],
)  # fmt: skip
def test_what_does_not_go_with_a_vote_is_told(
    tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    """A key that contradicts a vote is refused by its name."""
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        drawn(tmp_path, 0, answers=True, **keys)


def test_soft_scores_cannot_vote(tmp_path: Path) -> None:
    """A score between 0 and 1 is told with its prompt and LLM."""
    drawn(tmp_path, 0, answers=True)
    table = pd.read_csv(tmp_path / "letters0" / "correct.csv")
    table.loc[3, "llm1"] = 0.25
    table.to_csv(tmp_path / "letters0" / "correct.csv", index=False)
    with pytest.raises(InputError, match=r"prompt 'q3', LLM 'llm1': score 0\.25"):
        mo.load(tmp_path / "vote.yaml", allow_outside=True)
