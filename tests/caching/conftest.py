"""Traces for the tests of caches: small random ones, the built-in synthetic one, a real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moe2opt.caching.synthetic import synthetic_trace
from moe2opt.caching.trace import ExpertTrace
from moe2opt.caching.trace_reading import read_trace


@pytest.fixture(scope="session")
def synthetic() -> ExpertTrace:
    """Return a synthetic trace: 12 sequences of 60 tokens, 8 layers of 16 experts, top-4."""
    return synthetic_trace()


@pytest.fixture(scope="session")
def built_in(checkout: Path) -> ExpertTrace:
    """Return the synthetic trace that travels with the package, in the shape of gpt-oss-20b."""
    return read_trace(checkout / "problems" / "traces" / "experts_synthetic.npz")


@pytest.fixture(scope="session")
def gpt_oss(shared_data: Path) -> ExpertTrace:
    """Decode tokens of gpt-oss-20b without the repetitive sequences: 24 layers of 32, top-4."""
    folder = shared_data / "moe_traces" / "gpt_oss_20b"
    index = folder / "sequences.parquet"
    return read_trace(folder / "trace_experts.npz", n_experts=32, index=index, repetition=False)


@pytest.fixture(scope="session")
def gpt_oss_gates(shared_data: Path) -> ExpertTrace:
    """Return the sequences of gpt-oss-20b that come with router probabilities."""
    folder = shared_data / "moe_traces" / "gpt_oss_20b"
    index = folder / "trace_subset_index.csv"
    return read_trace(folder / "trace_subset.npz", n_experts=32, index=index)


def random_trace(
    rng: np.random.Generator, tokens: int, layers: int, experts: int, top_k: int
) -> ExpertTrace:
    """Return a trace of a few sequences with gate weights."""
    draws = np.argsort(rng.random((tokens, layers, experts)), axis=2)[:, :, :top_k]
    keep = rng.random(tokens) < 0.4
    for t in range(1, tokens):
        if keep[t]:
            draws[t] = draws[t - 1]
    starts = np.flatnonzero(np.append(True, rng.random(tokens - 1) < 0.15))
    gates = -np.sort(-rng.dirichlet(np.ones(top_k), size=(tokens, layers)), axis=2)
    return ExpertTrace(draws, experts, starts, gates, name="random")
