"""Which network a gate gets: the simplest that routes as well as any, by cross-validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from moe2opt.result import FloatArray, IntArray
from moe2opt.selection.gate.linear_fit import SINGLE, TABLE, linear_networks
from moe2opt.selection.gate.losses import Data
from moe2opt.selection.gate.measures import routed_scores, simplest
from moe2opt.selection.gate.model import Network

#: Parts of the prompts that are left out in turn.
FOLDS = 5

#: Standard errors on both sides of an interval of 95 %.
_TWO_SIDED = 1.96

Step = Callable[[str], None]


def fit_linear(
    data: Data, categories: int, offered: IntArray, seed: int, on_step: Step
) -> tuple[Network, FloatArray, dict[str, Any]]:
    """Choose a network by cross-validation, and fit it to all prompts.

    It is tried from the mean of every LLM over tables of categories to regressions with ever weaker
    penalties; `compared` says which is kept.

    Parameters
    ----------
    data
        Prompts of the training and validation parts; the last `categories` inputs are one-hot.
    offered
        Columns of the LLMs that may be deployed: routing is judged among these.

    Returns
    -------
    network, logits, record
        The network; ``(P, M)`` logits of every prompt by a network that has not seen it; what was
        tried and chosen.
    """
    count = len(data.inputs)
    fold = np.random.default_rng(seed).permutation(count) % FOLDS
    out: dict[str, FloatArray] = {}
    for k in range(FOLDS):
        kept, left = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        part = Data(data.inputs[kept], data.score[kept])
        for name, network in linear_networks(part, categories):
            out.setdefault(name, np.zeros(data.score.shape))[left] = network(data.inputs[left])
        on_step(f"left out part {k + 1} of {FOLDS}")
    chosen, record = compared(out, data.score, offered, seed)
    network = next(own for name, own in linear_networks(data, categories) if name == chosen)
    on_step(f"chosen: {chosen}")
    return network, out[chosen], {"folds": FOLDS, **record}


def compared(
    logits: dict[str, FloatArray], score: FloatArray, offered: IntArray, seed: int
) -> tuple[str, dict[str, Any]]:
    """Return the name of the simplest network that routes as well as any, and a record.

    Among networks that look at no text, and among those that do, it is the simplest within a
    standard error of the best. Text must route better than the best without it beyond noise (95 %).

    Parameters
    ----------
    logits
        ``(P, M)`` logits by the name of the network, the simplest first.
    score
        ``(P, M)`` scores of the same prompts.
    """
    names = list(logits)
    own = score[:, offered]
    routed = np.array([routed_scores(logits[name][:, offered], own, seed) for name in names])
    reads = np.array([not name.startswith((SINGLE, TABLE)) for name in names])
    plain, reading = np.flatnonzero(~reads), np.flatnonzero(reads)
    chosen, text = (int(own[simplest(routed[own])]) for own in (plain, reading))
    added = _gain(routed[text], routed[plain][routed[plain].mean(axis=1).argmax()])
    if added["mean"] > added["margin"]:
        chosen = text
    gain = _gain(routed[chosen], routed[0])
    return names[chosen], {
        "chosen": names[chosen],
        "prompts": len(score),
        "routed_score": {n: float(v.mean()) for n, v in zip(names, routed, strict=True)},
        "gain_over_best_single": gain,
        "gain_of_text": added,
        "advice": _advice(names[chosen], gain, added),
    }


def _gain(routed: FloatArray, other: FloatArray) -> dict[str, float]:
    """Return the mean of paired differences, and half the width of its 95 % interval."""
    gap = routed - other
    return {
        "mean": float(gap.mean()),
        "margin": float(_TWO_SIDED * gap.std() / np.sqrt(max(1, len(gap)))),
    }


def _advice(chosen: str, gain: dict[str, float], text: dict[str, float]) -> str:
    total, added = (
        f"{100 * g['mean']:+.1f} ± {100 * g['margin']:.1f} points" for g in (gain, text)
    )
    if chosen == SINGLE:
        return "send every prompt to the best LLM: what category and text add is within noise"
    if chosen.startswith(TABLE):
        return (
            f"route by category here: {total} over the best single LLM; the text of the prompt "
            f"adds {added}, within noise"
        )
    return f"{total} over the best single LLM; the text of the prompt adds {added} to its category"
