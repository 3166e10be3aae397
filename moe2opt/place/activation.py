"""How often experts are used, and why that changes no plan of llama.cpp.

llama.cpp keeps all routed experts of a matrix of a layer in one tensor, so a device holds all of
them or none, and every token reads as many experts in every layer: which ones are hot moves no
byte. What the counts say is what an engine that places single experts could gain.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from moe2opt.errors import InputError
from moe2opt.llamacpp import LlamaModel
from moe2opt.schema.csv import COUNT, Column, read_table

_COLUMNS: dict[str, Column] = {
    "layer": COUNT,
    "expert": COUNT,
    "count": Column("number", least=0),
}


def activation_note(path: Path, model: LlamaModel) -> str:
    """Return what counts of a CSV file (layer, expert, count) mean for a plan, in words.

    Raises
    ------
    InputError
        Naming file and row, where a layer or an expert is not of the model, or nothing was used.
    """
    known = {layer.index for layer in model.layers if layer.experts}
    if not known:
        raise InputError(f"--activation: {model.name} has no routed experts")
    used: dict[int, np.ndarray] = {}
    for number, row in enumerate(read_table(path, _COLUMNS, unique=("layer", "expert")), start=2):
        layer, expert = int(row["layer"]), int(row["expert"])
        if layer not in known:
            raise InputError(f"{path}:{number}: layer {layer} has no experts in the model")
        if expert >= model.experts:
            raise InputError(f"{path}:{number}: expert {expert}; the model has {model.experts}")
        used.setdefault(layer, np.zeros(model.experts))[expert] = float(row["count"])
    if not used or min(own.sum() for own in used.values()) <= 0:
        raise InputError(f"{path}: a layer without any use says nothing")
    half = max(model.experts // 2, 1)
    served = np.mean([np.sort(own)[::-1][:half].sum() / own.sum() for own in used.values()])
    return (
        f"the {half} most used experts of a layer serve {served:.0%} of its uses ({len(used)} of "
        f"{len(known)} layers counted), but llama.cpp places the experts of a layer together and "
        "every token reads as many in every layer: the counts change nothing of this plan; an "
        "engine that places single experts could use them (moe2opt placement)"
    )
