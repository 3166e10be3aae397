"""The verbs ``check`` and ``verify``; neither imports a solver."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from moe2opt.canonical import MonotoneProblem, MultipleChoiceProblem, Problem, find_counterexample
from moe2opt.cli.exits import Exit, explain, say
from moe2opt.cli.output import put
from moe2opt.config import LoadedInstance, load, scenario_names
from moe2opt.present import measure_of
from moe2opt.result import InputError, encode_float
from moe2opt.text import shown
from moe2opt.verify import Judgement, verify

#: Problems with more entries than this are not self-tested; the test evaluates all of them.
LARGEST_SELF_TEST = 10**6
SAMPLES = 200

#: Differences that are told one by one.
_MOST_FAILURES = 10


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
    found = verify(path, config, scenario, overrides, allow_outside=allow_outside)
    if as_json:
        put(json.dumps(_as_json(found), indent=1, allow_nan=False))
    elif found.failures:
        say_rejected(path, found.failures)
    elif not quiet:
        _show_verdict(path, found)
    return Exit.OK if found.ok else Exit.REJECTED


def say_rejected(path: Path, failures: Sequence[str]) -> None:
    """Say on stderr what is wrong with a result, the first differences one by one."""
    for failure in failures[:_MOST_FAILURES]:
        say(f"{path}: rejected: {failure}")
    if len(failures) > _MOST_FAILURES:
        say(f"{path}: rejected: ... and {len(failures) - _MOST_FAILURES} more")


def _as_json(found: Judgement) -> dict[str, Any]:
    verdict, result, measure = found.verdict, found.result, measure_of(found.result)
    return {
        "ok": found.ok,
        "kind": "claimed" if verdict is None else verdict.kind,
        "status": None if result is None else str(result.status),
        **measure.to_dict(),
        "objective": None if verdict is None else encode_float(measure.own(verdict.objective)),
        "bound": None if verdict is None else encode_float(measure.own(verdict.bound)),
        "provisos": list(found.provisos),
        "failures": list(found.failures),
    }


def _show_verdict(path: Path, found: Judgement) -> None:
    result, verdict = found.result, found.verdict
    assert result is not None
    assert verdict is not None
    put(f"{path}: accepted, {result.status}")
    for proviso in found.provisos:
        put(f"  {shown(proviso)}")
    if result.x is not None:
        verb = "costs" if result.measure.minimizes else "is worth"
        value = result.measure.text(verdict.objective)
        put(f"  the plan meets every requirement and {verb} {value}")
        put("  every name and figure of the plan is what the configuration makes of it")
    if verdict.kind == "claimed" and math.isinf(verdict.bound) and result.x is not None:
        put(f"  no bound is claimed: {result.solver} proves nothing about other plans")
    elif verdict.kind == "claimed":
        put(f"  the bound {result.measure.text(verdict.bound)} is only a claim of {result.solver}")
    elif result.status == "INFEASIBLE":
        put("  the certificate proves that no plan exists")
    else:
        put(f"  the certificate proves that {result.measure.limit_words(verdict.bound)}")
