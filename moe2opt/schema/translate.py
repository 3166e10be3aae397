"""Pydantic's findings, told in our words and at the place where the value was written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from moe2opt.schema.source import (
    Complaint,
    ConfigError,
    Document,
    KeyPath,
    did_you_mean,
    quoted,
)

Model = TypeVar("Model", bound=BaseModel)

#: Findings that are told in our words, with hints; the others are only counted.
_MOST_TOLD = 200

#: Errors whose path ends in a key that the data do not have.
_ABSENT = ("missing", "union_tag_not_found", "missing_argument")


def validate(document: Document, model: type[Model]) -> Model:
    """Return `document` as a `model`, types taken strictly (``'4'`` is no number).

    Raises
    ------
    ConfigError
        Listing every complaint, those of the reader included.
    """
    complaints = list(document.complaints)
    try:
        result = model.model_validate_json(json.dumps(document.data), strict=True)
    except ValidationError as error:
        found = _Translation(document, model.model_json_schema()).complaints(error)
        complaints += [c for c in found if not _spoilt(c, document.complaints)]
    if complaints:
        raise ConfigError(complaints)
    return result


def complaint_about(document: Document, text: str) -> Complaint:
    """Give the message of a check its place.

    A message that starts with the dotted path of a key and a colon (``llms.include: ...``) is
    about that key, any other about the whole document.
    """
    match = re.match(r"([\w.\-]+): (.+)", text, re.DOTALL)
    path = document.find(match.group(1)) if match else None
    if match is None or path is None:
        return Complaint(document.mark(()), (), text)
    return Complaint(document.mark(path, key=True), path, match.group(2))


def _spoilt(found: Complaint, earlier: tuple[Complaint, ...]) -> bool:
    """Tell whether a complaint of the reader, at the same place or around it, explains `found`."""
    if found.message.startswith(_UNKNOWN):
        return False
    path = found.path
    return any(path[: len(c.path)] == c.path[: len(path)] for c in earlier)


class _Translation:
    def __init__(self, document: Document, schema: dict[str, Any]) -> None:
        self.document = document
        self.schema = schema

    def complaints(self, error: ValidationError) -> Iterator[Complaint]:
        """Yield one complaint per place; several findings about one value are joined."""
        by_path: dict[KeyPath, list[str]] = {}
        renamed: set[KeyPath] = set()
        for number, item in enumerate(error.errors(include_url=False)):
            path = self._path(item)
            if number >= _MOST_TOLD:
                by_path.setdefault(path, []).append(_lower_first(item["msg"]))
                continue
            if item["type"] == "too_short" and self._is_long_enough(item, path):
                continue
            message = self._message(item, path)
            if item["type"] == "extra_forbidden":
                renamed |= {(*path[:-1], word) for word in _suggestions(message)}
            messages = by_path.setdefault(path, [])
            if message not in messages:
                messages.append(message)
        for path, found in by_path.items():
            messages = [m for m in found if not m.endswith(_CONTAINERS)] or found
            if path in renamed and messages == [_MISSING]:
                continue
            if self._is_other_branch(path, by_path):
                continue
            if not path:
                yield from (complaint_about(self.document, message) for message in messages)
                continue
            mark = self.document.mark(path, key=_about_key(messages[0]))
            yield Complaint(mark, path, " or ".join(_without_repeats(messages)))

    def _is_other_branch(self, path: KeyPath, found: dict[KeyPath, list[str]]) -> bool:
        """Tell whether the finding only says that a union's scalar branch got a container."""
        return all(m.endswith(_CONTAINERS) for m in found[path]) and any(
            len(other) > len(path) and other[: len(path)] == path for other in found
        )

    def _is_null(self, item: Any, path: KeyPath) -> bool:
        """Tell whether a key that is required under conditions is there and holds nothing."""
        given = item["type"] == "missing" and bool(path) and path[-1] == item["loc"][-1]
        return given and path[-1] in self.document.part(path[:-1]).data

    def _is_long_enough(self, item: Any, path: KeyPath) -> bool:
        """Tell whether only valid items are few; the others have complaints of their own."""
        return len(self.document.part(path).data) >= int(item["ctx"]["min_length"])

    def _path(self, item: Any) -> KeyPath:
        """Return the location in the data: names of union branches and validators drop out."""
        path: KeyPath = ()
        node = self.document.data
        for step in item["loc"]:
            if isinstance(node, dict) and str(step) in node:
                node, path = node[str(step)], (*path, str(step))
            elif isinstance(node, list) and isinstance(step, int) and step < len(node):
                node, path = node[step], (*path, step)
        if item["type"] in _ABSENT and not self._is_null(item, path):
            path = (*path, item["loc"][-1] if item["type"] == "missing" else _tag_key(item))
        elif item["type"] == "union_tag_invalid":
            path = (*path, _tag_key(item))
        return path

    def _message(self, item: Any, path: KeyPath) -> str:
        kind, context = item["type"], item.get("ctx", {})
        if kind == "extra_forbidden":
            return self._unknown_key(path)
        if kind in _ABSENT:
            return "expected a value, got nothing" if self._is_null(item, path) else _MISSING
        if kind in ("value_error", "assertion_error"):
            return str(context["error"])
        if kind in ("literal_error", "enum", "union_tag_invalid"):
            return _one_of(context, self._input(item, path))
        template = _TEMPLATES.get(kind)
        text = template(context) if template else _lower_first(item["msg"])
        if item["loc"][-1:] == ("[key]",):
            text = _BAD_KEY + text
        if kind.startswith(("too_", "string_too_", "name")):
            return text
        return f"{text}, got {quoted(item['input'])}{_quoted_number(kind, item['input'])}"

    def _input(self, item: Any, path: KeyPath) -> Any:
        return item["ctx"]["tag"] if item["type"] == "union_tag_invalid" else item["input"]

    def _unknown_key(self, path: KeyPath) -> str:
        allowed = sorted(self._allowed(path[:-1]))
        hint = did_you_mean(str(path[-1]), allowed)
        return _UNKNOWN + (hint or f"; allowed here: {', '.join(allowed)}")

    def _allowed(self, path: KeyPath) -> set[str]:
        """Return the keys that the schema knows at `path`."""
        nodes, data = list(self._branches(self.schema, self.document.data)), self.document.data
        for step in path:
            data = data[step]
            below = [child for node in nodes for child in _children(node, step)]
            nodes = [branch for child in below for branch in self._branches(child, data)]
        return {key for node in nodes for key in node.get("properties", {})}

    def _branches(self, node: Any, data: Any) -> Iterator[dict[str, Any]]:
        """Yield the object schemas that `node` stands for, minus union branches of another kind."""
        if not isinstance(node, dict):
            return
        if "$ref" in node:
            yield from self._branches(self.schema["$defs"][node["$ref"].rsplit("/", 1)[1]], data)
        for word in ("anyOf", "oneOf", "allOf"):
            for branch in node.get(word, ()):
                yield from self._branches(branch, data)
        if not _contradicts(node, data):
            yield node


_MISSING = "required key is missing"
_UNKNOWN = "unknown key"
_CONTAINERS = ("got a list", "got a section")
_BAD_KEY = "the key is wrong: "

_EXPECTED = {
    "a number": ("float_type", "float_parsing", "finite_number", "decimal_type"),
    "an integer": ("int_type", "int_parsing", "int_from_float", "int_parsing_size"),
    "text": ("string_type", "path_type"),
    "true or false": ("bool_type", "bool_parsing"),
    "a list": ("list_type", "tuple_type", "set_type", "frozen_set_type", "iterable_type"),
    "a section (key: value lines)": (
        "dict_type", "model_type", "model_attributes_type", "mapping_type", "dataclass_type",
    ),
}  # fmt: skip


def _expecting(what: str) -> Callable[[dict[str, Any]], str]:
    return lambda context: f"expected {what}"


_TEMPLATES: dict[str, Callable[[dict[str, Any]], str]] = {
    **{kind: _expecting(what) for what, kinds in _EXPECTED.items() for kind in kinds},
    "greater_than": lambda context: f"must be greater than {context['gt']:g}",
    "greater_than_equal": lambda context: f"must be at least {context['ge']:g}",
    "less_than": lambda context: f"must be less than {context['lt']:g}",
    "less_than_equal": lambda context: f"must be at most {context['le']:g}",
    "too_short": lambda context: _count("at least", context["min_length"], context),
    "too_long": lambda context: _count("at most", context["max_length"], context),
    "string_too_short": lambda context: f"needs at least {context['min_length']} character(s)",
    "string_too_long": lambda context: f"has room for {context['max_length']} characters",
    "string_pattern_mismatch": lambda context: f"must match {context['pattern']}",
}


def _count(relation: str, limit: int, context: dict[str, Any]) -> str:
    return f"expected {relation} {limit} item(s), got {context['actual_length']}"


def _one_of(context: dict[str, Any], value: Any) -> str:
    expected = str(context.get("expected") or context["expected_tags"])
    choices = re.findall(r"'([^']*)'", expected)
    if choices:
        *others, last = (f"'{choice}'" for choice in choices)
        expected = f"{', '.join(others)} or {last}" if others else last
    hint = did_you_mean(value, choices) if isinstance(value, str) else ""
    return f"expected {expected}, got {quoted(value)}{hint}"


def _quoted_number(kind: str, value: Any) -> str:
    number = isinstance(value, str) and re.fullmatch(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?", value)
    return "; remove the quotes" if number and kind in ("float_type", "int_type") else ""


def _tag_key(item: Any) -> str:
    return str(item["ctx"]["discriminator"]).strip("'")


def _about_key(message: str) -> bool:
    return message.startswith((_UNKNOWN, _MISSING, _BAD_KEY))


def _suggestions(message: str) -> list[str]:
    return re.findall(r"did you mean '([^']*)'", message)


def _without_repeats(messages: list[str]) -> list[str]:
    """Shorten ``expected A, got X`` and ``expected B, got X`` to one ``got X``."""
    head, got = messages[0].partition(", got ")[::2]
    if not got or any(m.partition(", got ")[2] != got for m in messages):
        return messages
    rest = [message.partition(", got ")[0].removeprefix("expected ") for message in messages[1:]]
    return [" or ".join([head, *rest]) + f", got {got}"]


def _lower_first(message: str) -> str:
    return message[:1].lower() + message[1:]


def _contradicts(node: dict[str, Any], data: Any) -> bool:
    constants = {
        key: value["const"] for key, value in node.get("properties", {}).items() if "const" in value
    }
    return isinstance(data, dict) and any(
        key in data and data[key] != constant for key, constant in constants.items()
    )


def _children(node: dict[str, Any], step: str | int) -> Iterator[Any]:
    if isinstance(step, int):
        yield from node.get("prefixItems", [])[step : step + 1] or [node.get("items")]
    elif step in node.get("properties", {}):
        yield node["properties"][step]
    else:
        yield node.get("additionalProperties")
