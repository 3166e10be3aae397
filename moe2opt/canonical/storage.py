"""Problems on disk: JSON for small ones, NPZ for large ones. Nothing is ever unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from moe2opt.archive import read_npz
from moe2opt.canonical.choice import MultipleChoiceProblem
from moe2opt.canonical.facility import FacilityProblem
from moe2opt.canonical.monotone import MonotoneProblem
from moe2opt.errors import DAMAGE
from moe2opt.files import MOST_BYTES, has_too_many_values, read_json
from moe2opt.result import InputError
from moe2opt.writing import replacing, write_text

#: The three canonical problems.
Problem = FacilityProblem | MultipleChoiceProblem | MonotoneProblem


def save_problem(problem: Problem, path: str | Path) -> None:
    """Write a facility or multiple-choice problem; the suffix (.json or .npz) sets the format.

    Raises
    ------
    InputError
        For another suffix, or for a `MonotoneProblem`, which holds code.
    """
    path = Path(path)
    if not isinstance(problem, Problem):
        raise InputError(f"expected a problem, got {type(problem).__name__}")
    content = problem.to_dict()
    if path.suffix == ".json":
        text = json.dumps(content)
        if len(text) > MOST_BYTES or has_too_many_values(text):
            raise InputError(f"{path}: too large for JSON; use the suffix .npz")
        write_text(path, text)
    elif path.suffix == ".npz":
        with replacing(path) as beside:
            np.savez_compressed(beside, **_arrays(problem))
    else:
        raise InputError(f"{path}: the suffix must be .json or .npz")


def load_problem(path: str | Path) -> Problem:
    """Read a problem written by `save_problem`; every array is validated again.

    Raises
    ------
    InputError
        When the file cannot be read or does not hold a problem.
    """
    path = Path(path)
    if path.suffix not in (".json", ".npz"):
        raise InputError(f"{path}: the suffix must be .json or .npz")
    content: Any = read_json(path) if path.suffix == ".json" else read_npz(path)
    try:
        return _from_json(content) if path.suffix == ".json" else _from_arrays(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except KeyError as error:
        raise InputError(f"{path}: not a problem file: {error} is missing") from error
    except DAMAGE as error:
        raise InputError(f"{path}: not a problem file") from error


def _from_json(data: Any) -> Problem:
    families: dict[str, Any] = {
        "facility": FacilityProblem,
        "multiple_choice": MultipleChoiceProblem,
    }
    if not isinstance(data, dict) or data.get("kind") not in families:
        if isinstance(data, dict) and "provenance" in data:
            raise InputError("is what a run wrote; config.yaml beside it says what was solved")
        raise InputError("kind must be 'facility' or 'multiple_choice'")
    problem: Problem = families[data["kind"]].from_dict(data)
    return problem


def _arrays(problem: Problem) -> dict[str, Any]:
    if isinstance(problem, FacilityProblem):
        sets = {
            f"{name}_{part}": array
            for name in ("groups", "covers")
            for part, array in zip(
                ("members", "offsets"), _ragged(getattr(problem, name)), strict=True
            )
        }
        optional = {"weights": problem.weights, "opening": problem.opening}
        return {
            "kind": problem.kind,
            "values": problem.values,
            "costs": problem.costs,
            "budgets": problem.budgets,
            **{name: array for name, array in optional.items() if array is not None},
            **sets,
        }
    assert isinstance(problem, MultipleChoiceProblem)
    return {
        "kind": problem.kind,
        "values": problem.flat_values,
        "costs": problem.costs,
        "offsets": problem.offsets,
        "budgets": problem.budgets,
    }


def _from_arrays(data: dict[str, Any]) -> Problem:
    kind = str(data["kind"])
    if kind == "facility":
        return FacilityProblem(
            data["values"],
            data["costs"],
            data["budgets"],
            data.get("weights"),
            _split(data["groups_members"], data["groups_offsets"]),
            _split(data["covers_members"], data["covers_offsets"]),
            data.get("opening"),
        )
    if kind == "multiple_choice":
        return MultipleChoiceProblem(
            _split(data["values"], data["offsets"]),
            _split(np.ascontiguousarray(data["costs"].T), data["offsets"]),
            data["budgets"],
        )
    raise InputError("kind must be 'facility' or 'multiple_choice'")


def _ragged(sets: tuple[Any, ...]) -> tuple[Any, Any]:
    members = np.concatenate(sets) if sets else np.zeros(0, dtype=np.int64)
    return members, np.concatenate([[0], np.cumsum([len(s) for s in sets])]).astype(np.int64)


def _split(flat: Any, offsets: Any) -> Any:
    return [flat[offsets[k] : offsets[k + 1]] for k in range(len(offsets) - 1)]
