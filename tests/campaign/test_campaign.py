"""The campaign: hostile instances against exact truth, mutations against the checker, kills.

Everything is drawn by seed; `run.py` runs it at full size and prints counts.
"""

from __future__ import annotations

import pytest
from campaign.files import RUNS, files
from campaign.kills import VERBS, kills
from campaign.mutating import chunk
from draws import share_of

pytestmark = pytest.mark.slow

#: Chunks of instances, 20,000 in all when every draw is asked for.
CHUNKS, SIZE = share_of(200), 100


@pytest.mark.parametrize("number", range(CHUNKS))
def test_nothing_false_is_said_or_believed(number: int) -> None:
    """Engines are right on hostile instances, and no mutated certificate proves what is false."""
    start = 1_000_000 + number * SIZE
    tally = chunk(range(start, start + SIZE), every=SIZE // 4)
    assert tally.faults == []
    assert tally.counts["instances"] >= 0.9 * SIZE
    assert tally.counts["mutations"] > 0


@pytest.mark.parametrize("seed", range(len(RUNS)))
def test_no_false_name_or_figure_is_accepted(seed: int) -> None:
    """A result file that was changed at any leaf is accepted only where it is still true."""
    tally = files(seed, 100)
    assert tally.faults == []
    assert tally.counts["mutations"] == 100


@pytest.mark.parametrize("place", range(len(VERBS)))
def test_kills_lose_and_damage_nothing(place: int) -> None:
    """A verb that is killed at any moment leaves whole files, and runs again."""
    tally = kills(place, 6 * len(VERBS))
    assert tally.faults == []
    assert tally.counts["kills"] == 6
