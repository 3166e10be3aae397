"""Text from files and command lines: what it may hold, and how it is shown.

Characters that steer a terminal, reorder a line or cannot be seen have no place in names and notes:
control characters, marks of direction, characters of no width, line and paragraph separators,
halves of surrogate pairs. Readers refuse them (`fault_of_text`, `fault_of_name`); whatever prints
replaces them all the same (`shown`).
"""

from __future__ import annotations

import re
import unicodedata

#: Longest name that is read, in characters.
LONGEST_NAME = 200

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
        Whether line feeds stay.
    """
    if text.isprintable():
        return text
    return _SUSPECT.sub(
        lambda found: found[0] if (lines and found[0] == "\n") or _seen(found[0]) else "?", text
    )


def fault_of_text(text: str) -> str | None:
    """Return what is wrong with a text, which may have several lines; None if nothing is."""
    return _unseen(text, "\n\t")


def fault_of_name(text: str) -> str | None:
    """Return what is wrong with a name; None if nothing is.

    A name is one line of up to `LONGEST_NAME` characters that can be seen, one of them not blank.
    Letters of every language, spaces, slashes and brackets are fine.
    """
    if not text.strip():
        return "a name needs at least one character that can be seen"
    if len(text) > LONGEST_NAME:
        return f"a name of {len(text)} characters; at most {LONGEST_NAME} are read"
    return _unseen(text, "")


def _unseen(text: str, allowed: str) -> str | None:
    if text.isprintable():
        return None
    bad = next((c for c in _SUSPECT.findall(text) if not _seen(c) and c not in allowed), None)
    return None if bad is None else f"character U+{ord(bad):04X} is not allowed in text"


def _seen(character: str) -> bool:
    return unicodedata.category(character) not in _UNSEEN
