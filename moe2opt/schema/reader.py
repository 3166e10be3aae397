"""A strict reader of YAML 1.2: plain data, a place for every value, no surprises.

Only the parser of ruamel.yaml is used. Scalars follow the core schema of YAML 1.2, so ``no`` and
``on`` are text. Anchors, aliases, merge keys and tags are refused: they are the parts of YAML that
can grow a small file without bound or build arbitrary objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from moe2opt.files import read_text as text_of
from moe2opt.result import InputError
from moe2opt.schema.source import Complaint, ConfigError, Document, KeyPath, Mark, Marks, Source
from moe2opt.text import about, fault_of_text, first_unseen

MOST_BYTES = 2**20
MOST_NESTING = 50

#: Keys, values and brackets, and complaints, after which reading ends.
_MOST_EVENTS, _MOST_COMPLAINTS = 20_000, 1_000

#: YAML numbers in our units lie within these; beyond, products overflow or vanish.
_SMALLEST, _LARGEST = 1e-100, 1e100
_LARGEST_INTEGER = 2**63 - 1

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def read_file(path: Path) -> Document:
    """Read a YAML file.

    Raises
    ------
    InputError
        When the file cannot be read, is too large or is not UTF-8.
    ConfigError
        When it is not YAML at all; lesser faults are in the document's complaints.
    """
    try:
        text = text_of(path, MOST_BYTES)
    except InputError as error:
        hint = "; put tables into CSV files" if "larger than" in str(error) else ""
        raise InputError(f"{error}{hint}") from error
    return read_text(text, str(path))


def read_text(text: str, name: str, *, positions: bool = True) -> Document:
    """Read YAML from text; without `positions`, complaints show only `name`."""
    lines = tuple(text.splitlines()) or ("",)
    source = Source(name, lines if positions else ())
    bad = first_unseen(text, "\n\t\r")
    if bad is not None:
        line, column = text.count("\n", 0, bad) + 1, bad - text.rfind("\n", 0, bad)
        raise ConfigError([Complaint(Mark(source, line, column), (), about(text[bad]))])
    return _Reader(source, text).document()


class _Reader:
    """Turns parser events into data, noting places and complaints on the way."""

    def __init__(self, source: Source, text: str) -> None:
        self.source = source
        self.marks: dict[KeyPath, Marks] = {}
        self.complaints: list[Complaint] = []
        self.events = self._parse(text)
        self.count = 0

    def document(self) -> Document:
        """Read the only document of the text."""
        start = Mark(self.source)
        self._next()
        event = self._next()
        if type(event).__name__ == "StreamEndEvent":
            raise ConfigError([Complaint(start, (), "the file is empty")])
        event = self._next()
        self.marks[()] = Marks(start, start)
        data = self._value(event, (), 0)
        self._next()
        event = self._next()
        if type(event).__name__ != "StreamEndEvent":
            self._complain(event, (), "a second document starts here; one file holds one")
        return Document(data, self.marks, tuple(self.complaints))

    def _parse(self, text: str) -> Iterator[Any]:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, YAMLError

        try:
            yield from YAML(typ="safe", pure=True).parse(text)
        except MarkedYAMLError as error:
            place = error.problem_mark
            if place is None or (place.line >= len(self.source.lines) and error.context_mark):
                place = error.context_mark
            mark = Mark(self.source) if place is None else self._mark(place)
            reason = " ".join(str(error.problem or error.context).split())
            raise ConfigError(
                [*self.complaints, Complaint(mark, (), f"not YAML: {reason}")]
            ) from error
        except (YAMLError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError([Complaint(Mark(self.source), (), f"not YAML: {reason}")]) from error

    def _next(self) -> Any:
        event = next(self.events)
        self.count += 1
        if self.count > _MOST_EVENTS:
            mark = self._mark(event.start_mark)
            reason = f"more than {_MOST_EVENTS} keys and values; put tables into CSV files"
            raise ConfigError([*self.complaints, Complaint(mark, (), reason)])
        return event

    def _mark(self, start: Any, end: Any = None) -> Mark:
        length = end.column - start.column if end is not None and end.line == start.line else 1
        return Mark(self.source, start.line + 1, start.column + 1, max(1, length))

    def _complain(self, event: Any, path: KeyPath, message: str) -> None:
        mark = self._mark(event.start_mark, event.end_mark)
        self.complaints.append(Complaint(mark, path, message))
        if len(self.complaints) > _MOST_COMPLAINTS:
            raise ConfigError(self.complaints)

    def _value(self, event: Any, path: KeyPath, depth: int) -> Any:
        kind = type(event).__name__
        if kind == "AliasEvent":
            return self._complain(event, path, "aliases are not allowed; write the value out")
        if event.anchor is not None:
            self._complain(event, path, "anchors are not allowed")
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._complain(event, path, f"tags are not allowed ({tag})")
        if kind == "ScalarEvent":
            return self._scalar(event, path)
        if depth >= MOST_NESTING:
            raise self._too_deep(event)
        if kind == "MappingStartEvent":
            return self._mapping(path, depth)
        return self._sequence(path, depth)

    def _mapping(self, path: KeyPath, depth: int) -> dict[str, Any]:
        data: dict[str, Any] = {}
        while type(event := self._next()).__name__ != "MappingEndEvent":
            key = self._key(event, path)
            value = self._next()
            if key is None:
                self._skip(value)
                continue
            below = (*path, key)
            if key in data:
                first = self.marks[below].key.line
                self._complain(event, below, f"duplicate key; the first one is in line {first}")
                self._skip(value)
                continue
            self._note(below, event, value)
            data[key] = self._value(value, below, depth + 1)
        return data

    def _sequence(self, path: KeyPath, depth: int) -> list[Any]:
        data: list[Any] = []
        while type(event := self._next()).__name__ != "SequenceEndEvent":
            below = (*path, len(data))
            self._note(below, event, event)
            data.append(self._value(event, below, depth + 1))
        return data

    def _key(self, event: Any, path: KeyPath) -> str | None:
        """Return a key as text, or complain and return None."""
        problem = _key_problem(event)
        if problem is None:
            return str(event.value)
        self._complain(event, path, problem)
        self._skip(event)
        return None

    def _note(self, path: KeyPath, key: Any, value: Any) -> None:
        at_key = self._mark(key.start_mark, key.end_mark)
        empty = type(value).__name__ == "ScalarEvent" and not value.value and value.style is None
        block = type(value).__name__ == "MappingStartEvent" and not value.flow_style
        at_value = at_key if empty or block else self._mark(value.start_mark, value.end_mark)
        self.marks[path] = Marks(at_key, at_value)

    def _skip(self, event: Any) -> None:
        """Pass over a value; its inside is not looked at."""
        depth = 0
        while True:
            kind = type(event).__name__
            depth += kind in ("MappingStartEvent", "SequenceStartEvent")
            depth -= kind in ("MappingEndEvent", "SequenceEndEvent")
            if depth > MOST_NESTING:
                raise self._too_deep(event)
            if depth == 0:
                return
            event = self._next()

    def _too_deep(self, event: Any) -> ConfigError:
        mark = self._mark(event.start_mark)
        return ConfigError([Complaint(mark, (), f"nested deeper than {MOST_NESTING} levels")])

    def _scalar(self, event: Any, path: KeyPath) -> Any:
        text = event.value
        if event.style is not None:
            fault = fault_of_text(text)
            return text if fault is None else self._complain(event, path, fault)
        if text in _WORDS:
            return _WORDS[text]
        if _NOT_FINITE.fullmatch(text):
            return self._complain(
                event, path, f"{text} is not allowed; every number must be finite"
            )
        return self._number(event, path)

    def _number(self, event: Any, path: KeyPath) -> Any:
        text = event.value
        if _INTEGER.fullmatch(text) and len(text) <= 400:
            whole = int(text, 0) if text[:2] in ("0o", "0x") else int(text)
            if abs(whole) > _LARGEST_INTEGER:
                return self._complain(event, path, "the number is too large")
            return whole
        if not _FLOAT.fullmatch(text):
            return text
        number = float(text)
        if fault := fault_of_number(number):
            return self._complain(event, path, fault)
        return number


def fault_of_number(number: float) -> str | None:
    """Return what is wrong with the size of a number; None if nothing is."""
    if not abs(number) <= _LARGEST:
        return "the number is too large"
    return "the number is too small" if 0 < abs(number) < _SMALLEST else None


def _key_problem(event: Any) -> str | None:
    if type(event).__name__ != "ScalarEvent":
        return "a key must be plain text"
    if event.anchor is not None or event.tag is not None:
        return "anchors and tags are not allowed"
    if event.value == "<<" and event.style is None:
        return "merge keys are not allowed; write the keys out"
    if not event.value:
        return "a key is missing before ':'"
    fault = first_unseen(event.value, "")
    return None if fault is None else about(event.value[fault])
