"""The tables of an evaluation on a grid of budgets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from moe2opt.result import encode_float
from moe2opt.selection.plan.words import text_table

if TYPE_CHECKING:
    import pandas as pd

#: Differences below this are rounding.
_ROUNDING = 1e-12

#: Quantile of the normal distribution for a two-sided interval of 95 %.
TWO_SIDED = 1.96

_EVERY = "every baseline"


@dataclass(frozen=True, slots=True)
class Rival:
    """A baseline in one cell.

    Attributes
    ----------
    policy
        Its name.
    prompts
        Test prompts that it is compared on, see `intervals.common_prompts`.
    accuracy, accuracy_error
        Mean score on them, and its standard error.
    difference, error
        Mean of its score minus the plan's on them, and the standard error of that; of several
        splits, prompts are independent, and what splits say of one prompt is not.
    energy_j_per_prompt, delay_s, money_per_prompt
        Expected joules, seconds and money of who answers; money is None where it does not matter.
    deployed
        Labels of its experts; of several sets (random ones, or those of splits that differ), one
        text for each.
    """

    policy: str
    prompts: int
    accuracy: float
    difference: float
    error: float
    energy_j_per_prompt: float
    delay_s: float
    deployed: tuple[str, ...] = ()
    accuracy_error: float = 0.0
    money_per_prompt: float | None = None

    @property
    def beaten(self) -> bool:
        """Whether the plan scores at least as much."""
        return self.difference <= _ROUNDING

    @property
    def level(self) -> bool:
        """Whether it is not better than the plan beyond chance (95 %, paired, two-sided)."""
        return self.difference <= max(_ROUNDING, TWO_SIDED * self.error)

    @property
    def behind(self) -> bool:
        """Whether the plan is better beyond chance."""
        return -self.difference > max(_ROUNDING, TWO_SIDED * self.error)


@dataclass(frozen=True, slots=True)
class GridCell:
    """The plan of one cell and its baselines.

    Attributes
    ----------
    budgets
        Budget on each axis.
    status, certified, objective, bound
        What is proven about the plan; of several splits the weakest, and mean values.
    deployed
        Labels of the deployed experts; of splits that differ, one text for each.
    splits
        Splits with a plan.
    prompts, accuracy, accuracy_error
        Test prompts that the baselines are compared on, and mean score of the plan on them with
        its standard error; NaN without a plan.
    energy_j_per_prompt, delay_s, money_per_prompt
        Expected joules, seconds and money of who answers; NaN without a plan, money None where it
        does not matter.
    rivals
        The baselines; empty without a plan.
    """

    budgets: tuple[float, ...]
    status: str
    certified: bool
    objective: float
    bound: float
    deployed: tuple[str, ...] = ()
    prompts: int = 0
    accuracy: float = np.nan
    energy_j_per_prompt: float = np.nan
    delay_s: float = np.nan
    rivals: tuple[Rival, ...] = ()
    accuracy_error: float = np.nan
    splits: int = 1
    money_per_prompt: float | None = None

    @property
    def has_plan(self) -> bool:
        """Whether anything is deployed."""
        return bool(self.deployed)


@dataclass(frozen=True, slots=True)
class Tally:
    """How the plans fare against one baseline.

    Attributes
    ----------
    policy
        Its name.
    cells
        Cells in which it exists.
    beaten, level, behind
        Cells in which the plan scores at least as much, in which the baseline is not better beyond
        chance, and in which the plan is better beyond chance.
    mean, error
        Mean of the differences baseline - plan, and its standard error over all prompts of all
        cells; NaN for all baselines at once.
    worst, where
        Largest difference, and the budgets of its cell.
    """

    policy: str
    cells: int
    beaten: int
    level: int
    mean: float
    worst: float
    where: tuple[float, ...]
    behind: int = 0
    error: float = np.nan

    @property
    def verdict(self) -> str:
        """How the baseline stands to the plan over all cells (95 %, paired); empty unless known."""
        if np.isnan(self.error):
            return ""
        margin = max(_ROUNDING, TWO_SIDED * self.error)
        if abs(self.mean) <= margin:
            return "level"
        return "better" if self.mean > 0 else "behind"


@dataclass(frozen=True, slots=True)
class GridEvaluation:
    """Certified plans and baselines over a grid of budgets.

    Attributes
    ----------
    instance
        Its name.
    axes
        Names of the budgets.
    cells
        One per combination.
    provenance
        Data, split, gate.
    caveats
        What must be known to read the figures.
    errors
        Standard error of a baseline's mean difference to the plan over all cells, by its name.
    """

    instance: str
    axes: tuple[str, ...]
    cells: tuple[GridCell, ...]
    provenance: dict[str, Any] = field(default_factory=dict)
    caveats: tuple[str, ...] = ()
    errors: Mapping[str, float] = field(default_factory=dict)

    @property
    def splits(self) -> int:
        """Splits that are pooled."""
        return len(self.provenance.get("splits", (None,)))

    @property
    def planned(self) -> tuple[GridCell, ...]:
        """The cells with a plan."""
        return tuple(cell for cell in self.cells if cell.has_plan)

    def tallies(self) -> tuple[Tally, ...]:
        """Return one tally per baseline, and one for all of them at once.

        The difference of the last is that of the best baseline of the cell.
        """
        names = dict.fromkeys(r.policy for cell in self.planned for r in cell.rivals)
        return (*(self._tally(name) for name in names), self._tally(_EVERY))

    def _tally(self, policy: str) -> Tally:
        met = []
        for cell in self.planned:
            own = [r for r in cell.rivals if policy in (_EVERY, r.policy)]
            if own:
                beaten, level = all(r.beaten for r in own), all(r.level for r in own)
                behind = all(r.behind for r in own)
                most = max(r.difference for r in own)
                met.append((most, beaten, level, behind, cell.budgets))
        differences = [difference for difference, *_ in met]
        worst = int(np.argmax(differences)) if met else 0
        return Tally(
            policy=policy,
            cells=len(met),
            beaten=sum(beaten for _, beaten, *_ in met),
            level=sum(level for _, _, level, *_ in met),
            behind=sum(behind for *_, behind, _ in met),
            mean=float(np.mean(differences)) if met else np.nan,
            worst=differences[worst] if met else np.nan,
            where=met[worst][-1] if met else (),
            error=self.errors.get(policy, np.nan),
        )

    def losses(self) -> list[dict[str, Any]]:
        """Return the cells in which some baseline is better beyond chance, and which one."""
        found = []
        for cell in self.planned:
            better = [r for r in cell.rivals if not r.level]
            if better:
                best = max(better, key=lambda r: r.difference)
                budgets = dict(zip(self.axes, cell.budgets, strict=True))
                found.append({**budgets, "policy": best.policy, "difference": best.difference})
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        return {
            "instance": self.instance,
            "axes": list(self.axes),
            "tallies": [_plain(asdict(tally)) for tally in self.tallies()],
            "losses": self.losses(),
            "cells": [_plain(asdict(cell)) for cell in self.cells],
            "provenance": self.provenance,
            "caveats": list(self.caveats),
        }

    def to_frame(self) -> pd.DataFrame:
        """Return one row per cell and policy, the plan as ``moe2``."""
        import pandas as pd

        return pd.DataFrame([row for cell in self.cells for row in self._rows(cell)])

    def _rows(self, cell: GridCell) -> Iterator[dict[str, Any]]:
        head = {f"budget {n}": b for n, b in zip(self.axes, cell.budgets, strict=True)}
        proof = {name: getattr(cell, name) for name in _PROVEN}
        figures = {name: getattr(cell, name) for name in _FIGURES}
        deployed = "; ".join(cell.deployed)
        yield {**head, "policy": "moe2", **figures, "difference": 0.0, "error": 0.0, **proof,
               "deployed": deployed}  # fmt: skip
        for rival in cell.rivals:
            yield {**head, **asdict(rival), "deployed": "; ".join(rival.deployed)}

    def summary(self) -> str:
        """Return the tallies, the losses and the plans as text."""
        planned = self.planned
        proven = sum(cell.certified for cell in self.cells)
        optimal = sum(c.certified and c.status == "OPTIMAL" for c in planned)
        without = Counter(cell.status for cell in self.cells if not cell.has_plan)
        lines = [
            f"{self.instance}: {len(self.cells)} cells ({' x '.join(self.axes)}), {proven} "
            f"certified: {optimal} optimal plans"
            + f", pooled over {self.splits} splits" * (self.splits > 1)
            + "".join(f", {count} {status.lower()}" for status, count in without.items()),
            f"{len({cell.deployed for cell in planned})} different deployments",
            "",
            *_tally_table(self.tallies()),
            "",
            "at least: the plan's test accuracy is that of the baseline or higher; not better: the "
            "baseline is not better beyond chance (paired, 95 %); behind: the plan is",
            *_verdict_lines(self.tallies()),
            *_loss_lines(self.losses()),
            *(f"Note: {caveat}" for caveat in self.caveats),
        ]
        return "\n".join(lines)


_PROVEN = ("splits", "status", "certified", "objective", "bound")
_FIGURES = ("prompts", "accuracy", "accuracy_error", "energy_j_per_prompt", "delay_s",
            "money_per_prompt")  # fmt: skip


def _tally_table(tallies: tuple[Tally, ...]) -> list[str]:
    rows = [
        (
            tally.policy,
            str(tally.cells),
            _share(tally.beaten, tally.cells),
            _share(tally.level, tally.cells),
            _share(tally.behind, tally.cells),
            f"{100 * tally.mean:+.2f}",
            "-" if np.isnan(tally.error) else f"{100 * TWO_SIDED * tally.error:.2f}",
            f"{100 * tally.worst:+.2f}",
            " / ".join(f"{budget:g}" for budget in tally.where),
        )
        for tally in tallies
    ]
    header = ("baseline", "cells", "at least %", "not better %", "behind %", "points to the plan",
              "±", "most", "where")  # fmt: skip
    return text_table(header, rows)


def _verdict_lines(tallies: tuple[Tally, ...]) -> list[str]:
    """Return which baselines are level with the plan over all cells, and which are better."""
    words = {
        "better": "Better than the plan over all cells",
        "level": "Level with it over all cells",
    }
    found = {word: [t.policy for t in tallies if t.verdict == word] for word in words}
    return [f"{words[word]}: {', '.join(names)}" for word, names in found.items() if names]


def _loss_lines(losses: list[dict[str, Any]]) -> list[str]:
    if not losses:
        return ["No baseline is better beyond chance in any cell"]
    counted = Counter(loss["policy"] for loss in losses)
    words = ", ".join(f"{policy} in {count}" for policy, count in counted.most_common())
    return [f"Better than the plan beyond chance: {words} of the cells"]


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else "-"


def _plain(data: Any) -> Any:
    """Return JSON-ready content: numbers that JSON does not know become text or null."""
    if isinstance(data, dict):
        return {key: _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    if isinstance(data, float):
        return None if np.isnan(data) else encode_float(data)
    return data
