"""The file that an instance was loaded from, which the instance carries as ``source``."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moe2opt.content import Content
from moe2opt.text import shown


@dataclass(frozen=True, eq=False, repr=False)
class Source(Content):
    """Where an instance comes from.

    Attributes
    ----------
    name
        Name of the instance, followed by the scenario.
    question
        Name of the question that the file asks.
    solver
        The solver section, which gives the defaults of `moe2opt.solve`.
    path
        The file.
    scenario
        Name of the scenario, None for none.
    overrides
        Overrides given to `load`, as texts.
    effective
        The data that were used: file, scenario and overrides joined.
    """

    name: str
    question: str
    solver: Any
    path: Path
    scenario: str | None
    overrides: tuple[str, ...]
    effective: dict[str, Any]

    def effective_yaml(self) -> str:
        """Return the effective configuration as YAML; paths stay relative to the original file."""
        from ruamel.yaml import YAML

        writer: Any = YAML(typ="safe", pure=True)
        writer.default_flow_style = False
        writer.width = 1000
        writer.sort_base_mapping_type_on_output = False
        text = io.StringIO()
        writer.dump(self.effective, text)
        file = shown(self.path.name)
        origin = f"# Effective configuration of {shown(self.name)}; paths are relative to {file}"
        return f"{origin}\n{text.getvalue()}"


def source_of(target: Any) -> Source | None:
    """Return what an instance was loaded from; None for one made in code, and for a problem."""
    found = getattr(target, "source", None)
    return found if isinstance(found, Source) else None


def name_of(target: Any) -> str:
    """Return the name of an instance, followed by its scenario; ``problem`` for a bare problem."""
    source = source_of(target)
    return str(getattr(target, "name", "problem")) if source is None else source.name
