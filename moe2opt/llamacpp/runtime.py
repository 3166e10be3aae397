"""What llama.cpp itself says a command line takes, before it loads a weight.

``llama-server --fit on`` measures its real allocator with allocation switched off: model, context
and compute buffer of every device for the options that it was given, in less than a second.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from moe2opt.errors import InputError
from moe2opt.text import shown

#: A device of the table that it prints: total, free, and what it takes itself (MiB).
_DEVICE = re.compile(
    r"\|\s*-\s*(?P<name>\S.*?)\s*\|\s*(?P<total>\d+) =\s*(?P<free>\d+) \+\s*\(\s*\d+ =\s*"
    r"(?P<model>\d+) \+\s*(?P<context>\d+) \+\s*(?P<compute>\d+)\)"
)
#: RAM, and what of it holds weights in another order.
_HOST = re.compile(
    r"\|\s*-\s*(?P<name>\S.*?)\s*\|\s*\d+ =\s*(?P<model>\d+) \+\s*(?P<context>\d+) \+\s*"
    r"(?P<compute>\d+)\s*\|"
)

#: A line after which nothing more is to come.
_END = re.compile(
    r"common_fit_params: |fitting params to free memory took|failed to load|error while|"
    r"main: exiting|unknown argument|invalid argument"
)
#: A line that says what went wrong.
_FAULT = re.compile(
    r"(error[ :].*|unknown argument.*|invalid argument.*|failed to (?:load|open).*)"
)

#: Most characters that are read of what it prints: some hundred times what llama-server says.
_MOST = 2**24


@dataclass(frozen=True, slots=True)
class Told:
    """What the runtime says of one device, or of RAM (MiB).

    Attributes
    ----------
    name
        As the runtime calls it.
    weights_mib, context_mib, compute_mib
        What it takes.
    total_mib, free_mib
        What the device has, and has free now; None for RAM.
    """

    name: str
    weights_mib: int
    context_mib: int
    compute_mib: int
    total_mib: int | None = None
    free_mib: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the runtime says of a command line: its devices in order, and RAM."""

    devices: tuple[Told, ...]
    ram: Told


def ask(program: Path, options: Sequence[str], *, timeout_s: float = 120.0) -> Answer:
    """Return what a command line takes, as the runtime measures it.

    Parameters
    ----------
    program
        ``llama-server``, or the folder that holds it.
    options
        The options of the line; ``--fit`` is switched on, so that it measures and nothing more.
    timeout_s
        How long to wait; reading a header takes less than a second.

    Raises
    ------
    InputError
        When there is no such program, or it does not say, in time or at all.
    """
    binary = program / "llama-server" if program.is_dir() else program
    if not binary.is_file():
        raise InputError(f"there is no program '{binary.name}' in '{binary.parent}'")
    own = [text for text in options if text != "--fit"]
    own = own[:-1] if options[-2:] == ["--fit", "off"] else own
    command = [str(binary), *own, "--fit", "on", "-lv", "5", "--no-warmup", "--log-colors", "off"]
    command += ["--host", "127.0.0.1", "--port", "0"]
    libraries = os.pathsep.join(
        [str(binary.parent), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    )
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        try:
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env={**os.environ, "LD_LIBRARY_PATH": libraries},
            )  # fmt: skip
        except OSError as error:
            raise InputError(f"{binary.name}: {error.strerror}") from error
        try:
            text = _heard(process, log, time.monotonic() + timeout_s)
        finally:
            _end(process)
    if text is None:
        raise InputError(f"{binary.name} did not say what it needs in {timeout_s:g} s")
    return parsed(text.splitlines(), binary.name)


def _heard(process: subprocess.Popen[bytes], log: IO[str], until: float) -> str | None:
    """Return what a program said until the table was there or it ended; None when time is up."""
    while time.monotonic() < until:
        ended = process.poll() is not None
        log.seek(0)
        # One that talks without end is not followed to it.
        text = log.read(_MOST)
        if ended or len(text) >= _MOST or _END.search(text):
            return text
        time.sleep(0.05)
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def parsed(lines: Sequence[str], program: str = "llama-server") -> Answer:
    """Return the table among the lines that the program printed.

    Raises
    ------
    InputError
        When there is none, with what the program said instead.
    """
    table = list(_table(lines))
    devices = tuple(told for told in table if told.total_mib is not None)
    hosts = [told for told in table if told.total_mib is None]
    if not hosts:
        said = [m[1] for line in lines if (m := _FAULT.search(line))]
        last = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
        raise InputError(f"{program} did not say what it needs: {shown((said or [last])[0][:200])}")
    ram = Told(
        "RAM",
        sum(told.weights_mib for told in hosts),
        sum(told.context_mib for told in hosts),
        sum(told.compute_mib for told in hosts),
    )
    return Answer(devices, ram)


def _table(lines: Sequence[str]) -> Iterator[Told]:
    """Yield the rows of the first table: that of the options as they were given."""
    seen = False
    for line in lines:
        if "common_memory_breakdown_print" not in line:
            if seen:
                return
            continue
        if (found := _DEVICE.search(line)) is not None:
            sizes = (int(found[key]) for key in ("model", "context", "compute", "total", "free"))
            seen = True
            yield Told(found["name"], *sizes)
        elif (found := _HOST.search(line)) is not None:
            seen = True
            yield Told(found["name"], *(int(found[k]) for k in ("model", "context", "compute")))
