"""Train a gate once, on all LLMs of an outcome matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from moe2opt.result import FloatArray, InputError, IntArray
from moe2opt.selection.gate.calibrate import fit_calibrator
from moe2opt.selection.gate.choice import FOLDS, compared, fit_linear
from moe2opt.selection.gate.features import fit_features
from moe2opt.selection.gate.linear_fit import simple_networks
from moe2opt.selection.gate.losses import Data
from moe2opt.selection.gate.measures import measure
from moe2opt.selection.gate.model import Gate, Network, log_sum_exp
from moe2opt.selection.gate.settings import GateSettings
from moe2opt.selection.gate.softmax_fit import STRENGTHS, fit_softmax
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
    offered: Sequence[str] | None = None,
    on_step: Listener | None = None,
) -> Gate:
    """Choose, train, calibrate and measure a gate; the same input and seed give the same gate.

    Parameters
    ----------
    outcomes
        Scores and features; missing scores are masked.
    split
        What the gate is, is chosen by cross-validation on the training and validation parts, and it
        learns on both; with torch or the softmax head it learns on the first, and is chosen and
        calibrated on the second. The other parts are only measured on.
    settings
        Head, backend, calibration and their parameters.
    llms
        LLMs to train on; by default all that were run on a training prompt.
    offered
        LLMs that may be deployed, among which routing is judged; by default all.
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
    if not len(split.members("validation")):
        raise InputError("splits: the gate needs a validation part")
    crossed = settings.backend == "sklearn" and settings.head == "sigmoid"
    learn = split.members("train", "validation") if crossed else split.members("train")
    features = fit_features(
        matrix.vectors[learn], matrix.category[learn], use_category=settings.category
    )
    known = set(matrix.names if offered is None else offered)
    able = np.array([m for m, name in enumerate(matrix.names) if name in known], dtype=np.int64)
    judged = able if len(able) else np.arange(len(matrix.names))
    # Threads only wait for each other on matrices as small as these.
    with threadpool_limits(1):
        part = Data(features(matrix.vectors[learn], matrix.category[learn]), matrix.score[learn])
        held = split.members("validation")
        check = Data(features(matrix.vectors[held], matrix.category[held]), matrix.score[held])
        count = len(features.categories)
        if crossed:
            hear = _heard(on_step, FOLDS + 1)
            network, logits, story = fit_linear(part, count, judged, settings.seed, hear)
            check = part
        else:
            network, logits, story = _fit(part, check, count, judged, settings, on_step)
        gate = Gate(
            llms=tuple(matrix.names),
            head=settings.head,
            features=features,
            network=network,
            calibrator=fit_calibrator(settings.calibration, logits, check.score),
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
    train: Data,
    check: Data,
    categories: int,
    judged: IntArray,
    settings: GateSettings,
    on_step: Listener | None,
) -> tuple[Network, FloatArray, dict[str, Any]]:
    """Fit a network to one part; return it, its logits on the other part, and its story.

    A network with sigmoid heads that routes the other part no better than a table of categories,
    or the best single LLM, gives way to that.
    """
    if settings.backend == "torch":
        network, story = fit_torch(train, check, settings, _heard(on_step, settings.epochs))
    else:
        network, story = fit_softmax(train, check, settings, _heard(on_step, len(STRENGTHS)))
    logits = network(check.inputs)
    if settings.head == "softmax":
        return network, logits - log_sum_exp(logits), story
    networks = {**dict(simple_networks(train, categories)), "torch": network}
    out = {name: own(check.inputs) for name, own in networks.items()}
    chosen, record = compared(out, check.score, judged, settings.seed)
    return networks[chosen], out[chosen], {**story, **record}


def _heard(on_step: Listener | None, total: int) -> Callable[[str], None]:
    """Return a listener that counts the steps."""
    done = 0

    def step(line: str) -> None:
        nonlocal done
        done += 1
        if on_step is not None:
            on_step(done, total, line)

    return step


def _record(
    gate: Gate,
    matrix: OutcomeMatrix,
    outcomes: OutcomeMatrix,
    split: Split,
    settings: GateSettings,
    story: dict[str, Any],
) -> dict[str, Any]:
    chances = gate.scores(matrix.vectors, matrix.category)
    learn = split.members("train", "validation")
    runs = np.zeros((len(matrix.categories), len(matrix.names)))
    np.add.at(runs, matrix.category_of[learn], matrix.observed[learn].astype(np.float64))
    tried = ((runs > 0) | (runs == 0).all(axis=1, keepdims=True))[matrix.category_of]
    members = {name: split.members(name) for name in PARTS}
    trainer = "torch" if settings.backend == "torch" else "scipy"
    return {
        "settings": asdict(settings),
        "split": split.record(),
        "data_sha256": outcomes.digest,
        "training": story,
        "measures": {
            name: measure(chances[k], matrix.score[k], tried[k]).to_dict()
            for name, k in members.items()
        },
        "versions": {name: metadata.version(name) for name in ("moe2opt", "numpy", trainer)},
    }
