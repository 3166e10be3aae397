"""Execute the notebooks and write them with their outputs.

Usage, from the checkout::

    python docs/studies/run_notebooks.py [--record] [NAME...]

reads every ``notebooks/*.py`` (jupytext, percent format), or those whose names start with NAME, and
writes the ``.ipynb`` beside it. With ``--record`` what a notebook calls HEADLINE is written to
``problems/reference/notebooks.json`` instead, before its last cell, which compares, is run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

CHECKOUT = Path(__file__).resolve().parents[2]
NOTEBOOKS = CHECKOUT / "notebooks"
RECORD = CHECKOUT / "problems" / "reference" / "notebooks.json"

#: Seconds that one notebook may take.
TIMEOUT_S = 300

_PRINT = "import json as _json\nprint(_json.dumps(HEADLINE))"


def executed(source: Path) -> Any:
    """Return the notebook of a percent script with the outputs of a fresh run."""
    notebook = jupytext.read(source)
    _client(notebook).execute(cwd=str(source.parent))
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02}"
    notebook.metadata.pop("language_info", None)
    return notebook


def _client(notebook: Any) -> NotebookClient:
    return NotebookClient(
        notebook, timeout=TIMEOUT_S, kernel_name="python3", record_timing=False,
    )  # fmt: skip


def recorded(source: Path) -> Any:
    """Return what a percent script calls HEADLINE, None when it has none."""
    notebook = jupytext.read(source)
    if not any(cell.source.startswith("HEADLINE = ") for cell in notebook.cells):
        return None
    notebook.cells[-1] = nbformat.v4.new_code_cell(_PRINT)
    _client(notebook).execute(cwd=str(source.parent))
    return json.loads(notebook.cells[-1].outputs[0]["text"])


def record(sources: list[Path]) -> None:
    """Write the headlines of the notebooks that have some."""
    content = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}
    for source in sources:
        found = recorded(source)
        if found is not None:
            content[source.stem] = found
            print(f"{source.stem} recorded")
    ordered = dict(sorted(content.items()))
    RECORD.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> None:
    """Write every notebook, or those that are named."""
    names = tuple(argument for argument in arguments if argument != "--record")
    sources = [s for s in sorted(NOTEBOOKS.glob("*.py")) if not names or s.name.startswith(names)]
    if "--record" in arguments:
        record(sources)
        return
    for source in sources:
        nbformat.write(executed(source), source.with_suffix(".ipynb"))
        print(f"notebooks/{source.stem}.ipynb written", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
