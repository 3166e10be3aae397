"""How a replay from day to day runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from moe2opt.result import InputError

#: Whose outcomes a policy hears of.
Feedback = Literal["answers", "all"]


@dataclass(frozen=True, slots=True)
class DaysSettings:
    """How a replay runs.

    Attributes
    ----------
    history
        Share of the prompts that is known before the first day, of the LLMs that are there then.
    trial
        Past prompts, drawn at random, that an LLM is run on when it comes later.
    feedback
        After each day a policy knows the outcomes of the ``answers`` that it gave, or of ``all``
        LLMs that were there.
    load_gib_per_s
        Rate at which weights reach a server, in GiB per second (assumed).
    day_s
        Length of a day in seconds.
    horizon_days
        Days over which a load should pay, to ``thrifty``.
    seed
        Seed of what is drawn: which prompts come when, and trials.
    """

    history: float = 0.2
    trial: int = 100
    feedback: Feedback = "answers"
    load_gib_per_s: float = 1.0
    day_s: float = 86400.0
    horizon_days: float = 7.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.history < 1:
            raise InputError(f"history: {self.history:g} is no share between 0 and 1")
        if self.trial < 1:
            raise InputError(f"trial: {self.trial} prompts; expected at least 1")
        if self.feedback not in ("answers", "all"):
            raise InputError(f"feedback: '{self.feedback}'; expected answers or all")
        if self.seed < 0:
            raise InputError(f"seed: {self.seed}; expected 0 or more")
        for name in ("load_gib_per_s", "day_s", "horizon_days"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"{name}: {getattr(self, name):g}; expected more than 0")
