"""The page: one HTML file that holds everything and loads nothing."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from moe2opt.canonical import Problem
from moe2opt.config import LoadedInstance
from moe2opt.report.gridding import flags_of
from moe2opt.report.judging import Badge, judged_evidence, reopened
from moe2opt.report.payload import payload_of
from moe2opt.report.reading import Evidence, read_folder
from moe2opt.report.replays import replay_table, replay_words
from moe2opt.report.words import answer, conflict_table, log_table, provenance_table, question
from moe2opt.text import shown
from moe2opt.view import View
from moe2opt.writing import check_ours, write_text

_HERE = Path(__file__).resolve().parent

#: Name of the file that `write_report` writes unless told otherwise.
FILE = "report.html"


@dataclass(frozen=True, slots=True)
class Report:
    """A page and what it holds.

    Attributes
    ----------
    html
        The page.
    badge
        What it says about the proof.
    explorer
        Whether it has an explorer of budgets.
    grid_flags
        Flags of ``moe2opt report`` that compute the grid of an explorer, empty when none do.
    """

    html: str
    badge: Badge
    explorer: bool
    grid_flags: str


def make_report(
    folder: str | Path, config: str | None = None, *, allow_outside: bool = False
) -> Report:
    """Return the page of a folder of results.

    Parameters
    ----------
    folder
        A folder written with ``--out``: a result with its log and configuration, and perhaps
        fronts and grids.
    config
        Configuration of the run, needed to replay the certificate; by default the built-in problem
        of that name, if the data agree.
    allow_outside
        Whether paths of `config` may leave its folder.

    Raises
    ------
    InputError
        When the folder holds no results, a file is broken, or `config` describes other data.
    """
    evidence = read_folder(folder)
    target = reopened(evidence, config, allow_outside=allow_outside)
    return render(evidence, target, named=config is not None)


def render(
    evidence: Evidence, target: LoadedInstance | Problem | None, *, named: bool = False
) -> Report:
    """Return the page.

    Parameters
    ----------
    evidence
        The folder.
    target
        Its problem, to replay the certificate; None when it is not at hand.
    named
        Whether it takes the flag ``--config`` to find the problem.
    """
    grid_flags = flags_of(target)
    evidence, badge = judged_evidence(evidence, target)
    view = evidence.view_of(None if evidence.result is None else evidence.result.plan)
    data = payload_of(evidence, view)
    html = _filled(
        name=evidence.name,
        badge=badge,
        question=question(evidence, view, target),
        answer=answer(evidence),
        conflict=conflict_table(evidence, target),
        view=view,
        caveats=_notes(evidence, view),
        log=log_table(evidence),
        trace="" if evidence.replay is None else replay_words(evidence.replay),
        policies=None if evidence.replay is None else replay_table(evidence.replay),
        provenance=provenance_table(evidence),
        config=evidence.config,
        data=data,
        known=target is not None,
        named=named,
        grid_flags=grid_flags,
    )
    return Report(html, badge, data["explorer"] is not None, grid_flags)


def _notes(evidence: Evidence, view: View) -> tuple[str, ...]:
    found = evidence.grid or evidence.front
    more = () if found is None else found.caveats
    return tuple(dict.fromkeys([*view.notes, *map(str, more)]))


def _filled(**content: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        # Readers refuse what cannot be seen; nothing of it reaches the page by another way either.
        finalize=lambda value: shown(value, lines=True) if type(value) is str else value,
    )
    script, style = _asset("page.js"), _asset("page.css")
    return environment.get_template("page.html.j2").render(
        # Both are ours and hold no data: nothing in them is to be escaped.
        script=Markup(script),
        style=Markup(style),
        script_hash=_hash(script),
        style_hash=_hash(style),
        version=version("moe2opt"),
        **content,
    )


def _asset(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return the digest by which a browser knows the only script and style that may be used."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def write_report(
    folder: str | Path,
    out: str | Path | None = None,
    config: str | None = None,
    *,
    allow_outside: bool = False,
) -> tuple[Report, Path]:
    """Write the page of a folder, by default as ``report.html`` in it; return it and its path.

    Raises
    ------
    InputError
        As `make_report`, or when the file cannot be written.
    """
    report = make_report(folder, config, allow_outside=allow_outside)
    path = Path(folder) / FILE if out is None else Path(out)
    if out is None:
        check_ours(Path(folder), [FILE])
    write_text(path, report.html)
    return report, path
