r"""Linear bounds of what an ensemble gets right, one per prompt, that share what LLMs do.

A bound prompt by prompt lets every LLM take part where it is right and stay away where it is wrong.
Here a prompt is worth at most a number, plus one for each LLM that takes part, negative where it is
wrong; added up over prompts, an LLM takes part everywhere or nowhere.

Let d be the margin of the right answer over one fixed rival in what surely takes part, p what
others add to it, q what they take away, and w the most that they can take away. The prompt is won
where :math:`d + p - q > 0`, and half of it at most where that is 0. All are whole numbers, so it is
worth at most each of

* what it is worth when nobody takes anything away;
* for d < 0, with n = 1 - d: :math:`p / n`; for d = 0: :math:`1/2 + p / 2 - q / 2w`;
* for d ≤ 0: :math:`(w + p - q) / (n + w)`, the concave envelope in p - q;
* for 0 < d < w: :math:`1 + (d - 1 + p - q) / (w - d + 1)`; for d = w the same with 2 below.

A single LLM never adds more than 1. Which of them to take is settled by fictitious play: each
prompt answers to shares of the LLMs, and these move to the LLMs that gain. Every step is a bound.

Whole numbers again: every machine finds the same bound.
"""

from __future__ import annotations

import numpy as np

from moe2opt.result import FloatArray

#: Units of a prompt, and of the share of an LLM.
_PROMPT, _SHARE = 2.0**30, 64

_STEPS = 4


def envelope(best: FloatArray, margin: FloatArray, pull: FloatArray, more: int) -> float:
    """Return a bound of the number of prompts won.

    Parameters
    ----------
    best
        ``(R,)`` what a prompt is worth when nobody takes anything away.
    margin
        ``(R,)`` margin of the right answer over the rival in what surely takes part.
    pull
        ``(F, R)`` what each of the others would add to it.
    more
        How many of them may take part.
    """
    count = len(pull)
    losses = np.maximum(-pull, 0.0)
    worst = losses.sum(axis=0)
    if more < count:
        worst = np.partition(losses, count - more, axis=0)[count - more :].sum(axis=0)
    settled = (best > 0) & (margin > worst)
    open_ = (best > 0) & ~settled
    best, margin, worst = best[open_], margin[open_], worst[open_]
    gains, losses = np.maximum(pull[:, open_], 0.0), losses[:, open_]
    constants = [np.ceil(best * _PROMPT)]
    slopes: list[FloatArray] = []
    for constant, gain, loss in _lines(margin, worst):
        constants.append(np.ceil(constant * _PROMPT) + 1)
        up = np.minimum(np.ceil(gains * (gain * _PROMPT)) + (gains > 0), _PROMPT)
        slopes.append(up - np.maximum(np.floor(losses * (loss * _PROMPT)) - 1, 0.0))
    shares, bound = np.full(count, _SHARE // 2), np.inf
    for step in range(_STEPS):
        worth = [constants[0] * _SHARE]
        worth += [c * _SHARE + shares @ s for c, s in zip(constants[1:], slopes, strict=True)]
        taken = np.argmin(worth, axis=0)
        total = sum(float(c[taken == k].sum()) for k, c in enumerate(constants))
        each = sum((s @ (taken == k) for k, s in enumerate(slopes, start=1)), np.zeros(count))
        bound = min(bound, total + float(np.sort(np.maximum(each, 0.0))[count - more :].sum()))
        shares = shares + ((each > 0) * _SHARE - shares) // (step + 2)
    return bound / _PROMPT + float(settled.sum())


def _lines(
    margin: FloatArray, worst: FloatArray
) -> tuple[tuple[FloatArray, FloatArray, FloatArray], ...]:
    """Return constant, gain and loss per unit of two linear bounds of each prompt."""
    needed = np.maximum(1.0 - margin, 1.0)
    ahead, level = margin > 0, margin == 0
    half = np.divide(0.5, worst, out=np.zeros_like(worst), where=worst > 0)
    chord = (
        np.where(ahead, 1.0, np.where(level, 0.5, 0.0)),
        np.where(ahead, 0.0, np.where(level, 0.5, 1.0 / needed)),
        np.where(level, half, 0.0),
    )
    slope = 1.0 / (needed + worst)
    slope = np.where(level & (worst == 0), 0.5, slope)
    reach = np.maximum(worst - margin + 1.0, 2.0)
    fall = np.where(worst >= margin, 1.0 / reach, 0.0)
    constant = np.where(level & (worst == 0), 0.5, worst * slope)
    hull = (
        np.where(ahead, 1.0 + fall * (margin - 1.0), constant),
        np.where(ahead, fall, slope),
        np.where(ahead, fall, slope),
    )
    return chord, hull
