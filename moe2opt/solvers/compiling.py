"""Limits and progress before a search: while an instance is compiled to its canonical problem."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from moe2opt.progress import logger
from moe2opt.result import Limit, Result, Status
from moe2opt.solvers.base import TICK_S, Options
from moe2opt.solvers.limits import Interrupt, resident_bytes
from moe2opt.solvers.limits import LimitReachedError as LimitReachedError
from moe2opt.steps import watched

T = TypeVar("T")

_WORDS = {
    Limit.TIME: "the time limit passed",
    Limit.MEMORY: "the memory limit was reached",
    Limit.INTERRUPTED: "interrupted",
}


class Compiling:
    """Watches the steps of compiling, polls the limits, and says where a long one is.

    Attributes
    ----------
    seconds
        Seconds that compiling took so far.
    stage
        What it is at.
    """

    def __init__(self, options: Options, interrupt: Interrupt) -> None:
        self.seconds = 0.0
        self.stage = "the problem"
        self._options = options
        self._interrupt = interrupt
        self._start = 0.0
        self._told_s = TICK_S

    def done(self, compile_: Callable[[], T]) -> T:
        """Return what `compile_` returns.

        Raises
        ------
        LimitReachedError
            When a limit is hit first.
        """
        self._start = time.perf_counter() - self.seconds
        try:
            with watched(self._at):
                return compile_()
        except MemoryError as error:
            raise LimitReachedError(Limit.MEMORY) from error
        finally:
            self.seconds = time.perf_counter() - self._start

    @property
    def rest(self) -> Options:
        """The options with the time that is left."""
        limit = self._options.time_limit_s
        left = None if limit is None else max(0.0, limit - self.seconds)
        return replace(self._options, time_limit_s=left)

    def ended(self, limit: Limit) -> str:
        """Return one line about an end before the search."""
        return f"No search: {_WORDS[limit]} while compiling {self.stage}"

    def nothing(self, solver: str, limit: Limit) -> Result[Any]:
        """Return the result of a run that ended before there was a problem."""
        return Result(
            status=Status.NO_SOLUTION,
            limit=limit,
            x=None,
            objective=-math.inf,
            bound=math.inf,
            certificate=None,
            solver=solver,
            rel_gap=self._options.rel_gap,
            stats={"nodes": 0, "solve_s": 0.0, "compile_s": self.seconds},
            log=(),
        )

    def _at(self, stage: str | None) -> None:
        self.stage = stage or self.stage
        self.seconds = time.perf_counter() - self._start
        limit = self._limit()
        if limit is not None:
            raise LimitReachedError(limit)
        if stage is not None and self.seconds >= self._told_s:
            self._told_s = self.seconds + TICK_S
            logger.info(f"Compiling {stage} ({self.seconds:.0f} s)")

    def _limit(self) -> Limit | None:
        if self._interrupt.raised:
            return Limit.INTERRUPTED
        most_s, most_bytes = self._options.time_limit_s, self._options.memory_limit_bytes
        if most_s is not None and self.seconds >= most_s:
            return Limit.TIME
        if most_bytes is not None and resident_bytes() > most_bytes:
            return Limit.MEMORY
        return None
