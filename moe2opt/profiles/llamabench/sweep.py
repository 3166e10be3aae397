"""Read what ``llama-sweep-bench`` prints: one step of a growing context per line.

Either a table in Markdown or JSON lines; around the table stand the settings (``main: n_kv_max =``)
and sometimes the command, of which `-ngl`, `-ncmoe` and `-ot` matter. The model is not told.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moe2opt.errors import InputError
from moe2opt.files import DECODER, read_text

_COLUMNS = ("PP", "TG", "N_KV", "T_PP s", "S_PP t/s", "T_TG s", "S_TG t/s")
_HEAD = re.compile(r"^\|\s*PP\s*\|\s*TG\s*\|\s*N_KV\s*\|", re.MULTILINE)
_SETTING = re.compile(r"\b(n_ubatch|n_gpu_layers) = (-?\d+)")
_OPTION = re.compile(r"(?:^|\s)(-ngl|--n-gpu-layers|-ncmoe|--n-cpu-moe)[ =](\d+)")
_OVERRIDE = re.compile(r"(?:^|\s)(?:-ot|--override-tensor)[ =](['\"]?)(\S+?)\1(?=\s|$)")


@dataclass(frozen=True, slots=True)
class SweepStep:
    """One line of a sweep.

    Attributes
    ----------
    path, line
        Where it stands.
    prompt_tokens, answer_tokens, depth
        Tokens read, answered, and cached before.
    prompt_tok_s, answer_tok_s
        Their rates, 0 where not measured.
    """

    path: Path
    line: int
    prompt_tokens: int
    answer_tokens: int
    depth: int
    prompt_tok_s: float
    answer_tok_s: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """A file of a sweep.

    Attributes
    ----------
    steps
        Its lines.
    ubatch, gpu_layers, cpu_experts, overrides
        Settings, None (or empty) where they are not told.
    faults
        What is wrong with lines that were left out.
    """

    steps: tuple[SweepStep, ...]
    ubatch: int | None = None
    gpu_layers: int | None = None
    cpu_experts: int | None = None
    overrides: str = ""
    faults: tuple[str, ...] = field(default=())


def is_sweep(text: str) -> bool:
    """Whether a text was printed by ``llama-sweep-bench``."""
    return _HEAD.search(text) is not None or '"speed_tg"' in text


def read_sweep(path: Path) -> Sweep:
    """Read a file of ``llama-sweep-bench``; a bad line never stops the rest.

    Raises
    ------
    InputError
        When no line of it can be read.
    """
    text = read_text(path)
    told: dict[str, Any] = {name: int(value) for name, value in _SETTING.findall(text)}
    for name, value in _OPTION.findall(text):
        told["cpu" if "moe" in name else "n_gpu_layers"] = int(value)
    steps, faults = list[SweepStep](), list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            found = _line(path, number, line.strip(), told)
        except (ValueError, KeyError, TypeError, OverflowError):
            faults.append(f"{path}:{number}: this line of llama-sweep-bench cannot be read")
            continue
        if found is not None:
            steps.append(found)
    if not steps:
        raise InputError(faults[0] if faults else f"{path}: no step of llama-sweep-bench")
    return Sweep(
        tuple(steps), told.get("n_ubatch"), told.get("n_gpu_layers"), told.get("cpu"),
        ",".join(pattern for _, pattern in _OVERRIDE.findall(text)), tuple(faults),
    )  # fmt: skip


def _line(path: Path, number: int, line: str, told: dict[str, Any]) -> SweepStep | None:
    if line.startswith("{") and '"speed_tg"' in line:
        own = DECODER.decode(line)
        told.update({k: int(own[k]) for k in ("n_ubatch", "n_gpu_layers") if k in own})
        cells = [own[k] for k in ("pp", "tg", "n_kv", "speed_pp", "speed_tg")]
    elif line.startswith("|") and not set(line) <= set("|-: "):
        row = [cell.strip() for cell in line.strip("|").split("|")]
        if tuple(row) == _COLUMNS or not any(c.isdigit() for c in line):
            return None
        if len(row) != len(_COLUMNS):
            raise ValueError
        cells = [row[0], row[1], row[2], row[4], row[6]]
    else:
        return None
    prompt, answer, depth = (int(float(cell)) for cell in cells[:3])
    rates = [float(cell) for cell in cells[3:]]
    if min(prompt, answer, depth) < 0 or not all(0 <= rate < 1e9 for rate in rates):
        raise ValueError
    return SweepStep(path, number, prompt, answer, depth, rates[0], rates[1])
