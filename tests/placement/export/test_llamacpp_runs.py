"""llama.cpp itself, told by the exported options, puts the planned tensors where they belong."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from profiles.llamabench import tiny_gguf
from small_plans import make_plan, tier

from moe2opt.placement.export import export
from moe2opt.placement.export.llamacpp import RUNTIME, planned
from moe2opt.placement.export.project import project

pytestmark = pytest.mark.llamacpp

#: Layers, layers before the first with experts, and experts of every built-in problem.
SHAPES = {
    "adapmoe_mixtral_cache": (32, 0, 8),
    "mixtral_8x7b_4090": (32, 0, 8),
    "three_tier_edge": (16, 0, 64),
    "gpt_oss_20b_orin": (24, 0, 32),
    "qwen3_30b_a3b_4090": (48, 0, 128),
    "glm52_server": (78, 3, 256),
    "mobile_edge": (32, 0, 8),
    "tinymoe": (4, 0, 16),
}
OVERRIDDEN = re.compile(r"tensor (\S+) \(.*\) buffer type overridden to (\S+)")
TIMEOUT_S = 60.0


@pytest.fixture
def server() -> Path:
    """Path of llama-server; the test is skipped where none is named."""
    folder = os.environ.get("MOE2OPT_LLAMA_CPP")
    if not folder:
        pytest.skip("MOE2OPT_LLAMA_CPP does not name the folder of llama.cpp's programs")
    pytest.importorskip("gguf", reason="writes a tiny GGUF file: needs the package gguf")
    program = Path(folder) / "llama-server"
    if not program.is_file():
        pytest.fail(f"MOE2OPT_LLAMA_CPP: there is no llama-server in {folder}")
    return program


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def log_of(server: Path, model: Path, options: str, log: Path) -> str:
    """Start the server, wait until the model is loaded, stop it, and return what it logged."""
    address = ["--host", "127.0.0.1", "--port", str(free_port())]
    words = [str(server), "-m", str(model), *shlex.split(options), "-v", "-c", "64", *address]
    with log.open("wb") as stream:
        process = subprocess.Popen(words, stdout=stream, stderr=subprocess.STDOUT)
        try:
            end = time.monotonic() + TIMEOUT_S
            while time.monotonic() < end and process.poll() is None:
                text = log.read_text(encoding="utf-8", errors="replace")
                if "model loaded" in text:
                    return text
                time.sleep(0.2)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    text = log.read_text(encoding="utf-8", errors="replace")
    pytest.fail(f"llama-server loaded no model; it said: {text[-2000:]}")


def test_shapes_are_those_of_the_problems(checkout: Path) -> None:
    """The table has the shape of every built-in problem but that of an encoder with a decoder."""
    import moe2opt as mo

    names = {path.stem for path in (checkout / "problems" / "placement").glob("*.yaml")}
    assert set(SHAPES) == names - {"switch_base_128_phone"}
    for name, sizes in SHAPES.items():
        shape = mo.load(name).shape
        assert sizes == (shape.n_layers, shape.layers[0], shape.experts)


@pytest.mark.parametrize("by", ["layer", "tensor"])
@pytest.mark.parametrize("name", SHAPES)
def test_overridden_tensors_are_the_planned_ones(
    name: str, by: str, server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The set of tensors that llama-server logs as overridden is the plan's set, with buffers."""
    layers, first, experts = SHAPES[name]
    for key, value in {"LAYERS": layers, "EXPERTS": experts, "HIDDEN": 16, "INNER": 16,
                       "HEADS": 2}.items():  # fmt: skip
        monkeypatch.setattr(tiny_gguf, key, value)
    tiny_gguf.write_tiny_model(tmp_path / "model.gguf")
    rng = np.random.default_rng(len(name))
    parts = 3 if by == "tensor" else 1
    where = rng.integers(0, 2, (layers - first, 1, parts)).repeat(2, axis=1)
    tiers = (tier("vram", "gpu", 900.0), tier("dram", "cpu", 900.0))
    plan = make_plan(where, tiers=tiers, first_layer=first)
    (made,) = export(plan, "llama.cpp")
    try:
        text = log_of(server, tmp_path / "model.gguf", made.text, tmp_path / "log")
    finally:
        (tmp_path / "model.gguf").unlink()
    wanted = planned(plan, project(plan, RUNTIME))
    assert wanted
    assert dict(OVERRIDDEN.findall(text)) == wanted
