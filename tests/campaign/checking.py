"""What must hold of every run, judged by the truth of its instance."""

from __future__ import annotations

import contextlib
import math
import signal
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

from campaign.instances import Choice, ExactRow, Facility, Instance, draw

import moe2opt as mo
from moe2opt.canonical import MonotoneProblem
from moe2opt.result import InputError, Result, Status

#: Seconds after which a run of a tiny instance counts as hung; the first ones compile kernels.
PATIENCE_S = 300

#: Relative gap within which OPTIMAL may leave a value that is not whole.
CLOSED = 1.01e-9

CERTIFIED = ("brb", "polyblock")


class HungError(BaseException):
    """A call did not come back in time; not an `Exception`, so nothing swallows it."""


@dataclass
class Tally:
    """Counts of what was tried, and every fault in words that repeat it."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take in the counts and faults of another part of the campaign."""
        self.counts.update(other.counts)
        self.faults += other.faults

    def fault(self, seed: int, label: str, words: str) -> None:
        """Note a fault."""
        self.counts["faults"] += 1
        self.faults.append(f"seed {seed} {label}: {' '.join(words.split())}")


@contextlib.contextmanager
def guarded(tally: Tally, seed: int, label: str) -> Iterator[None]:
    """Turn exceptions, warnings and hangs into faults."""

    def hung(signum: int, frame: object) -> None:
        raise HungError

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(PATIENCE_S)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    except HungError:
        tally.fault(seed, label, f"hung for {PATIENCE_S} s")
    except Exception as error:
        tally.fault(seed, label, f"raised {type(error).__name__}: {error}")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class Proven:
    """A result with a certificate, the problem it is about, and what is true of that."""

    problem: Any
    instance: Instance
    result: Result


def examine(seed: int, tally: Tally) -> list[Proven]:
    """Run the engines on the instance of a seed; return the results that have a certificate."""
    instance = draw(seed)
    proven: list[Proven] = []
    try:
        problem = instance.problem()
    except InputError as error:
        tally.counts["refused"] += 1
        if not instance.overflows or "\n" in str(error):
            tally.fault(seed, "refused", str(error))
        return proven
    tally.counts["instances"] += 1
    tally.counts[f"instances {instance.family}"] += 1
    rng = Random(seed)
    for solver, options in _runs(rng, problem, instance):
        label = " ".join([solver, *(f"{k}={v}" for k, v in options.items())])
        with guarded(tally, seed, label):
            target = problem.as_monotone() if options.pop("view", False) else problem
            result = mo.solve(target, solver, **options)
            tally.counts["runs"] += 1
            tally.counts[f"runs {solver}"] += 1
            tally.counts[str(result.status)] += 1
            for words in faults(target, instance, result, options):
                tally.fault(seed, label, words)
            if result.certificate is not None and target is problem:
                proven.append(Proven(problem, instance, result))
    if proven and seed // 4 % 2 == 0:
        with guarded(tally, seed, "round trip"):
            result = rng.choice(proven).result
            tally.counts["round trips"] += 1
            for words in _changed_by_saving(problem, result):
                tally.fault(seed, "round trip", words)
    if isinstance(instance, Facility | Choice) and instance.budgets and seed // 4 % 8 == 1:
        with guarded(tally, seed, "front"):
            tally.counts["fronts"] += 1
            for words in _front_faults(problem, instance):
                tally.fault(seed, "front", words)
    return proven


def _front_faults(problem: Any, instance: Facility | Choice) -> Iterator[str]:
    """Yield what is wrong with the exact front over the first budget."""
    free = [
        x
        for x in instance.points()
        if instance.without(range(1, len(instance.budgets)), range(instance.sizes[1])).feasible(x)
    ]
    try:
        front = mo.pareto(problem, x="budgets[0]", points=None)
    except InputError as error:
        if free or "\n" in str(error):
            yield f"refused: {error}"
        return
    for point in front:
        best = instance.with_budget(0, point.budget).best
        if not point.certified or _gap(point.objective, best) > Fraction(CLOSED):
            yield f"at {point.budget!r} {point.objective!r} ({point.status}), right is {best!r}"
    row = ExactRow(instance.row(0))
    for x in free:
        use, value = row.total(instance.picks(x)), instance.value(x)
        reach = use + 1.1e-6 * max(1.0, abs(use))
        if front.complete and not any(
            p.budget <= reach and _gap(p.objective, value) <= CLOSED for p in front
        ):
            yield f"x = {x} uses {use!r} and is worth {value!r}, which the front does not know"
            return


def _runs(rng: Random, problem: Any, instance: Instance) -> list[tuple[str, dict[str, Any]]]:
    """Return the engines of an instance: all exact ones, and one that varies a run."""
    linear = not isinstance(problem, MonotoneProblem)
    runs: list[tuple[str, dict[str, Any]]] = [("brb", {}), ("polyblock", {})]
    if linear:
        runs.append(("milp", {}))
    if not getattr(instance, "wide", False):
        runs.append(("enumerate", {}))
    nodes = rng.choice((0, 1, 2, 3, 5))
    varied: list[tuple[str, dict[str, Any]]] = [
        ("brb", {"node_limit": nodes}),
        ("polyblock", {"node_limit": nodes}),
        (rng.choice(CERTIFIED), {"time_limit_s": 0.0}),
        (rng.choice(CERTIFIED), {"memory_limit_bytes": 1}),
        ("brb", {"threads": 2}),
        ("brb", {"rel_gap": rng.choice((1e-6, 0.1, 1.0))}),
        ("brb", {"bound": rng.choice(_bounds(problem))}),
        (rng.choice(CERTIFIED), {"warm_start": next(instance.points(), None)}),
        ("brb", {"seed": rng.randrange(100)}),
        ("greedy", {}),
    ]
    if linear:
        varied += [
            (rng.choice(CERTIFIED), {"view": True}),
            ("brb", {"proof": "linear"}),
            ("milp", {"time_limit_s": 0.0}),
            ("milp", {"node_limit": nodes}),
            ("local_search", {}),
        ]
    return [*runs, rng.choice(varied)]


def _bounds(problem: Any) -> tuple[str, ...]:
    if problem.kind == "facility":
        return ("cuts", "lagrangian", "submodular", "corner")
    if problem.kind == "multiple_choice":
        return ("core", "lagrangian", "corner")
    return ("mixed",) if problem.mixed_objective is not None else ("corner",)


def faults(
    target: Any, instance: Instance, result: Result, options: dict[str, Any]
) -> Iterator[str]:
    """Yield what is wrong with a result, in words."""
    best, viewed = instance.best, target.kind == "monotone" != instance.family
    if result.bound < best:
        yield f"bound {result.bound!r} below the optimum {best!r} ({result.status})"
    if result.status is Status.INFEASIBLE and best != -math.inf:
        yield f"INFEASIBLE, but the optimum is {best!r}"
    if result.x is not None and not viewed:
        x = tuple(result.x.tolist())
        if not instance.feasible(x):
            yield f"x = {x} is not feasible"
        elif result.objective != instance.value(x):
            yield f"objective {result.objective!r}, but x = {x} is worth {instance.value(x)!r}"
    if result.objective > best:
        yield f"objective {result.objective!r} above the optimum {best!r}"
    asked = max(options.get("rel_gap", 0.0), CLOSED)
    if result.status is Status.OPTIMAL and _gap(result.objective, best) > Fraction(asked):
        yield f"OPTIMAL {result.objective!r}, but the optimum is {best!r}"
    yield from _unfinished(result, options, best)
    yield from _rejected(target, result)


def _gap(objective: float, best: float) -> Fraction | float:
    """Return how far a value lies below the best one, relative to its own size."""
    if objective == best or not math.isfinite(best) or not math.isfinite(objective):
        return 0.0 if objective == best else math.inf
    scale = max(abs(Fraction(objective)), Fraction(1e-10))
    return (Fraction(best) - Fraction(objective)) / scale


def _unfinished(result: Result, options: dict[str, Any], best: float) -> Iterator[str]:
    """Yield a fault where a certified engine or enumeration ends with an open question."""
    if any("limit" in name for name in options):
        return
    if result.limit is not None:
        yield f"stopped by a limit that nobody set: {result.limit}"
    if result.solver not in (*CERTIFIED, "enumerate"):
        return
    right = Status.INFEASIBLE if best == -math.inf else Status.OPTIMAL
    if result.status is not right:
        yield f"{result.status} ({result.objective!r}, {result.bound!r}), right is {right} {best!r}"


def _rejected(target: Any, result: Result) -> Iterator[str]:
    verdict = mo.certify(target, result)
    kind = "checked" if result.solver in CERTIFIED else "claimed"
    if not verdict.ok:
        yield f"own result rejected: {verdict.failures}"
    if verdict.kind != kind:
        yield f"{verdict.kind} instead of {kind}"
    if verdict.bound != result.bound or verdict.objective != result.objective:
        yield f"the verdict says {verdict.objective!r} and {verdict.bound!r}"


def _changed_by_saving(problem: Any, result: Result) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        result.save(path)
        read = Result.load(path)
        if mo.certify(problem, read) != mo.certify(problem, result):
            yield "the verdict on the file differs"
        same = (read.status, read.objective, read.bound) == (
            *(result.status, result.objective),
            result.bound,
        )
        if not same:
            yield f"the file says {read}"
        if problem.kind != "monotone":
            mo.save_problem(problem, Path(folder) / "problem.json")
            copy = mo.load_problem(Path(folder) / "problem.json")
            if copy.fingerprint != problem.fingerprint:
                yield "the problem's file holds another problem"
