"""Tables of levels written to files, and drawn ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import strategies as st

import moe2opt as mo
from moe2opt.levels import Case, Level
from moe2opt.present import Measure

#: Accuracies of merged ViT-B/32 models by task and rank (SMILE, families of the reference, T1).
RANKS = (8, 16, 32, 64)
SMILE = {
    "dtd": (0.68883, 0.735638, 0.768085, 0.775532),
    "mnist": (0.9918, 0.9949, 0.9954, 0.9959),
    "cars": (0.673299, 0.713095, 0.74829, 0.766198),
}
TABLE = "task,rank,accuracy\n" + "".join(
    f"{task},{rank},{share}\n"
    for task, shares in SMILE.items()
    for rank, share in zip(RANKS, shares, strict=True)
)
YAML = """\
schema_version: 1
problem: levels
name: ranks
table: t.csv
group: task
option: rank
value: accuracy
budgets: {rank: 112}
"""


def written(folder: Path, yaml: str = YAML, **tables: str) -> Path:
    """Return a configuration on disk beside its tables; the one of the ranks is ``t``."""
    for name, text in ({"t": TABLE} | tables).items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    (folder / "c.yaml").write_text(yaml, encoding="utf-8")
    return folder / "c.yaml"


def solved(target: Any) -> mo.Result[Any]:
    """Return a result that is proven optimal, and whose proof is checked."""
    result = mo.solve(target)
    assert result.status is mo.Status.OPTIMAL
    assert (mo.certify(target, result).kind, mo.certify(target, result).failures) == ("checked", ())
    return result


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a few groups with a few options of small whole numbers."""
    rows = draw(st.integers(1, 2))
    figure = st.integers(0, 9).map(float)
    level = st.tuples(figure, st.tuples(*[figure] * rows))
    menus = draw(st.lists(st.lists(level, min_size=1, max_size=4), min_size=1, max_size=4))
    sense = draw(st.sampled_from(["maximize", "minimize"]))
    return Case(
        name="drawn",
        menus={
            f"g{g}": tuple(Level(f"o{o}", v, None, uses) for o, (v, uses) in enumerate(menu))
            for g, menu in enumerate(menus)
        },
        columns=("group", "option"),
        weights={f"g{g}": float(draw(st.integers(0, 3))) for g in range(len(menus))},
        limits={f"r{k}": float(draw(st.integers(0, 20))) for k in range(rows)},
        measure=Measure(sense, "", "value"),  # type: ignore[arg-type]
        rivals={"uniform": None, "greedy": None},
    )
