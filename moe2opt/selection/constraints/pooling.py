r"""Ensembles that add log-probabilities: a logarithmic opinion pool.

The pool of a set S answers with the a of the largest :math:`\sum_{m \in S} w_m \log p_m(a)`, which
is the largest geometric mean (Genest and Zidek 1986). It is right where every wrong answer has

.. math:: d_a(S) = \sum_{m \in S} w_m (\log p_m(\text{right}) - \log p_m(a)) > 0.

Over sets between y and x each :math:`d_a` is at most the sum of all of y and of what is positive of
the rest of x, so the share of right answers is mixed monotone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe2opt.result import BoolArray, FloatArray, InputError, IntArray
from moe2opt.selection.constraints.ensemble import Ensemble
from moe2opt.selection.constraints.voting import votes_by_accuracy
from moe2opt.selection.gated import GatedCase
from moe2opt.selection.outcomes.margins import MARGIN_DECIMALS

#: Units of a nat. Sums of whole numbers are exact, and the same on every machine.
UNITS = 10**MARGIN_DECIMALS


@dataclass(frozen=True, eq=False)
class LogPool(Ensemble):
    """Margins of the right answers over all others, to be added.

    Attributes
    ----------
    margins
        ``(M, R, A)`` weighted margin in units of 1 / `UNITS` nats; 0 where nothing is known.
    against
        ``(R, A)`` whether the prompt has that answer, and it is wrong.
    ran
        ``(M, R)`` whether the LLM has log-probabilities there.
    """

    margins: IntArray
    against: BoolArray
    ran: BoolArray

    @property
    def llms(self) -> int:
        """Number of LLMs M."""
        return len(self.margins)

    @property
    def parts(self) -> tuple[BoolArray | IntArray | FloatArray | float | str, ...]:
        """What tells this ensemble from others."""
        return ("log pool", self.margins, self.against, self.ran, self.model_of, self.keeps)

    def chances(self, keeps: FloatArray, kept: BoolArray) -> FloatArray:
        """Return ``(R,)`` 1 where all margins are positive, and the share of the lot where tied.

        A prompt on which nobody has log-probabilities is lost.
        """
        offered = keeps > 0
        margin = self._most(offered, kept)
        least = np.where(self.against, margin, np.iinfo(np.int64).max).min(axis=1)
        tied = ((margin == 0) & self.against).sum(axis=1)
        won = np.where(least > 0, 1.0, np.where(least == 0, 1.0 / (1 + tied), 0.0))
        return np.where(self.ran[offered].any(axis=0), won, 0.0)

    def pulls(self, offered: BoolArray, kept: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Return margins over the answer that is hardest to beat; see `Ensemble.pulls`."""
        most = np.where(self.against, self._most(offered, kept), np.iinfo(np.int64).max)
        rival = most.argmin(axis=1)[None, :, None]
        pull = np.take_along_axis(self.margins, rival, axis=2)[:, :, 0]
        return pull[kept].sum(axis=0).astype(np.float64), pull.astype(np.float64)

    def _most(self, offered: BoolArray, kept: BoolArray) -> IntArray:
        """Return ``(R, A)`` the largest margins of a set between two."""
        margin = self.margins[kept].sum(axis=0)
        for m in np.flatnonzero(offered & ~kept):
            margin += np.maximum(self.margins[m], 0)
        return np.asarray(margin)


def pool_of(case: GatedCase, prompts: IntArray) -> LogPool:
    """Return the pool of a case on some prompts.

    An LLM that was not run on a prompt takes no part in its pool.

    Raises
    ------
    InputError
        Without log-probabilities, or with a precision that changes them in an unknown way.
    """
    assert case.vote is not None
    if case.pool.margins is None:  # a case is not made without
        raise InputError("vote.pool: the outcomes have no table `log_probabilities`")
    margins = np.moveaxis(case.pool.margins[prompts], 1, 0)
    known = ~np.isnan(margins)
    whole = np.rint(np.where(known, margins, 0.0) * UNITS).astype(np.int64)
    if case.vote.weights == "accuracy":
        whole *= votes_by_accuracy(case)[case.pool.category_of[prompts]].T[:, :, None]
    return LogPool(
        model_of=case.model_of,
        keeps=case.factors,
        weights=np.full(len(prompts), 1 / len(prompts)),
        margins=whole,
        against=np.asarray(known.any(axis=0)),
        ran=np.asarray(known.any(axis=2)),
    )
