"""The small model that ships with the package: its data agree, and its losses are as predicted."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moe2opt as mo
from moe2opt.placement.experts.activation import read_npz

CONTEXT = 256


@pytest.fixture(scope="module")
def folder() -> Path:
    """Folder of the checkpoint."""
    return Path(__file__).resolve().parents[3] / "problems" / "placement" / "tinymoe"


@pytest.fixture(scope="module")
def tables(folder: Path) -> dict[str, Any]:
    """Return what was measured on calibration text."""
    content: dict[str, Any] = json.loads((folder / "tables.json").read_text(encoding="utf-8"))
    return content


def test_the_problem_has_the_measured_losses(tables: dict[str, Any]) -> None:
    """Losses in the YAML file are the measured and fitted ones, to three digits."""
    instance = mo.load("tinymoe")
    losses = {p.name: p.loss_nats for p in instance.precisions}
    assert losses["int4"] == pytest.approx(tables["rounded_nats"]["int4"], rel=5e-3)
    assert losses["int8"] == pytest.approx(max(0.0, tables["rounded_nats"]["int8"]), rel=5e-3)
    assert losses["fp16"] == losses["fp32"] == 0.0
    scales = tables["scales"]
    assert instance.config.prune.loss_nats == pytest.approx(scales["prune_loss_nats"], rel=5e-3)
    section = mo.load("tinymoe", "aggregation").config.aggregation
    for name in ("prune_loss_nats", "loss_nats", "rank_loss_share"):
        assert getattr(section, name) == pytest.approx(scales[name], rel=5e-3)


def test_the_problem_has_the_sizes_of_the_checkpoint(folder: Path) -> None:
    """Experts and dense part are as large as the tensors in the file."""
    numpy = pytest.importorskip("safetensors.numpy")
    tensors = numpy.load_file(folder / "model.safetensors")
    experts = [t for name, t in tensors.items() if ".experts." in name]
    dense = [t for name, t in tensors.items() if ".experts." not in name]
    shape = mo.load("tinymoe").shape
    assert math.prod(shape.size) * shape.params_per_expert == sum(t.size for t in experts)
    assert shape.dense_bytes == sum(t.nbytes for t in dense)
    assert (folder / "model.safetensors").stat().st_size <= 8_000_000


def test_counts_are_those_of_the_trace(folder: Path) -> None:
    """The table of counts is the trace summed up, and sequences have one length."""
    activation = mo.load("tinymoe").activation
    arrays = read_npz(folder / "trace.npz")
    assert tuple(arrays["domains"]) == activation.domains
    for d in range(len(activation.domains)):
        chosen = arrays["experts"][arrays["domain"] == d]
        found = [np.bincount(chosen[:, row].ravel(), minlength=16) for row in range(4)]
        np.testing.assert_allclose(np.array(found) / len(chosen), activation.shares[d])
    assert (np.diff(arrays["starts"]) == CONTEXT).all()


def test_domains_use_different_experts() -> None:
    """No two domains share more than nine tenths of their uses in the mean over layers."""
    shares = mo.load("tinymoe").activation.shares / 2
    for i in range(len(shares)):
        for j in range(i):
            shared = np.minimum(shares[i], shares[j]).sum(axis=1).mean()
            assert shared < 0.9


def test_the_study_ranks_plans_as_measured(folder: Path) -> None:
    """Over the plans of the study, predicted and measured losses have a rank correlation ≥ 0.9."""
    import pandas as pd
    from scipy.stats import spearmanr

    study = pd.read_csv(folder / "study.csv")
    assert len(study) >= 20
    assert spearmanr(study.predicted_nats, study.measured_nats).statistic >= 0.9
    random = study[study.kind != "optimal"]
    assert spearmanr(random.predicted_nats, random.measured_nats).statistic >= 0.9


@pytest.mark.slow
def test_the_checkpoint_routes_as_recorded(folder: Path) -> None:
    """Calibration text takes the recorded experts again, but for a tie or two between machines."""
    pytest.importorskip("torch", reason="runs a model: needs torch")
    from tinymoe.quality import text_files

    from moe2opt.executor.model.folder import open_folder
    from moe2opt.executor.model.routing import record_routing
    from moe2opt.executor.model.text import tokens_of

    model = open_folder(folder)
    texts = {n: tokens_of(model, t) for n, t in text_files(folder / "calibration").items()}
    routing = record_routing(model, texts, CONTEXT, most=8)
    arrays = read_npz(folder / "trace.npz")
    recorded = [arrays["experts"][arrays["domain"] == d][: 8 * CONTEXT] for d in range(len(texts))]
    assert (np.concatenate(recorded) == routing.experts).mean() > 0.999


@pytest.mark.slow
def test_held_out_text_costs_what_was_measured(folder: Path, tables: dict[str, Any]) -> None:
    """The loss on held-out text is the recorded one, far below that of guessing bytes."""
    pytest.importorskip("torch", reason="runs a model: needs torch")
    from tinymoe.quality import judged_bytes, losses

    from moe2opt.executor.model.folder import open_folder

    model = open_folder(folder)
    found = losses(model.decoder(), model.resident(), judged_bytes(folder / "heldout", CONTEXT))
    recorded = {k: v for k, v in tables["heldout_loss_nats"].items() if k != "mean"}
    assert found == pytest.approx(recorded, abs=1e-3)
    assert max(found.values()) < 0.5 * math.log(256)


@pytest.mark.slow
def test_new_plans_rank_as_predicted(folder: Path) -> None:
    """Plans that nobody has looked at rank on held-out text as their predictions do."""
    pytest.importorskip("torch", reason="runs a model: needs torch")
    from tinymoe.plans import measure_plans, random_plans, rank_correlation
    from tinymoe.quality import judged_bytes

    from moe2opt.executor.model.folder import open_folder

    instance = mo.load("tinymoe", "aggregation")
    plans = random_plans(instance, 20, seed=77)
    table = measure_plans(
        open_folder(folder), instance, plans, judged_bytes(folder / "heldout", CONTEXT, 10)
    )
    assert rank_correlation(table) >= 0.9
