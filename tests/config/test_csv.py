"""Reading of CSV tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from moe2opt.result import InputError
from moe2opt.schema.csv import COUNT, NOTE, POSITIVE, TEXT, Column, read_table, write_table

COLUMNS = {"name": TEXT, "size": POSITIVE, "runs": COUNT, "kind": Column(choices=("a", "b"))}
HEADER = "name,size,runs,kind\n"


def table(folder: Path, text: str) -> Path:
    """Write a CSV file."""
    path = folder / "t.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_values_get_their_types(tmp_path: Path) -> None:
    """Numbers are read as numbers, blanks that are allowed as None, in any column order."""
    path = table(tmp_path, "\ufeffruns,note,name,size\n3,,x,2.5\n\n")
    columns = {"name": TEXT, "size": POSITIVE, "runs": COUNT, "note": NOTE}
    assert read_table(path, columns) == [{"name": "x", "size": 2.5, "runs": 3, "note": None}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t.csv:1: the file is empty"),
        ("name,size,runs\n", "t.csv:1: column 'kind' is missing"),
        ("name,siz,size,runs,kind\n", "unknown column 'siz'; did you mean 'size'?"),
        ("name,name,size,runs,kind\n", "t.csv:1: column 'name' appears twice"),
        (HEADER + "x,1,2\n", "t.csv:2: 3 cells, the header has 4"),
        (HEADER + "x,soon,2,a\n", "t.csv:2: size: 'soon' is not a number"),
        (HEADER + "x,nan,2,a\n", "t.csv:2: size: nan is not finite"),
        (HEADER + "x,1e999,2,a\n", "t.csv:2: size: 1e999 is not finite"),
        (HEADER + "x,0,2,a\n", "t.csv:2: size: 0 is outside"),
        (HEADER + "x,1,2.5,a\n", "t.csv:2: runs: '2.5' is not an integer"),
        (HEADER + "x,1,-1,a\n", "t.csv:2: runs: -1 is outside 0..inf"),
        (HEADER + "x,1,2,c\n", "t.csv:2: kind: 'c' is not one of a, b"),
        (HEADER + " ,1,2,a\n", "t.csv:2: name: the cell is empty"),
        (HEADER + "x,1,2,a\ny,1,2,a\nx,3,4,b\n", "t.csv:4: name: 'x' repeats line 2"),
        (HEADER + '"x,1,2,a\n', "t.csv: cannot be read as CSV"),
    ],
)
def test_faults_name_line_and_column(tmp_path: Path, text: str, message: str) -> None:
    """Every fault is reported with the file, the line and the column."""
    with pytest.raises(InputError) as caught:
        read_table(table(tmp_path, text), COLUMNS, unique=["name"])
    assert message in str(caught.value)


def test_all_faults_are_reported_up_to_a_limit(tmp_path: Path) -> None:
    """Thirty bad rows give twenty lines and a count of the rest."""
    text = HEADER + "x,bad,1,a\n" * 30
    with pytest.raises(InputError) as caught:
        read_table(table(tmp_path, text), COLUMNS)
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "... and 10 more"


def test_missing_and_binary_files(tmp_path: Path) -> None:
    """A file that is missing or not text is an error of its user, told with its name."""
    binary = tmp_path / "b.csv"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    for path, reason in ((tmp_path / "none.csv", "No such file"), (binary, "not UTF-8 text")):
        with pytest.raises(InputError, match=rf"{path.name}: {reason}"):
            read_table(path, COLUMNS)


def test_written_tables_read_back(tmp_path: Path) -> None:
    """What is written is read back, None as a blank."""
    path = tmp_path / "t.csv"
    write_table(path, ["name", "note"], [("x, y", None), ('"z"', "n")])
    rows = read_table(path, {"name": TEXT, "note": NOTE})
    assert rows == [{"name": "x, y", "note": None}, {"name": '"z"', "note": "n"}]


def test_tables_of_a_million_columns(tmp_path: Path) -> None:
    """A header of very many unknown columns is refused without comparing each with each."""
    path = tmp_path / "t.csv"
    path.write_text(",".join(f"c{k}" for k in range(300_000)) + "\n")
    with pytest.raises(InputError, match=r"\.\.\. and \d+ more$"):
        read_table(path, COLUMNS)
