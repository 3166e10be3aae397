"""Read what ``llama-bench`` of llama.cpp prints: JSON, JSONL, CSV, SQL and Markdown.

Every test becomes one `BenchTest` with the line it stands on, so that whatever is wrong with it
can be told with its place. The fields are those that the program prints (``tools/llama-bench``); a
table in Markdown has fewer of them, under shorter names, and is brought to the same ones.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moe2opt.files import DECODER, read_text
from moe2opt.result import InputError

#: Fields without which a test says nothing.
NEEDED = ("model_type", "model_size", "model_n_params", "n_prompt", "n_gen", "avg_ts")

_UNITS = {"MiB": 2**20, "GiB": 2**30, "KiB": 2**10, "M": 1e6, "B": 1e9, "K": 1e3, "T": 1e12}

_TEST = re.compile(r"(?:pp ?(\d+))?\+?(?:tg ?(\d+))?(?: @ d(\d+))?")
_RATE = re.compile(r"([\d.]+)(?: ± ([\d.]+))?")
_AMOUNT = re.compile(r"([\d.]+) (\w+)")
_BUILD = re.compile(r"^build: (\S+) \((\d+)\)", re.MULTILINE)
_CARD = re.compile(r"^ *Device \d+: ([^,\n]+),", re.MULTILINE)
_INSERT = re.compile(r"INSERT INTO \w+ \(([^)]*)\) VALUES \((.*)\);$")
_QUOTED = re.compile(r"'((?:[^']|'')*)'(?:, |$)")

#: Headings of the Markdown table that are not the name of a field.
_HEADINGS = {
    "model": "model_type",
    "ngl": "n_gpu_layers",
    "threads": "n_threads",
    "backend": "backends",
    "sm": "split_mode",
    "fa": "flash_attn",
    "ot": "tensor_buft_overrides",  # codespell:ignore ot
    "ts": "tensor_split",
    "dev": "devices",
}


#: Tokens per second within which sums and ratios stay numbers; beyond is no machine.
LEAST_RATE, MOST_RATE = 1e-9, 1e15


@dataclass(frozen=True, slots=True)
class BenchTest:
    """One line of results.

    Attributes
    ----------
    path, line
        Where it stands.
    fields
        What is told about it, by the field names of ``llama-bench``.
    """

    path: Path
    line: int
    fields: dict[str, Any]

    def fault(self, text: str) -> InputError:
        """Return an error that names the place."""
        return InputError(f"{self.path}:{self.line}: {text}")

    def number(self, name: str) -> float:
        """Return a field as a finite number that is not negative."""
        value = self.fields.get(name)
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise self.fault(f"{name}: {value!r} is not a number") from None
        if not 0 <= number < float("inf"):
            raise self.fault(f"{name}: {value} is not a finite, non-negative number")
        return number

    def text(self, name: str) -> str:
        """Return a field as text, empty when it is missing."""
        value = self.fields.get(name)
        return "" if value is None else str(value)

    @property
    def backends(self) -> str:
        """Backends by name; before December 2024 each had a field that says yes or no."""
        if "backends" in self.fields:
            return self.text("backends")
        told = [name for name in _SWITCHES if name in self.fields]
        found = [_SWITCHES[name] for name in told if self.text(name).lower() in ("true", "1")]
        return ",".join(found) or ("CPU" if told else "")

    def check(self) -> None:
        """Raise `InputError` unless the needed fields are there and possible."""
        missing = [name for name in NEEDED if name not in self.fields]
        if missing:
            raise self.fault(f"not a test of llama-bench: {', '.join(missing)} missing")
        for name in NEEDED[1:]:
            self.number(name)
        for name in ("model_size", "model_n_params", "avg_ts"):
            if self.number(name) <= 0:
                raise self.fault(f"{name}: {self.fields[name]} is not positive")
        if not LEAST_RATE <= self.number("avg_ts") <= MOST_RATE:
            raise self.fault(f"avg_ts: {self.fields['avg_ts']} tokens/s are no rate of a machine")
        for name in ("n_prompt", "n_gen"):
            if self.number(name) % 1:
                raise self.fault(f"{name}: {self.fields[name]} is not an integer")


#: Fields of the backends before there was one for all of them.
_SWITCHES = {
    "cuda": "CUDA", "hipblas": "ROCm", "vulkan": "Vulkan", "kompute": "Kompute", "metal": "Metal",
    "sycl": "SYCL", "opencl": "OpenCL", "rpc": "RPC",
}  # fmt: skip


def read_tests(path: str | Path) -> tuple[BenchTest, ...]:
    """Read a file in any of the formats of ``llama-bench``; every test is checked.

    Raises
    ------
    InputError
        ``file:line: problem`` when the file is cut off, something else than ``llama-bench`` wrote
        it, or a test lacks what it needs.
    """
    tests = read_rows(path)
    for test in tests:
        test.check()
    return tests


def read_rows(path: str | Path, faults: list[str] | None = None) -> tuple[BenchTest, ...]:
    """Read a file in any of the formats of ``llama-bench``; `BenchTest.check` tells a bad test.

    Parameters
    ----------
    faults
        Where given, what is wrong with a file that is cut off is added to it, and the tests before
        are returned; CSV, JSON lines, SQL and Markdown go on with the next line.

    Raises
    ------
    InputError
        ``file:line: problem`` when the file is cut off or foreign.
    """
    path = Path(path)
    text = read_text(path)
    if not text.strip():
        raise InputError(f"{path}:1: the file is empty")
    read = _format_of(path, text)
    if faults is None:
        tests = tuple(read(path, text))
    else:
        tests = tuple(_as_far_as_possible(read, path, text, faults))
    if not tests:
        raise InputError(f"{path}:1: holds no test of llama-bench")
    return tests


def _as_far_as_possible(
    read: Callable[[Path, str], Iterator[BenchTest]], path: Path, text: str, faults: list[str]
) -> Iterator[BenchTest]:
    """Yield the tests that can be read; a line at fault is blanked, and reading starts again."""
    lines, done = text.split("\n"), 0
    while True:
        try:
            for count, test in enumerate(read(path, "\n".join(lines)), start=1):
                if count > done:
                    yield test
                    done = count
        except InputError as error:
            faults.append(str(error))
            found = re.search(r":(\d+): ", str(error))
            number = int(found[1]) if found else 0
            if read is _json or not 0 < number <= len(lines) or not lines[number - 1]:
                return
            lines[number - 1] = ""
            continue
        return


def _format_of(path: Path, text: str) -> Callable[[Path, str], Iterator[BenchTest]]:
    start = text.lstrip()
    if start.startswith("["):
        return _json
    if start.startswith("{"):
        return _jsonl
    if "INSERT INTO" in text:
        return _sql
    if re.search(r"^\|.*\bt/s *\|", text, re.MULTILINE):
        return _markdown
    if start.startswith("build_commit,"):
        return _csv
    raise InputError(
        f"{path}:1: not output of llama-bench: expected JSON, JSONL, CSV, SQL, or a Markdown table "
        "with the columns model, size, params, test and t/s"
    )


def _json(path: Path, text: str) -> Iterator[BenchTest]:
    position, count = text.index("[") + 1, 0
    while True:
        position = _after_blank(text, position)
        line = text.count("\n", 0, position) + 1
        if position >= len(text):
            raise InputError(f"{path}:{line}: the file ends after {count} tests, without ']'")
        if text[position] == "]":
            return
        try:
            content, end = DECODER.raw_decode(text, position)
        except json.JSONDecodeError as error:
            cut = not text[error.pos :].strip() or "Unterminated" in error.msg
            why = f"the file is cut off after {count} tests" if cut else f"not JSON: {error.msg}"
            raise InputError(f"{path}:{error.lineno}: {why}") from None
        except ValueError as error:
            raise InputError(f"{path}:{line}: not JSON: {error}") from None
        yield _object(path, line, content)
        count += 1
        position = _after_blank(text, end)
        position += text[position : position + 1] == ","


def _jsonl(path: Path, text: str) -> Iterator[BenchTest]:
    lines = [(k, line) for k, line in enumerate(text.splitlines(), start=1) if line.strip()]
    for count, (number, line) in enumerate(lines):
        try:
            yield _object(path, number, DECODER.decode(line))
        except json.JSONDecodeError as error:
            last = number == lines[-1][0]
            why = f"the line is cut off after {count} tests" if last else f"not JSON: {error.msg}"
            raise InputError(f"{path}:{number}: {why}") from None
        except ValueError as error:
            raise InputError(f"{path}:{number}: not JSON: {error}") from None


def _object(path: Path, line: int, content: Any) -> BenchTest:
    if not isinstance(content, dict):
        raise InputError(f"{path}:{line}: expected a test of llama-bench, found {content!r:.40}")
    return BenchTest(path, line, content)


def _after_blank(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _csv(path: Path, text: str) -> Iterator[BenchTest]:
    reader = csv.reader(text.splitlines())
    header = next(reader)
    for cells in reader:
        if cells and len(cells) != len(header):
            raise InputError(
                f"{path}:{reader.line_num}: {len(cells)} cells, the header has {len(header)}"
            )
        if cells and cells != header:
            yield BenchTest(path, reader.line_num, dict(zip(header, cells, strict=True)))


def _sql(path: Path, text: str) -> Iterator[BenchTest]:
    """Read the INSERT lines; nothing is executed."""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith("INSERT INTO"):
            continue
        found = _INSERT.match(line.strip())
        names = found[1].split(", ") if found else []
        values = [value.replace("''", "'") for value in _QUOTED.findall(found[2] if found else "")]
        if not found or len(values) != len(names):
            raise InputError(f"{path}:{number}: the INSERT line is cut off or not of llama-bench")
        yield BenchTest(path, number, dict(zip(names, values, strict=True)))


def _markdown(path: Path, text: str) -> Iterator[BenchTest]:
    header: list[str] | None = None
    common = _surroundings(text)
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.lstrip().startswith("|"):
            header = None
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if {"model", "size", "params", "test", "t/s"} <= set(cells):
            header = cells
        elif header and not all(re.fullmatch(":?-+:?", cell) for cell in cells):
            if len(cells) != len(header) or not line.rstrip().endswith("|"):
                raise InputError(f"{path}:{number}: the row of the table is cut off")
            yield BenchTest(path, number, {**common, **_row(path, number, header, cells)})


def _surroundings(text: str) -> dict[str, Any]:
    """Return what stands around the table: the build below it, the GPU in the log above it."""
    build, cards = _BUILD.search(text), list(dict.fromkeys(_CARD.findall(text)))
    known: dict[str, Any] = {} if build is None else {
        "build_commit": build[1], "build_number": build[2]
    }  # fmt: skip
    return {**known, "gpu_info": ", ".join(cards)} if cards else known


def _row(path: Path, number: int, header: list[str], cells: list[str]) -> dict[str, Any]:
    row = dict(zip(header, cells, strict=True))
    where = f"{path}:{number}: "
    test, rate = _TEST.fullmatch(row.pop("test")), _RATE.fullmatch(row.pop("t/s"))
    if test is None or not (test[1] or test[2]):
        raise InputError(f"{where}test: expected pp512, tg128 or pp512+tg128")
    if rate is None:
        raise InputError(f"{where}t/s: expected a number, or a number ± its deviation")
    fields = {_HEADINGS.get(name, name): cell for name, cell in row.items()}
    return {
        **fields,
        "model_size": _amount(where + "size", fields.pop("size")),
        "model_n_params": _amount(where + "params", fields.pop("params")),
        "n_prompt": int(test[1] or 0),
        "n_gen": int(test[2] or 0),
        "n_depth": int(test[3] or 0),
        "avg_ts": rate[1],
        "stddev_ts": rate[2] or "",
    }


def _amount(where: str, cell: str) -> float:
    found = _AMOUNT.fullmatch(cell)
    if found is None or found[2] not in _UNITS:
        raise InputError(f"{where}: {cell!r} is not an amount such as 3.56 GiB or 6.74 B")
    try:
        return float(found[1]) * _UNITS[found[2]]
    except ValueError:
        raise InputError(f"{where}: {cell!r} is not a number") from None
