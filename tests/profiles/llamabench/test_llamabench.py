"""Importing llama-bench: published outputs in every format, and what is wrong with bad ones."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe2opt.profiles.llamabench.formats import NEEDED, read_tests
from moe2opt.profiles.llamabench.reading import (
    QUANTS,
    Imported,
    Told,
    import_llama_bench,
    parse_model,
)
from moe2opt.profiles.llamabench.writing import Stated, write_imported
from moe2opt.result import InputError

FIXTURES = Path(__file__).parent / "fixtures"

#: A test with the fields that are needed; synthetic.
PLAIN: dict[str, Any] = {
    "build_commit": "abc", "build_number": 1, "cpu_info": "some CPU", "gpu_info": "",
    "backends": "CPU", "model_filename": "m.gguf", "model_type": "llama 1B Q8_0",
    "model_size": 1_062_500_000, "model_n_params": 1_000_000_000, "n_gpu_layers": 99,
    "n_prompt": 0, "n_gen": 16, "n_depth": 0, "avg_ts": 10.0, "stddev_ts": 0.5,
}  # fmt: skip


def written(folder: Path, name: str, text: str) -> Path:
    """Write a file and return its path."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def import_test(folder: Path, told: Told | None = None, **changes: Any) -> Imported:
    """Import one synthetic test with some fields changed."""
    path = written(folder, "one.jsonl", json.dumps({**PLAIN, **changes}) + "\n")
    return import_llama_bench([path], told)


# ---------------------------------------------------------------------- published outputs


def test_json_example_of_the_project() -> None:
    """The JSON of llama.cpp's own page becomes a prefill run and a decode run with units."""
    runs = import_llama_bench([FIXTURES / "rtx4080.json"]).runs
    assert [run["prefill_tokens_per_s"] for run in runs] == [7100.0, None]
    assert [run["decode_tokens_per_s"] for run in runs] == [None, 118.882]
    assert [(run["prompt_tokens"], run["output_tokens"]) for run in runs] == [
        (512, None),
        (None, 128),
    ]
    assert [run["fits"] for run in runs] == ["prefill", "decode"]
    first = runs[0]
    assert (first["device"], first["quant"]) == ("NVIDIA GeForce RTX 4080", "Q4_K_M")
    assert first["weights_gb"] == 4.67712
    assert first["params_b"] == 7.61562
    assert first["bits_per_weight"] == pytest.approx(8 * 4677120000 / 7615616512, rel=1e-5)
    assert first["engine"] == "llama.cpp b5163 (CUDA)"
    assert (first["commit"], first["locator"]) == ("8cf427ff", "rtx4080.json:2")
    assert "5 repetitions; standard deviation 140.3 tokens/s" in first["note"]


def test_csv_and_json_tell_the_same() -> None:
    """The CSV of the same page gives the same model, device and phases as the JSON."""
    same = ("device", "model", "params_b", "quant", "weights_gb", "prompt_tokens", "output_tokens",
            "engine", "fits")  # fmt: skip
    tables = [
        [[run[name] for name in same] for run in import_llama_bench([FIXTURES / name_]).runs]
        for name_ in ("rtx4080.csv", "rtx4080.json")
    ]
    assert tables[0] == tables[1]


def test_markdown_of_a_gpu() -> None:
    """A pasted table gives its runs; the joint rate of both phases is left out with a notice."""
    found = import_llama_bench([FIXTURES / "rtx4090_vulkan.md"], Told(device="RTX 4090"))
    assert [run["fits"] for run in found.runs] == [None, "prefill", "decode"]
    assert found.runs[2]["decode_tokens_per_s"] == 762.37
    assert found.runs[2]["weights_gb"] == pytest.approx(636.18 * 2**20 / 1e9, rel=1e-5)
    assert found.runs[2]["engine"] == "llama.cpp b7340 (Vulkan)"
    assert found.runs[2]["commit"] == "086a63e3a"
    scatter, joint = found.notices
    assert scatter.endswith("calibrates nothing: the repetitions scatter by 9882 tokens/s")
    assert joint.endswith("rtx4090_vulkan.md:12: left out: one rate for prompt and generation")


def test_guessed_formats_are_not_believed() -> None:
    """What llama.cpp guesses to be F32 at 2.7 bits per weight needs the user's word."""
    path = FIXTURES / "raspberry_pi5_guessed.md"
    with pytest.raises(InputError, match=r"\.md:6: .* the weight format is not F32 at 2\.7 bits"):
        import_llama_bench([path], Told(device="Raspberry Pi 5"))
    found = import_llama_bench([path], Told("Raspberry Pi 5", "Q3_K_S", 3.3))
    assert {run["quant"] for run in found.runs} == {"Q3_K_S"}
    assert {run["active_params_b"] for run in found.runs} == {3.3}
    assert not found.notices


def test_active_parameters_of_the_name_are_called_rounded() -> None:
    """30B.A3B gives 3e9 active parameters, with a notice that this is a rounded figure."""
    told = Told(device="Raspberry Pi 5", quant="Q3_K_S")
    found = import_llama_bench([FIXTURES / "raspberry_pi5_guessed.md"], told)
    assert {run["active_params_b"] for run in found.runs} == {3.0}
    assert all("rounded; --active-params states them" in notice for notice in found.notices)


def test_runs_beside_the_gpu_calibrate_nothing() -> None:
    """`-dev none` and a small `-ngl` leave work to the processor: kept, but not fitted."""
    unused = import_llama_bench([FIXTURES / "no_gpu_used.md"])
    assert unused.devices == ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",)
    assert [run["fits"] for run in unused.runs] == [None]
    partly = import_llama_bench([FIXTURES / "older_spelling.md"], Told(device="X"))
    assert [run["fits"] for run in partly.runs] == [None, None, "prefill", "decode"]
    assert {run["quant"] for run in partly.runs} == {"Q4_0"}


def test_depth_is_context() -> None:
    """`@ d512` says that 512 tokens were in the cache before."""
    runs = import_llama_bench([FIXTURES / "depth.md"], Told(device="X")).runs
    assert [run["context_tokens"] for run in runs] == [512, 512]


def test_fields_of_older_versions_may_lack() -> None:
    """An output from before `n_depth` and `n_cpu_moe` existed is read all the same."""
    (run,) = import_llama_bench([FIXTURES / "ascend.json"]).runs
    assert (run["device"], run["quant"], run["context_tokens"]) == ("Ascend910B3", "F16", 0)


# ---------------------------------------------------------------------- formats


@pytest.mark.parametrize("ending", ["json", "jsonl", "csv", "sql", "md"])
def test_every_format_that_the_program_writes(ending: str) -> None:
    """Real outputs in all five formats give the same two runs of the tiny random model."""
    told = Told(device="AMD EPYC", active_params_b=0.0004)
    found = import_llama_bench([FIXTURES / f"tiny_random_moe.{ending}"], told)
    same = (
        "device",
        "quant",
        "batch",
        "prompt_tokens",
        "output_tokens",
        "context_tokens",
        "engine",
    )
    assert [[run[name] for name in same] for run in found.runs] == [
        ["AMD EPYC", "F32", 1, 64, None, 0, "llama.cpp (CPU)"],
        ["AMD EPYC", "F32", 1, None, 16, 0, "llama.cpp (CPU)"],
    ]
    assert {run["commit"] for run in found.runs} == {"not recorded"}
    size = 3.39 * 2**20 / 1e9 if ending == "md" else 3550976 / 1e9
    assert [run["weights_gb"] for run in found.runs] == pytest.approx([size, size], rel=1e-5)
    assert any("left out: one rate for prompt and generation" in n for n in found.notices)


def test_jsonl_and_sql_are_the_same_objects(tmp_path: Path) -> None:
    """JSONL lines and SQL inserts (as sqlite3 would take them) give the runs of the JSON."""
    tests = json.loads((FIXTURES / "rtx4080.json").read_text("utf-8"))
    lines = written(tmp_path, "a.jsonl", "".join(json.dumps(test) + "\n" for test in tests))
    fields = [name for name in tests[0] if not name.startswith("samples")]
    values = [", ".join(f"'{test[name]}'" for name in fields) for test in tests]
    inserts = [f"INSERT INTO llama_bench ({', '.join(fields)}) VALUES ({v});" for v in values]
    create = f"CREATE TABLE IF NOT EXISTS llama_bench ({', '.join(fields)});\n\n"
    sql = written(tmp_path, "a.sql", create + "\n".join(inserts) + "\n")
    with sqlite3.connect(":memory:") as base:
        base.executescript(sql.read_text("utf-8"))
        assert base.execute("SELECT COUNT(*) FROM llama_bench").fetchone() == (2,)
    base.close()
    rates = [
        [run["prefill_tokens_per_s"] or run["decode_tokens_per_s"] for run in found.runs]
        for found in (import_llama_bench([path]) for path in (lines, sql))
    ]
    assert rates == [[7100.0, 118.882]] * 2


def test_several_files_and_the_same_file_twice() -> None:
    """Files add up; a file given twice counts once."""
    path = FIXTURES / "rtx4080.json"
    assert len(import_llama_bench([path, path, FIXTURES / "rtx4080.csv"]).runs) == 4


@pytest.mark.parametrize(
    ("text", "model", "quant", "active"),
    [
        ("llama 7B Q4_K - Medium", "llama 7B", "Q4_K_M", None),
        ("llama 7B mostly Q4_0", "llama 7B", "Q4_0", None),
        ("qwen3moe 30B.A3B Q4_K - Small", "qwen3moe 30B.A3B", "Q4_K_S", "3"),
        ("qwen3moe 235B.A22B Q2_K - Medium", "qwen3moe 235B.A22B", "Q2_K", "22"),
        ("gpt-oss 20B MXFP4 MoE", "gpt-oss 20B", "MXFP4", None),
        ("llama ?B all F32 (guessed)", "llama ?B", "F32", None),
        ("llama 8B IQ4_XS - 4.25 bpw", "llama 8B", "IQ4_XS", None),
        ("llama 8B IQ3_S mix - 3.66 bpw", "llama 8B", "IQ3_M", None),
        ("llama 8B IQ2_XXS - 2.0625 bpw", "llama 8B", "IQ2_XXS", None),
        ("llama 8B TQ1_0 - 1.69 bpw ternary", "llama 8B", "TQ1_0", None),
        ("llama 8B unknown, may not work", "llama 8B unknown, may not work", "", None),
    ],
)
def test_names_of_models(text: str, model: str, quant: str, active: str | None) -> None:
    """The description that llama.cpp prints splits into model, format and active parameters."""
    assert parse_model(text) == (model, quant, active)


@given(st.sampled_from(sorted(QUANTS)))
def test_every_format_is_recognised(name: str) -> None:
    """Every name of a format is found at the end of a description, with or without `mostly`."""
    for text in (f"llama 7B {name}", f"llama 7B mostly {name}"):
        assert parse_model(text)[:2] == ("llama 7B", QUANTS[name])


# ---------------------------------------------------------------------- what calibrates nothing


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "llama 8x7B Q8_0"}, "a model with experts"),
        ({"model_type": "gpt-oss 20B MXFP4 MoE"}, "a model with experts"),
        ({"backends": "CUDA", "gpu_info": "G", "n_cpu_moe": 8}, "experts of some layers"),
        ({"backends": "CUDA", "gpu_info": "G", "tensor_buft_overrides": "exps=CPU"}, "by hand"),
        ({"backends": "CUDA", "gpu_info": "G, H", "split_mode": "layer"}, "several GPUs"),
        ({"backends": "CUDA", "gpu_info": "G", "n_gpu_layers": 0}, "ngl 0"),
    ],
)
def test_mixed_runs_are_kept_but_calibrate_nothing(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    """A run that does not speak for its device alone is kept, and the notice says why."""
    found = import_test(tmp_path, **changes)
    assert [run["fits"] for run in found.runs] == [None]
    assert any(reason in notice for notice in found.notices)


def test_runs_of_others_have_their_source(tmp_path: Path) -> None:
    """Published figures carry their source and grade B, the user's own grade A."""
    (own,), (other,) = (
        import_test(tmp_path, told).runs for told in (None, Told(source="https://example.org/log"))
    )
    assert (own["grade"], own["source"]) == ("A", "measured")
    assert (other["grade"], other["source"]) == ("B", "https://example.org/log")


TWO = """
| model                  |       size |  params | backend    | ngl |  test |             t/s |
| ---------------------- | ---------: | ------: | ---------- | --: | ----: | --------------: |
| llama 1B Q4_K - Medium | 636.18 MiB |  1.10 B | Vulkan     |  99 | tg128 |   762.37 ± 4.41 |
| llama 1B Q4_K - Medium | 636.18 MiB |  1.10 B | Vulkan     |  99 | pp512 | 10802.4 ± 0.001 |

| model                  |       size |  params | backend    | ngl |  test |             t/s |
| ---------------------- | ---------: | ------: | ---------- | --: | ----: | --------------: |
| gpt-oss ?B F16         |  12.83 GiB | 20.91 B | Vulkan,RPC | 125 | tg128 |    45.01 ± 0.05 |
| gpt-oss ?B F16         |  12.83 GiB | 20.91 B | Vulkan,RPC | 125 | pp512 |        0 ± 0.46 |
"""


@pytest.mark.parametrize(
    ("quant", "formats", "left_out"),
    [
        (None, ["Q4_K_M", "Q4_K_M"], 2),
        ("MXFP4", ["Q4_K_M", "Q4_K_M", "MXFP4"], 1),
        ("gpt-oss=MXFP4", ["Q4_K_M", "Q4_K_M", "MXFP4"], 1),
        ("llama 1B=Q8_0", ["Q8_0", "Q8_0"], 2),
    ],
)
def test_a_doubtful_row_does_not_stop_the_others(
    tmp_path: Path, quant: str | None, formats: list[str], left_out: int
) -> None:
    """Rows that cannot be believed are named and left out; --quant is for those, or for a model."""
    path = written(tmp_path, "two.md", TWO)
    found = import_llama_bench([path], Told(device="X", quant=quant, active_params_b=1.0))
    assert [run["quant"] for run in found.runs] == formats
    away = [notice for notice in found.notices if "this test is left out" in notice]
    assert len(away) == left_out
    assert away[-1].startswith(f"{path}:10: avg_ts: 0 is not positive")


@pytest.mark.parametrize("form", ["json", "csv"])
@pytest.mark.parametrize(
    ("told", "device", "backend"),
    [
        ({"cuda": True, "metal": False}, "RTX 3090 Ti", "CUDA"),
        ({"cuda": False, "metal": True}, "RTX 3090 Ti", "Metal"),
        ({"cuda": False, "metal": False, "blas": True}, "Core i9", "CPU"),
    ],
)
def test_old_fields_of_backends(
    tmp_path: Path, form: str, told: dict[str, bool], device: str, backend: str
) -> None:
    """Before there was a list of backends, fields of yes and no tell what computed."""
    test = {k: v for k, v in PLAIN.items() if k != "backends"}
    test = {"build_commit": "3469684", **test, **told, "gpu_info": "RTX 3090 Ti",
            "cpu_info": "Core i9", "n_gpu_layers": 99}  # fmt: skip
    if form == "csv":
        cells = [str(int(v)) if isinstance(v, bool) else str(v) for v in test.values()]
        text = f"{','.join(test)}\n{','.join(cells)}\n"
    else:
        text = json.dumps([test])
    (run,) = import_llama_bench([written(tmp_path, f"old.{form}", text)]).runs
    assert run["device"] == device
    assert backend in run["engine"]
    assert run["fits"] is not None


# ---------------------------------------------------------------------- bad files


def cut(name: str, share: float) -> str:
    """Return the beginning of a published file."""
    text = (FIXTURES / name).read_text("utf-8")
    return text[: int(share * len(text))]


#: (file name, content, message)
BAD: list[tuple[str, str, str]] = [
    ("a.json", "", "a.json:1: the file is empty"),
    ("a.json", "[]", "a.json:1: holds no test of llama-bench"),
    ("a.json", cut("rtx4080.json", 0.75), "a.json:71: the file is cut off after 1 tests"),
    ("a.json", "[\n", "a.json:2: the file ends after 0 tests, without ']'"),
    ("a.json", "[3]", "a.json:1: expected a test of llama-bench, found 3"),
    ("a.json", '[\n{"a": 1,,}]', "a.json:2: not JSON: Expecting property name"),
    ("a.json", '[\n{"status": "OPTIMAL"}]', "a.json:2: not a test of llama-bench: model_type, "),
    ("a.jsonl", json.dumps(PLAIN) + '\n{"model_', "a.jsonl:2: the line is cut off after 1 tests"),
    ("a.jsonl", "{oops\n" + json.dumps(PLAIN), "a.jsonl:1: not JSON"),
    ("a.csv", cut("rtx4080.csv", 0.95), "a.csv:3: 38 cells, the header has 42"),
    ("a.csv", "device,watts\nx,3\n", "a.csv:1: not output of llama-bench: expected JSON"),
    ("a.sql", "INSERT INTO llama_bench (a, b) VALUES ('1', '", "a.sql:1: the INSERT line is cut"),
    ("a.md", cut("depth.md", 0.92), "a.md:4: the row of the table is cut off"),
    ("a.md", "| a | b |\n| - | - |\n| 1 | 2 |\n", "a.md:1: not output of llama-bench"),
    ("a.md", (FIXTURES / "depth.md").read_text("utf-8").replace("4.36 GiB", "4.36 GB"),
     "a.md:3: size: '4.36 GB' is not an amount such as 3.56 GiB"),
    ("a.md", (FIXTURES / "depth.md").read_text("utf-8").replace("pp512 @", "xx512 @"),
     "a.md:3: test: expected pp512, tg128 or pp512+tg128"),
    ("a.md", (FIXTURES / "depth.md").read_text("utf-8").replace("116.71 ±", "fast ±"),
     "a.md:4: t/s: expected a number"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "message"), BAD)
def test_bad_files_are_told_with_their_line(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    """A file that is cut off or foreign is refused with the line and what is wrong there."""
    with pytest.raises(InputError) as caught:
        import_llama_bench([written(tmp_path, name, text)], Told(device="X"))
    assert message in str(caught.value)


#: (fields changed, message)
BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"avg_ts": "fast"}, "one.jsonl:1: avg_ts: 'fast' is not a number"),
    ({"avg_ts": -1}, "one.jsonl:1: avg_ts: -1 is not a finite, non-negative number"),
    ({"avg_ts": 0}, "one.jsonl:1: avg_ts: 0 is not positive"),
    ({"model_size": "nan"}, "one.jsonl:1: model_size: nan is not a finite"),
    ({"n_gen": 1.5}, "one.jsonl:1: n_gen: 1.5 is not an integer"),
    ({"n_gen": 0}, "one.jsonl:1: n_prompt and n_gen are both 0"),
    ({"n_gen": 8, "n_prompt": 8}, "no test of prompt (pp) or generation (tg) alone"),
    ({"model_type": "llama 1B Q9_Z"}, "'llama 1B Q9_Z': the weight format is not known; --quant"),
    ({"model_type": "llama 1B BF16"}, "the weight format is not BF16 at 8.5 bits per weight"),
    ({"model_size": 10**12}, "model_size and model_n_params give 8e+03 bits per weight"),
    ({"cpu_info": ""}, "nothing says which device this is; --device names it"),
    ({"backends": "CUDA", "gpu_info": "G", "n_gpu_layers": "x"}, "n_gpu_layers: 'x' is not an"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_FIELDS)
def test_bad_fields_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """A field with an impossible value is named with the line of its test."""
    with pytest.raises(InputError) as caught:
        import_test(tmp_path, **changes)
    assert message in str(caught.value)


@pytest.mark.parametrize("field", NEEDED)
def test_missing_fields_are_named(tmp_path: Path, field: str) -> None:
    """A test without one of the needed fields is refused by the name of the field."""
    test = {name: value for name, value in PLAIN.items() if name != field}
    with pytest.raises(
        InputError, match=rf"a\.jsonl:1: not a test of llama-bench: {field} missing"
    ):
        read_tests(written(tmp_path, "a.jsonl", json.dumps(test)))


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (Told(device=" "), "--device: the name is empty"),
        (Told(quant="Q9_Z"), "--quant Q9_Z: not a weight format; known: "),
        (Told(active_params_b=2.0), "2e9 active parameters exceed the 1e9 of all"),
    ],
)
def test_bad_words_of_the_user(tmp_path: Path, told: Told, message: str) -> None:
    """What the user states is checked too."""
    with pytest.raises(InputError) as caught:
        import_test(tmp_path, told)
    assert message in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder and a binary file have one clear message each."""
    binary = tmp_path / "model.gguf"
    binary.write_bytes(b"GGUF\x03\xff\xfe\x00")
    for path, message in (
        (tmp_path / "none.json", "No such file"),
        (tmp_path, "is a folder, not a file"),
        (binary, "not UTF-8 text"),
    ):
        with pytest.raises(InputError, match=message):
            import_llama_bench([path])


@pytest.mark.parametrize("form", ["[{}]", "{}"])
def test_a_field_that_stands_twice_is_named(form: str, tmp_path: Path) -> None:
    """Of two rates in one test neither is believed; the message has the line and the field."""
    path = tmp_path / "twice.json"
    path.write_text(form.replace("{}", '{"avg_ts": 1.0, "avg_ts": 2.0}'), encoding="utf-8")
    with pytest.raises(InputError, match=r'twice.json:1: not JSON: the key "avg_ts" stands twice'):
        import_llama_bench([path])


# ---------------------------------------------------------------------- writing


def test_import_extends_a_folder(tmp_path: Path) -> None:
    """Runs, the row of the device and the raw file are written; doing it again changes nothing."""
    found = import_llama_bench([FIXTURES / "rtx4080.json"])
    stated = Stated(716.8, 16)
    first, _ = write_imported(found, tmp_path, stated)
    before = {path.name: path.read_bytes() for path in first}
    second, _ = write_imported(found, tmp_path, stated)
    assert {path.name: path.read_bytes() for path in second} == before
    assert (FIXTURES / "rtx4080.json").read_bytes() in before.values()
    more, _ = write_imported(import_llama_bench([FIXTURES / "rtx4080.csv"]), tmp_path)
    assert len(more[1].read_text("utf-8").splitlines()) == 1 + 4
    assert len(more[0].read_text("utf-8").splitlines()) == 1 + 1


def test_devices_of_the_builtin_tables_are_known(tmp_path: Path) -> None:
    """A GPU that the built-in tables know needs no data sheet; the notice says whose row it is."""
    found = import_llama_bench([FIXTURES / "rtx4090_vulkan.md"], Told(device="RTX 4090"))
    (devices, *_), notices = write_imported(found, tmp_path)
    assert "RTX 4090" in devices.read_text("utf-8")
    assert any("built-in tables" in notice for notice in notices)


def test_unknown_devices_need_their_data(tmp_path: Path) -> None:
    """A device without bandwidth and memory is refused, and nothing is written."""
    found = import_llama_bench([FIXTURES / "ascend.json"])
    with pytest.raises(InputError, match="'Ascend910B3' is in no table"):
        write_imported(found, tmp_path / "new")
    assert not (tmp_path / "new").exists()
