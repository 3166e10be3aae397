"""The notebooks run, and the site builds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pages.reading import CHECKOUT, DOCS, LARGEST_PICTURE_BYTES, NOTEBOOKS


def stored(source: Path) -> dict[str, Any]:
    """Return the committed notebook beside a percent script."""
    content: dict[str, Any] = json.loads(source.with_suffix(".ipynb").read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_and_script_are_a_pair(source: Path) -> None:
    """The committed notebook has the cells of the script beside it."""
    import jupytext

    cells = [(cell.cell_type, cell.source) for cell in jupytext.read(source).cells]
    found = [(cell["cell_type"], "".join(cell["source"])) for cell in stored(source)["cells"]]
    assert found == cells


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_has_its_outputs(source: Path) -> None:
    """The committed notebook ran from top to bottom without an error; its pictures are small."""
    cells = [cell for cell in stored(source)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert all(output["output_type"] != "error" for output in outputs)
    pictures = ["".join(data) for o in outputs for data in o.get("data", {}).values()]
    assert max(map(len, pictures)) <= LARGEST_PICTURE_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(source: Path) -> None:
    """The notebook runs in a new kernel, and its closing assertions hold."""
    notebook = str(source.with_suffix(".ipynb"))
    command = [sys.executable, "-m", "pytest", "-q", "--nbmake", "--nbmake-timeout=600", notebook]
    options = ["-o", "addopts=", "-p", "no:cacheprovider", "-W", "ignore"]
    environment = {**os.environ, "MOE2OPT_SMOKE": "1", "PYTEST_ADDOPTS": ""}
    done = subprocess.run(
        [*command, *options],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_pages_build_without_a_warning(tmp_path: Path) -> None:
    """Sphinx builds the pages with warnings as errors."""
    pytest.importorskip("myst_nb", reason="the extra `docs` is not installed")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
