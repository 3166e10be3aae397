"""Named overrides: the same rules for scenarios in the file, ``--set`` and Python dictionaries."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from moe2opt.result import InputError
from moe2opt.schema.reader import read_text
from moe2opt.schema.source import (
    Complaint,
    ConfigError,
    Document,
    KeyPath,
    Mark,
    Marks,
    Source,
    did_you_mean,
    dotted,
)
from moe2opt.text import fault_of_text

#: Keys that say what the file is; overrides leave them alone.
FIXED_KEYS = ("schema_version", "problem", "scenarios")


def parse_override(text: str) -> Document:
    """Read a ``--set`` text ``a.b=value``; the value is YAML.

    Raises
    ------
    InputError
        When the text has no key or no ``=``, or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {text}: expected KEY=VALUE")
    name = f"--set {text}"
    tree = read_text(value if value.strip() else "null", name, positions=False)
    if tree.complaints:
        raise ConfigError([replace(c, path=(key.strip(), *c.path)) for c in tree.complaints])
    return _wrap(key.strip(), tree.data, Source(name))


def python_override(key: str, value: Any) -> Document:
    """Return an override that was given in Python."""
    return _wrap(key, _plain(key, value), Source(f"override {key} = {value!r}"))


def apply_overrides(base: Document, override: Document) -> Document:
    """Return `base` with the values of `override`, whose keys may be dotted.

    Maps are merged, lists and scalars are replaced. A dotted step names a key, a list index, or
    the list item whose ``name`` it is. Keys that lead nowhere or are set twice join the
    complaints of the document, which `moe2opt.schema.validate` raises.
    """
    merger = _Merger(base, override)
    if isinstance(override.data, dict):
        merger.merge((), override.data, ())
    return Document(merger.data, merger.marks, (*base.complaints, *merger.complaints))


class _Merger:
    def __init__(self, base: Document, override: Document) -> None:
        self.data = copy.deepcopy(base.data)
        self.marks = dict(base.marks)
        self.override = override
        self.complaints: list[Complaint] = []
        self.written: dict[KeyPath, KeyPath] = {}

    def merge(self, path: KeyPath, addition: dict[str, Any], origin: KeyPath) -> None:
        """Write the entries of `addition` (found at `origin`) below `path`."""
        for key, value in addition.items():
            here = (*origin, key)
            if not path and key.split(".")[0] in FIXED_KEYS:
                self._complain(here, here, f"an override cannot change '{key.split('.')[0]}'")
                continue
            target = self._locate(path, key, here)
            if target is not None:
                self._write(target, value, here)

    def _locate(self, path: KeyPath, key: str, origin: KeyPath) -> KeyPath | None:
        """Return the path that a dotted key names, making sections on the way to its last step."""
        rest: str | None = key
        while rest is not None:
            node = self._at(path)
            step: str | int
            if isinstance(node, dict):
                step, rest = _key_step(node, rest)
                if rest is not None and node.get(step) is None:
                    node[step] = {}
                    self._mark_as((*path, step), origin)
            elif isinstance(node, list):
                step, rest, problem = _item_step(node, rest)
                if problem:
                    self._complain(origin, (*path, step), problem)
                    return None
            else:
                self._complain(origin, path, "is a value here; it has no keys to override")
                return None
            path = (*path, step)
        return path

    def _write(self, path: KeyPath, value: Any, origin: KeyPath) -> None:
        if isinstance(value, dict):
            if not isinstance(self._at(path), dict | list):
                self._put(path, {}, origin)
            self.merge(path, value, origin)
            return
        if path in self.written:
            line = self.override.mark(self.written[path], key=True).line
            self._complain(origin, path, f"set twice; the first time in line {line}")
            return
        self.written[path] = origin
        self._put(path, copy.deepcopy(value), origin)

    def _put(self, path: KeyPath, value: Any, origin: KeyPath) -> None:
        parent = self._at(path[:-1])
        parent[path[-1]] = value
        self.marks = {key: mark for key, mark in self.marks.items() if key[: len(path)] != path}
        self._mark_as(path, origin)
        for below, marks in self.override.part(origin).marks.items():
            self.marks[path + below] = marks

    def _mark_as(self, path: KeyPath, origin: KeyPath) -> None:
        key = self.override.mark(origin, key=True)
        self.marks[path] = Marks(key, self.override.mark(origin))

    def _at(self, path: KeyPath) -> Any:
        node = self.data
        for step in path:
            node = node.get(step) if isinstance(node, dict) else node[step]
        return node

    def _complain(self, origin: KeyPath, path: KeyPath, message: str) -> None:
        mark = self.override.mark(origin, key=True)
        self.complaints.append(Complaint(mark, path, message))


def _key_step(node: dict[str, Any], text: str) -> tuple[str, str | None]:
    """Split off the longest existing key: names such as ``qwen2.5-7b`` contain dots."""
    parts = text.split(".")
    for count in range(len(parts), 0, -1):
        if ".".join(parts[:count]) in node:
            return ".".join(parts[:count]), ".".join(parts[count:]) if count < len(parts) else None
    return parts[0], ".".join(parts[1:]) if len(parts) > 1 else None


def _item_step(node: list[Any], text: str) -> tuple[str | int, str | None, str]:
    """Split off the item's name or index; the third part says what is wrong, if anything."""
    names = {
        item["name"]: index
        for index, item in enumerate(node)
        if isinstance(item, dict) and isinstance(item.get("name"), str)
    }
    step, rest = _key_step(names, text)
    if step in names:
        return names[step], rest, ""
    if step.isdecimal() and len(step) < 10 and int(step) < len(node):
        return int(step), rest, ""
    listed = ", ".join(names) if names else f"0..{len(node) - 1}" if node else "none"
    return step, None, f"no such item (items: {listed}){did_you_mean(step, list(names))}"


def _wrap(key: str, value: Any, source: Source) -> Document:
    mark = Mark(source)
    return Document({key: value}, {(): Marks(mark, mark)})


def _plain(key: str, value: Any) -> Any:
    """Return `value` as data that YAML could hold."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(name): _plain(f"{key}.{name}", entry) for name, entry in value.items()}
    if isinstance(value, str) and (fault := fault_of_text(value)):
        raise InputError(f"override {dotted((key,))}: {fault}")
    if isinstance(value, list | tuple):
        return [_plain(f"{key}.{index}", entry) for index, entry in enumerate(value)]
    if value is None or isinstance(value, str | int | float):
        return value
    raise InputError(f"override {dotted((key,))}: {type(value).__name__} is not YAML data")
