"""Ensembles that vote: every deployed expert answers, and the answer with the most votes wins."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from moe2opt.result import BoolArray, FloatArray, IntArray
from moe2opt.selection.constraints.ensemble import Ensemble
from moe2opt.selection.gated import GatedCase

#: Votes of the LLM whose word counts most in a category, where they are weighted.
MOST_VOTES = 16


@dataclass(frozen=True, eq=False)
class Ballots(Ensemble):
    """What M LLMs answer on R prompts, and how they vote.

    Right answers that a precision does not keep are lost one by one, independently, and vote for
    nothing.

    Attributes
    ----------
    right
        ``(R, M)`` whether the LLM gives the right answer.
    wrong
        ``(R, M)`` number of the wrong answer that it gives, 0 up; -1 where it gives none.
    votes
        ``(R, M)`` whole votes of its answer, at least 1.
    tie
        Whether a tie is decided by lot; lost where the wrong answers are not told apart.
    """

    right: BoolArray
    wrong: IntArray
    votes: IntArray
    tie: bool

    @property
    def llms(self) -> int:
        """Number of LLMs M."""
        return int(self.right.shape[1])

    @property
    def parts(self) -> tuple[BoolArray | IntArray | FloatArray | float | str, ...]:
        """What tells this ensemble from others."""
        return (self.right, self.wrong, self.votes, self.model_of, self.keeps, self.tie)

    def chances(self, keeps: FloatArray, kept: BoolArray) -> FloatArray:
        """Return ``(R,)`` chances that the right votes of some beat the wrong ones of `kept`."""
        most, tied = self._against(kept)
        share = np.where(most > 0, 1.0 / (1 + tied) if self.tie else 0.0, 0.0)
        if ((keeps == 0) | (keeps == 1)).all():
            own = self._right_votes[keeps > 0].sum(axis=0)
            return np.where(own > most, 1.0, np.where(own == most, share, 0.0))
        voters = [(m, float(keeps[m])) for m in np.flatnonzero(keeps).tolist()]
        found = np.empty(len(most))
        for rows, votes in self._blocks:
            own = most[rows]
            below = self._below(rows, votes, int(own.max(initial=0)), voters)
            lost = np.where(np.arange(len(below))[:, None] <= own, below, 0.0).sum(axis=0)
            level = below[own, np.arange(len(own))]
            found[rows] = 1.0 - lost + level * share[rows]
        return found

    def pulls(self, offered: BoolArray, kept: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Return margins over the wrong answer that has most votes; see `Ensemble.pulls`."""
        sure, further = self._given(kept), self._given(offered)
        rival = (sure * (1.0 + further.max(initial=0.0)) + further).argmax(axis=0)
        pull = self._right_votes - self._wrong_votes[:, rival, np.arange(len(rival))]
        return pull[kept].sum(axis=0, dtype=np.float64), pull.astype(np.float64)

    def _below(
        self, rows: slice | IntArray, votes: IntArray, most: int, voters: list[tuple[int, float]]
    ) -> FloatArray:
        """Return ``(most + 1, rows)`` chances of that many right votes, for 0..most."""
        right = self._right[:, rows]
        below = np.zeros((most + 1, right.shape[1]))
        below[0] = 1.0
        for m, keeps in voters:
            cast, count = keeps * right[m], int(votes[m])
            moved = cast * below[: max(0, most + 1 - count)]
            below -= cast * below
            below[count:] += moved
        return below

    def _against(self, kept: BoolArray) -> tuple[IntArray, IntArray]:
        """Return ``(R,)`` votes of the strongest wrong answer, and how many have as many."""
        totals = self._given(kept)
        most = totals.max(axis=0)
        return most.astype(np.int64), (totals == most).sum(axis=0)

    def _given(self, voters: BoolArray) -> FloatArray:
        """Return ``(L, R)`` votes of some LLMs for each wrong answer: whole numbers."""
        votes = self._wrong_votes
        total: FloatArray = voters.astype(votes.dtype) @ votes.reshape(len(votes), -1)
        return total.reshape(votes.shape[1:])

    @cached_property
    def _wrong_votes(self) -> FloatArray:
        """``(M, L, R)`` votes that an LLM gives to each wrong answer."""
        given = self.wrong.T[:, None, :] == np.arange(self.wrong.max(initial=0) + 1)[:, None]
        return np.where(given, self.votes.T[:, None, :], 0).astype(np.float32)

    @cached_property
    def _right_votes(self) -> FloatArray:
        """``(M, R)`` votes that an LLM gives to the right answer."""
        return np.ascontiguousarray(np.where(self.right, self.votes, 0).T, dtype=np.float32)

    @cached_property
    def _right(self) -> FloatArray:
        """``(M, R)`` 1 where the LLM is right."""
        return np.ascontiguousarray(self.right.T, dtype=np.float64)

    @cached_property
    def _blocks(self) -> list[tuple[slice | IntArray, IntArray]]:
        """Rows in which every LLM has the same votes everywhere, and these ``(M,)`` votes."""
        kinds, block = np.unique(self.votes, axis=0, return_inverse=True)
        if len(kinds) == 1:
            return [(slice(None), kinds[0])]
        return [(np.flatnonzero(block.ravel() == b), votes) for b, votes in enumerate(kinds)]


def ballots_of(case: GatedCase, prompts: IntArray, *, published: bool = False) -> Ballots:
    """Return the ballots of a case on some prompts.

    Parameters
    ----------
    case
        A case with a `vote`.
    prompts
        Which prompts; an LLM without an outcome on one gives no answer there.
    published
        Whether every precision keeps all right answers: the answers as they were published.
    """
    assert case.vote is not None
    score = case.pool.score[prompts]
    answers = None if case.pool.answers is None else case.pool.answers[prompts]
    categories = case.pool.category_of[prompts]
    votes = np.ones(score.shape, dtype=np.int64)
    if case.vote.weights == "accuracy":
        votes = votes_by_accuracy(case)[categories]
    return Ballots(
        right=score == 1,
        wrong=_numbered(score, answers),
        votes=votes,
        model_of=case.model_of,
        keeps=np.ones(len(case.experts)) if published else case.factors,
        weights=np.full(len(prompts), 1 / len(prompts)),
        tie=answers is not None,
    )


def _numbered(score: FloatArray, answers: IntArray | None) -> IntArray:
    """Return ``(R, M)`` wrong answers by number, small ones first; -1 for none or a right one.

    Where answers are not known, all wrong ones of a prompt are taken to agree.
    """
    wrong = score == 0
    if answers is None:
        return np.where(wrong, 0, -1)
    given = np.where(wrong & (answers >= 0), answers, -1)
    first = (given[:, :, None] == given[:, None, :]).argmax(axis=2)
    leads = (first == np.arange(given.shape[1])) & (given >= 0)
    number = np.cumsum(leads, axis=1) - 1
    return np.where(given >= 0, np.take_along_axis(number, first, axis=1), -1)


def votes_by_accuracy(case: GatedCase) -> IntArray:
    r"""Return ``(K, M)`` whole votes by category: :math:`\log((A - 1) p / (1 - p))`, to scale.

    p is the accuracy on training and validation prompts and A the number of answers there; the
    best LLM has `MOST_VOTES`, and nobody less than one (Nitzan and Paroush 1982).
    """
    own = case.pool.answers
    learn = case.split.members("train", "validation")
    votes = np.ones(case.tables.accuracy.shape, dtype=np.int64)
    for k in range(len(votes)):
        chance = np.clip(case.tables.accuracy[k], 1e-3, 1 - 1e-3)
        options = 2
        if own is not None:
            seen = own[learn[case.pool.category_of[learn] == k]]
            options = max(2, len(np.unique(seen[seen >= 0])))
        odds = np.log((options - 1) * chance / (1 - chance))
        if odds.max() > 0:
            votes[k] = np.maximum(np.rint(MOST_VOTES * odds / odds.max()), 1).astype(np.int64)
    return votes
