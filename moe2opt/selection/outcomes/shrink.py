r"""Empirical-Bayes accuracies: small clusters lean on their category.

.. math:: \hat p_{cm} = \frac{x_{cm} + s_m\, \bar p_{k(c)m}}{n_{cm} + s_m}

with :math:`x_{cm}` correct answers of :math:`n_{cm}` runs of LLM m on cluster c, its accuracy
:math:`\bar p_{km}` in category k, and the strength :math:`s_m = (1-\rho_m)/\rho_m` of a beta prior,
where :math:`\rho_m` is the analysis-of-variance estimate of the intra-cluster correlation
(beta-binomial model). Where clusters differ no more than chance would make them,
:math:`\rho_m = 0` and the category accuracy stands.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moe2opt.result import FloatArray, InputError, IntArray


def shrink(
    run: IntArray, correct: IntArray, pooled: FloatArray, categories: Sequence[str]
) -> tuple[FloatArray, list[float]]:
    """Shrink the accuracies of clusters towards their category.

    Parameters
    ----------
    run, correct
        ``(C, M)`` runs and correct answers.
    pooled
        ``(C, M)`` accuracy of the LLM in the category of the cluster.
    categories
        Category of each cluster.

    Returns
    -------
    accuracy, strengths
        ``(C, M)`` estimates and the prior strength of each LLM in prompts (``inf``: clusters do
        not differ).
    """
    group = np.unique(np.asarray(categories), return_inverse=True)[1]
    correlation = np.array(
        [_correlation(run[:, m], correct[:, m], group) for m in range(run.shape[1])]
    )
    # Written without the strength itself, so that correlation 0 needs no special case.
    weight = correlation * run
    rate = np.divide(correct, run, out=np.zeros(run.shape), where=run > 0)
    accuracy = (weight * rate + (1 - correlation) * pooled) / (weight + (1 - correlation))
    with np.errstate(divide="ignore"):
        strengths = (1 - correlation) / correlation
    return accuracy, strengths.tolist()


def _correlation(run: IntArray, correct: IntArray, group: IntArray) -> float:
    between, chance, full = 0.0, 0.0, 0.0
    for g in np.unique(group):
        n, x = run[(group == g) & (run > 0)], correct[(group == g) & (run > 0)]
        if len(n) < 2:
            continue
        total, mean = n.sum(), x.sum() / n.sum()
        variance = mean * (1 - mean) * total / max(1, total - 1)
        between += float((n * (x / n - mean) ** 2).sum())
        chance += variance * (len(n) - 1)
        full += variance * (total - (n**2).sum() / total)
    if full <= chance:
        return 0.0
    return float(np.clip((between - chance) / (full - chance), 0.0, 0.99))


def category_rates(
    run: IntArray, correct: IntArray, categories: Sequence[str], llms: list[str]
) -> FloatArray:
    """Return ``(C, M)`` accuracy in the cluster's category; the overall one where never run.

    Raises
    ------
    InputError
        Naming an LLM that was never run.
    """
    never = np.flatnonzero(run.sum(axis=0) == 0)
    if len(never):
        raise InputError(
            f"outcomes: LLM '{llms[int(never[0])]}' was never run on a training prompt"
        )
    return pooled_ratio(correct.astype(np.float64), run.astype(np.float64), categories)


def pooled_ratio(totals: FloatArray, counts: FloatArray, categories: Sequence[str]) -> FloatArray:
    """Return ``(C, M)`` total / count of the cluster's category, the overall one where it is empty.

    Parameters
    ----------
    totals, counts
        ``(C, M)`` sums by cluster; every column has a positive count somewhere.
    categories
        Category of each cluster.
    """
    names, group = np.unique(np.asarray(categories), return_inverse=True)
    sums = np.zeros((2, len(names), totals.shape[1]))
    for part, array in zip(sums, (totals, counts), strict=True):
        np.add.at(part, group, array)
    overall = np.broadcast_to(sums[0].sum(axis=0) / sums[1].sum(axis=0), sums[0].shape).copy()
    ratio = np.divide(sums[0], sums[1], out=overall, where=sums[1] > 0)
    spread: FloatArray = ratio[group]
    return spread
