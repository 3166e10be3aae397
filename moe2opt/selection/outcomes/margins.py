"""Log-probabilities of all answers of a prompt, where an outcome folder has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moe2opt.result import BoolArray, FloatArray, InputError, IntArray
from moe2opt.schema.frames import LARGEST_CELLS, read_frame
from moe2opt.selection.outcomes.files import find_table, with_hint

if TYPE_CHECKING:
    import pandas as pd

STEM = "log_probabilities"

#: Least log-probability that is read: what is less likely is as good as impossible.
_LEAST = -1e6

#: Decimals of a margin: sums of whole numbers of them are exact on every machine.
MARGIN_DECIMALS = 6

#: What the probabilities of a prompt's answers may exceed 1 by.
_ROUNDED = 1e-3

_MOST_ROWS = 3


def read_margins(
    folder: Path, prompts: pd.DataFrame, identity: str, names: Sequence[str], score: FloatArray
) -> FloatArray | None:
    r"""Return ``(P, M, A)`` margins of the right answer, None where the folder has no such table.

    Parameters
    ----------
    folder
        Holds ``log_probabilities`` (``.parquet`` or ``.csv``): one row for each prompt and LLM with
        a score, one column for each answer, empty where a prompt has no such answer.
    prompts
        The table of prompts, with the right ``answer`` of each.
    identity
        The column that names the prompts in both tables.
    names
        The M LLMs; one without any row has no log-probabilities.
    score
        ``(P, M)`` scores, NaN where an LLM was not run; its rows are ignored there.

    Returns
    -------
    array or None
        :math:`\log p_{\text{right}} - \log p_a` in nats; NaN for the right answer itself, for
        answers that the prompt does not have, and where the LLM was not run.

    Raises
    ------
    InputError
        With one line for each kind of fault: file, row, column, problem.
    """
    if not any((folder / f"{STEM}{suffix}").exists() for suffix in (".parquet", ".csv")):
        return None
    path = find_table(folder, STEM)
    frame, model = read_frame(path), "model"
    if model not in frame.columns and "llm" in frame.columns:
        model = "llm"
    for column in (identity, model):
        if column not in frame.columns:
            hint = with_hint(column, frame.columns)
            raise InputError(f"{path.name}: column '{column}' is missing{hint}")
    answers = [str(c) for c in frame.columns if c not in (identity, model)]
    if len(answers) < 2:
        raise InputError(f"{path.name}: expected a column for each of two or more answers")
    if len(score) * len(names) * len(answers) > LARGEST_CELLS:
        raise InputError(f"{path.name}: more than {LARGEST_CELLS:,} cells")
    ids = [str(value) for value in prompts[identity]]
    right = _right(prompts, ids, answers)
    place = _places(path.name, frame, (identity, model), ids, names)
    values = _values(path.name, frame[answers], place, ids, names)
    cells = np.full((len(ids), len(names), len(answers)), np.nan)
    cells[place[:, 0], place[:, 1]] = values
    cells[np.isnan(score)] = np.nan
    _check_answers(path.name, cells, ids, names, answers, right, ~np.isnan(score))
    own = cells[np.arange(len(ids)), :, right]
    margins: FloatArray = np.round(own[:, :, None] - cells, MARGIN_DECIMALS)
    margins[np.arange(len(ids)), :, right] = np.nan
    return margins


def _right(prompts: pd.DataFrame, ids: list[str], answers: list[str]) -> IntArray:
    """Return ``(P,)`` the column of the right answer of each prompt."""
    if "answer" not in prompts.columns:
        hint = with_hint("answer", prompts.columns)
        raise InputError(
            f"prompts: column 'answer', the right one, is missing{hint}; {STEM} needs it"
        )
    known = {name: a for a, name in enumerate(answers)}
    for row, name in enumerate(prompts["answer"].astype(str)):
        if name not in known:
            raise InputError(
                f"prompts: row {row + 1} ('{ids[row]}'), column 'answer': '{name}' is no column of "
                f"{STEM}{with_hint(name, answers)}"
            )
    return np.array([known[name] for name in prompts["answer"].astype(str)], dtype=np.int64)


def _places(
    file: str, frame: pd.DataFrame, keys: tuple[str, str], ids: list[str], names: Sequence[str]
) -> IntArray:
    """Return ``(rows, 2)`` prompt and LLM of each row."""
    columns: list[list[int]] = []
    for key, known in zip(keys, (ids, names), strict=True):
        number = {name: k for k, name in enumerate(known)}
        told = [number.get(str(value), -1) for value in frame[key]]
        if -1 in told:
            row = told.index(-1)
            name = str(frame[key].iloc[row])
            raise InputError(
                f"{file}: row {row + 1}, column '{key}': '{name}' is not in the scores"
                f"{with_hint(name, known)}"
            )
        columns.append(told)
    place = np.array(columns, dtype=np.int64).T.reshape(-1, 2)
    _, first = np.unique(place[:, 0] * max(1, len(names)) + place[:, 1], return_index=True)
    if len(first) < len(place):
        row = int(np.setdiff1d(np.arange(len(place)), first)[0])
        p, m = place[row]
        raise InputError(f"{file}: row {row + 1}: prompt '{ids[p]}', LLM '{names[m]}' appear twice")
    return place


def _values(
    file: str, frame: pd.DataFrame, place: IntArray, ids: list[str], names: Sequence[str]
) -> FloatArray:
    """Return ``(rows, A)`` checked numbers, NaN for an empty cell."""
    import pandas as pd

    numbers = frame.apply(pd.to_numeric, errors="coerce")
    values: FloatArray = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    text = numbers.isna().to_numpy() & frame.notna().to_numpy()
    bad = np.argwhere(text | (values > 0) | (values < _LEAST))
    told = [
        f"{file}: row {row + 1} ('{ids[place[row, 0]]}', '{names[place[row, 1]]}'), column "
        f"'{frame.columns[a]}': {_shown(frame.iat[row, a])} is not a log-probability within "
        f"{_LEAST:g}..0"
        for row, a in bad[:_MOST_ROWS]
    ]
    if not told:
        total = np.exp(values, where=~np.isnan(values), out=np.zeros_like(values)).sum(axis=1)
        told = [
            f"{file}: row {row + 1} ('{ids[place[row, 0]]}', '{names[place[row, 1]]}'): the "
            f"probabilities of its answers add up to {total[row]:.4g}"
            for row in np.flatnonzero(total > 1 + _ROUNDED)[:_MOST_ROWS]
        ]
    if told:
        raise InputError("\n".join(told))
    return values


def _shown(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else f"{float(value):g}"


def _check_answers(
    file: str,
    cells: FloatArray,
    ids: list[str],
    names: Sequence[str],
    answers: list[str],
    right: IntArray,
    ran: BoolArray,
) -> None:
    """Raise unless all LLMs with rows have the same answers on a prompt, the right one included."""
    known: BoolArray = np.asarray(~np.isnan(cells))
    offered = known.any(axis=(0, 2))
    expected = np.asarray(known.any(axis=1))
    expected[np.arange(len(ids)), right] = True
    alone = np.flatnonzero(known.any(axis=(1, 2)) & (expected.sum(axis=1) < 2))
    if len(alone):
        raise InputError(f"{file}: prompt '{ids[alone[0]]}': expected two or more answers")
    lacking = (ran & offered)[:, :, None] & expected[:, None, :] & ~known
    told = [
        f"{file}: prompt '{ids[p]}', LLM '{names[m]}': "
        + (f"no log-probability of '{answers[a]}'" if known[p, m].any() else "a score, but no row")
        for p, m, a in np.argwhere(lacking)[:_MOST_ROWS]
    ]
    if told:
        raise InputError("\n".join(dict.fromkeys(told)))
