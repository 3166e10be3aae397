"""Turn tests of ``llama-bench`` into rows of ``runs.csv``.

A prompt test (``pp``) gives a prefill rate, a generation test (``tg``) a decode rate; both are
means over repetitions with one sequence. A test of both phases together (``pg``) gives one rate
for two different things and is left out, with a notice. What ran on more than one device, or
partly on the processor, is kept but calibrates nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moe2opt.files import read_bytes
from moe2opt.profiles.columns import FORMAT_COLUMNS
from moe2opt.profiles.llamabench.formats import BenchTest, read_rows
from moe2opt.profiles.tables.tables import builtin_profiles
from moe2opt.result import InputError
from moe2opt.schema.csv import Row, read_table

#: Weight formats in the words of llama.cpp (``src/llama-model-loader.cpp``), where these are not
#: already the name that people use.
_LONG_NAMES = {
    "all F32": "F32",
    "MXFP4 MoE": "MXFP4",
    "IQ3_S mix": "IQ3_M",
    "Q2_K - Medium": "Q2_K",
    "Q3_K - Large": "Q3_K_L",
    **{f"Q{bits}_K - Small": f"Q{bits}_K_S" for bits in (2, 3, 4, 5)},
    **{f"Q{bits}_K - Medium": f"Q{bits}_K_M" for bits in (3, 4, 5)},
}

_SHORT_NAMES = (
    *("F16", "BF16", "F32", "MXFP4", "NVFP4", "Q1_0", "Q2_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"),
    *("Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "TQ1_0", "TQ2_0", "IQ1_S", "IQ1_M"),
    *("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M", "IQ4_NL"),
    "IQ4_XS",
)

#: Bits of the formats that are not quantised. llama.cpp calls a file "all F32" when it does not
#: know better, so these names are only believed when the size agrees.
_PLAIN_BITS = {"F16": 16, "BF16": 16, "F32": 32}

#: Every name that a weight format is printed under, and the name that the tables use.
QUANTS = {**{name: name for name in _SHORT_NAMES}, **_LONG_NAMES}

#: Size in the name of a model: 7B, 8x7B, 30B.A3B, 235B.A22B, 0.5B, 780M, ?B.
_SIZE = re.compile(r"(?:\d+x)?(?:[\d.]+|\?)[BMT](?:\.A([\d.]+)B)?")

#: Architectures with experts whose name does not say so.
_SPARSE = (
    "gpt-oss",
    "mixtral",
    "deepseek2",
    "dbrx",
    "grok",
    "arctic",
    "jamba",
    "llama4",
    "glm4moe",
)

#: From this number on, ``-ngl`` means all layers.
_ALL_LAYERS = 99

#: A mean whose standard deviation is a larger share of it says little (a first run that was slow).
_MOST_SPREAD = 0.25


@dataclass(frozen=True, slots=True)
class Told:
    """What the user says beyond the files.

    Attributes
    ----------
    device
        Name of the device; the one in the file when None.
    quant
        Weight format of the models for which the file tells none, or one that their size
        contradicts; ``MODEL=FORMAT`` for the models of that name, whatever the file tells.
    active_params_b
        Parameters used per token in units of 1e9, for models with experts.
    source
        Where the measurements come from; None for the user's own.
    """

    device: str | None = None
    quant: str | None = None
    active_params_b: float | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """What the files hold.

    Attributes
    ----------
    runs
        Rows of ``runs.csv``.
    notices
        What was left out or kept out of fits, and why.
    files
        The files read.
    """

    runs: tuple[Row, ...]
    notices: tuple[str, ...]
    files: tuple[Path, ...]

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices, in the order of the files."""
        return tuple(dict.fromkeys(run["device"] for run in self.runs))


def import_llama_bench(files: Sequence[str | Path], told: Told | None = None) -> Imported:
    """Read files of ``llama-bench`` as rows of ``runs.csv``.

    Parameters
    ----------
    files
        Paths; the format of each is found from its content.
    told
        Device, weight format, active parameters and source where the files do not say.

    Raises
    ------
    InputError
        ``file:line: problem`` when a file is cut off or foreign, or when no test of the files can
        be read: a weight format is not known, nothing says which device was measured. Where others
        can be read, such a test is left out with a notice.
    """
    told = told or Told()
    _check_told(told)
    runs, notices, faults = dict[str, Row](), list[str](), list[InputError]()
    for path in map(Path, files):
        digest = hashlib.sha256(read_bytes(path)).hexdigest()[:8] if path.is_file() else ""
        for number, test in enumerate(read_rows(path), start=1):
            try:
                found = _told_by(test, told, f"llama-bench-{digest}-{number}")
            except InputError as error:
                faults.append(error)
                notices.append(f"{error}; this test is left out")
                continue
            if found is None:
                notices.append(f"{path}:{test.line}: left out: one rate for prompt and generation")
                continue
            row, reasons = found
            notices += [f"{path}:{test.line}: {reason}" for reason in reasons]
            runs[row["run_id"]] = row
    if faults and not runs:
        raise faults[0]
    if not runs:
        raise InputError(f"{files[0]}: no test of prompt (pp) or generation (tg) alone")
    return Imported(tuple(runs.values()), tuple(notices), tuple(map(Path, files)))


def _told_by(test: BenchTest, told: Told, run_id: str) -> tuple[Row, list[str]] | None:
    """Return what a test tells, None for one rate of two phases."""
    test.check()
    if test.number("n_prompt") and test.number("n_gen"):
        return None
    if not test.number("n_prompt") and not test.number("n_gen"):
        raise test.fault("n_prompt and n_gen are both 0")
    return _run(test, told, run_id)


def parse_model(description: str) -> tuple[str, str, str | None]:
    """Split ``qwen3moe 30B.A3B Q4_K - Medium`` into family and size, format, active parameters.

    The format is that of the tables, empty when it is not known.
    """
    text = description.strip().removesuffix("(guessed)").removeprefix("(guessed)").strip()
    text = re.sub(r"\b(?:mostly|\(guessed\)) ", "", text)
    text = re.sub(r" - [\d.]+ bpw.*$", "", text)
    names = sorted(QUANTS, key=len, reverse=True)
    ending = next((name for name in names if text == name or text.endswith(f" {name}")), None)
    model = text if ending is None else text[: len(text) - len(ending)].strip()
    size = next((m for m in map(_SIZE.fullmatch, model.split()) if m and m[1]), None)
    return model, "" if ending is None else QUANTS[ending], size[1] if size else None


def _check_told(told: Told) -> None:
    for flag, text in (("--device", told.device), ("--quant", told.quant)):
        if text is not None and not text.strip():
            raise InputError(f"{flag}: the name is empty")
    form = None if told.quant is None else told.quant.rpartition("=")[2].strip()
    if form is not None and form not in {*QUANTS.values(), *_formats()}:
        raise InputError(f"--quant {form}: not a weight format; known: {_known()}")


def _run(test: BenchTest, told: Told, run_id: str) -> tuple[Row, list[str]]:
    """Return a row of ``runs.csv`` and why it calibrates nothing, if so."""
    model, quant, active = _model(test, told)
    params, size = test.number("model_n_params"), test.number("model_size")
    prompt, output = int(test.number("n_prompt")), int(test.number("n_gen"))
    active_b = told.active_params_b or (None if active is None else float(active))
    if active_b is not None and active_b > 1.01 * params / 1e9:
        raise test.fault(f"{active_b:g}e9 active parameters exceed the {params / 1e9:.4g}e9 of all")
    reasons = _reasons(test, model, active_b)
    rate = test.number("avg_ts")
    row: Row = {
        "run_id": run_id,
        "device": _device(test, told),
        "model": model,
        "params_b": _short(params / 1e9),
        "active_params_b": None if active_b is None else _short(active_b),
        "quant": quant,
        "bits_per_weight": _short(8 * size / params),
        "bits_basis": "llama-bench: 8 model_size / model_n_params",
        "weights_gb": _short(size / 1e9),
        "engine": _engine(test),
        "batch": 1,
        "prompt_tokens": prompt or None,
        "output_tokens": output or None,
        "context_tokens": int(test.number("n_depth")) if test.text("n_depth") else 0,
        "prefill_tokens_per_s": _short(rate) if prompt else None,
        "decode_tokens_per_s": _short(rate) if output else None,
        "fits": None if reasons else "prefill" if prompt else "decode",
        "spec_decode": "no",
        "grade": "A" if told.source is None else "B",
        "source": told.source or "measured",
        "commit": _commit(test),
        "locator": f"{test.path.name}:{test.line}",
        "note": _note(test),
    }
    _check_bits(test, 8 * size / params)
    if active_b is not None and told.active_params_b is None and not reasons:
        rounded = f"{active_b:g}e9 active parameters as in the model's name, rounded"
        return row, [f"{rounded}; --active-params states them"]
    return row, [f"kept, calibrates nothing: {reason}" for reason in reasons]


def _model(test: BenchTest, told: Told) -> tuple[str, str, str | None]:
    """Return name, weight format and active parameters of the model."""
    described, quant, active = parse_model(test.text("model_type"))
    name = Path(test.text("model_filename").replace("\\", "/")).name.removesuffix(".gguf")
    bits = 8 * test.number("model_size") / test.number("model_n_params")
    wrong = quant in _PLAIN_BITS and not 0.85 < bits / _PLAIN_BITS[quant] < 1.15
    about, _, form = (told.quant or "").rpartition("=")
    meant = about.strip().lower() in f"{test.text('model_type')} {name}".lower()
    if form and meant and (about or wrong or not quant):
        quant, wrong = form.strip(), False
    if not quant or wrong:
        why = f"is not {quant} at {bits:.3g} bits per weight" if wrong else "is not known"
        raise test.fault(
            f"'{test.text('model_type')}': the weight format {why}; --quant states it, "
            f"one of {_known()}"
        )
    return name or described, quant, active


def _device(test: BenchTest, told: Told) -> str:
    """Return the device that computed: the GPU unless the only backend is the processor."""
    if told.device:
        return told.device.strip()
    untold = not test.backends and test.text("n_gpu_layers") in ("", "0")
    on_processor = untold or test.backends in ("CPU", "BLAS")
    names = ("cpu_info", "gpu_info") if on_processor else ("gpu_info", "cpu_info")
    found = next((name for name in map(test.text, names) if name.strip()), "")
    if not found:
        raise test.fault("nothing says which device this is; --device names it")
    return " ".join(found.split())


def _reasons(test: BenchTest, model: str, active_b: float | None) -> list[str]:
    """Return why a test does not speak for its device alone."""
    reasons = []
    if is_sparse(test, model) and active_b is None:
        reasons.append("a model with experts; --active-params states what a token uses")
    layers, backend = test.text("n_gpu_layers"), test.backends
    on_gpu = backend not in ("CPU", "BLAS", "")
    if on_gpu and layers and 0 <= _layers(test) < _ALL_LAYERS:
        reasons.append(f"ngl {layers}: some layers may have run on the processor")
    if test.text("n_cpu_moe") not in ("", "0"):
        reasons.append("experts of some layers ran on the processor (n_cpu_moe)")
    if test.text("tensor_buft_overrides") not in ("", "none"):
        reasons.append("tensors were placed by hand (-ot)")
    reasons += scattered(test)
    if on_gpu and test.text("devices") == "none":
        reasons.append("no GPU was used (-dev none)")
    if "," in test.text("gpu_info") and test.text("split_mode") != "none":
        reasons.append("several GPUs took part")
    return reasons


def is_sparse(test: BenchTest, model: str = "") -> bool:
    """Whether the name of a model says that it has experts."""
    words = f"{test.text('model_type')} {model}".lower()
    found = "moe" in words or re.search(r"\d+x\d+b", words)
    return bool(found) or any(s in words for s in _SPARSE)


def scattered(test: BenchTest) -> list[str]:
    """Return in words that the repetitions of a test scatter too much to say anything."""
    deviation = test.text("stddev_ts")
    if _is_number(deviation) and float(deviation) > _MOST_SPREAD * test.number("avg_ts"):
        return [f"the repetitions scatter by {float(deviation):.4g} tokens/s"]
    return []


def _layers(test: BenchTest) -> int:
    """Return the layers on the GPU, -1 for as many as fit."""
    text = test.text("n_gpu_layers")
    try:
        return int(text)
    except ValueError:
        raise test.fault(f"n_gpu_layers: '{text}' is not an integer") from None


def _commit(test: BenchTest) -> str:
    commit = test.text("build_commit")
    return commit if commit not in ("", "unknown") else "not recorded"


def _engine(test: BenchTest) -> str:
    build = test.text("build_number")
    backend = test.backends
    parts = ["llama.cpp", f"b{build}" if build and build != "0" else "", backend and f"({backend})"]
    return " ".join(part for part in parts if part)


def _note(test: BenchTest) -> str:
    deviation, samples = test.text("stddev_ts"), test.fields.get("samples_ts")
    parts = [
        f"llama-bench, {len(samples)} repetitions" if isinstance(samples, list) else "llama-bench",
        f"standard deviation {float(deviation):.4g} tokens/s" if _is_number(deviation) else "",
        *(f"{name} {test.text(name)}" for name in ("n_threads", "n_gpu_layers") if test.text(name)),
        test.text("test_time"),
    ]
    return "; ".join(part for part in parts if part)


def _check_bits(test: BenchTest, bits: float) -> None:
    if not 0.5 <= bits <= 64:
        raise test.fault(f"model_size and model_n_params give {bits:.3g} bits per weight")


def _is_number(text: str) -> bool:
    try:
        return bool(text) and 0 <= float(text) < float("inf")
    except ValueError:
        return False


def _known() -> str:
    return ", ".join(sorted({*QUANTS.values(), *_formats()}))


def _formats() -> set[str]:
    """Return the names of the weight formats that the built-in tables know."""
    path = builtin_profiles() / "formats.csv"
    return {row["quant"] for row in read_table(path, FORMAT_COLUMNS)} if path.is_file() else set()


def _short(value: float) -> float:
    """Return six digits: more than any of these is repeatable to."""
    return float(f"{value:.6g}")


def describe(runs: Iterable[Row]) -> list[tuple[str, ...]]:
    """Return device, model, format, test and rate with unit of each run, for a table."""
    return [
        (
            run["device"],
            run["model"],
            run["quant"],
            _phase(run),
            f"{run['prefill_tokens_per_s'] or run['decode_tokens_per_s']:g}",
            run["fits"] or "nothing",
        )
        for run in runs
    ]


def _phase(run: dict[str, Any]) -> str:
    if run["prompt_tokens"]:
        text = f"prefill of {run['prompt_tokens']}"
    else:
        text = f"decode of {run['output_tokens']}"
    return text + (f" after {run['context_tokens']}" if run["context_tokens"] else "")
