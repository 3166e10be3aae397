"""Where a value was written, and how a complaint about it is shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from moe2opt.result import InputError
from moe2opt.text import near, shown

#: Keys and list indices that lead from the top of a document to a value.
KeyPath = tuple[str | int, ...]

#: More complaints than this are counted, not printed.
_MOST_COMPLAINTS = 50

#: Longest excerpt of a source line and of a quoted value.
_EXCERPT_WIDTH = 100
_VALUE_WIDTH = 40


@dataclass(frozen=True, slots=True)
class Source:
    """A file or a command-line text.

    Attributes
    ----------
    name
        How messages call it.
    lines
        Its lines; empty for a text that needs no position, such as a ``--set``.
    """

    name: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a source: line and column count from 1."""

    source: Source
    line: int = 1
    column: int = 1
    length: int = 1

    @property
    def label(self) -> str:
        """``file.yaml:6:5``, or only the name where positions say nothing."""
        if not self.source.lines:
            return self.source.name
        return f"{self.source.name}:{self.line}:{self.column}"

    def excerpt(self) -> str:
        """Return the source line with a caret below the place; empty without lines."""
        if not 0 < self.line <= len(self.source.lines):
            return ""
        text = self.source.lines[self.line - 1]
        start = max(0, self.column - _EXCERPT_WIDTH // 2) if len(text) > _EXCERPT_WIDTH else 0
        line = shown(text[start : start + _EXCERPT_WIDTH].replace("\t", " ")).rstrip()
        offset = min(self.column - 1 - start, len(line))
        carets = "^" * max(1, min(self.length, len(line) - offset))
        return f"{self.line:>5} | {line}\n      | {' ' * offset}{carets}"


@dataclass(frozen=True, slots=True)
class Marks:
    """Where the key and where the value of an entry stand."""

    key: Mark
    value: Mark


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing that is wrong, with its place."""

    mark: Mark
    path: KeyPath
    message: str

    def __str__(self) -> str:
        where = f"{self.mark.label}: {dotted(self.path)}: " if self.path else f"{self.mark.label}: "
        excerpt = self.mark.excerpt()
        return f"{where}{self.message}" + (f"\n{excerpt}" if excerpt else "")


@dataclass(frozen=True, slots=True)
class Document:
    """Plain data and the place of each of its values.

    Attributes
    ----------
    data
        Dictionaries with text keys, lists, text, numbers, booleans and None.
    marks
        Places by path; the empty path is the whole document.
    complaints
        What was wrong already while reading.
    """

    data: Any
    marks: dict[KeyPath, Marks]
    complaints: tuple[Complaint, ...] = field(default=())

    def mark(self, path: KeyPath, *, key: bool = False) -> Mark:
        """Return the place of `path`, or of its nearest parent that was written down."""
        known = path
        while known not in self.marks:
            known = known[:-1]
        marks = self.marks[known]
        return marks.key if key or known != path else marks.value

    def find(self, text: str) -> KeyPath | None:
        """Return the path that was written down and reads `text` when dotted, or None."""
        return next((path for path in self.marks if path and dotted(path) == text), None)

    def part(self, path: KeyPath) -> Document:
        """Return the document below `path`."""
        data = self.data
        for step in path:
            data = data[step]
        depth = len(path)
        marks = {key[depth:]: mark for key, mark in self.marks.items() if key[:depth] == path}
        return Document(data, marks)


class ConfigError(InputError):
    """A configuration is wrong; the message lists every complaint with its place.

    Attributes
    ----------
    complaints
        The complaints, in the order of their places.
    """

    def __init__(self, complaints: Iterable[Complaint]) -> None:
        unique = {(c.mark.label, c.path, c.message): c for c in complaints}
        ordered = sorted(
            unique.values(), key=lambda c: (c.mark.source.name, c.mark.line, c.mark.column)
        )
        self.complaints = tuple(ordered)
        lines = [str(complaint) for complaint in ordered[:_MOST_COMPLAINTS]]
        if len(ordered) > _MOST_COMPLAINTS:
            lines.append(f"... and {len(ordered) - _MOST_COMPLAINTS} more")
        super().__init__("\n".join(lines))


def dotted(path: KeyPath) -> str:
    """Return ``servers.1.memory_gib``."""
    return ".".join(shown(str(step)) for step in path)


def quoted(value: Any) -> str:
    """Return a short YAML-like rendering of a value for a message."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, list):
        return "a list"
    text = f"'{value}'" if isinstance(value, str) else str(value)
    short = text if len(text) <= _VALUE_WIDTH else text[: _VALUE_WIDTH - 3] + "..."
    return shown(short)


def did_you_mean(word: str, choices: Sequence[str]) -> str:
    """Return ``; did you mean 'x'?``, or nothing when no choice is close."""
    close = near(word, choices)
    return f"; did you mean '{close}'?" if close else ""
