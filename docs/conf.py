"""Sphinx configuration: Markdown pages, numpydoc docstrings, executed notebooks as they are."""

from __future__ import annotations

import re
import shutil
from importlib.metadata import version as version_of
from importlib.util import find_spec
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent

project = "moe2opt"
author = "The moe2opt developers"
copyright = author
version = release = version_of("moe2opt")

extensions = ["myst_nb", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.mathjax"]
exclude_patterns = ["_build", "studies", "jupyter_execute"]
html_theme = "pydata_sphinx_theme"
html_theme_options = {"show_toc_level": 2, "secondary_sidebar_items": ["page-toc"]}

myst_enable_extensions = ["amsmath", "deflist", "dollarmath"]
myst_heading_anchors = 3

# Notebooks carry their committed outputs; a test executes them.
nb_execution_mode = "off"

autodoc_typehints = "signature"
autodoc_mock_imports = [name for name in ("torch", "safetensors") if find_spec(name) is None]
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
# Members are listed in the attribute sections of the class docstrings.
numpydoc_class_members_toctree = False


def _copy_notebooks() -> None:
    """Bring the notebooks into the source tree, where Sphinx looks for pages."""
    target = DOCS / "notebooks"
    target.mkdir(exist_ok=True)
    for notebook in sorted((DOCS.parent / "notebooks").glob("*.ipynb")):
        shutil.copyfile(notebook, target / notebook.name)


def _point_at_copies(app: object, name: str, source: list[str]) -> None:
    """Pages link to the notebooks of the checkout; in the built pages they link to the copies."""
    source[0] = re.sub(r"\]\(((?:\.\./)*)\.\./notebooks/", r"](\1notebooks/", source[0])


def _remove_copies(*_: object) -> None:
    shutil.rmtree(DOCS / "notebooks", ignore_errors=True)


def setup(app: Any) -> None:
    """Copy the notebooks before pages are collected, and leave no copy behind."""
    _copy_notebooks()
    app.connect("build-finished", _remove_copies)
    app.connect("source-read", _point_at_copies)
