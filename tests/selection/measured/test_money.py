"""Money is a measure like any other: budgets, net worth, APIs, servers by the hour."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import moe2opt as mo
from moe2opt.pareto.judging import judged
from moe2opt.plotting.quality import quality_figure
from moe2opt.selection.evaluation.realised import evaluate_on_test
from moe2opt.selection.export.litellm_files import deployments
from moe2opt.selection.plan.prompts import routed
from moe2opt.selection.sections import Serving

#: Prices of answers on the two servers: 50 tokens of prompt and 20 of answer each.
PRICES = """\
llm,server,usd_per_prompt,usd_per_request,usd_per_million_prompt_tokens,usd_per_output_token
alpha,slow,0.25,,,
beta,slow,,0.10,2000,0.01
gamma,slow,,,,0.04
gamma,fast,1.50,,,
"""

#: The LLM beta may be had from an API, too.
API = """\
llm,server,s_per_prompt,usd_per_prompt,usd_per_hour
beta,cloud,1.5,0.02,0.5
"""

CLOUD = {"name": "cloud", "api": True}


def priced(table: Any, money: dict[str, Any], text: str = PRICES, **more: Any) -> Any:
    """Return the tiny instance with prices; no energy budget unless it is asked for."""
    return table(text, {"money": money, "energy": None} | more)


def with_cloud(table: Any, money: dict[str, Any] | None = None, **more: Any) -> Any:
    """Return the tiny instance with an API besides its servers."""
    servers = [
        {"name": "slow", "device": "slow-box", "uplink_mbps": 1000, "downlink_mbps": 1000},
        CLOUD,
    ]
    return table(API, {"servers": servers, "money": money or {}} | more)


def best(instance: Any) -> tuple[float, Any]:
    """Return the optimum over all sets of experts by trying each."""
    problem = instance.problem()
    sets = itertools.product([0, 1], repeat=len(instance.experts))
    points = (np.array(x) for x in sets)
    kept = [(problem.evaluate(x), x) for x in points if problem.is_feasible(x)]
    return max(kept, key=lambda pair: pair[0])


def test_prices_by_hand(table: Any) -> None:
    """A price is that of the whole prompt, or the request and its tokens; our servers are free."""
    tiny = priced(table, {})
    own = {f"{e.llm} {e.server}": e.money_per_prompt for e in tiny.experts}
    assert own["alpha slow"] == 0.25
    assert own["beta slow"] == pytest.approx(0.10 + 50 * 0.002 + 20 * 0.01)
    assert own["gamma slow"] == pytest.approx(0.8)
    assert (own["gamma fast"], own["alpha fast"]) == (1.5, 0)


@pytest.mark.parametrize("counts", ["all", "one", "largest"])
def test_budgets_per_prompt(counts: str, table: Any) -> None:
    """A limit per prompt is kept by the best plan there is, whoever is paid; it is certified."""
    money: dict[str, Any] = {"limit_per_prompt": 0.7, "counts": counts}
    if counts == "largest":
        money["largest"] = 2
    tiny = priced(table, money)
    result = mo.solve(tiny)
    value, _ = best(tiny) if counts != "largest" else (result.bound, None)
    assert result.objective == pytest.approx(value)
    prices = sorted(result.plan.money.by_expert)
    spent = {"all": sum(prices), "one": max(prices), "largest": sum(prices[-2:])}[counts]
    assert spent <= 0.7
    assert mo.certify(tiny, result).kind == "checked"
    name = "experts_over_money" if counts == "one" else "money_usd_per_prompt"
    assert name in [budget.name for budget in result.plan.budgets]


def test_what_a_plan_costs(table: Any) -> None:
    """The plan tells the money of the routed experts, by category and in all."""
    tiny = priced(table, {"limit_per_prompt": 0.7})
    plan = mo.solve(tiny).plan
    by_expert = {e.llm: price for e, price in zip(plan.experts, plan.money.by_expert, strict=True)}
    paid = [by_expert[plan.experts[route.expert].llm] for route in plan.routing]
    assert plan.money.per_prompt == pytest.approx(np.mean(paid))
    code = [p for p, name in zip(paid, tiny.tables.categories, strict=True) if name == "code"]
    assert plan.money.by_category[0] == pytest.approx(np.mean(code))
    assert "USD per prompt" in plan.summary()
    assert any(title == "Price by category" for title in (t.title for t in plan.view().tables))
    assert tiny.check(plan) == []


def test_fronts_over_money(table: Any) -> None:
    """A front over the budget of money rises, keeps every budget, and is certified."""
    tiny = priced(table, {"limit_per_prompt": 0.7})
    front = mo.pareto(tiny, x="money_usd_per_prompt", budgets=[0.3, 0.7, 1.2, 2.5])
    values = [point.objective for point in front.points]
    assert values == sorted(values) and values[0] < values[-1]
    for point in front.points:
        plan = front.plans[point.plan]
        assert sum(plan["money"]["by_expert"]) <= point.budget + 1e-9


def test_rents_are_paid_once(table: Any) -> None:
    """A server costs its rent once, however much is on it; the budget per hour is kept exactly."""
    rents = {"servers.0.money_per_hour": 1.0, "servers.1.money_per_hour": 3.0}
    for limit in (1.0, 3.5, 4.0):
        tiny = priced(table, {"limit_per_hour": limit}, **rents)
        result = mo.solve(tiny)
        assert result.objective == pytest.approx(best(tiny)[0])
        assert mo.certify(tiny, result).kind == "checked"
        used = {expert.server for expert in result.plan.experts}
        rent = 1.0 * ("slow" in used) + 3.0 * ("fast" in used)
        assert result.plan.money.per_hour == rent <= limit
    assert mo.solve(priced(table, {"limit_per_hour": 0.5}, **rents)).status == "INFEASIBLE"


def test_busy_hours_and_electricity(table: Any) -> None:
    """A server paid by the busy hour, and kilowatt-hours, are prices of prompts."""
    busy = {"servers.0.money_per_hour": 36.0, "servers.0.billed": "busy"}
    text = "llm,server,s_per_prompt,j_per_prompt\nalpha,slow,2,50\n"
    tiny = priced(table, {"per_kwh": 7.2}, text, **busy)
    assert tiny.experts[0].money_per_prompt == pytest.approx(2 * 0.01 + 50 * 7.2 / 3.6e6)
    assert tiny.hosts[0].money_per_hour == 0


def test_net_worth(table: Any) -> None:
    """With a worth of correct answers the objective is what they bring less what they cost."""
    tiny = priced(table, {"worth_of_correct": 2.0}, **{"servers.1.llms": ["gamma"]})
    result = mo.solve(tiny)
    net = np.maximum(tiny.quality - tiny.price[tiny.category_of] / 2.0, 0)
    assert result.objective == pytest.approx(tiny.tables.weights @ net.max(axis=1))
    assert result.plan.money.net == result.objective
    assert result.plan.predicted_accuracy > result.objective
    assert tiny.measure.quantity == "expected share of correct answers, less what they cost"
    assert mo.certify(tiny, result).kind == "checked"
    assert tiny.check(result.plan) == []


def test_net_worth_of_routed_prompts(table: Any, load: Any) -> None:
    """A gate sends a prompt where its answer is worth most after its price."""
    name = load("tiny_gate").outcomes.names[0]
    text = f"llm,server,usd_per_prompt\n{name},slow,0.9\n{name},fast,0.9\n"
    dear = table(text, {"money": {"worth_of_correct": 1.0}, "energy": None}, "tiny_gate")
    result = mo.solve(dear)
    values = np.where(dear.may_serve, dear.expert_values, 0)[dear.members()]
    assert result.objective == pytest.approx(np.maximum(values.max(axis=1), 0).mean())
    assert result.plan.money.per_prompt < 0.1 < mo.solve(load("tiny_gate")).objective
    assert dear.check(result.plan) == []


@pytest.mark.slow
def test_reports_tell_money(table: Any, load: Any) -> None:
    """Evaluations, grids and figures tell what every policy costs on the test part."""
    names = load("tiny_gate").outcomes.names
    rows = [f"{name},{s},0.0{k + 1}\n" for k, name in enumerate(names) for s in ("slow", "fast")]
    text = "".join(("llm,server,usd_per_prompt\n", *rows))
    money = {"limit_per_prompt": 0.05}
    priced = table(text, {"money": money, "energy": None}, "tiny_gate")
    done = evaluate_on_test(priced, mo.solve, replicates=20)
    plan = mo.solve(priced).plan
    answer = routed(priced, priced.split.members("test"), np.flatnonzero(mo.solve(priced).x))
    assert done.row("moe2").money_per_prompt.mean == pytest.approx(priced.prices[answer].mean())
    assert "are those of lab.csv" in done.summary()
    cheap = done.row("cost-aware routing")
    assert cheap.money_per_prompt.mean < done.row("moe2").money_per_prompt.mean
    assert "USD per prompt" in cheap.note
    _, grid = judged(priced, {"money_usd_per_prompt": [0.02, 0.05]})
    assert [cell.money_per_prompt <= cell.budgets[0] for cell in grid.cells] == [True, True]
    assert grid.cells[1].money_per_prompt == pytest.approx(priced.prices[answer].mean())
    assert plan.money.per_prompt <= 0.05
    figure = quality_figure(grid, against=["money_per_prompt"])
    assert figure.axes[0].get_xlabel() == "used: money per prompt"


def test_an_api_is_a_server_without_memory(table: Any) -> None:
    """LLMs behind an API take no memory, no joules and no network of ours, and cost money."""
    tiny = with_cloud(table)
    beta = next(k for k, e in enumerate(tiny.experts) if e.server == "cloud")
    expert = tiny.experts[beta]
    assert (expert.label, expert.memory_gib) == ("beta api @ cloud", 0)
    assert tiny.delay_s[:, beta].tolist() == [1.5, 1.5]
    assert (expert.energy_j_per_prompt, expert.money_per_prompt) == (0, 0.02)
    assert expert.basis == "measured; not known: joules"
    assert tiny.row_names() == ["memory_gib[slow]", "energy_j_per_prompt"]
    result = mo.solve(tiny)
    assert mo.certify(tiny, result).kind == "checked"
    assert result.plan.money.per_hour == 0.5
    assert any("not ours, not counted" in caveat for caveat in result.plan.caveats)
    assert "joules of an LLM behind an API: what is not known counts as 0" in result.plan.caveats


def test_apis_are_not_started(table: Any) -> None:
    """An export says which LLM has nothing to start, instead of a command that cannot work."""
    plan = mo.solve(with_cloud(table, fixed={"alpha": "slow", "gamma": "slow"})).plan
    with pytest.raises(mo.InputError, match="beta is behind the API cloud"):
        deployments([vars_of(e) for e in plan.experts], Serving(), {})


def vars_of(expert: Any) -> dict[str, Any]:
    """Return a deployed expert as a stored plan has it."""
    return {name: getattr(expert, name) for name in ("llm", "precision", "server")}


def test_apis_alone(table: Any) -> None:
    """A file of APIs needs neither devices nor precisions; money is what is limited."""
    text = "llm,server,usd_per_million_output_tokens\nalpha,cloud,1000\ngamma,cloud,50000\n"
    more = {"servers": [CLOUD], "precisions": [], "energy": None, "delay.limit_s": None}
    for limit, who in ((0.5, {"alpha"}), (2.0, {"alpha", "gamma"})):
        cloud = table(text, {"money": {"limit_per_prompt": limit}} | more)
        assert {e.llm for e in mo.solve(cloud).plan.experts} <= who
    assert any("seconds" in e.basis for e in cloud.experts)


def test_llms_of_unknown_size_are_offered_behind_an_api(table: Any, load: Any) -> None:
    """Weights that nobody has may still be bought; our own servers do not hold them."""
    names = load("tiny_gate").outcomes.names
    text = "llm,server,usd_per_prompt,s_per_prompt\n" + "".join(
        f"{name},cloud,{k + 1},1\n" for k, name in enumerate(names)
    )
    more = {"servers": [CLOUD], "precisions": [], "energy": None, "money": {}}
    cloud = table(text, more, "tiny_gate")
    closed = cloud.outcomes
    sheet = [*map(str, closed.names)]
    assert sorted(e.llm for e in cloud.experts) == sorted(sheet)
    delay_s, joules, money = cloud.realised(cloud.split.members("test"), np.array([0]))
    assert (joules[:, 0] == 0).all() and (money[:, 0] > 0).all() and (delay_s[:, 0] == 1).all()


#: (text, overrides, message)
FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("llm,server,usd_per_prompt,eur_per_hour\nalpha,slow,1,1\n", {},
     "lab.csv:1: prices in eur and usd: one currency, please"),
    ("llm,server,eur_per_prompt\nalpha,slow,1\n", {},
     "lab.csv:1: prices are in eur, money.currency is usd"),
    ("llm,server,price\nalpha,slow,1\n", {},
     "lab.csv:1: column 'price': its unit is missing: did you mean 'usd_per_prompt'?"),
    ("llm,server,usd_per_prompt\nalpha,slow,-1\n", {},
     "lab.csv:2: usd_per_prompt: -1 is outside 0..inf"),
    (PRICES, {"money": {"counts": "largest"}}, "money: largest: needed with counts 'largest'"),
    (PRICES, {"money": {"currency": "xyz"}}, "money.currency: expected 'usd', 'eur'"),
    (PRICES, {"money": None, "servers.0.money_per_hour": 1},
     "servers.0.money_per_hour: needs `money`"),
    (PRICES, {"money": {"worth_of_correct": 1}, "objective": "masked_softmax"},
     "money.worth_of_correct: does not go with objective 'masked_softmax'"),
    (PRICES, {"money": {"limit_per_hour": 1}, "servers.0.money_per_hour": 1,
              "sets": "per_category"},
     "sets: 'per_category' does not go with money.limit_per_hour"),
    (PRICES, {"servers": [CLOUD | {"device": "slow-box"}]},
     "servers.0.device: an API has none: its seconds are those of the measured table"),
    (PRICES, {"servers": [CLOUD | {"memory_gib": 4}]}, "servers.0: memory_gib: an API has none"),
    (PRICES, {"servers": [CLOUD], "measured": None},
     "servers.0.llms: needed: which LLMs does the API offer?"),
    (PRICES, {"precisions": []}, "precisions: required key is missing, or names no weight format"),
    (API.replace("1.5", ""), {"servers": [CLOUD], "energy": None},
     "measured: beta @ cloud: no seconds (no s_per_prompt), and nobody can predict it"),
    ("llm,server,s_per_prompt\nbeta,cloud,1\n", {"servers": [CLOUD], "energy": None},
     "measured: beta @ cloud: no price (no usd_per_prompt), and nobody can predict it"),
    ("llm,server,precision,seconds,usd_per_prompt\nbeta,cloud,int8,1,1\n", {"servers": [CLOUD]},
     "lab.csv:2: beta int8 @ cloud: the configuration does not let it run there"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "overrides", "message"), FAULTS)
def test_faults(text: str, overrides: dict[str, Any], message: str, table: Any) -> None:
    """Prices and APIs that make no sense are refused with the key or the line."""
    with pytest.raises(mo.InputError) as caught:
        table(text, {"money": {}} | overrides)
    assert message in str(caught.value)
