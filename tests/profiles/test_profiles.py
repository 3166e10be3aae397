"""Profile tables that travel with the package, and the roofline fitted to them."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe2opt.profiles import Profiles, builtin_profiles, fit_roofline, read_profiles
from moe2opt.profiles.roofline import fit_stream
from moe2opt.result import InputError

ORIN, RTX = "Jetson AGX Orin 64GB", "RTX 4090"


@pytest.fixture(scope="module")
def profiles() -> Profiles:
    """Return the built-in tables."""
    return read_profiles(builtin_profiles())


def test_rows_are_those_of_their_source(profiles: Profiles, shared_data: Path) -> None:
    """Every transcribed run carries the figures and the source of the collection it came from."""
    import pandas as pd

    origin = pd.read_csv(shared_data / "profiles" / "llm_runs.csv").set_index("run_id")
    names = {
        "params_b": "params_b",
        "decode_tokens_per_s": "decode_tok_s",
        "prefill_tokens_per_s": "prefill_tok_s",
        "power_w": "power_w",
        "time_to_first_token_ms": "ttft_ms",
    }
    for run in profiles.runs:
        row = origin.loc[run["run_id"]]
        for own, theirs in names.items():
            expected = None if math.isnan(float(row[theirs])) else float(row[theirs])
            assert run[own] == expected, (run["run_id"], own)
        for own, theirs in (("device", "device"), ("model", "model"), ("grade", "grade")):
            assert run[own] == row[theirs]
        assert run["source"] == row["source_url_or_repo_path"]


def test_no_unfit_row_is_used(profiles: Profiles) -> None:
    """Neither grade C nor speculative decoding enters the tables, and every run has a source."""
    assert {run["grade"] for run in profiles.runs} <= {"A", "B"}
    assert {run["spec_decode"] for run in profiles.runs} == {"no"}
    assert all(run["source"] and run["locator"] for run in profiles.runs)


def test_power_scopes_are_separate(profiles: Profiles) -> None:
    """Each device has the scope of its own meter."""
    scopes = {name: model.power_scope for name, model in profiles.rooflines.items()}
    assert scopes == {ORIN: "GPU rail", RTX: "GPU board"}


@pytest.mark.parametrize(
    ("device", "quantity", "points", "median", "worst"),
    [
        (ORIN, "decode of 16-bit weights", 3, 0.006, 0.007),
        (ORIN, "decode of quantised weights", 3, 0.008, 0.015),
        (ORIN, "prefill rate", 3, 0.013, 0.26),
        (ORIN, "decode power", 3, 0.039, 0.254),
        (ORIN, "prefill power", 2, 0.085, 0.092),
        (RTX, "decode of quantised weights", 12, 0.122, 0.184),
        (RTX, "prefill rate", 1, 0.0, 0.0),
        (RTX, "decode power", 2, 0.243, 0.298),
    ],
)
def test_residuals(
    profiles: Profiles, device: str, quantity: str, points: int, median: float, worst: float
) -> None:
    """The roofline reproduces the measured medians within the errors that the README states."""
    fit = next(f for f in profiles.roofline(device).fits if f.quantity == quantity)
    assert fit.points == points
    assert fit.median_error <= median
    assert fit.worst_error <= worst


def test_what_was_not_measured_says_so(profiles: Profiles) -> None:
    """The fits without a single run are marked, in the table and in words."""
    marked = {f.quantity: f.basis for f in profiles.roofline(RTX).fits if f.basis != "fitted"}
    assert marked == {
        "decode of 16-bit weights": "extrapolated from decode of quantised weights",
        "prefill power": "assumed to be 450 W",
    }
    text = profiles.roofline(RTX).account([16, 4])
    assert "16-bit weights extrapolated" in text
    assert "prefill rate from a single model" in text


def test_prediction_of_a_model_that_was_left_out(profiles: Profiles) -> None:
    """Fitted to the 1.5B and the 8B model alone, the 14B model is predicted within 5 %."""
    device = next(d for d in profiles.devices if d["device"] == ORIN)
    kept = [r for r in profiles.runs if "14B" not in r["model"]]
    measured = [
        r["decode_tokens_per_s"]
        for r in profiles.runs
        if "14B" in r["model"] and r["decode_tokens_per_s"] and r["device"] == ORIN
    ]
    rate = 1 / fit_roofline(device, kept).decode_s_per_token(14.8, 16)
    assert rate == pytest.approx(sorted(measured)[len(measured) // 2], rel=0.05)


def test_no_bandwidth_beats_the_specification(profiles: Profiles) -> None:
    """Effective bandwidth stays below the peak of the data sheet."""
    for device in profiles.devices:
        model, peak = profiles.roofline(device["device"]), device["memory_bandwidth_gb_per_s"]
        assert max(s.bandwidth_bytes_per_s for s in (model.wide, model.narrow)) < peak * 1e9


def test_quality_factors_follow_from_the_ratios(profiles: Profiles) -> None:
    """Each factor is the inverse geometric mean of the two published perplexity ratios."""
    for row in profiles.precisions:
        ratios = row["perplexity_ratio_llama_2_7b"] * row["perplexity_ratio_llama_3_8b"]
        assert row["quality_factor"] == pytest.approx(ratios**-0.5, abs=1e-6)


def test_prefill_reads_all_weights_at_least_once(profiles: Profiles) -> None:
    """A one-token prompt costs a pass over the weights; a long one costs its arithmetic."""
    model = profiles.roofline(ORIN)
    assert model.prefill_s(1, 8, 8, 16) == pytest.approx(16e9 / model.wide.bandwidth_bytes_per_s)
    assert model.prefill_s(4000, 8, 8, 16) == pytest.approx(4000 * 16e9 / model.flops_per_s)


@given(
    slope=st.floats(1e-12, 1e-9),
    constant=st.floats(0, 1e-2),
    sizes=st.lists(st.floats(1e8, 1e11), min_size=2, max_size=6, unique=True),
)
def test_exact_lines_are_recovered(slope: float, constant: float, sizes: list[float]) -> None:
    """Points on a line with a non-negative constant are predicted exactly."""
    points = [(size, slope * size + constant) for size in sizes]
    a, b = fit_stream(points)
    for size, seconds in points:
        assert a * size + b == pytest.approx(seconds, rel=1e-3)


def test_a_negative_constant_is_refused() -> None:
    """Points that ask for a negative fixed time give a line through the origin."""
    slope, constant = fit_stream([(1e9, 0.01), (2e9, 0.04)])
    assert constant == 0
    assert slope > 0


def test_scopes_are_never_pooled(profiles: Profiles) -> None:
    """Readings of two scopes for one device are an error, not an average."""
    device = next(d for d in profiles.devices if d["device"] == ORIN)
    runs = [dict(run) for run in profiles.runs]
    runs[0]["power_scope"] = "module"
    with pytest.raises(InputError, match=r"may not be pooled: GPU rail, module"):
        fit_roofline(device, runs)


@pytest.mark.parametrize(
    ("quantity", "message"),
    [
        ("decode", "no run with fits = decode for device"),
        ("prefill", "no run to fit prefill rate"),
        ("decode_power", "no run to fit decode power"),
        ("prefill_power", "neither a measured nor an assumed prefill power"),
    ],
)
def test_missing_measurements_are_named(profiles: Profiles, quantity: str, message: str) -> None:
    """A device without runs for a quantity is refused by name."""
    device = next(d for d in profiles.devices if d["device"] == ORIN)
    runs = [
        run | {"fits": " ".join(f for f in (run["fits"] or "").split() if f != quantity)}
        for run in profiles.runs
    ]
    with pytest.raises(InputError, match=message):
        fit_roofline(device, runs)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",decode decode_power,no,A,", ",speed,no,A,", "fits: 'speed' is not one of"),
        (",decode decode_power,no,A,", ",decode,no,C,", "grade C runs may not enter a fit"),
        (",decode decode_power,no,A,", ",decode,yes,A,", "speculative decoding may not enter"),
        (",5.383,", ",,", "run L0001: decode_tokens_per_s: empty, but the run is listed"),
        (",26.053,GPU rail,", ",26.053,,", "run L0001: power_scope: empty"),
    ],
)
def test_bad_runs_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    """A run that may not be used is named with the reason."""
    folder = tmp_path / "profiles"
    shutil.copytree(builtin_profiles(), folder)
    text = (folder / "runs.csv").read_text(encoding="utf-8")
    assert old in text
    (folder / "runs.csv").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_profiles(folder)


def test_unknown_device(profiles: Profiles) -> None:
    """An unknown device is refused with the list of known ones."""
    with pytest.raises(InputError, match=r"device 'RTX 4080' .*known: Jetson AGX .*, RTX 4090"):
        profiles.roofline("RTX 4080")
