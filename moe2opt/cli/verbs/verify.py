"""The verb ``verify``: judge a stored result again; no solver is imported."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe2opt.cli.exits import Exit, say_rejected
from moe2opt.cli.flags import Config, Json, Outside, Overrides, Quiet, Scenario, Stored
from moe2opt.cli.output import put, put_json
from moe2opt.text import shown

if TYPE_CHECKING:
    from moe2opt.verify import Judgement


def verify(
    result: Stored,
    config: Config,
    scenario: Scenario = None,
    overrides: Overrides = None,
    allow_outside: Outside = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Exit:
    """Check a result and its certificate again, without any solver.

    Everything in the file that follows from the solution (plan, figures, gap, status) is rebuilt
    and compared. Counters, times, settings and versions of the run are not judged. Scenario and
    overrides are those recorded in the result unless given here. Exit code 0 when everything holds,
    5 when only its solver's word says that the result is optimal, or that no plan exists, 6 when
    something is wrong.
    """
    from moe2opt.verify import verify as judge

    found = judge(result, config, scenario, overrides or (), allow_outside=allow_outside)
    if as_json:
        put_json(_as_json(found))
    elif found.failures:
        say_rejected(result, found.failures)
    elif not quiet:
        _show(result, found)
    if found.failures:
        return Exit.REJECTED
    return Exit.TOO_WEAK if found.claimed else Exit.OK


def _as_json(found: Judgement) -> dict[str, Any]:
    from moe2opt.present import measure_of
    from moe2opt.result import encode_float

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


def _show(path: Path, found: Judgement) -> None:
    result, verdict = found.result, found.verdict
    assert result is not None
    assert verdict is not None
    text = result.measure.text
    if found.claimed:
        put(f"{path}: not contradicted, but {result.status} is only claimed")
    else:
        put(f"{path}: accepted, {result.status}")
    for proviso in found.provisos:
        put(f"  {shown(proviso)}")
    if result.x is not None:
        verb = "costs" if result.measure.minimizes else "is worth"
        put(f"  the plan meets every requirement and {verb} {text(verdict.objective)}")
        put("  every name and figure of the plan is what the configuration makes of it")
    if verdict.kind == "claimed" and math.isinf(verdict.bound) and result.x is not None:
        put(f"  no bound is claimed: {result.solver} proves nothing about other plans")
    elif result.status == "INFEASIBLE" and found.claimed:
        put(f"  that no plan exists is only a claim of {result.solver}")
    elif verdict.kind == "claimed":
        put(f"  the bound {text(verdict.bound)} is only a claim of {result.solver}")
    elif result.status == "INFEASIBLE":
        put("  the certificate proves that no plan exists")
    else:
        put(f"  the certificate proves that {result.measure.limit_words(verdict.bound)}")
