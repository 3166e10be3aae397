"""A gate in the replay of days: what it knows, how it routes, and the key that turns it on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import moe2opt as mo
from moe2opt.cli import app
from moe2opt.replay.days import Day, DaysSettings, compare_days, read_days
from moe2opt.replay.days.gating import gate_of, gated_values
from moe2opt.replay.days.policies import GATED, POLICIES, fresh, learn
from moe2opt.replay.days.world import World
from moe2opt.result import InputError
from moe2opt.selection.question import GatedInstance

ON = ("routing.days=gate",)


@pytest.fixture(scope="module")
def gated() -> GatedInstance:
    """Return the built-in selection with a gate for its days."""
    instance = mo.load("mmlu_pro_days", None, ON)
    assert isinstance(instance, GatedInstance)
    return instance


@pytest.fixture(scope="module")
def days(gated: GatedInstance, checkout: Path) -> tuple[Day, ...]:
    """Return the first days of its stream."""
    path = checkout / "problems" / "days" / "mmlu_pro_days.csv"
    return read_days(path, [llm.name for llm in gated.tables.llms])[:3]


def test_the_gate_is_compared_where_the_key_asks_for_it(
    gated: GatedInstance, days: tuple[Day, ...]
) -> None:
    """With the key the policy ``gated`` is one of the usual ones, without it is refused by name."""
    found = compare_days(gated, days[:2], against=None)
    assert list(found.records) == [*POLICIES, GATED]
    plain = mo.load("mmlu_pro_days")
    assert list(compare_days(plain, days[:1], against=None).records) == list(POLICIES)
    with pytest.raises(InputError, match=r"policy 'gated': needs routing\.days: gate"):
        compare_days(plain, days[:1], ["gated"])


def test_a_gate_learns_only_what_its_policy_has_heard(
    gated: GatedInstance, days: tuple[Day, ...]
) -> None:
    """Outcomes of other prompts and LLMs change nothing; an outcome that is heard does."""
    world = World(gated, days, DaysSettings())
    policy = fresh(GATED, world)
    assert policy.heard[world.parts[0]].any()
    assert not policy.heard[np.concatenate(world.parts[1:])].any()
    before = gate_of(policy, world, 0)
    hidden = np.where(policy.heard, gated.pool.score, 1.0 - gated.pool.score)
    world.outcomes.score[:], kept = hidden, world.outcomes.score.copy()
    try:
        again = gate_of(policy, world, 0)
    finally:
        world.outcomes.score[:] = kept
    assert again.llms == before.llms
    assert (again.network.weight == before.network.weight).all()
    prompts, column = world.parts[1], int(np.flatnonzero(policy.heard.any(axis=0))[0])
    learn(policy, world, prompts, np.full(len(prompts), column))
    after = gate_of(policy, world, 0)
    assert not np.array_equal(after.network.bias, before.network.bias)


def test_values_of_single_prompts_respect_what_may_serve(
    gated: GatedInstance, days: tuple[Day, ...]
) -> None:
    """Where an expert is barred it is worth nothing; elsewhere a chance within 0..1."""
    world = World(gated, days, DaysSettings())
    stage = world.stages[0]
    stage.instance.barred[0, 0], old = True, stage.instance.barred[0, 0]
    try:
        prompts = np.arange(len(world.outcomes.prompts))
        values = gated_values(fresh(GATED, world), world, stage, prompts, 0)
    finally:
        stage.instance.barred[0, 0] = old
    category = world.outcomes.category_of
    assert (values[category == 0, 0] == 0).all()
    assert (values[category != 0, 0] > 0).all()
    assert values.max() <= 1


def test_a_gate_that_reads_prompts_beats_categories(
    tmp_path: Path, days: tuple[Day, ...], gated: GatedInstance
) -> None:
    """Where a prompt's vector says who is right, a gate finds what categories cannot."""
    rng, score = np.random.default_rng(0), gated.outcomes.score
    vectors = np.nan_to_num(score) + 0.05 * rng.standard_normal(score.shape)
    np.savez(tmp_path / "vectors.npz", emb=vectors.astype(np.float32))
    asked = (*ON, f"experts.features={tmp_path / 'vectors.npz'}")
    told: Any = mo.load("mmlu_pro_days", None, asked, allow_outside=True)
    found = compare_days(told, days, ["exact", GATED], settings=DaysSettings(feedback="all"),
                         allow_outside=True).summaries()  # fmt: skip
    assert found[GATED]["accuracy"] > found["exact"]["accuracy"] + 0.05
    assert found[GATED]["loaded_gib"] == found["exact"]["loaded_gib"]


@pytest.mark.parametrize("key", ["routing.days=category", "gate.calibration=none"])
def test_the_gate_stays_the_same_from_day_to_day(
    gated: GatedInstance, days: tuple[Day, ...], key: str
) -> None:
    """A column of the stream that would change the gate is refused with its day."""
    changed = Day(days[1].offered, days[1].come, (key,))
    with pytest.raises(InputError, match=r"day 1: gate and routing\.days: may not change"):
        compare_days(gated, [days[0], changed], ["exact"])


def test_the_key_is_validated() -> None:
    """Another word than category or gate is refused with its place."""
    with pytest.raises(InputError, match=r"routing\.days"):
        mo.load("mmlu_pro_days", None, ("routing.days=both",))
    with pytest.raises(InputError, match="routing"):
        mo.load("mmlu_pro_edge", None, ON)


def test_the_verb_shows_the_gate(tmp_path: Path) -> None:
    """``moe2opt replay --set routing.days=gate`` prints a row of the gate."""
    short = tmp_path / "short.csv"
    short.write_text("day\n0\n1\n")
    ran = CliRunner().invoke(
        app,
        ["replay", "mmlu_pro_days", str(short), "--policy", "exact,gated", "--set", *ON, "--quiet"],
    )
    assert ran.exit_code == 0, ran.stderr
    assert "gated" in ran.stdout
