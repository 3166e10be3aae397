"""The profile tables: transcribed as printed, refused row by row, joined by device."""

from __future__ import annotations

import csv
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest

from moe2opt.profiles import BUILTIN, Profiles, builtin_profiles, read_profiles
from moe2opt.profiles.tables.tables import FILES
from moe2opt.result import InputError
from tests.profiles.conftest import Edit


def script(checkout: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a script of ``docs/studies`` that imports its neighbours."""
    folder = checkout / "docs" / "studies"
    monkeypatch.syspath_prepend(str(folder))
    spec = util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_those_of_their_sources(
    checkout: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every committed row is what the script transcribes from the collection, cell by cell."""
    source = script(checkout, "profile_tables", monkeypatch)
    for name, (columns, rows) in source.tables().items():
        with (builtin_profiles() / name).open(encoding="utf-8", newline="") as stream:
            stored = list(csv.reader(stream))
        assert stored[0] == list(columns)
        fresh = [[source.plain(row.get(column)) for column in columns] for row in rows]
        assert stored[1:] == [["" if cell is None else str(cell) for cell in row] for row in fresh]


def test_figures_are_those_of_the_collection(profiles: Profiles, shared_data: Path) -> None:
    """Each run holds the figures, grade, source and commit of the collection's row."""
    path = shared_data / "profiles" / "llm_runs.csv"
    with path.open(encoding="utf-8", newline="") as stream:
        origin = {row["run_id"]: row for row in csv.DictReader(stream)}
    names = {
        "params_b": "params_b",
        "decode_tokens_per_s": "decode_tok_s",
        "prefill_tokens_per_s": "prefill_tok_s",
        "power_w": "power_w",
        "energy_j_per_token": "energy_j_per_token",
        "time_to_first_token_ms": "ttft_ms",
    }
    collected = [run for run in profiles.runs if not run["run_id"].startswith("P")]
    assert len(collected) == 337
    for run in collected:
        row = origin[run["run_id"]]
        for own, theirs in names.items():
            assert run[own] == (float(row[theirs]) if row[theirs] else None), run["run_id"]
        assert (run["model"], run["quant"]) == (row["model"], row["quant"])
        assert (run["grade"], run["source"]) == (row["grade"], row["source_url_or_repo_path"])


def test_no_unfit_run_calibrates(profiles: Profiles) -> None:
    """Neither grade C, speculative decoding, batches nor wall power enter a fit."""
    used = [run for run in profiles.runs if run["fits"]]
    assert len(used) > 200
    assert {run["grade"] for run in profiles.runs} == {"A", "B"}
    assert {run["spec_decode"] for run in profiles.runs} == {"no"}
    assert {run["batch"] for run in used} == {1}
    energy = [run for run in used if "energy" in run["fits"]]
    assert {run["power_scope"] for run in energy} == {
        "GPU rail",
        "VDD_CPU_GPU_CV rail",
        "GPU board",
    }


def test_every_row_says_where_it_comes_from(profiles: Profiles) -> None:
    """Runs, devices, constants and offload runs all name a source, a commit and a place."""
    for table in (profiles.runs, profiles.devices, profiles.constants, profiles.offload_runs):
        assert all(row["source"] and row["commit"] and row["locator"] for row in table)


#: (file, text, what stands there instead, message)
FAULTS = [
    ("runs.csv", "power_w,power_scope", "power,power_scope",
     "runs.csv:1: unknown column 'power'; its unit is missing: did you mean 'power_w'?"),
    ("runs.csv", ",26.053,", ",-26.053,", "runs.csv:2: power_w: -26.053 is outside 1e-09..1e+12"),
    ("runs.csv", ",5.383,", ",nan,", "runs.csv:2: decode_tokens_per_s: nan is not finite"),
    ("runs.csv", ",5.383,", ",fast,", "runs.csv:2: decode_tokens_per_s: 'fast' is not a number"),
    ("runs.csv", ",5.383,", ",,",
     "runs.csv:2: decode_tokens_per_s: empty, but the run calibrates decode"),
    ("runs.csv", "\nL0002,", "\nL0001,", "runs.csv:3: run_id: 'L0001' repeats line 2"),
    ("runs.csv", "L0003,Jetson AGX Orin 64GB,", "L0003,Jetson AGX Orim 64GB,",
     "runs.csv:4: device: 'Jetson AGX Orim 64GB' is not in devices.csv; "
     "did you mean 'Jetson AGX Orin 64GB'?"),
    ("runs.csv", "28.168,GPU rail,", "28.168,module,",
     "runs.csv:5: power_scope: 'GPU rail' may not be pooled with 'module' (row 4)"),
    ("runs.csv", "26.053,GPU rail,", "26.053,,",
     "runs.csv:2: power_scope: empty, but power_w is given"),
    ("runs.csv", ",decode,no,A,", ",speed,no,A,", "fits: 'speed' is not one of decode, prefill"),
    ("runs.csv", ",decode,no,A,", ",decode,no,C,",
     "grade: a grade C run may not calibrate anything"),
    ("runs.csv", ",decode,no,A,", ",decode,yes,A,",
     "spec_decode: a run with speculative decoding may not calibrate anything"),
    ("runs.csv", ",BF16,,,,vLLM,1,", ",BF16,,,,vLLM,4,",
     "runs.csv:2: batch: only runs of one request at a time may calibrate anything"),
    ("runs.csv", ",BF16,,,,vLLM,1,", ",magic,,,,vLLM,1,",
     "runs.csv:2: quant: 'magic' is not in formats.csv"),
    ("devices.csv", ",204.8,", ",0,",
     "devices.csv:2: memory_bandwidth_gb_per_s: 0 is outside 1e-09..1e+12"),
    ("devices.csv", "GeForce RTX 5090", "GeForce RTX 4090",
     "aliases: 'GeForce RTX 4090' is already a name of 'RTX 4090'"),
    ("constants.csv", ",204.8,GB/s,", ",204.8,,",
     "constants.csv:2: unit: empty, but the value 204.8 is a number"),
    ("power_caps.csv", "240,240.21", "230,240.21",
     "power_caps.csv:3: device, model, workload, power_cap_w: "),
    ("offload_runs.csv", ",1,0,48,", ",1.5,0,48,",
     "offload_runs.csv:2: expert_share_gpu: 1.5 is outside 0..1"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "message"), FAULTS)
def test_faults_name_file_row_and_column(
    edit: Edit, file: str, old: str, new: str, message: str
) -> None:
    """A bad cell is refused with its file, row, column and what is wrong."""
    with pytest.raises(InputError) as caught:
        read_profiles(edit(file, old, new))
    assert message in str(caught.value)


def test_all_faults_come_at_once(edit: Edit) -> None:
    """Faults in different rows and files are listed together, in the order of the rows."""
    edit("runs.csv", ",26.053,", ",-1,")
    edit("runs.csv", ",5.356,", ",nan,")
    folder = edit("devices.csv", ",204.8,", ",none,")
    with pytest.raises(InputError) as caught:
        read_profiles(folder)
    lines = str(caught.value).splitlines()
    assert [line.rpartition("/")[2].split(": ")[0] for line in lines] == [
        "devices.csv:2",
        "runs.csv:2",
        "runs.csv:3",
    ]


def test_rules_across_columns_come_at_once(edit: Edit) -> None:
    """Rules that join columns report every faulty row as well."""
    edit("runs.csv", ",5.383,", ",,")
    folder = edit("runs.csv", "27.48,GPU rail,", "27.48,,")
    with pytest.raises(InputError) as caught:
        read_profiles(folder)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert ":2: decode_tokens_per_s: empty" in lines[0]
    assert ":3: power_scope: empty" in lines[1]


OWN = (
    "device,memory_bandwidth_gb_per_s,memory_gib,power_limit_w,grade,source,commit,locator\n"
    "my-box,100,16,50,A,measured,1.0,command\n"
)


def test_a_device_alone_is_a_profile(tmp_path: Path) -> None:
    """A folder with one device and no run is read; every other table is empty or built in."""
    (tmp_path / "devices.csv").write_text(OWN, encoding="utf-8")
    own = read_profiles(tmp_path)
    assert own.runs == ()
    assert own.formats == read_profiles(builtin_profiles()).formats
    assert own.device("my-box")["power_limit_w"] == 50


def test_the_first_folder_that_knows_a_device_gives_its_rows(tmp_path: Path) -> None:
    """Own tables come before the built-in ones, device by device."""
    mine = OWN + "RTX 4090,500,24,450,A,measured,1.0,command\n"
    (tmp_path / "devices.csv").write_text(mine, encoding="utf-8")
    both = read_profiles(tmp_path, BUILTIN)
    assert both.device("RTX 4090")["memory_bandwidth_gb_per_s"] == 500
    assert not [run for run in both.runs if run["device"] == "RTX 4090"]
    assert [run for run in both.runs if run["device"] == "RTX 3090"]
    other = read_profiles(BUILTIN, tmp_path)
    assert other.device("RTX 4090")["memory_bandwidth_gb_per_s"] == 1008
    assert other.device("my-box")["memory_gib"] == 16


@pytest.mark.parametrize(
    "name",
    ["Jetson AGX Orin", "jetson agx orin 64gb", "NVIDIA Jetson AGX Orin Developer Kit",
     "AGX Orin 64GB"],
)  # fmt: skip
def test_devices_go_by_their_usual_names(profiles: Profiles, name: str) -> None:
    """Vendor, case, spacing and common short names do not matter."""
    assert profiles.device(name)["device"] == "Jetson AGX Orin 64GB"


@pytest.mark.parametrize(
    ("name", "near"), [("RTX 4900", "RTX 4090"), ("Jetson Orin Nino", "Jetson Orin N")]
)
def test_unknown_devices_get_a_hint(profiles: Profiles, name: str, near: str) -> None:
    """An unknown device is refused with the list of known ones and the nearest name."""
    with pytest.raises(InputError, match=f"'{name}' is not in devices.csv .*did you mean '{near}"):
        profiles.device(name)


def test_a_laptop_card_is_not_the_desktop_card(profiles: Profiles) -> None:
    """A name with a word more is another device, not an alias."""
    with pytest.raises(InputError, match="RTX 4090 Laptop"):
        profiles.device("RTX 4090 Laptop")


def test_stated_rates_are_all_or_none(tmp_path: Path) -> None:
    """A device states its three rates together, and not beside runs that calibrate it."""
    text = OWN.replace("device,", "stated_power_w,device,").replace("my-box", "50,my-box")
    (tmp_path / "devices.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="stated_decode_gb_per_s: empty, but stated_power_w"):
        read_profiles(tmp_path)


def test_files_without_devices_are_refused(tmp_path: Path) -> None:
    """A folder without devices.csv is not a profile folder."""
    with pytest.raises(InputError, match=r"devices\.csv: No such file"):
        read_profiles(tmp_path)


def test_every_table_has_a_file(profiles: Profiles) -> None:
    """All tables travel with the package."""
    for name, (file, _, _) in FILES.items():
        assert (builtin_profiles() / file).is_file()
        assert getattr(profiles, name)


def test_pages_are_those_of_the_fit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page of each device and the overview are what docs/studies/profile_pages.py writes."""
    source = script(checkout, "profile_pages", monkeypatch)
    folder = checkout / "docs" / "reference" / "devices"
    written = source.pages()
    assert {path.name for path in folder.glob("*.md")} == set(written)
    for name, text in written.items():
        assert (folder / name).read_text(encoding="utf-8") == text, name
    for picture in folder.glob("*.svg"):
        assert picture.stat().st_size < 150_000


def test_stated_rates_exclude_runs(edit: Edit) -> None:
    """A device whose rates are stated may not be calibrated by runs as well."""
    folder = edit("devices.csv", "device,aliases", "device,aliases")
    path = folder / "devices.csv"
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows[0] |= {
        "stated_decode_gb_per_s": "100", "stated_prefill_tflops": "10", "stated_power_w": "20",
    }  # fmt: skip
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(InputError, match=r"devices.csv:2: stated_decode_gb_per_s: stated, but"):
        read_profiles(folder)


def test_energy_runs_need_a_scope_and_a_rate(edit: Edit) -> None:
    """An energy without a meter, or without the time it took, calibrates nothing."""
    edit(
        "runs.csv",
        ",5.131,reported avg_decode_energy / output_tokens,decode,",
        ",5.131,x,decode_energy,",
    )
    edit("runs.csv", ",5.356,,27.48,GPU rail,", ",,,,,")
    with pytest.raises(InputError) as caught:
        read_profiles(edit("devices.csv", "device,", "device,"))
    assert ":3: power_scope: empty, but the run calibrates an energy" in str(caught.value)
    assert ":3: decode_tokens_per_s: empty, but the run calibrates decode_energy" in str(
        caught.value
    )
