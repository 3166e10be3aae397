"""A selection becomes files that an operator runs, and a router that keeps to the plan."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

import moe2opt as mo
from moe2opt.result import InputError
from moe2opt.selection.export import Dispatcher, RoutingTable, deployments, litellm_files
from moe2opt.selection.export.dispatch import load_dispatcher
from moe2opt.selection.export.litellm_router import category_of, choose, prompt_of
from moe2opt.selection.export.routing_table import read_table
from moe2opt.selection.plan.prompts import routed
from moe2opt.selection.routing.market import market_of
from moe2opt.selection.sections import Serving

from .conftest import STRICT, Served, export

Serve = Callable[..., Served]


def answers(served: Served, prompts: np.ndarray) -> list[str]:
    """Return who the exported dispatcher sends each prompt to."""
    dispatcher, outcomes = load_dispatcher(served.folder), served.instance.outcomes
    return [str(dispatcher.best(outcomes.vectors[p], str(outcomes.category[p]))) for p in prompts]


def names(served: Served) -> dict[int, str]:
    """Return the exported name of each deployed expert by its index."""
    chosen = np.flatnonzero(served.result.x).tolist()
    experts = load_dispatcher(served.folder).table.experts
    return {i: e.name for i, e in zip(chosen, experts, strict=True)}


@pytest.mark.parametrize("overrides", [(), STRICT[:1]])
def test_exported_routing_is_that_of_the_plan(serve: Serve, overrides: tuple[str, ...]) -> None:
    """From its files alone the router sends every test prompt where the evaluation sent it."""
    served = serve(*overrides)
    prompts, chosen = served.instance.split.members("test"), np.flatnonzero(served.result.x)
    wanted = [names(served)[i] for i in routed(served.instance, prompts, chosen).tolist()]
    assert answers(served, prompts) == wanted
    assert len(set(wanted)) > 1


def test_prices_route_as_evaluated(serve: Serve) -> None:
    """With a budget for expected energy the router answers as routing by prices does."""
    served = serve(*STRICT)
    table = read_table(served.folder / "routing.json")
    assert table.price_per_j > 0
    assert table.price_per_s == 0
    prompts, chosen = served.instance.split.members("test"), np.flatnonzero(served.result.x)
    market = market_of(served.instance, prompts).restricted_to(chosen)
    prices = np.array([table.price_per_j, 0.0, 0.0])
    wanted = [names(served)[chosen[k]] for k in market.response(prices).tolist()]
    assert answers(served, prompts) == wanted
    free = serve(STRICT[0])
    assert answers(free, prompts) != wanted


def test_gate_is_masked_to_who_is_able(serve: Serve) -> None:
    """The best expert that is able answers; a late one only when nobody in time is able."""
    served = serve(STRICT[0])
    dispatcher, outcomes = load_dispatcher(served.folder), served.instance.outcomes
    prompt = int(np.flatnonzero(outcomes.category == "code")[0])
    ask = (outcomes.vectors[prompt], "code")
    _, in_time, _ = dispatcher.rank(*ask)
    late = {n for n, ok in zip(dispatcher.names, in_time, strict=True) if not ok}
    assert 0 < len(late) < len(dispatcher.names)
    assert dispatcher.best(*ask) not in late
    assert dispatcher.best(*ask, able=late) in late
    assert dispatcher.best(*ask, able=set()) is None


def test_unknown_category_stands_for_all(serve: Serve) -> None:
    """Without a category, scores and charges are averaged over the categories by their shares."""
    dispatcher = load_dispatcher(serve(*STRICT).folder)
    table = dispatcher.table
    vector = np.linspace(-1, 1, dispatcher.dimensions or 0)
    parts = [dispatcher.rank(vector, name) for name in table.categories]
    by_hand = sum(
        share * (np.where(in_time, worth + charge, 0) - charge)
        for share, (worth, in_time, _), charge in zip(
            table.shares, parts, table.charge, strict=True
        )
    )
    assert dispatcher.rank(vector, "no such")[0] == pytest.approx(by_hand)


def test_no_vector_routes_by_category(serve: Serve) -> None:
    """Without a vector the expert with the best mean score of the category answers."""
    dispatcher = load_dispatcher(serve().folder)
    for k, category in enumerate(dispatcher.table.categories):
        best = dispatcher.names[int(dispatcher.table.worth[k].argmax())]
        assert dispatcher.best(None, category) == best


def test_faults_of_an_encoder_cost_the_vector_alone(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """A failing encoder is logged; the request is routed by its category."""
    dispatcher = load_dispatcher(serve().folder)
    asked = [{"role": "user", "content": "any"}]
    able, request = set(dispatcher.names), {"metadata": {"category": "prose"}}

    def broken(text: str) -> list[float]:
        raise OSError(text)

    wanted = dispatcher.best(None, "prose")
    assert choose(dispatcher, able, asked, request, broken) == wanted
    assert choose(dispatcher, able, asked, request, lambda text: [1.0]) == wanted
    assert len(caplog.records) == 2
    assert choose(dispatcher, able, asked, {}, None, lambda text: "prose") == wanted


def test_prompt_and_category_of_a_request() -> None:
    """The prompt is the last user message, parts joined; the category is in the metadata."""
    parts = [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]
    talk = [{"role": "user", "content": "old"}, {"role": "user", "content": parts}]
    assert prompt_of([*talk, {"role": "assistant", "content": "yes"}]) == "a\nb"
    assert prompt_of(None) == prompt_of([{"role": "user", "content": None}]) == ""
    assert category_of({"litellm_metadata": {"category": "law"}}) == "law"
    assert category_of({"metadata": None}) is None


def test_files_hold_one_deployment_per_expert(serve: Serve) -> None:
    """Proxy, launch scripts and plan name the same experts, each with an address of its own."""
    served = serve()
    proxy = YAML(typ="safe").load((served.folder / "litellm.yaml").read_text())
    plan = served.result.plan.experts
    models = proxy["model_list"]
    assert [m["model_info"]["llm"] for m in models] == [e.llm for e in plan]
    assert len({m["litellm_params"]["api_base"] for m in models}) == len(plan)
    scripts = "".join(p.read_text() for p in served.folder.glob("serve-*.sh"))
    for model in models:
        alias = model["litellm_params"]["model"].removeprefix("openai/")
        assert f"--alias {alias} " in scripts
    assert (served.folder / "gate" / "gate.safetensors").exists()
    compile((served.folder / "moe2opt_router.py").read_text(), "router", "exec")


def test_hosts_and_files_come_from_the_configuration(serve: Serve, tmp_path: Path) -> None:
    """A `serving` section fills the placeholders and changes nothing about the problem."""
    served = serve()
    served.result.save(tmp_path / "result.json")
    words = ("--to", "litellm", "--config", "tiny_gate", "--json")
    bare = json.loads(export(tmp_path / "result.json", *words).stdout)
    assert len(bare["placeholders"]) == 4
    assert bare["files"]["litellm.yaml"].count("PLACEHOLDER") == 2
    given = (
        *("--set", "serving.hosts={slow: 10.0.0.1, fast: box.lan}"),
        *("--set", "serving.model_files={coder-2b: {int8: c.gguf}, writer-2b: {int8: w.gguf}}"),
        *("--set", "serving.first_port=9000", "--set", "serving.context_tokens=512"),
    )
    full = json.loads(export(tmp_path / "result.json", *words, *given).stdout)
    assert full["placeholders"] == []
    assert {d["api_base"] for d in full["deployments"]} == {
        "http://10.0.0.1:9000/v1",
        "http://box.lan:9000/v1",
    }
    assert full["deployments"][0]["launch"][:3] == ["llama-server", "--model", "/models/c.gguf"]


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("serving.hosts={slwo: a}", "serving.hosts: unknown name 'slwo'; did you mean 'slow'?"),
        ("serving.hosts={slow: a b}", "serving.hosts.slow: 'a b' is no host name"),
        ("serving.model_files={coder-2b: {q4: x}}", "serving.model_files.coder-2b: unknown name"),
        ("serving.first_port=0", "first_port"),
        ("energy.limit_j_per_prompt=1", "made for other data"),
    ],
)
def test_bad_settings(serve: Serve, tmp_path: Path, setting: str, told: str) -> None:
    """Slips in the section, and settings that change the problem, are told with exit code 2."""
    serve().result.save(tmp_path / "result.json")
    words = ("--to", "litellm", "--config", "tiny_gate", "--set", setting)
    ran = export(tmp_path / "result.json", *words)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert told in ran.stderr


@pytest.mark.parametrize("name", ["tiny_gate", "tiny"])
def test_result_alone_routes_by_category(tmp_path: Path, name: str) -> None:
    """Without the configuration the plan's own table routes; with a gate, as its means would."""
    result = mo.solve(mo.load(name))
    result.save(tmp_path / "result.json")
    ran = export(tmp_path / "result.json", "--to", "litellm", "--out", tmp_path / "out")
    assert ran.exit_code == 0, ran.stderr
    assert "without --config" in ran.stderr
    dispatcher = load_dispatcher(tmp_path / "out")
    assert dispatcher.gate is None
    with_config = ("--to", "litellm", "--config", name, "--out", tmp_path / "full")
    assert export(tmp_path / "result.json", *with_config).exit_code == 0
    full = Dispatcher(load_dispatcher(tmp_path / "full").table)
    for category in full.table.categories:
        assert dispatcher.best(None, category) == full.best(None, category)


def test_categories_keep_to_their_sets(tmp_path: Path) -> None:
    """With a set of experts per category, nobody outside of it answers the category's prompts."""
    result = mo.solve(mo.load("tiny", overrides=["sets=per_category"]))
    result.save(tmp_path / "result.json")
    words = ("--to", "litellm", "--config", "tiny", "--out", tmp_path / "out")
    assert export(tmp_path / "result.json", *words).exit_code == 0
    dispatcher = load_dispatcher(tmp_path / "out")
    sets = {own.category: own.experts for own in result.plan.sets}
    assert any(len(own) < len(dispatcher.names) for own in sets.values())
    for category, own in sets.items():
        assert dispatcher.best(None, category) in {dispatcher.names[k] for k in own}


def test_names_are_safe_wherever_they_stand() -> None:
    """Names with quotes, spaces and signs of the shell stay one word and valid YAML."""
    odd = 'a\'b "c" $(d) `e` # e: {'
    experts = [
        {"llm": odd, "precision": "q4", "server": "s;rm"},
        {"llm": odd + "!", "precision": "q4", "server": "s;rm"},
    ]
    placed = deployments(experts, Serving(), {"q4": "Q4_K_M"})
    assert len({d.name for d in placed}) == len({d.port for d in placed}) == 2
    ones = np.ones((1, 2))
    table = RoutingTable.from_dict(
        {
            "format": 1, "instance": odd, "categories": [odd], "shares": [1.0],
            "experts": [{**e, "name": d.name} for e, d in zip(experts, placed, strict=True)],
            "price_per_j": 0, "price_per_s": 0, "worth": ones, "energy_j": ones, "delay_s": ones,
            "in_time": ones,
        }
    )  # fmt: skip
    files = litellm_files(table, placed, Serving(group=odd), gated=False)
    proxy = YAML(typ="safe").load(files["litellm.yaml"])
    assert [m["model_info"]["llm"] for m in proxy["model_list"]] == [e["llm"] for e in experts]
    assert proxy["model_list"][0]["model_name"] == odd
    compile(files["moe2opt_router.py"], "router", "exec")
    script = files["serve-s-rm.sh"].splitlines()
    commands = [shlex.split(line) for line in script if line.startswith("llama-server")]
    assert [words[-1] for words in commands] == ["&", "&"]
    assert [words[4] for words in commands] == [d.name for d in placed]
    outside = ("#", "llama-server", "set -e", "wait", ': "${MOE2OPT_API_KEY:?', "export LLAMA")
    assert all(line.startswith(outside) for line in script)


def test_broken_tables_are_refused(serve: Serve, tmp_path: Path) -> None:
    """A table that is no JSON, lacks a key, or has a wrong shape is named, with what is wrong."""
    good = json.loads((serve().folder / "routing.json").read_text())
    for content, told in [
        ("{", "routing.json"),
        (json.dumps({**good, "format": 9}), "format 1"),
        (json.dumps({k: v for k, v in good.items() if k != "worth"}), "worth"),
        (json.dumps({**good, "energy_j": [[1.0]]}), "energy_j"),
        (json.dumps({**good, "experts": []}), "no experts"),
    ]:
        (tmp_path / "routing.json").write_text(content)
        with pytest.raises(InputError, match=told):
            load_dispatcher(tmp_path)


def test_requests_that_cannot_be_met(tmp_path: Path) -> None:
    """No plan, an unknown format, `--set` without a configuration, a file in the way: code 2."""
    result = mo.solve(mo.load("tiny_gate"))
    result.save(tmp_path / "result.json")
    (tmp_path / "file").write_text("")
    for words, told in [
        (("--to", "json"), "cannot be exported to json, only to litellm"),
        (("--to", "litellm", "--set", "serving.first_port=1"), "--set: needs --config"),
        (("--to", "litellm", "--out", tmp_path / "file"), "--out"),
    ]:
        ran = export(tmp_path / "result.json", *words)
        assert ran.exit_code == 2
        assert told in ran.stderr
