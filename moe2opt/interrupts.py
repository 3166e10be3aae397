"""Signals that end a run early: Ctrl-C everywhere; under the command line SIGTERM and SIGHUP, too.

What hears one first decides: a solver returns what it found, a sweep keeps its finished cells; code
that does not listen gets a KeyboardInterrupt.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

_Handler = Callable[[int, object], None]


@dataclass(slots=True)
class _Verb:
    """The verb that runs, if any: its signals, and whether one came.

    Without a verb nothing is remembered: a session goes on after Ctrl-C.
    """

    signals: tuple[signal.Signals, ...] = (signal.SIGINT,)
    remembers: bool = False
    heard: bool = False


_verb = _Verb()


@contextmanager
def hearing_all() -> Iterator[None]:
    """Treat what ends programs like Ctrl-C, and remember it, while a verb runs."""
    global _verb
    before = _verb
    more = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    _verb = _Verb((signal.SIGINT, *more), remembers=True)

    def stop(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    told = sys.unraisablehook

    def tell(lost: sys.UnraisableHookArgs) -> None:
        # Raised in a destructor or a callback it goes no further; the verb remembers it anyway.
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            told(lost)

    sys.unraisablehook = tell
    try:
        with _handled(_verb.signals, stop):
            yield
    finally:
        _verb, sys.unraisablehook = before, told


def heard() -> bool:
    """Tell whether a signal came since the verb began."""
    return _verb.heard


@contextmanager
def handling_interrupts(handler: _Handler) -> Iterator[None]:
    """Let `handler` hear Ctrl-C for as long as the block lasts.

    Only the main thread of a process can, and only where Ctrl-C is not ignored (`nohup`) or taken
    by foreign code; elsewhere nothing changes.
    """
    with _handled(_verb.signals, handler):
        yield


@contextmanager
def _handled(signals: Sequence[signal.Signals], handler: _Handler) -> Iterator[None]:
    in_main = threading.current_thread() is threading.main_thread()
    before = {s: signal.getsignal(s) for s in signals} if in_main else {}
    verb = _verb

    def heard(signum: int, frame: object) -> None:
        verb.heard = verb.remembers
        handler(signum, frame)

    taken = {s: h for s, h in before.items() if h not in (None, signal.SIG_IGN)}
    for number in taken:
        signal.signal(number, heard)
    try:
        yield
    finally:
        for number, previous in taken.items():
            signal.signal(number, previous)
