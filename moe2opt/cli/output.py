"""Standard output is ours alone: scripts read it, so nothing foreign may appear there.

Solvers and libraries print whatever they like, native code on file descriptor 1 and Python code on
``sys.stdout``. While a verb runs, both lead to standard error; only `put` writes to the descriptor
that the user gave. Processes that a verb starts inherit this.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TextIO

from moe2opt import heartbeat
from moe2opt.text import shown


class _Stdout(io.TextIOWrapper):
    """The user's standard output; what cannot be delivered is dropped and noted as a fault."""

    fault: OSError | None = None

    def write(self, text: str) -> int:
        try:
            count = super().write(text)
            super().flush()
        except OSError as error:
            self.fault = error
            _to_nowhere(self.fileno())
            count = len(text)
        return count

    def flush(self) -> None:
        with suppress(ValueError):  # closed
            self.write("")


_own: TextIO | None = None


def stream() -> TextIO:
    """Return where `put` writes."""
    return sys.stdout if _own is None else _own


def put(text: str = "", end: str = "\n") -> None:
    """Print on standard output; whoever reads sees it at once, and sees all of it."""
    heartbeat.said()
    own = stream()
    own.write(shown(f"{text}{end}", lines=True))
    own.flush()


def put_json(content: object, indent: int | None = 1, *, allow_nan: bool = False) -> None:
    """Print one JSON object."""
    put(json.dumps(content, indent=indent, allow_nan=allow_nan))


#: Columns of tables that go to a file or a pipe.
_FILE_WIDTH = 120


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table that fits the terminal, numbers to the right; files are at least 120 wide."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    texts = [[Text(shown(cell)) for cell in row] for row in rows]
    for k, title in enumerate(header):
        numeric = all(row[k].plain[:1].isdigit() or row[k].plain[:1] in "+-" for row in texts)
        table.add_column(title, justify="right" if k and numeric else "left", overflow="fold")
    for row in texts:
        table.add_row(*row)
    width = shutil.get_terminal_size((_FILE_WIDTH, 24)).columns
    terminal = stream().isatty()
    if not terminal:
        width = max(width, _FILE_WIDTH)
    # Rich would end the process itself when the reader has gone.
    text = io.StringIO()
    Console(file=text, width=width, highlight=False, force_terminal=terminal).print(table)
    put(text.getvalue(), end="")


@contextmanager
def bar(title: str, *, quiet: bool) -> Iterator[Callable[..., None] | None]:
    """Yield what moves a bar on stderr by done, total and words; None when nobody watches."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    columns = (TextColumn(title), BarColumn(), *times, TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("")

        def moved(done: float, total: float, words: str = "") -> None:
            heartbeat.said()
            progress.update(task, completed=done, total=total, description=words)

        yield moved


def take() -> None:
    """Take standard output for the rest of the process; until a verb runs, `print` still works."""
    _open_closed()
    if _is_descriptor(1):
        sys.stdout = _taken()


@contextmanager
def owned() -> Iterator[None]:
    """Let only `put` write to standard output while the block runs."""
    global _own
    if _own is not None:
        yield
        return
    _open_closed()
    before = sys.stdout
    _own = _taken() if _is_descriptor(1) else before
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        own, _own = _own, None
        if own is not before:
            _flush_native()
            os.dup2(own.fileno(), 1)
            own.close()


def fault() -> OSError | None:
    """Return why something that was printed did not arrive, once."""
    own = stream()
    found: OSError | None = getattr(own, "fault", None)
    if isinstance(own, _Stdout):
        own.fault = None
    return found


def settle() -> None:
    """Write out what the streams still hold, so that the end of Python meets no fault."""
    for left, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            left.flush()
        except (OSError, ValueError):
            _to_nowhere(descriptor)


def _is_descriptor(number: int) -> bool:
    """Tell whether ``sys.stdout`` is a file descriptor, not a stand-in of tests and notebooks."""
    try:
        return sys.stdout.fileno() == number
    except (AttributeError, OSError, ValueError):
        return False


def _taken() -> _Stdout:
    """Point descriptor 1 to standard error; return a stream to where it pointed before."""
    before = sys.stdout
    with suppress(OSError):
        before.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    # A name that the terminal's encoding lacks is no reason to lose the answer.
    failing = before.errors in (None, "strict", "surrogateescape")  # the last one in the C locale
    errors = "backslashreplace" if failing else before.errors
    return _Stdout(open(kept, "wb"), encoding=before.encoding, errors=errors)  # noqa: PTH123


def _open_closed() -> None:
    """Open standard streams that are closed (``>&-``), lest a file of ours take their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        with suppress(OSError):
            os.fstat(number)
            continue  # something else has taken it already
        _to_nowhere(number)
        setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115


def _to_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def _flush_native() -> None:
    """Write out what native code printed, which it buffers apart from Python."""
    with suppress(AttributeError, OSError, TypeError):
        import ctypes

        ctypes.CDLL(None).fflush(None)
