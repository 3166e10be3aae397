"""The texts of a format as ``export`` writes, prints and explains them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moe2opt.placement.export.base import Export
from moe2opt.writing import write_text


@dataclass(frozen=True, slots=True)
class Exports:
    """The texts that a runtime needs for a plan.

    Attributes
    ----------
    parts
        The main text and those that go beside it, with their suffixes.
    """

    parts: Sequence[Export]

    @property
    def text(self) -> str:
        """All texts."""
        return "".join(part.text for part in self.parts)

    def _files(self, out: Path | None) -> list[Path | None]:
        if out is None:
            return [None for _ in self.parts]
        return [out.with_name(f"{out.stem}{p.suffix}") if p.suffix else out for p in self.parts]

    def write(self, out: Path) -> None:
        """Write every text; further ones go beside the first, with their suffix."""
        for file, part in zip(self._files(out), self.parts, strict=True):
            assert file is not None
            write_text(file, part.text, "--out ")

    def content(self, out: Path | None) -> dict[str, Any]:
        """Return every text, how it is used, and what was lost."""
        return {
            "exports": [
                {
                    "file": None if file is None else str(file),
                    "text": part.text,
                    "launch": _launch(part, file),
                    "report": part.report.to_dict(),
                    **part.extras,
                }
                for file, part in zip(self._files(out), self.parts, strict=True)
            ]
        }

    def words(self, out: Path | None) -> list[str]:
        """Return how each text is used and what was lost."""
        lines = []
        for file, part in zip(self._files(out), self.parts, strict=True):
            lines += [] if file is None else [f"\n{file}"]
            lines += [f"Run: {_launch(part, file)}"] if part.launch else []
            lines.append(part.report.summary())
        return lines


def _launch(part: Export, name: Path | None) -> str:
    """Return how to use a text; its name is quoted for the shell or for Python."""
    file = f"FILE{part.suffix}" if name is None else str(name)
    quoted = {"{file}": shlex.quote(file), "{file!r}": repr(file)}
    return re.sub(r"\{file(!r)?\}", lambda found: quoted[found[0]], part.launch)
