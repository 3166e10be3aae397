"""Run the plan of a configuration: find model and text, run, compare, and tell it as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from moe2opt.executor import calibrate
from moe2opt.executor.compare.compare import caveats, compare, predict
from moe2opt.executor.compare.figures import Comparison
from moe2opt.executor.model.folder import ModelFolder, open_folder
from moe2opt.executor.model.text import sequences
from moe2opt.executor.run.passes import OnToken, reference_loss
from moe2opt.executor.run.record import Run
from moe2opt.executor.run.run import Settings, run_plan
from moe2opt.placement import PlacementInstance, PlacementPlan
from moe2opt.placement.assignment import Assignment
from moe2opt.placement.reading import Reader
from moe2opt.profiles.measure import machine
from moe2opt.result import InputError, IntArray


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user says beside the configuration.

    Attributes
    ----------
    model, text
        Folder of weights and held-out text; those of the configuration when None.
    tokens, repeats
        How many; those of the configuration when None.
    calibrate
        Whether a mixture of all tiers and formats is run too.
    allow_outside
        Whether paths of the configuration may leave its folder.
    """

    model: Path | None = None
    text: Path | None = None
    tokens: int | None = None
    repeats: int | None = None
    calibrate: bool = False
    allow_outside: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Executed:
    """A plan that was run.

    Attributes
    ----------
    run, comparison
        The measurement, beside the prediction.
    content
        JSON-ready account.
    """

    run: Run
    comparison: Comparison
    content: dict[str, Any] = field(default_factory=dict)


def execute_plan(
    instance: PlacementInstance,
    plan: PlacementPlan,
    wanted: Wanted | None = None,
    on_token: OnToken | None = None,
) -> Executed:
    """Run a plan with the model and the text of its configuration.

    Parameters
    ----------
    instance, plan
        From `moe2opt.load` (its ``instance``) and `moe2opt.solve` (its ``plan``).
    wanted
        What overrules the configuration.
    on_token
        Hears tokens done and to be done.

    Raises
    ------
    InputError
        When torch, the model or the text is missing or damaged, or the plan cannot be run here.
    """
    wanted = wanted or Wanted()
    folder = open_folder(model_folder(instance, wanted))
    tokens = _tokens(instance, folder, wanted)
    decoder = folder.decoder(device=_home_device(instance))
    settings = _settings(instance, wanted)
    a = plan.assignment
    run = run_plan(instance, a, folder, decoder, tokens, settings, on_token=on_token)
    runs = [run]
    if wanted.calibrate:
        bare = plain_instance(instance)
        for other in calibrate.calibrating(bare):
            runs.append(run_plan(bare, other, folder, decoder, tokens, settings))
    cells = calibrate.cells_of(runs, instance)
    comparison = compare(
        predict(instance, a, run.layout.kinds), run, reference_loss(decoder, folder, tokens)
    )
    notes = (*comparison.notes, *caveats(instance, run))
    comparison = replace(comparison, notes=notes)
    return Executed(run, comparison, _content(instance, a, run, comparison, cells))


def plain_instance(instance: PlacementInstance) -> PlacementInstance:
    """Return the instance without parts: experts have fixed places and nothing is merged."""
    parts = ("aggregation", "cache", "coverage", "prefetch", "split", "lots", "pattern", "prune")
    return replace(
        instance,
        config=instance.config.model_copy(
            update={**dict.fromkeys(parts), "granularity": "expert", "batch": 1}
        ),
    )


def model_folder(instance: PlacementInstance, wanted: Wanted) -> Path:
    """Return the folder with the weights.

    Raises
    ------
    InputError
        When neither the command line nor the configuration names one.
    """
    config = instance.config
    if wanted.model is not None:
        found = wanted.model
    else:
        named, key = config.execute.model, "execute.model"
        for kind in ("safetensors", "hf"):
            if named is None:
                named, key = getattr(config.model, kind), f"model.{kind}"
        if named is None:
            raise InputError(
                "execute.model: no folder with weights is named (--model FOLDER names one too)"
            )
        found = Reader(config, instance.folder, wanted.allow_outside).path(named, key)
    if found.is_file():
        found = found.parent
    if not found.is_dir():
        raise InputError(f"execute.model: no folder '{found.name}'")
    return found


def _tokens(instance: PlacementInstance, folder: ModelFolder, wanted: Wanted) -> IntArray:
    config = instance.config.execute
    path = wanted.text
    if path is None:
        if config.text is None:
            raise InputError("execute.text: no held-out text is named (--text FILE names one too)")
        reader = Reader(instance.config, instance.folder, wanted.allow_outside)
        path = reader.path(config.text, "execute.text")
    activation = instance.activation
    weights = dict(zip(activation.domains, activation.weights.tolist(), strict=True))
    number = wanted.tokens or config.tokens
    return sequences(path, folder, number, min(config.sequence, number), weights)


def _settings(instance: PlacementInstance, wanted: Wanted) -> Settings:
    config = instance.config.execute
    scratch = None
    if config.scratch is not None:
        reader = Reader(instance.config, instance.folder, wanted.allow_outside)
        scratch = reader.path(config.scratch, "execute.scratch")
    return Settings(
        repeats=wanted.repeats or config.repeats,
        tiers=config.tiers,
        policy=config.policy,
        scratch=scratch,
    )


def _home_device(instance: PlacementInstance) -> str:
    home = instance.topology.tiers[instance.topology.home]
    asked = instance.config.execute.tiers.get(home.name)
    cuda = torch.cuda.is_available() and (asked == "cuda" or (asked is None and home.kind == "gpu"))
    return "cuda" if cuda else "cpu"


def _content(
    instance: PlacementInstance,
    assignment: Assignment,
    run: Run,
    comparison: Comparison,
    cells: list[calibrate.Cell],
) -> dict[str, Any]:
    own = assignment.stored == 1
    tiers = np.bincount(assignment.tier[own].ravel(), minlength=len(run.layout.kinds))
    return {
        "format": calibrate.FORMAT,
        "format_version": 1,
        "instance": instance.name,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "versions": machine.versions(),
        "model": {
            "name": instance.shape.name,
            "hidden": instance.shape.hidden,
            "weights": instance.shape.params_per_expert,
        },
        "tokens": list(run.tokens.shape),
        "repeats": len(run.passes),
        "memories": dict(zip(instance.topology.names, run.layout.kinds, strict=True)),
        "experts_by_tier": dict(zip(instance.topology.names, tiers.tolist(), strict=True)),
        **comparison.to_dict(),
        "storage_read_bytes_per_token": None
        if run.storage_bytes is None
        else run.storage_bytes / run.tokens.size,
        "peak_resident_bytes": run.held.peak_bytes,
        "cells": calibrate.to_json(cells),
    }
