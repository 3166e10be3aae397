"""No free text in generated code: names are data in whatever an export writes."""

from __future__ import annotations

import ast
import json
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML
from small_plans import make_plan, tier
from typer.testing import CliRunner

import moe2opt as mo
from moe2opt.cli.app import app
from moe2opt.placement.export import FORMATS
from moe2opt.placement.export import export as export_plan
from moe2opt.placement.export.exported import _launch
from moe2opt.placement.plan import PlacementPlan
from moe2opt.result import InputError

#: Names that are allowed, and would run something or end something if they were not quoted.
NAMES = [
    "$(touch PWNED)", "`touch PWNED`", "; touch PWNED ;", "'; touch PWNED; '", '"; touch PWNED; "',
    "& touch PWNED &", "| touch PWNED", "> PWNED", "$(touch PWNED", "\\'; touch PWNED #", "\\",
    "a\\", "# touch PWNED", "{touch,PWNED}", "~", "*", "!!", "!history", "${HOME}", "$HOME", "-x",
    "--help", "--host=0.0.0.0", "../../PWNED", "/etc/passwd", "..", ".", "{file}", "{file!r}",
    "%s%n", "'''", '"""', "\\\"\\\"\\\"; import os", "');__import__('os').system('touch PWNED')#",
    ": - {a: b}", "- a: b", "&a *a", "!!python/object:os.system", "null", "a: #", "1e3",
    "[a", "{0}",
    "<script>alert(1)</script>", "]]>", "{{7*7}}", "=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0",
    "Größe 模型 🙂", "a b", "a\u00a0b", "x" * 200, "%0a touch PWNED", "\\n touch PWNED", "\\x0a",
]  # fmt: skip

#: Names that no reader lets through; exports refuse them on their own.
REFUSED = ["a\ntouch PWNED\n#", "a\rb", "a\0b", "a\x1b[2J", "a\u202eb", "a\u200bb", "x" * 201, " "]

#: A runtime that does nothing but note its words, one call a line.
NOTE = '#!/bin/sh\n(for w; do printf "%s\\0" "$w"; done; echo) >> "{file}"\n'


def kept(folder: Path) -> set[str]:
    """Return the files below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def run_stubbed(script: Path, folder: Path, key: bool = True) -> tuple[int, list[list[str]]]:
    """Run a script whose runtimes only note their arguments; return its end and these."""
    stubs = folder / "stubs"
    if not stubs.exists():
        stubs.mkdir()
        for name in ("llama-server", "litellm", "python", "touch"):
            (stubs / name).write_text(NOTE.format(file=stubs / "called"))
            (stubs / name).chmod(0o755)
    (stubs / "called").write_text("")
    env = {"PATH": f"{stubs}:/usr/bin:/bin", "HOME": str(folder)}
    if key:
        env |= {"MOE2OPT_API_KEY": "k", "LITELLM_MASTER_KEY": "sk-k"}
    ran = subprocess.run(["sh", str(script)], cwd=folder, env=env, capture_output=True, check=False)
    calls = [line.split("\0")[:-1] for line in (stubs / "called").read_text().splitlines()]
    return ran.returncode, calls


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return a stored result of the tiny selection."""
    path = tmp_path_factory.mktemp("stored") / "result.json"
    mo.solve(mo.load("tiny")).save(path)
    return dict(json.loads(path.read_text()))


def renamed(stored: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the result with a name for everything that has one."""
    content: dict[str, Any] = json.loads(json.dumps(stored))
    plan = content["plan"]
    plan["instance"] = name
    for k, expert in enumerate(plan["experts"]):
        expert["llm"], expert["precision"], expert["server"] = name, name, f"{name[:199]}{k}"
    return content


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_served_selections(stored: dict[str, Any], tmp_path: Path, name: str) -> None:
    """Scripts start the runtime alone; YAML and JSON hold the name; Python does not run it."""
    (tmp_path / "result.json").write_text(json.dumps(renamed(stored, name)))
    out = tmp_path / "out"
    words = ["export", str(tmp_path / "result.json"), "--to", "litellm", "--out", str(out)]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 0, ran.stderr
    before = kept(tmp_path)
    scripts = sorted(out.glob("*.sh"))
    experts = len(stored["plan"]["experts"])
    assert len(scripts) == experts + 1
    starts = 0
    for script in scripts:
        if shutil.which("bash"):
            subprocess.run(["bash", "-n", str(script)], check=True)
        code, calls = run_stubbed(script, tmp_path)
        assert (code, len(calls)) == (0, 1), script.read_text()
        starts += "--alias" in calls[0]
        assert calls[0][calls[0].index("--host") + 1] == "127.0.0.1"
        assert run_stubbed(script, tmp_path, key=False) == (2, [])
    assert starts == experts
    assert {p for p in kept(tmp_path) - before if not p.startswith("stubs")} == set()
    proxy = YAML(typ="safe").load((out / "litellm.yaml").read_text(encoding="utf-8"))
    assert [m["model_info"]["llm"] for m in proxy["model_list"]] == [name] * experts
    assert {m["litellm_params"]["api_key"] for m in proxy["model_list"]} == {
        "os.environ/MOE2OPT_API_KEY"
    }
    assert proxy["general_settings"]["master_key"] == "os.environ/LITELLM_MASTER_KEY"
    table = json.loads((out / "routing.json").read_text())
    assert [e["llm"] for e in table["experts"]] == [name] * experts
    tree = ast.parse((out / "moe2opt_router.py").read_text())
    called = {ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    assert called == {"gate_router", "Path"}


@pytest.mark.parametrize("name", [*REFUSED, "os.environ/HOME"], ids=ascii)
@pytest.mark.parametrize("key", ["llm", "precision", "server"])
def test_names_that_no_export_takes(
    stored: dict[str, Any], tmp_path: Path, name: str, key: str
) -> None:
    """A received result whose plan holds a bad name is refused; nothing is written."""
    content = renamed(stored, "good")
    content["plan"]["experts"][0][key] = name
    (tmp_path / "result.json").write_text(json.dumps(content))
    out = tmp_path / "out"
    words = ["export", str(tmp_path / "result.json"), "--to", "litellm", "--out", str(out)]
    ran = CliRunner().invoke(app, words)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr.count("\n") == 1
    assert f".experts.0.{key}: " in ran.stderr
    assert not out.exists()


def placements(name: str) -> list[PlacementPlan]:
    """Return plans with a name for everything, one of which each runtime can express."""
    gpu, other = tier(f"{name[:199]}0", "gpu", 4.0), tier(f"{name[:199]}1", "gpu", 4.0)
    cpu = tier(f"{name[:199]}2", "cpu", 16.0)
    where = np.ones((4, 8), dtype=np.int64)
    where[:2] = 0
    halves = np.tile([0, 0, 0, 0, 1, 1, 1, 1], (4, 1))
    made = [make_plan(where, tiers=(gpu, cpu)), make_plan(halves, tiers=(gpu, other))]
    return [
        replace(
            plan,
            instance=name,
            model=name,
            precisions=tuple(replace(p, name=name) for p in plan.precisions),
            caveats=(name,),
        )
        for plan in made
    ]


def parses(text: str, to: str, suffix: str) -> None:
    """Assert that a text is what its runtime reads."""
    if to == "ktransformers" and not suffix:
        assert isinstance(YAML(typ="safe").load(text), list)
    elif to == "llama.cpp":
        assert shlex.split(text)
    else:
        json.loads(text)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_placements(tmp_path: Path, name: str) -> None:
    """Every runtime's text parses, and its line runs that runtime alone, whatever is named how."""
    exported = set()
    for plan in placements(name):
        again = PlacementPlan.from_dict(json.loads(json.dumps(plan.to_dict())))
        assert again.model == name
        for to in FORMATS:
            try:
                parts = export_plan(again, to)
            except InputError as error:
                assert str(error).isprintable()
                continue
            exported.add(to)
            for part in parts:
                parses(part.text, to, part.suffix)
                check_launch(part, tmp_path, name)
    assert exported == set(FORMATS)


def check_launch(part: Any, folder: Path, name: str) -> None:
    """Assert that the line that starts a runtime is one command, the file one word of it."""
    file = f"{name[:100]}.json"
    line = _launch(part, file)
    if "json.load" in line:
        names = {n.value for n in ast.walk(ast.parse(line)) if isinstance(n, ast.Constant)}
        assert file in names
    elif line:
        (folder / "run.sh").write_text(f"{line}\n")
        code, calls = run_stubbed(folder / "run.sh", folder)
        assert (code, len(calls)) == (0, 1)
        assert file in calls[0] or line.startswith("llama-server ")


@pytest.mark.parametrize("name", REFUSED, ids=ascii)
@pytest.mark.parametrize("where", ["model", "instance", "home", "tiers", "precisions"])
def test_placements_that_are_refused(name: str, where: str) -> None:
    """A received placement with a bad name is no plan."""
    content = json.loads(json.dumps(placements("good")[0].to_dict()))
    if where in ("tiers", "precisions"):
        content[where][1]["name"] = name
    else:
        content[where] = name
    with pytest.raises(InputError, match=rf"not a placement plan: {where}"):
        PlacementPlan.from_dict(content)


@pytest.mark.parametrize(
    ("settings", "hosts"),
    [
        ([], {"127.0.0.1"}),
        (["serving.hosts={fast: 10.0.0.2}"], {"10.0.0.2", "127.0.0.1"}),
        (["serving.listen=0.0.0.0"], {"0.0.0.0"}),
        (["serving.hosts={fast: '[::1]'}"], {"::1", "127.0.0.1"}),
    ],
)
def test_addresses(tmp_path: Path, settings: list[str], hosts: set[str]) -> None:
    """Servers listen on loopback, unless the configuration names another address."""
    result = mo.solve(mo.load("tiny_gate"))
    result.save(tmp_path / "result.json")
    words = [word for setting in settings for word in ("--set", setting)]
    config = ["--to", "litellm", "--config", "tiny_gate", "--json"]
    ran = CliRunner().invoke(app, ["export", str(tmp_path / "result.json"), *config, *words])
    assert ran.exit_code == 0, ran.stderr
    launches = [d["launch"] for d in json.loads(ran.stdout)["deployments"]]
    assert {words[words.index("--host") + 1] for words in launches} == hosts


def test_enough_names() -> None:
    """The list is long, and nothing in the environment of the tests was touched."""
    assert len(set(NAMES)) >= 50
    assert not Path("PWNED").exists()
