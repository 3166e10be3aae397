"""YAML sections of a selection."""

from moe2opt.selection.sections.budgets import Lengths as Lengths
from moe2opt.selection.sections.budgets import MoneyBudget as MoneyBudget
from moe2opt.selection.sections.budgets import Queue as Queue
from moe2opt.selection.sections.config import SelectionConfig as SelectionConfig
from moe2opt.selection.sections.machines import LlmPool as LlmPool
from moe2opt.selection.sections.machines import MeasuredSection as MeasuredSection
from moe2opt.selection.sections.machines import Precision as Precision
from moe2opt.selection.sections.machines import Server as Server
from moe2opt.selection.sections.machines import Serving as Serving
