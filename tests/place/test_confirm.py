"""The runtime's own figures beside a plan: what agrees, what lacks, and what follows."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_models import MIB, model

import moe2opt as mo
from moe2opt.errors import InputError
from moe2opt.llamacpp.runtime import Answer, Told
from moe2opt.place import PlaceConfig, PlaceInstance, PlacePlan
from moe2opt.place.confirm import compared, confirm, corrected
from moe2opt.place.question import instance_of

HEADERS = Path(__file__).parents[3] / "shared/tools/gguf_headers.py"
NAMES = [
    *("gpt-oss-120b", "qwen3-30b-a3b", "deepseek-r1", "qwen35-35b", "nemotron3-nano"),
    *("glm45-air", "gemma3-27b", "llama4-maverick", "mixtral-8x7b", "minimax-m2"),
    *("qwen3next-80b", "llama33-70b", "qwen3-235b"),
]


def planned(*gpus: dict[str, Any], name: str = "gpt-oss-120b") -> tuple[PlaceInstance, PlacePlan]:
    """Return a question and its plan."""
    content = {"problem": "place", "model": "m.gguf", "gpus": list(gpus), "ram": {"gib": 96}}
    instance = instance_of(PlaceConfig.model_validate(content), model(name))
    plan = mo.solve(instance).plan
    assert isinstance(plan, PlacePlan)
    return instance, plan


def told(plan: PlacePlan, **more: int) -> Answer:
    """Return what a runtime says that agrees with a plan, but for some MiB of its first device."""
    *devices, ram = (
        Told(
            row["name"],
            round(row["weights_bytes"] / MIB) + more.get("weights", 0) * (k == 0),
            round(row["context_bytes"] / MIB) + more.get("context", 0) * (k == 0),
            round(row["compute_bytes"] / MIB) + more.get("compute", 0) * (k == 0),
            99999,
            99999,
        )
        for k, row in enumerate(plan.devices)
    )
    return Answer(tuple(devices), ram)


CARD = {"gib": 24, "gb_per_s": 936}


def test_the_same_figures_confirm() -> None:
    """Figures that agree within the rounding of the runtime confirm the plan."""
    _, plan = planned(CARD)
    found = compared(plan, told(plan))
    assert (found.agrees, found.differences, found.lacking_bytes) == (True, (), {})
    assert [row["name"] for row in found.rows] == ["gpu0", "cpu"]


@pytest.mark.parametrize("what", ["weights", "context"])
def test_other_figures_are_told(what: str) -> None:
    """Weights or contexts of another size are named with both figures."""
    _, plan = planned(CARD)
    found = compared(plan, told(plan, **{what: 5}))
    assert not found.agrees
    assert found.differences[0].startswith(f"gpu0: {what} ")
    assert found.differences[0].endswith(" MiB told")


def test_a_larger_buffer_makes_another_plan() -> None:
    """Where the runtime computes with more than was kept, the next plan keeps that, too."""
    instance, plan = planned(CARD)
    found = compared(plan, told(plan, compute=3000))
    assert not found.agrees
    assert found.lacking_bytes[0] > 2000 * MIB
    again = mo.solve(corrected(instance, found)).plan
    assert again is not None
    before, after = (sum(x["experts"] == "cpu" for x in p.layers) for p in (plan, again))
    assert after > before
    assert compared(again, told(again, compute=3000)).lacking_bytes.get(0, 0) < MIB * 3000


def test_other_devices_are_told() -> None:
    """A runtime that sees another number of devices is not compared."""
    _, plan = planned(CARD, {"gib": 12, "gb_per_s": 360})
    answer = told(plan)
    with pytest.raises(InputError, match="the runtime sees 1 devices"):
        compared(plan, Answer(answer.devices[:1], answer.ram))


@pytest.fixture(scope="module")
def programs() -> Path:
    """Return the folder of llama.cpp's programs."""
    folder = os.environ.get("MOE2OPT_LLAMA_CPP")
    if not folder:
        pytest.skip("MOE2OPT_LLAMA_CPP does not name the folder of llama.cpp's programs")
    if not HEADERS.is_file():
        pytest.skip("needs ../shared/tools/gguf_headers.py, which writes headers of public models")
    return Path(folder)


@pytest.fixture(scope="module")
def headers(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write headers of public models, without weights."""
    del programs
    folder = tmp_path_factory.mktemp("headers")
    environment = {**os.environ, "GGUF_HEADERS_DIR": str(folder)}
    subprocess.run([sys.executable, str(HEADERS), *NAMES], env=environment, check=True)
    return folder


@pytest.fixture
def servers(programs: Path, request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Start servers that stand for devices; one may end, or hang, when its client is cut."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(programs)}
    started, addresses = [], []
    for port in range(18172, 18172 + getattr(request, "param", 2)):
        command = [str(programs / "ggml-rpc-server"), "-d", "CPU", "-H", "127.0.0.1"]
        started.append(subprocess.Popen([*command, "-p", str(port), "-t", "1"], env=environment))
        addresses.append(f"127.0.0.1:{port}")
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
    yield addresses
    for process in started:
        process.kill()
        process.wait()


def confirmed(file: Path, programs: Path, servers: list[str], gib: tuple[int, ...]) -> None:
    """Plan a file for devices of these sizes, and compare with what the runtime says."""
    from moe2opt.llamacpp import read_llama

    rates = {24: 936, 48: 936, 16: 936, 12: 360, 8: 360}
    content = {
        "problem": "place",
        "model": str(file),
        "gpus": [{"gib": size, "gb_per_s": rates[size]} for size in gib],
        "context": {"tokens": 32768},
        "rpc": servers,
    }
    instance = instance_of(PlaceConfig.model_validate(content), read_llama(file))
    plan = mo.solve(instance, rel_gap=0.005 if len(gib) > 2 else 0.0).plan
    assert isinstance(plan, PlacePlan)
    found = confirm(instance, plan, programs)
    assert (found.agrees, found.differences) == (True, ())


@pytest.mark.slow
@pytest.mark.llamacpp
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("first", "second"), [(24, 12), (48, 48), (16, 8)])
def test_the_runtime_confirms(
    headers: Path, programs: Path, servers: list[str], name: str, first: int, second: int
) -> None:
    """llama-server itself confirms weights and context of every device, and that it fits."""
    confirmed(headers / f"{name}.gguf", programs, servers, (first, second))


@pytest.mark.slow
@pytest.mark.llamacpp
@pytest.mark.parametrize("servers", [5], indirect=True)
@pytest.mark.parametrize(
    ("name", "gib"),
    [
        ("glm45-air", (8, 8, 8, 8, 8)),
        ("qwen35-35b", (8, 8, 8, 8, 8)),
        ("gpt-oss-120b", (24, 8, 12, 8, 16)),
    ],
)
def test_the_runtime_confirms_five_devices(
    headers: Path, programs: Path, servers: list[str], name: str, gib: tuple[int, ...]
) -> None:
    """Layers split on several of five devices, and devices that are left empty, are confirmed."""
    confirmed(headers / f"{name}.gguf", programs, servers, gib)


@pytest.mark.slow
@pytest.mark.llamacpp
def test_a_planned_line_answers(programs: Path, servers: list[str], tmp_path: Path) -> None:
    """The line of a plan, started as it is, answers with tokens from two devices and RAM."""
    from moe2opt.llamacpp import read_llama

    environment = {**os.environ, "GGUF_HEADERS_DIR": str(tmp_path)}
    subprocess.run([sys.executable, str(HEADERS), "tiny"], env=environment, check=True)
    file = tmp_path / "tiny.gguf"
    content = {
        "problem": "place",
        "model": str(file),
        "gpus": [{"gib": 0.02, "gb_per_s": 936}, {"gib": 0.015, "gb_per_s": 360}],
        "context": {"tokens": 256},
        "ubatch": [32],
        "ram": {"gib": 8, "gb_per_s": 0.05},
        "margin_gib": 0.0,
        "rpc": servers,
    }
    instance = instance_of(PlaceConfig.model_validate(content), read_llama(file))
    plan = mo.solve(instance).plan
    assert isinstance(plan, PlacePlan)
    held = [row["weights_bytes"] for row in plan.devices]
    assert min(held) > 0
    found = confirm(instance, plan, programs)
    assert (found.agrees, found.differences) == (True, ())
    program, *words = shlex.split(plan.command)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [str(programs / program), *words, "--host", "127.0.0.1", "--port", str(port)]
    libraries = {**os.environ, "LD_LIBRARY_PATH": str(programs)}
    with subprocess.Popen(line, env=libraries, stderr=subprocess.DEVNULL) as process:
        try:
            assert answered(port, 8) == 8
        finally:
            process.kill()


def answered(port: int, tokens: int) -> int:
    """Return how many tokens a server answers with once it is ready."""
    body = json.dumps({"prompt": "a b c", "n_predict": tokens, "ignore_eos": True}).encode()
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/completion", body)
    for _ in range(150):
        try:
            with urllib.request.urlopen(asked, timeout=60) as reply:
                return int(json.load(reply)["tokens_predicted"])
        except OSError:  # not there yet, or still loading
            time.sleep(0.2)
    pytest.fail("llama-server gave no answer")
