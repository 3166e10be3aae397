"""Servers that name what they may hold, and LLMs that are fixed to servers."""

from __future__ import annotations

from typing import Any

import pytest

import moe2opt as mo

from .conftest import Load

#: Every LLM already sits on one server; which of them are used is the question (MoE²'s setting).
PLACED = {"servers.0.llms": ["alpha", "gamma"], "servers.1.llms": ["beta"]}


def labels(instance: Any) -> list[str]:
    """Return the experts as ``LLM server``."""
    return [f"{expert.llm} {expert.server}" for expert in instance.experts]


def test_servers_hold_what_they_name(load: Load) -> None:
    """An LLM is an expert only where a server names it; the plan keeps to that and is certified."""
    placed = load("tiny", overrides=PLACED)
    assert labels(placed) == ["alpha slow", "beta fast", "gamma slow"]
    assert "3 LLMs, each where it may run: 3 experts" in placed.describe()
    result = mo.solve(placed)
    # By hand: beta on the fast server (84 J) leaves 46 J, alpha on the slow one fits with 21 J.
    assert sorted(f"{e.llm} {e.server}" for e in result.plan.experts) == ["alpha slow", "beta fast"]
    assert mo.certify(placed, result).kind == "checked"


def test_fixing_llms_says_the_same(load: Load) -> None:
    """`fixed` is the same restriction told from the side of the LLMs."""
    fixed = load("tiny", overrides={"fixed": {"alpha": "slow", "beta": ["fast"], "gamma": "slow"}})
    assert fixed.problem().fingerprint == load("tiny", overrides=PLACED).problem().fingerprint


def test_copies_of_an_entry(load: Load) -> None:
    """The name of an entry means all copies, the name of a copy that one."""
    many = {"servers.0.count": 2, "servers.1.precisions": ["int8"]}
    names = labels(load("tiny", overrides=many | {"fixed": {"alpha": "slow", "beta": "slow-2"}}))
    assert names[:3] == ["alpha slow-1", "alpha slow-2", "beta slow-2"]


def test_an_llm_without_a_server_is_told(load: Load) -> None:
    """An LLM that no server may hold is left out with a note."""
    alone = load("tiny", overrides={"servers.0.llms": ["alpha"], "servers.1.llms": ["beta"]})
    assert "gamma is not offered: no server may hold it" in alone.notes


@pytest.mark.parametrize(("overrides", "message"), [
    ({"servers.0.llms": ["alfa"]},
     "servers.0.llms: 'alfa' is not in the tables; did you mean 'alpha'?"),
    ({"servers.0.precisions": ["int4"]},
     "servers.0.precisions: 'int4' is not on offer; did you mean 'int8'?"),
    ({"servers.0.llms": []}, "servers.0.llms: expected at least 1 item(s), got 0"),
    ({"fixed": {"gama": "slow"}},
     "fixed.gama: 'gama' is not in the tables; did you mean 'gamma'?"),
    ({"fixed": {"gamma": "slo"}}, "fixed.gamma: there is no server 'slo'; did you mean 'slow'?"),
    ({"fixed": {"gamma": ["slow", "fats"]}},
     "fixed.gamma: there is no server 'fats'; did you mean 'fast'?"),
    ({"llms.include": ["gamma"], "servers.0.llms": ["alpha"], "servers.1.llms": ["beta"]},
     "servers: no server may hold an LLM of the pool"),
])  # fmt: skip
def test_faults_name_the_key(overrides: dict[str, Any], message: str, load: Load) -> None:
    """Names that nobody knows are refused with the key and the nearest name."""
    with pytest.raises(mo.InputError) as caught:
        load("tiny", overrides=overrides)
    assert message in str(caught.value)


def test_outcomes_know_their_llms_too(load: Load) -> None:
    """With `experts` the names are those of the outcome folder."""
    with pytest.raises(mo.InputError, match=r"servers\.0\.llms: 'zeta' is not in the outcomes"):
        load("tiny_gate", overrides={"servers.0.llms": ["zeta"]})
