"""YAML section about the machines that serve a selection."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from moe2opt.schema import FileName, Name, Section

Port = Annotated[int, Field(ge=1, le=65535)]


class Serving(Section):
    """Where the deployed experts run and where their weights are; read by `moe2opt export` only.

    What is left out becomes a placeholder that the export marks.
    """

    group: Name = "moe2"
    """Name of the model that clients ask the proxy for."""
    hosts: dict[Name, Name] = Field(default_factory=dict)
    """Host name or address of each server, as the proxy reaches it."""
    listen: Name | None = None
    """Address that every server listens on, such as 0.0.0.0 for all of its networks; when left out,
    the one in `hosts`, and 127.0.0.1 where there is none."""
    first_port: Port = 8080
    """Port of the first expert on a host; the others follow."""
    model_folder: FileName = "/models"
    """Folder of the weight files on the servers."""
    model_files: dict[Name, dict[Name, FileName]] = Field(default_factory=dict)
    """Weight file of each LLM and precision, relative to `model_folder`."""
    context_tokens: Annotated[int, Field(ge=1)] = 4096
    """Context of one request in tokens; `context_gib` must have room for it."""
    gpu_layers: Annotated[int, Field(ge=0)] = 99
    """Layers of every model on the accelerator; selections assume all of them."""
