"""What a verb works on: configuration, scenario, --set and --allow-outside make one target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from moe2opt.errors import InputError

if TYPE_CHECKING:
    from moe2opt.canonical import Problem
    from moe2opt.config import LoadedInstance
    from moe2opt.source import Source


def opened(
    config: str, scenario: str | None, overrides: Sequence[str] | None, allow_outside: bool
) -> LoadedInstance | Problem:
    """Read a configuration, a problem file or a built-in problem; raise `InputError` for faults."""
    from moe2opt.config import load

    return load(config, scenario, overrides or (), allow_outside=allow_outside)


def gated(
    verb: str,
    config: str,
    scenario: str | None,
    overrides: Sequence[str] | None,
    allow_outside: bool,
) -> Any:
    """Return a selection with single outcomes, which some verbs need; raise `InputError` else."""
    from moe2opt.selection.question import GatedInstance

    instance = opened(config, scenario, overrides, allow_outside)
    if not isinstance(instance, GatedInstance):
        raise InputError(
            f"{config}: `{verb}` needs single outcomes: a selection file with "
            "`experts: {outcomes: FOLDER}` (docs/reference/outcome-format.md)"
        )
    return instance


def source_of(target: object) -> Source | None:
    """Return the file that a target was loaded from, None for a bare problem."""
    from moe2opt import source

    return source.source_of(target)


def problem_of(target: Any) -> Problem:
    """Return the canonical problem of a target."""
    from moe2opt.canonical import Instance

    problem: Problem = target.problem() if isinstance(target, Instance) else target
    return problem


@contextmanager
def told(quiet: bool, config: str | None = None) -> Iterator[Callable[[str], None]]:
    """Show on stderr what the package logs, unless `quiet`; yield what logs a line."""
    from moe2opt import progress

    if quiet:
        yield progress.logger.info
        return
    with progress.on_stderr(always=True):
        if config is not None:
            progress.logger.info(f"Reading {config}")
        yield progress.logger.info
