"""Rounds of several devices on one radio: the question ``rounds``.

Who does which part of a round of training or inference, with how many resource blocks, at which
power and precision, so that the round ends soonest, takes least energy by a deadline, or least of
a weighted sum of both.
"""

from moe2opt.rounds.case import Case
from moe2opt.rounds.judge import Assignment
from moe2opt.rounds.plan import RoundPlan
from moe2opt.rounds.question import RoundInstance
from moe2opt.rounds.sections import RoundsConfig

__all__ = ["Assignment", "Case", "RoundInstance", "RoundPlan", "RoundsConfig"]
