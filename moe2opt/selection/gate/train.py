"""Train a gate once, on all LLMs of an outcome matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from importlib import metadata
from typing import Any

import numpy as np

from moe2opt.result import InputError
from moe2opt.selection.gate.calibrate import fit_calibrator
from moe2opt.selection.gate.features import fit_features
from moe2opt.selection.gate.linear_fit import STRENGTHS, fit_linear
from moe2opt.selection.gate.losses import Data
from moe2opt.selection.gate.measures import measure
from moe2opt.selection.gate.model import Gate
from moe2opt.selection.gate.settings import GateSettings
from moe2opt.selection.gate.torch_fit import fit_torch
from moe2opt.selection.outcomes.matrix import OutcomeMatrix
from moe2opt.selection.outcomes.partition import PARTS, Split

#: Called after each step of a training: steps done, steps at most, a line about it.
Listener = Callable[[int, int, str], None]


def train_gate(
    outcomes: OutcomeMatrix,
    split: Split,
    settings: GateSettings | None = None,
    *,
    llms: list[str] | None = None,
    on_step: Listener | None = None,
) -> Gate:
    """Train, calibrate and measure a gate; the same input and seed give the same gate.

    Parameters
    ----------
    outcomes
        Scores and features; missing scores are masked.
    split
        The gate learns on the training part and stops and is calibrated on the validation part.
        The other two are only measured on.
    settings
        Head, backend, calibration and their parameters.
    llms
        LLMs to train on; by default all that were run on a training prompt.
    on_step
        Hears of the progress.

    Raises
    ------
    InputError
        For an LLM without a training outcome, a missing backend, or an empty validation part.
    """
    settings = settings or GateSettings()
    settings = replace(settings, backend=settings.resolved_backend)
    matrix = outcomes.restricted_to(_trainable(outcomes, split, llms))
    train = split.members("train")
    if not len(split.members("validation")):
        raise InputError("splits: the gate needs a validation part")
    features = fit_features(
        matrix.vectors[train], matrix.category[train], use_category=settings.category
    )
    parts = {
        name: Data(features(matrix.vectors[k], matrix.category[k]), matrix.score[k])
        for name in PARTS
        for k in [split.members(name)]
    }
    network, story = _fit(parts["train"], parts["validation"], settings, on_step)
    gate = Gate(
        llms=tuple(matrix.names),
        head=settings.head,
        features=features,
        network=network,
        calibrator=fit_calibrator("none", np.zeros((0, 0)), np.zeros((0, 0))),
    )
    held_out = split.members("validation")
    logits = gate.logits(matrix.vectors[held_out], matrix.category[held_out])
    gate = replace(
        gate, calibrator=fit_calibrator(settings.calibration, logits, matrix.score[held_out])
    )
    return replace(gate, record=_record(gate, matrix, outcomes, split, settings, story))


def _trainable(outcomes: OutcomeMatrix, split: Split, llms: list[str] | None) -> list[str]:
    runs = outcomes.observed[split.members("train")].sum(axis=0)
    able = [name for name, ran in zip(outcomes.names, runs.tolist(), strict=True) if ran]
    for name in llms or ():
        if name not in able:
            raise InputError(f"gate: LLM '{name}' was never run on a training prompt")
    chosen = able if llms is None else llms
    if not chosen:
        raise InputError("gate: no LLM was run on a training prompt")
    return chosen


def _fit(
    train: Data, validation: Data, settings: GateSettings, on_step: Listener | None
) -> tuple[Any, dict[str, Any]]:
    torch = settings.backend == "torch"
    total, done = (settings.epochs if torch else len(STRENGTHS)), 0

    def step(line: str) -> None:
        nonlocal done
        done += 1
        if on_step is not None:
            on_step(done, total, line)

    fit = fit_torch if torch else fit_linear
    return fit(train, validation, settings, step)


def _record(
    gate: Gate,
    matrix: OutcomeMatrix,
    outcomes: OutcomeMatrix,
    split: Split,
    settings: GateSettings,
    story: dict[str, Any],
) -> dict[str, Any]:
    chances = gate.scores(matrix.vectors, matrix.category)
    members = {name: split.members(name) for name in PARTS}
    trainer = "torch" if settings.backend == "torch" else "scikit-learn"
    return {
        "settings": asdict(settings),
        "split": split.record(),
        "data_sha256": outcomes.digest,
        "training": story,
        "measures": {
            name: measure(chances[k], matrix.score[k]).to_dict() for name, k in members.items()
        },
        "versions": {name: metadata.version(name) for name in ("moe2opt", "numpy", trainer)},
    }
