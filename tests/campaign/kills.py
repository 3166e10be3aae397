"""Runs that are killed at any moment: what was in the folder is there or something newer is.

A verb writes into a folder that already holds an older run, and is sent a signal: at a moment of
its life drawn at random, or as soon as the first file changes. Afterwards every file is complete,
the result is accepted by ``verify``, and running the verb again ends well.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from campaign.checking import PATIENCE_S, Tally

import moe2opt as mo
from moe2opt.result import Result

ROOT = Path(__file__).parents[2]
MAIN = "from moe2opt.cli import main; main()"

#: Signals, and the exit codes that a run may end with after each: finished, ended by the handler,
#: or ended by the system.
SIGNALS = {
    signal.SIGINT: (0, 4, 5, 130, -signal.SIGINT),
    signal.SIGTERM: (0, 4, 5, 130, 143, -signal.SIGTERM),
    signal.SIGKILL: (0, -signal.SIGKILL),
}


@dataclass(frozen=True)
class Verb:
    """A command line that writes to a folder, as it ran before and as it is killed."""

    name: str
    before: tuple[str, ...]
    killed: tuple[str, ...]


LIMIT = "energy.limit_j_per_prompt"
SWEEP = ("sweep", "tiny", "--backend", "serial")
VERBS = (
    Verb("solve", ("solve", "tiny", "--set", f"{LIMIT}=200"), ("solve", "tiny")),
    Verb(
        "sweep", (*SWEEP, "--over", f"{LIMIT}=50,100"), (*SWEEP, "--over", f"{LIMIT}=100,130,200")
    ),
    Verb(
        "pareto",
        ("pareto", "tiny", "--x", "energy_j_per_prompt", "--points", "3"),
        ("pareto", "tiny", "--x", "energy_j_per_prompt", "--points", "6"),
    ),
)


def command(arguments: Sequence[str], out: Path) -> list[str]:
    """Return the command line of a verb."""
    return [sys.executable, "-c", MAIN, *arguments, "--quiet", "--out", str(out)]


def run(arguments: Sequence[str], out: Path) -> subprocess.CompletedProcess[str]:
    """Run a verb to its end."""
    return subprocess.run(
        command(arguments, out), capture_output=True, text=True, env=environment(), check=False
    )


def environment() -> dict[str, str]:
    """Return the environment in which the checkout is what runs."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


class Killer:
    """Kills one verb again and again in copies of a folder that an older run has written."""

    def __init__(self, verb: Verb, folder: Path) -> None:
        self.verb, self.folder = verb, folder
        self.old = folder / "old"
        first = run(verb.before, self.old)
        assert first.returncode == 0, first.stderr
        start = time.monotonic()
        whole = folder / "whole"
        shutil.copytree(self.old, whole)
        assert run(verb.killed, whole).returncode == 0
        self.duration_s = time.monotonic() - start
        self.names = _names(whole)
        self.configs = [path.read_bytes() for path in folder.glob("*/config.yaml")]

    def kill(self, number: int, tally: Tally) -> None:
        """Kill one run, look at what is left, and run it again."""
        rng = Random(f"{self.verb.name} {number}")
        sent = list(SIGNALS)[number % len(SIGNALS)]
        out = self.folder / f"killed-{number}"
        shutil.copytree(self.old, out)
        code, errors = self._killed(out, sent, rng)
        label = f"{self.verb.name} after {sent.name}"
        tally.counts["kills"] += 1
        tally.counts[f"kills {label}"] += 1
        tally.counts[f"kills ended with {code}"] += 1
        if code not in SIGNALS[sent] or (code >= 0 and "Traceback" in errors):
            tally.fault(number, label, f"exit code {code}: {errors[-300:]}")
        for words in self._damage(out):
            tally.fault(number, label, words)
        again = run(self.verb.killed, out)
        if again.returncode != 0:
            tally.fault(number, label, f"does not run again: {again.stderr[-300:]}")
        for words in (*self._damage(out), *self._missing(out)):
            tally.fault(number, label, f"after running again: {words}")
        shutil.rmtree(out)

    def _killed(self, out: Path, sent: signal.Signals, rng: Random) -> tuple[int, str]:
        before = _states(out)
        process = subprocess.Popen(
            command(self.verb.killed, out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        if rng.random() < 0.5:
            time.sleep(rng.random() * self.duration_s)
        else:
            while process.poll() is None and _states(out) == before:
                time.sleep(0.0005)
            time.sleep(rng.choice((0.0, 0.001, 0.005, 0.02)))
        process.send_signal(sent)
        _, errors = process.communicate(timeout=PATIENCE_S)
        return process.returncode, errors

    def _missing(self, out: Path) -> Iterator[str]:
        """Yield the files of a whole run that are not there, and what is left of killed ones."""
        names = _names(out)
        if names != self.names:
            yield f"files {sorted(names ^ self.names)} differ from those of a whole run"

    def _damage(self, out: Path) -> Iterator[str]:
        for path in (out / name for name in sorted(_names(out))):
            try:
                if path.name == "config.yaml":
                    if path.read_bytes() not in self.configs:
                        raise ValueError("neither the old nor the new one")
                else:
                    _read(path)
            except Exception as error:
                yield f"{path.relative_to(out)} is damaged: {type(error).__name__}: {error}"
        if (out / "result.json").exists():
            result = Result.load(out / "result.json")
            overrides = result.provenance.get("overrides", ())
            verdict = mo.certify(mo.load("tiny", overrides=overrides), result)
            if not verdict.ok:
                yield f"result.json is not accepted: {verdict.failures}"


def _names(out: Path) -> set[str]:
    """Return the files that a run means to keep: what it writes is hidden until whole."""
    files = (path.relative_to(out) for path in out.rglob("*") if path.is_file())
    return {
        str(path) for path in files if not any(part.startswith(".moe2opt") for part in path.parts)
    }


def _states(out: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of change of every file; those that vanish meanwhile are left out."""
    found = {}
    for path in out.rglob("*"):
        try:
            state = path.stat()
        except OSError:
            continue
        found[str(path)] = (state.st_size, state.st_mtime_ns)
    return found


def _read(path: Path) -> Any:
    """Read a file to its end; raise when it is not whole."""
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    if path.suffix == ".jsonl":
        text = path.read_text(encoding="utf-8")
        if text and not text.endswith("\n"):
            raise ValueError("the last line has no end")
        return [json.loads(line) for line in text.splitlines()]
    if path.suffix == ".csv":
        text = path.read_text(encoding="utf-8")
        widths = {len(row) for row in csv.reader(text.splitlines())}
        if len(widths) != 1 or not text.endswith("\n"):
            raise ValueError(f"rows of {sorted(widths)} columns")
        return text
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {name: arrays[name] for name in arrays.files}
    if path.suffix == ".parquet":
        import pyarrow.parquet as parquet

        return parquet.read_table(path)
    raise ValueError("a file of a kind that nobody expects")


def kills(place: int, total: int) -> Tally:
    """Kill one of the verbs its share of a total number of times."""
    tally = Tally()
    share = range(place, total, len(VERBS))
    if share:
        with tempfile.TemporaryDirectory() as folder:
            killer = Killer(VERBS[place], Path(folder))
            for number in range(len(share)):
                killer.kill(number, tally)
    return tally
