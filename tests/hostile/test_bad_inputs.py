"""Bad inputs: every one has an exact message and exit code, and none a traceback."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import moe2opt as mo
from moe2opt.cli import app
from moe2opt.schema import ConfigError

BASE = """\
schema_version: 1
problem: selection
name: edge
tables: tables
precisions:
  - name: int8
servers:
  - {name: slow, device: slow-box, uplink_mbps: 1000, downlink_mbps: 1000}
"""
SERVERS = BASE[BASE.index("servers:") :]
RATE = "uplink_mbps: 1000"
AT_RATE = "8:49: servers.0.uplink_mbps: "

#: What `problem:` may be.
QUESTIONS = "'selection' or 'placement' or 'place' or 'levels' or 'portfolio' or 'rounds'"

#: (text of the base file, what stands there instead, messages)
EDITS: list[tuple[str, str, list[str]]] = [
    ("problem: selection\n", "", [f"1:1: problem: required key is missing ({QUESTIONS})"]),
    ("problem: selection", "problem: selektion",
     [f"2:10: problem: expected {QUESTIONS}, got 'selektion'; did you mean 'selection'?"]),
    ("problem: selection", "problem: weather",
     [f"2:10: problem: expected {QUESTIONS}, got 'weather'"]),
    ("problem: selection", "problem: 3", [f"2:10: problem: expected {QUESTIONS}, got 3"]),
    ("schema_version: 1\n", "", ["1:1: schema_version: required key is missing"]),
    ("schema_version: 1", "schema_version: 2", ["1:17: schema_version: expected 1, got 2"]),
    ("schema_version: 1", "schema_version: '1'", ["1:17: schema_version: expected 1, got '1'"]),
    ("tables: tables\n", "", ["1:1: tables: required key is missing"]),
    ("name: edge\ntables: tables\n", "",
     ["1:1: name: required key is missing", "1:1: tables: required key is missing"]),
    (", device: slow-box", "", ["8:5: servers.0.device: required key is missing"]),
    ("uplink_mbps", "uplink_mbit",
     ["8:36: servers.0.uplink_mbit: unknown key; did you mean 'uplink_mbps'?"]),
    ("name: slow,", "name: slow, name: slow,",
     ["8:18: servers.0.name: duplicate key; the first one is in line 8"]),
    (RATE, "uplink_mbps: .nan", [AT_RATE + ".nan is not allowed; every number must be finite"]),
    (RATE, "uplink_mbps: -.inf", [AT_RATE + "-.inf is not allowed; every number must be finite"]),
    (RATE, "uplink_mbps: nan", [AT_RATE + "expected a number, got 'nan'"]),
    (RATE, "uplink_mbps: 1e999", [AT_RATE + "the number is too large"]),
    (RATE, "uplink_mbps: " + "9" * 401, [AT_RATE + "the number is too large"]),
    (RATE, "uplink_mbps: -1", [AT_RATE + "must be greater than 0, got -1"]),
    (RATE, "uplink_mbps: 0", [AT_RATE + "must be greater than 0, got 0"]),
    (RATE, "uplink_mbps: fast", [AT_RATE + "expected a number, got 'fast'"]),
    (RATE, "uplink_mbps: '1000'", [AT_RATE + "expected a number, got '1000'; remove the quotes"]),
    (RATE, "uplink_mbps: true", [AT_RATE + "expected a number, got true"]),
    (RATE, "uplink_mbps: ", ["8:36: servers.0.uplink_mbps: expected a value, got nothing"]),
    (RATE, "uplink_mbps: [1000]", [AT_RATE + "expected a number, got a list"]),
    (RATE, "uplink_mbps: {a: 1}", [AT_RATE + "expected a number, got a section"]),
    (RATE, "uplink_mbps: 1_000", [AT_RATE + "expected a number, got '1_000'"]),
    (RATE, "uplink_mbps: 1000 Mbit/s", [AT_RATE + "expected a number, got '1000 Mbit/s'"]),
    ("name: slow,", "name: slow, count: 1.5,",
     ["8:25: servers.0.count: expected an integer, got 1.5"]),
    ("name: slow,", "name: slow, count: 0,", ["8:25: servers.0.count: must be at least 1, got 0"]),
    ("name: slow,", "name: slow, count: 1001,",
     ["8:25: servers.0.count: must be at most 1000, got 1001"]),
    (SERVERS, "servers: []\n", ["7:10: servers: expected at least 1 item(s), got 0"]),
    (SERVERS, "servers: {name: slow}\n", ["7:10: servers: expected a list, got a section"]),
    (SERVERS, "servers: [slow]\n",
     ["7:11: servers.0: expected a section (key: value lines), got 'slow'"]),
    ("name: edge", "name: 4", ["3:7: name: expected text, got 4"]),
    ("name: edge", "name: 0x1F", ["3:7: name: expected text, got 31"]),
    ("name: edge", "name: ''", ["3:7: name: needs at least 1 character(s)"]),
    ("name: edge", "name:", ["3:1: name: expected text, got nothing"]),
    ("name: edge", "name: &n edge", ["3:7: name: anchors are not allowed"]),
    ("name: edge", "name: !!str edge", ["3:7: name: tags are not allowed (!!str)"]),
    ("name: edge", "name: !!python/object/apply:os.system [ls]",
     ["3:7: name: tags are not allowed (!!python/object/apply:os.system)"]),
    ("int8", "int8\n    quality_factor: 1.5",
     ["7:21: precisions.0.quality_factor: must be at most 1, got 1.5"]),
    ("name: edge", "name: edge\nsolver: {seed: x, threads: -1, seed: 3}\nenergi: {}",
     ["4:28: solver.threads: must be at least 1, got -1",
      "4:32: solver.seed: duplicate key; the first one is in line 4",
      "5:1: energi: unknown key; did you mean 'energy'?"]),
]  # fmt: skip

#: (lines after the base file, messages)
ADDITIONS: list[tuple[str, list[str]]] = [
    ("energie: {limit_j_per_prompt: 3}", ["9:1: energie: unknown key; did you mean 'energy'?"]),
    ("name: other", ["9:1: name: duplicate key; the first one is in line 3"]),
    ("energy: 100", ["9:9: energy: expected a section (key: value lines), got 100"]),
    ("energy: {limit_j_per_prompt: -3}",
     ["9:30: energy.limit_j_per_prompt: must be at least 0, got -3"]),
    ("energy: {limit_j_per_prompt: 3, counts: al}",
     ["9:41: energy.counts: expected 'all', 'one' or 'largest', got 'al'; did you mean 'all'?"]),
    ("delay: {limit_s: soon}",
     ["9:18: delay.limit_s: expected a number or a section (key: value lines), got 'soon'"]),
    ("delay: {limit_s: {code: -1}}", ["9:25: delay.limit_s.code: must be greater than 0, got -1"]),
    ("  - {name: slow, device: slow-box, uplink_mbps: 1, downlink_mbps: 1}",
     ["7:1: servers: the name 'slow' appears twice"]),
    ("llms: &l {max_params_b: 3}\nenergy: *l",
     ["9:7: llms: anchors are not allowed",
      "10:9: energy: aliases are not allowed; write the value out"]),
    ("llms: {<<: {max_params_b: 3}}",
     ["9:8: llms: merge keys are not allowed; write the keys out"]),
    ("? [a, b]\n: 1", ["9:3: a key must be plain text"]),
    ("&k delay: {}", ["9:1: anchors and tags are not allowed"]),
    (": 1", ["9:1: a key is missing before ':'"]),
    ('"\\ud800": 1', ["9:1: half a surrogate pair is not text"]),
    ("---\na: 1", ["9:1: a second document starts here; one file holds one"]),
    ("solver: {time_limit: 3}",
     ["9:10: solver.time_limit: unknown key; did you mean 'time_limit_s'?"]),
    ("solver: {xyz: 3}",
     ["9:10: solver.xyz: unknown key; allowed here: bound, memory_limit_gib, name, node_limit, "
      "rel_gap, seed, threads, time_limit_s"]),
    ("solver: {time_limit_s: -3}", ["9:24: solver.time_limit_s: must be at least 0, got -3"]),
    ("solver: {threads: 0}", ["9:19: solver.threads: must be at least 1, got 0"]),
    ("solver: {seed: yes}", ["9:16: solver.seed: expected an integer, got 'yes'"]),
    ("robust: {quantile: 2}", ["9:20: robust.quantile: must be less than 1, got 2"]),
    ("robust: {quantile: 0.3}", ["9:20: robust.quantile: must be at least 0.5, got 0.3"]),
    ("robust: {interval: 1}", ["9:20: robust.interval: must be less than 1, got 1"]),
    ("robust: {quantil: 0.9}",
     ["9:10: robust.quantil: unknown key; did you mean 'quantile'?"]),
    ("robust: {}", ["9:9: robust: give either `quantile` or `interval`, and not both"]),
    ("robust: 0.9", ["9:9: robust: expected a section (key: value lines), got 0.9"]),
    ("profiles: []", ["9:11: profiles: expected at least 1 item(s), got 0"]),
    ("profiles: 3", ["9:11: profiles: expected text or a list, got 3"]),
    ("solver: [brb]", ["9:9: solver: expected a section (key: value lines), got a list"]),
    ("scenarios: [a]", ["9:12: scenarios: expected a section (key: value lines), got a list"]),
    ("scenarios: {a: 3}", ["9:16: scenarios.a: expected a section (key: value lines), got 3"]),
    ("scenarios: {a b: {name: x}}",
     ["9:13: scenarios.a b: the key is wrong: must match ^[A-Za-z0-9_-]+$, got 'a b'"]),
    ("scenarios: {a: {enrgy.limit_j_per_prompt: 3}}",
     ["9:17: enrgy: unknown key; did you mean 'energy'?"]),
    ("scenarios: {a: {servers.slwo.memory_gib: 3}}",
     ["9:17: servers.slwo: no such item (items: slow); did you mean 'slow'?"]),
    ("scenarios: {a: {servers.1.memory_gib: 3}}",
     ["9:17: servers.1: no such item (items: slow)"]),
    ("scenarios: {a: {name.x: 3}}", ["9:17: name: is a value here; it has no keys to override"]),
    ("scenarios: {a: {problem: placement}}",
     ["9:17: problem: an override cannot change 'problem'"]),
    ("scenarios: {a: {servers.0.memory_gib: -3}}",
     ["9:39: servers.0.memory_gib: must be greater than 0, got -3"]),
    ("scenarios: {a: {servers.0.memory_gib: 3, servers: {slow: {memory_gib: 4}}}}",
     ["9:59: servers.0.memory_gib: set twice; the first time in line 9"]),
]  # fmt: skip

#: (whole file, messages)
TEXTS: list[tuple[str, list[str]]] = [
    ("", ["1:1: the file is empty"]),
    ("# nothing\n", ["1:1: the file is empty"]),
    ("- 1\n", ["1:1: expected a section (key: value lines), got a list"]),
    ("42\n", ["1:1: expected a section (key: value lines), got 42"]),
    ("a: [1, 2\n", ["1:4: not YAML: expected ',' or ']', but got '<stream end>'"]),
    ("a:\n\tb: 1\n", ["2:1: not YAML: found character '\\t' that cannot start any token"]),
    ("a: \a\n", ["1:4: character U+0007 is not allowed in text"]),
    ("a: 1\n\x1b[2J: 1\n", ["2:1: character U+001B is not allowed in text"]),
    ("a: " + "[" * 60 + "]" * 60, ["1:53: nested deeper than 50 levels"]),
    ("a: &a [x]\nb: [*a, *a]\n",
     [f"1:1: problem: required key is missing ({QUESTIONS})", "1:4: a: anchors are not allowed",
      "2:5: b.0: aliases are not allowed; write the value out",
      "2:9: b.1: aliases are not allowed; write the value out"]),
]  # fmt: skip

FILES = [
    *((BASE.replace(old, new, 1), messages) for old, new, messages in EDITS),
    *((f"{BASE}{text}\n", messages) for text, messages in ADDITIONS),
    *TEXTS,
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter an empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("text", "messages"), FILES, ids=[m[0] for _, m in FILES])
def test_bad_files(folder: Path, text: str, messages: list[str]) -> None:
    """A bad file is refused with every fault at once, the same from Python and the shell."""
    Path("edge.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        mo.load("edge.yaml")
    told = [line for line in str(caught.value).splitlines() if line.startswith("edge.yaml:")]
    assert told == [f"edge.yaml:{message}" for message in messages]
    ran = CliRunner().invoke(app, ["check", "edge.yaml"])
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr == f"{caught.value}\n".replace("\x1b", "?")


def test_excerpt_shows_the_line(folder: Path) -> None:
    """Each message is followed by the source line and a caret below the fault."""
    Path("edge.yaml").write_text(BASE.replace(RATE, "uplink_mbit: 1"), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        mo.load("edge.yaml")
    assert str(caught.value).splitlines()[1:] == [
        "    8 |   - {name: slow, device: slow-box, uplink_mbit: 1, downlink_mbps: 1000}",
        "      |                                    ^^^^^^^^^^^",
    ]


def test_excerpts_of_long_lines_are_cut(folder: Path) -> None:
    """A very long line is shown around the fault only, with the caret still below it."""
    long = f"{BASE}description: {'[' + 'x, ' * 200}.nan]\n"
    Path("edge.yaml").write_text(long, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        mo.load("edge.yaml")
    lines = str(caught.value).splitlines()
    source, caret = next((a, b) for a, b in pairwise(lines) if ".nan]" in a)
    assert len(source) < 120
    assert source[caret.index("^") :].startswith(".nan")


def test_many_complaints_are_counted(folder: Path) -> None:
    """Beyond fifty complaints, the rest is counted."""
    unknown = "".join(f"zz{k}: 1\n" for k in range(60))
    Path("edge.yaml").write_text(BASE + unknown, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"\.\.\. and 10 more$"):
        mo.load("edge.yaml")


V, A, B = [[1.0, 2.0]], [[1.0, 1.0]], [1.0]
FINE = mo.FacilityProblem(V, A, B)
OBJECTIVE: Callable[[Any], Any] = lambda x: x.sum(axis=1)  # noqa: E731

ARRAYS: list[tuple[Callable[[], object], str]] = [
    (lambda: mo.FacilityProblem([[1, np.nan]], A, B),
     "values[0, 1] is nan; every entry must be finite"),
    (lambda: mo.FacilityProblem([[1, np.inf]], A, B),
     "values[0, 1] is inf; every entry must be finite"),
    (lambda: mo.FacilityProblem([[1, -2]], A, B), "values[0, 1] is -2; no entry may be negative"),
    (lambda: mo.FacilityProblem([1, 2], A, B), "values: expected 2 dimension(s), got shape (2,)"),
    (lambda: mo.FacilityProblem([[1], [1, 2]], A, B), "values: rows have different lengths"),
    (lambda: mo.FacilityProblem([["a", "b"]], A, B), "values: dtype <U1 is not a real number type"),
    (lambda: mo.FacilityProblem(V, [[1, 1, 1]], B),
     "costs: shape (1, 3) does not match (K, N) = (1, 2)"),
    (lambda: mo.FacilityProblem(V, [[1, -1]], B), "costs[0, 1] is -1; no entry may be negative"),
    (lambda: mo.FacilityProblem(V, A, [1, 2]), "budgets: shape (2,) does not match (K,) = (1,)"),
    (lambda: mo.FacilityProblem(V, A, [np.nan]), "budgets[0] is nan; every entry must be finite"),
    (lambda: mo.FacilityProblem(V, A, B, weights=[1, 1]),
     "weights: shape (2,) does not match (C,) = (1,)"),
    (lambda: mo.FacilityProblem(V, A, B, groups=[[0, 2]]), "groups[0]: index 2 is outside 0..1"),
    (lambda: mo.FacilityProblem(V, A, B, covers=[[]]), "covers[0] is empty"),
    (lambda: mo.FacilityProblem({"c": V[0]}, A, B, covers=[["z"]]),
     "covers[0]: no expert is called 'z'"),
    (lambda: mo.MultipleChoiceProblem([], [], B), "values: there is no group"),
    (lambda: mo.MultipleChoiceProblem([[1]], [], B), "usage: 0 groups, but values has 1"),
    (lambda: mo.MultipleChoiceProblem([[1]], [[[-1]]], B),
     "usage[0][0, 0] is -1; no entry may be negative"),
    (lambda: mo.MonotoneProblem([2], [1], OBJECTIVE), "lower[0] = 2 exceeds upper[0] = 1"),
    (lambda: mo.MonotoneProblem([0.5], [1], OBJECTIVE),
     "lower[0] is 0.5; every entry must be an integer"),
    (lambda: mo.MonotoneProblem([0], [1]),
     "objective: give exactly one of objective and mixed_objective"),
    (lambda: mo.FacilityProblem(V, A, B).evaluate([2, 0]), "x[0] is 2; every entry must be 0 or 1"),
    (lambda: mo.solve(mo.FacilityProblem(V, A, B), rel_gap=-1),
     "rel_gap = -1 is not understood; it must be at least 0"),
    (lambda: mo.solve(FINE, time_limit_s="5"),
     "time_limit_s = '5' is not understood; it must be a number"),
    (lambda: mo.solve(FINE, time_limit_s=np.nan),
     "time_limit_s = nan is not understood; it must be at least 0"),
    (lambda: mo.solve(FINE, node_limit=1.5),
     "node_limit = 1.5 is not understood; it must be an integer"),
    (lambda: mo.solve(FINE, threads=0), "threads = 0 is not understood; it must be at least 1"),
    (lambda: mo.solve(FINE, seed=True), "seed = True is not understood; it must be an integer"),
    (lambda: mo.solve(FINE, ["brb"]), "solver = ['brb'] is not understood; it must be text"),
    (lambda: mo.solve(FINE, "greedi"),
     "unknown solver 'greedi'; choose from auto, brb, polyblock, milp, enumerate, greedy, "
     "local_search, random; did you mean 'greedy'?"),
    (lambda: mo.solve(FINE, on_progress=3), "on_progress: int is not callable"),
    (lambda: mo.solve(FINE, warm_start=[1]),
     "warm_start: x: shape (1,) does not match (N,) = (2,)"),
    (lambda: mo.solve(FINE, warm_start=mo.solve(mo.FacilityProblem([[1]], [[1]], [1]))),
     "warm_start: x: shape (1,) does not match (N,) = (2,)"),
    (lambda: mo.load("tiny", overrides={"energy": object()}),
     "override energy: object is not YAML data"),
    (lambda: mo.load("tiny", overrides="a=b"),
     "overrides: expected a list of texts or a dictionary, got 'a=b'"),
    (lambda: mo.load("tiny", overrides=3),
     "overrides: expected a list of texts or a dictionary, got 3"),
    (lambda: mo.load("tiny", overrides=[3]), "overrides: 3 is no text"),
    (lambda: mo.load("tiny", overrides={3: 4}), "overrides: 3 is no text"),
    (lambda: mo.load(3), "expected the name of a file or a problem, got int"),
    (lambda: mo.sweep(None, out="x"), "expected the name of a file or a problem, got NoneType"),
    (lambda: mo.sweep("tiny", 3, out="x"),
     "over: expected a dictionary or a list of texts, got 3"),
    (lambda: mo.sweep("tiny", {"context_gib": 3}, out="x"),
     "over: context_gib: expected a list of values, got 3"),
    (lambda: mo.sweep("tiny", scenarios="rich", out="x"),
     "scenarios: expected a list of names, got 'rich'"),
    (lambda: mo.solve("tiny"),
     "expected an instance or a problem, got str; moe2opt.load reads files"),
    (lambda: mo.certify(FINE, None), "expected a result of moe2opt.solve, got NoneType"),
    (lambda: mo.certify("tiny", mo.solve(FINE)), "expected an instance or a problem, got str"),
    (lambda: mo.pareto(FINE, 3), "expected the name of a budget row or a key, got 3"),
    (lambda: mo.pareto(FINE, "budgets[0]", points="a"),
     "points = 'a' is not understood; it must be at least 1"),
    (lambda: mo.pareto(FINE, "budgets[0]", low="a"),
     "low = 'a' is not understood; it must be a number"),
    (lambda: mo.pareto(FINE, "budgets[0]", budgets="a"),
     "budgets[0]: budgets must be numbers, got 'a'"),
    (lambda: mo.solve_fleet(3), "expected a fleet of moe2opt.load_fleet, got int"),
    (lambda: mo.save_problem(3, "x.json"), "expected a problem, got int"),
    (lambda: mo.FacilityProblem(V, A, B, groups=3), "groups: expected sets of indices, got int"),
    (lambda: mo.MonotoneProblem([0], [1], OBJECTIVE, constraints=3),
     "constraints: expected a sequence of oracles, got 3"),
    (lambda: mo.MonotoneProblem([0], [1], lambda x: ["a"] * len(x)),
     "objective returned what are no numbers: could not convert string to float: 'a'"),
    (lambda: mo.load("tiny", overrides={"context_gib": float("nan")}),
     "override context_gib = nan: context_gib: expected a number, got nan"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), ARRAYS, ids=[message for _, message in ARRAYS])
def test_bad_arrays(call: Callable[[], object], message: str) -> None:
    """A bad array is refused with the array and the index at fault."""
    with pytest.raises(mo.InputError) as caught:
        call()
    assert str(caught.value) == message


PROBLEM = (
    '{"kind": "facility", "values": [[1, 3]], "costs": [[1, 1]], "budgets": [1],'
    ' "weights": null, "groups": [], "covers": []}'
)

#: Files of the command-line cases.
CONTENTS: dict[str, bytes] = {
    "ok.json": PROBLEM.encode(),
    "other.json": b'{"kind": "other"}',
    "half.json": b"[1",
    "latin.yaml": b"\xff\xfe",
    "big.yaml": b"a: " + b"x" * 2**20,
    "note.txt": b"note",
    "run.json": b'{"status": "OPTIMAL", "certificate": null, "provenance": {}}',
    "deep.json": b"[" * 100_000 + b"]" * 100_000,
    "deep.jsonl": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
}

#: (arguments, last line on stderr)
COMMANDS: list[tuple[str, str]] = [
    ("frobnicate", "Error: No such command 'frobnicate'."),
    ("sweep note.txt --over max_experts=1 --out sw", "      | ^"),
    ("sweep half.json --over max_experts=1 --out sw",
     "error: half.json: a problem file has no keys to vary"),
    ("bench half.json",
     "error: half.json: not JSON: Expecting ',' delimiter: line 1 column 3 (char 2)"),
    ("solve", "Error: Missing argument 'config'."),
    ("solve ok.json --sovler x",
     "Error: No such option: --sovler (Possible options: --set, --solver)"),
    ("solve ok.json ok.json", "Error: Got unexpected extra argument(s) (ok.json)"),
    ("solve ok.json --memory-limit 0",
     "Error: Invalid value for '--memory-limit': 0.0 is not a positive number of GiB"),
    ("solve ok.json --time-limit nan",
     "Error: Invalid value for '--time-limit': nan is not understood; it must be at least 0"),
    ("solve ok.json --time-limit -1",
     "Error: Invalid value for '--time-limit': -1 is not understood; it must be at least 0"),
    ("solve ok.json --gap -0.1",
     "Error: Invalid value for '--gap': -0.1 is not understood; it must be at least 0"),
    ("solve ok.json --seed -1",
     "Error: Invalid value for '--seed': -1 is not understood; it must be at least 0"),
    ("solve ok.json --threads 0",
     "Error: Invalid value for '--threads': 0 is not understood; it must be at least 1"),
    ("solve ok.json --solver brp",
     "error: unknown solver 'brp'; choose from auto, brb, polyblock, milp, enumerate, greedy, "
     "local_search, random; did you mean 'brb'?"),
    ("solve ok.json --scenario a",
     "error: ok.json: a problem file has no scenarios and takes no overrides"),
    ("solve ok.json --set a=1",
     "error: ok.json: a problem file has no scenarios and takes no overrides"),
    ("solve ok.json --out note.txt", "error: --out note.txt: File exists"),
    ("solve other.json", "error: other.json: kind must be 'facility' or 'multiple_choice'"),
    ("solve run.json",
     "error: run.json: is what a run wrote; config.yaml beside it says what was solved"),
    ("fleet run.json", "error: run.json: is no fleet: it has neither `fleet` nor `sites`"),
    ("replay mmlu_pro_days run.json", "error: run.json:1: is JSON; expected a table in CSV"),
    ("replay mmlu_pro_days synthetic_walk",
     "error: synthetic_walk: no such file, and no built-in days; built-in: mmlu_pro_days"),
    ("replay tiny mmlu_pro_days",
     "error: replay: 'tiny': days need a selection with `experts: {outcomes: FOLDER}`"),
    ("replay ok.json synthetic_walk", "error: replay: 'problem' must be a placement"),
    ("solve deep.json", "error: deep.json: nested deeper than 60 levels"),
    ("profile --import deep.json", "error: deep.json:1: not JSON: nested deeper than 60 levels"),
    ("profile --import deep.jsonl", "error: deep.jsonl:1: not JSON: nested deeper than 60 levels"),
    ("solve latin.yaml", "error: latin.yaml: not UTF-8 text (byte 0)"),
    ("solve big.yaml", "error: big.yaml: larger than 1 MiB; put tables into CSV files"),
    ("solve note.txt --quiet", "      | ^"),
    ("solve missing.yaml", "error: missing.yaml: no such file"),
    ("solve folder", "error: folder: is a folder, not a configuration file"),
    ("solve unknown",
     "error: unknown: no such file or built-in problem; `moe2opt problems` lists the "
     "built-in ones"),
    ("solve tinny", "error: tinny: no such file or built-in problem; did you mean 'tiny'?"),
    ("solve a\x1bb", "error: a?b: no such file or built-in problem; `moe2opt problems` lists the "
     "built-in ones"),
    ("solve tiny --set energy", "error: --set energy: expected KEY=VALUE"),
    ("solve tiny --set =3", "error: --set =3: expected KEY=VALUE"),
    ("solve tiny --set energi.x=3",
     "--set energi.x=3: energi: unknown key; did you mean 'energy'?"),
    ("solve tiny --set context_gib=-3",
     "--set context_gib=-3: context_gib: must be at least 0, got -3"),
    ("solve tiny --set context_gib=",
     "--set context_gib=: context_gib: expected a number, got nothing"),
    ("solve tiny --set context_gib=.inf",
     "--set context_gib=.inf: context_gib: .inf is not allowed; every number must be finite"),
    ("solve tiny --set name=[", "--set name=[: not YAML: expected the node content, but found "
     "'<stream end>'"),
    ("solve tiny --set tables=../../x",
     "--set tables=../../x: tables: '../../x' leaves the folder of the configuration file; "
     "--allow-outside permits it"),
    ("solve tiny --set schema_version=2",
     "--set schema_version=2: schema_version: an override cannot change 'schema_version'"),
    ("verify missing.json tiny", "error: missing.json: No such file or directory"),
    ("verify kept tiny", "error: kept: is a folder, not a file; its result is kept/result.json"),
    ("pareto tiny --x delay.limit_s",
     "error: delay.limit_s is {'code': 5, 'prose': 10} in the configuration, no single budget; "
     "give budgets (--x-budgets A,B,C) or both ends (--x-range LOW:HIGH)"),
    ("place m.gguf --unified 128",
     "error: --unified '128': give a name, or GiB and GB/s such as 128:256"),
    ("verify half.json tiny",
     "error: half.json: not JSON: Expecting ',' delimiter: line 1 column 3 (char 2)"),
    ("verify ok.json", "Error: Missing argument 'config'."),
    ("check", "Error: Missing argument 'configs'."),
    ("problems extra", "Error: Got unexpected extra argument(s) (extra)"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), COMMANDS, ids=[a for a, _ in COMMANDS])
def test_bad_commands(folder: Path, arguments: str, message: str) -> None:
    """A bad command line ends with 2, nothing on stdout, and its reason as the last line."""
    for name, content in CONTENTS.items():
        Path(name).write_bytes(content)
    Path("folder").mkdir()
    Path("kept").mkdir()
    Path("kept/result.json").write_text("{}")
    ran = CliRunner().invoke(app, arguments.split(" "))
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr.splitlines()[-1] == message


@pytest.mark.parametrize("arguments", ["--time-limit soon", "--seed 1.5", "--require best"])
def test_bad_values_of_flags(arguments: str) -> None:
    """A value of the wrong type names the flag; the rest is the words of the parser."""
    ran = CliRunner().invoke(app, ["solve", "tiny", *arguments.split()])
    assert ran.exit_code == 2
    assert f"Error: Invalid value for '{arguments.split()[0]}'" in ran.stderr


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_names_that_name_nothing(name: str) -> None:
    """Empty names and names with NUL are refused before any file is touched."""
    with pytest.raises(mo.InputError, match="names no file and no built-in problem"):
        mo.load(name)


@pytest.mark.skipif(os.name != "posix", reason="pipes with names exist on POSIX only")
def test_pipes_are_not_read(folder: Path) -> None:
    """A named pipe is refused instead of waited for."""
    os.mkfifo("pipe.yaml")
    with pytest.raises(mo.InputError, match="no such file"):
        mo.load("pipe.yaml")


def test_wrong_sizes_of_the_table() -> None:
    """The table of bad inputs keeps its promised size."""
    assert len(FILES) + len(ARRAYS) + len(COMMANDS) >= 70
