"""Routing of a folder as counts and trace that the placement question reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from executor.conftest import Make
from typer.testing import CliRunner

from moe2opt.placement.experts.activation import from_counts, from_trace, read_npz

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe", "qwen3_moe", "olmoe"])
def test_any_folder_is_profiled(family: str, make: Make, tmp_path: Path) -> None:
    """Counts and trace of a text agree, and the placement's readers take both."""
    model = make(family)
    text = tmp_path / "prose.npy"
    np.save(text, np.random.default_rng(0).integers(0, 64, 700))
    from moe2opt.cli.app import app

    command = ["profile", "--routing", str(model), "--text", str(text), "--context", "32"]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["texts"][0]["tokens"] == 672
    layers = (0, 2) if family == "qwen3_moe" else (0, 1, 2)
    counts = from_counts(tmp_path / "out" / "counts.csv", layers, 4, 2, None)
    trace = from_trace(tmp_path / "out" / "trace.npz", len(layers), 4, 2)
    assert counts.domains == ("prose",)
    np.testing.assert_allclose(counts.mixed, trace.mixed)
    assert trace.starts is not None
    assert trace.starts.tolist() == list(range(0, 672, 32))


def test_domains_stay_apart(make: Make, tmp_path: Path) -> None:
    """Each text is a domain of the counts, and the trace says which token is whose."""
    from moe2opt.executor.model.routing import profile_routing

    for name, letter in (("one", b"a"), ("two", b"?")):
        (tmp_path / f"{name}.txt").write_bytes(letter * 300)
    model = make(vocab_size=256)
    files = [tmp_path / "one.txt", tmp_path / "two.txt"]
    routing = profile_routing(model, files, tmp_path / "out", context=64)
    arrays = read_npz(tmp_path / "out" / "trace.npz")
    assert arrays["domains"].tolist() == ["one", "two"]
    assert np.bincount(arrays["domain"]).tolist() == [256, 256]
    counts = from_counts(tmp_path / "out" / "counts.csv", (0, 1, 2), 4, 2, None)
    np.testing.assert_allclose(counts.mixed, routing.shares)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give a text with --text"),
        (["--text", "nowhere.txt"], "nowhere.txt"),
        (["--text", "short.txt"], "too few"),
        (["--text", "wide.txt"], "outside the model's vocabulary of 64"),
    ],
)
def test_wrong_texts_are_one_message(
    arguments: list[str],
    words: str,
    make: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A missing, short or foreign text ends with exit code 2 and says which it is."""
    from moe2opt.cli.app import app

    model = make()
    monkeypatch.chdir(tmp_path)
    Path("short.txt").write_bytes(b"#" * 10)
    Path("wide.txt").write_bytes(b"z" * 1000)
    command = ["profile", "--routing", str(model), "--out", "out", *arguments]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    assert words in done.stderr
    assert not Path("out").exists()
