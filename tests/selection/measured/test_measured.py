"""Measured tables are used as they stand, and plans say what of their figures is predicted."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import moe2opt as mo

#: Everything about alpha, the rates of beta, and gamma on the slow server for code alone.
LAB = """\
llm,server,precision,category,s_per_prompt,decode_tokens_per_s,prefill_tokens_per_s,j_per_prompt
alpha,slow,int8,,3,,,30
alpha,fast,int8,,0.5,,,45.50
beta,slow,int8,,,8,100,
gamma,slow,int8,code,7.25,,,70
"""


def place(instance: Any, llm: str, server: str) -> int:
    """Return the index of an expert."""
    found = [k for k, e in enumerate(instance.experts) if (e.llm, e.server) == (llm, server)]
    return found[0]


def network_s(instance: Any) -> float:
    """Return the seconds that 50 tokens up and 20 down take at 1 Gbit/s."""
    return 70 * 32 / 1e9


def test_figures_are_used_without_a_fit(table: Any) -> None:
    """Seconds and joules are those of the table; the network's time is added."""
    tiny = table(LAB)
    alpha, beta = place(tiny, "alpha", "slow"), place(tiny, "beta", "slow")
    assert tiny.delay_s[:, alpha] == pytest.approx(3 + network_s(tiny))
    assert tiny.energy_j[:, alpha].tolist() == [30, 30]
    # 50 tokens at 100 per second, and 20 at 8 per second.
    assert tiny.delay_s[:, beta] == pytest.approx(0.5 + 2.5 + network_s(tiny))
    assert tiny.experts[place(tiny, "alpha", "fast")].energy_j_per_prompt == 45.5


def test_missing_cells_are_predicted_and_marked(table: Any, load: Any) -> None:
    """What the table does not say is what the profiles say, and every expert tells which it is."""
    tiny, plain = table(LAB), load("tiny")
    bases = {f"{e.llm} {e.server}": e.basis for e in tiny.experts}
    assert bases == {
        "alpha slow": "measured",
        "alpha fast": "measured",
        "beta slow": "predicted: joules",
        "beta fast": "predicted",
        "gamma slow": "predicted: seconds in prose, joules in prose",
        "gamma fast": "predicted",
    }
    gamma, beta = place(tiny, "gamma", "slow"), place(tiny, "beta", "slow")
    assert tiny.delay_s[0, gamma] == pytest.approx(7.25 + network_s(tiny))
    assert tiny.delay_s[1, gamma] == plain.delay_s[1, gamma]
    assert tiny.energy_j[:, beta].tolist() == plain.energy_j[:, beta].tolist()
    words = "lab.csv: seconds and joules of 2 of 6 experts are measured; 2 partly, 2 not"
    assert any(note.startswith(words) for note in tiny.notes)


def test_the_plan_shows_every_row_as_typed(table: Any) -> None:
    """The plan holds the table letter for letter, in JSON, on the page and in words."""
    tiny = table(LAB)
    plan = mo.solve(tiny).plan
    lines = [",".join(plan.measured.columns), *(",".join(row) for row in plan.measured.rows)]
    assert lines == LAB.splitlines()
    again = type(plan).from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again.measured == plan.measured
    assert tiny.check(again) == []
    assert "alpha,fast,int8,,0.5,,,45.50" in plan.summary()
    shown = [t for t in plan.view().tables if t.title.startswith("lab.csv, as typed (4 of 4")]
    assert [row[:-1] for row in shown[0].rows] == list(plan.measured.rows)
    assert plan.measured.basis == tuple(
        tiny.experts[place(tiny, e.llm, e.server)].basis for e in plan.experts
    )


def test_a_plan_with_another_table_is_refused(table: Any) -> None:
    """A plan that tells other measurements than the instance has is found out."""
    plan = mo.solve(table(LAB)).plan
    other = table(LAB.replace("45.50", "45.5"))
    assert "plan: measured: not the table of the instance" in other.check(plan)


def test_a_server_goes_before_its_device(table: Any) -> None:
    """A row about a device holds for all of its servers; one about a server goes before it."""
    text = (
        "llm,server,device,precision,seconds,joules\n"
        "alpha,,slow-box,int8,4,40\n"
        "alpha,slow-2,,int8,5,50\n"
    )
    tiny = table(text, {"servers.0.count": 2})
    joules = {e.server: e.energy_j_per_prompt for e in tiny.experts if e.llm == "alpha"}
    assert (joules["slow-1"], joules["slow-2"]) == (40, 50)


def test_units_are_part_of_the_names(table: Any) -> None:
    """Milliseconds, watt-hours, and seconds per token come to the same as seconds and joules."""
    row = "alpha,slow,int8"
    plain = table(f"llm,server,precision,s_per_prompt,j_per_prompt\n{row},3,36\n")
    for names, cells in (
        ("ms_per_prompt,wh_per_prompt", "3000,0.01"),
        ("s_per_output_token,s_per_prompt_token,joules_per_prompt", "0.1,0.02,36"),
        ("ms_per_output_token,prefill_tokens_per_s,joules", "100,50,36"),
        ("seconds_per_prompt,j_per_output_token,j_per_prompt_token", "3,1.3,0.2"),
    ):
        other = table(f"llm,server,precision,{names}\n{row},{cells}\n")
        assert other.delay_s[:, 0] == pytest.approx(plain.delay_s[:, 0])
        assert other.energy_j[:, 0] == pytest.approx(plain.energy_j[:, 0])


def test_measured_lengths_go_before_those_of_the_outcomes(table: Any) -> None:
    """Answers of 40 tokens instead of 20 take twice the time of decoding."""
    text = "llm,server,precision,tokens,prompt_tokens,decode_tokens_per_s,prefill_tokens_per_s\n"
    tiny = table(f"{text}alpha,slow,int8,40,10,10,100\n")
    assert tiny.delay_s[:, 0] == pytest.approx(4 + 0.1 + 50 * 32 / 1e9)


def test_seconds_may_include_the_network(table: Any) -> None:
    """With `network: included` the seconds of whole answers are those of the user."""
    section = {"measured": {"file": "lab.csv", "network": "included"}, "delay.gate_s": 0.25}
    tiny = table(LAB, section)
    assert tiny.delay_s[:, place(tiny, "alpha", "slow")].tolist() == [3.25, 3.25]
    beta = place(tiny, "beta", "slow")  # rates are the server's own
    assert tiny.delay_s[:, beta] == pytest.approx(3.25 + network_s(tiny))


def test_unknown_devices_need_no_profile(table: Any) -> None:
    """A device that no profile knows is fine where everything about it is measured."""
    seconds = {"alpha": 3, "beta": 6, "gamma": 9}
    rows = [f"{llm},my phone,int8,{s},{10 * s}\n" for llm, s in seconds.items()]
    text = "".join(("llm,device,precision,seconds,joules\n", *rows))
    own = {"servers.0.device": "my phone", "servers.0.memory_gib": 6}
    tiny = table(text, own)
    assert tiny.hosts[0].power_scope == "as measured"
    assert mo.solve(tiny).status == "OPTIMAL"
    with pytest.raises(mo.InputError, match=r"gamma int8 @ slow: a figure is missing, and 'my ph"):
        table(text.replace(rows[-1], ""), own)


def test_robust_budgets_leave_measurements_alone(table: Any) -> None:
    """Quantiles are those of predictions: what was measured counts as it stands."""
    tiny, robust = table(LAB), table(LAB, {"robust.quantile": 0.9})
    alpha, fast = place(tiny, "alpha", "slow"), place(tiny, "gamma", "fast")
    assert robust.energy_j[:, alpha].tolist() == [30, 30]
    assert (robust.energy_j[:, fast] >= tiny.energy_j[:, fast]).all()
    assert any("measured figures count as they stand" in note for note in robust.notes)


def test_rows_of_prompts(table: Any, load: Any) -> None:
    """Means over prompts that were learnt on count in the plan, the prompt's own row in reports."""
    outcomes = load("tiny_gate").outcomes
    rows = [
        f"{llm},slow,{prompt},{k % 7},{k % 5}"
        for llm in outcomes.names[:1]
        for k, prompt in enumerate(outcomes.prompts)
    ]
    own = table("\n".join(["llm,server,prompt,seconds,joules", *rows]) + "\n", name="tiny_gate")
    first = next(k for k, e in enumerate(own.experts) if e.llm == own.outcomes.names[0])
    learn = own.split.members("train", "validation")
    for k, category in enumerate(own.categories):
        mine = learn[own.outcomes.category[learn] == category]
        assert own.energy_j[k, first] == pytest.approx(np.mean(mine % 5))
    test = own.split.members("test")
    delay_s, joules, _ = own.realised(test, np.array([first]))
    assert joules[:, first].tolist() == (test % 5).tolist()
    lengths = own.outcomes.prompt_tokens[test] + own.pool.filled_tokens(own.split)[test, 0]
    assert delay_s[:, first] == pytest.approx(test % 7 + lengths * 32 / 1e9)
    plan = own.decode(np.eye(len(own.experts), dtype=np.int64)[first])
    assert plan.measured.count == len(rows)
    assert [",".join(row) for row in plan.measured.rows] == rows


def test_quantiles_are_those_of_measured_prompts(table: Any, load: Any) -> None:
    """A quantile of delays is taken over the measured seconds of the prompts of a category."""
    plain = load("tiny_gate")
    names = plain.outcomes.prompts
    llm = plain.experts[0].llm
    rows = "".join(f"{llm},slow,{name},{k % 10}\n" for k, name in enumerate(names))
    own = table(
        f"llm,server,prompt,s_per_prompt\n{rows}",
        {"delay": {"limit_s": 30, "statistic": "quantile", "level": 0.9, "gate_s": 0}},
        "tiny_gate",
    )
    learn = own.split.members("train", "validation")
    mine = learn[own.outcomes.category[learn] == own.categories[0]]
    wanted = np.sort(mine % 10)[int(np.ceil(0.9 * len(mine))) - 1]
    assert own.delay_s[0, 0] == pytest.approx(wanted, abs=1e-3)
