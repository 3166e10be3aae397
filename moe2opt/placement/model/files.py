"""The shape of a model from its files, by the kind of file."""

from __future__ import annotations

from pathlib import Path

from moe2opt.placement.model.gguf import shape_of_gguf
from moe2opt.placement.model.huggingface import shape_of_config
from moe2opt.placement.model.safetensors import shape_of_safetensors
from moe2opt.placement.model.shape import ModelShape
from moe2opt.placement.sections import Model


def shape_from_files(kind: str, path: Path, model: Model) -> ModelShape:
    """Return the shape of a model from its files.

    Parameters
    ----------
    kind
        ``gguf``, ``safetensors`` or ``hf``.
    path
        File or folder.
    model
        Section with the bits of the dense part and of the context.

    Raises
    ------
    InputError
        For files that are missing, truncated, foreign or without routed experts, or when the
        library that reads them is missing.
    """
    if kind == "gguf":
        return shape_of_gguf(path, model)
    if kind == "safetensors":
        return shape_of_safetensors(path, model)
    return shape_of_config(path if path.suffix == ".json" else path / "config.json", model)
