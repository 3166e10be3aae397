"""Published outcomes as a folder that runs: outcome folder, measured table and a YAML file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from moe2opt.result import FloatArray, InputError
from moe2opt.schema.csv import AMOUNT, NAME, POSITIVE, Column, header_of, read_table, write_table
from moe2opt.selection.outcomes.layouts import Published
from moe2opt.writing import write_text

#: Folder of the outcomes and the table beside it.
OUTCOMES, MEASURED = "outcomes", "measured.csv"

#: Most cells that are named where scores are out of range.
_MOST_CELLS = 3

_CONFIG = """\
schema_version: 1
problem: selection
name: {name}
description: >-
  {prompts} prompts and {llms} LLMs from {file} ({layout}). All of them are behind an API; move
  those that you can run to servers of your own.
experts: {experts}
{measured}servers: [{{name: api, api: true{held}}}]
{money}max_experts: {most}            # a start: set your own budgets
"""


def scaled(published: Published, path: Path, largest: float) -> FloatArray:
    """Return ``(P, M)`` scores in 0..1.

    Raises
    ------
    InputError
        Naming prompt and LLM of scores below 0 or above the largest, and of other figures that are
        negative or infinite.
    """
    for kind, table in published.tables.items():
        wrong = np.argwhere((table < 0) | np.isinf(table))
        if kind != "score" and len(wrong):
            p, m = wrong[0]
            who = f"{published.llms[m]} on '{published.prompts[p]}'"
            raise InputError(f"{path}: {kind}: {table[p, m]:g} ({who}) is outside 0..inf")
    score = published.tables["score"] / largest
    bad = np.argwhere((score < 0) | (score > 1))
    if len(bad):
        cells = ", ".join(
            f"{published.llms[m]} on '{published.prompts[p]}': {score[p, m] * largest:g}"
            for p, m in bad[:_MOST_CELLS]
        )
        hint = "" if largest != 1 else "; give the largest score there can be with --score-max"
        raise InputError(f"{path}: {len(bad)} scores are outside 0..{largest:g} ({cells}){hint}")
    return score


def write_problem(
    published: Published,
    out: Path,
    *,
    source: Path,
    name: str,
    score: FloatArray,
    sizes: Mapping[str, tuple[float, float]],
) -> list[Path]:
    """Write an outcome folder, a measured table where there are figures, and a YAML file.

    Parameters
    ----------
    published, score
        What was read, and its scores in 0..1.
    out, name
        Folder, and name of the problem.
    source
        File or folder that it was read from.
    sizes
        Parameters in units of 1e9 of the LLMs whose weights are open, total and active.

    Raises
    ------
    InputError
        When the YAML file is there already: it may hold budgets that somebody set.
    """
    config = out / f"{name}.yaml"
    if config.exists():
        raise InputError(f"{config} is there already; choose another folder")
    folder = out / OUTCOMES
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "prompts.csv", *_prompts(published))
    named = ["prompt_id", *published.llms]
    write_table(folder / "correct.csv", named, _cells(published, score))
    written = [folder / "prompts.csv", folder / "correct.csv", folder / "models.csv"]
    if (tokens := published.tables.get("output_tokens")) is not None:
        write_table(folder / "output_tokens.csv", named, _cells(published, tokens))
        written.append(folder / "output_tokens.csv")
    if published.vectors is not None:
        np.savez(folder / "embeddings.npz", emb=published.vectors)
        written.append(folder / "embeddings.npz")
    models = ((llm, *sizes.get(llm, ("", "")), int(llm in sizes)) for llm in published.llms)
    header = ["model", "params_total_b", "params_active_b", "open_weights"]
    write_table(folder / "models.csv", header, models)
    origin = {"title": source.name, "layout": published.layout, "sha256": _digest(source)}
    write_text(folder / "provenance.json", json.dumps(origin, indent=1) + "\n")
    columns: list[str] = [kind for kind in ("seconds", "usd") if kind in published.tables]
    if columns:
        names = {"seconds": "s_per_prompt", "usd": "usd_per_prompt"}
        head = ["llm", "server", "prompt", *(names[kind] for kind in columns)]
        write_table(out / MEASURED, head, _measured(published, columns))
        written.append(out / MEASURED)
    write_text(config, _config(published, source, name, columns))
    return [config, *written]


def read_sizes(path: Path, llms: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """Read the sizes of LLMs whose weights are open: columns model, params_total_b.

    Raises
    ------
    InputError
        For other columns, faulty numbers, or an LLM that the outcomes do not have.
    """
    key = "model" if "model" in header_of(path) else "llm"
    columns = {
        key: NAME,
        "params_total_b": POSITIVE,
        "params_active_b": Column("number", blank=True, least=AMOUNT.least, optional=True),
    }
    rows = read_table(path, columns, unique=[key])
    for row in rows:
        if row[key] not in llms:
            raise InputError(f"{path}: the outcomes have no LLM '{row[key]}'")
    both = ((row["params_total_b"], row["params_active_b"]) for row in rows)
    return {
        row[key]: (total, total if active is None else active)
        for row, (total, active) in zip(rows, both, strict=True)
    }


def _prompts(published: Published) -> tuple[list[str], Iterator[list[object]]]:
    """Return header and rows of the table of prompts."""
    lengths = published.tables.get("prompt_tokens")
    header = ["prompt_id", "category"]
    header += ["prompt_tokens"] * (lengths is not None)
    header += ["question"] * (published.questions is not None)
    # Tokenizers differ: the mean over the LLMs stands for the length of a prompt.
    known = None if lengths is None else np.nanmean(lengths, axis=1)

    def rows() -> Iterator[list[object]]:
        for k, prompt in enumerate(published.prompts):
            row: list[object] = [prompt, published.categories[k]]
            if known is not None:
                row.append(round(float(known[k]), 3))
            if published.questions is not None:
                row.append(published.questions[k])
            yield row

    return header, rows()


def _cells(published: Published, values: FloatArray) -> Iterator[list[object]]:
    """Yield rows of prompts x LLMs; an empty cell for NaN."""
    for prompt, row in zip(published.prompts, values.tolist(), strict=True):
        yield [prompt, *("" if value != value else _number(value) for value in row)]


def _measured(published: Published, columns: list[str]) -> Iterator[list[object]]:
    """Yield a row for each prompt and LLM of which a figure is known."""
    tables = [published.tables[kind].tolist() for kind in columns]
    for p, prompt in enumerate(published.prompts):
        for m, llm in enumerate(published.llms):
            cells = [table[p][m] for table in tables]
            if any(value == value for value in cells):
                yield [llm, "api", prompt, *("" if v != v else _number(v) for v in cells)]


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _config(published: Published, source: Path, name: str, columns: list[str]) -> str:
    """Return a YAML file that runs as it stands."""
    features = "text" if published.questions is not None else "none"
    parts = [f"outcomes: {OUTCOMES}"]
    parts += [f"features: {features}"] * (published.vectors is None)
    parts += ["assumed_prompt_tokens: 1"] * ("prompt_tokens" not in published.tables)
    parts += ["assumed_output_tokens: 1"] * ("output_tokens" not in published.tables)
    names = ", ".join(json.dumps(llm, ensure_ascii=False) for llm in published.llms)
    return _CONFIG.format(
        name=json.dumps(name),
        prompts=len(published.prompts),
        llms=len(published.llms),
        file=source.name,
        layout=published.layout,
        experts=f"{{{', '.join(parts)}}}",
        measured=f"measured: {MEASURED}\n" * bool(columns),
        held="" if columns else f", llms: [{names}]",
        money="money: {currency: usd}\n" * ("usd" in columns),
        most=min(3, len(published.llms)),
    )


def _digest(source: Path) -> str:
    known = hashlib.sha256()
    files = [source] if source.is_file() else sorted(source.rglob("*.json"))
    for file in files:
        known.update(file.read_bytes())
    return known.hexdigest()
