"""What all plots share: colours that colour-blind readers tell apart, labels with units, files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from moe2opt.present import label_of as label_of
from moe2opt.result import FloatArray, InputError
from moe2opt.text import shown
from moe2opt.writing import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colours of Okabe and Ito (2008), the yellow last because it is faint on white.
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"),
)

#: A second way, besides the colour, to tell curves apart.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")

#: Colour map of figures: monotone in lightness, hence readable in grey and by colour-blind readers.
SEQUENTIAL = "cividis"

#: Background of what does not exist: proven infeasible, or not there.
ABSENT = "#DDDDDD"

#: Formats of `save`, with the entry that would otherwise make every file differ.
_FORMATS = {"svg": {"Date": None}, "png": {"Software": None}, "pdf": {"CreationDate": None}}


def colour(k: int) -> str:
    """Return the colour of curve `k`; after eight they start again."""
    return COLOURS[k % len(COLOURS)]


def marker(k: int) -> str:
    """Return the marker of curve `k`; after eight they start again."""
    return MARKERS[k % len(MARKERS)]


def dashes(k: int) -> str:
    """Return the line style of curve `k`; after four they start again."""
    return ("-", "--", "-.", ":")[k % 4]


def axis_label(name: str, *, percent: bool = False) -> str:
    """Return the label of a name of the code, or of words, which stay as they are."""
    return (name if " " in name else label_of(name)) + (" (%)" if percent else "")


def numbers(values: npt.ArrayLike, what: str) -> FloatArray:
    """Return values as floats.

    Raises
    ------
    InputError
        When some are no numbers.
    """
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{what} must be numbers") from None


def in_legend(label: str) -> str:
    """Return a name as matplotlib shows it; names that begin with an underscore it leaves out."""
    return f" {label}" if label.startswith("_") else label


def new_figure(width_inches: float = 6.4, height_inches: float = 4.0) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes, outside the global state of pyplot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    return figure, figure.subplots()


def new_panels(rows: int, columns: int, width_inches: float = 4.8) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels of one height of values, row by row."""
    from matplotlib.figure import Figure

    size = (width_inches * columns + 2.4, 3.6 * rows + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    return figure, list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)


def check_figure(path: Path) -> str:
    """Return the format of a figure by its ending; raise `InputError` for one not written."""
    kind = path.suffix.lstrip(".").lower()
    if kind not in _FORMATS:
        raise InputError(f"{path}: a figure is written as {', '.join(_FORMATS)}")
    return kind


def finish(
    ax: Axes, *, title: str | None, subtitle: str | None, legend: bool, grid: bool = True
) -> Axes:
    """Add title, subtitle, grid and legend in the house's manner, and return the axes."""
    if subtitle:
        ax.set_title(subtitle, fontsize=7.5, loc="left", color="#444444")
    if title:
        above = 1.0 + 0.055 * (1 + subtitle.count("\n") if subtitle else 0) + 0.015
        ax.text(0.0, above, title, transform=ax.transAxes, fontsize=10, va="bottom")
    if grid:
        ax.grid(visible=True, color="#EEEEEE")
        ax.set_axisbelow(True)
    if legend and ax.get_legend_handles_labels()[1]:
        ax.legend(fontsize="small", frameon=False)
    return ax


def save(figure: Figure, path: str | Path, *, dpi: float = 144) -> Path:
    """Write a figure as SVG, PNG or PDF, by the ending of `path`; equal input gives equal bytes.

    Raises
    ------
    InputError
        When the ending is another one, or the file cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.text import Text

    path = Path(path)
    kind = check_figure(path)
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a dollar in a name is no formula
        text.set_text(shown(text.get_text(), lines=True))
    with mpl.rc_context({"svg.hashsalt": "moe2opt", "svg.fonttype": "none"}), replacing(path) as to:
        figure.savefig(to, format=kind, metadata=_FORMATS[kind], dpi=dpi)
    return path
