"""Replays of placements whose experts may be merged or dropped."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moe2opt as mo
from moe2opt.placement.assignment import PRUNE, Assignment
from moe2opt.replay.compare import compare
from moe2opt.replay.compiled import ReplayModel
from moe2opt.replay.merged import MergedModel
from moe2opt.replay.policies import POLICIES, ReplaySettings
from moe2opt.replay.replay import clairvoyant, model_of, replay
from moe2opt.replay.resolve import Planned, Planner
from moe2opt.replay.traces.trace import Trace, build_trace
from moe2opt.replay.world import build_world
from moe2opt.result import InputError

#: One expert of 1 MB takes 1 ms in memory (1 GB/s) and 10 ms more from flash (0.1 GB/s).
TWO_LAYERS = """\
schema_version: 1
problem: placement
name: two_layers
model: {table: toy, models: models.csv}
precisions: [{name: one, bits_per_weight: 8, loss_nats: 0}]
tiers:
  - {name: memory, kind: gpu, capacity_gib: 0.0022, compute_gb_per_s: 1}
  - {name: flash, kind: disk}
links: [{between: [memory, flash], gb_per_s: 0.1}]
activation: {counts: counts.csv, domains: {a: 1, b: 1}}
aggregation: {keep: [1], loss_nats: 1, distances: distances.npz}
budgets: {loss_nats: 0.15}
"""

#: Input domains of the small trained model.
DOMAINS = ("code", "docs", "docstrings", "grammar", "sums")

#: Tokens of 100 that use each expert, by domain, layer and expert.
COUNTS = {"a": ((90, 10), (60, 40)), "b": ((80, 20), (90, 10))}


@pytest.fixture
def two_layers(tmp_path: Path) -> Any:
    """Return two layers of two experts, of which one layer may be merged, and room for two."""
    head = "model,n_layers,first_moe_layer,moe_step,experts,top_k,hidden,expert_ffn,"
    head += "params_per_expert_m,dense_params_b,kv_entries_per_token,source,note\n"
    (tmp_path / "models.csv").write_text(head + "toy,2,0,1,2,1,64,32,1,1e-9,1,drawn,\n", "utf-8")
    rows = [
        f"{layer},{expert},{count},{domain}\n"
        for domain, layers in COUNTS.items()
        for layer, counts in enumerate(layers)
        for expert, count in enumerate(counts)
    ]
    (tmp_path / "counts.csv").write_text("layer,expert,count,domain\n" + "".join(rows), "utf-8")
    apart = 1.0 - np.eye(2)
    np.savez(tmp_path / "distances.npz", distances=np.stack([apart, apart]))
    (tmp_path / "two.yaml").write_text(TWO_LAYERS, "utf-8")
    return mo.load(tmp_path / "two.yaml")


@pytest.mark.parametrize(
    ("policy", "tokens_per_s", "seconds", "megabytes"),
    [
        ("static", 100.0, (3.0, 4.0, 4.0), (0, 0, 0)),
        ("greedy", 100.0, (3.0, 2.0 + 2.0 / 0.98, 3.0), (0, 2, 0)),
        ("exact-mpc", 100.0, (3.0, 2.0 + 2.0 / 0.98, 3.0), (0, 2, 0)),
        ("exact-mpc", 1.0, (3.0, 4.0, 4.0), (0, 0, 0)),
        ("greedy", 1.0, (3.0, 2.0 + 2.0 / 0.98, 3.0), (0, 2, 0)),
    ],
)
def test_three_steps_by_hand(
    two_layers: Any,
    policy: str,
    tokens_per_s: float,
    seconds: tuple[float, ...],
    megabytes: tuple[int, ...],
) -> None:
    """Milliseconds per token and megabytes of three steps are those worked out by hand.

    A layer costs 1 ms, and 10 ms more for each use from flash. Merging a layer costs half of its
    less used expert's share over both domains, 0.075 and 0.125 nats, so the budget of 0.15 allows
    one of two. Memory holds two weights: the merged layer's, and the more used expert of the
    other. For the mean of the trace (a third of domain a) layer 1 is merged:
    2 + 10 (0.1 + 2 * 0.2) / 3 = 3.67 ms against 2 + 10 (0.4 + 2 * 0.1) / 3 = 4 ms.

    Step 1, domain a: 2 + 10 * 0.1 = 3 ms. Step 2, domain b: 2 + 10 * 0.2 = 4 ms; with layer 0
    merged instead it were 2 + 10 * 0.1 = 3 ms. That needs two copies (the group of layer 0, the
    expert of layer 1) of 10 ms each, which leave 98 % of the link to the uses of this step. Step 3:
    3 ms. Over 10 s at 100 tokens per second the copies cost 0.02 ms a token and save 1 ms; at one
    token per second they cost 2 ms.
    """
    settings = ReplaySettings(tokens_per_s=tokens_per_s)
    world = build_world(model_of(two_layers, settings), of_domains(1, 0, 0))
    records = replay(world, policy, settings)
    # The dense part is one parameter of two bytes: 2e-6 ms.
    found = [1e3 * record["latency_s"] for record in records]
    np.testing.assert_allclose(found, seconds, rtol=1e-6)
    assert [record["bytes"] for record in records] == pytest.approx([1e6 * n for n in megabytes])
    after = 0.075 if sum(megabytes) else 0.125
    assert [record["loss_nats"] for record in records] == pytest.approx([0.125, after, after])
    best = [1e3 * record["latency_s"] for record in clairvoyant(world, settings)]
    np.testing.assert_allclose(best, (3.0, 3.0, 3.0), rtol=1e-2)


def of_domains(*shares: float) -> Trace:
    """Return a trace of the share of domain a, one second each."""
    share = np.array(shares, dtype=float)
    columns = {"mix[a]": share, "mix[b]": 1 - share}
    return build_trace("domains", np.arange(float(len(share))), columns)


#: The small trained model with fewer forms and precisions, so that plans are quick.
SMALL = (
    "aggregation.keep=[6,10,13]",
    "aggregation.forms=[merge,prune]",
    "precisions=[{name: fp16, bits_per_weight: 16, loss_nats: 0}]",
)


@pytest.fixture(scope="module")
def tiny() -> Any:
    """Return the small trained model, some of whose experts are merged or dropped."""
    return mo.load("tinymoe", "aggregation", SMALL)


def assigned(instance: Any, model: MergedModel, planned: Planned) -> Assignment:
    """Return what a plan of the replay is in the words of a placement."""
    assert planned.places is not None
    tier, precision, form = (own.reshape(instance.shape.size) for own in planned.places)
    layer = np.arange(len(form))
    kind, standing = model.kind[layer, form[:, 0]], model.representative[layer, form[:, 0]]
    tier = np.where(kind == PRUNE, -1, tier)
    return Assignment(tier[:, :, None], precision[:, :, None], kind, standing)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("aggregation.forms=[prune]",),
        ("aggregation.forms=[distil]", "aggregation.distil_loss={6: 0.05, 13: 0.01}"),
        ("batch=4",),
        ("aggregation.groups=medians",),
    ],
)
def test_plans_are_worth_in_the_instance_what_the_replay_says(overrides: tuple[str, ...]) -> None:
    """A replay's plan costs, holds and loses what the placement's own judge says, and is best."""
    instance: Any = mo.load("tinymoe", "aggregation", (*SMALL, *overrides))
    model = MergedModel(instance, timeout_s=np.inf)
    planned = Planner(model, 1e-3).plan(model.nominal)
    plan = instance.plan_of(assigned(instance, model, planned))
    assert planned.places is not None
    latency = model.latency_s(model.nominal, model.table(model.nominal), *planned.places)
    assert latency == pytest.approx(plan.seconds_per_token, rel=1e-12)
    assert latency == pytest.approx(-planned.answer.objective, rel=1e-9)
    assert instance.check(plan) == []
    lost = model.loss_of(planned.places.precision, planned.places.form).sum()
    assert lost == pytest.approx(instance.figures(plan).loss_nats, rel=1e-9)
    found = mo.solve(instance, rel_gap=1e-3)
    assert -latency == pytest.approx(found.objective, rel=2e-3)
    assert mo.certify(planned.answer.problem, planned.answer.result()).kind == "checked"


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_budgets_hold_and_nobody_beats_the_bound(tiny: Any, policy: str) -> None:
    """Whatever memory, rates and load do, budgets hold and no step is below its bound."""
    settings = ReplaySettings(rel_gap=1e-2, link="dram-disk", period_s=5.0)
    world = build_world(model_of(tiny, settings), drawn(7, steps=20), settings.link)
    records = replay(world, policy, settings)
    assert sum(record["bytes"] for record in records) > 0
    assert len({record["loss_nats"] for record in records}) > 1 or policy in ("static", "periodic")
    assert all(not record["violations"] for record in records)
    assert max(record["loss_nats"] for record in records) <= 0.02 * (1 + 1e-9)
    best = clairvoyant(world, settings)
    for record, bound in zip(records, best, strict=True):
        assert record["latency_s"] >= bound["latency_s"] * (1 - 1e-9)


def drawn(seed: int, steps: int = 30) -> Trace:
    """Return a rate and requests that wander, and memory of which a part is lost at times."""
    rng = np.random.default_rng(seed)
    rate = 12e3 * np.exp(np.clip(np.cumsum(rng.normal(0, 0.3, steps)), -1.5, 1.5))
    share = np.where(np.arange(steps) % 15 < rng.integers(5, 11), 1.0, rng.uniform(0.75, 0.9))
    share[0] = 1.0
    weight = np.exp(np.cumsum(rng.normal(0, 1.0, (len(DOMAINS), steps)), axis=1))
    series = {"mbit_per_s[dram-disk]": rate, "memory_share[dram]": share}
    series |= {f"mix[{name}]": own for name, own in zip(DOMAINS, weight, strict=True)}
    return build_trace(f"drawn {seed}", np.arange(float(steps)), series)


def test_nothing_changes_where_nothing_changes(tiny: Any) -> None:
    """On a steady trace no policy copies a byte or changes a plan, and all cost the same."""
    steady = build_trace("steady", np.arange(6.0), {"mbit_per_s[dram-disk]": np.full(6, 12e3)})
    settings = ReplaySettings(link="dram-disk", period_s=2.0)
    world = build_world(model_of(tiny, settings), steady, settings.link)
    kept = {
        (record["bytes"], record["switched"], record["latency_s"])
        for policy in POLICIES
        for record in replay(world, policy, settings)
    }
    assert len(kept) == 1
    assert next(iter(kept))[:2] == (0.0, False)


@pytest.mark.parametrize("seed", range(3))
def test_more_memory_or_more_loss_is_no_worse(tiny: Any, seed: int) -> None:
    """The bound of every step falls or stays when memory or the loss budget grows."""
    settings = ReplaySettings(rel_gap=1e-6)
    bounds = []
    for more in ((), ("tiers.0.capacity_gib=0.0032",), ("budgets.loss_nats=0.03",)):
        instance = mo.load("tinymoe", "aggregation", (*SMALL, *more))
        world = build_world(model_of(instance, settings), drawn(seed, steps=4), "dram-disk")
        best = clairvoyant(world, settings)
        bounds.append(np.array([record["plan_latency_s"] for record in best]))
    assert (bounds[1] <= bounds[0] * (1 + 1e-5)).all()
    assert (bounds[2] <= bounds[0] * (1 + 1e-5)).all()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("aggregation.forms=[share]",), "aggregation.forms: share is not followed by a replay"),
        (("lots={tier: dram, step: 2}",), "does not follow the part lots"),
        (("prefetch={accuracy: 0.5, window_us: 9}",), "does not follow the part prefetch"),
        (("objective=loss_nats", "budgets.loss_nats=null"), "objective must be seconds_per_token"),
    ],
)
def test_what_is_not_followed_is_named(overrides: tuple[str, ...], words: str) -> None:
    """Parts, forms and budgets that a replay of groups does not follow are errors by name."""
    with pytest.raises(InputError, match=words):
        model_of(mo.load("tinymoe", "aggregation", (*SMALL, *overrides)), ReplaySettings())


def test_groups_need_their_own_model(tiny: Any) -> None:
    """The model of single experts refuses groups instead of placing them one by one."""
    with pytest.raises(InputError, match="does not follow the part aggregation"):
        ReplayModel(tiny)


@pytest.mark.slow
def test_exact_plans_are_within_a_tenth_of_clairvoyance(tiny: Any) -> None:
    """Over 20 drawn traces re-solving is less than 10 % above the bound, and beats a fixed plan."""
    settings = ReplaySettings(link="dram-disk")
    regrets = []
    for seed in range(20):
        done = compare(tiny, drawn(seed, steps=15), ["static", "exact-mpc"], settings=settings)
        regrets.append([found["regret"] for found in done.summaries().values()])
    never, always = np.mean(regrets, axis=0)
    assert 0.0 <= always < min(0.1, never)


def test_a_stopped_replay_of_groups_goes_on_where_it_was(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is stopped and continued has the steps of an undisturbed run."""
    monkeypatch.setattr(import_module("moe2opt.replay.compare"), "EVERY", 4)
    settings, trace = ReplaySettings(link="dram-disk"), drawn(3, steps=12)
    asked: dict[str, Any] = {"against": None, "settings": settings}
    whole = compare(tiny, trace, ["exact-mpc"], **asked).records["exact-mpc"]

    def stop(name: str, done: int, total: int) -> None:
        if done == 8:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        compare(tiny, trace, ["exact-mpc"], **asked, out=tmp_path, progress=stop)
    rest = compare(tiny, trace, ["exact-mpc"], **asked, out=tmp_path).records["exact-mpc"]
    assert [{**r, "solve_s": 0} for r in rest] == [{**r, "solve_s": 0} for r in whole]


@pytest.mark.slow
def test_the_verb_follows_a_built_in_problem_with_groups() -> None:
    """``moe2opt replay`` of a built-in problem with aggregation prints its table."""
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from moe2opt.cli import main; main()"),
            *("replay", "mobile_edge", "hsdpa_norway_bus_20"),
            *("--scenario", "merged", "--policy", "static,exact-mpc", "--duration", "5", "--json"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["policies"]["exact-mpc"]["steps"] == 5
    assert found["policies"]["static"]["regret"] >= 0
