"""Bootstrap over prompts: intervals of means and of paired differences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from moe2opt.result import BoolArray, FloatArray

#: Replicates that are drawn at a time; bounds the memory.
_CHUNK = 250


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with the ends of its 95 % bootstrap interval; None without any observation."""

    mean: float | None
    low: float | None
    high: float | None

    def scaled(self, factor: float) -> Estimate:
        """Return the estimate in another unit."""
        parts = (self.mean, self.low, self.high)
        return Estimate(*(None if part is None else factor * part for part in parts))


def bootstrap_ratios(
    sums: FloatArray, counts: FloatArray, replicates: int, seed: int
) -> FloatArray:
    """Return ``(replicates, n)`` means of resampled prompts: NaN where nothing is known.

    Parameters
    ----------
    sums, counts
        ``(U, n)``: for each prompt the sum of the known values and their number, which is above 1
        where several splits tested it. Every column sees the same resampled prompts, so differences
        of columns are paired.
    replicates
        Number of resamples.
    seed
        Seed of the draw.
    """
    drawn = [_ratio(d @ sums, d @ counts) for d in _draws(len(sums), replicates, seed)]
    return np.concatenate(drawn) if drawn else np.full((replicates, sums.shape[1]), np.nan)


def bootstrap_means(columns: FloatArray, replicates: int, seed: int) -> FloatArray:
    """Return ``(replicates, n)`` means of resampled prompts of ``(T, n)`` values, NaN unknown."""
    known = (~np.isnan(columns)).astype(np.float64)
    return bootstrap_ratios(np.nan_to_num(columns), known, replicates, seed)


def estimated(total: float, count: float, resampled: FloatArray) -> Estimate:
    """Return the mean of `count` values with the interval of its resampled means."""
    if not count:
        return Estimate(None, None, None)
    return Estimate(float(total / count), *_interval(resampled))


def estimate(column: FloatArray, resampled: FloatArray) -> Estimate:
    """Return the mean of a column with the interval of its resampled means."""
    known = column[~np.isnan(column)]
    return estimated(float(known.sum()), len(known), resampled)


def mean_and_error(sums: FloatArray, counts: FloatArray) -> tuple[float, float]:
    """Return the mean of all values and its standard error; prompts are independent, splits not.

    This is the linearised error of a ratio, whose clusters are the prompts. With one value for
    each prompt it is the usual one.

    Parameters
    ----------
    sums, counts
        ``(U,)``: for each prompt the sum of its values and their number.

    Examples
    --------
    >>> once, twice = np.ones(4), np.full(4, 2.0)
    >>> values = np.array([0.0, 1.0, 1.0, 0.0])
    >>> mean_and_error(values, once) == mean_and_error(2 * values, twice)
    True
    >>> bool(np.isclose(mean_and_error(values, once)[1], values.std(ddof=1) / 2))
    True
    """
    used = counts > 0
    count, clusters = counts.sum(), int(used.sum())
    if not clusters:
        return np.nan, 0.0
    mean = float(sums.sum() / count)
    if clusters == 1:
        return mean, 0.0
    spread = ((sums - mean * counts)[used] ** 2).sum()
    return mean, float(np.sqrt(clusters / (clusters - 1) * spread) / count)


def common_prompts(known: BoolArray, plan: int) -> BoolArray:
    """Return on which prompts each policy is compared with the plan.

    All are compared on the prompts whose outcome is known for every one of them. A policy that
    would take more than a tenth of the plan's prompts from the others stands aside: it is compared
    on what is known for it and the plan.

    Parameters
    ----------
    known
        ``(T, n)`` whether the outcome of each of the n policies is known.
    plan
        Column of the plan.

    Examples
    --------
    >>> known = np.ones((20, 3), dtype=bool)
    >>> known[0, 1] = known[:9, 2] = False
    >>> common_prompts(known, 0).sum(axis=0).tolist()
    [19, 19, 11]
    """
    own = known[:, plan]
    shared, aside = own, []
    for k in np.argsort((own[:, None] & ~known).sum(axis=0), kind="stable"):
        if 10 * (shared & known[:, k]).sum() >= 9 * own.sum():
            shared = shared & known[:, k]
        else:
            aside.append(k)
    compared = np.repeat(shared[:, None], known.shape[1], axis=1)
    compared[:, aside] = known[:, aside] & own[:, None]
    return compared


def _interval(resampled: FloatArray) -> tuple[float | None, float | None]:
    known = resampled[np.isfinite(resampled)]
    if not len(known):
        return None, None
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def _draws(count: int, replicates: int, seed: int) -> Iterator[FloatArray]:
    rng = np.random.default_rng(seed)
    shares = np.full(count, 1 / max(count, 1))
    for start in range(0, replicates if count else 0, _CHUNK):
        size = min(_CHUNK, replicates - start)
        yield rng.multinomial(count, shares, size=size).astype(np.float64)


def _ratio(totals: FloatArray, counts: FloatArray) -> FloatArray:
    empty = np.full_like(totals, np.nan)
    means: FloatArray = np.divide(totals, counts, out=empty, where=counts > 0)
    return means
