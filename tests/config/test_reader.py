"""The YAML reader: values, places, refusals, and no exception but its own."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

import moe2opt as mo
from moe2opt.result import InputError
from moe2opt.schema import ConfigError, read_text
from moe2opt.schema.source import dotted, quoted


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("true", True), ("False", False),
        ("null", None), ("~", None), ("", None), ("12", 12), ("-3", -3), ("+4", 4), ("0o17", 15),
        ("0x1F", 31), ("010", 10), ("1.5", 1.5), (".5", 0.5), ("3.", 3.0), ("1e3", 1000.0),
        ("-1.5E-3", -0.0015), ("12:30", "12:30"), ("2026-01-02", "2026-01-02"), ("1_000", "1_000"),
        ("'12'", "12"), ('"a\\tb"', "a\tb"), ("nan", "nan"),
        ("[1, [2, {a: b}]]", [1, [2, {"a": "b"}]]),
    ],
)  # fmt: skip
def test_core_schema(text: str, value: object) -> None:
    """Scalars follow the core schema of YAML 1.2: no dates, no sexagesimals, no `no`."""
    found = read_text(f"key: {text}", "x").data["key"]
    assert found == value
    assert type(found) is type(value)


def test_block_texts() -> None:
    """Literal and folded blocks are text even when they look like numbers."""
    assert read_text("a: |\n  12\nb: >-\n  x\n  y\n", "x").data == {"a": "12\n", "b": "x y"}


def test_keys_are_text() -> None:
    """Keys are never numbers or booleans."""
    assert list(read_text("1: a\ntrue: b\nnull: c", "x").data) == ["1", "true", "null"]


def test_places() -> None:
    """Every value has the place of its key and of itself, lines and columns from 1."""
    document = read_text("a:\n  - b: [1, 22]\n", "x.yaml")
    assert document.mark(("a", 0, "b", 1)).label == "x.yaml:2:12"
    assert document.mark(("a", 0, "b"), key=True).label == "x.yaml:2:5"
    assert document.mark(("a", 0, "c", "d")).label == "x.yaml:2:5"


def test_marks_without_lines() -> None:
    """A place in a text without lines shows only its name."""
    mark = read_text("1", "--set a=1", positions=False).mark(())
    assert (mark.label, mark.excerpt()) == ("--set a=1", "")


def test_bom_and_line_ends() -> None:
    """Windows line ends do not shift the places."""
    assert read_text("a: 1\r\nb: 2\r\n", "x").mark(("b",)).line == 2


#: Characters that cannot be seen are refused.
UNSEEN = ["Cc", "Cf", "Cs", "Zl", "Zp"]

#: Numbers that are read: beyond, products of units overflow or vanish.
NUMBERS = st.floats(-1e100, 1e100).filter(lambda x: x == 0 or abs(x) >= 1e-100)

TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | NUMBERS
    | st.text(st.characters(codec="utf-8", exclude_categories=UNSEEN), max_size=8),
    lambda children: st.lists(children, max_size=3)
    | st.dictionaries(st.text("abc.- :#1", min_size=1, max_size=4), children, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["a", "b b", "c.d"]), TREES, min_size=1))
def test_round_trip(data: dict[str, Any]) -> None:
    """What the writer of effective configurations writes, the reader reads back."""
    text = io.StringIO()
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.dump(data, text)
    document = read_text(text.getvalue(), "x")
    assert not document.complaints
    assert document.data == data


@given(st.text(st.sampled_from("ab: -[]{}&*!|>'\"#%@,?\n\t01.~<\\"), max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever stands in a file, the reader returns a document or raises InputError."""
    try:
        document = read_text(text, "x")
    except InputError:
        return
    assert document.marks
    for path in document.marks:
        assert document.mark(path).line >= 1


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "nothing"), (True, "true"), ({}, "a section"), ([], "a list"), (1.5, "1.5"),
     ("x" * 50, "'" + "x" * 36 + "..."), ("a\x1bb", "'a?b'"), (math.inf, "inf")],
)  # fmt: skip
def test_values_in_messages(value: object, text: str) -> None:
    """Values are quoted shortly and without control characters."""
    assert quoted(value) == text


def test_dotted_paths() -> None:
    """Paths in messages use dots and hide control characters."""
    assert dotted(("a", 0, "b\x07")) == "a.0.b?"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested deeper than 50 levels"),
        ("{" * 100_000, "nested deeper than 50 levels"),
        ("[{" * 50_000, "nested deeper than 50 levels"),
        ("- " * 100_000, "nested deeper than 50 levels"),
        ("? " * 100_000, "nested deeper than 50 levels"),
        ("a: [" + "1," * 400_000 + "]", "more than 20000 keys and values"),
        ("".join(f"k{k}: 1\n" for k in range(60_000)), "more than 20000 keys and values"),
        ("a: {" + "b, " * 300_000 + "}", "and 951 more"),
    ],
    ids=["lists", "maps", "both", "dashes", "questions", "long list", "many keys", "duplicates"],
)
def test_what_would_take_long(text: str, message: str) -> None:
    """Text that is deep or has no end is given up soon; without that, these take hours."""
    with pytest.raises(ConfigError, match=message):
        read_text(text, "x")


def test_thousands_of_unknown_keys(tmp_path: Path) -> None:
    """Thousands of findings are counted; only the first get hints, which take time."""
    path = tmp_path / "x.yaml"
    path.write_text("problem: selection\n" + "".join(f"key{k}: 1\n" for k in range(9_000)))
    with pytest.raises(ConfigError, match=r"\.\.\. and 89\d\d more$"):
        mo.load(path)
