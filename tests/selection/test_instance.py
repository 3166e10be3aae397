"""The selection instance: what the configuration becomes, checked by hand on the tiny one."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe2opt.canonical import FacilityProblem, Instance
from moe2opt.profiles import builtin_profiles, read_profiles
from moe2opt.result import InputError
from moe2opt.selection import SelectionConfig, SelectionInstance, build, read_tables
from moe2opt.selection.question import assemble, inside

from .conftest import Load

LABELS = ["alpha slow", "alpha fast", "beta slow", "beta fast", "gamma slow", "gamma fast"]


def vector(*names: str) -> list[int]:
    """Return the 0/1 vector that deploys experts of the tiny instance."""
    return [int(label in names) for label in LABELS]


def best(problem: FacilityProblem) -> tuple[float, list[int]] | None:
    """Return the optimum by trying every vector."""
    points = [list(x) for x in product([0, 1], repeat=problem.size) if problem.is_feasible(x)]
    return max(((problem.evaluate(x), x) for x in points), default=None)


def test_it_is_an_instance(tiny: SelectionInstance) -> None:
    """The instance satisfies the protocol, and compiles once."""
    assert isinstance(tiny, Instance)
    assert tiny.problem() is tiny.problem()
    assert tiny.describe().startswith("synthetic: 3 LLMs x 2 precisions and servers = 6 experts")


def test_tiny_by_hand(tiny: SelectionInstance) -> None:
    """Seconds, joules and memory of the tiny instance follow from its round numbers."""
    assert [f"{e.llm} {e.server}" for e in tiny.experts] == LABELS
    joules = [e.energy_j_per_prompt for e in tiny.experts]
    assert joules == pytest.approx([21, 42, 42, 84, 84, 168])
    assert tiny.delay_s[0] == pytest.approx([2.1, 0.525, 4.2, 1.05, 8.4, 2.1], abs=1e-5)
    memory = [e.memory_gib for e in tiny.experts]
    assert memory == pytest.approx(np.repeat([1, 2, 4], 2) * 1e9 / 2**30)
    assert tiny.row_names() == ["memory_gib[slow]", "memory_gib[fast]", "energy_j_per_prompt"]
    assert tiny.cover_names() == ["code: an expert within 5 s", "prose: an expert within 10 s"]
    # gamma on the slow server misses the 5 s of code and keeps the 10 s of prose.
    assert tiny.quality[:, 4].tolist() == [0, 0, 0, 0.9, 0.6, 0.7]
    assert tiny.problem().weights == pytest.approx(np.full(6, 1 / 6))


@pytest.mark.parametrize(
    ("scenario", "value", "chosen"),
    [
        (None, 4.2 / 6, ("beta slow", "gamma slow")),
        ("rich", 4.9 / 6, None),
        ("shared", 4.1 / 6, None),
        ("infeasible", None, None),
    ],
)
def test_tiny_optima(
    load: Load, scenario: str | None, value: float | None, chosen: tuple[str, ...] | None
) -> None:
    """Trying all 64 choices gives the optimum worked out by hand, in every scenario."""
    found = best(load("tiny", scenario).problem())
    assert (found is None) == (value is None)
    if found and value:
        assert found[0] == pytest.approx(value)
        assert chosen is None or found[1] == vector(*chosen)


def test_energy_of_one_expert_is_a_filter(load: Load) -> None:
    """When only the routed expert answers, each expert alone must keep the energy limit."""
    energy = {"energy.limit_j_per_prompt": 50, "energy.counts": "one"}
    instance = load("tiny", None, energy)
    assert instance.row_names()[-1] == "experts_over_energy"
    problem = instance.problem()
    assert problem.is_feasible(vector("alpha slow", "alpha fast", "beta slow"))
    assert not problem.is_feasible(vector("alpha slow", "beta fast"))


def test_deadline_everywhere_forbids_late_experts(load: Load) -> None:
    """With scope everywhere, an expert that misses one category may not be deployed."""
    instance = load("tiny", None, {"delay.scope": "everywhere"})
    assert instance.row_names()[-1] == "experts_over_deadline"
    assert instance.cover_names() == ["an expert is deployed"]
    assert instance.problem().is_feasible(vector("alpha slow", "beta slow"))
    assert not instance.problem().is_feasible(vector("beta slow", "gamma slow"))
    assert not instance.problem().is_feasible(vector())


def test_shared_server_adds_up_times(load: Load) -> None:
    """Experts that take turns on a server must keep the deadline together."""
    problem = load("tiny", "shared").problem()
    assert problem.is_feasible(vector("alpha slow", "beta fast"))
    # 2.1 s + 4.2 s exceed the 5 s of code; gamma alone is not asked for code at all.
    assert not problem.is_feasible(vector("alpha slow", "beta slow"))
    everywhere = load("tiny", "shared", {"delay.scope": "everywhere"})
    assert everywhere.problem().is_feasible(vector("alpha slow", "beta fast"))
    assert not everywhere.problem().is_feasible(vector("gamma slow", "beta fast"))


def test_impossible_deadline_is_infeasible_not_an_error(load: Load) -> None:
    """A deadline that nobody meets compiles to a problem without solutions, and names itself."""
    for scope in ("category", "everywhere"):
        limits = {"delay.limit_s": {"code": 0.01}, "delay.scope": scope}
        instance = load("tiny", None, limits)
        assert best(instance.problem()) is None
        expected = "delay_s[code]" if scope == "category" else "experts_over_deadline"
        assert instance.row_names()[-1] == expected


def test_no_budget_no_row(load: Load) -> None:
    """Without energy budget and deadlines only memory remains, and one expert is asked for."""
    limits = {"energy": None, "delay.limit_s": None, "max_experts": 2}
    instance = load("tiny", None, limits)
    assert instance.row_names() == ["memory_gib[slow]", "memory_gib[fast]", "experts"]
    assert instance.cover_names() == ["an expert is deployed"]
    assert instance.decode(np.array(vector("beta fast"))).by_category[0].deadline_s is None
    assert not instance.problem().is_feasible(vector("alpha slow", "alpha fast", "beta slow"))


def test_one_precision_per_server(load: Load) -> None:
    """Two precisions of an LLM may not share a server, but may be on different ones."""
    formats = [
        {"name": "int8"},
        {"name": "int4", "bits_per_weight": 4.0, "quality_factor": 0.9},
    ]
    instance = load("tiny", None, {"precisions": formats, "energy": None})
    assert [len(group) for group in instance.problem().groups] == [2] * 6
    labels = [expert.label for expert in instance.experts]
    both = [int(n in ("alpha int8 @ slow", "alpha int4 @ slow")) for n in labels]
    apart = [int(n in ("alpha int8 @ slow", "alpha int4 @ fast")) for n in labels]
    assert not instance.problem().is_feasible(both)
    assert instance.problem().is_feasible(apart)
    int4, int8 = labels.index("alpha int4 @ slow"), labels.index("alpha int8 @ slow")
    assert instance.quality[:, int4] == pytest.approx(0.9 * instance.quality[:, int8])
    assert "two precisions on one server" in " ".join(instance.check(instance.decode(both)))


def test_identical_servers_are_expanded(load: Load) -> None:
    """A server with a count becomes that many servers with numbered names."""
    server = {"name": "box", "device": "slow-box", "uplink_mbps": 9, "downlink_mbps": 9}
    instance = load("tiny", None, {"servers": [{**server, "count": 3, "reserve_gib": 1.5}]})
    assert [host.name for host in instance.hosts] == ["box-1", "box-2", "box-3"]
    assert {host.capacity_gib for host in instance.hosts} == {4.5}


def test_network_and_gate_add_to_the_delay(load: Load) -> None:
    """Uplink, downlink, round trip and gate lengthen every answer by their own time."""
    slow = {"name": "slow", "device": "slow-box", "uplink_mbps": 0.016, "downlink_mbps": 0.0064}
    overrides = {"servers": [{**slow, "round_trip_ms": 30}], "delay.gate_s": 0.2}
    instance = load("tiny", None, {**overrides, "energy": None})
    # 50 tokens of 32 bits at 16 kbit/s, 20 tokens at 6.4 kbit/s.
    assert instance.delay_s[0, 0] == pytest.approx(2.1 + 0.1 + 0.1 + 0.03 + 0.2)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"llms.include": ["alpho"]}, "llms.include: 'alpho' is not in the tables; did you mean"),
        ({"llms.exclude": ["delta"]}, "llms.exclude: 'delta' is not in the tables"),
        ({"llms.max_params_b": 0.5}, "no LLM of the tables is left"),
        (
            {"precisions": [{"name": "int9"}]},
            "precisions.0.name: 'int9' is not in precisions.csv; did you mean 'int8",
        ),
        (
            {"delay.limit_s": {"cod": 3}},
            "'cod' is not a category of the tables; did you mean",
        ),
        ({"servers.0.device": "abacus"}, "servers.0.device: 'abacus' is not in devices.csv"),
        ({"servers.0.reserve_gib": 6}, "servers.0.reserve_gib: reserves all of the 6 GiB"),
        ({"tables": "none"}, "is not a folder"),
        ({"tables": "../profiles"}, "tables: '../profiles' leaves the folder"),
        ({"profiles": "/etc"}, "profiles: '/etc' leaves the folder"),
    ],
)
def test_bad_configurations_are_named(load: Load, overrides: dict[str, Any], message: str) -> None:
    """Names that the data do not know, and paths that leave the folder, are refused."""
    with pytest.raises(InputError, match=message):
        load("tiny", None, overrides)


def test_repeated_names_are_refused() -> None:
    """Servers and precisions need different names, numbered copies included."""
    server = {"name": "a", "device": "d", "uplink_mbps": 1, "downlink_mbps": 1}
    data = {"problem": "selection", "name": "n", "tables": "t", "precisions": [{"name": "p"}]}
    for key, items in (("servers", [server, server]), ("precisions", [{"name": "p"}] * 2)):
        with pytest.raises(ValueError, match="appears twice"):
            SelectionConfig.model_validate({**data, "servers": [server], key: items})


def test_numbered_copies_may_not_collide(load: Load) -> None:
    """A server called a-1 beside two copies of a is refused."""
    server = {"device": "slow-box", "uplink_mbps": 1, "downlink_mbps": 1}
    servers = [{**server, "name": "a", "count": 2}, {**server, "name": "a-1"}]
    with pytest.raises(InputError, match="'a-1' appears twice"):
        load("tiny", None, {"servers": servers})


def test_links_may_not_leave_the_folder(tmp_path: Path) -> None:
    """A symbolic link that points outside is refused unless the user allows it."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    with pytest.raises(InputError, match="leaves the folder"):
        inside(tmp_path / "in", "link", "tables", allow_outside=False)
    allowed = inside(tmp_path / "in", "link", "tables", allow_outside=True)
    assert allowed == (tmp_path / "out").resolve()


def test_single_prompts_instead_of_clusters(tiny: SelectionInstance, checkout: Path) -> None:
    """Tables with one prompt per cluster build an instance in the same way."""
    folder = checkout / "problems" / "selection"
    tables = read_tables(folder / "tiny_tables")
    ones = replace(tables, prompts=np.minimum(tables.prompts, 1))
    data = {
        "problem": "selection",
        "name": "prompts",
        "tables": "-",
        "precisions": [{"name": "int8"}],
        "servers": [
            {"name": "s", "device": "slow-box", "uplink_mbps": 1, "downlink_mbps": 1},
        ],
    }
    profiles = read_profiles(folder / "tiny_profiles")
    instance = assemble(SelectionConfig.model_validate(data), ones, profiles)
    assert instance.problem().clusters == 6
    assert instance.quality[:, 0] == pytest.approx(tiny.quality[:, 0])


def test_edge_instance_size(edge: SelectionInstance, load: Load) -> None:
    """The main job offers 15 LLMs x 3 precisions x 4 servers on 200 clusters; large offers 24."""
    assert (edge.problem().clusters, edge.problem().size) == (200, 180)
    assert load("mmlu_pro_edge", "large").problem().size == 288
    assert edge.problem().weights.sum() == pytest.approx(1)
    again = load("mmlu_pro_edge")
    assert again.problem().fingerprint == edge.problem().fingerprint


def test_edge_caveats(edge: SelectionInstance) -> None:
    """The plan's reader learns about power scopes, hold-out errors, extrapolation and estimates."""
    text = "\n".join(edge.caveats)
    for words in (
        "different power scopes (Jetson AGX Orin 64GB: GPU rail; RTX 4090: GPU board)",
        "decode off by 12 % for a left-out model",
        "prefill energy never measured on RTX 4090",
        "30 of 90 experts extrapolate decoding",
        "is estimated",
    ):
        assert words in text


def test_infeasible_scenario_has_the_stated_reason(load: Load) -> None:
    """In scenario infeasible, whoever answers chemistry in 3 s needs more than 100 J alone."""
    instance = load("mmlu_pro_edge", "infeasible")
    chemistry = instance.categories.index("chemistry")
    in_time = np.flatnonzero(~instance.late[chemistry])
    assert {instance.experts[i].server for i in in_time} == {"rtx-a", "rtx-b"}
    assert min(instance.experts[i].energy_j_per_prompt for i in in_time) > 100


def test_built_in_profiles_are_the_default(checkout: Path, edge: SelectionInstance) -> None:
    """Without the key profiles, the tables that travel with the package are used."""
    config = SelectionConfig.model_validate(
        {
            "problem": "selection",
            "name": "n",
            "tables": "mmlu_pro",
            "precisions": [{"name": "q4"}],
            "servers": [
                {"name": "o", "device": "RTX 4090", "uplink_mbps": 19, "downlink_mbps": 89.6}
            ],
        }
    )
    instance = build(config, checkout / "problems" / "selection")
    assert instance.hosts[0].capacity_gib == 24
    assert instance.profiles_sha256 == read_profiles(builtin_profiles()).digest
    assert instance.hosts[0].power_scope == edge.hosts[2].power_scope
