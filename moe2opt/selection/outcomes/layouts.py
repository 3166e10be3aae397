"""Read outcomes of others: RouterBench, SPROUT, LLMRouterBench, RouterEval, and tables like them.

All of them say how well LLMs answered prompts, some of them also for how much money, in how many
seconds and with how many tokens. Nothing is unpickled: a layout that is published as a pickle is
read from the CSV, Parquet or JSON file that holds the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moe2opt.files import DECODER, read_json
from moe2opt.result import FloatArray, InputError
from moe2opt.schema.frames import read_frame
from moe2opt.schema.source import did_you_mean
from moe2opt.text import fault_of_name

if TYPE_CHECKING:
    import pandas as pd

#: Columns about the prompt, by what they are; the first one that is there counts.
_ABOUT = {
    "id": ("sample_id", "prompt_id", "question_id", "key", "id", "index"),
    "question": ("question", "prompt", "query", "origin_query", "input"),
    "category": ("category", "eval_name", "dataset", "task", "domain", "subject", "benchmark"),
    "prompt_tokens": ("prompt_tokens", "input_tokens", "num_input_tokens"),
}

#: Further columns of published layouts that say nothing about an LLM.
_OTHER = ("oracle_model_to_route_to", "golden_answer", "dataset_level", "dataset_idx", "split")

#: What is known of an answer, by the names that columns and keys give it.
_KINDS = {
    "score": ("score", "correct", "performance", "quality"),
    "usd": ("total_cost", "cost", "usd", "cost_usd", "price_usd"),
    "seconds": ("latency_s", "latency", "seconds", "time_s", "duration_s"),
    "milliseconds": ("latency_ms", "time_ms", "ms"),
    "output_tokens": ("output_tokens", "completion_tokens", "num_output_tokens", "tokens"),
    "prompt_tokens": ("prompt_tokens", "input_tokens", "num_input_tokens"),
}

_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names}


@dataclass(frozen=True, slots=True, eq=False)
class Published:
    """Outcomes of M LLMs on P prompts as somebody published them.

    Attributes
    ----------
    layout
        Name of the layout that was recognised.
    prompts, categories, questions
        ``(P,)`` names, categories and texts; texts are None where there are none.
    llms
        The M LLMs.
    tables
        ``(P, M)`` numbers by what they are: ``score`` always, ``usd``, ``seconds``,
        ``output_tokens`` and ``prompt_tokens`` where they are known; NaN for an empty cell.
    vectors
        ``(P, D)`` embeddings; None where there are none.
    """

    layout: str
    prompts: tuple[str, ...]
    categories: tuple[str, ...]
    questions: tuple[str, ...] | None
    llms: tuple[str, ...]
    tables: dict[str, FloatArray]
    vectors: FloatArray | None = None


def read_published(path: Path) -> Published:
    """Read outcomes in any of the known layouts.

    Raises
    ------
    InputError
        For a layout that is not known, no scores, or a name that cannot be shown.
    """
    if path.is_dir():
        found = _router_bench_folder(path)
    elif path.suffix == ".json":
        found = _router_eval(path)
    elif path.suffix in (".pkl", ".pickle"):
        raise InputError(f"{path}: pickles are not read; write the same table as CSV or Parquet")
    else:
        found = _table(path, read_frame(path))
    for what, names in (("prompt", found.prompts), ("LLM", found.llms)):
        if len(set(names)) < len(names):
            repeated = next(n for k, n in enumerate(names) if n in names[:k])
            raise InputError(f"{path}: {what} '{repeated}' appears twice")
    for name in (*found.llms, *dict.fromkeys(found.categories)):
        if fault := fault_of_name(name):
            raise InputError(f"{path}: '{name[:40]}': {fault}")
    return found


def _table(path: Path, frame: pd.DataFrame) -> Published:
    """Read one table: a row for each prompt, or for each prompt and LLM."""
    columns = [str(name) for name in frame.columns]
    frame.columns = columns
    who = next((name for name in ("model", "llm", "model_name") if name in columns), None)
    if who is not None and any(_KIND_OF.get(name) == "score" for name in columns):
        return _long(path, frame, who)
    about = _about(columns)
    inside = [
        name for name in columns if name not in about.values() and _holds_records(frame[name])
    ]
    if inside:
        cells = {name: [_record(value) for value in frame[name]] for name in inside}
        return _published("SPROUT", path, frame, about, tuple(inside), _from_records(path, cells))
    llms = _wide_llms(path, frame, columns, about)
    if not llms:
        raise InputError(
            f"{path}: no scores found: expected a column for each LLM (with LLM|total_cost and the "
            "like beside it), or the columns prompt, model and score"
        )
    read: dict[str, FloatArray] = {"score": _numbers(path, frame, llms)}
    for llm in llms:
        for name in (n for n in columns if n.startswith(f"{llm}|")):
            kind = _KIND_OF.get(name.rpartition("|")[2])
            if kind is not None:
                part = read.setdefault(kind, np.full(read["score"].shape, np.nan))
                part[:, llms.index(llm)] = _numbers(path, frame, [name])[:, 0]
    layout = "RouterBench" if len(read) > 1 else "scores"
    return _published(layout, path, frame, about, tuple(llms), read)


def _wide_llms(
    path: Path, frame: pd.DataFrame, columns: list[str], about: dict[str, str]
) -> list[str]:
    """Return the columns of scores: those with companions, or all other columns of numbers."""
    import pandas as pd

    beside = {name.rpartition("|")[0]: name for name in columns if "|" in name}
    for llm, companion in beside.items():
        if llm not in columns:
            hint = did_you_mean(llm, columns)
            raise InputError(f"{path}: column '{companion}': there is no column '{llm}'{hint}")
    named = [name for name in columns if name in beside]
    if named:
        return named
    known = {*about.values(), *_OTHER, *(name for names in _ABOUT.values() for name in names)}
    return [
        name
        for name in columns
        if name not in known and pd.api.types.is_numeric_dtype(frame[name].dtype)
    ]


def _long(path: Path, frame: pd.DataFrame, who: str) -> Published:
    """Read a table with a row for each prompt and LLM."""
    about = _about([name for name in frame.columns if name != who])
    by = about.get("id") or about.get("question")
    if by is None:
        raise InputError(f"{path}: no column names the prompts, such as prompt_id or prompt")
    if frame.duplicated([by, who]).any():
        row = int(frame.duplicated([by, who]).to_numpy().argmax())
        raise InputError(f"{path}: row {row + 1}: this prompt and LLM have a row already")
    first = frame.drop_duplicates(by).reset_index(drop=True)
    llms = tuple(dict.fromkeys(map(str, frame[who])))
    place = {value: k for k, value in enumerate(first[by])}
    rows = frame[by].map(place).to_numpy()
    cols = frame[who].map({name: m for m, name in enumerate(llms)}).to_numpy()
    read: dict[str, FloatArray] = {}
    for name in frame.columns:
        kind = _KIND_OF.get(name)
        if kind is not None and kind not in read:
            part = np.full((len(first), len(llms)), np.nan)
            part[rows, cols] = _numbers(path, frame, [name])[:, 0]
            read[kind] = part
    return _published("one row for each prompt and LLM", path, first, about, llms, read)


def _router_bench_folder(path: Path) -> Published:
    """Read LLMRouterBench's folder: ``DATASET/.../LLM/FILE.json`` with a list of records."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for file in sorted(path.rglob("*.json")):
        parts = file.relative_to(path).parts
        content = read_json(file)
        records = content.get("records") if isinstance(content, dict) else None
        if len(parts) < 2 or not isinstance(records, list):
            continue
        dataset = parts[0] if len(parts) > 2 else path.name
        where = "/".join(parts[:-2]) or dataset
        for number, record in enumerate(records):
            own = {k: v for k, v in record.items() if _KIND_OF.get(k) or k in ("origin_query",)}
            name = f"{where}/{record.get('index', number)}"
            rows.append({"prompt_id": name, "category": dataset, "model": parts[-2], **own})
    if not rows:
        raise InputError(f"{path}: no DATASET/LLM/FILE.json with a list 'records'")
    found = _long(path, pd.DataFrame(rows).drop_duplicates(["prompt_id", "model"]), "model")
    return replace(found, layout="LLMRouterBench")


def _router_eval(path: Path) -> Published:
    """Read RouterEval's dictionary: LLMs, scores by split, and prompts or embeddings."""
    content = read_json(path)
    data = content.get("data") if isinstance(content, dict) else None
    llms = content.get("model") if isinstance(content, dict) else None
    parts = ("train", "val", "test")
    data = data if isinstance(data, dict) else {}
    given = [p for p in parts if f"{p}_score" in data]
    if not isinstance(llms, list) or not given:
        raise InputError(
            f"{path}: expected an object with 'model' and 'data': {{'train_score': ...}}"
        )
    try:
        score = np.concatenate([np.array(data[f"{p}_score"], dtype=np.float64) for p in given])
        embeds = [data[f"{p}_embed"] for p in given if f"{p}_embed" in data]
        vectors = (
            np.concatenate([np.array(e, dtype=np.float64) for e in embeds]) if embeds else None
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: not a matrix of numbers: {error}") from error
    if score.shape[1:] != (len(llms),):
        raise InputError(f"{path}: scores of shape {score.shape} for {len(llms)} LLMs")
    texts = content.get("prompt") or {}
    questions = [text for p in given for text in texts.get(f"{p}_prompt", ())]
    names = tuple(f"{p}-{k}" for p in given for k in range(len(data[f"{p}_score"])))
    return Published(
        "RouterEval",
        names,
        (path.stem,) * len(names),
        tuple(map(str, questions)) if len(questions) == len(names) else None,
        tuple(map(str, llms)),
        {"score": score},
        vectors if vectors is not None and len(vectors) == len(names) else None,
    )


def _published(
    layout: str,
    path: Path,
    frame: pd.DataFrame,
    about: dict[str, str],
    llms: tuple[str, ...],
    read: dict[str, FloatArray],
) -> Published:
    """Return what a table says, with names, categories and texts of its prompts."""
    if "score" not in read or np.isnan(read["score"]).all():
        raise InputError(f"{path}: no scores found")
    count = len(frame)
    if "milliseconds" in read:
        read["seconds"] = read.pop("milliseconds") / 1e3
    if (own := about.get("prompt_tokens")) and "prompt_tokens" not in read:
        lengths = _numbers(path, frame, [own])
        read["prompt_tokens"] = np.repeat(lengths, len(llms), axis=1)
    names = frame[about["id"]] if "id" in about else [f"p{k + 1:06d}" for k in range(count)]
    groups = frame[about["category"]] if "category" in about else [path.stem] * count
    texts = frame[about["question"]] if "question" in about else None
    return Published(
        layout,
        tuple(map(str, names)),
        tuple(" ".join(str(name).split()) for name in groups),
        None if texts is None else tuple(map(str, texts)),
        llms,
        read,
    )


def _about(columns: Sequence[str]) -> dict[str, str]:
    """Return which columns are about the prompt, by what they are."""
    found = {}
    for what, names in _ABOUT.items():
        own = next((name for name in names if name in columns), None)
        if own is not None:
            found[what] = own
    return found


def _numbers(path: Path, frame: pd.DataFrame, names: Sequence[str]) -> FloatArray:
    """Return columns as floats, NaN for an empty cell; truth is 1."""
    import pandas as pd

    columns = []
    for name in names:
        column = frame[name]
        values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        bad = np.flatnonzero(np.isnan(values) & column.notna().to_numpy())
        if len(bad):
            cell = column.iloc[int(bad[0])]
            raise InputError(f"{path}: row {bad[0] + 1}, column '{name}': '{cell}' is no number")
        columns.append(values)
    return np.stack(columns, axis=1)


def _holds_records(column: pd.Series[Any]) -> bool:
    """Tell whether the cells of a column are records with a score."""
    known = column.dropna()
    return len(known) > 0 and "score" in _record(known.iloc[0])


def _record(value: Any) -> dict[str, Any]:
    """Return a cell as a record: an object of Parquet, or the JSON text of one."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = DECODER.decode(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}


def _from_records(path: Path, cells: dict[str, list[dict[str, Any]]]) -> dict[str, FloatArray]:
    """Return the numbers of records, one column for each LLM."""

    def number(cell: dict[str, Any], names: Sequence[str]) -> float:
        return float(next((cell[n] for n in names if cell.get(n) is not None), np.nan))

    read = {}
    for kind, names in _KINDS.items():
        try:
            columns = [[number(cell, names) for cell in column] for column in cells.values()]
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: {names[0]} of a record: {error}") from error
        part = np.array(columns, dtype=np.float64).T
        if not np.isnan(part).all():
            read[kind] = part
    return read


def companion(path: Path, published: Published) -> FloatArray:
    """Return the ``(P, M)`` numbers of another table of the same prompts and LLMs.

    Raises
    ------
    InputError
        When prompts or LLMs are not those of the scores, or the table has scores itself.
    """
    frame = read_frame(path)
    names = {str(name) for name in frame.columns}
    beside = sorted(n for n in names if "|" in n and n.rpartition("|")[0] in names)
    if beside:
        raise InputError(
            f"{path}: holds scores: '{beside[0]}' is beside them; expected a table of one figure"
        )
    about = _about([str(name) for name in frame.columns])
    missing = [llm for llm in published.llms if llm not in frame.columns]
    if missing:
        raise InputError(f"{path}: no column for LLM '{missing[0]}'")
    if "id" in about:
        frame.index = [str(value) for value in frame[about["id"]]]
        lost = [name for name in published.prompts if name not in frame.index]
        if lost or not frame.index.is_unique:
            what = f"no row for prompt '{lost[0]}'" if lost else "a prompt appears twice"
            raise InputError(f"{path}: {what}")
        frame = frame.loc[list(published.prompts)]
    elif len(frame) != len(published.prompts):
        raise InputError(f"{path}: {len(frame)} rows for {len(published.prompts)} prompts")
    return _numbers(path, frame, published.llms)
