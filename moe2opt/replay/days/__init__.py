"""Selections from day to day: LLMs come and go, prices and budgets change, outcomes add up."""

from moe2opt.replay.days.compare import DaysComparison, compare_days
from moe2opt.replay.days.settings import DaysSettings
from moe2opt.replay.days.stream import Day, read_days

__all__ = ["Day", "DaysComparison", "DaysSettings", "compare_days", "read_days"]
