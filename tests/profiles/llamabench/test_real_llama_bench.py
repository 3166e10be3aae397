"""llama.cpp itself: what llama-bench prints about a tiny model is imported.

Opt-in: ``MOE2OPT_LLAMA_CPP`` names the folder of the binaries, and `gguf` must be installed.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from profiles.llamabench.tiny_gguf import (
    EXPERTS,
    HIDDEN,
    INNER,
    LAYERS,
    VOCABULARY,
    write_tiny_model,
)

from moe2opt.profiles.llamabench.reading import Told, import_llama_bench


@pytest.fixture(scope="module")
def program() -> Path:
    """Path of llama-bench."""
    folder = os.environ.get("MOE2OPT_LLAMA_CPP")
    if not folder:
        pytest.skip("MOE2OPT_LLAMA_CPP does not name a folder with llama-bench")
    path = Path(folder) / "llama-bench"
    if not path.is_file():
        pytest.skip(f"no llama-bench in {folder}")
    pytest.importorskip("gguf", reason="the library gguf, which writes the tiny model, is missing")
    return path


@pytest.fixture(scope="module")
def model(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of the tiny random model."""
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_tiny_model(path)
    return path


@pytest.mark.parametrize("output", ["json", "jsonl", "csv", "sql", "md"])
def test_real_output_is_imported(program: Path, model: Path, output: str, tmp_path: Path) -> None:
    """Prefill and decode of a model of known size come out with that size, in every format."""
    command = [program, "-m", model, "-p", "32", "-n", "8", "-r", "2", "-t", "1", "-o", output]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    path = tmp_path / f"bench.{output}"
    path.write_text(done.stdout, encoding="utf-8")
    runs = import_llama_bench([path], Told(device="here")).runs
    assert [(run["prompt_tokens"], run["output_tokens"]) for run in runs] == [(32, None), (None, 8)]
    attention, experts = 4 * HIDDEN**2, EXPERTS * (3 * HIDDEN * INNER + HIDDEN)
    parameters = 2 * VOCABULARY * HIDDEN + HIDDEN + LAYERS * (attention + experts + 2 * HIDDEN)
    rounded = 0.01e6 if output == "md" else 0.5e-5 * parameters
    assert [1e9 * run["params_b"] for run in runs] == pytest.approx([parameters] * 2, abs=rounded)
    assert {run["quant"] for run in runs} == {"F32"}
