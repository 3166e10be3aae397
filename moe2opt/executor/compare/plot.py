"""A picture of prediction and measurement, layer by layer."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from moe2opt.executor.compare.figures import Comparison
from moe2opt.executor.faults import explained
from moe2opt.writing import replacing


def plot(comparison: Comparison, title: str, path: Path) -> None:
    """Write bars of time and bytes per token of each layer, predicted and measured, as SVG.

    Raises
    ------
    InputError
        When the file cannot be written.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    layers = comparison.layers
    for axis, name, scale, unit in zip(
        axes, ("time", "bytes"), (1e3, 1e-6), ("ms per token", "MB per token"), strict=True
    ):
        rows = [getattr(layer, name) for layer in layers]
        places = range(len(rows))
        for k, which in enumerate(("predicted", "measured")):
            values = [scale * (getattr(row, which) or 0.0) for row in rows]
            axis.bar([p + 0.4 * k - 0.2 for p in places], values, width=0.4, label=which)
        axis.set_xticks(list(places), [str(layer.layer) for layer in layers])
        axis.set_xlabel("layer")
        axis.set_ylabel(unit)
        axis.set_title(f"experts: {name}")
    axes[0].legend()
    figure.suptitle(title)
    with explained("cannot write the plot", path), replacing(path) as beside:
        figure.savefig(beside, format="svg")
