"""The launch scripts and the router with llama.cpp's server itself, on this machine.

Opt-in: ``MOE2OPT_LLAMA_CPP`` names the folder of the binaries, and `gguf` must be installed.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from profiles.llamabench.tiny_gguf import write_tiny_model
from ruamel.yaml import YAML

from moe2opt.selection.export.litellm_router import gate_router

from .conftest import Served, export

pytestmark = [pytest.mark.llamacpp, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

Serve = Callable[..., Served]


@pytest.fixture(scope="module")
def binaries() -> Path:
    """Folder with llama-server."""
    folder = Path(os.environ.get("MOE2OPT_LLAMA_CPP", "nowhere"))
    if not (folder / "llama-server").is_file():
        pytest.skip("MOE2OPT_LLAMA_CPP does not name a folder with llama-server")
    pytest.importorskip("gguf", reason="the library gguf, which writes the tiny model, is missing")
    return folder.resolve()


def free_port() -> int:
    """Return a port that nobody listens on, nor on the next."""
    with socket.socket() as first:
        first.bind(("127.0.0.1", 0))
        return int(first.getsockname()[1])


def answers(url: str) -> bool:
    """Tell whether a server is up."""
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture
def running(
    binaries: Path, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Return an exported folder whose launch scripts run, with a tiny random model as weights."""
    write_tiny_model(tmp_path / "tiny.gguf")
    serve().result.save(tmp_path / "result.json")
    settings = (
        "serving.hosts={slow: 127.0.0.1, fast: 127.0.0.1}",
        f"serving.first_port={free_port()}",
        f"serving.model_folder={tmp_path}",
        "serving.model_files={coder-2b: {int8: tiny.gguf}, writer-2b: {int8: tiny.gguf}}",
        "serving.context_tokens=256",
    )
    words = [word for setting in settings for word in ("--set", setting)]
    out = tmp_path / "out"
    words += ["--to", "litellm", "--config", "tiny_gate", "--out", str(out)]
    assert export(tmp_path / "result.json", *words).exit_code == 0
    monkeypatch.setenv("MOE2OPT_API_KEY", "tiny-key")
    path = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scripts = [
        subprocess.Popen(["sh", script], env=path, start_new_session=True, **quiet)
        for script in sorted(out.glob("serve-*.sh"))
    ]
    try:
        yield out
    finally:
        for script in scripts:
            os.killpg(script.pid, 15)
            script.wait()


def test_launch_scripts_serve_what_the_proxy_expects(running: Path) -> None:
    """Every llama-server comes up under its alias and answers the requests routed to it."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    litellm = pytest.importorskip("litellm", reason="needs the extra `serve`")
    content = YAML(typ="safe").load((running / "litellm.yaml").read_text())
    bases = [m["litellm_params"]["api_base"] for m in content["model_list"]]
    deadline = time.monotonic() + 60
    while not all(answers(f"{base}/models") for base in bases):
        assert time.monotonic() < deadline, "the servers did not come up"
        time.sleep(0.2)
    callback, before = gate_router(running), list(litellm.callbacks)
    litellm.callbacks = [callback]
    router = litellm.Router(model_list=content["model_list"], **content["router_settings"])

    async def ask(category: str) -> str:
        message = [{"role": "user", "content": "a"}]
        response = await router.acompletion(
            model="moe2", messages=message, metadata={"category": category}, max_tokens=4
        )
        return str(response.model)

    async def run() -> list[str]:
        return [await ask(category) for category in ("code", "prose")]

    try:
        found = asyncio.run(run())
    finally:
        litellm.callbacks = before
    assert found == [callback.dispatcher.best(None, category) for category in ("code", "prose")]
    assert len(set(found)) == 2
