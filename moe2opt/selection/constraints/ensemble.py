"""Experts that all answer every prompt: the share that they get right together, and its bound.

What a set gets right together is not monotone in the set, but it rises with what speaks for the
right answer and falls with what speaks against it. That makes it mixed monotone: over sets between
y and x it is at most what all of x says for the right answers and all of y against them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from moe2opt.result import BoolArray, FloatArray, IntArray

#: Shares of box corners that are remembered.
MOST_KNOWN = 200_000

#: Relative error of one operation, for bounds over boxes.
_UNIT = 2.0**-53


@dataclass(frozen=True, eq=False)
class Ensemble(ABC):
    """A rule that makes one answer of those of M LLMs on R prompts, for sets of N experts.

    An LLM counts once, however many copies of it are deployed: as the copy that keeps most.

    Attributes
    ----------
    model_of, keeps
        ``(N,)`` LLM of each expert, and the share of right answers that its precision keeps.
    weights
        ``(R,)`` weights of the prompts.
    """

    model_of: IntArray
    keeps: FloatArray
    weights: FloatArray

    @property
    @abstractmethod
    def llms(self) -> int:
        """Number of LLMs M."""

    @property
    @abstractmethod
    def parts(self) -> tuple[BoolArray | IntArray | FloatArray | float | str, ...]:
        """What tells this ensemble from others."""

    @abstractmethod
    def chances(self, keeps: FloatArray, kept: BoolArray) -> FloatArray:
        """Return ``(R,)`` bounds of the chance that the answer is right; exact at points.

        Parameters
        ----------
        keeps
            ``(M,)`` share that the LLM's best copy keeps; 0 for one that takes no part.
        kept
            ``(M,)`` LLMs that surely take part. At points these are all of them.
        """

    @abstractmethod
    def pulls(self, offered: BoolArray, kept: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Return the margin over one rival of each prompt, and what every LLM does to it.

        Parameters
        ----------
        offered, kept
            ``(M,)`` LLMs that may take part, and those that surely do.

        Returns
        -------
        tuple
            ``(R,)`` whole margin of the right answer in what is kept, ``(M, R)`` what LLMs add to
            it. A prompt is lost where the total is negative, and half of it where it is 0.
        """

    def __call__(self, upper: IntArray, lower: IntArray) -> FloatArray:
        """Return the bound over boxes between ``(B, N)`` 0/1 corners; at points, the value.

        Over boxes it is raised by more than the sums can lose to rounding.
        """
        shares = self.bound if upper is not lower else self.share
        found = []
        for x, y in zip(upper, lower, strict=True):
            sure = np.zeros(self.llms, dtype=bool)
            sure[self.model_of[y > 0]] = True
            found.append(shares(self.best_copies(np.flatnonzero(x)), sure))
        return np.array(found)

    def bound(self, keeps: FloatArray, kept: BoolArray) -> float:
        """Return the weighted share of `chances`, raised by more than its sums can lose."""
        return self.raised(self.share(keeps, kept))

    def raised(self, share: float) -> float:
        """Return a share, raised by more than its sums can lose to rounding."""
        return share * (1.0 + 8.0 * _UNIT * (len(self.weights) + self.llms + 8))

    def won(self, chosen: IntArray) -> FloatArray:
        """Return ``(R,)`` chances that the chosen experts are right together."""
        keeps = self.best_copies(chosen)
        return self.chances(keeps, keeps > 0)

    def value(self, chosen: IntArray) -> float:
        """Return the share of prompts that the chosen experts get right together."""
        return math.fsum(self.won(chosen) * self.weights)

    def share(self, keeps: FloatArray, kept: BoolArray) -> float:
        """Return the weighted share of `chances`, computed once."""
        key = (keeps.tobytes(), kept.tobytes())
        if key not in self._known:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[key] = math.fsum(self.chances(keeps, kept) * self.weights)
        return self._known[key]

    def best_copies(self, chosen: IntArray) -> FloatArray:
        """Return ``(M,)`` the largest share that a chosen copy keeps, 0 without one."""
        keeps = np.zeros(self.llms)
        np.maximum.at(keeps, self.model_of[chosen], self.keeps[chosen])
        return keeps

    @cached_property
    def _known(self) -> dict[tuple[bytes, bytes], float]:
        """Shares that were computed before."""
        return {}
