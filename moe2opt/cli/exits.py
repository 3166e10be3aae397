"""Exit codes, and how anything that goes wrong is told in one line without a traceback."""

from __future__ import annotations

import enum
import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import typer

from moe2opt import heartbeat, interrupts
from moe2opt.cli import output
from moe2opt.errors import InputError, NoPlanError
from moe2opt.text import shown

if TYPE_CHECKING:
    from moe2opt.certify import Verdict
    from moe2opt.result import Result

P = ParamSpec("P")


@enum.unique
class Exit(enum.IntEnum):
    """Exit codes of the command line."""

    OK = 0
    """The plan is delivered and was certified."""
    BAD_INPUT = 2
    """The command line or a file is wrong."""
    INFEASIBLE = 3
    """No plan exists: proven."""
    NO_PLAN = 4
    """A limit came before the first plan."""
    TOO_WEAK = 5
    """The plan is weaker than ``--require`` or ``--gap`` asked."""
    REJECTED = 6
    """The checker rejected the result."""
    INTERNAL = 70
    """A fault of moe2opt."""
    INTERRUPTED = 130
    """Interrupted before the first plan."""
    UNREAD = 141
    """The reader of standard output left before everything was printed; instead of 0."""


@enum.unique
class Require(enum.StrEnum):
    """What a plan must be for exit code 0."""

    FEASIBLE = "feasible"
    """Any plan that meets the budgets."""
    OPTIMAL = "optimal"
    """Proven best, within the gap that was asked for."""
    CERTIFIED = "certified"
    """Optimal, by a certificate that the checker accepted."""


def exit_of(
    result: Result, verdict: Verdict | None, gap: float | None, require: Require | None
) -> Exit:
    """Return the exit code of a run.

    Parameters
    ----------
    result
        What the solver established.
    verdict
        What the checker said; None when it was not asked.
    gap
        The relative gap asked for on the command line, None for none.
    require
        What the plan must be, None for no requirement.
    """
    if verdict is not None and not verdict.ok:
        return Exit.REJECTED
    if result.status == "INFEASIBLE":
        return Exit.INFEASIBLE
    if result.x is None:
        return Exit.INTERRUPTED if result.limit == "INTERRUPTED" else Exit.NO_PLAN
    too_wide = gap is not None and result.status != "OPTIMAL" and result.gap > gap
    return Exit.TOO_WEAK if too_wide or not _meets(result, verdict, require) else Exit.OK


def _meets(result: Result, verdict: Verdict | None, require: Require | None) -> bool:
    if require in (None, Require.FEASIBLE):
        return True
    checked = verdict is not None and verdict.kind == "checked"
    return result.status == "OPTIMAL" and (require is Require.OPTIMAL or checked)


def guarded(verb: Callable[P, Exit | None]) -> Callable[P, None]:
    """Turn every end of a verb into an exit code, and what goes wrong into one line on stderr."""

    @functools.wraps(verb)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        with output.owned(), interrupts.hearing_all(), alive(verb.__name__, kwargs):
            ended = True
            try:
                code = int(verb(*args, **kwargs) or Exit.OK)
                ended = False
            except typer.Exit as done:
                code = done.exit_code
            except KeyboardInterrupt:
                code = stopped()
            except (typer.Abort, typer.BadParameter):
                raise
            except Exception as error:
                # What an interrupt left undone is no fault of the input.
                code = stopped() if interrupts.heard() else explain(error)
            if code == Exit.OK and interrupts.heard() and verb.__name__ not in _DELIVERING:
                code = stopped()
            code = delivered(code)
            if ended or code:
                raise typer.Exit(code)

    return wrapper


@contextmanager
def alive(verb: str, given: Mapping[str, Any]) -> Iterator[None]:
    """Say on stderr what a verb is at whenever it has been silent for long, unless ``--quiet``."""
    if given.get("quiet"):
        yield
        return
    with heartbeat.beating(say), heartbeat.doing(verb.replace("_", " ")):
        yield


#: Verbs that an interrupt ends with 0: they deliver the best plan so far.
_DELIVERING = ("solve", "place")


def stopped() -> Exit:
    """Say that a signal ended the run, and return the exit code."""
    say("interrupted")
    return Exit.INTERRUPTED


def delivered(code: int) -> int:
    """Return the exit code of a verb, which is not 0 when its output did not arrive."""
    fault = output.fault()
    if fault is None:
        return code
    if isinstance(fault, BrokenPipeError):
        return code or Exit.UNREAD
    say(f"error: standard output: {fault.strerror}")
    return code or Exit.BAD_INPUT


def explain(error: Exception) -> Exit:
    """Say on stderr what went wrong, and return the exit code for it."""
    if os.environ.get("MOE2OPT_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    if isinstance(error, BrokenPipeError):
        return Exit.UNREAD
    if isinstance(error, InputError):  # those of a configuration name file and line themselves
        located = any(kind.__name__ == "ConfigError" for kind in type(error).__mro__)
        say(str(error) if located else f"error: {error}")
        return Exit.BAD_INPUT
    if isinstance(error, NoPlanError):
        say(str(error))
        return Exit.INFEASIBLE if error.proven else Exit.NO_PLAN
    if isinstance(error, OSError) and error.errno is not None:
        where = "" if error.filename is None else f"{error.filename}: "
        say(f"error: {where}{error.strerror}")
        return Exit.BAD_INPUT
    if isinstance(error, MemoryError):
        say("error: the memory is used up")
        return Exit.NO_PLAN
    reason = " ".join(str(error).split()) or "no message"
    say(f"internal error: {type(error).__name__}: {reason}")
    say("Please report it with the output of `moe2opt versions` (MOE2OPT_DEBUG=1 shows more).")
    return Exit.INTERNAL


def say(text: str) -> None:
    """Print to stderr; control characters, which could steer a terminal, are replaced."""
    heartbeat.said()
    clean = shown(text, lines=True)
    with suppress(OSError):  # nobody can be told
        print(clean, file=sys.stderr, flush=True)


#: Differences that are told one by one.
_MOST_FAILURES = 10


def say_rejected(path: Path, failures: Sequence[str]) -> None:
    """Say on stderr what is wrong with a result, the first differences one by one."""
    say_all([f"{path}: rejected: {failure}" for failure in failures], f"{path}: rejected: ")


def say_all(lines: Sequence[str], prefix: str = "") -> None:
    """Say the first lines on stderr, and after `prefix` how many more there are."""
    for line in lines[:_MOST_FAILURES]:
        say(line)
    if len(lines) > _MOST_FAILURES:
        say(f"{prefix}... and {len(lines) - _MOST_FAILURES} more")
