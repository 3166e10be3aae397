"""The machines of the guide are planned as the guide shows them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from moe2opt.cli.app import app

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs/guides/fit-a-model.md").read_text()
CONFIGS = json.loads((CHECKOUT / "tests/llamacpp/configs.json").read_text())

#: Command and output of every transcript that needs a configuration only.
SHOWN = re.findall(r"```text\n\$ moe2opt (place \S+ --quant [^\n]+)\n(.*?)```", PAGE, re.S)


def test_there_are_three_machines() -> None:
    """The guide works through one card, two cards, and one memory for all."""
    assert len(SHOWN) == 3


@pytest.mark.parametrize(("command", "output"), SHOWN)
def test_bytes_and_line_are_as_shown(
    command: str, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command of the page prints the same table of bytes, and the same line."""
    words = shlex.split(command)
    (tmp_path / words[1]).mkdir()
    (tmp_path / words[1] / "config.json").write_text(json.dumps(CONFIGS[words[1]]["config"]))
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0
    kept = re.compile(r"(device|gpu\d|cpu|llama-server) .*")
    shown, printed = (
        [line for line in text.splitlines() if kept.match(line)] for text in (output, told.stdout)
    )
    assert shown == printed
