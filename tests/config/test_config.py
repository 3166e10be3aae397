"""Configuration files: questions, scenarios, overrides, schema, built-in problems."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moe2opt as mo
from moe2opt import config, library, questions
from moe2opt.canonical import Instance
from moe2opt.config import LoadedInstance, json_schema, scenario_names
from moe2opt.result import InputError
from moe2opt.schema import ConfigError, read_text

Toy = Callable[..., LoadedInstance]

ITEMS = "items:\n  - {name: a, value: 2}\n  - {name: b-1.5, value: 3}\n"


def complaints(toy: Toy, text: str, *arguments: Any) -> list[str]:
    """Return the messages about a toy file, places included, excerpts left out."""
    with pytest.raises(ConfigError) as caught:
        toy(text, *arguments)
    return [str(c).splitlines()[0] for c in caught.value.complaints]


def test_new_question_is_one_line(toy: Toy) -> None:
    """A registered question is loaded, satisfies the protocol, and solves."""
    instance = toy(ITEMS)
    assert isinstance(instance, Instance)
    assert instance.describe() == "2 items"
    result = mo.solve(instance, "polyblock")
    assert result.plan == ["b-1.5"]
    assert mo.certify(instance, result).ok


def test_other_attributes_fall_through(toy: Toy, tmp_path: Path) -> None:
    """What the question's own object has is reachable; what it lacks is an AttributeError."""
    instance = toy(ITEMS)
    assert instance.folder == tmp_path
    with pytest.raises(AttributeError, match="nonsense"):
        instance.nonsense  # noqa: B018


def test_loaded_instances_can_be_copied(toy: Toy) -> None:
    """Copies and pickles (for worker processes) work although attributes fall through."""
    instance = toy(ITEMS)
    for twin in (copy.copy(instance), pickle.loads(pickle.dumps(instance))):
        assert twin.name == "toy"
        assert twin.problem().fingerprint == instance.problem().fingerprint


def test_build_complaint_with_a_key_gets_its_place(toy: Toy) -> None:
    """A complaint of `build` that starts with a key points to it."""
    assert complaints(toy, ITEMS + "file: outside\n") == [
        "toy.yaml:6:1: file: 'outside' leaves the folder"
    ]


def test_build_complaint_without_a_key_names_the_file(toy: Toy) -> None:
    """Any other complaint of `build` gets the name of the configuration."""
    with pytest.raises(InputError, match=r"^toy\.yaml: table\.csv line 3: not a number$"):
        toy(ITEMS + "file: broken\n")


def test_allow_outside_reaches_the_question(toy: Toy) -> None:
    """The permission to leave the folder is passed on."""
    assert toy(ITEMS + "file: outside\n", allow_outside=True).config.file == "outside"


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("source: {kind: stedy, amount: 3}",
         ["6:16: source.kind: expected 'steady' or 'table', got 'stedy'; did you mean 'steady'?"]),
        ("source: {amount: 3}", ["6:1: source.kind: required key is missing"]),
        ("source: {kind: steady, amounts: 3}",
         ["6:24: source.amounts: unknown key; did you mean 'amount'?"]),
        ("source: {kind: table, amounts: [1, 2, 3]}",
         ["6:32: source.amounts: expected at most 2 item(s), got 3"]),
        ("source: {kind: table, amounts: [1, x]}",
         ["6:36: source.amounts.1: expected a number, got 'x'"]),
        ("source: {kind: table, amounts: few}",
         ["6:32: source.amounts: expected a list or an integer, got 'few'"]),
        ("by_level: {1: 0.5, two: 0.5}",
         ["6:20: by_level.two: the key is wrong: expected an integer, got 'two'"]),
        ("file: much_too_long", ["6:7: file: is too long a name"]),
    ],
)  # fmt: skip
def test_complaints_about_unions(toy: Toy, text: str, messages: list[str]) -> None:
    """Unions, tuples and validators are told in the same words and places as all else."""
    assert complaints(toy, f"{ITEMS}{text}\n") == [f"toy.yaml:{message}" for message in messages]


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("items.a.value: 9", ("items", 0, "value"), 9),
        ("items.1.value: 9", ("items", 1, "value"), 9),
        ("items.b-1.5.value: 9", ("items", 1, "value"), 9),
        ("items: {b-1.5: {value: 9}}", ("items", 1, "value"), 9),
        ("items.a: {value: 9, name: c}", ("items", 0), {"name": "c", "value": 9}),
        ("items: [{name: z}]", ("items",), [{"name": "z"}]),
        ("solver.seed: 4", ("solver", "seed"), 4),
        ("by_level: {1: 0.5}", ("by_level",), {"1": 0.5}),
        ("source: {kind: steady, amount: 3}", ("source",), {"kind": "steady", "amount": 3}),
    ],
)  # fmt: skip
def test_overrides_in_scenarios(toy: Toy, override: str, path: tuple[Any, ...], value: Any) -> None:
    """Dotted and nested keys, indices and names all lead to the value."""
    found: Any = toy(f"{ITEMS}scenarios:\n  s: {{{override}}}\n", "s").source.effective
    for step in path:
        found = found[step]
    assert found == value


def test_null_clears_optional_keys_only(toy: Toy) -> None:
    """`null` removes what may be missing, and is a fault elsewhere."""
    text = ITEMS + "source: {kind: steady, amount: 3}\n"
    assert toy(text, None, ["source=null"]).config.source is None
    assert complaints(toy, text, None, ["description="]) == [
        "--set description=: description: expected text, got nothing"
    ]


def test_scenarios_leave_the_base_alone(toy: Toy) -> None:
    """Without a name, the base is loaded; with one, name and provenance tell."""
    text = ITEMS + "scenarios: {rich: {items.a.value: 9}, poor: {items.a.value: 1}}\n"
    assert toy(text).problem().values.tolist() == [[2, 3]]
    rich = toy(text, "rich")
    assert (rich.problem().values.tolist(), rich.source.name, rich.source.scenario) == (
        [[9, 3]],
        "toy-rich",
        "rich",
    )
    assert scenario_names("toy.yaml") == ("rich", "poor")


def test_unknown_scenario(toy: Toy) -> None:
    """A scenario that does not exist lists those that do."""
    with pytest.raises(
        InputError, match=r"no scenario 'rih' \(scenarios: rich\); did you mean 'rich'"
    ):
        toy(ITEMS + "scenarios: {rich: {}}\n", "rih")
    with pytest.raises(InputError, match=r"no scenario 'rich' \(scenarios: none\)$"):
        toy(ITEMS, "rich")


def test_errors_of_base_and_scenarios_come_together(toy: Toy) -> None:
    """The base and every scenario are validated at once, no message twice."""
    text = ITEMS + "solver: {seed: -1}\nscenarios: {s: {items.a.value: -1}, t: {itms.x: 1}}\n"
    assert complaints(toy, text) == [
        "toy.yaml:6:16: solver.seed: must be at least 0, got -1",
        "toy.yaml:7:32: items.0.value: must be at least 0, got -1",
        "toy.yaml:7:41: itms: unknown key; did you mean 'items'?",
    ]


def test_overrides_from_python(toy: Toy) -> None:
    """Dictionaries override too, numpy numbers and arrays included, and are recorded as texts."""
    overrides = {"items.a.value": np.float64(7), "source": {"kind": "table", "amounts": np.ones(2)}}
    instance = toy(ITEMS, None, overrides)
    assert instance.source.effective["source"] == {"kind": "table", "amounts": [1.0, 1.0]}
    again = toy(ITEMS, None, instance.source.overrides)
    assert again.source.effective == instance.source.effective


def test_every_bad_set_is_told(toy: Toy) -> None:
    """All bad `--set` texts are told at once."""
    assert complaints(toy, ITEMS, None, ["a=[", "b=&x 3"]) == [
        "--set a=[: not YAML: expected the node content, but found '<stream end>'",
        "--set b=&x 3: b: anchors are not allowed",
    ]
    assert complaints(toy, ITEMS, None, ["itms=1", "solver.sed=1"]) == [
        "--set itms=1: itms: unknown key; did you mean 'items'?",
        "--set solver.sed=1: solver.sed: unknown key; did you mean 'seed'?",
    ]


def test_later_sets_win(toy: Toy) -> None:
    """Of two `--set` for one key, the later wins, and both win over the scenario."""
    text = ITEMS + "scenarios: {s: {solver.seed: 1}}\n"
    assert toy(text, "s", ["solver.seed=2", "solver.seed=3"]).source.solver.seed == 3


def test_empty_lists_have_no_items(toy: Toy) -> None:
    """An override into an empty list, or one without names, says what there is."""
    assert complaints(toy, "items: []\n", None, ["items.a.value=1"]) == [
        "--set items.a.value=1: items.a: no such item (items: none)"
    ]
    text = ITEMS + "source: {kind: table, amounts: [1, 2]}\n"
    assert complaints(toy, text, None, ["source.amounts.2=1"]) == [
        "--set source.amounts.2=1: source.amounts.2: no such item (items: 0..1)"
    ]


def test_effective_configuration_is_equivalent(toy: Toy) -> None:
    """The written effective configuration describes the same problem."""
    instance = toy(ITEMS + "scenarios: {s: {items.a.value: 9}}\n", "s", ["solver.seed=3"])
    text = instance.source.effective_yaml()
    assert text.startswith("# Effective configuration of toy-s; paths are relative to toy.yaml\n")
    assert read_text(text, "x").data == instance.source.effective
    assert "scenarios" not in instance.source.effective


def test_schema_joins_the_questions() -> None:
    """The JSON Schema is a union discriminated on `problem`, with descriptions from docstrings."""
    schema = json_schema()
    assert set(schema["discriminator"]["mapping"]) == set(config.QUESTIONS)
    toy = schema["$defs"]["ToyFile"]
    assert {"schema_version", "problem", "items"} <= set(toy["required"])
    assert toy["additionalProperties"] is False
    assert schema["$defs"]["SolverSection"]["properties"]["seed"]["description"]


def test_schema_of_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a single question the schema needs no union."""
    only = {"selection": config.QUESTIONS["selection"]}
    for module in (config, questions):  # a dictionary that is emptied comes back in another order
        monkeypatch.setattr(module, "QUESTIONS", only)
    schema = json_schema()
    assert schema["properties"]["problem"]["const"] == "selection"


def test_committed_schema_is_current(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """problems/config.schema.json, which editors use, is what `moe2opt schema` prints."""
    monkeypatch.delitem(config.QUESTIONS, "toy")
    stored = json.loads((checkout / "problems/config.schema.json").read_text(encoding="utf-8"))
    assert stored == json_schema()


def test_problem_files_are_loaded(tmp_path: Path) -> None:
    """A canonical problem on disk is loaded as such."""
    problem = mo.FacilityProblem(values=[[1, 2]], costs=[[1, 1]], budgets=[1])
    for suffix in ("json", "npz"):
        mo.save_problem(problem, tmp_path / f"p.{suffix}")
        loaded = mo.load(tmp_path / f"p.{suffix}")
        assert isinstance(loaded, mo.FacilityProblem)
        assert loaded.fingerprint == problem.fingerprint
        assert scenario_names(tmp_path / f"p.{suffix}") == ()


@pytest.fixture
def library_of_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a package-like folder with two problems of the same short name."""
    root = tmp_path / "site" / "moe2opt"
    for folder in ("selection", "toy"):
        (root / "problems" / folder).mkdir(parents=True)
        (root / "problems" / folder / "edge.yaml").write_text("description: First. Second.\n")
    (root / "problems" / "toy" / "only.yaml").write_text("a: 1\n")
    monkeypatch.setattr(library, "_PACKAGE", root)
    return root / "problems"


def test_installed_problems(library_of_two: Path) -> None:
    """Without a checkout, the problems inside the package are found by full or short name."""
    assert [b.name for b in library.builtins()] == ["selection/edge", "toy/edge", "toy/only"]
    assert library.find("toy/edge") == library_of_two / "toy" / "edge.yaml"
    assert library.find("only") == library_of_two / "toy" / "only.yaml"
    assert [b.summary()[0] for b in library.builtins()] == ["First.", "First.", ""]


def test_ambiguous_names(library_of_two: Path) -> None:
    """A short name of two problems is refused with both full names."""
    with pytest.raises(
        InputError, match="edge: several built-in problems have this name: selection/edge, toy/edge"
    ):
        library.find("edge")


def test_files_go_before_built_in_problems(
    library_of_two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the working directory hides a built-in problem of the same name."""
    monkeypatch.chdir(tmp_path)
    Path("only").write_text("a: 1\n")
    assert library.find("only") == Path("only")


def test_unreadable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be read is bad input."""

    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "a.yaml"
    path.write_text("a: 1\n")
    monkeypatch.setattr("moe2opt.files.os.open", refuse)
    with pytest.raises(InputError, match=r"a\.yaml: Permission denied$"):
        mo.load(path)


@pytest.mark.parametrize("builtin", library.builtins(), ids=lambda b: b.name)
def test_built_in_problems_load(builtin: library.Builtin) -> None:
    """Every built-in problem loads in each of its scenarios and has one line to say."""
    text, scenarios = builtin.summary()
    assert text
    for scenario in (None, *scenarios):
        loaded = mo.load(builtin.name, scenario)
        assert isinstance(loaded, LoadedInstance)
        assert len(loaded.row_names()) == len(loaded.problem().budgets)  # type: ignore[union-attr]
        assert isinstance(loaded.cover_names(), list)


def test_shipped_problems_have_names_of_their_own() -> None:
    """No two built-in problems share a short name, so that every one can be solved by it."""
    stems = [builtin.stem for builtin in library.builtins()]
    assert sorted(stems) == sorted(set(stems))
