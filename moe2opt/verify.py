"""Judge a stored result as people read it: everything that follows from its solution is rebuilt.

`moe2opt.certify` proves the bound. What a file says besides (the plan with its names and figures,
gap, status, where it comes from) follows from the solution and the configuration; it is rebuilt
here and compared with the file, so that nothing in it has to be believed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from moe2opt.canonical import Instance, Problem
from moe2opt.certify import Verdict, certify
from moe2opt.config import load
from moe2opt.content import Content, brief
from moe2opt.differences import differences
from moe2opt.errors import DAMAGE
from moe2opt.files import read_json
from moe2opt.present import measure_of
from moe2opt.result import (
    LARGEST_GAP,
    NUMERICAL_GAP,
    InputError,
    Limit,
    Result,
    Status,
    closing_gap,
    optimal_within,
)
from moe2opt.source import name_of, source_of

#: What a result says of its run and nothing can rebuild: counters and times, settings, versions and
#: machine. `provenance.file` is only a name, and scenario and overrides say which problem is meant.
FREE = (
    "stats",
    "provenance.file",
    "provenance.scenario",
    "provenance.overrides",
    "provenance.axes",
    "provenance.options",
    "provenance.versions",
    "provenance.platform",
    "provenance.cpu_count",
    "provenance.utc",
)

#: What is said of a result whose configuration is not at hand.
UNCHECKED = "not checked: no configuration given"

#: Relative use beyond a budget that is no more than rounding of its terms.
_NOISE = 1e-12

#: The limit that has to be set for a run to end by it.
_SETTING_OF = {Limit.TIME: "time_limit_s", Limit.NODES: "node_limit"}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Judgement(Content):
    """What is true of a stored result.

    Attributes
    ----------
    result
        The result with its plan rebuilt from its solution; None when the file holds none.
    verdict
        What the checker found; None when it could not run.
    failures
        Everything that is wrong, one line each.
    provisos
        What loosened the question or must be known to read the answer.
    target
        What the result was solved for; None when its own scenario or overrides do not fit.
    foreign
        Whether it was made for other data, so that nothing was compared.
    """

    result: Result | None
    verdict: Verdict | None
    failures: tuple[str, ...]
    provisos: tuple[str, ...] = ()
    target: Instance | Problem | None = None
    foreign: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.failures

    @property
    def claimed(self) -> bool:
        """Whether the status says of all plans what no certificate proves."""
        status = None if self.result is None else self.result.status
        proven = self.verdict is not None and self.verdict.kind == "checked"
        return status in (Status.OPTIMAL, Status.INFEASIBLE) and not proven

    def _brief_fields(self) -> Iterator[tuple[str, str]]:
        yield "ok", str(self.ok)
        yield "claimed", str(self.claimed)
        yield "result", str(self.result)
        told = {"failures": self.failures, "provisos": self.provisos}
        yield from ((name, brief(texts)) for name, texts in told.items() if texts)


def verify(
    path: str | Path,
    config: str | Path,
    scenario: str | None = None,
    overrides: Sequence[str] = (),
    *,
    allow_outside: bool = False,
) -> Judgement:
    """Judge a result that was written by ``solve --out``.

    Scenario and overrides are those that the result recorded, unless others are given.

    Raises
    ------
    InputError
        When the file or the configuration cannot be read.
    """
    stored = read_stored(path)
    try:
        own_scenario, own_overrides = recorded(stored)
    except InputError as error:
        return Judgement(None, None, (str(error),))
    try:
        target = load(
            config,
            scenario or own_scenario,
            overrides or own_overrides,
            allow_outside=allow_outside,
        )
    except InputError as error:
        if scenario is None and not overrides and _loads(config, allow_outside):
            return Judgement(None, None, (f"provenance: {error}",), foreign=True)
        raise
    return judged(stored, Path(path).parent, target)


def _loads(config: str | Path, allow_outside: bool) -> bool:
    """Tell whether a configuration can be read without what a result recorded."""
    try:
        load(config, allow_outside=allow_outside)
    except InputError:
        return False
    return True


def read_stored(path: str | Path) -> dict[str, Any]:
    """Return the content of a stored result; raise `InputError` when the file holds none."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a result: the file does not hold a JSON object")
    return content


def recorded(stored: dict[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    """Return the scenario and the overrides that a result was made with."""
    origin = stored.get("provenance")
    origin = origin if isinstance(origin, dict) else {}
    scenario, overrides = origin.get("scenario"), origin.get("overrides", [])
    texts = isinstance(overrides, list) and all(isinstance(text, str) for text in overrides)
    if not texts or not isinstance(scenario, str | None):
        raise InputError("provenance: scenario and overrides must be text")
    return scenario, tuple(overrides)


def judged(stored: dict[str, Any], folder: Path, target: Instance | Problem) -> Judgement:
    """Judge the content of a result file.

    Parameters
    ----------
    stored
        Content of the file.
    folder
        Where it lies, and the arrays of a large certificate.
    target
        The instance or problem that it was solved for.
    """
    try:
        result = Result.from_dict(stored, folder)
    except InputError as error:
        return Judgement(None, None, (str(error),), target=target)
    if foreign := other_problem(target, result):
        nothing = replace(result, plan=None)
        return Judgement(nothing, None, foreign, provisos_of(result), target, foreign=True)
    verdict = certify(target, result)
    failures = [*verdict.failures, *_status_faults(result, _problem_of(target))]
    try:
        result = rebuilt(target, result)
    except DAMAGE as error:
        result = replace(result, plan=None)
        failures += [] if verdict.failures else [f"x: {error}"]
    else:
        failures += differences(stored, _expected(stored, result, target), free=FREE)
        failures += _price_faults(result, target)
    provisos = provisos_of(result)
    if not failures:
        provisos += tuple(beyond_limits(target, result.x))
    return Judgement(result, verdict, tuple(failures), provisos, target)


def beyond_limits(target: Instance | Problem, x: Any) -> Iterator[str]:
    """Yield where a solution uses more than a budget, within the slack that fractions have.

    The slack is relative: beside a limit of 1e12 it is 1,000, which may be more than all that the
    other entries of the row use.
    """
    # Without a solution there is nothing to compile for: a limit may have ended just that.
    problem: Any = None if x is None else _problem_of(target)
    if not hasattr(problem, "usage_of"):
        return
    rows = range(len(problem.budgets))
    names = target.row_names() if isinstance(target, Instance) else [f"budgets[{k}]" for k in rows]
    used, limits = problem.usage_of(x).tolist(), problem.budgets.tolist()
    for name, use, limit in zip(names, used, limits, strict=True):
        over = use - limit
        if over > _NOISE * max(1.0, abs(limit)):
            yield f"{name}: uses {use!r}, {over:.6g} more than {limit!r}, within the slack of 1e-9"


def other_problem(target: Instance | Problem, result: Result) -> tuple[str, ...]:
    """Return a failure in words when a result was made for other data."""
    problem = _problem_of(target)
    told = result.provenance.get("problem")
    made_for = told.get("sha256") if isinstance(told, dict) else None
    if made_for in (None, problem.fingerprint):
        return ()
    mine, named = result.provenance.get("instance"), name_of(target)
    if mine and isinstance(target, Instance) and mine != named:
        return (f"it was made for other data: for the problem '{mine}', not for '{named}'",)
    return ("it was made for other data: the configuration or its tables differ",)


def rebuilt(target: Instance | Problem, result: Result) -> Result:
    """Return a result whose plan is what its solution means in the instance."""
    result = replace(result, measure=measure_of(target))
    if result.x is None:
        return replace(result, plan=None, objective=-math.inf)
    if not isinstance(target, Instance):
        return replace(result, plan=None)
    plan = target.decode(result.x)
    complete: Any = getattr(target, "completed_plan", None)
    return replace(result, plan=plan if complete is None else complete(plan, result.plan))


def _problem_of(target: Instance | Problem) -> Problem:
    return target.problem() if isinstance(target, Instance) else target


def _expected(stored: dict[str, Any], result: Result, target: Instance | Problem) -> dict[str, Any]:
    """Return what the file must hold, apart from what is `FREE`."""
    content = replace(result, certificate=None, stats={}, provenance={}).to_dict()
    content["certificate"] = _certificate(stored, result)
    if "format" not in stored:
        content = _of_format_1(content)
    expected: dict[str, Any] = json.loads(json.dumps(content))
    expected["provenance"] = _provenance(result, target)
    return expected


def _of_format_1(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content in the layout of older files: canonical values only."""
    new = ("format", "unit", "quantity", "canonical")
    old = {key: value for key, value in content.items() if key not in new}
    return {**old, "sense": "maximize", **content["canonical"]}


def _certificate(stored: dict[str, Any], result: Result) -> dict[str, Any] | None:
    """Return the certificate as `Result.save` writes it."""
    own, told = result.certificate, stored["certificate"]
    if own is None:
        return None
    if "arrays" not in told:
        return own.to_dict()
    names = {key: told["arrays"][key] for key in ("file", "sha256")}
    return {**replace(own, tree=(), multipliers=()).to_dict(), "arrays": names}


def _provenance(result: Result, target: Instance | Problem) -> dict[str, Any]:
    problem = _problem_of(target)
    content: dict[str, Any] = {}
    if isinstance(target, Instance):
        told, scenario = result.provenance.get("instance"), result.provenance.get("scenario")
        # A configuration that was written beside a result holds the values of its scenario.
        own = (name_of(target), f"{name_of(target)}-{scenario}")
        content["instance"] = told if told in own else name_of(target)
        content |= getattr(target, "origin", {})
        source = source_of(target)
        if source is not None and "question" in result.provenance:  # older files do not say it
            content["question"] = source.question
    facts = {"kind": problem.kind, "size": problem.size, "sha256": problem.fingerprint}
    return {**content, "problem": facts, "solver": result.solver}


def _status_faults(result: Result, problem: Problem) -> Iterator[str]:
    """Yield where status, limit and the gap that was asked for contradict what is proven."""
    asked = result.provenance.get("options", {})
    asked = asked if isinstance(asked, dict) else {}
    if "rel_gap" in asked and asked["rel_gap"] != result.rel_gap:
        yield f"rel_gap: stored {result.rel_gap!r}, the run asked for {asked['rel_gap']!r}"
    if result.status in (Status.OPTIMAL, Status.INFEASIBLE) and result.limit is not None:
        yield f"limit: stored {result.limit}, but {result.status} needs no limit"
    needs = None if result.limit is None else _SETTING_OF.get(result.limit)
    if needs is not None and asked and asked.get(needs) is None:
        yield f"limit: stored {result.limit}, but the run had no {needs}"
    closed = closing_gap(optimal_within(result.rel_gap), problem.is_integral)
    if result.status is Status.FEASIBLE and result.gap <= closed:
        yield f"status: stored {result.status}, rebuilt OPTIMAL (the gap is {result.gap:.3g})"
    if result.status is Status.NO_SOLUTION and result.bound == -math.inf and result.limit is None:
        yield f"status: stored {result.status}, rebuilt INFEASIBLE"
    if result.status is Status.ERROR:
        yield "status: stored ERROR, which no run of solve writes"


def _price_faults(result: Result, target: Any) -> Iterator[str]:
    """Yield where the bound without robustness is not what its own certificate proves."""
    plain = getattr(getattr(result.plan, "robustness", None), "nominal", None)
    if plain is not None and plain.certificate is not None:
        for failure in certify(target.nominal.problem(), plain).failures:
            yield f"plan.robustness: {failure}"


def only_within(rel_gap: float, gap: float) -> str:
    """Return the words for an optimum that the gap that was asked for made one."""
    return f"optimal only within a relative gap of {rel_gap:g}; its gap is {gap:.3g}"


def provisos_of(result: Result) -> tuple[str, ...]:
    """Return what loosened the question that a result answers, and what to know of its making."""
    origin = result.provenance
    found = []
    if origin.get("scenario") is not None:
        found.append(f"for the scenario {origin['scenario']} recorded in the result")
    found += [f"with --set {text} recorded in the result" for text in origin.get("overrides") or ()]
    if result.status is Status.OPTIMAL and result.gap > NUMERICAL_GAP:
        found.append(only_within(result.rel_gap, result.gap))
    elif result.rel_gap > LARGEST_GAP:
        found.append(f"a relative gap of {result.rel_gap:g} was asked for, which proves nothing")
    plain = getattr(getattr(result.plan, "robustness", None), "nominal", None)
    if plain is not None and plain.certificate is None and plain.bound < math.inf:
        found.append("the bound without robustness is a claim of the run, not proven here")
    versions = origin.get("versions")
    made_by = versions.get("moe2opt") if isinstance(versions, dict) else None
    if made_by != metadata.version("moe2opt"):
        found.append(
            f"made by moe2opt {made_by or 'of an unknown version'}, judged by "
            f"{metadata.version('moe2opt')}: texts may differ"
        )
    return tuple(found)
