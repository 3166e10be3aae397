"""Robust budgets: monotone in the quantile, exact, and priced; plans follow the profile tables."""

from __future__ import annotations

import importlib
import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import moe2opt as mo
from moe2opt.profiles import builtin_profiles
from moe2opt.selection import SelectionInstance
from moe2opt.selection.plan import SelectionPlan
from tests.selection.conftest import Load

FEW = {
    "llms.include": ["Phi-3-mini-4k-instruct", "mathstral-7B", "Meta-Llama-3_1-8B-Instruct"],
    "energy.limit_j_per_prompt": 500,
}


LEVELS = st.sampled_from([0.5, 0.6, 0.75, 0.9, 0.95, 0.99])


@cache
def robust(load: Load, quantile: float | None) -> SelectionInstance:
    """Return the built-in job with three LLMs, robust at a quantile."""
    own = {} if quantile is None else {"robust.quantile": quantile}
    return load("mmlu_pro_edge", None, FEW | own)


@given(a=LEVELS, b=LEVELS)
def test_figures_grow_with_the_quantile(load: Load, a: float, b: float) -> None:
    """Seconds and joules of every expert only grow with the quantile."""
    low, high = (robust(load, quantile) for quantile in sorted((a, b)))
    assert (low.delay_s <= high.delay_s).all()
    assert (low.energy_j <= high.energy_j).all()


def test_one_half_is_the_prediction(load: Load) -> None:
    """At quantile 0.5, or with an empty interval, robust budgets are the plain ones."""
    plain = robust(load, None).problem().fingerprint
    assert robust(load, 0.5).problem().fingerprint == plain
    own = FEW | {"robust.interval": 0.0}
    assert load("mmlu_pro_edge", None, own).problem().fingerprint == plain


def test_an_interval_is_a_quantile(load: Load) -> None:
    """The upper end of the 80 % interval is the 90 % quantile."""
    own = load("mmlu_pro_edge", None, FEW | {"robust.interval": 0.8})
    assert own.robust_quantile == pytest.approx(0.9)
    assert own.energy_j == pytest.approx(robust(load, 0.9).energy_j)


@given(bits=st.integers(0, 2**36 - 1), quantile=LEVELS)
def test_what_is_robust_is_feasible(load: Load, bits: int, quantile: float) -> None:
    """Every choice that keeps the robust budgets keeps the plain ones, and is worth no more."""
    own = robust(load, quantile)
    assert own.nominal is not None
    few = [bits >> k & 1 for k in range(36)]
    x = np.array(few) * (np.random.default_rng(bits).random(36) < 0.1)
    if own.problem().is_feasible(x):
        assert own.nominal.problem().is_feasible(x)
    assert own.problem().evaluate(x) <= own.nominal.problem().evaluate(x) + 1e-12


def test_more_robust_is_never_better(load: Load) -> None:
    """Certified optima do not rise with the quantile, and the price is what they lose."""
    values = []
    for quantile in (0.5, 0.7, 0.9, 0.97):
        own = robust(load, quantile)
        result = mo.solve(own)
        verdict = mo.certify(own, result)
        assert verdict.ok
        assert verdict.kind == "checked"
        plan = result.plan
        assert isinstance(plan, SelectionPlan)
        assert plan.robustness is not None
        values.append(result.objective)
        assert plan.robustness.nominal_objective == pytest.approx(values[0], abs=1e-9)
        assert plan.robustness.nominal_bound == pytest.approx(values[0], abs=1e-9)
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0]


def test_robust_problems_are_solved_exactly(load: Load) -> None:
    """Branch and bound and the enumeration of all subsets agree on a robust problem."""
    own = load(
        "mmlu_pro_edge",
        None,
        FEW | {"robust.quantile": 0.9, "max_experts": 3},
    )
    values = {mo.solve(own, solver=solver).objective for solver in ("brb", "polyblock", "milp")}
    assert max(values) - min(values) < 1e-9


def test_a_robust_plan_shows_its_margins(load: Load) -> None:
    """The plan names the tight budget, its use before and after, and what it would break."""
    own = robust(load, 0.9)
    plan = mo.solve(own).plan
    assert isinstance(plan, SelectionPlan)
    found = plan.robustness
    assert found is not None
    assert found.tight == ("energy_j_per_prompt",)
    margin = next(m for m in found.margins if m.tight)
    assert margin.predicted < margin.robust <= margin.limit == 500
    assert "energy_j_per_prompt" in found.broken
    text = plan.summary()
    assert "Robust: every prediction is put at its 90 % quantile." in text
    assert "price of robustness: " in text
    assert "the plan without it would break: energy_j_per_prompt" in text
    assert SelectionPlan.from_dict(plan.to_dict()) == plan


def test_plain_plans_say_nothing_about_robustness(load: Load) -> None:
    """Without the key, nothing is solved twice and nothing is shown."""
    own = robust(load, None)
    assert own.nominal is None
    plan = mo.solve(own).plan
    assert plan.robustness is None
    assert "Robust" not in plan.summary()


def test_power_modes_and_caps_reach_the_plan(load: Load) -> None:
    """A capped card is slower and draws less; an unknown mode of the Orin changes nothing."""
    plain = robust(load, None)
    capped = load("mmlu_pro_edge", None, FEW | {"servers.rtx-a.power_cap_w": 250})
    on_card = capped.on("rtx-a")
    assert (capped.delay_s[:, on_card] > plain.delay_s[:, on_card]).all()
    assert (capped.energy_j[:, on_card] < plain.energy_j[:, on_card]).all()
    assert (capped.delay_s[:, ~on_card] == plain.delay_s[:, ~on_card]).all()


# ------------------------------------------------------------------ plans follow the tables


def job(folder: Path, checkout: Path) -> Path:
    """Write the built-in job with profile tables of its own; return its file."""
    shutil.copytree(builtin_profiles(), folder / "mine")
    source = checkout / "problems" / "selection"
    shutil.copytree(source / "mmlu_pro", folder / "mmlu_pro")
    text = (source / "mmlu_pro_edge.yaml").read_text(encoding="utf-8")
    file = folder / "edge.yaml"
    file.write_text(text.replace("tables: mmlu_pro\n", "tables: mmlu_pro\nprofiles: mine\n"))
    return file


def test_a_profile_row_changes_plan_and_provenance(tmp_path: Path, checkout: Path) -> None:
    """Another figure in one run changes joules, fingerprint and provenance of the solved job."""
    file = job(tmp_path, checkout)
    before = mo.solve(mo.load(file, overrides=FEW))
    runs = tmp_path / "mine" / "runs.csv"
    text = runs.read_text(encoding="utf-8")
    for own in (",5.1925,", ",5.3113,", ",5.2102,", ",5.1309,", ",5.1857,", ",5.1226,"):
        assert own in text
        text = text.replace(own, f",{2 * float(own.strip(',')):.4f},", 1)
    runs.write_text(text, encoding="utf-8")
    after = mo.solve(mo.load(file, overrides=FEW))
    assert before.provenance["problem"]["sha256"] != after.provenance["problem"]["sha256"]
    digests = [r.provenance["profiles_sha256"] for r in (before, after)]
    assert digests[0] != digests[1]
    joules = [[e.energy_j_per_prompt for e in r.plan.experts] for r in (before, after)]
    assert joules[0] != joules[1]


def test_own_tables_join_the_built_in_ones(tmp_path: Path, checkout: Path) -> None:
    """A list of folders gives a job its own device beside the built-in ones."""
    file = job(tmp_path, checkout)
    mine = tmp_path / "mine"
    for path in mine.iterdir():
        path.unlink()
    (mine / "devices.csv").write_text(
        "device,memory_bandwidth_gb_per_s,memory_gib,power_limit_w,grade,source,commit,locator\n"
        "my-box,400,64,120,A,measured,1.0,command\n",
        encoding="utf-8",
    )
    text = file.read_text(encoding="utf-8").replace("profiles: mine", "profiles: [mine, builtin]")
    file.write_text(text.replace("device: RTX 4090", "device: my-box", 1), encoding="utf-8")
    edge = mo.load(file, overrides=FEW)
    assert {host.device for host in edge.hosts} == {"my-box", "RTX 4090", "Jetson AGX Orin 64GB"}
    notes = "\n".join(edge.caveats)
    assert "my-box: time and energy are predicted: decode never measured on my-box" in notes
    assert "power assumed to be the power limit" in notes


def test_the_price_of_robustness_is_found_in_the_time_left(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan and what its robustness costs share one time limit."""
    orchestrator = importlib.import_module("moe2opt.solve")

    limits: list[float] = []
    priced = orchestrator._priced

    def noted(
        target: object, result: object, info: object, options: object, flag: object
    ) -> object:
        limits.append(options.time_limit_s)
        return priced(target, result, info, options, flag)

    monkeypatch.setattr(orchestrator, "_priced", noted)
    result = mo.solve(robust(load, 0.9), time_limit_s=1000.0)
    assert 0 < limits[0] < 1000.0
    assert result.provenance["options"]["time_limit_s"] == 1000.0
    assert result.plan.robustness is not None


def test_the_price_of_robustness_is_rebuilt(tmp_path: Path) -> None:
    """A stored robust plan is accepted; another value or bound without robustness is rejected."""
    from moe2opt.verify import judged

    target = mo.load("mmlu_pro_edge", overrides=FEW | {"robust.quantile": 0.9})
    mo.solve(target).save(tmp_path / "result.json")
    content = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert content["plan"]["robustness"]["nominal_objective"] is not None
    found = judged(content, tmp_path, target)
    assert found.failures == ()
    price = content["plan"]["robustness"]
    bound = price["nominal_bound"]
    for change in (
        {"nominal_objective": 0.9},
        {"nominal_bound": bound * 1.01},
        {"nominal_bound": None},
        {"broken": ["x"]},
        {"nominal_x": [1] * 36},
        {"nominal_certificate": content["certificate"]},
        {"nominal_certificate": {}},
        {"nominal_certificate": price["nominal_certificate"] | {"claim": bound * 1.01}},
    ):
        own = price | change
        changed = content | {"plan": content["plan"] | {"robustness": own}}
        assert not judged(changed, tmp_path, target).ok, change


def test_a_price_without_a_proof_is_told_as_a_claim() -> None:
    """Where the solver certifies nothing, the verdict says that the nominal bound is its word."""
    from moe2opt.verify import judged

    target = mo.load("mmlu_pro_edge", overrides=FEW | {"robust.quantile": 0.9})
    result = mo.solve(target, solver="milp")
    assert result.plan.robustness.nominal_certificate is None
    found = judged(json.loads(json.dumps(result.to_dict())), Path(), target)
    assert found.failures == ()
    assert any("without robustness is a claim" in proviso for proviso in found.provisos)
