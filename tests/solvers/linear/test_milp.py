"""The engine ``milp``: what it claims, what it refuses to claim, and what it writes."""

from __future__ import annotations

import math
import queue
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solving import run, same
from strategies import brute_force, choice_problems, facility_problems

from moe2opt.canonical import FacilityProblem, MultipleChoiceProblem
from moe2opt.result import InputError, Limit, ProgressEvent, Status
from moe2opt.solvers import Interrupt, Options, Search
from moe2opt.solvers.ceiling import ceiling
from moe2opt.solvers.linear import highs, milp
from moe2opt.solvers.linear.formulations import (
    columns_of,
    matrices,
    pyomo_model,
    solution_of,
    valued_pairs,
)
from moe2opt.solvers.linear.highs import Answer, News, Settings, SolverError
from moe2opt.solvers.tuning import LinearTuning, Tuning


def tuned(**numbers: Any) -> Tuning:
    """Return the tuning with other numbers for HiGHS."""
    return Tuning(linear=LinearTuning(**numbers))


LP = Path(__file__).resolve().parent / "lp"

FACILITY = FacilityProblem(
    values=[[3, 0, 2], [0, 4, 3.5]],
    costs=[[1, 2, 0], [0.5, 0.25, 0]],
    budgets=[2, 0.5],
    weights=[1, 2],
    groups=[[0, 1]],
    covers=[[1, 2]],
)
BARE = FacilityProblem(values=[[1, 2]], costs=np.zeros((0, 2)), budgets=[])
OVERDRAWN = FacilityProblem(values=[[1, 0]], costs=[[0, 0]], budgets=[-2])
CHOICE = MultipleChoiceProblem(
    values=[[0, 5, -1.5], [7]], usage=[[[0], [3], [1]], [[2]]], budgets=[4]
)
EXPORTED = {"facility": FACILITY, "bare": BARE, "overdrawn": OVERDRAWN, "choice": CHOICE}


def hard_choice() -> MultipleChoiceProblem:
    """Return a problem with many equal rows, on which HiGHS works for minutes."""
    rng = np.random.default_rng(1)
    usage = rng.integers(1, 100, size=(120, 8, 8)).astype(float)
    values = usage.sum(axis=2) + rng.integers(0, 40, size=(120, 8))
    return MultipleChoiceProblem(list(values), list(usage), usage.mean(axis=1).sum(axis=0) * 0.9)


# ---------------------------------------------------------------------- the right answer


@settings(max_examples=60)
@given(facility_problems() | choice_problems())
def test_optimum_and_infeasibility_agree_with_brute_force(problem: Any) -> None:
    """On tiny problems the engine is optimal or proves infeasibility, without any limit."""
    best, result = brute_force(problem), run(problem, "milp")
    assert result.limit is None
    assert result.status is (Status.INFEASIBLE if best == -math.inf else Status.OPTIMAL)
    assert same(problem, result.objective, best, "milp")
    assert result.certificate is None


@st.composite
def stretched_problems(draw: Any) -> FacilityProblem:
    """Facility problems whose integer costs span twelve orders of magnitude."""
    n = draw(st.integers(2, 6))
    cost = st.builds(lambda a, b: a * 10**b, st.integers(0, 3), st.sampled_from((0, 5, 9, 12)))
    costs = np.array(draw(st.lists(cost, min_size=n, max_size=n)), dtype=float)
    values = draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
    kept = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    budget = max(0.0, float(costs[np.array(kept)].sum()) - draw(st.integers(0, 1)))
    return FacilityProblem(values=np.diag(values), costs=costs[None, :], budgets=[budget])


@settings(max_examples=60)
@given(stretched_problems())
def test_tolerances_never_make_a_wrong_optimum(problem: FacilityProblem) -> None:
    """Where one unit vanishes in the tolerance of HiGHS, the answer is exact all the same."""
    result = run(problem, "milp")
    assert result.status is Status.OPTIMAL
    assert result.objective == result.bound == brute_force(problem)


def test_solution_that_stretches_a_budget_is_cut_off() -> None:
    """A solution that only the tolerance admits leads to further runs, not to an incumbent."""
    problem = FacilityProblem(values=np.diag([5, 3, 1]), costs=[[10**10, 1, 2]], budgets=[10**10])
    result = run(problem, "milp")
    assert (result.status, result.objective, result.bound) == (Status.OPTIMAL, 5.0, 5.0)
    assert result.x is not None
    assert result.x.tolist() == [1, 0, 0]
    assert result.stats["highs_runs"] > 1


def test_giving_up_on_tolerances_is_honest() -> None:
    """When the runs are used up, own branch and bound answers, and the counters say why."""
    problem = FacilityProblem(values=np.diag([5, 3, 1]), costs=[[10**10, 1, 2]], budgets=[10**10])
    result = run(problem, "milp", tuning=tuned(most_runs=1))
    assert (result.status, result.objective, result.bound) == (Status.OPTIMAL, 5.0, 5.0)
    assert "HiGHS" in result.stats["doubt"]


@given(facility_problems() | choice_problems(), st.integers(0, 2**20))
@settings(max_examples=40)
def test_cut_off_rows_are_valid(problem: Any, seed: int) -> None:
    """A minimal cover exceeds a budget, and no longer does without any one of its members."""
    rng = np.random.default_rng(seed)
    is_facility = isinstance(problem, FacilityProblem)
    sizes = np.full(problem.size, 2) if is_facility else np.diff(problem.offsets)
    x = rng.integers(sizes)
    cover = milp.minimal_cover(problem, x)
    used = problem.usage_of(x)
    if cover is None:
        assert (used <= problem.limits).all()
        return
    row = problem.costs[np.flatnonzero(used > problem.limits)[0]]
    limit = problem.limits[np.flatnonzero(used > problem.limits)[0]]
    assert limit < 0 or math.fsum(row[cover]) > limit
    assert all(
        math.fsum(np.delete(row[cover], k)) <= limit for k in range(len(cover)) if limit >= 0
    )


@pytest.mark.parametrize(
    ("problem", "objective"),
    [
        (FacilityProblem(np.zeros((1, 3)), np.zeros((0, 3)), []), 0.0),
        (FacilityProblem(np.zeros((2, 2)), [[1, 1]], [1], covers=[[0, 1]]), 0.0),
        (FacilityProblem(np.zeros((0, 2)), [[1, 1]], [1]), 0.0),
        (BARE, 2.0),
        (FacilityProblem([[2.5]], [[1]], [0]), 0.0),
        (OVERDRAWN, -math.inf),
        (FacilityProblem([[1, 1]], [[1, 1]], [1], covers=[[0], [1]]), -math.inf),
        (FacilityProblem([[1, 1]], [[0, 0]], [1], groups=[[0, 1]], covers=[[0], [1]]), -math.inf),
        (MultipleChoiceProblem([[3.5]], [[[1]]], [1]), 3.5),
        (MultipleChoiceProblem([[-2], [0]], [np.zeros((1, 0))] * 2, []), -2.0),
        (MultipleChoiceProblem([[1], [1]], [[[1]], [[1]]], [1]), -math.inf),
        (MultipleChoiceProblem([[1]], [[[0]]], [-1]), -math.inf),
        (MultipleChoiceProblem([[0.1, -0.3], [-0.1, 0.3]], [[[0], [0]]] * 2, [0]), 0.4),
    ],
)
def test_edge_cases(problem: Any, objective: float) -> None:
    """No rows, no values, no clusters, clashing covers, single options: all are settled."""
    result = run(problem, "milp")
    assert result.objective == objective
    assert result.bound == pytest.approx(objective, rel=1e-9)
    feasible = objective > -math.inf
    assert result.status is (Status.OPTIMAL if feasible else Status.INFEASIBLE)


@pytest.mark.parametrize("unit", [1e-12, 1e-3, 1.0, 1e6, 1e15])
def test_the_unit_of_the_objective_does_not_matter(unit: float) -> None:
    """Rescaled values leave the optimal choice, and optimality, as they are."""
    rng = np.random.default_rng(3)
    values, costs = rng.random((12, 9)), rng.random((2, 9))
    reference = run(FacilityProblem(values, costs, costs.sum(axis=1) / 3), "milp")
    result = run(FacilityProblem(values * unit, costs, costs.sum(axis=1) / 3), "milp")
    assert result.status is Status.OPTIMAL
    assert np.array_equal(result.x, reference.x)


def test_cancellation_leaves_no_artificial_gap() -> None:
    """Where large values cancel, the outward shift of the bound does not undo a finished run."""
    problem = MultipleChoiceProblem(
        values=[[1e6 + 0.1, 2e6], [-1e6]], usage=[[[0], [1]], [[0]]], budgets=[0]
    )
    result = run(problem, "milp")
    assert result.status is Status.OPTIMAL
    assert result.objective == problem.evaluate([0, 0]) <= result.bound


def test_small_differences_count() -> None:
    """A choice that is better by one part in 10^8 is found."""
    values = [[1.0, 1.0 + 1e-8, 1.0 - 1e-8]]
    result = run(FacilityProblem(values, [[1, 1, 1]], [1]), "milp")
    assert result.objective == 1.0 + 1e-8
    assert result.status is Status.OPTIMAL


# ---------------------------------------------------------------------- limits


def test_a_limit_of_zero_leaves_a_trivial_bound() -> None:
    """At time limit 0 there is no solution, and the bound is the sum of the largest values."""
    result = run(FACILITY, "milp", time_limit_s=0)
    assert (result.status, result.limit) == (Status.NO_SOLUTION, Limit.TIME)
    assert result.bound == ceiling(FACILITY) == 3 + 8


def test_warm_start_survives_a_limit_of_zero() -> None:
    """A feasible warm start is the incumbent even when nothing else may happen."""
    result = run(FACILITY, "milp", node_limit=0, warm_start=[0, 0, 1])
    assert (result.status, result.limit) == (Status.FEASIBLE, Limit.NODES)
    assert result.objective == 9.0
    assert result.log[0].source == "U"


def test_infeasible_warm_start_is_ignored() -> None:
    """A warm start that breaks a group does not disturb the run."""
    result = run(FACILITY, "milp", warm_start=[1, 1, 1])
    assert result.status is Status.OPTIMAL
    assert all(event.source != "U" for event in result.log)


def test_optimal_warm_start_is_kept() -> None:
    """Started from an optimum, HiGHS confirms it and no other incumbent appears."""
    best = run(FACILITY, "milp")
    again = run(FACILITY, "milp", warm_start=best.x)
    assert again.status is Status.OPTIMAL
    assert [e.source for e in again.log if e.source != " "] == ["U"]


def test_limits_keep_the_incumbent() -> None:
    """At a node limit the incumbent and the bound of HiGHS come back, and the limit is named."""
    problem = hard_choice()
    result = run(problem, "milp", node_limit=3, time_limit_s=120)
    assert (result.status, result.limit) == (Status.FEASIBLE, Limit.NODES)
    assert problem.is_feasible(result.x)
    assert result.objective < result.bound < ceiling(problem)
    sources = {event.source for event in result.log}
    assert "M" in sources


def test_time_limit_keeps_the_incumbent() -> None:
    """At a time limit a warm start, or something better, comes back."""
    problem = hard_choice()
    start = [int(i) for i in np.argmin([table.sum(axis=1) for table in problem.usage], axis=1)]
    assert problem.is_feasible(start)
    result = run(problem, "milp", time_limit_s=0.5, warm_start=start)
    assert (result.status, result.limit) == (Status.FEASIBLE, Limit.TIME)
    assert result.objective >= problem.evaluate(start)


def test_interrupt_from_another_thread_keeps_the_incumbent() -> None:
    """Ctrl-C during the run ends it, with the incumbent that was there."""
    problem, flag, found = hard_choice(), Interrupt(), threading.Event()

    def on_progress(event: ProgressEvent) -> None:
        if event.objective > -math.inf:
            found.set()

    def press() -> None:
        found.wait(60)
        flag.raised = True

    search = Search(problem, Options(time_limit_s=120), on_progress, flag)
    presser = threading.Thread(target=press)
    presser.start()
    result = search.result(milp.solve(problem, search), "milp")
    presser.join()
    assert (result.status, result.limit) == (Status.FEASIBLE, Limit.INTERRUPTED)
    assert result.objective < result.bound


def test_interrupt_stops_the_building_of_the_model() -> None:
    """Ctrl-C before HiGHS starts is noticed while Pyomo is at work."""
    result = run(FACILITY, "milp", interrupt=Interrupt(raised=True))
    assert (result.status, result.limit) == (Status.NO_SOLUTION, Limit.INTERRUPTED)
    assert "highs_runs" not in result.stats


def test_gap_stops_early_and_is_true() -> None:
    """With a relative gap the run ends optimal within it, and the bound still holds."""
    rng = np.random.default_rng(0)
    costs = rng.random((2, 30))
    problem = FacilityProblem(rng.random((40, 30)), costs, costs.sum(axis=1) * 0.3)
    exact, loose = run(problem, "milp"), run(problem, "milp", rel_gap=0.05)
    assert loose.status is Status.OPTIMAL
    assert loose.gap <= 0.05
    assert loose.bound >= exact.objective >= loose.objective


def test_progress_reports_bound_and_incumbent() -> None:
    """The log holds solutions of HiGHS and bounds that only shrink towards the optimum."""
    result = run(hard_choice(), "milp", node_limit=2, time_limit_s=120)
    bounds = [event.bound for event in result.log]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[-1] < bounds[0]


# ---------------------------------------------------------------------- distrust of HiGHS


def test_infeasibility_claimed_beside_an_incumbent_is_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If HiGHS calls a problem infeasible that has a solution, own branch and bound decides."""
    monkeypatch.setattr(milp, "maximise", lambda *_: Answer("infeasible"))
    result = run(FACILITY, "milp", warm_start=[0, 0, 1])
    assert (result.status, result.objective) == (Status.OPTIMAL, 10.0)
    assert result.bound == brute_force(FACILITY)
    assert "infeasible" in result.stats["doubt"]


def test_an_unknown_end_is_tried_again_without_presolve(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error or "unbounded or infeasible" leads to one more run, then to own branch and bound."""
    seen: list[Settings] = []

    def answer(_model: Any, settings: Settings, *_: Any) -> Answer:
        seen.append(settings)
        return Answer("unknown", bound=-5.0, detail="kSolveError")

    monkeypatch.setattr(milp, "maximise", answer)
    result = run(FACILITY, "milp")
    assert [settings.presolve for settings in seen] == [True, False]
    assert (result.status, result.limit) == (Status.OPTIMAL, None)
    assert result.bound == brute_force(FACILITY)
    assert "kSolveError" in result.stats["doubt"]


def test_where_own_nodes_run_out_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an answer of HiGHS and with too few own nodes, the bound is a proven one."""
    monkeypatch.setattr(milp, "maximise", lambda *_: Answer("unknown"))
    problem = hard_choice()
    result = run(problem, "milp", tuning=tuned(own_nodes=3))
    assert result.status in (Status.FEASIBLE, Status.NO_SOLUTION)
    assert result.limit is None
    assert result.objective < result.bound < ceiling(problem)


# ---------------------------------------------------------------------- numbers far apart

FALSE_OPTIMAL = FacilityProblem(
    values=[
        [0.0, 0.6, 0.4, 0.4, 0.1, 0.3, 1.1],
        [0.5, 0.0, 0.1, 0.1, 0.4, 0.5, 0.0],
        [0.1, 0.8, 0.6, 0.6, 1.1, 0.5, 0.0],
        [0.2, 0.0, 0.4, 0.4, 0.3, 0.6, 0.5],
        [0.6, 0.1, 0.9, 0.9, 0.3, 0.4, 0.6],
        [0.6, 1.1, 0.3, 0.3, 0.5, 0.2, 0.1],
    ],
    costs=[
        [
            2646211.0647816807,
            49.21369490084341,
            39618.03017617683,
            39618.03017617683,
            0.0,
            0.00010453758475260772,
            0.37965884514767456,
        ]
    ],
    budgets=[2646211.0647816807],
    weights=[0.7, 1.1, 0.1, 1.1, 0.4, 0.1],
)
FALSE_INFEASIBLE = FacilityProblem(
    values=[[1.0, 1.0, 1.0]],
    costs=[
        [46848406922.80457, 30584312.499856886, 107.4413853003757],
        [49093.859317310176, 391090166.82904977, 0.000269288935251308],
    ],
    budgets=[46878991342.74581, 391139259.9063578],
    covers=[[0], [1, 2]],
)
FAR_APART: dict[str, Any] = {
    "budget used up exactly": FALSE_OPTIMAL,
    "called infeasible": FALSE_INFEASIBLE,
    "budget of zero": FacilityProblem([[1.0]], [[1000000.5]], [0]),
    "budget of zero, free expert": FacilityProblem([[1.0, 2.0]], [[1e16, 0.0]], [0]),
    "negative budget": FacilityProblem([[1.0]], [[1e250]], [-1e-300]),
    "bytes": MultipleChoiceProblem(
        [[0, 2147483648, 3221225472], [0, 1073741824, 4294967296]],
        [[[0], [3], [4]], [[0], [2], [5]]],
        [7],
    ),
    "costs of 1e-300": FacilityProblem([[1.0, 2.0, 4.0]], [[1e-300, 2e-300, 1e12]], [3e-300]),
    "values of 1e-300": FacilityProblem([[1e-300, 3e-300]], [[1, 1]], [1]),
    "values of 1e16": MultipleChoiceProblem([[1e16, 0.5], [0.25, 0.5]], [[[2], [1]]] * 2, [3]),
    "forbidden options": MultipleChoiceProblem(
        [[-1e9, 0.500001, 0.5], [-1e9, 0.50000001, 0.5]], [[[0], [3], [2]]] * 2, [5]
    ),
    "cancelling values": MultipleChoiceProblem(
        [
            [0.27058743791069356, 0.0006723002523692992, -205773.3732316205],
            [-0.007782644409829768],
            [398.33494532118516, 213.20638253010787, 81.37181233044478],
            [-0.7314650749104503],
        ],
        [[[1e-9], [1e-9], [0]], [[0]], [[1], [1e12], [1]], [[1e-9]]],
        [1.0000000009999999],
    ),
}


@pytest.mark.parametrize("name", FAR_APART)
@pytest.mark.parametrize("greedy", [True, False])
def test_numbers_far_apart_are_no_excuse(
    name: str, greedy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the scales, no error reaches the caller, and claims are what enumeration finds."""
    if not greedy:
        monkeypatch.setattr(milp, "first_plan", lambda *_: None)
    problem = FAR_APART[name]
    best, result = brute_force(problem), run(problem, "milp")
    assert result.status is (Status.INFEASIBLE if best == -math.inf else Status.OPTIMAL)
    assert result.bound >= best
    assert result.objective == pytest.approx(best, rel=1e-9, abs=0.0)


@pytest.mark.parametrize("option", [{"small_matrix_value": 1e-9}, {"presolve": "off"}])
def test_claims_do_not_hang_on_options_of_highs(
    option: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With HiGHS dropping more of the data, or without its presolve, the answers stay right."""
    default = highs._options
    monkeypatch.setattr(highs, "_options", lambda *given: default(*given) | option)
    for problem in (FALSE_OPTIMAL, FALSE_INFEASIBLE):
        assert run(problem, "milp").objective == pytest.approx(brute_force(problem), rel=1e-9)


def test_a_refused_model_never_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """When HiGHS does not take the model, own branch and bound answers, and the reason stands."""

    def refuse(*_: Any) -> Any:
        raise SolverError("HiGHS does not accept the model")

    monkeypatch.setattr(highs, "_loaded", refuse)
    result = run(FACILITY, "milp")
    assert (result.status, result.objective) == (Status.OPTIMAL, brute_force(FACILITY))
    assert "does not accept the model" in result.stats["doubt"]


def test_a_bound_below_a_known_solution_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a greedy plan refutes is no bound."""
    monkeypatch.setattr(milp, "maximise", lambda *_: Answer("optimal", bound=1.0))
    result = run(FACILITY, "milp")
    assert result.objective == result.bound == brute_force(FACILITY)
    assert "below a known solution" in result.stats["doubt"]


def test_a_limit_stops_the_building_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """While Pyomo translates the model, limits are looked at all the same."""
    started, release, flag = threading.Event(), threading.Event(), Interrupt()

    def slow(_model: Any) -> Any:
        started.set()
        release.wait(60)

    monkeypatch.setattr(milp, "matrices", slow)

    def press() -> None:
        started.wait(60)
        flag.raised = True

    presser = threading.Thread(target=press)
    presser.start()
    result = run(FACILITY, "milp", interrupt=flag)
    presser.join()
    release.set()
    assert result.limit is Limit.INTERRUPTED
    assert result.objective <= result.bound == ceiling(FACILITY)


# ---------------------------------------------------------------------- parts of HiGHS


def test_columns_that_highs_does_not_vouch_for_are_not_read() -> None:
    """A vector without ``value_valid`` never becomes a solution, whatever it holds."""
    answer = highs._Run(FakeHighs(valid=False), 1.0).answer()
    assert answer.verdict == "limit"
    assert answer.columns is None
    assert answer.bound == math.inf
    assert highs._Run(FakeHighs(valid=True), 1.0).answer().columns is not None


class FakeHighs:
    """Stands in for HiGHS; `run` blocks until it is released."""

    def __init__(self, valid: bool = True) -> None:
        self.valid = valid
        self.release = threading.Event()
        self.silenced: list[int] = []
        self.mip_dual_bound = math.nan
        self.mip_node_count = -1
        self.primal_solution_status = 2
        self.col_value = [0.0, 0.0]
        self.name = "kTimeLimit"

    value_valid = property(lambda self: self.valid)

    def getModelStatus(self) -> Any:  # noqa: N802
        """Return an object that is status, info and solution in one."""
        return self

    getInfo = getSolution = getModelStatus  # noqa: N815

    def setCallback(self, *_: Any) -> None:  # noqa: N802
        """Accept a callback."""

    def startCallbackInt(self, kind: int) -> None:  # noqa: N802
        """Accept a kind of callback."""

    def stopCallbackInt(self, kind: int) -> None:  # noqa: N802
        """Note that a kind of callback was stopped."""
        self.silenced.append(kind)

    def run(self) -> None:
        """Block as the root relaxation does."""
        self.release.wait(60)


def test_a_run_that_does_not_stop_is_left_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """When HiGHS ignores the interrupt, the caller goes on, and at exit the run is silenced."""
    fake = FakeHighs()
    monkeypatch.setattr(highs, "_loaded", lambda *_: fake)
    monkeypatch.setattr(highs, "_abandoned", [])
    model = matrices(pyomo_model(FACILITY))
    hasty = Settings(1.0, False, tuning=LinearTuning(grace_s=0.0))
    answer = highs.maximise(model, hasty, lambda _: None, lambda: True)
    assert (answer.verdict, answer.detail, answer.columns) == ("limit", "abandoned", None)
    highs._silence()
    assert len(fake.silenced) == 3
    fake.release.set()


def test_an_exception_of_the_caller_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second Ctrl-C, or a failing callback, goes through at once and tells HiGHS to stop."""
    fake = FakeHighs()
    monkeypatch.setattr(highs, "_loaded", lambda *_: fake)
    monkeypatch.setattr(highs, "_abandoned", [])

    def press() -> bool:
        raise KeyboardInterrupt

    model = matrices(pyomo_model(FACILITY))
    with pytest.raises(KeyboardInterrupt):
        highs.maximise(model, Settings(1.0, False), lambda _: None, press)
    assert [run_.stopping for run_ in highs._abandoned] == [True]
    fake.release.set()


def test_an_exception_in_the_thread_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure inside the worker is raised where the solver was called."""
    fake = FakeHighs()
    monkeypatch.setattr(fake, "run", lambda: 1 / 0)
    monkeypatch.setattr(highs, "_loaded", lambda *_: fake)
    model = matrices(pyomo_model(FACILITY))
    with pytest.raises(ZeroDivisionError):
        highs.maximise(model, Settings(1.0, False), lambda _: None, lambda: False)


def test_refused_options_and_models_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option or a model that HiGHS refuses is not passed over in silence."""
    import highspy

    model = matrices(pyomo_model(FACILITY))
    with pytest.raises(SolverError, match="threads = -3"):
        highs._loaded(model, Settings(1.0, False, threads=-3))
    broken = highspy.HighsLp()
    broken.num_col_ = 3
    monkeypatch.setattr(highs, "_scaled", lambda *_: broken)
    with pytest.raises(SolverError, match="model"):
        highs._loaded(model, Settings(1.0, False))


def test_callback_passes_on_news_and_the_wish_to_stop() -> None:
    """What HiGHS reports is queued as it is, NaN as "nothing known", and a stop is handed in."""

    class Out:
        mip_solution = np.array([1.0, 0.0])
        mip_dual_bound = math.nan
        mip_node_count = -1

    class Reply:
        user_interrupt = False

    run_, reply = highs._Run(FakeHighs(), 2.0), Reply()
    run_.on_callback(highs._callback("MipSolution"), "", Out, reply, None)
    assert reply.user_interrupt is False
    run_.stopping = True
    run_.on_callback(highs._callback("MipLogging"), "", Out, reply, None)
    assert reply.user_interrupt is True
    first, second = run_.messages.get_nowait(), run_.messages.get_nowait()
    assert isinstance(first, News)
    assert isinstance(second, News)
    assert first.columns is not None
    assert first.columns.tolist() == [1.0, 0.0]
    assert second.columns is None
    assert (first.nodes, first.bound) == (0, math.inf)
    with pytest.raises(queue.Empty):
        run_.messages.get_nowait()


# ---------------------------------------------------------------------- formulations


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_text_is_the_reference(name: str, tmp_path: Path) -> None:
    """The LP text of a small problem is, line by line, the one in ``tests/lp``."""
    milp.export_model(EXPORTED[name], tmp_path / "model.lp")
    written = (tmp_path / "model.lp").read_text().splitlines()
    assert written == (LP / f"{name}.lp").read_text().splitlines()


@pytest.mark.parametrize("suffix", [".lp", ".mps"])
@pytest.mark.parametrize("problem", [FACILITY, CHOICE], ids=["facility", "choice"])
def test_exported_files_mean_the_same(problem: Any, suffix: str, tmp_path: Path) -> None:
    """HiGHS reads an exported file and finds the optimum of the problem in it."""
    import highspy

    path = tmp_path / f"model{suffix}"
    milp.export_model(problem, path)
    solver = highspy.Highs()
    solver.silent()
    assert solver.readModel(str(path)) == highspy.HighsStatus.kOk
    solver.run()
    assert solver.getInfo().objective_function_value == pytest.approx(brute_force(problem))


def test_export_refuses_what_it_cannot_write(tmp_path: Path) -> None:
    """Another suffix, oracles, and a missing folder are input errors."""
    with pytest.raises(InputError, match=r"the suffix must be \.lp or \.mps"):
        milp.export_model(FACILITY, tmp_path / "model.txt")
    with pytest.raises(InputError, match="MonotoneProblem has no linear formulation"):
        milp.export_model(FACILITY.as_monotone(), tmp_path / "model.lp")
    with pytest.raises(InputError, match="No such file or directory"):
        milp.export_model(FACILITY, tmp_path / "missing" / "model.lp")


def test_pairs_that_earn_nothing_have_no_column() -> None:
    """Zero values and experts that alone exceed a budget are left out of the assignment."""
    problem = FacilityProblem(values=[[1, 2, 0], [0, 3, 4]], costs=[[1, 9, 1]], budgets=[2])
    assert valued_pairs(problem).tolist() == [[0, 0], [1, 2]]
    assert run(problem, "milp").objective == brute_force(problem) == 5.0


@settings(max_examples=40)
@given(facility_problems() | choice_problems(), st.integers(0, 2**20))
def test_columns_and_solutions_correspond(problem: Any, seed: int) -> None:
    """A feasible solution becomes feasible columns of the same value, and back."""
    rng = np.random.default_rng(seed)
    is_facility = isinstance(problem, FacilityProblem)
    sizes = np.full(problem.size, 2) if is_facility else np.diff(problem.offsets)
    x, model = rng.integers(sizes), matrices(pyomo_model(problem))
    if not problem.is_feasible(x) or not len(model.objective):
        return
    columns = columns_of(problem, model, x)
    activity = model.rows @ columns
    rounding = 1e-9 * (1 + np.abs(activity))
    assert (activity <= model.row_upper + rounding).all()
    assert (activity >= model.row_lower - rounding).all()
    assert model.objective @ columns == pytest.approx(problem.evaluate(x), rel=1e-12, abs=1e-12)
    back = solution_of(problem, model, columns)
    # An expert without a column earns nothing and is in no row.
    assert (back == x)[model.chosen_by >= 0].all() if is_facility else (back == x).all()
    assert problem.evaluate(back) == problem.evaluate(x)
