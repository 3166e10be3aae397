"""Text from files and command lines: what it may hold, and how it is shown.

Characters that steer a terminal, reorder a line or cannot be seen have no place in names and notes:
control characters, marks of direction, characters of no width, line and paragraph separators,
halves of surrogate pairs. Readers refuse them (`fault_of_text`, `fault_of_name`); whatever prints
replaces them all the same (`shown`).
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

#: Longest name that is read, in characters.
LONGEST_NAME = 200

#: Known words that a word is compared with.
_MOST_CHOICES = 2000

#: Unicode categories: control, format, surrogate, line separator, paragraph separator.
_UNSEEN = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))

#: Every character of these categories is in here, and few others (tables of Unicode grow).
_SUSPECT = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f"
    r"\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U00010000-\U000fffff]"
)


def shown(text: str, *, lines: bool = False) -> str:
    """Return `text` with a question mark for every character that cannot be seen.

    Parameters
    ----------
    text
        What is to be shown.
    lines
        Whether line feeds and tabs stay.
    """
    if text.isprintable():
        return text
    return _SUSPECT.sub(
        lambda found: found[0] if (lines and found[0] in "\n\t") or _seen(found[0]) else "?", text
    )


def many(count: int, word: str) -> str:
    """Return a number and what is counted, in the plural but for one.

    Examples
    --------
    >>> many(1, "point"), many(12, "point")
    ('1 point', '12 points')
    """
    return f"{count} {word}{'s' * (count != 1)}"


def as_cell(text: str) -> str:
    """Return a text as a cell of a table that a spreadsheet does not run as a formula.

    Examples
    --------
    >>> as_cell("=1+1"), as_cell("a=b"), as_cell("-")
    ("'=1+1", 'a=b', '-')
    """
    return f"'{text}" if len(text) > 1 and text[0] in "=+-@\t\r" else text


def near(word: str, known: Iterable[object], cutoff: float = 0.6) -> str | None:
    """Return the known word that a reader may have meant, None when no one is close.

    Comparing takes time that grows with the square of the lengths, so long words have no likeness.
    """
    if len(word) > LONGEST_NAME:
        return None
    choices = [text for text in map(str, known) if len(text) <= LONGEST_NAME]
    close = difflib.get_close_matches(word, choices[:_MOST_CHOICES], n=1, cutoff=cutoff)
    return close[0] if close else None


def fault_of_text(text: str) -> str | None:
    """Return what is wrong with a text, which may have several lines; None if nothing is."""
    return _unseen(text, "\n\t")


def fault_of_name(text: str, *, longest: int | None = LONGEST_NAME) -> str | None:
    """Return what is wrong with a name; None if nothing is.

    A name is one line of up to `longest` characters that can be seen, one of them not blank.
    Letters of every language, spaces, slashes and brackets are fine.
    """
    if not text.strip():
        return "a name needs at least one character that can be seen"
    if longest is not None and len(text) > longest:
        return f"a name of {len(text)} characters; at most {longest} are read"
    return _unseen(text, "")


def first_unseen(text: str, allowed: str) -> int | None:
    """Return the place of the first character that cannot be seen and is not in `allowed`."""
    if text.isprintable():
        return None
    found = (m.start() for m in _SUSPECT.finditer(text) if m[0] not in allowed)
    return next((place for place in found if not _seen(text[place])), None)


def _unseen(text: str, allowed: str) -> str | None:
    place = first_unseen(text, allowed)
    return None if place is None else about(text[place])


def about(character: str) -> str:
    """Return why a character that cannot be seen is refused."""
    if unicodedata.category(character) == "Cs":
        return "half a surrogate pair is not text"
    return f"character U+{ord(character):04X} is not allowed in text"


def _seen(character: str) -> bool:
    return unicodedata.category(character) not in _UNSEEN
