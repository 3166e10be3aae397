"""The orchestrator: compile, choose a solver, run it under its limits, decode, certify."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from importlib import metadata
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from moe2opt import heartbeat, interrupts, progress
from moe2opt.canonical import (
    FacilityProblem,
    Instance,
    MonotoneProblem,
    MultipleChoiceProblem,
    Plan,
    Problem,
)
from moe2opt.present import measure_of
from moe2opt.provenance import provenance_of
from moe2opt.provenance import versions as versions
from moe2opt.result import (
    InputError,
    IntArray,
    Limit,
    MoeOptError,
    ProgressEvent,
    Result,
)
from moe2opt.solvers import (
    Interrupt,
    Options,
    Outcome,
    ProgressCallback,
    Search,
    SolverFunction,
    SolverInfo,
    choose,
)
from moe2opt.solvers.compiling import Compiling, LimitReachedError
from moe2opt.source import name_of, source_of

# Only type checkers know the default before Python 3.13.
if TYPE_CHECKING:
    from typing_extensions import TypeVar

    PlanT = TypeVar("PlanT", default=Plan)
else:
    from typing import TypeVar

    PlanT = TypeVar("PlanT")

FAMILIES = (FacilityProblem, MultipleChoiceProblem, MonotoneProblem)

#: Largest relative difference between an instance's objective and its canonical problem's.
OBJECTIVE_TOLERANCE = 1e-6

_BYTES_PER_GIB = 2**30


class SolverMismatchError(MoeOptError):
    """A solution does not mean in the instance what it means in its canonical problem."""


def solve(
    target: Instance[PlanT] | Problem,
    solver: str | None = None,
    *,
    time_limit_s: float | None = None,
    node_limit: int | None = None,
    memory_limit_bytes: int | None = None,
    rel_gap: float | None = None,
    seed: int | None = None,
    threads: int | None = None,
    warm_start: Any = None,
    bound: str | None = None,
    proof: str | None = None,
    display: bool = False,
    on_progress: ProgressCallback | None = None,
) -> Result[PlanT]:
    """Solve an instance or a canonical problem.

    An argument left at None takes the value of the file's ``solver`` section when `target` was
    loaded from one, and the default given below otherwise.

    Parameters
    ----------
    target
        An instance (`moe2opt.load`) or a canonical problem.
    solver
        Name of a solver; default ``auto``, which chooses by the structure of the problem.
    time_limit_s, node_limit, memory_limit_bytes
        Limits; default none (``time_limit_s=math.inf`` lifts the limit of a file). Compiling the
        canonical problem counts; a run that ends there has no plan and an infinite bound.
    rel_gap
        Stop once ``(bound - objective) / |objective|`` is at most this; default 1e-9, within which
        whole-numbered objectives are closed exactly. 0 asks for the best that floating point can
        tell from all others.
    seed
        Seed of everything random; default 0.
    threads
        Threads of a solver that can use several (`brb` on facility problems with many cheap
        nodes, `milp`); default 1. The result is the same for a given number of threads.
    warm_start
        A solution to start from, in the variables of the canonical problem, or the result of an
        earlier run (without effect when that has no solution); ignored when infeasible. Default
        the attribute ``start`` of the instance, if it has one.
    bound
        Bound of the solver ``brb``; default ``auto``.
    proof
        ``linear`` for a certificate that uses only what the linear formulation contains, which is
        what `moe2opt.vipr` can write; default ``any``, which is faster.
    display
        Show progress and a report on stderr.
    on_progress
        Called with every `ProgressEvent`.

    Returns
    -------
    Result
        A plan exists exactly when the status is OPTIMAL or FEASIBLE. Limits and Ctrl-C end the run
        with what was found; a second Ctrl-C raises KeyboardInterrupt.

    Raises
    ------
    InputError
        For bad input, and for nothing else: neither limits nor infeasibility raise.
    SolverMismatchError
        When the instance contradicts its own canonical problem.

    Examples
    --------
    >>> import moe2opt as mo
    >>> p = mo.FacilityProblem(values=[[3, 0, 2], [0, 4, 3]], costs=[[1, 1, 1]], budgets=[1])
    >>> r = mo.solve(p)
    >>> str(r.status), r.x.tolist(), r.objective, r.bound
    ('OPTIMAL', [0, 0, 1], 5.0, 5.0)
    """
    with shown() if display else nullcontext():
        result = run(
            target,
            solver,
            display=display,
            on_progress=on_progress,
            warm_start=warm_start,
            time_limit_s=time_limit_s,
            node_limit=node_limit,
            memory_limit_bytes=memory_limit_bytes,
            rel_gap=rel_gap,
            seed=seed,
            threads=threads,
            bound=bound,
            proof=proof,
        )
        if display:
            progress.logger.info(progress.report(result))
    return result


@contextmanager
def shown() -> Iterator[None]:
    """Show what is logged on stderr, and a line when nothing was for long."""
    with progress.on_stderr(), heartbeat.beating(progress.logger.info):
        yield


def run(
    target: Instance[PlanT] | Problem,
    solver: str | None = None,
    *,
    display: bool = False,
    on_progress: ProgressCallback | None = None,
    warm_start: Any = None,
    of: Any = None,
    explain: bool = True,
    **settings: Any,
) -> Result[PlanT]:
    """Do what `solve` does, without the closing report: for callers that certify first.

    `of` is the instance that a bare problem is a variant of: what it knows of bounds and rows holds
    for the problem, too. Without `explain`, nobody asks why nothing is feasible.
    """
    with interruptible() as interrupt:
        _check_type("solver", solver)
        if on_progress is not None and not callable(on_progress):
            raise InputError(f"on_progress: {type(on_progress).__name__} is not callable")
        defaults = _file_settings(target)
        named = defaults.pop("name", "auto")
        options = _options(defaults, settings)
        compiling = Compiling(options, interrupt)
        try:
            with heartbeat.doing(lambda: f"compiling {compiling.stage}"):
                problem = compiling.done(lambda: _problem_of(target))
        except LimitReachedError as stopped:
            progress.logger.warning(compiling.ended(stopped.limit))
            nothing = compiling.nothing(solver or named, stopped.limit)
            origin = provenance_of(target, None, options, nothing.solver)
            return replace(nothing, measure=measure_of(target), provenance=origin)
        info = choose(solver or named, problem)
        known = target if of is None else of
        if warm_start is None:
            with heartbeat.doing("looking for a start"):
                warm_start = getattr(target, "start", None)
        options = replace(
            options,
            warm_start=_start(problem, warm_start),
            fixed_rows=tuple(getattr(known, "fixed_rows", ())),
        )
        if options.bound == "auto" and options.proof == "any":
            options = replace(options, bound=getattr(known, "bound", "auto"))
        listeners = [on_progress] if on_progress else []
        table = progress.Table(measure_of(target))
        if display:
            _announce(target, problem, info)
            listeners.insert(0, table)
        function = info.load()  # before the clock starts
        rest = replace(
            compiling.rest,
            warm_start=options.warm_start,
            bound=options.bound,
            fixed_rows=options.fixed_rows,
        )
        search = Search(problem, rest, _fan_out(listeners), interrupt)
        with heartbeat.doing(lambda: progress.so_far(info.name, search)):
            outcome = _outcome(function, search, explain=explain)
        if not info.certified:
            outcome = replace(outcome, certificate=None)
        result = _decoded(target, search.result(outcome, info.name))
        table.close()
        limit_s = None if options.time_limit_s is None else search.time_left_s
        rest = replace(options, time_limit_s=limit_s)
        result = _priced(target, result, info, rest, interrupt)
    return replace(
        result,
        measure=measure_of(target),
        stats={**_plain(result.stats), "compile_s": compiling.seconds},
        provenance=provenance_of(target, problem, options, info.name),
    )


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Turn Ctrl-C into a flag for as long as the block lasts; the second one raises.

    Under a verb that was interrupted before, the flag is up from the start: everything winds up.
    """
    interrupt = Interrupt()
    interrupt.raised = interrupts.heard()

    def handler(signum: int, frame: object) -> None:
        if interrupt.raised:
            raise KeyboardInterrupt
        interrupt.raised = True
        # A signal may arrive in the middle of a write to the same stream.
        with suppress(RuntimeError):
            progress.logger.warning("Interrupted: finishing with what was found; again to abort")

    with interrupts.handling_interrupts(handler):
        yield interrupt


def _problem_of(target: object) -> Problem:
    """Return the canonical problem."""
    if isinstance(target, FAMILIES):
        return target
    if not isinstance(target, Instance):
        name = type(target).__name__
        raise InputError(f"expected an instance or a problem, got {name}; moe2opt.load reads files")
    return target.problem()


def _file_settings(target: Instance[Any] | Problem) -> dict[str, Any]:
    """Return the settings of the file that the instance was loaded from."""
    source = source_of(target)
    if source is None:
        return {}
    settings: dict[str, Any] = source.solver.model_dump()
    gib = settings.pop("memory_limit_gib")
    settings["memory_limit_bytes"] = None if gib is None else int(gib * _BYTES_PER_GIB)
    return settings


def _options(defaults: dict[str, Any], given: dict[str, Any]) -> Options:
    """Join the settings: what was given beats the file, the file beats the defaults."""
    for name, value in given.items():
        _check_type(name, value)
    chosen = {**defaults, **{name: value for name, value in given.items() if value is not None}}
    return Options(**{k: v for k, v in chosen.items() if v is not None})


def _start(problem: Problem, warm_start: Any) -> IntArray | None:
    """Return the solution to start from, in the variables of the canonical problem."""
    start = warm_start.x if isinstance(warm_start, Result) else warm_start
    if start is None:
        return None
    try:
        return problem.vector(start)
    except InputError as error:
        raise InputError(f"warm_start: {error}") from error


def _check_type(name: str, value: Any) -> None:
    """Raise unless a setting that was given has the type it needs."""
    texts = dict.fromkeys(("solver", "bound", "proof"), str)
    kinds: dict[str, Any] = {**texts, "time_limit_s": Real, "rel_gap": Real}
    kind = kinds.get(name, Integral)
    if value is None or (isinstance(value, kind) and not isinstance(value, bool)):
        return
    words = {str: "text", Real: "a number", Integral: "an integer"}[kind]
    raise InputError(f"{name} = {value!r} is not understood; it must be {words}")


def _fan_out(listeners: Sequence[ProgressCallback]) -> ProgressCallback:
    def tell_all(event: ProgressEvent) -> None:
        for listener in listeners:
            listener(event)

    return tell_all


def _announce(target: Instance[Any] | Problem, problem: Problem, info: SolverInfo) -> None:
    size = f"{type(problem).__name__} with {problem.size} variables"
    name, about = size, ""
    if not isinstance(target, FAMILIES):
        name, about = name_of(target), f"  {target.describe()}"
    progress.logger.info(f"moe2opt {metadata.version('moe2opt')}  {info.name}  {name}{about}")
    progress.logger.info(progress.LEGEND)


def _outcome(function: SolverFunction, search: Search, *, explain: bool = True) -> Outcome:
    """Run the solver, and ask why if nothing is feasible; no memory is a limit like any other."""
    search.offer_start()
    try:
        # Scores such as value per cost may be infinite; what counts is computed by the problem.
        with np.errstate(over="ignore"):
            outcome = function(search.problem, search)
            if explain and outcome.bound == -math.inf:
                from moe2opt.solvers.infeasibility import explained  # late: brings all engines

                outcome = explained(outcome, search)
            return outcome
    except MemoryError:
        return Outcome(bound=search.bound, limit=Limit.MEMORY)


def _decoded(target: Instance[Any] | Problem, result: Result[Any]) -> Result[Any]:
    """Add the plan, after the instance has judged it in its own terms."""
    if isinstance(target, FAMILIES) or result.x is None:
        return result
    x = result.x
    if (tighten := getattr(target, "tightened", None)) is not None:
        x = tighten(x)
    plan = target.decode(x)
    violations = target.check(plan)
    if violations:
        raise SolverMismatchError(
            f"{name_of(target)}: the plan is invalid: {'; '.join(violations)}"
        )
    result = replace(result, x=x, objective=target.problem().evaluate(x))
    value = target.evaluate(plan)
    if not math.isclose(value, result.objective, rel_tol=OBJECTIVE_TOLERANCE, abs_tol=1e-12):
        raise SolverMismatchError(
            f"{name_of(target)}: the plan is worth {value!r}, its canonical problem says "
            f"{result.objective!r}"
        )
    return replace(result, plan=plan)


def _priced(
    target: Instance[Any] | Problem,
    result: Result[Any],
    info: SolverInfo,
    options: Options,
    interrupt: Interrupt,
) -> Result[Any]:
    """Add to a robust plan what robustness costs: the same solver without it, in the time left."""
    nominal = getattr(target, "nominal", None)
    if nominal is None or result.plan is None:
        return result
    compiling = Compiling(options, interrupt)
    try:
        problem = compiling.done(nominal.problem)
    except LimitReachedError:
        return result
    # Columns besides the experts may differ, for example the thresholds of an energy budget.
    start = result.x if result.x is not None and len(result.x) == problem.size else None
    rest = replace(compiling.rest, warm_start=start)
    search = Search(problem, rest, lambda _: None, interrupt)
    plain = search.result(_outcome(info.load(), search), info.name)
    return replace(result, plan=target.with_nominal(result.plan, plain))  # type: ignore[union-attr]


def _plain(stats: dict[str, Any]) -> dict[str, Any]:
    """Turn numpy scalars and arrays into what JSON can hold."""
    return {k: v.tolist() if hasattr(v, "tolist") else v for k, v in stats.items()}
