"""The verbs ``check`` and ``verify``; neither imports a solver."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from moe2opt.canonical import MonotoneProblem, MultipleChoiceProblem, Problem, find_counterexample
from moe2opt.certify import Verdict, certify
from moe2opt.cli.exits import Exit, explain, say
from moe2opt.cli.output import put
from moe2opt.config import LoadedInstance, load, scenario_names
from moe2opt.progress import number
from moe2opt.result import InputError, Result, encode_float

#: Problems with more entries than this are not self-tested; the test evaluates all of them.
LARGEST_SELF_TEST = 10**6
SAMPLES = 200


@dataclass(frozen=True, slots=True)
class Checked:
    """What ``check`` found about one variant of a file.

    Attributes
    ----------
    config, scenario
        The variant.
    size
        Size of the canonical problem in words.
    about
        The instance in one line.
    pairs
        Pairs of neighbouring points that the monotonicity self-test compared; 0 if too large.
    """

    config: str
    scenario: str | None
    size: str
    about: str
    pairs: int


def run_check(
    configs: Sequence[str],
    scenario: str | None,
    overrides: tuple[str, ...],
    allow_outside: bool,
    *,
    as_json: bool,
    quiet: bool,
) -> Exit:
    """Check every file, tell all that is wrong, and return the exit code."""
    found: list[Checked] = []
    worst = Exit.OK
    for config in configs:
        try:
            for checked in _variants(config, scenario, overrides, allow_outside):
                found.append(checked)
                if not (quiet or as_json):
                    _show(checked)
        except Exception as error:  # one bad file must not hide the others
            worst = max(worst, explain(error))
    if as_json:
        put(json.dumps({"ok": worst is Exit.OK, "checked": [asdict(c) for c in found]}, indent=1))
    return worst


def _variants(
    config: str, scenario: str | None, overrides: tuple[str, ...], allow_outside: bool
) -> Iterator[Checked]:
    names: tuple[str | None, ...] = (scenario,)
    if scenario is None:
        names = (None, *scenario_names(config))
    for name in names:
        target = load(config, name, overrides, allow_outside=allow_outside)
        problem = target.problem() if isinstance(target, LoadedInstance) else target
        about = target.describe() if isinstance(target, LoadedInstance) else ""
        _check_execute(config, target, allow_outside)
        yield Checked(config, name, size_words(problem), about, _self_test(config, problem))


def _check_execute(config: str, target: Any, allow_outside: bool) -> None:
    """Raise `InputError` when weights or text that a placement names are not there."""
    from moe2opt.placement import PlacementInstance
    from moe2opt.placement.reading import Reader

    instance = target.instance if isinstance(target, LoadedInstance) else None
    if not isinstance(instance, PlacementInstance):
        return
    reader = Reader(instance.config, instance.folder, allow_outside)
    execute = instance.config.execute
    for key, name in (("execute.model", execute.model), ("execute.text", execute.text)):
        if name is not None and not reader.path(name, key).exists():
            raise InputError(f"{config}: {key}: '{name}' does not exist")


def _self_test(config: str, problem: Problem) -> int:
    """Compare random neighbouring points; return how many pairs, 0 when the problem is large."""
    if _work_per_point(problem) > LARGEST_SELF_TEST:
        return 0
    example = find_counterexample(problem.as_monotone(), samples=SAMPLES)
    if example is not None:
        raise InputError(f"{config}: {example}")
    return SAMPLES


def _work_per_point(problem: Problem) -> int:
    """Return about how many entries the oracles of the problem as a monotone one look at."""
    if isinstance(problem, MultipleChoiceProblem):
        # Two oracles for every group, each a product over all options, which is quick.
        return 2 * problem.size * len(problem.flat_values) // 10
    return int(getattr(problem, "clusters", 1) * problem.size)


def _show(checked: Checked) -> None:
    variant = "" if checked.scenario is None else f" [{checked.scenario}]"
    put(f"{checked.config}{variant}: ok")
    if checked.about:
        put(f"  {checked.about}")
    tested = (
        f"no counterexample in {checked.pairs} random pairs"
        if checked.pairs
        else "not tested (large)"
    )
    put(f"  {checked.size}; monotone: {tested}")


def size_words(problem: Problem) -> str:
    """Return kind and size of a problem in words."""
    if isinstance(problem, MonotoneProblem):
        rows = len(problem.constraints) + len(problem.reverse_constraints)
        return f"monotone problem, {problem.size} variables, {rows} constraints"
    budgets = f"{len(problem.budgets)} budgets"
    if isinstance(problem, MultipleChoiceProblem):
        options = f"{len(problem.flat_values)} options"
        return f"multiple-choice problem, {problem.size} groups, {options}, {budgets}"
    sets = f"{len(problem.groups)} groups, {len(problem.covers)} covers"
    return (
        f"facility problem, {problem.size} experts, {problem.clusters} clusters, {budgets}, {sets}"
    )


def run_verify(
    path: Path,
    config: str,
    scenario: str | None,
    overrides: tuple[str, ...],
    allow_outside: bool,
    *,
    as_json: bool,
    quiet: bool,
) -> Exit:
    """Check a stored result against its problem and return the exit code."""
    result, target, problem = reopened(path, config, scenario, overrides, allow_outside)
    foreign = other_problem(problem, result, target)
    # A solution of another problem may not even have the right length.
    verdict = Verdict(False, "claimed", math.nan, math.nan) if foreign else certify(target, result)
    failures = (*foreign, *verdict.failures)
    if as_json:
        put(json.dumps(_as_json(verdict, failures), indent=1))
    elif failures:
        for failure in failures:
            say(f"{path}: rejected: {failure}")
    elif not quiet:
        _show_verdict(path, result, verdict)
    return Exit.REJECTED if failures else Exit.OK


def reopened(
    path: Path,
    config: str,
    scenario: str | None,
    overrides: tuple[str, ...],
    allow_outside: bool,
) -> tuple[Result, LoadedInstance | Problem, Problem]:
    """Return a stored result, what it was solved for, and the canonical problem of that.

    Scenario and overrides are those that the result recorded, unless others are given.
    """
    result = Result.load(path)
    recorded_scenario, recorded_overrides = recorded(path, result)
    target = load(
        config,
        scenario or recorded_scenario,
        overrides or recorded_overrides,
        allow_outside=allow_outside,
    )
    return result, target, target.problem() if isinstance(target, LoadedInstance) else target


def recorded(path: Path, result: Result) -> tuple[str | None, tuple[str, ...]]:
    """Return the scenario and the overrides that the result was made with."""
    scenario = result.provenance.get("scenario")
    overrides = result.provenance.get("overrides", [])
    texts = isinstance(overrides, list) and all(isinstance(text, str) for text in overrides)
    if not texts or not isinstance(scenario, str | None):
        raise InputError(f"{path}: provenance: scenario and overrides must be text")
    return scenario, tuple(overrides)


def other_problem(
    problem: Problem, result: Result, target: LoadedInstance | Problem | None = None
) -> tuple[str, ...]:
    """Return a failure in words when the result was made for other data."""
    recorded = result.provenance.get("problem")
    made_for = recorded.get("sha256") if isinstance(recorded, dict) else None
    if made_for in (None, problem.fingerprint):
        return ()
    mine, named = result.provenance.get("instance"), getattr(target, "name", None)
    if mine and named and mine != named:
        return (f"it was made for other data: for the problem '{mine}', not for '{named}'",)
    return ("it was made for other data: the configuration or its tables differ",)


def _as_json(verdict: Verdict, failures: tuple[str, ...]) -> dict[str, Any]:
    return {
        "ok": not failures,
        "kind": verdict.kind,
        "objective": encode_float(verdict.objective),
        "bound": encode_float(verdict.bound),
        "failures": list(failures),
    }


def _show_verdict(path: Path, result: Result, verdict: Verdict) -> None:
    put(f"{path}: accepted, {result.status}")
    if result.x is not None:
        put(f"  the plan meets every requirement and is worth {number(verdict.objective)}")
    if verdict.kind == "claimed":
        put(f"  the bound {number(verdict.bound)} is only a claim of {result.solver}")
    elif result.status == "INFEASIBLE":
        put("  the certificate proves that no plan exists")
    else:
        put(f"  the certificate proves that no plan is worth more than {number(verdict.bound)}")
