"""Read and validate an outcome folder (docs/reference/outcome-format.md).

Every fault is told with file, row and column, many at once. Sizes are looked up before anything is
read, so that a huge file is refused instead of filling the memory.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moe2opt.files import read_json
from moe2opt.result import FloatArray, InputError, IntArray
from moe2opt.schema.frames import LARGEST_CELLS, read_frame
from moe2opt.selection.outcomes.files import (
    find_table,
    read_vectors,
    with_hint,
)
from moe2opt.selection.outcomes.margins import read_margins
from moe2opt.selection.outcomes.matrix import OutcomeMatrix
from moe2opt.selection.outcomes.tables import Llm
from moe2opt.text import fault_of_name

if TYPE_CHECKING:
    import pandas as pd

#: Faults that are listed before the rest is only counted.
_MOST_FAULTS = 20

#: Rows of one column that are named before the rest is only counted.
_MOST_ROWS = 3


@dataclass(frozen=True, slots=True)
class Assumed:
    """What stands in for lengths that the folder does not hold; None: they must be there.

    Attributes
    ----------
    prompt_tokens, output_tokens
        Tokens of a prompt and of an answer.
    """

    prompt_tokens: float | None = None
    output_tokens: float | None = None


@dataclass(slots=True)
class _Faults:
    """Collects faults and raises them together."""

    found: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.found.append(text)

    def stop(self) -> None:
        if self.found:
            rest = len(self.found) - _MOST_FAULTS
            more = [f"... and {rest} more"] if rest > 0 else []
            raise InputError("\n".join(self.found[:_MOST_FAULTS] + more))


def read_outcome_folder(
    folder: str | Path,
    *,
    features: str | Path | None = None,
    assumed: Assumed | None = None,
) -> OutcomeMatrix:
    """Read an outcome folder.

    Parameters
    ----------
    folder
        Holds ``prompts``, ``correct`` and ``output_tokens`` (``.parquet`` or ``.csv``),
        ``models.csv`` and ``embeddings*.npz``; optionally ``answers`` and ``log_probabilities``.
    features
        A file of feature vectors instead of the folder's embeddings (``.npz``, ``.parquet``,
        ``.csv``), ``text`` to hash the words of the column ``question``, or ``none``.
    assumed
        Lengths to use where the folder has none.

    Raises
    ------
    InputError
        With one line for each fault: file, row, column, problem.
    """
    folder, assumed, faults = Path(folder), assumed or Assumed(), _Faults()
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder of outcomes")
    prompts = read_frame(find_table(folder, "prompts"))
    identity = _identity(folder, prompts)
    ids = _ids(folder, prompts[identity], faults)
    category = _category(folder, prompts, ids, faults)
    lengths = _prompt_tokens(folder, prompts, ids, assumed, faults)
    faults.stop()
    table = _Table(folder, identity, ids, faults)
    correct = table.read("correct", least=0, most=1, rule="a score in 0..1")
    faults.stop()
    llms = _llms(folder, list(correct.columns), faults)
    faults.stop()
    names = [llm.name for llm in llms]
    score = correct[names].to_numpy(dtype=np.float64)
    tokens = _output_tokens(table, names, score, assumed)
    answers = _answers(table, names)
    margins = read_margins(folder, prompts, identity, names, score)
    vectors = read_vectors(folder, features, ids, identity, prompts)
    faults.stop()
    return OutcomeMatrix(
        prompts=tuple(ids),
        category=category,
        prompt_tokens=lengths,
        llms=llms,
        score=score,
        output_tokens=tokens,
        vectors=vectors,
        answers=answers,
        margins=margins,
        notes=tuple(_notes(folder, prompts, llms, correct, score, tokens, assumed)),
        provenance={**_stated(folder), "folder": folder.name, "files": _digests(folder)},
    )


def _identity(folder: Path, prompts: pd.DataFrame) -> str:
    """Return the column that names the prompts: the first one that the scores have too."""
    shared = read_frame(find_table(folder, "correct")).columns
    return str(next((name for name in prompts.columns if name in shared), prompts.columns[0]))


def _ids(folder: Path, column: pd.Series[Any], faults: _Faults) -> list[str]:
    where = f"{find_table(folder, 'prompts').name}: column '{column.name}'"
    for row in np.flatnonzero(column.isna())[:_MOST_ROWS]:
        faults.add(f"{where}: row {row + 1} has no identifier")
    ids = [str(value) for value in column]
    for row, text in enumerate(ids):
        if text and (fault := fault_of_name(text)):
            faults.add(f"{where}: row {row + 1}: {fault}")
    repeated = np.flatnonzero(column.duplicated())
    for row in repeated[:_MOST_ROWS]:
        faults.add(f"{where}: row {row + 1}: '{ids[row]}' appears twice")
    if not ids:
        faults.add(f"{where}: no prompt")
    return ids


def _category(folder: Path, prompts: pd.DataFrame, ids: list[str], faults: _Faults) -> Any:
    name = find_table(folder, "prompts").name
    if "category" not in prompts.columns:
        faults.add(f"{name}: column 'category' is missing" + with_hint("category", prompts.columns))
        return np.zeros(len(ids), dtype=np.str_)
    column = prompts["category"]
    blank = column.isna() | (column.astype(str).str.strip() == "")
    for row in np.flatnonzero(blank)[:_MOST_ROWS]:
        faults.add(f"{name}: row {row + 1} ('{ids[row]}'): column 'category' is empty")
    texts = [str(value) for value in column]
    bad = {text: fault for text in set(texts) if text.strip() and (fault := fault_of_name(text))}
    for row, text in enumerate(texts):
        if text in bad:
            faults.add(f"{name}: row {row + 1}, column 'category': {bad[text]}")
    return np.asarray(texts, dtype=np.str_)


def _prompt_tokens(
    folder: Path, prompts: pd.DataFrame, ids: list[str], assumed: Assumed, faults: _Faults
) -> FloatArray:
    name = find_table(folder, "prompts").name
    if "prompt_tokens" not in prompts.columns:
        if assumed.prompt_tokens is None:
            hint = with_hint("prompt_tokens", prompts.columns)
            faults.add(
                f"{name}: column 'prompt_tokens' is missing{hint}; give experts."
                "assumed_prompt_tokens if the lengths are unknown"
            )
        return np.full(len(ids), assumed.prompt_tokens or 0.0)
    values = _numbers(name, prompts["prompt_tokens"], ids, faults)
    for row in np.flatnonzero(~(values >= 0) | np.isinf(values))[:_MOST_ROWS]:
        faults.add(
            f"{name}: row {row + 1} ('{ids[row]}'), column 'prompt_tokens': {values[row]:g} is "
            "not a length"
        )
    return values


def _numbers(name: str, column: pd.Series[Any], ids: list[str], faults: _Faults) -> FloatArray:
    """Return a column as floats, NaN for an empty cell; text is a fault."""
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce")
    wrong = np.flatnonzero((numbers.isna() & column.notna()).to_numpy(dtype=bool))
    for row in wrong[:_MOST_ROWS]:
        faults.add(
            f"{name}: row {row + 1} ('{ids[row]}'), column '{column.name}': "
            f"'{column.iloc[row]}' is not a number"
        )
    return np.asarray(numbers.to_numpy(dtype=np.float64, na_value=np.nan))


@dataclass(slots=True)
class _Table:
    """Reads tables of prompts x LLMs and puts their rows into the order of the prompts."""

    folder: Path
    identity: str
    ids: list[str]
    faults: _Faults

    def exists(self, stem: str) -> bool:
        return any((self.folder / f"{stem}{suffix}").exists() for suffix in (".parquet", ".csv"))

    def aligned(self, stem: str) -> pd.DataFrame:
        """Return the table with one row per prompt; identifiers that do not match are faults."""
        path = find_table(self.folder, stem)
        frame = read_frame(path)
        if self.identity not in frame.columns:
            hint = with_hint(self.identity, frame.columns)
            raise InputError(
                f"{path.name}: column '{self.identity}', which names the prompts, is missing{hint}"
            )
        if len(frame) * frame.shape[1] > LARGEST_CELLS:
            raise InputError(f"{path.name}: more than {LARGEST_CELLS:,} cells")
        own = [str(value) for value in frame[self.identity]]
        self._match(path.name, own)
        frame = frame.drop(columns=self.identity)
        frame.index = own
        return frame.loc[self.ids]

    def read(self, stem: str, *, least: float, most: float, rule: str) -> pd.DataFrame:
        """Return checked numbers, NaN for an empty cell."""
        import pandas as pd

        frame = self.aligned(stem)
        name = find_table(self.folder, stem).name
        columns = {}
        for llm in frame.columns:
            values = _numbers(name, frame[llm], self.ids, self.faults)
            columns[str(llm)] = values
            bad = np.flatnonzero(~np.isnan(values) & ~((values >= least) & (values <= most)))
            for row in bad[:_MOST_ROWS]:
                self.faults.add(
                    f"{name}: row {row + 1} ('{self.ids[row]}'), column '{llm}': "
                    f"{values[row]:g} is not {rule}"
                )
            if len(bad) > _MOST_ROWS:
                self.faults.add(f"{name}: column '{llm}': {len(bad)} cells in all are not {rule}")
        return pd.DataFrame(columns, index=self.ids)

    def _match(self, name: str, own: list[str]) -> None:
        known, seen = set(self.ids), set(own)
        if len(seen) < len(own):
            repeated = next(value for k, value in enumerate(own) if value in own[:k])
            raise InputError(f"{name}: {self.identity} '{repeated}' appears twice")
        lost, strange = sorted(known - seen), sorted(seen - known)
        if lost:
            self.faults.add(f"{name}: {_some(lost)} of the prompts have no row")
        if strange:
            self.faults.add(f"{name}: {_some(strange)} are not in the table of prompts")
        self.faults.stop()


def _some(values: list[str]) -> str:
    listed = ", ".join(f"'{value}'" for value in values[:_MOST_ROWS])
    return f"{len(values)} ({listed}{', ...' if len(values) > _MOST_ROWS else ''})"


def _llms(folder: Path, columns: list[str], faults: _Faults) -> tuple[Llm, ...]:
    """Return the LLMs of models.csv that have a column, in the order of models.csv."""
    path = folder / "models.csv"
    if not path.exists():
        raise InputError(f"{folder}: models.csv is missing (columns model, params_total_b)")
    frame = read_frame(path)
    key = "model" if "model" in frame.columns else "llm"
    for needed in (key, "params_total_b"):
        if needed not in frame.columns:
            faults.add(f"models.csv: column '{needed}' is missing")
    faults.stop()
    rows = [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]
    names = [str(row[key]) for row in rows]
    seen: set[str] = set()
    for number, name in enumerate(names, start=1):
        if fault := fault_of_name(name):
            faults.add(f"models.csv: row {number}: {fault}")
        if name in seen:
            faults.add(f"models.csv: row {number}: model '{name}' appears twice")
        seen.add(name)
    for column in columns:
        if column not in names:
            hint = with_hint(column, names)
            faults.add(f"correct: column '{column}' is an unknown model: not in models.csv{hint}")
    llms = [_llm(n, row, key, faults) for n, row in enumerate(rows, start=1)]
    return tuple(llm for llm in llms if llm.name in columns)


def _llm(number: int, row: dict[str, Any], key: str, faults: _Faults) -> Llm:
    where = f"models.csv: row {number} ('{row[key]}')"
    total = _size(where, "params_total_b", row.get("params_total_b"), faults)
    active = _size(where, "params_active_b", row.get("params_active_b", total), faults)
    active = total if math.isnan(active) else active
    if active > total:
        faults.add(f"{where}: params_active_b {active:g} exceeds params_total_b {total:g}")
    flag = row.get("open_weights", 1)
    flag = 1 if flag != flag else flag
    if flag not in (0, 1):
        faults.add(f"{where}: open_weights: {flag} is not 0 or 1")
    return Llm(str(row[key]), total, active, bool(flag), str(row.get("source", "models.csv")))


def _size(where: str, name: str, value: Any, faults: _Faults) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        faults.add(f"{where}: {name}: '{value}' is not a number")
        return math.nan
    if number <= 0 or math.isinf(number):
        faults.add(f"{where}: {name}: {number:g} is not a positive size in units of 1e9")
    return number


def _output_tokens(
    table: _Table, names: list[str], score: FloatArray, assumed: Assumed
) -> FloatArray:
    if not table.exists("output_tokens") and assumed.output_tokens is not None:
        return np.where(np.isnan(score), np.nan, assumed.output_tokens)
    frame = table.read("output_tokens", least=0, most=1e9, rule="a length of 0 or more tokens")
    for llm in names:
        if llm not in frame.columns:
            table.faults.add(f"output_tokens: no column for model '{llm}'")
    for column in frame.columns:
        if column not in names:
            hint = with_hint(str(column), names)
            table.faults.add(f"output_tokens: column '{column}' is not in correct{hint}")
    table.faults.stop()
    return frame[names].to_numpy(dtype=np.float64)


def _answers(table: _Table, names: list[str]) -> IntArray | None:
    """Return the number of each distinct answer of a prompt, None when there is no such table."""
    import pandas as pd

    if not table.exists("answers"):
        return None
    frame = table.aligned("answers")
    missing = [llm for llm in names if llm not in frame.columns]
    if missing:
        table.faults.add(f"answers: no column for model '{missing[0]}'")
        table.faults.stop()
    texts = frame[names].astype("string").to_numpy(dtype=object)
    codes, _ = pd.factorize(texts.ravel())
    return np.asarray(codes, dtype=np.int64).reshape(texts.shape)


def _notes(
    folder: Path,
    prompts: pd.DataFrame,
    llms: tuple[Llm, ...],
    correct: pd.DataFrame,
    score: FloatArray,
    tokens: FloatArray,
    assumed: Assumed,
) -> Iterator[str]:
    if "prompt_tokens" not in prompts.columns:
        yield f"prompt lengths are assumed: {assumed.prompt_tokens:g} tokens each"
    if not any((folder / f"output_tokens{end}").exists() for end in (".parquet", ".csv")):
        yield f"answer lengths are assumed: {assumed.output_tokens:g} tokens each"
    empty = int(np.isnan(score).sum())
    if empty:
        yield f"{empty:,} of {score.size:,} outcomes are missing; they are masked"
    silent = int((~np.isnan(score) & np.isnan(tokens)).sum())
    if silent:
        yield f"{silent:,} answers have no length; the LLM's mean in the category stands in"


def _stated(folder: Path) -> dict[str, Any]:
    """Return the content of the optional provenance.json: title, source, licence, synthetic."""
    path = folder / "provenance.json"
    if not path.exists():
        return {}
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("synthetic", False), bool):
        raise InputError(f"{path.name}: expected an object; `synthetic` is true or false")
    return content


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.iterdir() if p.suffix in (".parquet", ".csv", ".npz"))
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
