"""Several splits of one matrix, pooled."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import moe2opt as mo
from moe2opt.cli.app import app
from moe2opt.pareto.judging import judged_over_splits, split_anew
from moe2opt.result import InputError
from moe2opt.selection.evaluation.intervals import bootstrap_ratios, estimated, mean_and_error
from moe2opt.selection.evaluation.realised import evaluate_on_test
from moe2opt.selection.evaluation.report import Evaluation

from .test_grid import complete, tiny


@cache
def targets() -> tuple[Any, ...]:
    """Return the tiny gated instance under two splits."""
    return tuple(split_anew(tiny(), 2))


@cache
def done() -> Evaluation:
    """Return the evaluation over both splits."""
    return evaluate_on_test(targets(), mo.solve, replicates=200)


def test_splits_differ_by_the_seed_alone() -> None:
    """The next split has the next seed, another test part and a gate of its own."""
    first, second = targets()
    assert (first.split.seed, second.split.seed) == (0, 1)
    assert first.gate_folder.name != second.gate_folder.name
    parts = [set(own.split.members("test").tolist()) for own in (first, second)]
    assert parts[0] != parts[1]
    assert second.gate.record["split"] == second.split.record()


def test_instances_of_no_file_are_not_split_anew() -> None:
    """An instance made in code has no file to read again."""
    with pytest.raises(InputError, match="not loaded from a file"):
        split_anew(complete(), 2)


def test_pooled_means_are_those_of_all_prompts() -> None:
    """Every pooled mean is the mean over the splits, weighted by the prompts compared."""
    for row in done().rows:
        own = [r for r in done().by_split if r.policy == row.policy]
        counts = [r.prompts for r in own]
        assert [r.seed for r in own] == [0, 1]
        assert row.prompts == sum(counts)
        assert row.splits == 2
        for name in ("accuracy", "against_plan"):
            mean = np.average([getattr(r, name) for r in own], weights=counts)
            assert getattr(row, name).mean == pytest.approx(mean)


def test_a_prompt_of_two_splits_is_one_prompt() -> None:
    """Twice the same test part gives the interval of once, not a narrower one."""
    rng = np.random.default_rng(0)
    sums, counts = rng.random((50, 1)), np.ones((50, 1))
    once, twice = (bootstrap_ratios(k * sums, k * counts, 300, 0)[:, 0] for k in (1, 2))
    assert estimated(1.0, 2.0, once) == estimated(1.0, 2.0, twice)
    apart = mean_and_error(np.concatenate([sums[:, 0], sums[:, 0]]), np.ones(100))
    same = mean_and_error(2 * sums[:, 0], 2 * counts[:, 0])
    assert apart[1] < 0.75 * same[1]


def test_a_grid_pools_cell_by_cell() -> None:
    """Differences of a pooled cell are means over the splits' prompts, with the clustered error."""
    axes = {"energy_j_per_prompt": [60.0, 150.0]}
    grids, both = judged_over_splits(targets(), axes)
    single = [judged_over_splits([own], axes)[1] for own in targets()]
    assert [grid.certified for grid in grids] == [True, True]
    assert both.splits == 2
    for cell, *parts in zip(both.cells, *(own.cells for own in single), strict=True):
        assert cell.splits == 2
        assert cell.prompts == sum(part.prompts for part in parts)
        for rival in cell.rivals:
            own = [next(r for r in part.rivals if r.policy == rival.policy) for part in parts]
            weights = [r.prompts for r in own]
            mean = np.average([r.difference for r in own], weights=weights)
            assert rival.difference == pytest.approx(mean)
            lowest = min(r.error for r in own) / 2
            assert lowest <= rival.error <= max(r.error for r in own) + 1e-12
    verdicts = {tally.policy: tally.verdict for tally in both.tallies()}
    assert verdicts["majority vote"] == "behind"
    assert verdicts["every baseline"] == ""


def test_command_pools_splits(tmp_path: Path) -> None:
    """`evaluate --splits` writes one row per split and policy, and says the number of splits."""
    words = ["evaluate", "tiny_gate", "--splits", "2", "--bootstrap", "50", "--quiet"]
    ran = CliRunner().invoke(app, [*words, "--out", str(tmp_path)])
    assert ran.exit_code == 0, ran.stderr
    assert "pooled over 2 splits" in ran.stdout
    assert "Points over the best single LLM, split by split:" in ran.stdout
    table = pd.read_csv(tmp_path / "evaluation_splits.csv")
    assert sorted(table["seed"].unique()) == [0, 1]
    assert table["deployed"].str.len().gt(0).all()
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert [split["seed"] for split in content["provenance"]["splits"]] == [0, 1]
    pooled = pd.read_csv(tmp_path / "evaluation.csv")
    assert pooled["deployed"].str.len().gt(0).all()
