"""The pages, and what stands in their blocks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
DOCS = CHECKOUT / "docs"
PAGES = (CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *sorted(DOCS.glob("**/*.md")))
NOTEBOOKS = sorted((CHECKOUT / "notebooks").glob("*.py"))
LARGEST_PICTURE_BYTES = 150_000
REFERENCE = json.loads((CHECKOUT / "problems/reference/mmlu_pro_edge.json").read_text("utf-8"))


def name_of(path: Path) -> str:
    """Return the path of a page inside the checkout."""
    return str(path.relative_to(CHECKOUT))


def blocks(path: Path, language: str) -> list[str]:
    """Return the fenced code blocks of a page in one language."""
    fence = re.compile(rf"^```\{{?{language}\}}?[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return fence.findall(path.read_text(encoding="utf-8"))


def commands(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the commands in the console blocks of a page with the output shown below each."""
    text = path.read_text(encoding="utf-8")
    for block in re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            yield command, expected
