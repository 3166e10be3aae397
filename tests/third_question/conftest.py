"""The package that `docs/development/add-a-question.md` writes, where Python finds packages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moe2opt import config

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs" / "development" / "add-a-question.md"

#: A file of the page: a code block with its path as caption.
FILE = re.compile(r"^```\{code-block\} \S+\n:caption: (\S+)\n\n(.*?)^```", re.DOTALL | re.MULTILINE)

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def installed(folder: Path) -> Path:
    """Write the files of the page into a folder, with what an installer makes of the last one."""
    for name, content in FILE.findall(PAGE.read_text(encoding="utf-8")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = project["name"], project["version"]
    info = folder / "{}-{}.dist-info".format(*named)
    info.mkdir()
    head = "Metadata-Version: 2.1\nName: {}\nVersion: {}\n".format(*named)
    (info / "METADATA").write_text(head, encoding="utf-8")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of installed packages with the one of the page."""
    return installed(tmp_path_factory.mktemp("site"))


@pytest.fixture
def drafts(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process find the package."""
    monkeypatch.syspath_prepend(str(site))
    yield
    config._model.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "drafts"]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def run(site: Path) -> Run:
    """Return a function that runs a command line of moe2opt in a folder, the package installed."""

    def moe2opt(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
        paths = [str(site), str(CHECKOUT)]
        where = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "120"}
        code = "import sys; from moe2opt.cli import main; sys.argv[0] = 'moe2opt'; main()"
        return subprocess.run(
            [sys.executable, "-c", code, *map(str, words)],
            cwd=folder, env=where, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return moe2opt
