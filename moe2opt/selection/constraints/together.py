"""The rule by which the experts of a case answer together."""

from __future__ import annotations

from moe2opt.result import IntArray
from moe2opt.selection.constraints.ensemble import Ensemble
from moe2opt.selection.constraints.pooling import pool_of
from moe2opt.selection.constraints.voting import ballots_of
from moe2opt.selection.gated import GatedCase


def ensemble_of(case: GatedCase, prompts: IntArray, *, published: bool = False) -> Ensemble:
    """Return what sets of experts get right together on some prompts.

    Parameters
    ----------
    case
        A case with a `vote`.
    prompts
        Which prompts.
    published
        Whether every precision keeps all right answers: the answers as they were published.
    """
    assert case.vote is not None
    if case.vote.pool == "log_probabilities":
        return pool_of(case, prompts)
    return ballots_of(case, prompts, published=published)
