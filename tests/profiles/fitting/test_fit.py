"""The calibrated model: what it recovers, how well it predicts, and that it says so."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe2opt.profiles import Profiles, builtin_profiles, read_profiles
from moe2opt.profiles.fitting.calibrate import calibrate, samples_of
from moe2opt.profiles.fitting.fit import from_dict, scopes_of, to_dict
from moe2opt.profiles.fitting.judging import held_out
from moe2opt.profiles.fitting.leaveout import left_out
from moe2opt.profiles.fitting.robust import robust_nnls, upper_error, weighted_sum
from tests.profiles.conftest import Edit

ORIN, RTX = "Jetson AGX Orin 64GB", "RTX 4090"


@given(
    truth=st.lists(st.floats(0.1, 10), min_size=2, max_size=4),
    rows=st.integers(6, 20),
    seed=st.integers(0, 2**16),
)
def test_exact_lines_are_recovered(truth: list[float], rows: int, seed: int) -> None:
    """Noise-free data give back their coefficients, however they are weighted."""
    rng = np.random.default_rng(seed)
    columns = rng.uniform(0.1, 1.0, (rows, len(truth)))
    target = columns @ truth
    weights = rng.uniform(0.5, 1.5, rows)
    ones = np.ones(len(truth))
    found = robust_nnls(columns, target, weights, ones, 1e4 * ones, 0.05)
    assert columns @ found == pytest.approx(target, rel=1e-3)


def test_coefficients_are_not_negative() -> None:
    """Data that ask for a negative constant get none."""
    columns = np.array([[1.0, 1.0], [2.0, 1.0], [3.0, 1.0]])
    ones = np.ones(2)
    found = robust_nnls(columns, np.array([0.5, 2.0, 3.5]), np.ones(3), ones, 1e3 * ones, 0.05)
    assert (found >= 0).all()
    assert found[1] == pytest.approx(0.0, abs=1e-6)


def test_one_wrong_row_bends_little() -> None:
    """A reading that is ten times too large moves the slope by less than 3 %."""
    x = np.linspace(1, 10, 12)
    y = 2.0 * x
    y[4] *= 10
    one = np.ones(1)
    found = robust_nnls(x[:, None], y, np.ones(12), one, 100 * one, 0.05)
    assert found[0] == pytest.approx(2.0, rel=0.03)


def test_nothing_measured_leaves_the_centre() -> None:
    """Without a row, coefficients stay where they are expected."""
    centre = np.array([1.5, 0.2])
    empty = np.empty((0, 2)), np.empty(0), np.empty(0)
    assert robust_nnls(*empty, centre, np.ones(2), 0.1).tolist() == centre.tolist()


@given(st.lists(st.floats(0, 3), max_size=30), st.floats(0, 0.99), st.floats(0, 0.99))
def test_error_quantiles_grow_with_the_level(errors: list[float], a: float, b: float) -> None:
    """A higher level never has a smaller bound; level 0 is the prediction itself."""
    low, high = sorted((a, b))
    assert upper_error(errors, low) <= upper_error(errors, high)
    assert upper_error(errors, 0.0) == 0.0


def test_error_quantiles_follow_the_rank() -> None:
    """Of nine errors, the bound at 90 % is the largest one, at 50 % the fifth."""
    errors = [float(k) for k in range(1, 10)]
    assert upper_error(errors, 0.9) == 9.0
    assert upper_error(errors, 0.5) == 5.0


@given(st.integers(1, 5), st.integers(0, 100))
def test_sums_are_those_of_the_product(columns: int, seed: int) -> None:
    """Summing column by column agrees with the matrix product up to rounding."""
    rng = np.random.default_rng(seed)
    table, x = rng.random((7, columns)), rng.random(columns)
    assert weighted_sum(table, x) == pytest.approx(table @ x)


# ------------------------------------------------------------------ the stored fit


def test_the_stored_fit_is_that_of_the_tables(profiles: Profiles) -> None:
    """fit.json is what docs/studies/profile_fit.py would write, hold-out errors included."""
    path = builtin_profiles() / "fit.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert stored["tables_sha256"] == profiles.digest
    fresh = json.loads(json.dumps(to_dict(profiles.fit_again(), profiles.digest)))
    assert _close(stored, fresh), "run docs/studies/profile_fit.py"


def _close(a: object, b: object) -> bool:
    """Compare nested content, numbers within 1e-4 (libraries differ in their last digits)."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_close(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_close, a, b))
    if isinstance(a, float) and isinstance(b, (int, float)):
        return math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-9)
    return a == b


def test_a_fit_survives_its_file(profiles: Profiles) -> None:
    """What is read back predicts the same and holds the same errors."""
    again = from_dict(to_dict(profiles.fit, "x"), profiles.hardware)
    assert to_dict(again, "x") == to_dict(profiles.fit, "x")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}', '{"version": 99}'])
def test_a_broken_stored_fit_is_made_anew(edit: Edit, text: str) -> None:
    """A stored fit that cannot be used costs time, not correctness."""
    folder = edit("devices.csv", "204.8", "204.8")
    (folder / "fit.json").write_text(text, encoding="utf-8")
    again = read_profiles(folder).fit.calibration.decode[RTX]
    assert again == pytest.approx(read_profiles(builtin_profiles()).fit.calibration.decode[RTX])


def test_a_changed_row_changes_fit_and_digest(profiles: Profiles, edit: Edit) -> None:
    """One other figure in one row gives another digest and other coefficients."""
    changed = read_profiles(edit("runs.csv", ",5.383,", ",9.383,"))
    assert changed.digest != profiles.digest
    assert not np.array_equal(
        changed.fit.calibration.decode[ORIN], profiles.fit.calibration.decode[ORIN]
    )
    before = profiles.fit.calibration.decode["RTX 3090"]
    assert changed.fit.calibration.decode["RTX 3090"] == pytest.approx(before)


def test_a_note_changes_nothing(profiles: Profiles, edit: Edit) -> None:
    """An empty optional column is no figure: the digest stays."""
    folder = edit("devices.csv", "device,aliases", "device,aliases")
    path = folder / "devices.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].split(",")[-1] == "note"
    assert read_profiles(folder).digest == profiles.digest


# ------------------------------------------------------------------ hold-out errors


@pytest.mark.parametrize(
    ("device", "quantity", "by", "source", "limit"),
    [
        (ORIN, "decode", "model", "github:edge-inference/edgereasoning", 0.05),
        (ORIN, "decode_energy", "model", "", 0.10),
        (RTX, "decode", "source", "", 0.15),
        (ORIN, "decode", "model", "", 0.13),
        (RTX, "decode", "model", "", 0.14),
        (RTX, "decode_energy", "model", "", 0.17),
        ("Jetson Orin Nano Super 8GB", "decode", "model", "", 0.30),
    ],
)
def test_hold_out_errors(
    profiles: Profiles, device: str, quantity: str, by: str, source: str, limit: float
) -> None:
    """Runs that a fit has not seen are predicted within what the documentation states."""
    rows = [
        row
        for row in profiles.fit.errors.table
        if (row.device, row.quantity, row.by, row.source) == (device, quantity, by, source)
        and row.kind == "compiled"
    ]
    assert len(rows) == 1
    assert rows[0].mean_error <= limit


def test_the_documentation_states_the_errors(profiles: Profiles, checkout: Path) -> None:
    """The table of docs/reference/profiles.md holds the hold-out errors of the stored fit."""
    text = (checkout / "docs" / "reference" / "profiles.md").read_text(encoding="utf-8")
    found = {
        (r.device, r.quantity, r.kind, r.by, r.source): r.mean_error
        for r in profiles.fit.errors.table
    }
    edge, all_of = "github:edge-inference/edgereasoning", ""
    for start, key in (
        ("| AGX Orin, decode, BF16", (ORIN, "decode", "compiled", "model", edge)),
        ("| AGX Orin, decode, everything", (ORIN, "decode", "compiled", "model", all_of)),
        ("| AGX Orin, energy", (ORIN, "decode_energy", "compiled", "model", all_of)),
        ("| RTX 4090, decode, compiled engines | source",
         (RTX, "decode", "compiled", "source", all_of)),
        ("| RTX 4090, decode, compiled engines | model",
         (RTX, "decode", "compiled", "model", all_of)),
    ):  # fmt: skip
        line = next(line for line in text.splitlines() if line.startswith(start))
        assert f"| {100 * found[key]:.1f} % |" in line
    errors = [100 * curve.mean_error for curve in profiles.fit.offload_curves if curve.errors]
    assert f"| share | {min(errors):.1f} to {max(errors):.1f} % |" in text
    capped = [100 * curve.error for curve in profiles.fit.cap_curves]
    assert f"| cap | {min(capped):.1f} to {max(capped):.1f} % |" in text


def test_offload_hold_out(profiles: Profiles) -> None:
    """A share of experts that was left out is predicted within 7 % on average, in each series."""
    curves = [c for c in profiles.fit.offload_curves if c.errors]
    assert len(curves) == 5
    assert all(len(curve.errors) == 11 for curve in curves)
    assert max(curve.mean_error for curve in curves) <= 0.07


def test_cap_hold_out(profiles: Profiles) -> None:
    """A power cap that was left out is predicted within 1 %, and a lower cap is never faster."""
    for curve in profiles.fit.cap_curves:
        assert curve.error <= 0.01
        caps = np.linspace(curve.lowest_w, curve.highest_w, 30)
        slower = [curve.slowdown(cap) for cap in caps]
        assert slower == sorted(slower, reverse=True)
        assert min(slower) >= 1.0


def test_what_is_left_out_does_not_help_itself(profiles: Profiles) -> None:
    """The prediction of a left-out model is the same whatever its own figures were."""
    runs = [dict(run) for run in profiles.runs if run["device"] == ORIN]
    changed = [
        run | {"decode_tokens_per_s": run["decode_tokens_per_s"] * 3}
        if "14B" in run["model"] and run["decode_tokens_per_s"]
        else run
        for run in runs
    ]
    guesses = []
    for rows in (runs, changed):
        samples = samples_of(rows, profiles.hardware, profiles.formats)
        pools = profiles.fit.calibration.pools
        misses = left_out(samples, profiles.hardware, scopes_of(rows), "model", pools)["decode"]
        own = np.array(["14B" in name for name in samples["decode"].points.model])
        guesses.append(np.exp(misses[own]) * samples["decode"].values[own])
    assert guesses[0] == pytest.approx(guesses[1])


def test_scopes_have_their_own_fit(profiles: Profiles) -> None:
    """Each device's joules are those of one meter; the fits of two devices never mix."""
    scopes = profiles.fit.calibration.scopes
    assert scopes[ORIN] == "GPU rail"
    assert scopes[RTX] == "GPU board"
    assert scopes["Jetson Orin Nano Super 8GB"] == "VDD_CPU_GPU_CV rail"
    own = [run for run in profiles.runs if run["device"] == ORIN]
    alone = calibrate(
        samples_of(own, profiles.hardware, profiles.formats),
        profiles.hardware,
        scopes_of(own),
        profiles.fit.calibration.pools,
    )
    assert alone.energy[ORIN] == pytest.approx(profiles.fit.calibration.energy[ORIN], rel=1e-6)


def test_no_device_beats_its_data_sheet(profiles: Profiles) -> None:
    """Every device reads its weights at most at its peak bandwidth."""
    for device, coefficients in profiles.fit.calibration.decode.items():
        assert coefficients[0] > 1.0, device


def test_committed_coefficients_are_finite(profiles: Profiles) -> None:
    """No coefficient is negative, infinite or missing."""
    found = profiles.fit.calibration
    for table in (found.decode, found.prefill, found.energy):
        for device, values in table.items():
            assert np.isfinite(values).all(), device
            assert (values >= 0).all(), device


def test_scripts_are_documented(checkout: Path) -> None:
    """The scripts that make tables and fit say how they are run."""
    for name in ("profile_tables", "profile_fit", "profile_pages"):
        text = (checkout / "docs" / "studies" / f"{name}.py").read_text(encoding="utf-8")
        assert f"python docs/studies/{name}.py" in text


def shares(profiles: Profiles, quantity: str, by: str) -> tuple[float, float]:
    """Return the share of groups inside intervals of 90 %, and the middle factor of these."""
    held = [
        h
        for h in held_out(profiles.fit.errors, by)
        if (h.quantity, h.kind) == (quantity, "compiled")
    ]
    sizes = [h.groups for h in held]
    inside = float(np.average([h.inside for h in held], weights=sizes))
    return inside, float(np.median(np.repeat([h.factor for h in held], sizes)))


@pytest.mark.parametrize(
    ("quantity", "by", "factor"),
    [
        ("decode", "source", 1.7),
        ("decode", "model", 1.7),
        ("prefill", "source", 3.0),
        ("prefill", "model", 2.4),
        ("decode_energy", "source", 2.1),
        ("decode_energy", "model", 2.1),
        ("decode_power", "source", 2.1),
        ("prefill_energy", "source", 3.0),
        ("prefill_power", "model", 2.6),
    ],
)
def test_intervals_hold_what_was_left_out(
    profiles: Profiles, quantity: str, by: str, factor: float
) -> None:
    """Intervals of 90 % made without a source or an LLM hold about that share, and are narrow."""
    inside, middle = shares(profiles, quantity, by)
    assert inside >= 0.85
    assert middle < factor


@pytest.mark.parametrize("quantity", ["decode", "prefill"])
def test_rules_chosen_without_a_source_hold_it(
    profiles: Profiles, checkout: Path, quantity: str
) -> None:
    """The nested study is about the runs of the fit, and its rules hold what they did not see."""
    file = checkout / "docs" / "studies" / "profile_nested.json"
    rows = [r for r in json.loads(file.read_text("utf-8")) if r["quantity"] == quantity]
    held = [
        h for h in held_out(profiles.fit.errors) if (h.quantity, h.kind) == (quantity, "compiled")
    ]
    assert {(r["source"], r["groups"]) for r in rows} == {(h.name, h.groups) for h in held}
    sizes = [r["groups"] for r in rows]
    assert 0.85 < np.average([r["inside"] for r in rows], weights=sizes) < 0.97
    assert np.median(np.repeat([r["factor"] for r in rows], sizes)) < 3.2


def test_hosts_take_the_same_time_for_every_layer(profiles: Profiles) -> None:
    """Host-bound engines are met within 10 % without the LLM, and within a factor of two always."""
    for device in (RTX, "RTX 5090"):
        row = profiles.fit.errors.find(device, "decode", "host-bound", "model")
        assert row is not None
        assert row.mean_error < 0.1
    for by in ("source", "model"):
        held = [h for h in held_out(profiles.fit.errors, by) if h.quantity == "decode"]
        assert {h.inside for h in held if h.kind == "host-bound"} == {1.0}
        assert max(h.factor for h in held if h.kind == "host-bound") < 2.1


def test_a_format_that_no_host_ran_may_be_ten_times_slower(profiles: Profiles) -> None:
    """Left out with its format, a source is inside an interval that says how formats differ."""
    held = [h for h in held_out(profiles.fit.errors) if h.kind == "host-bound, new format"]
    assert {h.quantity for h in held} == {"decode", "decode_energy", "decode_power"}
    assert all(h.inside == 1 and h.factor > 9.9 for h in held)
    assert max(h.median_error for h in held) > 8


@pytest.mark.parametrize(
    ("device", "error"), [("RX 9070 XT", 0.15), ("RTX 2080 Ti", 0.15), ("Ryzen AI Max+ 395", 0.3)]
)
def test_prompts_of_cards_with_few_runs_follow_from_others(
    profiles: Profiles, device: str, error: float
) -> None:
    """A stated arithmetic rate and interface say how fast a card without runs reads prompts."""
    row = profiles.fit.errors.find(device, "prefill", "compiled", "model")
    assert row is not None
    assert row.mean_error < error


def test_the_documentation_states_the_shares(profiles: Profiles, checkout: Path) -> None:
    """The table of shares in docs/reference/profiles.md is that of the stored fit."""
    text = (checkout / "docs" / "reference" / "profiles.md").read_text(encoding="utf-8")
    for name, quantity in (
        ("| decode |", "decode"),
        ("| prefill |", "prefill"),
        ("| joules per output token", "decode_energy"),
        ("| watts while decoding", "decode_power"),
    ):
        cells = [shares(profiles, quantity, by) for by in ("source", "model")]
        told = " | ".join(f"{100 * inside:.0f} % | {factor:.2f}" for inside, factor in cells)
        assert next(x for x in text.splitlines() if x.startswith(name)).endswith(f"| {told} |")


def test_levels_beyond_the_errors_widen_an_interval(profiles: Profiles) -> None:
    """Where two sources are known, 99 % reaches further than the worst of their errors."""
    errors = profiles.fit.errors
    worst = max(
        error
        for cell in errors.cells
        if (cell.quantity, cell.kind) == ("decode", "host-bound")
        for error in cell.errors
    )
    width = errors.spread(RTX, "decode", "host-bound", extrapolated=False, level=0.99)
    assert width > worst
