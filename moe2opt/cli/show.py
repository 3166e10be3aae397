"""How one result looks in a terminal and in JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Context
from typing import TYPE_CHECKING, Any

from moe2opt.canonical import Instance
from moe2opt.cli.output import print_table, put
from moe2opt.cli.target import problem_of
from moe2opt.present import number
from moe2opt.progress import percent, proof_words, status_words
from moe2opt.result import Conflict, Result, encode_float
from moe2opt.source import name_of
from moe2opt.verify import beyond_limits

if TYPE_CHECKING:
    from moe2opt.canonical import Problem
    from moe2opt.certify import Verdict


@dataclass(frozen=True, slots=True)
class Names:
    """What the rows of a problem are called.

    Attributes
    ----------
    rows, covers
        Names of budget rows and cover rows.
    fixed
        Rows that are no limit of the user's, which no message about a conflict lists.
    """

    rows: tuple[str, ...]
    covers: tuple[str, ...]
    fixed: tuple[int, ...] = ()


def names_of(target: Instance | Problem) -> Names:
    """Return the names that the instance gives, or ``budgets[k]`` for a bare problem."""
    if isinstance(target, Instance):
        fixed = tuple(getattr(target, "fixed_rows", ()))
        return Names(tuple(target.row_names()), tuple(target.cover_names()), fixed)
    rows = range(len(getattr(target, "budgets", ())))
    covers = range(len(getattr(target, "covers", ())))
    return Names(
        tuple(f"budgets[{k}]" for k in rows),
        tuple(f"covers[{h}] (at least one of its experts)" for h in covers),
    )


#: From how many times a limit on a change is no longer told in percent.
_MANY_TIMES = 10


def show_result(
    target: Instance | Problem, result: Result, verdict: Verdict | None, *, conflict: bool = True
) -> None:
    """Print status, proof and plan, or which budgets clash unless the caller says so better."""
    checked = None if verdict is None or verdict.kind == "claimed" else verdict.ok
    failures = () if verdict is None else verdict.failures
    if verdict is not None and not verdict.ok:
        checked = False
    put(f"{status_words(result).capitalize()}. {_values(result)}".rstrip())
    put(f"Proof: {proof_words(result, checked=checked, failures=failures)}.")
    if result.status == "INFEASIBLE" and conflict:
        show_conflict(names_of(target), problem_of(target), result)
    elif result.plan is not None:
        put(f"\n{result.plan.summary()}")
    elif result.x is not None:
        _show_solution(names_of(target), problem_of(target), result)
    for note in beyond_limits(target, result.x):
        put(f"note: {note}")


def _values(result: Result) -> str:
    text = result.measure.text
    if math.isfinite(result.bound) and result.measure.own(result.bound) < result.measure.least:
        found = "" if result.x is None else f"Objective {text(result.objective)}. "
        return f"{found}No bound above {result.measure.least:g} is proven yet."
    if result.x is None:
        return f"Bound {text(result.bound)}." if math.isfinite(result.bound) else ""
    values = f"Objective {text(result.objective)}, bound {text(result.bound)}"
    return f"{values}, gap {percent(result, result.measure)}."


def _show_solution(names: Names, problem: Any, result: Result) -> None:
    """Print the solution of a bare problem: what is chosen, and the use of each budget."""
    assert result.x is not None
    if problem.kind == "facility":
        chosen = [str(i) for i, taken in enumerate(result.x.tolist()) if taken]
        put(f"Chosen experts: {', '.join(chosen) or 'none'}")
    else:
        put(f"Option of each group: {' '.join(map(str, result.x.tolist()))}")
    rows = [
        (name, number(used), number(limit), f"{100 * used / limit:.1f} %" if limit > 0 else "-")
        for name, used, limit in zip(
            names.rows, problem.usage_of(result.x), problem.budgets, strict=True
        )
    ]
    print_table(("budget", "used", "limit", "share"), rows)


def show_conflict(names: Names, problem: Any, result: Result) -> None:
    """Print which requirements clash and what would restore feasibility."""
    conflict = None if result.certificate is None else result.certificate.conflict
    if conflict is None:
        put(f"{result.solver} gives no reason; --solver brb proves one.")
        return
    put("\nThese requirements cannot hold together" + _how_small(conflict, result.solver))
    for row in [row for row in conflict.rows if row not in names.fixed]:
        put(f"  {names.rows[row]} at most {number(float(problem.budgets[row]))}")
    for cover in conflict.covers:
        put(f"  {names.covers[cover]}")
    if not conflict.rows and not conflict.covers:
        put("  the groups alone (at most one of each)")
    if conflict.relaxations:
        put("\nEach of these changes alone makes a plan possible:")
        print_table(
            ("budget", "limit now", "least limit", "change"), _relaxations(names, problem, conflict)
        )
    elif conflict.rows:
        put("\nNo change of a single budget is known to be enough.")


def _how_small(conflict: Conflict, solver: str) -> str:
    """Return what the solver says of smaller sets, which the certificate does not prove."""
    if conflict.smallest:
        return f" ({solver} found no smaller set of budgets that clashes):"
    return f" ({solver} found none of them that can be dropped):"


def _relaxations(
    names: Names, problem: Any, conflict: Conflict
) -> Iterator[tuple[str, str, str, str]]:
    for relaxation in conflict.relaxations:
        now = float(problem.budgets[relaxation.row])
        # The constraints of a monotone problem are usage minus limit: what helps is a difference.
        least = relaxation.limit + (now if problem.kind == "monotone" else 0.0)
        yield names.rows[relaxation.row], number(now), _rounded_up(least), _change(now, least)


def _change(now: float, least: float) -> str:
    """Return by how much a limit has to grow: a share of it, or how many times it where many."""
    if now <= 0:
        return "-"
    if least / now > _MANY_TIMES:
        return f"{least / now:.3g} times"
    return f"{100 * (least / now - 1):+.1f} %"


def _rounded_up(limit: float) -> str:
    """Return six digits, never below `limit`: the user will copy the number."""
    rounded = Context(prec=6, rounding=ROUND_CEILING).create_decimal(limit)
    return f"{rounded.normalize():f}"


def as_json(target: Instance | Problem, result: Result, verdict: Verdict | None) -> dict[str, Any]:
    """Return the object that ``solve --json`` prints."""
    content = replace(result, certificate=None).to_dict()
    content["certificate"] = _certificate(target, result, verdict)
    if result.x is not None and result.plan is None:
        content["plan"] = {"x": result.x.tolist()}
    content["notes"] = list(beyond_limits(target, result.x))
    name = name_of(target) if isinstance(target, Instance) else None
    finite: dict[str, Any] = _finite({"name": name, **content})
    return finite


def _certificate(
    target: Instance | Problem, result: Result, verdict: Verdict | None
) -> dict[str, Any]:
    certificate = result.certificate
    checked = verdict is not None and verdict.ok and verdict.kind == "checked"
    kind = "claimed" if certificate is None else "checked" if checked else "checkable"
    return {
        "kind": kind,
        "checked": checked,
        "claim": None if certificate is None else encode_float(certificate.claim),
        "leaves": None if certificate is None else certificate.leaves,
        "digest": None if certificate is None else certificate.digest,
        "failures": [] if verdict is None else list(verdict.failures),
        "conflict": _conflict(target, None if certificate is None else certificate.conflict),
    }


def _conflict(target: Instance | Problem, conflict: Conflict | None) -> dict[str, Any] | None:
    """Return a conflict in the names of the instance, without its proofs."""
    if conflict is None:
        return None
    names = names_of(target)
    return {
        "budgets": [names.rows[row] for row in conflict.rows if row not in names.fixed],
        "covers": [names.covers[cover] for cover in conflict.covers],
        "smallest": conflict.smallest,
        "claimed": ["smallest"],
        "relaxations": {names.rows[r.row]: r.limit for r in conflict.relaxations},
    }


def _finite(value: Any) -> Any:
    """Replace infinite numbers by ``inf`` and NaN by null, which JSON can hold."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else encode_float(value)
    return value
