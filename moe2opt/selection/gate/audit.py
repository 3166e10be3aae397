"""What masking costs on real outcomes: against a gate trained anew, and against monotonicity."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from moe2opt.result import FloatArray, IntArray
from moe2opt.selection.gate.measures import measure
from moe2opt.selection.gate.model import Gate
from moe2opt.selection.gate.settings import GateSettings
from moe2opt.selection.gate.train import train_gate
from moe2opt.selection.outcomes.matrix import OutcomeMatrix
from moe2opt.selection.outcomes.partition import Split


@dataclass(frozen=True, slots=True)
class Masking:
    """One set of LLMs: the gate of all LLMs masked to it, and a gate trained on it alone.

    Attributes
    ----------
    llms
        The set.
    masked_accuracy, retrained_accuracy
        Mean score of the routed LLM on the test part.
    masked_loss, retrained_loss
        Log-loss of the probabilities of these LLMs on the test part.
    """

    llms: tuple[str, ...]
    masked_accuracy: float
    retrained_accuracy: float
    masked_loss: float
    retrained_loss: float


def compare_masked(
    outcomes: OutcomeMatrix,
    split: Split,
    gate: Gate,
    settings: GateSettings,
    sets: Iterable[Sequence[str]],
) -> list[Masking]:
    """Compare masking with training anew for each set of LLMs."""
    test = split.members("test")
    vectors, category = outcomes.vectors[test], outcomes.category[test]
    everybody = gate.scores(vectors, category)
    found = []
    for llms in sets:
        names = list(llms)
        masked = everybody[:, [gate.llms.index(name) for name in names]]
        anew = train_gate(outcomes, split, settings, llms=names).scores(vectors, category)
        score = outcomes.score[np.ix_(test, outcomes.columns(names))]
        first, second = measure(masked, score), measure(anew, score)
        accuracies = (first.routed_accuracy, second.routed_accuracy)
        found.append(Masking(tuple(names), *accuracies, first.log_loss, second.log_loss))
    return found


@dataclass(frozen=True, slots=True)
class Violations:
    """How often one more LLM makes things worse.

    Attributes
    ----------
    pairs
        Pairs of a set and the same set with one more LLM.
    realised, surrogate
        Share of the pairs in which the realised accuracy, or the mean highest score, falls.
    worst
        Largest fall of the realised accuracy.
    """

    pairs: int
    realised: float
    surrogate: float
    worst: float


def violations(scores: FloatArray, outcome: FloatArray, pairs: int, seed: int) -> Violations:
    """Draw random sets of LLMs, add one, and compare.

    Parameters
    ----------
    scores, outcome
        ``(P, M)`` estimated probabilities and measured scores; prompts with a missing score are
        left out.
    pairs
        How many to draw.
    seed
        Seed of the draw.
    """
    whole = ~np.isnan(outcome).any(axis=1)
    scores, outcome = scores[whole], outcome[whole]
    rng = np.random.default_rng(seed)
    models = scores.shape[1]
    changes = np.zeros((pairs, 2))
    for k in range(pairs):
        order = rng.permutation(models)[: int(rng.integers(2, models + 1))]
        small, large = _value(scores, outcome, order[:-1]), _value(scores, outcome, order)
        changes[k] = np.subtract(large, small)
    fallen = (changes < -1e-12).mean(axis=0)
    return Violations(pairs, float(fallen[0]), float(fallen[1]), float(-changes[:, 0].min()))


def _value(scores: FloatArray, outcome: FloatArray, llms: IntArray) -> tuple[float, float]:
    """Return the realised accuracy and the mean highest score of a set."""
    best = scores[:, llms].argmax(axis=1)
    realised = outcome[np.arange(len(outcome)), llms[best]].mean()
    return float(realised), float(scores[:, llms].max(axis=1).mean())
