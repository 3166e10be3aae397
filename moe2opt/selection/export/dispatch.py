"""Which deployed expert answers a prompt: the trained gate, deadlines and prices, at run time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe2opt.result import BoolArray, FloatArray, InputError
from moe2opt.selection.export.routing_table import RoutingTable, read_table
from moe2opt.selection.gate.model import Gate, exists, load_gate
from moe2opt.selection.gated import SCORE_DECIMALS

TABLE, GATE = "routing.json", "gate"


@dataclass(frozen=True, slots=True, eq=False)
class Dispatcher:
    """Ranks the deployed experts for a prompt, exactly as the plan was evaluated.

    Attributes
    ----------
    table
        Experts, categories, costs, deadlines and prices.
    gate
        The trained gate; None routes by category and price alone.
    """

    table: RoutingTable
    gate: Gate | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the experts towards the proxy."""
        return tuple(expert.name for expert in self.table.experts)

    @property
    def dimensions(self) -> int | None:
        """Length of a prompt's vector; None without a gate."""
        return None if self.gate is None else len(self.gate.features.mean)

    def best(
        self,
        vector: FloatArray | None = None,
        category: str | None = None,
        able: Collection[str] | None = None,
    ) -> str | None:
        """Return the name of the expert that should answer.

        Parameters
        ----------
        vector
            Vector of the prompt, made like those that the gate was trained on; None routes by
            category.
        category
            Application category; None, or one that the plan does not know, stands for all of them
            by their shares.
        able
            Names of the experts that can answer now; all of them when left out. The gate is masked
            to them.

        Returns
        -------
        str or None
            The expert with the highest score less its priced costs among those in time, among all
            when none is in time; ties go to the lower energy. None when nobody is able.
        """
        worth, in_time, joules = self.rank(vector, category)
        open_to = np.array([able is None or name in able for name in self.names])
        if not open_to.any():
            return None
        allowed = open_to & in_time if (open_to & in_time).any() else open_to
        order = np.lexsort((np.arange(len(worth)), joules, -np.where(allowed, worth, -np.inf)))
        return self.names[int(order[0])]

    def rank(
        self, vector: FloatArray | None = None, category: str | None = None
    ) -> tuple[FloatArray, BoolArray, FloatArray]:
        """Return ``(S,)`` score less priced costs, whether in time, and expected joules."""
        table = self.table
        scores = self._scores(vector)
        if category in table.categories:
            k = table.categories.index(str(category))
            return scores[k] - table.charge[k], table.in_time[k], table.energy_j[k]
        mean = table.shares / table.shares.sum()
        worth: FloatArray = mean @ (np.where(table.in_time, scores, 0.0) - table.charge)
        in_time: BoolArray = np.asarray(table.in_time.any(axis=0))
        return worth, in_time, mean @ table.energy_j

    def _scores(self, vector: FloatArray | None) -> FloatArray:
        """Return ``(K, S)`` scores of the prompt in each category."""
        table, gate = self.table, self.gate
        if gate is None or vector is None:
            return table.worth
        vectors = np.broadcast_to(
            np.asarray(vector, dtype=np.float64), (len(table.categories), self.dimensions or 0)
        )
        chances = gate.scores(vectors, np.array(table.categories))
        columns = [gate.llms.index(expert.llm) for expert in table.experts]
        scores: FloatArray = np.round(chances[:, columns], SCORE_DECIMALS) * table.factors
        return scores


def load_dispatcher(folder: str | Path) -> Dispatcher:
    """Read what ``moe2opt export --to litellm`` wrote into `folder`.

    Raises
    ------
    InputError
        When the routing table or the gate is missing or broken, or they do not fit together.
    """
    folder = Path(folder)
    table = read_table(folder / TABLE)
    gate = load_gate(folder / GATE) if exists(folder / GATE) else None
    if gate is not None:
        unknown = [e.llm for e in table.experts if e.llm not in gate.llms]
        if unknown:
            raise InputError(f"{folder}: the gate does not know LLM '{unknown[0]}'")
    return Dispatcher(table, gate)
