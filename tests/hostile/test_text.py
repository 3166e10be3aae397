"""Names and notes that steer a terminal, reorder a line or cannot be seen are refused."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import moe2opt as mo
from moe2opt.cli import app
from moe2opt.errors import InputError
from moe2opt.replay.traces.files import open_trace
from moe2opt.schema import ConfigError, inside
from moe2opt.schema.csv import NAME, NOTE, read_table
from moe2opt.text import fault_of_name, fault_of_text, shown

#: Names as people use them.
GOOD = [
    "Qwen/Qwen3-30B-A3B", "GPT-4o mini (2024)", "模型 七", "Größe Ω'x'", "a\u00a0b", "e\u0301",
    "🙂",
    "$(x) `y` {z} \"q\" # | & ; <t> %s \\n", "--flag", "=1+1", "x" * 200,
]  # fmt: skip

#: Names that nobody needs.
BAD = [
    "a\x1b[2Jb", "a\x9b31mb", "\x1b]0;title\x07", "a\0b", "a\nb", "a\rb", "a\tb", "a\x7fb",
    "a\x85b", "a\u202eb", "a\u2066b", "a\u200fb", "a\u061cb", "a\u200bb", "a\ufeffb", "a\u00adb",
    "a\u2028b", "a\ud800b", "a\U000e0041b", "x" * 201, "", " ",
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_names_that_people_use(name: str) -> None:
    """Letters of every language, spaces, slashes, quotes and brackets are a name."""
    assert fault_of_name(name) is None
    assert shown(name) == name


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_names_that_nobody_needs(name: str) -> None:
    """What cannot be seen, a second line, too much or nothing is no name; what is shown is safe."""
    assert fault_of_name(name)
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in shown(name))


def test_notes_may_have_lines() -> None:
    """A note is a text with line ends and tabs; control characters are none of it."""
    assert fault_of_text("one\n\ttwo") is None
    assert fault_of_text("one\x1b[0m") == "character U+001B is not allowed in text"


def escaped(name: str) -> str:
    """Return a name in double quotes as JSON and YAML write it, every character escaped."""
    return json.dumps(name)


@pytest.mark.parametrize("name", [n for n in BAD if n.strip()], ids=ascii)
@pytest.mark.parametrize("key", ["name", "servers.0.name", "precisions.0.name", "llms.include"])
def test_names_in_yaml(tmp_path: Path, name: str, key: str) -> None:
    """A bad name in a configuration is one line with file, line and column, from all commands."""
    text = (
        "schema_version: 1\nproblem: selection\nname: NAME\ntables: tables\n"
        "precisions: [{name: int8}]\n"
        "servers: [{name: s, device: d, uplink_mbps: 1, downlink_mbps: 1}]\nllms: {include: [l]}\n"
    )
    places = {"name": "NAME", "servers.0.name": "name: s", "precisions.0.name": "int8",
              "llms.include": "[l]"}  # fmt: skip
    old = places[key]
    new = {"name: s": f"name: {escaped(name)}", "[l]": f"[{escaped(name)}]"}.get(old, escaped(name))
    file = tmp_path / "x.yaml"
    file.write_text(text.replace(old, new, 1), encoding="ascii")
    with pytest.raises(ConfigError) as caught:
        mo.load(file)
    line = {"name": 3, "servers.0.name": 6, "precisions.0.name": 5, "llms.include": 7}[key]
    assert f"x.yaml:{line}:" in str(caught.value)
    ran = CliRunner().invoke(app, ["check", str(file)])
    assert ran.exit_code == 2
    assert shown(ran.stderr, lines=True) == ran.stderr


def test_characters_in_yaml_are_found_raw() -> None:
    """A mark of direction that is typed into the file, even into a comment, is refused there."""
    from moe2opt.schema import read_text

    with pytest.raises(ConfigError, match=r"^x:2:6: character U\+202E is not allowed in text"):
        read_text("a: 1\n# b: \u202e2\n", "x")


@pytest.mark.parametrize("name", [n for n in BAD if n.strip() and "\ud800" not in n], ids=ascii)
def test_names_in_tables(tmp_path: Path, name: str) -> None:
    """A bad name in a CSV table is refused with its line and column."""
    file = tmp_path / "t.csv"
    quoted = name.replace('"', '""')
    file.write_bytes(f'name,note\ngood,\n"{quoted}",x\n'.encode())
    with pytest.raises(InputError) as caught:
        read_table(file, {"name": NAME, "note": NOTE})
    assert f"{file}:" in str(caught.value)
    assert shown(str(caught.value), lines=True) == str(caught.value)


def test_hostile_traces(tmp_path: Path) -> None:
    """Names in the head and in the columns of a trace are names."""
    file = tmp_path / "t.csv"
    for text, message in (
        ("# name: a\u202eb\nt_s,mbit_per_s\n0,1\n1,1\n", "name: character"),
        ("# source: a\x1bb\nt_s,mbit_per_s\n0,1\n1,1\n", "source: character"),
        ("t_s,mbit_per_s,server\n0,1,a\u200bb\n1,1,a\n", "server in row 1: character"),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=message):
            open_trace(file)


def test_paths_that_no_file_can_have(tmp_path: Path) -> None:
    """A path with NUL, one that is too long and a circle of links end in one line with the key."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("a\0b", "x" * 300, "/".join(["y" * 200] * 30), "\ud800"):
        with pytest.raises(InputError, match=r"^tables: '"):
            inside(tmp_path, name, "tables")


def test_links_inside_a_folder_may_not_leave(tmp_path: Path) -> None:
    """A folder whose file is a link to somewhere else is refused, unless that is allowed."""
    other = tmp_path / "other"
    own = tmp_path / "own"
    (own / "tables").mkdir(parents=True)
    other.mkdir()
    (other / "secret").write_text("x")
    (own / "tables" / "llms.csv").symlink_to(other / "secret")
    with pytest.raises(InputError, match=r"tables: 'tables/llms\.csv' is a link that leaves"):
        inside(own, "tables", "tables")
    assert inside(own, "tables", "tables", allow_outside=True).is_dir()
    (own / "tables" / "llms.csv").unlink()
    (own / "tables" / "llms.csv").symlink_to(own / "tables" / "real.csv")
    assert inside(own, "tables", "tables").is_dir()


def test_overrides_are_text_too() -> None:
    """A bad name is refused in an override from Python and in one from the shell."""
    for name in ("a\x1bb", "a\nb", "x" * 201):
        with pytest.raises(InputError):
            mo.load("tiny", overrides={"name": name})
        ran = CliRunner().invoke(app, ["check", "tiny", "--set", f"name={json.dumps(name)}"])
        assert ran.exit_code == 2
        assert shown(ran.stderr, lines=True) == ran.stderr


@pytest.mark.parametrize("value", ["1e101", "-1e101", "1e-101", "9223372036854775808"])
def test_numbers_of_absurd_size(value: str) -> None:
    """Numbers beyond any unit are refused where they stand: products of them would overflow."""
    size = "small" if "e-" in value else "large"
    with pytest.raises(InputError, match=f"context_gib: the number is too {size}"):
        mo.load("tiny", overrides=[f"context_gib={value}"])
    assert np.isfinite(float(value))
