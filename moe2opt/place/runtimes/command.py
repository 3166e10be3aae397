"""Commands as a shell reads them."""

from __future__ import annotations

import re
import shlex
from typing import Any

from moe2opt.place.case import Case

_VARIABLE = re.compile(r"[A-Z_]+")


def spoken(start: list[str], options: dict[str, Any]) -> str:
    """Return a command: variables of the environment in front, options behind the program."""
    before = [f"{key}={value}" for key, value in options.items() if _VARIABLE.fullmatch(key)]
    after = [
        word
        for key, value in options.items()
        if not _VARIABLE.fullmatch(key)
        for word in (f"--{key}", str(value))
    ]
    return " ".join([*before, shlex.join([*start, *after])])


def model_name(case: Case) -> str:
    """Return what commands call the model: a file, or the folder of a configuration."""
    name = case.config.command_model or case.config.model
    name = name.removesuffix("/config.json")
    return f"./{name}" if name.startswith("-") else name


def is_gguf(case: Case) -> bool:
    """Tell whether the model is a GGUF file."""
    return model_name(case).endswith(".gguf")
