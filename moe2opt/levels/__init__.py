"""Which option does each group run at, within shared budgets: the question ``levels``.

Ranks per task, kept shares or active blocks per layer, exit depths per bin of inputs, sub-experts
per layer: one table of group, option, value and used resources, and one option per group.
"""

from moe2opt.levels.case import Case, Level
from moe2opt.levels.plan import LevelsPlan
from moe2opt.levels.question import LevelsInstance
from moe2opt.levels.sections import LevelsConfig

__all__ = ["Case", "Level", "LevelsConfig", "LevelsInstance", "LevelsPlan"]
