"""What may be said of a stored result: the badge of the page, and the proof behind it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from moe2opt.canonical import Problem
from moe2opt.config import LoadedInstance, load
from moe2opt.files import read_json
from moe2opt.pareto import Front, Grid, verify, with_results
from moe2opt.progress import claim_words, percent, within_words
from moe2opt.report.reading import RESULT, Evidence
from moe2opt.result import InputError, Result, Status
from moe2opt.source import source_of
from moe2opt.stored import found_in
from moe2opt.verify import judged, read_stored

#: Differences that the page tells one by one.
_MOST_FAILURES = 10


@dataclass(frozen=True, slots=True)
class Badge:
    """What the page says first.

    Attributes
    ----------
    tone
        ``good`` proven and checked here, ``open`` something is missing, ``bad`` rejected.
    title, text
        In a few words, and in a sentence.
    """

    tone: Literal["good", "open", "bad"]
    title: str
    text: str


def reopened(
    evidence: Evidence, config: str | None, *, allow_outside: bool = False
) -> LoadedInstance | Problem | None:
    """Return what the results were made for, None when it cannot be found.

    Parameters
    ----------
    evidence
        The folder; its provenance names file, scenario and overrides.
    config
        The configuration that the user names; None to look among the built-in problems.
    allow_outside
        Whether its paths may leave its folder.

    Raises
    ------
    InputError
        When `config` was named and cannot be read, or describes other data.
    """
    origin = evidence.provenance
    stem = Path(str(origin.get("file", "")).replace("\\", "/")).stem
    asked = f"{evidence.question.name}/" if evidence.question is not None else ""
    name = config or (stem and asked + stem)
    overrides = [text for text in origin.get("overrides") or () if isinstance(text, str)]
    scenario = origin.get("scenario")
    if config is None and evidence.result is None:
        return _reopened_front(evidence)
    recorded = origin.get("problem")
    made_for = recorded.get("sha256") if isinstance(recorded, dict) else None
    if not name:
        return _beside(evidence, made_for, allow_outside=allow_outside)
    try:
        named = scenario if isinstance(scenario, str) else None
        target = load(name, named, overrides, allow_outside=allow_outside and config is not None)
        problem: Any = target.problem() if hasattr(target, "problem") else target
    except InputError:
        if config is not None:
            raise
        return _beside(evidence, made_for, allow_outside=allow_outside)
    if made_for in (None, problem.fingerprint):
        return target
    if config is not None:
        raise InputError(f"{config}: the results of {evidence.folder} were made for other data")
    return _beside(evidence, made_for, allow_outside=allow_outside)


def _beside(
    evidence: Evidence, made_for: object, *, allow_outside: bool
) -> LoadedInstance | Problem | None:
    """Return what the configuration beside a result describes, where it was made for just that."""
    with suppress(InputError, OSError):
        target = load(found_in(evidence.folder), allow_outside=allow_outside)
        problem: Any = target.problem() if hasattr(target, "problem") else target
        if made_for is not None and made_for == problem.fingerprint:
            return target
    return None


def _reopened_front(evidence: Evidence) -> LoadedInstance | Problem | None:
    """Return what a front or a grid was made for: its own configuration, or a built-in problem.

    The configuration beside a front has paths relative to the original file, so it can only be
    read as it is when it names none; a built-in problem must agree with it to the letter.
    """
    if not evidence.config:
        return None
    scenario, overrides = _origin_of_front(evidence)
    try:
        target = load(evidence.name, scenario, overrides)
        source = source_of(target)
        if source and _content(source.effective_yaml()) == _content(evidence.config):
            return target
    except InputError:
        pass
    try:
        target = load(found_in(evidence.folder))
        if hasattr(target, "problem"):
            target.problem()
    except InputError:
        return None
    return target


def _origin_of_front(evidence: Evidence) -> tuple[str | None, list[str]]:
    """Return scenario and overrides of a front, as its first result tells them."""
    stored = next(iter(sorted((evidence.folder / "results").glob("[!.]*.json"))), None)
    if stored is None:
        return None, []
    try:
        origin = Result.load(stored).provenance
    except InputError:
        return None, []
    scenario, axes = origin.get("scenario"), origin.get("axes") or {}
    texts = [text for text in origin.get("overrides") or () if isinstance(text, str)]
    own = [text for text in texts if text.partition("=")[0] not in axes]
    return (scenario if isinstance(scenario, str) else None), own


def _content(text: str) -> str:
    """Return a configuration without its comments."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("#"))


def judged_evidence(
    evidence: Evidence, target: LoadedInstance | Problem | None
) -> tuple[Evidence, Badge]:
    """Return the evidence with the plan that its solution stands for, and the badge of the page.

    Without the problem at hand the stored plan is shown as it is, and the badge says so.
    """
    result = evidence.result
    if result is None:
        return evidence, _badge_of_cells(evidence, target)
    if target is None:
        return evidence, _unchecked(result, there=bool(evidence.config))
    found = judged(read_stored(evidence.folder / RESULT), evidence.folder, target)
    own: Result[Any] = found.result or replace(result, plan=None)
    plan = own.to_dict()["plan"]
    shown = replace(evidence, result=replace(own, plan=json.loads(json.dumps(plan))))
    if found.failures:
        return shown, Badge("bad", "Rejected by the checker", _faults(found.failures))
    badge = _proven(own) if found.verdict and found.verdict.kind == "checked" else _claimed(own)
    return shown, replace(badge, text=" ".join([badge.text, *map(_sentence, found.provisos)]))


def _faults(failures: Sequence[str]) -> str:
    """Return what is wrong; a stored value that is wrong has no place on the page."""
    places = [failure.partition(": stored ") for failure in failures[:_MOST_FAILURES]]
    words = [f"{place} is not what it must be" if cut else place for place, cut, _ in places]
    more = len(failures) - len(words)
    return "; ".join([*words, *([f"and {more} more"] if more else [])])


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _badge_of_cells(evidence: Evidence, target: LoadedInstance | Problem | None) -> Badge:
    cells = evidence.grid or evidence.front
    if cells is None:
        text = "What happened on a trace is measured by replaying it: there is nothing to prove."
        return Badge("open", "Replayed", text)
    if failures := _faults_of_cells(evidence, target):
        return Badge("bad", "Rejected by the checker", _faults(failures))
    sure = sum(cell.certified for cell in cells)
    text = f"{sure:,} of {len(cells):,} results were accepted by the checker when they were made."
    title = "Every result certified" if cells.certified else "Not every result is certified"
    return Badge("good" if cells.certified else "open", title, text)


def _faults_of_cells(evidence: Evidence, target: LoadedInstance | Problem | None) -> list[str]:
    """Return what is wrong with the front or grid that `pareto --out` wrote with its proofs."""
    # A grid that `report --grid` added later has no proofs of its own.
    front = evidence.folder / "front.json"
    kind: Any = Front if front.is_file() else Grid
    path = front if front.is_file() else evidence.folder / "grid.json"
    proofs = evidence.folder / "results"
    if target is None or not (path.is_file() and proofs.is_dir()):
        return []
    return verify(with_results(kind.load(path), proofs), target, read_json(path))


def _proven(result: Result) -> Badge:
    checked = "The certificate was replayed by the checker, without any solver, for this page."
    if result.status is Status.INFEASIBLE:
        return Badge("good", "Proven: no plan exists", checked)
    if result.status is Status.OPTIMAL:
        title = f"Proven optimal{within_words(result)}"
        return Badge("good", title, checked)
    words = result.measure.limit_words(result.bound)
    gap = percent(result, result.measure)
    bound = f"{words[0].upper()}{words[1:]} (gap {gap}){claim_words(result)}."
    title = "No plan found" if result.x is None else "Plan with a proven gap"
    return Badge("open", title, f"{bound} {checked}")


def _claimed(result: Result) -> Badge:
    text = f"The bound is a claim of {result.solver}: there is no certificate to check."
    return Badge("open", "Claimed, not proven", text)


def _unchecked(result: Result, *, there: bool) -> Badge:
    certificate = (
        f"The bound is a claim of {result.solver}."
        if result.certificate is None
        else "There is a certificate, but this page could not replay it."
    )
    why, how = "no configuration given", "Name it: moe2opt report DIR --config CONFIG."
    if there:
        why = "the configuration beside it was not used"
        how = "It leads to files outside, or to other data: --allow-outside, or --config CONFIG."
    text = (
        f"{certificate} Plan and figures are shown as the file states them, because the "
        f"configuration of the run is not at hand. {how}"
    )
    return Badge("open", f"Not checked: {why}", text)
