"""Run models for real with torch: what a plan promises, measured.

The public names below are imported on first use: who only compares or calibrates needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from moe2opt.executor.faults import require_torch

if TYPE_CHECKING:
    from moe2opt.executor.compare.compare import predict as predict
    from moe2opt.executor.job import execute_plan as execute_plan
    from moe2opt.executor.model.folder import ModelFolder as ModelFolder
    from moe2opt.executor.model.folder import open_folder as open_folder
    from moe2opt.executor.model.routing import profile_routing as profile_routing

#: Where each public name lives.
_HOME = {
    "predict": "compare.compare",
    "ModelFolder": "model.folder",
    "open_folder": "model.folder",
    "profile_routing": "model.routing",
    "execute_plan": "job",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name != "predict":
        require_torch()
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
