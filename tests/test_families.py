"""The three questions for other systems are asked and answered in the words of their design."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from moe2opt.cli.app import app

LEVELS = """\
schema_version: 1
problem: levels
name: llama7b_blocks
table: layers.csv
group: layer
option: blocks
value: {column: error, sense: min, weights: sensitivity.csv}
budgets: {mb_per_token: 380, mflop_per_token: 380}
baselines: [uniform, greedy, plan: w_shape.csv]
"""
#: Errors of three layers with 2, 4 and 8 blocks of 50 MB and 50 MFLOP per token, and what a layer
#: weighs.
ERRORS = {"0": (9.0, 3.0, 0.0), "1": (5.0, 2.0, 0.0), "2": (6.0, 4.0, 0.0)}
WEIGHTS = {"0": 1.0, "1": 3.0, "2": 0.5}
LEVELS_TABLES = {
    "layers": "layer,blocks,error,mb_per_token,mflop_per_token,error_se\n"
    + "".join(
        f"{layer},{blocks},{error},{25 * blocks},{25 * blocks},0.5\n"
        for layer, errors in ERRORS.items()
        for blocks, error in zip((2, 4, 8), errors, strict=True)
    ),
    "sensitivity": "layer,weight\n" + "".join(f"{k},{w}\n" for k, w in WEIGHTS.items()),
    "w_shape": "layer,blocks\n0,8\n1,2\n2,4\n",
}

PORTFOLIO = """\
schema_version: 1
problem: portfolio
name: detectors_for_fleet
table: latency.csv
class: {column: device, weights: fleet.csv}
candidate: variant
value: map50_95
where: {latency_ms: 5.0, memory_mb: 512}
costs: {variants: 1, bundle_mb: size.csv}
budgets: {variants: 2, bundle_mb: 120}
every_class_served: true
"""
PORTFOLIO_TABLES = {
    "latency": "device,variant,map50_95,latency_ms,memory_mb\n"
    "phone,s,30,2,100\nphone,m,35,4,300\nphone,l,40,5,600\n"
    "car,s,32,1,100\ncar,m,36,2,300\ncar,l,44,3,500\nwatch,s,28,5,90\nwatch,m,33,9,300\n",
    "fleet": "device,weight\nphone,6\ncar,3\nwatch,1\n",
    "size": "variant,bundle_mb\ns,20\nm,60\nl,110\n",
}

ROUNDS = """\
schema_version: 1
problem: rounds
name: sflam_round
objective: {objective}
radio: {{bandwidth_hz: 0.72e6, block_hz: 180.0e3, noise_dbm_hz: -174, power_w: [0.05, 0.2]}}
devices: devices.csv
work: {{kind: quantised_upload, gflop: 100, values: 1.0e6, received_values: 5.0e5, bits: [2, 4]}}
limits: {{quantisation_error: 0.00444444445}}
"""
DEVICES = {
    "devices": "name,flops,distance_km,memory_mb,pj_per_flop,energy_queue\n"
    "a,3e11,0.1,512,20,1\nb,6e11,0.3,512,10,1\n"
}


def answered(folder: Path, yaml: str, tables: dict[str, str]) -> dict[str, Any]:
    """Return what `solve --json` prints about a configuration with tables."""
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    (folder / "c.yaml").write_text(yaml, encoding="utf-8")
    run = CliRunner().invoke(app, ["solve", str(folder / "c.yaml"), "--json", "--quiet"])
    assert run.exit_code == 0, run.output
    content: dict[str, Any] = json.loads(run.stdout)
    wanted = "status limit sense objective bound gap plan certificate stats provenance"
    assert content.keys() >= set(wanted.split())
    assert (content["status"], content["limit"]) == ("OPTIMAL", None)
    assert (content["certificate"]["kind"], content["certificate"]["checked"]) == ("checked", True)
    assert content["bound"] == pytest.approx(content["objective"], rel=1e-9)
    return content


def test_levels_as_sketched(tmp_path: Path) -> None:
    """Choices by group, the weighted sum in its own sense, three baselines beside it."""
    content = answered(tmp_path, LEVELS, LEVELS_TABLES)
    assert content["plan"]["choices"] == {"0": "4", "1": "8", "2": "2"}
    assert (content["sense"], content["objective"]) == ("minimize", 3.0 + 0.0 + 0.5 * 6.0)
    beside = {rival["name"]: rival for rival in content["plan"]["baselines"]}
    assert list(beside) == ["uniform (4)", "greedy", "w_shape"]
    assert beside["uniform (4)"]["value"] == 3.0 + 3 * 2.0 + 0.5 * 4.0
    assert beside["w_shape"]["value"] == 3 * 5.0 + 0.5 * 4.0
    # Layer 0 is the same in both; of the others both values are uncertain.
    error = math.hypot(3 * 0.5, 3 * 0.5, 0.5 * 0.5, 0.5 * 0.5)
    assert beside["uniform (4)"]["standard_error"] == pytest.approx(error)


def test_portfolio_as_sketched(tmp_path: Path) -> None:
    """What is kept, whom each serves, and the mean over normalised weights."""
    content = answered(tmp_path, PORTFOLIO, PORTFOLIO_TABLES)
    assert content["plan"]["kept"] == ["s", "m"]
    assert content["plan"]["serves"] == {"phone": "m", "car": "m", "watch": "s"}
    assert content["sense"] == "maximize"
    assert content["objective"] == pytest.approx(0.6 * 35 + 0.3 * 36 + 0.1 * 28)
    assert [rival["name"] for rival in content["plan"]["baselines"]] == ["greedy", "sorted"]


def test_a_class_that_nothing_serves_counts_nothing(tmp_path: Path) -> None:
    """Without `every_class_served` the mean divides by all weights, also of the unserved."""
    yaml = PORTFOLIO.replace("every_class_served: true\n", "").replace("variants: 2", "variants: 1")
    content = answered(tmp_path, yaml, PORTFOLIO_TABLES)
    assert content["plan"]["serves"] == {"phone": "m", "car": "m"}
    assert content["objective"] == pytest.approx(0.6 * 35 + 0.3 * 36)


@pytest.mark.parametrize(
    ("objective", "value"),
    [
        ("{time: 1.0, energy: 0.5}", lambda plan: plan["time_s"] + 0.5 * plan["energy_j"]),
        ("{time: 1}", lambda plan: plan["time_s"]),
        ("{energy: 1, deadline_s: 4.0}", lambda plan: plan["energy_j"]),
    ],
)
def test_rounds_as_sketched(objective: str, value: Any, tmp_path: Path) -> None:
    """Time, energy or their weighted sum, and one assignment per device, by the formulas."""
    content = answered(tmp_path, ROUNDS.format(objective=objective), DEVICES)
    plan = content["plan"]
    assert content["sense"] == "minimize"
    assert content["objective"] == pytest.approx(value(plan), rel=1e-12)
    assert [own["device"] for own in plan["assignments"]] == ["a", "b"]
    seconds, joules = [], 0.0
    for own, speed, km, pj in zip(
        plan["assignments"], (3e11, 6e11), (0.1, 0.3), (20, 10), strict=True
    ):
        width = own["resource_blocks"] * 180e3
        gain = 10 ** (-(128.1 + 37.6 * math.log10(km)) / 10)
        noise = 10 ** ((-174 - 30) / 10) * width
        upload = 1e6 * own["bits"] / (width * math.log2(1 + own["power_w"] * gain / noise))
        assert own["upload_s"] == pytest.approx(1.5 * upload)
        assert own["compute_s"] == pytest.approx(1e11 / speed)
        seconds.append(own["compute_s"] + own["upload_s"])
        joules += 1e11 * pj * 1e-12 + own["power_w"] * upload
    assert plan["time_s"] == pytest.approx(max(seconds))
    assert plan["energy_j"] == pytest.approx(joules)
    assert sum(own["resource_blocks"] for own in plan["assignments"]) <= 4
    assert sum(0.5 * (2 ** own["bits"] - 1) ** -2 for own in plan["assignments"]) <= 0.0044445


def test_flops_and_gflop_per_s_are_the_same_speed(tmp_path: Path) -> None:
    """Speeds may be given in either unit, with the same answer."""
    yaml = ROUNDS.format(objective="{time: 1}")
    giga = DEVICES["devices"].replace("flops", "gflop_per_s").replace("e11", "00")
    both = [answered(tmp_path, yaml, {"devices": text}) for text in (DEVICES["devices"], giga)]
    assert both[0]["plan"]["assignments"] == both[1]["plan"]["assignments"]
