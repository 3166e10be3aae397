"""Execute the notebooks and write them with their outputs.

Usage, from the checkout::

    python docs/scripts/run_notebooks.py

reads every ``notebooks/*.py`` (jupytext, percent format) and writes the ``.ipynb`` beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"

#: Seconds that one notebook may take.
TIMEOUT_S = 300


def executed(source: Path) -> Any:
    """Return the notebook of a percent script with the outputs of a fresh run."""
    notebook = jupytext.read(source)
    client = NotebookClient(notebook, timeout=TIMEOUT_S, kernel_name="python3", record_timing=False)
    client.execute(cwd=str(source.parent))
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02}"
    notebook.metadata.pop("language_info", None)
    return notebook


def main() -> None:
    """Write every notebook."""
    for source in sorted(NOTEBOOKS.glob("*.py")):
        target = source.with_suffix(".ipynb")
        nbformat.write(executed(source), target)
        print(f"notebooks/{target.name} written")


if __name__ == "__main__":
    main()
