"""Reading files that others wrote: bounded, regular, and every damage one `InputError`.

Nothing here waits (pipes and devices are refused), nothing is read before its size is known to be
sensible, and nothing is ever unpickled.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from moe2opt.errors import InputError
from moe2opt.text import fault_of_text, shown

#: Largest text, and levels of brackets in it, that are read.
MOST_BYTES = 64 * 2**20
MOST_NESTING = 60

#: Most values of a JSON text: each takes memory and time, however few bytes it has.
MOST_VALUES = 5_000_000

#: Digits of a whole number; Python itself reads no more than about 4,300.
_MOST_DIGITS = 400

#: Characters of a text that a message shows.
_WIDTH = 80


def open_regular(path: str | Path, most_bytes: int | None = None) -> BinaryIO:
    """Open a regular file for reading, at most `most_bytes` long.

    Raises
    ------
    InputError
        ``path: reason`` for what does not exist, is a folder, pipe, socket or device, is too
        large, may not be read, or has no name that a file can have.
    """
    try:
        # Without O_NONBLOCK, opening a pipe waits for its writer.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        handle = os.open(path, flags)
    except OSError as error:
        raise InputError(f"{_named(path)}: {error.strerror or type(error).__name__}") from error
    except ValueError as error:  # NUL, or half a surrogate pair
        raise InputError(f"{_named(path)}: not the name of a file") from error
    about = os.fstat(handle)
    wrong = None
    if not stat.S_ISREG(about.st_mode):
        folder = stat.S_ISDIR(about.st_mode)
        wrong = "is a folder, not a file" if folder else "is not a regular file"
        if folder and (Path(path) / "result.json").is_file():  # what --out wrote is named instead
            wrong += f"; its result is {_named(Path(path) / 'result.json')}"
    elif most_bytes is not None and about.st_size > most_bytes:
        wrong = f"larger than {_size(most_bytes)}"
    if wrong is not None:
        os.close(handle)
        raise InputError(f"{_named(path)}: {wrong}")
    return os.fdopen(handle, "rb")


def read_bytes(path: str | Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Return the content of a file; raise as `open_regular`."""
    with open_regular(path, most_bytes) as stream:
        try:
            content = stream.read(most_bytes + 1)
        except OSError as error:
            raise InputError(f"{_named(path)}: {error.strerror}") from error
    if len(content) > most_bytes:  # it grew
        raise InputError(f"{_named(path)}: larger than {_size(most_bytes)}")
    return content


def read_text(path: str | Path, most_bytes: int = MOST_BYTES) -> str:
    """Return a text in UTF-8, with or without a byte order mark; line ends become line feeds.

    Raises
    ------
    InputError
        As `open_regular`, and for what is not UTF-8 or holds NUL.
    """
    raw = read_bytes(path, most_bytes)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{_named(path)}: not UTF-8 text (byte {error.start})") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{_named(path)}:{line}: character U+0000 is not allowed in text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: str | Path, most_bytes: int = MOST_BYTES, *, finite: bool = True) -> Any:
    """Return the content of a JSON file.

    Raises
    ------
    InputError
        ``path: reason`` as `read_text` and `json_of`.
    """
    return json_of(read_text(path, most_bytes), _named(path), finite=finite)


def json_of(text: str, name: str, *, finite: bool = True) -> Any:
    """Return what a JSON text holds: finite numbers, and texts that can be shown.

    Parameters
    ----------
    text
        The text.
    name
        What messages call it.
    finite
        Whether ``Infinity`` and ``NaN``, which are no JSON though Python writes them, are refused.

    Raises
    ------
    InputError
        ``name: reason`` for what is not JSON, has more than `MOST_VALUES` values, is nested deeper
        than `MOST_NESTING`, or holds a key twice, a number that is not finite, one of too many
        digits, or a text with control characters.
    """

    def refuse(reason: str) -> NoReturn:
        raise InputError(f"{name}: {reason}")

    if has_too_many_values(text):
        refuse(f"more than {MOST_VALUES:,} values")
    try:
        content = (DECODER if finite else _LENIENT).decode(text)
    except NestedError as error:
        refuse(str(error))
    except json.JSONDecodeError as error:
        refuse(f"not JSON: {error}")
    except ValueError as error:
        refuse(f"not JSON: {error}")
    except MemoryError:
        refuse("too large for the memory")
    _check(content, refuse, finite=finite)
    return content


def has_too_many_values(text: str) -> bool:
    """Tell whether a JSON text is refused for the number of its values."""
    return sum(map(text.count, ",[{")) > MOST_VALUES


def _check(content: Any, refuse: Callable[[str], NoReturn], *, finite: bool) -> None:
    """Look at every value once; only where one is wrong its place is worked out."""
    level: list[Any] = [content]
    depth = 0
    while level:
        if depth > MOST_NESTING:
            refuse(f"nested deeper than {MOST_NESTING} levels")
        below: list[Any] = []
        for value in level:
            kind = type(value)
            if kind is list:
                below += value
            elif kind is dict:
                below += value
                below += value.values()
            elif kind is str:
                if not value.isprintable() and (fault := fault_of_text(value)):
                    refuse(f"{_place(content, value)}{fault}")
            elif finite and kind is float and not math.isfinite(value):
                refuse(f"{_place(content, value)}a number is too large")
        level, depth = below, depth + 1


def _place(content: Any, wanted: Any) -> str:
    """Return ``a.b.0: `` for the place of an object in nested data."""
    waiting: list[tuple[str, Any]] = [("", content)]
    while waiting:
        path, value = waiting.pop()
        if value is wanted:
            return f"{path.lstrip('.')}: " if path else ""
        for key, entry in _entries(value):
            if key is wanted:
                return f"{path.lstrip('.')}: a key: " if path else "a key: "
            waiting.append((f"{path}.{shown(str(key))[:_WIDTH]}", entry))
    return ""


def _entries(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


def _section(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a section whose keys differ: who reads the text would believe the first of two."""
    content = dict(pairs)
    if len(content) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {json.dumps(twice[:_WIDTH])} stands twice in one section")
    return content


def _constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number of JSON")


class NestedError(ValueError):
    """JSON that is nested deeper than can be followed."""


class _Decoder(json.JSONDecoder):
    def raw_decode(self, s: str, idx: int = 0) -> tuple[Any, int]:
        try:
            return super().raw_decode(s, idx)
        except RecursionError:
            raise NestedError(f"nested deeper than {MOST_NESTING} levels") from None


#: Reads JSON as `json_of` does: no key twice, no NaN; what it refuses is a `ValueError`.
DECODER = _Decoder(parse_int=_whole, parse_constant=_constant, object_pairs_hook=_section)

_LENIENT = _Decoder(parse_int=_whole, object_pairs_hook=_section)


def _named(path: str | Path) -> str:
    """Return a path for a message: short, and without characters that cannot be seen."""
    text = shown(str(path))
    return text if len(text) <= 4 * _WIDTH else f"{text[:_WIDTH]}...{text[-_WIDTH:]}"


def _size(most_bytes: int) -> str:
    whole = most_bytes % 2**20 == 0
    return f"{most_bytes // 2**20} MiB" if whole else f"{most_bytes} bytes"
