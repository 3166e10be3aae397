"""Damage of every kind for the files that people hand us; the same seed gives the same damage."""

from __future__ import annotations

import copy
import csv
import gzip
import io
import json
import random
import zipfile
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd

#: Pieces of text that have broken readers somewhere.
TOKENS = [
    b"\x1b[2J",
    b"\x1b]0;t\x07",
    b"\x9b31m",
    b"\0",
    b"\r",
    b"\n",
    b"\x85",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    "\u202e".encode(),
    "\u2066".encode(),
    "\u200b".encode(),
    b"\xed\xa0\x80",
    b"\\ud800",
    b"\\u0000",
    b"\\u001b",
    b"1e400",
    b"-1e400",
    b"1e-400",
    b"NaN",
    b"nan",
    b"Infinity",
    b"-0",
    b"9" * 400,
    b"9" * 5000,
    b"-1",
    b"0",
    b"1e308",
    b"4294967296",
    b"9223372036854775808",
    b"",
    b"null",
    b"true",
    b"[" * 3000,
    b"{" * 3000,
    b"]",
    b"}",
    b'"',
    b"'",
    b",",
    b":",
    b"#",
    b"- ",
    b"&a",
    b"*a",
    b"<<",
    b"!!python/none",
    b"x" * 400,
    b"../..",
    b"/dev/zero",
    b"=1+1",
    b"%s",
    b"${x}",
    b"1_000",
    b"0x1F",
    b"\t",
    b" ",
]

#: Values that have broken code behind readers somewhere.
VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    0.0,
    -0.0,
    0.5,
    -0.5,
    1e-300,
    1e300,
    -1e300,
    1e16,
    2**31,
    2**53 + 1,
    2**63,
    2**64,
    10**30,
    10**9,
    10**400,
    1e400,
    float("nan"),
    "",
    " ",
    "x",
    "a\x1b[2Jb",
    "a\nb",
    "a\0b",
    "\u202ea",
    "\ud800",
    "x" * 300,
    "inf",
    "-inf",
    "nan",
    "1",
    "../../etc/passwd",
    "/dev/zero",
    "a\0",
    ".",
    [],
    {},
    [[]],
    [1],
    [None],
    ["x"],
    {"x": 1},
    {"": 0},
    {"a\x1bb": 1},
    [1, [2, [3]]],
    [0] * 300,
]


def damaged_bytes(content: bytes, rng: random.Random) -> bytes:
    """Return the content cut, flipped, doubled, or with a piece of text put in."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        place = rng.randrange(len(data) + 1)
        end = min(len(data), place + rng.choice((1, 1, 2, 8, 64)))
        kind = rng.randrange(7)
        if kind == 0 and len(data):
            data[min(place, len(data) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[place:end]
        elif kind == 2:
            data[place:place] = data[place:end]
        elif kind == 3:
            data[place:end] = rng.choice(TOKENS)
        elif kind == 4:
            data[place:place] = rng.choice(TOKENS)
        elif kind == 5 and rng.random() < 0.3:
            del data[place:]
        else:
            data[place:end] = rng.randbytes(end - place)
    return bytes(data)


def _places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, below in list(entries):
        found.append((value, key))
        if isinstance(below, dict | list):
            _places(below, found)
    return found


def damaged_tree(tree: Any, rng: random.Random) -> Any:
    """Return nested data with an entry replaced, taken out, doubled or renamed."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = _places(tree, []) if isinstance(tree, dict | list) else []
        if not places:
            return copy.deepcopy(rng.choice(VALUES))
        holder, key = rng.choice(places)
        value, kind = holder[key], rng.randrange(7)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, list):
            holder.append(copy.deepcopy(value))
        elif kind == 2 and isinstance(holder, dict):
            name = rng.choice(["x", "", "a\x1bb", "name", "kind", str(key) + "s"])
            holder[name] = copy.deepcopy(value)
        elif kind == 3 and isinstance(value, int | float) and not isinstance(value, bool):
            with suppress(OverflowError, ValueError):  # a former damage may be no finite number
                scaled = [-value, value * 1e12, value * 1e-12, value + 1, int(value)]
                holder[key] = rng.choice(scaled)
        elif kind == 4:
            other, where = rng.choice(places)
            holder[key] = copy.deepcopy(other[where])
        else:
            holder[key] = copy.deepcopy(rng.choice(VALUES))
    return tree


def damaged_json(content: bytes, rng: random.Random) -> bytes:
    """Return JSON whose structure is damaged, else JSON whose bytes are."""
    if rng.random() < 0.3:
        return damaged_bytes(content, rng)
    return json.dumps(damaged_tree(json.loads(content), rng)).encode()


def damaged_yaml(content: bytes, rng: random.Random) -> bytes:
    """Return YAML whose structure or whose bytes are damaged (JSON is YAML)."""
    from ruamel.yaml import YAML

    if rng.random() < 0.4:
        return damaged_bytes(content, rng)
    tree = YAML(typ="safe", pure=True).load(content)
    return json.dumps(damaged_tree(tree, rng)).encode()


def damaged_csv(content: bytes, rng: random.Random) -> bytes:
    """Return a table with a cell, row or column changed, taken out or doubled."""
    if rng.random() < 0.3:
        return damaged_bytes(content, rng)
    rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))
    for _ in range(rng.choice((1, 1, 2, 4))):
        row, kind = rng.randrange(len(rows)), rng.randrange(7)
        column = rng.randrange(max(1, len(rows[row])))
        if kind == 0 and len(rows) > 1:
            del rows[row]
        elif kind == 1:
            rows.append(list(rows[row]))
        elif kind == 2:
            rows = [[c for k, c in enumerate(cells) if k != column] for cells in rows]
        elif kind == 3:
            rows = [cells + cells[column : column + 1] for cells in rows]
        elif rows[row]:
            value = rng.choice(VALUES)
            text = "" if value is None else str(value)
            rows[row][min(column, len(rows[row]) - 1)] = text
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue().encode("utf-8", "surrogatepass")


def damaged_arrays(content: bytes, rng: random.Random) -> bytes:
    """Return an archive of arrays with another type, shape or values, or with damaged bytes."""
    if rng.random() < 0.4:
        return damaged_bytes(content, rng)
    with np.load(io.BytesIO(content)) as stored:
        arrays = {name: stored[name] for name in stored.files}
    name = rng.choice(list(arrays))
    array, kind = arrays[name], rng.randrange(9)
    if kind == 0:
        del arrays[name]
    elif kind == 1:
        arrays[name] = array[None]
    elif kind == 2:
        arrays[name] = array.ravel()[: rng.randrange(array.size + 1)]
    elif kind == 3:
        arrays[name] = np.array(rng.choice(["x", "a\x1bb", 1j, 2**63, -1, np.nan, np.inf, True]))
    elif kind == 4 and array.dtype.kind in "iufb":
        arrays[name] = array.astype(rng.choice(["U8", "S8", "c16", "f2", "i1", "u8", "?"]))
    elif kind == 5 and array.size and array.dtype.kind in "iuf":
        flat = array.astype(np.float64).ravel().copy()
        flat[rng.randrange(flat.size)] = rng.choice([np.nan, np.inf, -1, 1e300, 1e18, 0.5])
        arrays[name] = flat.reshape(array.shape)
    elif kind == 6 and array.size and array.dtype.kind in "iu":
        flat = array.astype(np.int64).ravel().copy()
        flat[rng.randrange(flat.size)] = rng.choice([-1, 2**62, -(2**63), 10**6, 0])
        arrays[name] = flat.reshape(array.shape)
    elif kind == 7:
        arrays[name] = np.zeros((0, *array.shape[1:]), array.dtype)
    else:
        arrays["more"] = np.arange(3)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for own, value in arrays.items():
            member = io.BytesIO()
            np.save(member, value)
            archive.writestr(f"{own}.npy", member.getvalue())
    return stream.getvalue()


def damaged_parquet(content: bytes, rng: random.Random) -> bytes:
    """Return a table in Parquet with another value or column, or with damaged bytes."""
    if rng.random() < 0.5:
        return damaged_bytes(content, rng)
    frame = pd.read_parquet(io.BytesIO(content))
    name, kind = rng.choice(list(frame.columns)), rng.randrange(5)
    if kind == 0:
        frame = frame.drop(columns=name)
    elif kind == 1:
        frame = frame.rename(columns={name: rng.choice(["x", "", "a\x1bb", name * 40])})
    elif kind == 2:
        frame = frame.iloc[: rng.randrange(len(frame))]
    elif kind == 3:
        frame = pd.concat([frame, frame.iloc[:1]])
    else:
        values = frame[name].tolist()
        texts = isinstance(values[0], str)
        wrong = [v for v in VALUES if isinstance(v, str if texts else float) and v != "\ud800"]
        values[rng.randrange(len(values))] = rng.choice(wrong)
        frame[name] = values
    stream = io.BytesIO()
    frame.to_parquet(stream)
    return stream.getvalue()


def damaged_gzip(content: bytes, rng: random.Random) -> bytes:
    """Return packed lines damaged before they were packed, or damaged bytes."""
    if rng.random() < 0.3:
        return damaged_bytes(content, rng)
    return gzip.compress(damaged_bytes(gzip.decompress(content), rng), mtime=0)


#: How a file is damaged, by its suffix.
DAMAGE = {
    ".json": damaged_json,
    ".jsonl": damaged_bytes,
    ".yaml": damaged_yaml,
    ".csv": damaged_csv,
    ".npz": damaged_arrays,
    ".gguf": damaged_bytes,
    ".safetensors": damaged_bytes,
    ".md": damaged_bytes,
    ".parquet": damaged_parquet,
    ".gz": damaged_gzip,
}
