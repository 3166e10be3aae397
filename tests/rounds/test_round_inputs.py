"""Bad input to ``rounds``: every one names the file, the key or the device at fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from round_files import BLOCKS, MACRO, four_layers, three_blocks, three_senders, written

import moe2opt as mo
from moe2opt.errors import InputError

GOAL = {"time": 1}
RADIO = {"bandwidth_hz": 1.8e6}
ASSIGN = {"kind": "assign_blocks", "table": "blocks.csv"}


def radio(**keys: Any) -> Callable[[Path], Path]:
    """Return a writer of the round of three blocks with other keys of the radio."""
    return lambda folder: three_blocks(folder, radio=RADIO | keys)


def objective(**keys: Any) -> Callable[[Path], Path]:
    """Return a writer of the round of three blocks with another objective."""
    return lambda folder: three_blocks(folder, objective=keys)


def device(**cells: Any) -> Callable[[Path], Path]:
    """Return a writer of the round of three blocks whose devices have other cells."""
    return lambda folder: written(
        folder,
        [own | cells for own in MACRO],
        BLOCKS,
        objective=GOAL,
        radio=RADIO,
        work=ASSIGN,
    )


def edited(name: str, old: str, new: str) -> Callable[[Path], Path]:
    """Return a writer of the round of three blocks with an edit in one table."""

    def write(folder: Path) -> Path:
        path = three_blocks(folder)
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))
        return path

    return write


def slots(content: str, **cells: Any) -> Callable[[Path], Path]:
    """Return a writer of a round with measured throughputs."""

    def write(folder: Path) -> Path:
        (folder / "rates.csv").write_text(content)
        own = RADIO | {"throughputs": {"table": "rates.csv", "slot": 1}}
        bare = [{"name": d["name"], "gflop_per_s": d["gflop_per_s"], **cells} for d in MACRO]
        return written(folder, bare, BLOCKS, objective=GOAL, radio=own, work=ASSIGN)

    return write


def work(write: Callable[..., Path], **keys: Any) -> Callable[[Path], Path]:
    """Return a writer of a round whose work has other keys."""

    def changed(folder: Path) -> Path:
        content = mo.load(write(folder)).case.config.work.model_dump(mode="json")  # type: ignore[union-attr]
        return write(folder, work={k: v for k, v in (content | keys).items() if v is not None})

    return changed


FULL = "device,slot,mbps\none,1,5\ntwo,1,5\nthree,1,5\nfour,1,5\n"

CASES: list[tuple[Callable[[Path], Path], str]] = [
    (objective(), "objective: one of time and energy needs a weight above 0"),
    (objective(time=-1), "objective.time: must be at least 0, got -1"),
    (objective(time=1, deadline_s=0), "objective.deadline_s: must be greater than 0, got 0"),
    (objective(time=1, deadline=4), "objective.deadline: unknown key; did you mean 'deadline_s'"),
    (radio(bandwidth_hz=0), "radio.bandwidth_hz: must be greater than 0"),
    (radio(bandwidth_hz=1e3), "the band holds 0 resource blocks"),
    (radio(bandwidth_hz=1e12), "resource blocks; 1 to 1000 are meant"),
    (radio(bandwidth="18 MHz"), "radio.bandwidth: unknown key; did you mean 'bandwidth_hz'"),
    (radio(bandwidth_hz="18 MHz"), "radio.bandwidth_hz: expected a number, got '18 MHz'"),
    (radio(power_w=[]), "radio.power_w: expected at least 1 item"),
    (radio(power_w=[0.2, -0.1]), "radio.power_w.1: must be greater than 0, got -0.1"),
    (radio(power_w=[0.2, 0.2]), "radio.power_w: give each value once"),
    (radio(grants=[2, 2]), "radio.grants: give each value once"),
    (radio(grants=[11, 12]), "radio.grants: the band holds 10 resource blocks"),
    (radio(noise_dbm_hz=174), "radio.noise_dbm_hz: must be at most 0, got 174"),
    (radio(path_loss="urban"), "radio.path_loss: expected 'macro' or 'device', got 'urban'"),
    (edited("devices.csv", "gflop_per_s", "speed"), "column 'gflop_per_s' is missing"),
    (edited("devices.csv", "distance_km", "distance"), "unknown column 'distance'"),
    (edited("devices.csv", "two", "one"), "devices.csv:3: name: 'one' repeats line 2"),
    (edited("devices.csv", "600", "nan"), "gflop_per_s: nan is not finite"),
    (edited("devices.csv", "600", "0"), "gflop_per_s: 0 is outside"),
    (edited("devices.csv", "0.2", "-0.2"), "distance_km: -0.2 is outside"),
    (edited("devices.csv", "0.2", "200"), "distance_km: 200 is outside 0.0001..50"),
    (edited("devices.csv", "0.2", ""), "distance_km: the cell is empty"),
    (edited("devices.csv", "0.2", "200 m"), "distance_km: '200 m' is not a number"),
    (device(gain_db=-100), "one: distance_km and gain_db: give exactly one"),
    (device(pj_per_flop=-1), "pj_per_flop: -1 is outside 0..inf"),
    (device(energy_queue=-1), "energy_queue: -1 is outside 0..inf"),
    (device(energy_limit_j=-5), "energy_limit_j: -5 is outside 0..inf"),
    (device(energy_limit_j=0), "block 1: no device can take part in time"),
    (edited("blocks.csv", "113.4", "-113.4"), "upload_mbit: -113.4 is outside"),
    (edited("blocks.csv", "upload_mbit", "upload"), "column 'upload_mbit' is missing"),
    (edited("blocks.csv", "\n2,", "\n1,"), "blocks.csv:3: block: '1' repeats line 2"),
    (slots("device,slot,mbps\none,1,5\n"), "no rate of device 'two' in slot 1"),
    (slots(FULL + "one,1,6\n"), "rates.csv:6: device, slot: 'one, 1' repeats line 2"),
    (slots(FULL.replace("two,1,5", "two,1,-5")), "mbps: -5 is outside 0..inf"),
    (slots(FULL, distance_km=0.1), "give neither, with throughputs"),
    (slots(FULL.replace(",5", ",0")), "block 1: no device can take part in time"),
    (work(four_layers, layers=0), "layers: must be at least 1, got 0"),
    (work(four_layers, micro_batches=[]), "micro_batches: expected at least 1 item"),
    (work(four_layers, layer_gflop=None), "layer_gflop: required key is missing"),
    (work(four_layers, kind="chain"), "work.kind: expected 'assign_blocks', 'pipeline' or"),
    (work(three_senders, bits=[0]), "bits.0: must be at least 1, got 0"),
    (work(three_senders, values=-1), "values: must be greater than 0, got -1"),
    (
        lambda folder: three_blocks(folder, limits={"quantisation_error": 1}),
        "limits.quantisation_error: for work of the kind quantised_upload only",
    ),
    (
        lambda folder: three_blocks(folder, work=ASSIGN | {"table": "../b.csv"}),
        "work.table: '../b.csv' leaves the folder",
    ),
]


@pytest.mark.parametrize(("write", "message"), CASES)
def test_bad_input_is_named(write: Any, message: str, tmp_path: Path) -> None:
    """Bad input raises one error that says where it is and what is meant."""
    path = write(tmp_path)
    with pytest.raises(InputError) as raised:
        mo.load(path)
    assert message in str(raised.value)


def test_more_blocks_than_devices_are_refused(tmp_path: Path) -> None:
    """A device takes one block at most, so that more blocks than devices are an error."""
    path = written(tmp_path, MACRO[:2], BLOCKS, objective=GOAL, radio=RADIO, work=ASSIGN)
    with pytest.raises(InputError, match="3 blocks for 2 devices"):
        mo.load(path)


@pytest.mark.parametrize(
    ("write", "row"),
    [
        (lambda folder: three_blocks(folder, radio={"bandwidth_hz": 400e3}), "resource_blocks"),
        (
            lambda folder: three_senders(folder, limits={"quantisation_error": 1e-9}),
            "quantisation_error",
        ),
        (lambda folder: three_blocks(folder, limits={"energy_j": 1}), "energy_j"),
        (
            lambda folder: three_blocks(folder, objective={"energy": 1, "deadline_s": 5}),
            "time_s",
        ),
    ],
    ids=["radio", "error", "energy", "deadline"],
)
def test_what_cannot_be_done_is_proven(write: Any, row: str, tmp_path: Path) -> None:
    """A radio that cannot carry the load, and other limits too low, are refuted with a proof."""
    instance: Any = mo.load(write(tmp_path))
    result = mo.solve(instance)
    assert result.status is mo.Status.INFEASIBLE
    assert mo.certify(instance, result).kind == "checked"
    conflict = result.certificate.conflict  # type: ignore[union-attr]
    assert row in [instance.row_names()[k] for k in conflict.rows]  # type: ignore[union-attr]
