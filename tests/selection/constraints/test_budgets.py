"""Budgets that are no plain sums: monotone as claimed, and certified optima equal enumeration."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import moe2opt as mo
from moe2opt.canonical import FacilityProblem
from moe2opt.selection import SelectionInstance
from moe2opt.selection.constraints.general import BudgetedProblem
from moe2opt.selection.constraints.largest import necessary_rows
from moe2opt.selection.constraints.measures import largest_sum, last_answer, remembered
from moe2opt.selection.constraints.queueing import (
    NEVER,
    longest_wait,
    wait_of_all,
    waiting_s,
    work_shares,
)
from moe2opt.selection.lengths import Samples, statistic
from moe2opt.selection.sections import Queue

from ..budgets import INT4, INT8, LOGNORMAL, certified, fitting, instance_of, sets_of
from ..conftest import Load

SEEDS = st.integers(0, 10**6)

#: The deadlines of the instance that is checked by hand.
BY_HAND = {"limit_s": {"code": 5.0, "prose": 10.0}}


def masks(count: int) -> np.ndarray:
    """Return every set of `count` experts as a mask."""
    return np.array([[bits >> k & 1 for k in range(count)] for bits in range(2**count)]) > 0


def assert_monotone(use: Any, count: int) -> None:
    """Check every pair of sets that differ in one expert."""
    everything = masks(count)
    values = [use(mask) for mask in everything]
    for a, mask in enumerate(everything):
        for i in np.flatnonzero(~mask):
            assert values[a + 2**i] >= values[a] * (1 - 1e-12)


def best_by_own_terms(instance: SelectionInstance, keeps: Any) -> float:
    """Return the best worth of all sets that fit and pass `keeps`, computed from the tables."""
    worth = []
    for x in sets_of(instance):
        if x.any() and fitting(instance, x) and keeps(x > 0):
            best = instance.quality[:, x > 0].max(axis=1)
            worth.append(float(best @ instance.tables.weights))
    return max(worth, default=-math.inf)


def assert_agrees(instance: SelectionInstance, keeps: Any) -> None:
    """Check feasibility of every set in three ways, and the certified optimum."""
    for x in sets_of(instance):
        vector = instance.completed(x)
        plan = instance.decode(vector)
        allowed = bool(x.any()) and fitting(instance, x) and bool(keeps(x > 0))
        assert (instance.check(plan) == []) == allowed
        assert instance.problem().is_feasible(vector) == allowed
    best = best_by_own_terms(instance, keeps)
    assert certified(instance).objective == pytest.approx(best, abs=1e-9)


# ------------------------------------------------------------------------- k largest joules


@given(joules=st.lists(st.integers(0, 20), min_size=5, max_size=5), k=st.integers(1, 6))
def test_sum_of_the_largest_is_monotone_and_a_maximum_of_sums(joules: list[int], k: int) -> None:
    """The k largest joules grow with the set and equal the largest sum over k of its members."""
    energy = np.array(joules, dtype=float)
    use = largest_sum(energy, k)
    assert_monotone(use, 5)
    for mask in masks(5):
        own = energy[mask].tolist()
        sums = [sum(part) for r in range(min(k, len(own)) + 1) for part in combinations(own, r)]
        assert use(mask) == max(sums)


@given(joules=st.lists(st.integers(0, 20), min_size=5, max_size=5), k=st.integers(1, 4),
       limit=st.integers(0, 50))  # fmt: skip
def test_necessary_rows_lose_no_set(joules: list[int], k: int, limit: int) -> None:
    """Every set within the budget of its k largest joules keeps the linear rows."""
    energy = np.array(joules, dtype=float)
    rows, limits = necessary_rows(energy, k, float(limit))
    use = largest_sum(energy, k)
    for mask in masks(5):
        if use(mask) <= limit:
            assert (rows @ mask <= limits + 1e-9).all()


@settings(max_examples=15)
@given(k=st.integers(1, 4), limit=st.integers(10, 330), formats=st.booleans(),
       most=st.sampled_from([None, 2, 3]))  # fmt: skip
def test_threshold_rows_are_exact(k: int, limit: int, formats: bool, most: int | None) -> None:
    """With a row per threshold, the facility problem's optimum is that of all sets in budget."""
    keys: dict[str, Any] = {
        "energy": {"limit_j_per_prompt": limit, "counts": "largest", "largest": k}
    }
    if formats:
        keys |= {"precisions": [INT8, INT4], "llms": {"exclude": ["alpha"]}}
        keys["servers"] = [{"name": "fast", "device": "fast-box", "uplink_mbps": 1000,
                            "downlink_mbps": 1000, "memory_gib": 9}]  # fmt: skip
    if most is not None:
        keys["max_experts"] = most
    instance = instance_of(**keys)
    assert isinstance(instance.problem(), FacilityProblem)
    joules = np.array([expert.energy_j_per_prompt for expert in instance.experts])

    def keeps(mask: np.ndarray) -> bool:
        few = most is None or mask.sum() <= most
        return few and sum(sorted(joules[mask])[-k:]) <= limit * (1 + 1e-9)

    assert_agrees(instance, keeps)


def test_wrong_thresholds_break_nothing_but_the_right_one_is_needed() -> None:
    """A set within budget is infeasible with the column of a threshold that does not suit it."""
    instance = instance_of(energy={"limit_j_per_prompt": 130, "counts": "largest", "largest": 2})
    problem, chosen = instance.problem(), np.array([1, 1, 1, 0, 0, 0])
    suited = instance.completed(chosen)
    wrong = suited.copy()
    wrong[6:] = 0
    wrong[6] = 1
    assert problem.is_feasible(suited)
    assert sum(instance.experts[i].energy_j_per_prompt for i in range(3)) < 130
    assert problem.is_feasible(wrong)
    more = np.array([1, 1, 1, 1, 0, 0])
    assert problem.is_feasible(instance.completed(more))
    wrong = np.concatenate([more, wrong[6:]])
    assert not problem.is_feasible(wrong)


@settings(max_examples=6)
@given(k=st.integers(1, 3), limit=st.integers(20, 200))
def test_largest_joules_with_a_mixture(k: int, limit: int) -> None:
    """With a mixture the same budget is an oracle, and the optimum is still that of enumeration."""
    energy = {"limit_j_per_prompt": limit, "counts": "largest", "largest": k}
    instance = instance_of(energy=energy, objective="masked_softmax")
    assert isinstance(instance.problem(), BudgetedProblem)
    values = [
        instance.evaluate(instance.decode(x))
        for x in sets_of(instance)
        if instance.check(instance.decode(x)) == []
    ]
    assert certified(instance).objective == pytest.approx(max(values, default=-math.inf), abs=1e-9)


def test_fingerprints_tell_budgets_apart() -> None:
    """Another limit, or experts of a server that take turns, make another problem."""
    largest = [{"limit_j_per_prompt": e, "counts": "largest", "largest": 2} for e in (130, 140)]
    first, second = (instance_of(energy=e, objective="masked_softmax") for e in largest)
    assert first.problem().fingerprint != second.problem().fingerprint
    keys = {"limit_s": 1000, "statistic": "cvar", "level": 0.5, "counts": "all"}
    lengths = {"distribution": "exponential", "points": 20}
    aside, turns = (
        instance_of(delay={**keys, "sharing": sharing}, lengths=lengths)
        for sharing in ("dedicated", "shared")
    )
    assert isinstance(aside.problem(), BudgetedProblem)
    assert aside.problem().fingerprint != turns.problem().fingerprint


def test_a_clash_names_the_budget_of_the_largest() -> None:
    """Where the costliest experts cannot keep their budget, the proof names it and its kind."""
    instance = instance_of(energy={"limit_j_per_prompt": 10, "counts": "largest", "largest": 2})
    result = mo.solve(instance)
    conflict = result.certificate.conflict
    names = [instance.row_names()[k] for k in conflict.rows]
    names += [instance.cover_names()[h] for h in conflict.covers]
    assert any(name.startswith("energy_j_per_prompt") and "2 largest" in name for name in names)


def test_plans_show_the_largest_joules() -> None:
    """The plan's row is named with its unit and states the sum of the costliest experts."""
    instance = instance_of(energy={"limit_j_per_prompt": 130, "counts": "largest", "largest": 2})
    plan = certified(instance).plan
    (row,) = [budget for budget in plan.budgets if budget.name == "energy_j_per_prompt"]
    joules = sorted(expert.energy_j_per_prompt for expert in plan.experts)
    assert len(joules) > 2
    assert row.used == pytest.approx(sum(joules[-2:]))
    assert [b.name for b in plan.budgets] == [
        "memory_gib[slow]", "memory_gib[fast]", "energy_j_per_prompt"
    ]  # fmt: skip


# ------------------------------------------------------------------- quantiles, CVaR, last answer


@given(values=st.lists(st.floats(0, 100), min_size=1, max_size=12),
       level=st.floats(0.01, 0.99))  # fmt: skip
def test_statistics_by_definition(values: list[float], level: float) -> None:
    """The quantile is the least value not exceeded that often; CVaR minimises the tail formula."""
    data = np.array(values)
    quantile = float(statistic(data, "quantile", level))
    reached = [v for v in values if np.mean(data <= v) >= level - 1e-9]
    assert quantile == min(reached)
    tails = [v + np.maximum(data - v, 0).mean() / (1 - level) for v in values]
    assert float(statistic(data, "cvar", level)) == pytest.approx(min(tails), abs=1e-6)
    assert float(statistic(data, "mean", None)) == pytest.approx(np.mean(values))
    assert statistic(data, "cvar", level) >= quantile - 1e-9


@settings(max_examples=40)
@given(seed=SEEDS, kind=st.sampled_from(["mean", "quantile", "cvar"]), shared=st.booleans())
def test_last_answer_is_monotone(seed: int, kind: str, shared: bool) -> None:
    """The statistic of the last answer grows with the set, side by side and in turns."""
    rng = np.random.default_rng(seed)
    times = rng.exponential(size=(9, 5))
    groups = rng.integers(0, 2, size=5) if shared else None
    assert_monotone(last_answer(times, kind, 0.8, groups), 5)


def test_a_budget_on_the_mean_of_the_routed_answer_would_not_be_monotone() -> None:
    """Why the last answer counts: a faster, better expert lowers the time of the routed answer."""
    quality, seconds = np.array([0.6, 0.9]), np.array([10.0, 1.0])
    alone, both = seconds[0], seconds[np.argmax(quality)]
    assert both < alone


def keeps_deadlines(instance: SelectionInstance, kind: str, level: float, how: str) -> Any:
    """Return whether a set keeps the deadlines, straight from the sampled times."""
    samples = instance.samples
    assert samples is not None

    def keeps(mask: np.ndarray) -> bool:
        for k, limit in enumerate(instance.deadline_s.tolist()):
            times = samples.delay_s[samples.category == k]
            for used in _loads(instance, times, mask, k, how):
                value = float(statistic(used, kind, level))
                if value > limit * (1 + 1e-9):
                    return False
        return True

    return keeps


def _loads(instance: SelectionInstance, times: np.ndarray, mask: np.ndarray, k: int, how: str):  # type: ignore[no-untyped-def]
    """Return the times that must each keep the deadline."""
    hosts = [instance.on(host.name) for host in instance.hosts]
    if how == "last":
        return [times[:, mask].max(axis=1)]
    if how == "last turn":
        return [np.max([times[:, mask & on].sum(axis=1) for on in hosts], axis=0)]
    serving = mask & ~instance.late[k]
    return [times[:, serving & on].sum(axis=1) for on in hosts]


@settings(max_examples=20)
@given(
    kind=st.sampled_from(["quantile", "cvar"]),
    level=st.sampled_from([0.5, 0.9]),
    how=st.sampled_from(["last", "last turn", "turn"]),
    limit=st.floats(1, 30),
    family=st.sampled_from(["lognormal", "exponential", "constant"]),
)
def test_deadlines_on_quantiles_and_cvar(
    kind: str, level: float, how: str, limit: float, family: str
) -> None:
    """Certified optima under quantile and CVaR deadlines equal enumeration over sampled times."""
    lengths = {**LOGNORMAL} if family == "lognormal" else {"distribution": family, "points": 20}
    delay: dict[str, Any] = {"limit_s": limit, "statistic": kind, "level": level}
    delay["counts"] = "one" if how == "turn" else "all"
    delay["sharing"] = "dedicated" if how == "last" else "shared"
    instance = instance_of(delay=delay, lengths=lengths)
    assert_agrees(instance, keeps_deadlines(instance, kind, level, how))


@settings(max_examples=15)
@given(kind=st.sampled_from(["mean", "quantile", "cvar"]), limit=st.floats(1, 30))
def test_one_answer_in_time_is_a_filter(kind: str, limit: float) -> None:
    """Counting the routed answer only, the deadline says who may serve which category."""
    delay = {"limit_s": limit, **({} if kind == "mean" else {"statistic": kind, "level": 0.9})}
    instance = instance_of(delay=delay, lengths=LOGNORMAL)
    assert isinstance(instance.problem(), FacilityProblem)
    if kind != "mean":
        samples = instance.samples
        assert samples is not None
        own = [statistic(samples.delay_s[rows], kind, 0.9) for rows in samples.rows]
        assert (instance.late == (np.stack(own) > limit)).all()
    assert_agrees(instance, lambda mask: True)


@pytest.mark.parametrize(("family", "spread"), [("lognormal", 0.8), ("exponential", 1.0)])
def test_declared_lengths_keep_their_mean_and_spread(family: str, spread: float) -> None:
    """Declared lengths have the mean of the tables and about the declared spread."""
    lengths: dict[str, Any] = {"distribution": family, "points": 2000}
    if family == "lognormal":
        lengths["cv"] = spread
    delay = {"limit_s": 20.0, "statistic": "quantile", "level": 0.5}
    instance = instance_of(delay=delay, lengths=lengths)
    samples = instance.samples
    assert samples is not None
    means = np.stack([samples.delay_s[rows].mean(axis=0) for rows in samples.rows])
    assert means == pytest.approx(instance_of(delay={"limit_s": 20.0}).delay_s, rel=1e-9)
    # A 1 B model on the slow box takes 0.1 s to read the prompt and 2 s to answer.
    work = samples.busy_s[samples.rows[0], 0]
    assert work.std() / 2.0 == pytest.approx(spread, rel=0.03)
    assert any(f"answer lengths are assumed {family}" in note for note in instance.caveats)


@pytest.mark.parametrize("keys", [
    {"delay": {"limit_s": 6.0, "statistic": "cvar", "level": 0.9, "counts": "all"}},
    {"delay": {"limit_s": 6.0, "statistic": "quantile", "level": 0.9, "sharing": "shared"}},
    {"delay": {"limit_s": 6.0, "statistic": "quantile", "level": 0.9, "sharing": "shared",
               "counts": "all"}},
    {"queue": {"prompts_per_s": 0.1, "wait_limit_s": 1.0}},
    {"queue": {"prompts_per_s": 0.1, "wait_limit_s": 1.0, "counts": "all"}},
    {"energy": {"limit_j_per_prompt": 60, "counts": "largest", "largest": 2}},
])  # fmt: skip
def test_gated_instances_use_the_lengths_of_their_prompts(load: Load, keys: dict[str, Any]) -> None:
    """With outcomes, lengths are those of training and validation prompts; optima are exact."""
    instance = load("tiny_gate", None, keys)
    if "energy" not in keys:
        samples, learn = instance.samples, instance.split.members("train", "validation")
        assert samples is not None
        assert not samples.comonotone
        assert len(samples.category) == len(learn)
        counts = np.bincount(instance.outcomes.category_of[learn])
        assert [len(rows) for rows in samples.rows] == counts.tolist()
    values = []
    for x in sets_of(instance):
        vector = instance.completed(x)
        plan = instance.decode(vector)
        ok = instance.check(plan) == []
        assert ok == instance.problem().is_feasible(vector)
        if ok:
            values.append(instance.evaluate(plan))
    assert certified(instance).objective == pytest.approx(max(values), abs=1e-9)


# ------------------------------------------------------------------------------------- queues


def drawn_samples(seed: int) -> Samples:
    """Return two categories of three answers each by five experts."""
    rng = np.random.default_rng(seed)
    times = rng.exponential(size=(6, 5)) + 0.1
    category = np.array([0, 0, 0, 1, 1, 1])
    share = rng.uniform(0.1, 0.9)
    return Samples(category, times, times, np.array([share, 1 - share]), comonotone=False)


@settings(max_examples=40)
@given(seed=SEEDS, rate=st.floats(0.01, 2), share=st.sampled_from([1.0, 0.6, 0.2]))
def test_waits_are_monotone(seed: int, rate: float, share: float) -> None:
    """Both waits grow with the set of deployed experts."""
    samples = drawn_samples(seed)
    serves = np.random.default_rng(seed + 1).random((2, 5)) < 0.8
    on = np.array([True, True, True, False, True])
    assert_monotone(wait_of_all(samples, on, rate), 5)
    assert_monotone(longest_wait(samples, serves, on, rate, share), 5)


@settings(max_examples=40)
@given(seed=SEEDS, rate=st.floats(0.01, 0.5), share=st.sampled_from([1.0, 0.5]))
def test_longest_wait_bounds_every_routing_and_is_reached(
    seed: int, rate: float, share: float
) -> None:
    """No routing makes prompts wait longer, and with no cap some pure routing does so exactly."""
    samples = drawn_samples(seed)
    serves = np.ones((2, 5), dtype=bool)
    on = np.array([True, True, False, True, False])
    longest = longest_wait(samples, serves, on, rate, share)(on)
    first = np.stack([samples.busy_s[rows].mean(axis=0) for rows in samples.rows])
    second = np.stack([(samples.busy_s[rows] ** 2).mean(axis=0) for rows in samples.rows])
    waits = []
    for a in (0, 1, 3):
        for b in (0, 1, 3):
            part = min(1.0, share)
            flow = samples.shares * part
            m1 = float(flow @ [first[0, a], first[1, b]])
            m2 = float(flow @ [second[0, a], second[1, b]])
            waits.append(waiting_s(rate, m1, m2))
    assert longest >= max(waits) * (1 - 1e-9)
    rng = np.random.default_rng(seed)
    for _ in range(20):
        flow = rng.dirichlet(np.ones(6), size=2)[:, [0, 1, 3]] * samples.shares[:, None]
        flow *= min(1.0, share / flow.sum())
        own = [0, 1, 3]
        m1, m2 = float((flow * first[:, own]).sum()), float((flow * second[:, own]).sum())
        assert longest >= waiting_s(rate, m1, m2) * (1 - 1e-9)
    if share == 1.0:
        assert longest == pytest.approx(max(waits), rel=1e-9)


@settings(max_examples=40)
@given(seed=SEEDS, rate=st.floats(0.01, 0.5), wait=st.floats(0.05, 5))
def test_parts_of_the_work_lose_no_set(seed: int, rate: float, wait: float) -> None:
    """The linear rows that tighten the bound hold for every set whose wait keeps the limit."""
    samples = drawn_samples(seed)
    on = np.ones(5, dtype=bool)
    queue = Queue(prompts_per_s=rate, wait_limit_s=wait, counts="all")
    parts, use = work_shares(samples, queue), wait_of_all(samples, on, rate)
    for mask in masks(5):
        if use(mask) <= wait:
            assert parts[mask].sum() <= 1 + 1e-9


def test_waiting_formula_against_a_simulated_queue() -> None:
    """The Pollaczek-Khinchine wait agrees with a simulated queue within its sampling error."""
    rng = np.random.default_rng(0)
    service = np.array([0.5, 2.0, 4.0])
    rate, count = 0.3, 400_000
    work = rng.choice(service, size=count)
    gaps = rng.exponential(1 / rate, size=count)
    steps = np.concatenate([[0.0], work[:-1] - gaps[1:]])
    walk = np.cumsum(steps)
    simulated = float((walk - np.minimum.accumulate(walk)).mean())
    expected = waiting_s(rate, float(service.mean()), float((service**2).mean()))
    assert simulated == pytest.approx(expected, rel=0.05)
    assert waiting_s(0.5, 2.0, 5.0) == NEVER


def test_the_routed_load_of_a_server_is_not_monotone() -> None:
    """Deploying a better expert elsewhere unloads a server, so its actual load may fall."""
    quality, on_first = np.array([[0.6, 0.9], [0.7, 0.8]]), np.array([True, False])
    alone = np.mean([True, True])
    both = np.mean(on_first[quality.argmax(axis=1)])
    assert both < alone


@settings(max_examples=20)
@given(
    counts=st.sampled_from(["one", "all"]),
    rate=st.floats(0.01, 0.5),
    wait=st.floats(0.1, 5),
    share=st.sampled_from([1.0, 0.5]),
    limit=st.sampled_from([None, 6.0, {"code": 4.0}]),
)
def test_queues_certified_against_enumeration(
    counts: str, rate: float, wait: float, share: float, limit: Any
) -> None:
    """The optimum under waiting budgets is that of all sets whose waits keep the limit."""
    queue = {"prompts_per_s": rate, "wait_limit_s": wait, "counts": counts}
    if counts == "one":
        queue["load_share"] = share
    instance = instance_of(queue=queue, lengths=LOGNORMAL, delay={"limit_s": limit})
    samples = instance.samples
    assert samples is not None
    own = [instance.on(host.name) for host in instance.hosts]

    def keeps(mask: np.ndarray) -> bool:
        for on in own:
            if counts == "all":
                value = wait_of_all(samples, on, rate)(mask)
            else:
                value = longest_wait(samples, ~instance.late, on, rate, share)(mask)
            if value > wait * (1 + 1e-9) + 1e-9:
                return False
        return True

    assert_agrees(instance, keeps)


def test_waits_are_part_of_the_delay_and_of_the_plan() -> None:
    """The allowed wait is added to every answer, and plans name the wait of each server."""
    queue = {"prompts_per_s": 0.1, "wait_limit_s": 1.5}
    instance = instance_of(queue=queue, lengths=LOGNORMAL, delay={"limit_s": 8.0})
    plain = instance_of(delay={"limit_s": 8.0})
    assert instance.delay_s == pytest.approx(plain.delay_s + 1.5)
    plan = certified(instance).plan
    names = [budget.name for budget in plan.budgets]
    assert names[-2:] == ["waiting_s[slow]", "waiting_s[fast]"]
    assert all(budget.used <= 1.5 for budget in plan.budgets[-2:])
    assert any("every answer is taken to wait 1.5 s" in note for note in plan.caveats)


def test_remembered_values_are_those_of_the_set() -> None:
    """A remembered budget looks at its own experts only and returns what it returned first."""
    calls = []

    def use(chosen: np.ndarray) -> float:
        calls.append(chosen.tolist())
        return float(chosen.sum())

    own = remembered(use, np.array([True, True, False]))
    assert [own(np.array(x) > 0) for x in ([1, 0, 1], [1, 0, 0], [1, 1, 1])] == [1, 1, 2]
    assert len(calls) == 2


# --------------------------------------------------------------------------- sets by category


def best_sets(instance: SelectionInstance, energy: float, turns: bool) -> float:
    """Return the best worth over deployed sets and subsets of them for both categories."""
    best = -math.inf
    for x in sets_of(instance):
        if not x.any() or not fitting(instance, x):
            continue
        options = []
        for k in range(2):
            own = np.flatnonzero((x > 0) & ~instance.late[k])
            members = [own[list(part)] for r in range(1, len(own) + 1)
                       for part in combinations(range(len(own)), r)]  # fmt: skip
            options.append([_offer(instance, k, part, turns) for part in members])
        for cost_a, worth_a in options[0]:
            for cost_b, worth_b in options[1]:
                if cost_a + cost_b <= energy * (1 + 1e-9):
                    best = max(best, worth_a + worth_b)
    return best


def _offer(
    instance: SelectionInstance, k: int, part: np.ndarray, turns: bool
) -> tuple[float, float]:
    """Return joules and worth of asking some experts in a category; infinite joules if late."""
    own = instance.category_of == k
    worth = instance.quality[np.ix_(own, part)].max(axis=1) @ instance.tables.weights[own]
    if turns:
        for host in instance.hosts:
            asked = part[instance.on(host.name)[part]]
            if instance.delay_s[k, asked].sum() > instance.deadline_s[k] * (1 + 1e-9):
                return math.inf, float(worth)
    return float(instance.shares[k] * instance.energy_j[k, part].sum()), float(worth)


@settings(max_examples=12)
@given(energy=st.integers(10, 260), turns=st.booleans(),
       limit=st.sampled_from([None, {"code": 5.0, "prose": 10.0}, 3.0]))  # fmt: skip
def test_sets_by_category_are_exact(energy: int, turns: bool, limit: Any) -> None:
    """The certified optimum equals enumeration over deployed sets and their subsets."""
    delay = {"limit_s": limit, "sharing": "shared" if turns else "dedicated"}
    instance = instance_of(sets="per_category", energy={"limit_j_per_prompt": energy}, delay=delay)
    result = certified(instance)
    best = best_sets(instance, energy, turns and limit is not None)
    assert result.objective == pytest.approx(best, abs=1e-9)
    if result.plan is not None:
        assert instance.check(result.plan) == []
        used = {budget.name: budget.used for budget in result.plan.budgets}
        names = instance.row_names()
        own = dict(zip(names, instance.problem().usage_of(result.x).tolist(), strict=True))
        assert used["energy_j_per_prompt"] == pytest.approx(own["energy_j_per_prompt"])


def test_sets_by_category_are_worth_at_least_one_set() -> None:
    """Asking by category never loses, and gains where one set cannot pay for all."""
    gains = []
    for energy in (30, 60, 130, 200):
        keys: dict[str, Any] = {"energy": {"limit_j_per_prompt": energy}, "delay": BY_HAND}
        one, sets = instance_of(**keys), instance_of(**keys, sets="per_category")
        gains.append(certified(sets).objective - certified(one).objective)
    assert min(gains) >= -1e-9
    # With 130 J: gamma on the fast server for code, the others for prose.
    assert gains[2] == pytest.approx(0.4 / 6)


def test_plans_with_sets_say_who_is_asked() -> None:
    """The plan lists each category's experts, survives JSON, and wrong sets are found."""
    energy = {"limit_j_per_prompt": 130}
    instance = instance_of(energy=energy, delay=BY_HAND, sets="per_category")
    plan = certified(instance).plan
    assert [own.category for own in plan.sets] == ["code", "prose"]
    assert type(plan).from_dict(plan.to_dict()) == plan
    assert "code   asks" in plan.summary()
    first = replace(plan.sets[0], experts=())
    faults = instance.check(replace(plan, sets=(first, plan.sets[1])))
    assert any("is not asked" in fault for fault in faults)
    everybody = tuple(replace(own, experts=tuple(range(len(plan.experts)))) for own in plan.sets)
    faults = instance.check(replace(plan, sets=everybody))
    assert any(fault.startswith("energy_j_per_prompt:") for fault in faults)
    assert instance.check(replace(plan, sets=plan.sets[:1])) == [
        "plan: the sets must list every category once, in order"
    ]
    unknown = replace(plan.sets[0], experts=(9,))
    assert instance.check(replace(plan, sets=(unknown, plan.sets[1]))) == [
        "plan: the set of code names expert 9"
    ]


# ------------------------------------------------------------------------- robust, other solvers


@pytest.mark.parametrize("keys", [
    {"energy": {"limit_j_per_prompt": 130, "counts": "largest", "largest": 2}},
    {"objective": "masked_softmax", "energy": {"limit_j_per_prompt": 130}},
    {"delay": {"limit_s": 9.0, "statistic": "cvar", "level": 0.9, "counts": "all"},
     "lengths": LOGNORMAL},
    {"queue": {"prompts_per_s": 0.1, "wait_limit_s": 1.0}, "lengths": LOGNORMAL},
])  # fmt: skip
def test_robust_budgets_go_with_the_new_ones(keys: dict[str, Any]) -> None:
    """A robust instance is solved, priced against its nominal twin, and never better than it."""
    result = certified(instance_of(**keys, robust={"quantile": 0.9}))
    own = result.plan.robustness
    assert own is not None
    assert own.nominal_objective >= result.objective - 1e-9


@pytest.mark.parametrize("solver", ["enumerate", "polyblock"])
def test_other_exact_solvers_agree(solver: str) -> None:
    """Other exact solvers find the optimum of a general instance where they can be used."""
    instance = instance_of(queue={"prompts_per_s": 0.1, "wait_limit_s": 1.0}, lengths=LOGNORMAL)
    best = certified(instance).objective
    assert mo.solve(instance, solver=solver).objective == pytest.approx(best, abs=1e-9)
